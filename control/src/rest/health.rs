//! What machines ask: is it alive, can it do its work, what has it counted.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Problem, Rest, problem};

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The store answers, and computes can be started: what they all have in common is there.
pub(super) async fn ready(State(state): State<Rest>) -> Result<&'static str, Problem> {
    state.projects.store.projects(None, 1).await?;
    let not_ready = |detail| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not_ready",
            "computes cannot start yet",
            detail,
        )
    };
    let patience = std::time::Duration::from_millis(500);
    match tokio::time::timeout(patience, state.projects.driver.server()).await {
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
