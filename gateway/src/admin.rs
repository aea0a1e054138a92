//! The gateway's HTTP port: `/metrics`, `/healthz` (the process lives), `/readyz` (it takes clients).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::context::Gateway;

#[derive(Clone)]
struct Admin {
    gateway: Arc<Gateway>,
    known: watch::Receiver<bool>,
}

pub(crate) fn router(gateway: Arc<Gateway>, known: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Admin { gateway, known })
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        admin.gateway.metrics.text() + &admin.gateway.meter.text(),
    )
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.gateway.drain.announced.is_raised() {
        return (StatusCode::SERVICE_UNAVAILABLE, "going down\n");
    }
    if !*admin.known.borrow() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "control has not sent its snapshot yet\n",
        );
    }
    (StatusCode::OK, "ok\n")
}
