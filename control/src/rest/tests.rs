//! REST as a script sees it: requests into the router, status and body out of it.

use std::sync::atomic::Ordering;

use axum::{body::Body, http::HeaderMap};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    secret::key_hash,
    store::{Accesses, Store, keys::Keys, operations::Operations},
    testing::{Plane, Start},
};

mod change;
mod computes;
mod contract;
mod keys;
mod projects;
mod refusals;
mod settings;
mod statement;
mod usage;
mod wakes;

const KEY: &str = "selkie_key_test";

struct Api {
    plane: Plane,
    router: Router,
    key: String,
    /// `/openapi.json`.
    document: Arc<Value>,
}

impl Api {
    async fn new() -> Self {
        let plane = Plane::new();
        plane.store.put_key("test", key_hash(KEY), 1).await.unwrap();
        let rest = Rest {
            projects: plane.projects.clone(),
            metrics: plane.metrics.clone(),
            default_size_cu: 0.25,
            suspend_after: Some(std::time::Duration::from_secs(300)),
            prices: Arc::new(prices()),
            uids: Some(UidRange {
                first: 200_000,
                last: 200_001,
            }),
            tasks: TaskTracker::new(),
            over: CancellationToken::new(),
            pace: Arc::default(),
            tag_secret: Arc::default(),
        };
        let router = router(rest);
        let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
        let document = router.clone().oneshot(request).await.unwrap();
        let document = axum::body::to_bytes(document.into_body(), 1 << 20).await.unwrap();
        Self {
            plane,
            router,
            key: KEY.into(),
            document: Arc::new(serde_json::from_slice(&document).unwrap()),
        }
    }

    /// The same, as somebody else calls it.
    fn with_key(&self, key: &str) -> Self {
        Self {
            plane: self.plane.clone(),
            router: self.router.clone(),
            key: key.into(),
            document: self.document.clone(),
        }
    }

    async fn send(&self, request: Request) -> (u16, String, Vec<u8>) {
        let (status, headers, body) = self.exchange(request).await;
        (status, kind(&headers), body)
    }

    /// Every answer must be one that the document tells of.
    async fn exchange(&self, request: Request) -> (u16, HeaderMap, Vec<u8>) {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let breach = contract::breach(&self.document, &method, &path, status, &kind(&headers), &body);
        assert_eq!(
            breach, None,
            "{method} {path} is answered otherwise than /openapi.json says"
        );
        (status, headers, body.to_vec())
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key));
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let (status, kind, body) = self.send(request.unwrap()).await;
        if status >= 400 {
            assert_eq!(kind, "application/problem+json", "{method} {path}");
        }
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, Some(body)).await
    }

    async fn with_demo() -> Self {
        let api = Self::new().await;
        let (status, _) = api.post("/api/v1/projects", json!({"id": "demo"})).await;
        assert_eq!(status, 201);
        api
    }
}

/// What statements in these tests reckon by.
fn prices() -> crate::config::Prices {
    let raw =
        json!({"prices": {"currency": "EUR", "cu_hour": "0.16", "million_statements": "0.20", "gib_out": "0.09"}});
    let raw = serde_json::from_value(raw).unwrap();
    crate::Config::check("/data".into(), raw).unwrap().prices
}

fn kind(headers: &HeaderMap) -> String {
    let kind = headers.get("content-type").map(|kind| kind.to_str().unwrap());
    kind.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn openapi_describes_every_route_and_needs_no_key() {
    let api = Api::new().await;
    let (status, _, body) = api
        .send(Request::get("/openapi.json").body(Body::empty()).unwrap())
        .await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        routes.extend(
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|method| format!("{} {path}", method.to_uppercase())),
        );
    }
    routes.sort();
    insta::assert_snapshot!(routes.join("\n"));
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for schema in ["CreateProject", "Project", "User", "Database", "Compute", "Problem"] {
        assert!(schemas.contains_key(schema), "{schema}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_told_and_counted_while_somebody_still_waits() {
    let api = Api::with_demo().await;
    api.plane.store.lists_hang.store(true, Ordering::Relaxed);
    let ready = api.send(Request::get("/readyz").body(Body::empty()).unwrap());
    // When deploy/docker/healthy gives up.
    let ready = tokio::time::timeout(std::time::Duration::from_secs(4), ready)
        .await
        .unwrap();
    assert_eq!(ready.0, 500, "{ready:?}");
    let (_, _, text) = api.send(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains(r#"rest_requests_total{method="GET",route="/readyz",status="500"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn health_and_metrics_need_no_key() {
    let api = Api::with_demo().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            api.send(Request::get(path).body(Body::empty()).unwrap()).await.0,
            200,
            "{path}"
        );
    }
    api.call("POST", "/api/v1/projects/demo/compute/wake", None).await;
    api.get("/api/v1/projects/nope").await;
    api.get("/some/scan").await;
    let (status, _, text) = api.send(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 200);
    let text = String::from_utf8(text).unwrap();
    for line in [
        "selkie_control_computes{state=\"ready\"} 1",
        "selkie_control_computes{state=\"suspended\"} 0",
        "selkie_control_ready_cu 0.25",
        "selkie_control_wakes_total{outcome=\"started\"} 1",
        "selkie_control_wake_phase_seconds_count{phase=\"ready\"} 1",
        "selkie_control_rest_requests_total{method=\"POST\",route=\"/api/v1/projects\",status=\"201\"} 1",
        "selkie_control_rest_requests_total{method=\"GET\",route=\"/api/v1/projects/{id}\",status=\"404\"} 1",
        "selkie_control_rest_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} in\n{text}");
    }
}
