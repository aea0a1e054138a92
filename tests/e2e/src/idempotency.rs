//! A request sent twice with one Idempotency-Key is done once, also when the control plane was started anew in between.

use harness::Selkie;
use harness::http::{Response, request_with};
use serde_json::{Value, json};

async fn post(selkie: &Selkie, path: &str, key: &str, body: &Value) -> Response {
    let url = format!("{}{path}", selkie.api());
    let bearer = selkie.up().rest.api_key.clone();
    request_with("POST", &url, Some(&bearer), &[("Idempotency-Key", key)], Some(body)).await
}

#[tokio::test]
async fn an_answer_outlives_the_control_plane_without_its_secret() {
    let mut selkie = Selkie::start().await;
    let body = json!({"id": "idem", "user": {"name": "app"}, "database": "app"});
    let first = post(&selkie, "/projects", "make-idem", &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    let password = first.json()["user"]["password"].as_str().unwrap().to_owned();
    selkie.crash();
    selkie.restart().await;
    let again = post(&selkie, "/projects", "make-idem", &body).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (201, Some("true")),
        "{again:?}"
    );
    assert_eq!(again.json()["user"]["name"], "app");
    assert_eq!(again.json()["user"].get("password"), None);
    let other = post(&selkie, "/projects", "make-idem", &json!({"id": "idem-two"})).await;
    assert_eq!(other.status, 422, "{other:?}");
    assert_eq!(selkie.rest("GET", "/projects/idem-two", None).await.status, 404);
    for entry in std::fs::read_dir(selkie.data_dir().join("control")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes
            .windows(password.len())
            .any(|window| window == password.as_bytes());
        assert!(!found, "the generated password stands in {}", path.display());
    }
    selkie.logs.check();
}
