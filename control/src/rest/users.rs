//! `/projects/{id}/users`.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use control_api::rest;

use super::{
    Problem, Rest,
    problem::{Body, no_such},
    projects::find,
};
use crate::{
    clock,
    name::UserName,
    secret::{Password, Verifiers},
    store::{NewUser, StoreError, UserRecord},
};

/// A user whose name and password have been checked, or whose password was made here.
pub(super) struct Checked {
    pub(super) user: NewUser,
    /// To be told once.
    generated: Option<Password>,
}

/// Checks a wish for a user; of the password, only verifiers and what has to be told back are left.
pub(super) fn check(wish: rest::CreateUser) -> Result<Checked, Problem> {
    let rest::CreateUser { name, password, admin } = wish;
    let name = UserName::new(&name)?;
    let given = password.map(Password::new).transpose()?;
    let generated = given.is_none().then(Password::generate);
    let verifiers = given.as_ref().or(generated.as_ref()).map(Verifiers::of);
    let verifiers = verifiers.ok_or_else(|| super::problem::internal(&"a user without a password"))?;
    Ok(Checked {
        user: NewUser { name, verifiers, admin },
        generated,
    })
}

impl Checked {
    pub(super) fn created(&self, record: &UserRecord) -> rest::UserCreated {
        rest::UserCreated {
            user: user(record),
            password: self.generated.as_ref().map(Password::reveal),
        }
    }
}

/// Makes a user. It can log in when this answers, whether the compute is awake or not.
#[utoipa::path(
    post, path = "/projects/{id}/users", tag = "users",
    params(("id" = String, Path, description = "The project.")), request_body = rest::CreateUser,
    responses(
        (status = 201, body = rest::UserCreated),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 409, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Body(body): Body<rest::CreateUser>,
) -> Result<(StatusCode, Json<rest::UserCreated>), Problem> {
    let id = find(&state, &id).await?.id;
    let checked = check(body)?;
    let now = clock::now();
    let NewUser { name, verifiers, admin } = checked.user.clone();
    let record = UserRecord {
        name,
        verifiers,
        admin,
        created: now,
    };
    let (projects, user) = (state.projects.clone(), checked.user.clone());
    state
        .finish(async move { projects.add_user(&id, user, now).await })
        .await?;
    Ok((StatusCode::CREATED, Json(checked.created(&record))))
}

/// The users made through this API, in the order of their names.
#[utoipa::path(
    get, path = "/projects/{id}/users", tag = "users", params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 200, body = rest::UserList),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(State(state): State<Rest>, Path(id): Path<String>) -> Result<Json<rest::UserList>, Problem> {
    let id = find(&state, &id).await?.id;
    let access = state.projects.store.access(&id).await?;
    Ok(Json(rest::UserList {
        users: access.users.iter().map(user).collect(),
    }))
}

/// One user.
#[utoipa::path(
    get, path = "/projects/{id}/users/{name}", tag = "users",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The user.")),
    responses(
        (status = 200, body = rest::User),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Json<rest::User>, Problem> {
    let id = find(&state, &id).await?.id;
    let access = state.projects.store.access(&id).await?;
    let found = access.users.iter().find(|user| user.name.as_str() == name);
    found
        .map(|found| Json(user(found)))
        .ok_or_else(|| no_such("user", &name))
}

/// Removes a user; who is logged in as it stays until the connection ends.
#[utoipa::path(
    delete, path = "/projects/{id}/users/{name}", tag = "users",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The user.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn delete(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let id = find(&state, &id).await?.id;
    let checked = UserName::new(&name).map_err(|_| no_such("user", &name))?;
    let projects = state.projects.clone();
    let removed = state.finish(async move {
        match projects.remove_user(&id, &checked).await {
            Err(crate::projects::ChangeError::Store(StoreError::NotFound("user"))) => Err(no_such("user", &name)),
            other => other.map_err(Problem::from),
        }
    });
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

fn user(record: &UserRecord) -> rest::User {
    rest::User {
        name: record.name.to_string(),
        admin: record.admin,
        created_at: clock::rfc3339(record.created),
    }
}
