//! API keys of every scope against the running API, and the audit log of what they did.

use harness::Selkie;
use harness::http::{Response, request};
use serde_json::{Value, json};

async fn as_key(selkie: &Selkie, key: &str, method: &str, path: &str, body: Option<&Value>) -> Response {
    request(method, &format!("{}{path}", selkie.api()), Some(key), body).await
}

#[tokio::test]
async fn a_key_does_what_its_scope_says_until_it_is_deleted() {
    let selkie = Selkie::shared().await;
    let (own, other) = (selkie.project("keys-own").await, selkie.project("keys-other").await);
    let made = selkie
        .cli(&[
            "key",
            "create",
            "e2e-app",
            "--scope",
            "project",
            "--project",
            &own.id,
            "--json",
        ])
        .await
        .json();
    let key = made["key"].as_str().unwrap();
    let users = format!("/projects/{}/users", own.id);
    let ok = as_key(
        selkie,
        key,
        "POST",
        &users,
        Some(&json!({"name": "by-key", "password": "hunter2"})),
    )
    .await;
    assert_eq!(ok.status, 201, "{ok:?}");
    for (method, path, status) in [
        ("GET", format!("/projects/{}", other.id), 404),
        ("POST", format!("/projects/{}/compute/wake", other.id), 404),
        ("DELETE", format!("/projects/{}", own.id), 403),
        ("GET", "/keys".to_owned(), 403),
        ("GET", "/audit".to_owned(), 403),
    ] {
        assert_eq!(
            as_key(selkie, key, method, &path, None).await.status,
            status,
            "{method} {path}"
        );
    }
    let log = as_key(selkie, key, "GET", &format!("/projects/{}/audit?limit=3", own.id), None).await;
    let text = log.body.clone();
    let entries = log.json();
    let entry = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["key"] == "e2e-app")
        .unwrap();
    assert!(
        entry["method"] == "DELETE" || entry["changed"]["name"] == "by-key",
        "{entry}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    assert!(selkie.cli(&["audit", &own.id]).await.ok().contains("by-key"));

    let listed = selkie.cli(&["key", "list", "--json"]).await.json();
    assert!(listed.to_string().contains("e2e-app") && !listed.to_string().contains(key));
    selkie.cli(&["key", "delete", "e2e-app", "--yes"]).await.ok();
    assert_eq!(as_key(selkie, key, "GET", &users, None).await.status, 401);
    assert!(!selkie.logs.text().contains(key), "a key stands in a log");
    selkie.logs.check();
}
