//! `/projects/{id}/operations` and `/operations/{id}`.

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use control_api::rest;

use super::{
    Problem, Rest,
    auth::Caller,
    page::Page,
    problem::{Params, no_such},
    projects::find,
};
use crate::{
    clock,
    store::{StoreError, operations::OperationRecord},
};

/// What was done with a project, the latest first: its last 100 operations, for 30 days.
#[utoipa::path(
    get, path = "/projects/{id}/operations", tag = "operations",
    params(("id" = String, Path, description = "The project."), Page),
    responses(
        (status = 200, body = rest::OperationList),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<rest::OperationList>, Problem> {
    let project = find(&state, &id).await?;
    // What was done with an earlier project of this name is nothing to who has this one.
    let read = state
        .projects
        .store
        .operations(&project.id, project.created, page.after.as_deref(), page.reads())
        .await?;
    let (records, next) = page.cut(read, |record| record.id.clone());
    Ok(Json(rest::OperationList {
        operations: records.into_iter().map(operation).collect(),
        next,
    }))
}

/// One operation; also of a project that is gone, where the key sees all projects.
#[utoipa::path(
    get, path = "/operations/{id}", tag = "operations",
    params(("id" = String, Path, description = "The operation.")),
    responses(
        (status = 200, body = rest::Operation),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<Rest>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<rest::Operation>, Problem> {
    let found = match state.projects.store.operation(&id).await {
        Err(StoreError::NotFound(_)) => return Err(no_such("operation", &id)),
        found => found?,
    };
    if let Some(only) = &caller.project {
        let seen = *only == found.project && find(&state, only.as_str()).await?.created <= found.created;
        if !seen {
            return Err(no_such("operation", &id));
        }
    }
    Ok(Json(operation(found)))
}

fn operation(record: OperationRecord) -> rest::Operation {
    rest::Operation {
        id: record.id,
        project: record.project.to_string(),
        kind: record.kind,
        state: record.state,
        step: record.step,
        error: record.error,
        incarnation: record.incarnation,
        requested_by: record.requested_by,
        created_at: clock::rfc3339(record.created),
        updated_at: clock::rfc3339(record.updated),
        ended_at: record.ended.map(clock::rfc3339),
    }
}
