//! `/deleted-projects`: those whose usage and statements can still be read.

use axum::{Extension, Json, extract::State};
use control_api::rest;

use super::{Problem, Rest, auth::Caller, page::Page, problem::Params};
use crate::{clock, store::usage::PastProject};

/// Projects that are gone, the latest first, for 400 days: what `created_at` to ask for usage and statements with. None, for a
/// key of one project: its name may have been another tenant's.
#[utoipa::path(
    get, path = "/deleted-projects", tag = "usage", params(Page),
    responses(
        (status = 200, body = rest::DeletedProjectList),
        (status = 400, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Extension(caller): Extension<Caller>,
    Params(page): Params<Page>,
) -> Result<Json<rest::DeletedProjectList>, Problem> {
    let before = page.before()?;
    let read = match caller.project {
        Some(_) => Vec::new(),
        None => state.projects.store.past_projects(before, page.reads()).await?,
    };
    let (past, next) = page.cut(read, |past| past.number.to_string());
    Ok(Json(rest::DeletedProjectList {
        projects: past.into_iter().map(deleted).collect(),
        next,
    }))
}

fn deleted(PastProject { billed, .. }: PastProject) -> rest::DeletedProject {
    rest::DeletedProject {
        id: billed.id.to_string(),
        created_at: clock::rfc3339(billed.created),
        deleted_at: clock::rfc3339(billed.deleted.unwrap_or_default()),
        size_cu: billed.size_cu,
    }
}
