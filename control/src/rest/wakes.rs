//! `/projects/{id}/wakes`: who woke the compute, for how long it ran, and who keeps it awake.

use axum::{
    Json,
    extract::{Path, State},
};
use control_api::rest::{self, ComputeState, WokenBy};

use super::{Problem, Rest, compute::kept_awake_by, page::Page, problem::Params, projects::find};
use crate::{
    clock,
    store::{EpochMs, Transition},
};

/// The wakes of the project's compute, the latest first: those of the last 400 days.
#[utoipa::path(
    get, path = "/projects/{id}/wakes", tag = "usage",
    params(("id" = String, Path, description = "The project."), Page),
    responses(
        (status = 200, body = rest::WakeList),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<rest::WakeList>, Problem> {
    let record = find(&state, &id).await?;
    // Incarnations are numbered without a gap, and each is one wake.
    let before = match page.before()? {
        Some(after) => u64::try_from(after).unwrap_or_default(),
        None => record.compute.incarnation + 1,
    };
    let first = before.saturating_sub(page.limit().into()).max(1);
    let lives = state
        .projects
        .store
        .lives(&record.id, record.created, first..before)
        .await?;
    let next = (first > 1 && !lives.is_empty()).then(|| first.to_string());
    let now = clock::now();
    let wakes = lives.chunk_by(|(one, _), (other, _)| one.incarnation == other.incarnation);
    Ok(Json(rest::WakeList {
        wakes: wakes.rev().filter_map(|life| wake(life, now)).collect(),
        kept_awake_by: kept_awake_by(&state, &record),
        next,
    }))
}

/// From the transitions of one incarnation. None: how it began is forgotten.
fn wake(life: &[(Transition, Option<WokenBy>)], now: EpochMs) -> Option<rest::Wake> {
    let (begun, by) = life.iter().find(|(made, _)| made.to == ComputeState::Starting)?;
    let runs = |made: &Transition| matches!(made.to, ComputeState::Ready | ComputeState::Draining);
    let ready = life
        .iter()
        .map(|(made, _)| made)
        .find(|made| made.to == ComputeState::Ready);
    let mut after = life.iter().map(|(made, _)| made).skip_while(|made| made.id <= begun.id);
    let ended = after.find(|made| !runs(made));
    let until = ended.map_or(now, |ended| ended.at);
    Some(rest::Wake {
        incarnation: begun.incarnation,
        at: clock::rfc3339(begun.at),
        by: by.clone().unwrap_or_default(),
        ready_at: ready.map(|ready| clock::rfc3339(ready.at)),
        ended_at: ended.map(|ended| clock::rfc3339(ended.at)),
        ended_because: ended.and_then(|ended| ended.reason.clone()),
        ran_seconds: ready.map_or(0.0, |ready| (until - ready.at).max(0) as f64 / 1e3),
    })
}
