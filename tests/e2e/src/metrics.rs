//! What operators read: health, readiness, metrics with the phases of a wake.

use harness::client::value;
use harness::http::request;
use harness::{Raw, Selkie};

#[tokio::test]
async fn health_and_readiness_are_told_by_both_services() {
    let selkie = Selkie::shared().await;
    let rest = selkie.api().replace("/api/v1", "");
    for base in [selkie.gateway_http(), rest] {
        for path in ["/healthz", "/readyz"] {
            let answer = request("GET", &format!("{base}{path}"), None, None).await;
            assert_eq!(answer.status, 200, "{base}{path}: {answer:?}");
        }
        let unknown = request("GET", &format!("{base}/no-such-path"), None, None).await;
        assert_eq!(unknown.status, 404);
    }
    selkie.logs.check();
}

#[tokio::test]
async fn a_wake_shows_in_the_metrics_with_its_phases() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("measured").await;
    let mut conn = project.endpoint.connect().await;
    value(&mut conn, "SELECT 1").await;
    let _raw = Raw::login(&project.endpoint).await;
    let text = request("GET", &format!("{}/metrics", selkie.gateway_http()), None, None)
        .await
        .body;
    for phase in ["asked", "started", "greeting", "logged_in", "first_row"] {
        let line = text
            .lines()
            .find(|line| line.contains("wake") && line.contains(phase) && line.contains("_count"));
        let count: f64 = line
            .and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_default();
        assert!(count >= 1.0, "no wake counted in phase {phase}:\n{text}");
    }
    let control = request("GET", &selkie.api().replace("/api/v1", "/metrics"), None, None).await;
    assert!(control.body.contains("# TYPE"), "{control:?}");
    selkie.logs.check();
}
