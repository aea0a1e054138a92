//! API keys and their scopes.

use axum::{body::Body, extract::Request};
use serde_json::{Value, json};

use super::{Api, KEY};
use crate::secret::key_hash;

async fn make(api: &Api, body: Value) -> String {
    let (status, made) = api.post("/api/v1/keys", body).await;
    assert_eq!(status, 201, "{made}");
    made["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_is_told_once_listed_used_changed_and_ended() {
    let api = Api::with_demo().await;
    let key = make(&api, json!({"name": "ci", "scope": "admin", "expires_in": "90d"})).await;
    assert!(key.starts_with("selkie_key_"));
    let (_, shown) = api.get("/api/v1/keys/ci").await;
    assert!(shown["expires_at"].is_string() && shown.get("last_used_at").is_none() && shown.get("key").is_none());
    assert_eq!(api.with_key(&key).get("/api/v1/projects").await.0, 200);
    assert!(api.get("/api/v1/keys/ci").await.1["last_used_at"].is_string());
    let (_, list) = api.get("/api/v1/keys?limit=1").await;
    assert_eq!((&list["keys"][0]["name"], &list["next"]), (&json!("ci"), &json!("ci")));
    assert!(!list.to_string().contains(&key));

    let (status, changed) = api
        .call("PATCH", "/api/v1/keys/ci", Some(json!({"expires_in": null})))
        .await;
    assert_eq!((status, changed.get("expires_at")), (200, None));
    assert_eq!(
        api.call("PATCH", "/api/v1/keys/ci", Some(json!({}))).await.1["code"],
        "invalid_body"
    );
    assert_eq!(
        api.post("/api/v1/keys", json!({"name": "ci", "scope": "admin"}))
            .await
            .1["code"],
        "key_exists"
    );
    assert_eq!(
        api.call("DELETE", "/api/v1/keys/test", None).await.1["code"],
        "key_in_use"
    );
    assert_eq!(api.call("DELETE", "/api/v1/keys/ci", None).await.0, 204);
    assert_eq!(api.with_key(&key).get("/api/v1/projects").await.0, 401);
    assert_eq!(
        api.call("DELETE", "/api/v1/keys/ci", None).await.1["code"],
        "key_not_found"
    );
}

#[tokio::test]
async fn an_expired_key_opens_nothing() {
    let api = Api::with_demo().await;
    let key = make(&api, json!({"name": "old", "scope": "admin", "expires_in": "1m"})).await;
    let hash = key_hash(&key);
    assert_eq!(api.with_key(&key).get("/api/v1/projects").await.0, 200);
    use crate::store::keys::Keys;
    let read = api.plane.store.key(hash).await.unwrap().unwrap();
    assert!(read.expires.unwrap() > crate::clock::now());
    api.plane
        .store
        .set_key_expiry(&read, Some(crate::clock::now()))
        .await
        .unwrap();
    assert_eq!(api.with_key(&key).get("/api/v1/projects").await.0, 401);
}

#[tokio::test]
async fn wrong_wishes_for_a_key_say_what_is_wrong() {
    let api = Api::with_demo().await;
    for (body, code) in [
        (json!({"name": "", "scope": "admin"}), "invalid_name"),
        (json!({"name": "a b", "scope": "admin"}), "invalid_name"),
        (json!({"name": "x".repeat(65), "scope": "admin"}), "invalid_name"),
        (json!({"name": "x", "scope": "god"}), "invalid_body"),
        (
            json!({"name": "x", "scope": "admin", "project": "demo"}),
            "invalid_scope",
        ),
        (json!({"name": "x", "scope": "project"}), "invalid_scope"),
        (
            json!({"name": "x", "scope": "project", "project": "nope"}),
            "project_not_found",
        ),
        (
            json!({"name": "x", "scope": "admin", "expires_in": "soon"}),
            "invalid_duration",
        ),
        (
            json!({"name": "x", "scope": "admin", "expires_in": "1s"}),
            "invalid_duration",
        ),
    ] {
        let (_, problem) = api.post("/api/v1/keys", body.clone()).await;
        assert_eq!(problem["code"], code, "{body}: {problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_projects_key_sees_no_other_project() {
    let api = Api::with_demo().await;
    api.post("/api/v1/projects", json!({"id": "other"})).await;
    let key = make(&api, json!({"name": "app", "scope": "project", "project": "demo"})).await;
    let own = api.with_key(&key);
    let (_, list) = own.get("/api/v1/projects").await;
    assert_eq!(list["projects"].as_array().unwrap().len(), 1);
    assert_eq!(list["projects"][0]["id"], "demo");
    assert_eq!(own.get("/api/v1/projects?after=demo").await.1["projects"], json!([]));
    assert_eq!(
        own.post("/api/v1/projects/demo/databases", json!({"name": "shop"}))
            .await
            .0,
        201
    );
    assert_eq!(own.post("/api/v1/projects/demo/compute/wake", json!(null)).await.0, 200);
    assert_eq!(own.get("/api/v1/projects/demo/audit").await.0, 200);
    // One that exists and one that does not are answered alike, but for the name that was asked for.
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/users"),
        ("POST", "/users"),
        ("GET", "/settings/sql_mode"),
        ("PUT", "/settings/sql_mode"),
        ("POST", "/compute/wake"),
        ("GET", "/audit"),
    ] {
        let ask = async |id: &str| {
            let (status, problem) = own.call(method, &format!("/api/v1/projects/{id}{path}"), None).await;
            (status, problem.to_string().replace(id, "ID"))
        };
        let (there, not_there) = (ask("other").await, ask("nope").await);
        assert_eq!(there, not_there, "{method} {path}");
        assert!(
            there.0 == 404 || (method, path, there.0) == ("DELETE", "", 403),
            "{method} {path}: {there:?}"
        );
    }
    assert_eq!(
        own.get("/api/v1/projects/%6fther").await.0,
        404,
        "however it is written"
    );
    for (method, path) in [
        ("POST", "/api/v1/projects"),
        ("DELETE", "/api/v1/projects/demo"),
        ("GET", "/api/v1/keys"),
        ("POST", "/api/v1/keys"),
        ("GET", "/api/v1/audit"),
    ] {
        let (status, problem) = own.call(method, path, Some(json!({}))).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (403, Some("forbidden")),
            "{method} {path}"
        );
    }
    assert_eq!(api.call("DELETE", "/api/v1/projects/demo", None).await.0, 204);
    assert_eq!(
        own.get("/api/v1/projects").await.0,
        401,
        "the key goes with its project"
    );
}

#[tokio::test]
async fn a_reading_key_changes_nothing() {
    let api = Api::with_demo().await;
    api.post("/api/v1/projects", json!({"id": "other"})).await;
    let all = make(&api, json!({"name": "all", "scope": "read-only"})).await;
    let one = make(&api, json!({"name": "one", "scope": "read-only", "project": "demo"})).await;
    let (all, one) = (api.with_key(&all), api.with_key(&one));
    assert_eq!(
        all.get("/api/v1/projects").await.1["projects"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        one.get("/api/v1/projects").await.1["projects"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        (
            one.get("/api/v1/projects/demo").await.0,
            one.get("/api/v1/projects/other").await.0
        ),
        (200, 404)
    );
    for key in [&all, &one] {
        for (method, path) in [
            ("POST", "/api/v1/projects/demo/users"),
            ("DELETE", "/api/v1/projects/demo/users/app"),
            ("PATCH", "/api/v1/projects/demo/settings"),
            ("POST", "/api/v1/projects/demo/compute/wake"),
            ("GET", "/api/v1/audit"),
            ("GET", "/api/v1/keys"),
        ] {
            assert_eq!(key.call(method, path, Some(json!({}))).await.0, 403, "{method} {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_one_project_ask_for_so_much_at_once_and_are_told_when_to_come_again() {
    let api = Api::with_demo().await;
    let keys = [("one", json!("demo")), ("two", json!("demo"))];
    let mut made = Vec::new();
    for (name, project) in keys {
        let body = json!({"name": name, "scope": "project", "project": project});
        made.push(make(&api, body).await);
    }
    let change = async |key: &str| {
        let request = Request::patch("/api/v1/projects/demo")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"))
            .body(Body::from(r#"{"suspend_after": "never"}"#));
        api.exchange(request.unwrap()).await
    };
    for n in 0..100 {
        assert_eq!(change(&made[n % 2]).await.0, 200, "{n}");
    }
    for key in &made {
        let (status, headers, body) = change(key).await;
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, problem["code"].as_str()), (429, Some("too_many_requests")));
        assert_eq!(headers["retry-after"], "1");
    }
    let elsewhere = api.with_key(&made[0]);
    for path in ["/api/v1/projects/other", "/api/v1/keys"] {
        assert_eq!(
            elsewhere.get(path).await.0,
            429,
            "what would be refused takes time, too"
        );
    }
    assert_eq!(change(KEY).await.0, 200, "the operator's");
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(change(&made[0]).await.0, 200);
    let log = api.get("/api/v1/projects/demo/audit?limit=1000").await.1;
    let entries = log["entries"].as_array().unwrap().iter();
    let changes = entries.filter(|entry| entry["method"] == "PATCH").count();
    assert_eq!(changes, 102, "what was refused is not written down");
}
