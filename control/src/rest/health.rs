//! What machines ask: is it alive, can it do its work, what has it counted.

use std::time::Duration;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Problem, Rest, problem};
use crate::store::StoreError;

/// For the store. Whoever asks for readiness gives up after some seconds, five as a rule, and an answer that nobody waits for
/// any more is not counted; a store that is away may keep its caller for longer than that.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// For the template; it is there, or being made.
const TEMPLATE_PATIENCE: Duration = Duration::from_millis(500);

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The store answers, and computes can be started: what they all have in common is there.
pub(super) async fn ready(State(state): State<Rest>) -> Result<&'static str, Problem> {
    let read = tokio::time::timeout(STORE_PATIENCE, state.projects.store.projects(None, 1)).await;
    // 500 whatever is wrong with it: alerts tell it by that from computes that cannot start.
    read.unwrap_or_else(|_| Err(StoreError::silent()))
        .map_err(|error| problem::internal(&error))?;
    let not_ready = |detail| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not_ready",
            "computes cannot start yet",
            detail,
        )
    };
    match tokio::time::timeout(TEMPLATE_PATIENCE, state.projects.driver.server()).await {
        Ok(Ok(_)) => Ok("ok\n"),
        Ok(Err(error)) => Err(not_ready(error.to_string())),
        Err(_) => Err(not_ready("the template that computes start from is being made".into())),
    }
}

/// Prometheus' text format.
pub(super) async fn metrics(State(state): State<Rest>) -> Response {
    match state.metrics.render(state.publisher()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => problem::internal(&error).into_response(),
    }
}
