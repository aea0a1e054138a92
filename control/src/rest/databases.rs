//! `/projects/{id}/databases`.

use std::collections::BTreeMap;

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
use crate::{name::DatabaseName, projects::ChangeError, store::StoreError};

/// Makes a database, on which every user of the API has all rights.
#[utoipa::path(
    post, path = "/projects/{id}/databases", tag = "databases",
    params(("id" = String, Path, description = "The project.")), request_body = rest::CreateDatabase,
    responses(
        (status = 201, body = rest::Database),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 409, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Body(body): Body<rest::CreateDatabase>,
) -> Result<(StatusCode, Json<rest::Database>), Problem> {
    let id = find(&state, &id).await?.id;
    let name = DatabaseName::new(&body.name)?;
    let (projects, made) = (state.projects.clone(), name.clone());
    state
        .finish(async move { projects.add_database(&id, &made).await })
        .await?;
    Ok((StatusCode::CREATED, Json(made_here(&name))))
}

/// All databases, in the order of their names: those made here and those made in SQL, as last seen.
#[utoipa::path(
    get, path = "/projects/{id}/databases", tag = "databases",
    params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 200, body = rest::DatabaseList),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Path(id): Path<String>,
) -> Result<Json<rest::DatabaseList>, Problem> {
    let id = find(&state, &id).await?.id;
    let whole = state.projects.store.whole_project(&id).await?;
    let removed = |name: &String| whole.access.removed_databases.iter().any(|gone| gone.as_str() == name);
    let seen = whole.observed.map(|observed| observed.databases).unwrap_or_default();
    let in_sql = seen.into_iter().filter(|name| !removed(name)).map(|name| (name, false));
    let here = whole.access.databases.iter().map(|name| (name.to_string(), true));
    let all: BTreeMap<String, bool> = in_sql.chain(here).collect();
    let databases = all
        .into_iter()
        .map(|(name, made_by_api)| rest::Database { name, made_by_api });
    Ok(Json(rest::DatabaseList {
        databases: databases.collect(),
    }))
}

/// Drops a database that was made through this API, with all that is in it.
#[utoipa::path(
    delete, path = "/projects/{id}/databases/{name}", tag = "databases",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The database.")),
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
    let checked = DatabaseName::new(&name).map_err(|_| no_such("database", &name))?;
    let projects = state.projects.clone();
    let removed = state.finish(async move {
        match projects.remove_database(&id, &checked).await {
            Err(ChangeError::Store(StoreError::NotFound("database"))) => Err(no_such("database", &name)),
            other => other.map_err(Problem::from),
        }
    });
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

pub(super) fn made_here(name: &DatabaseName) -> rest::Database {
    rest::Database {
        name: name.to_string(),
        made_by_api: true,
    }
}
