//! `/projects/{id}/compute` and what it did.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use control_api::rest;

use super::{Problem, Rest, auth::Caller, page::Page, problem::Params, projects::find};
use crate::{
    clock,
    scheduler::{Due, due, idle_allowed},
    store::ProjectRecord,
};

/// Where the project does not say how long a wake may take.
const WAKE_PATIENCE: Duration = Duration::from_secs(60);

/// What the project's compute does.
#[utoipa::path(
    get, path = "/projects/{id}/compute", tag = "compute", params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 200, body = rest::Compute),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(State(state): State<Rest>, Path(id): Path<String>) -> Result<Json<rest::Compute>, Problem> {
    let record = find(&state, &id).await?;
    Ok(Json(compute(&state, &record)))
}

/// Stops the compute cleanly and answers when nothing of it runs. The next query wakes it.
#[utoipa::path(
    post, path = "/projects/{id}/compute/suspend", tag = "compute",
    params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 200, body = rest::Compute),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn suspend(State(state): State<Rest>, Path(id): Path<String>) -> Result<Json<rest::Compute>, Problem> {
    let record = find(&state, &id).await?;
    state
        .computes()
        .suspend(&record.id, "the compute is being suspended on request")
        .await?;
    Ok(Json(compute(&state, &record)))
}

/// Answers when the compute is ready, starting it where needed.
#[utoipa::path(
    post, path = "/projects/{id}/compute/wake", tag = "compute",
    params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 200, body = rest::Compute),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json"),
        (status = 504, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn wake(
    State(state): State<Rest>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<rest::Compute>, Problem> {
    let record = find(&state, &id).await?;
    let patience = record
        .wake_timeout_ms
        .map_or(WAKE_PATIENCE, |ms| Duration::from_millis(ms.into()));
    let by = rest::WokenBy {
        source: rest::WakeSource::Api,
        key: Some(caller.name),
        ..Default::default()
    };
    state.computes().wake_for(&record.id, None, patience, by).await?;
    Ok(Json(compute(&state, &record)))
}

/// The changes of the compute's state, the latest first: those of the last 400 days, and the last one before. It is billed
/// from `ready` to the next state that is neither `ready` nor `draining`.
#[utoipa::path(
    get, path = "/projects/{id}/compute/transitions", tag = "compute",
    params(("id" = String, Path, description = "The project."), Page),
    responses(
        (status = 200, body = rest::TransitionList),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn transitions(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<rest::TransitionList>, Problem> {
    let project = find(&state, &id).await?;
    let store = &state.projects.store;
    let (made, before) = (Some(project.created), page.before()?);
    let read = store.transitions(&project.id, made, before, page.reads()).await?;
    let (made, next) = page.cut(read, |made| made.id.to_string());
    let transitions = made.into_iter().map(|made| rest::Transition {
        id: made.id,
        incarnation: made.incarnation,
        from: made.from,
        to: made.to,
        at: clock::rfc3339(made.at),
        reason: made.reason,
    });
    Ok(Json(rest::TransitionList {
        transitions: transitions.collect(),
        next,
    }))
}

/// The compute as it is at this moment; the store may be a moment behind.
pub(super) fn compute(state: &Rest, record: &ProjectRecord) -> rest::Compute {
    let now = state
        .publisher()
        .compute(&record.id)
        .unwrap_or_else(|| record.compute.clone());
    rest::Compute {
        state: now.state,
        incarnation: now.incarnation,
        size_cu: if now.runs() { now.size_cu() } else { record.size_cu },
        since: clock::rfc3339(now.since),
        reason: now.reason,
        kept_awake_by: kept_awake_by(state, record),
    }
}

/// Who and what, or how long it has to be left alone until it sleeps; nothing for one that does not run.
pub(super) fn kept_awake_by(state: &Rest, record: &ProjectRecord) -> Vec<String> {
    let Some(sight) = state.activity().sight(&record.id) else {
        return Vec::new();
    };
    match due(&sight, idle_allowed(record.sleep, state.suspend_after)) {
        Due::Now => Vec::new(),
        Due::InUse => sight.users.iter().map(ToString::to_string).collect(),
        reason => vec![reason.to_string()],
    }
}
