//! The gateway's HTTP port: `/metrics`, `/healthz` (the process lives), `/readyz` (it takes clients), and `POST /reload` for whoever
//! has the gateways' token.

pub(crate) mod visitors;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::context::Gateway;
use crate::metrics::page;
use crate::reload::Reload;

#[derive(Clone)]
struct Admin {
    gateway: Arc<Gateway>,
    known: watch::Receiver<bool>,
    reload: Arc<Reload>,
}

pub(crate) fn router(gateway: Arc<Gateway>, known: watch::Receiver<bool>, reload: Arc<Reload>) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/reload", post(reload_settings))
        .with_state(Admin { gateway, known, reload });
    one_question_each(router)
}

/// A connection ends with its first answer: one that is kept would end in the middle of a later one ([`visitors`]).
fn one_question_each(router: Router) -> Router {
    router.layer(map_response(|mut response: Response| async {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        response
    }))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        page(&admin.gateway),
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

/// The settings, read anew. Who may read the gateways' token may do it: whoever has it is a gateway.
async fn reload_settings(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if !is_authorized(&admin, &headers) {
        let text = "send the gateways' token (gateway.control.token_file) as `Authorization: Bearer TOKEN`\n";
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response();
    }
    match admin.reload.now() {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
    }
}

fn is_authorized(admin: &Admin, headers: &HeaderMap) -> bool {
    let sent = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let sent = sent.and_then(|value| value.strip_prefix(b"Bearer "));
    // Read each time: a file that is gone or empty lets nobody in.
    let token = std::fs::read_to_string(&admin.gateway.config().control.token_file).unwrap_or_default();
    let token = token.trim().as_bytes();
    sent.is_some_and(|sent| !token.is_empty() && bool::from(sent.trim_ascii().ct_eq(token)))
}
