//! `/audit` and `/projects/{id}/audit`: who changed what, when, and what became of it. Rows are written by `change.rs`.

use axum::{
    Json,
    extract::{Path, State},
};
use control_api::rest;

use super::{Problem, Rest, page::Page, problem::Params, projects::find};
use crate::{clock, name::ProjectId, store::audit::AuditRecord};

/// Every change that was asked for with a known key, the latest first. Kept for 90 days, 10,000 of a project and 1,000,000 in all at most.
#[utoipa::path(
    get, path = "/audit", tag = "audit", params(Page),
    responses(
        (status = 200, body = rest::AuditList),
        (status = 403, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Params(page): Params<Page>,
) -> Result<Json<rest::AuditList>, Problem> {
    entries(&state, None, &page).await
}

/// Every change of one project, the latest first: the last 10,000.
#[utoipa::path(
    get, path = "/projects/{id}/audit", tag = "audit",
    params(("id" = String, Path, description = "The project."), Page),
    responses(
        (status = 200, body = rest::AuditList),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn of_project(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<rest::AuditList>, Problem> {
    let id = find(&state, &id).await?.id;
    entries(&state, Some(&id), &page).await
}

async fn entries(state: &Rest, project: Option<&ProjectId>, page: &Page) -> Result<Json<rest::AuditList>, Problem> {
    let store = &state.projects.store;
    let read = store.audit(project, page.before()?, page.reads()).await?;
    let (records, next) = page.cut(read, |record| record.id.to_string());
    let entries = records.into_iter().map(entry).collect();
    Ok(Json(rest::AuditList { entries, next }))
}

fn entry(record: AuditRecord) -> rest::AuditEntry {
    let attempt = record.attempt;
    rest::AuditEntry {
        id: record.id,
        at: clock::rfc3339(attempt.at),
        key: attempt.key_name,
        method: attempt.method,
        path: attempt.path,
        project: attempt.project,
        changed: attempt.changed.and_then(|text| serde_json::from_str(&text).ok()),
        status: record.status,
        request_id: attempt.request_id,
    }
}
