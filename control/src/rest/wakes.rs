//! `/projects/{id}/wakes`: who woke the compute, for how long it ran, and who keeps it awake.

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use control_api::rest::{self, ComputeState, WokenBy};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Problem, Rest, auth::Caller, compute::kept_awake_by, page::Page, problem::Params, projects::find, usage::billed,
};
use crate::{
    clock,
    store::{EpochMs, Transition},
};

/// Which page, of which project.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// `next` of the page before.
    after: Option<String>,
    /// How many at most; 100 where absent. More than 1,000 are 1,000, less than 1 is 1.
    // As in `Page`.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// `created_at` of the project, where several had the name. Where absent, the one that there is, else the last one.
    created_at: Option<String>,
}

/// The wakes of the project's compute, the latest first: those of the last 400 days. Also of a project that is gone, for a key
/// that is not of one project only.
#[utoipa::path(
    get, path = "/projects/{id}/wakes", tag = "usage",
    params(("id" = String, Path, description = "The project."), Wish),
    responses(
        (status = 200, body = rest::WakeList),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Params(wish): Params<Wish>,
) -> Result<Json<rest::WakeList>, Problem> {
    let page = Page::new(wish.after, wish.limit);
    let project = billed(&state, &caller, &id, wish.created_at.as_deref()).await?;
    let store = &state.projects.store;
    // Incarnations are numbered without a gap, and each is one wake.
    let before = match page.before()? {
        Some(after) => u64::try_from(after).unwrap_or_default(),
        None => {
            let last = store.transitions(&project.id, Some(project.created), None, 1).await?;
            last.first().map_or(0, |last| last.incarnation + 1)
        }
    };
    let first = before.saturating_sub(page.limit().into()).max(1);
    let lives = store.lives(&project.id, project.created, first..before).await?;
    let kept_awake_by = match project.deleted {
        Some(_) => Vec::new(),
        None => kept_awake_by(&state, &find(&state, &id).await?),
    };
    let next = (first > 1 && !lives.is_empty()).then(|| first.to_string());
    let now = clock::now();
    let wakes = lives.chunk_by(|(one, _), (other, _)| one.incarnation == other.incarnation);
    Ok(Json(rest::WakeList {
        wakes: wakes.rev().filter_map(|life| wake(life, now)).collect(),
        kept_awake_by,
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
