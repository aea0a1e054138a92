//! `/projects/{id}/databases`.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use control_api::rest;

use super::{
    Problem, Rest,
    decide::decided,
    page::Page,
    problem::{Body, Params, no_such},
    projects::{access, find},
    tag::{self, Conditions},
};
use crate::name::DatabaseName;

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
) -> Result<Response, Problem> {
    let id = find(&state, &id).await?.id;
    let name = DatabaseName::new(&body.name)?;
    let (projects, made) = (state.projects.clone(), name.clone());
    state
        .finish(async move { projects.add_database(&id, &made).await })
        .await?;
    tag::changed(StatusCode::CREATED, &made_here(&name), &made_here(&name))
}

/// All databases, in the order of their names: those made here and those made in SQL, as last seen.
#[utoipa::path(
    get, path = "/projects/{id}/databases", tag = "databases",
    params(("id" = String, Path, description = "The project."), Page),
    responses(
        (status = 200, body = rest::DatabaseList),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<rest::DatabaseList>, Problem> {
    let all = all(&state, &id).await?;
    let (databases, next) = page.of(all, |database| database.name.clone());
    Ok(Json(rest::DatabaseList { databases, next }))
}

/// One database.
#[utoipa::path(
    get, path = "/projects/{id}/databases/{name}", tag = "databases",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The database.")),
    responses(
        (status = 200, body = rest::Database),
        (status = 304, description = "As `If-None-Match` says."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let mut all = all(&state, &id).await?.into_iter();
    let found = all
        .find(|database| database.name == name)
        .ok_or_else(|| no_such("database", &name))?;
    conditions.answer(&found, &found)
}

async fn all(state: &Rest, id: &str) -> Result<Vec<rest::Database>, Problem> {
    let id = find(state, id).await?.id;
    let whole = state.projects.store.whole_project(&id).await?;
    let removed = |name: &String| whole.access.removed_databases.iter().any(|gone| gone.as_str() == name);
    let seen = whole.observed.map(|observed| observed.databases).unwrap_or_default();
    let in_sql = seen.into_iter().filter(|name| !removed(name)).map(|name| (name, false));
    let here = whole.access.databases.iter().map(|name| (name.to_string(), true));
    let all: BTreeMap<String, bool> = in_sql.chain(here).collect();
    let databases = all.into_iter();
    Ok(databases
        .map(|(name, made_by_api)| rest::Database { name, made_by_api })
        .collect())
}

/// Drops a database that was made through this API, with all that is in it.
#[utoipa::path(
    delete, path = "/projects/{id}/databases/{name}", tag = "databases",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The database.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn delete(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
    conditions: Conditions,
) -> Result<StatusCode, Problem> {
    let removed = decided(
        &state,
        || access(&state, &id),
        |(id, access)| {
            let found = access.databases.iter().find(|database| database.as_str() == name);
            let database = found.ok_or_else(|| no_such("database", &name))?.clone();
            conditions.allow(&made_here(&database))?;
            let (projects, expected) = (state.projects.clone(), Some(access.revision));
            let change = async move { projects.remove_database(&id, &database, expected).await };
            Ok((change, ()))
        },
    );
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

pub(super) fn made_here(name: &DatabaseName) -> rest::Database {
    rest::Database {
        name: name.to_string(),
        made_by_api: true,
    }
}
