//! Idempotency keys, the audit log, entity tags.

use axum::{body::Body, extract::Request};
use serde_json::{Value, json};

use super::{Api, KEY};
use crate::store::replays::Replays;

/// Status, headers and body.
type Whole = (u16, axum::http::HeaderMap, Value);

async fn with_headers(api: &Api, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Whole {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    let response = tower::ServiceExt::oneshot(api.router.clone(), request.body(body).unwrap())
        .await
        .unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

const USERS: &str = "/api/v1/projects/demo/users";

#[tokio::test]
async fn an_answer_is_given_again_without_doing_it_again_and_without_its_secret() {
    let api = Api::with_demo().await;
    let key = [("idempotency-key", "first")];
    let (status, headers, made) = with_headers(&api, "POST", USERS, &key, json!({"name": "app"})).await;
    assert_eq!((status, headers.get("idempotency-replayed")), (201, None));
    let password = made["password"].as_str().unwrap();
    let (again, replayed, body) = with_headers(&api, "POST", USERS, &key, json!({"name": "app"})).await;
    assert_eq!(
        (again, replayed["idempotency-replayed"].to_str().unwrap()),
        (201, "true")
    );
    assert_eq!(replayed["etag"], headers["etag"]);
    assert_eq!(replayed["content-type"], headers["content-type"]);
    assert_eq!(
        (&body["name"], body.get("password")),
        (&json!("app"), None),
        "told once"
    );
    assert!(
        !format!("{:?}", api.plane.store.kept()).contains(password),
        "a password is at rest"
    );
    assert_eq!(api.get(USERS).await.1["users"].as_array().unwrap().len(), 1);

    for (method, path, body) in [
        ("POST", USERS, json!({"name": "other"})),
        ("POST", "/api/v1/projects/demo/databases", json!({"name": "app"})),
        ("DELETE", USERS, json!({"name": "app"})),
    ] {
        let (status, _, problem) = with_headers(&api, method, path, &key, body).await;
        let reused = (status, problem["code"].as_str()) == (422, Some("idempotency_key_reused"));
        assert!(
            reused || (method, status) == ("DELETE", 405),
            "{method} {path}: {problem}"
        );
    }
    let other = [("idempotency-key", "second")];
    let (status, _, refused) = with_headers(&api, "POST", USERS, &other, json!({"name": "app"})).await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("user_exists")));
    let delete = [("idempotency-key", "third")];
    let app = format!("{USERS}/app");
    assert_eq!(with_headers(&api, "DELETE", &app, &delete, Value::Null).await.0, 204);
    assert_eq!(
        with_headers(&api, "DELETE", &app, &delete, Value::Null).await.0,
        204,
        "done once"
    );
    let (status, _, refused) = with_headers(&api, "POST", USERS, &other, json!({"name": "app"})).await;
    assert_eq!(
        (status, refused["code"].as_str()),
        (409, Some("user_exists")),
        "refusals are given again, too"
    );
}

#[tokio::test]
async fn a_request_that_is_being_done_is_not_begun_again_and_a_failed_one_is() {
    let api = Api::with_demo().await;
    let key = [("idempotency-key", "wake")];
    let wake = "/api/v1/projects/demo/compute/wake";
    let slow = std::time::Duration::from_millis(300);
    api.plane
        .driver
        .starts
        .lock()
        .unwrap()
        .push_back(crate::testing::Start::FailsAfter(slow, "no room"));
    let first = with_headers(&api, "POST", wake, &key, Value::Null);
    let second = async {
        // In the log: the first has begun.
        while api.get("/api/v1/audit?limit=1").await.1["entries"][0]["path"] != wake {
            tokio::task::yield_now().await;
        }
        with_headers(&api, "POST", wake, &key, Value::Null).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.0, first.2["code"].as_str()), (503, Some("compute_failed")));
    assert_eq!((second.0, second.2["code"].as_str()), (409, Some("in_progress")));
    assert_eq!(second.1["retry-after"], "1");
    assert_eq!(
        with_headers(&api, "POST", wake, &key, Value::Null).await.0,
        200,
        "what failed inside is tried again"
    );
}

#[tokio::test]
async fn idempotency_keys_are_bounded_and_of_one_api_key() {
    let api = Api::with_demo().await;
    for bad in ["", "a b", &"x".repeat(256)] {
        let (status, _, problem) =
            with_headers(&api, "POST", USERS, &[("idempotency-key", bad)], json!({"name": "x"})).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (400, Some("invalid_idempotency_key")),
            "{bad}"
        );
    }
    let (_, made) = api.post("/api/v1/keys", json!({"name": "ci", "scope": "admin"})).await;
    let other = made["key"].as_str().unwrap();
    let mine = with_headers(&api, "POST", USERS, &[("idempotency-key", "k")], json!({"name": "one"})).await;
    let theirs = [("idempotency-key", "k"), ("authorization", &format!("Bearer {other}"))];
    let request = Request::post(USERS).header("content-type", "application/json");
    let request = theirs
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = api.send(request.body(Body::from(r#"{"name":"two"}"#)).unwrap()).await;
    assert_eq!((mine.0, answer.0), (201, 201));
    let (_, made) = with_headers(
        &api,
        "POST",
        "/api/v1/keys",
        &[("idempotency-key", "key")],
        json!({"name": "k2", "scope": "admin"}),
    )
    .await
    .into_key();
    let again = with_headers(
        &api,
        "POST",
        "/api/v1/keys",
        &[("idempotency-key", "key")],
        json!({"name": "k2", "scope": "admin"}),
    )
    .await;
    assert_eq!((again.0, again.2.get("key")), (201, None));
    assert!(!format!("{:?}", api.plane.store.kept()).contains(&made));
    assert_eq!(api.plane.store.prune_replays(i64::MAX).await.unwrap(), 3);
}

trait IntoKey {
    fn into_key(self) -> (u16, String);
}

impl IntoKey for Whole {
    fn into_key(self) -> (u16, String) {
        (self.0, self.2["key"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn every_change_is_in_the_log_with_who_and_what_became_of_it() {
    let api = Api::with_demo().await;
    let (_, headers, _) = with_headers(
        &api,
        "POST",
        USERS,
        &[],
        json!({"name": "app", "password": "hunter2", "admin": true}),
    )
    .await;
    api.post(USERS, json!({"name": "root"})).await;
    api.call("DELETE", &format!("{USERS}/app"), None).await;
    api.post("/api/v1/projects", json!({"id": "other"})).await;
    api.get(USERS).await;

    let (_, log) = api.get("/api/v1/projects/demo/audit").await;
    let entries = log["entries"].as_array().unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry["method"].as_str().unwrap(),
                entry["path"].as_str().unwrap(),
                entry["status"].clone(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("DELETE", "/api/v1/projects/demo/users/app", json!(204)),
            ("POST", USERS, json!(400)),
            ("POST", USERS, json!(201)),
            ("POST", "/api/v1/projects", json!(201)),
        ]
    );
    let made = &entries[2];
    assert_eq!(
        made["changed"],
        json!({"name": "app", "password": "...", "admin": true})
    );
    assert_eq!((&made["key"], &made["project"]), (&json!("test"), &json!("demo")));
    assert_eq!(made["request_id"], headers["x-request-id"].to_str().unwrap());
    assert!(made["at"].as_str().unwrap().ends_with('Z'));
    assert!(!log.to_string().contains("hunter2"));

    let (_, all) = api.get("/api/v1/audit?limit=2").await;
    assert_eq!(all["entries"][0]["project"], "other");
    let next = all["next"].as_str().unwrap();
    let (_, rest) = api.get(&format!("/api/v1/audit?after={next}")).await;
    assert_eq!((rest["entries"].as_array().unwrap().len(), rest.get("next")), (3, None));
    assert_eq!(api.get("/api/v1/audit?after=x").await.1["code"], "invalid_query");

    api.call("DELETE", "/api/v1/projects/demo", None).await;
    api.post("/api/v1/projects", json!({"id": "demo"})).await;
    let (_, fresh) = api.get("/api/v1/projects/demo/audit").await;
    assert_eq!(
        fresh["entries"].as_array().unwrap().len(),
        1,
        "what was before is not this project's"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tag_saves_reading_again_and_guards_changes() {
    let api = Api::with_demo().await;
    api.post(USERS, json!({"name": "app", "password": "one"})).await;
    api.post("/api/v1/projects/demo/databases", json!({"name": "shop"}))
        .await;
    let tag = async |path: &str| {
        let (status, headers, _) = with_headers(&api, "GET", path, &[], Value::Null).await;
        assert_eq!(status, 200, "{path}");
        headers["etag"].to_str().unwrap().to_owned()
    };
    let app = format!("{USERS}/app");
    let setting = "/api/v1/projects/demo/settings/wait_timeout".to_owned();
    let project = "/api/v1/projects/demo".to_owned();
    let database = "/api/v1/projects/demo/databases/shop".to_owned();
    for path in [&app, &setting, &project, &database, &"/api/v1/keys/test".to_owned()] {
        let known = tag(path).await;
        let (status, headers, body) = with_headers(&api, "GET", path, &[("if-none-match", &known)], Value::Null).await;
        assert_eq!(
            (status, headers["etag"].to_str().unwrap(), body),
            (304, known.as_str(), Value::Null),
            "{path}"
        );
        let weak = format!("\"x\", W/{known}");
        assert_eq!(
            with_headers(&api, "GET", path, &[("if-none-match", &weak)], Value::Null)
                .await
                .0,
            304
        );
        assert_eq!(
            with_headers(&api, "GET", path, &[("if-none-match", "\"x\"")], Value::Null)
                .await
                .0,
            200
        );
    }

    let before = tag(&app).await;
    let (status, headers, _) = with_headers(
        &api,
        "PATCH",
        &app,
        &[("if-match", &before)],
        json!({"password": "two"}),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(headers["etag"].to_str().unwrap(), tag(&app).await);
    for (method, path, body) in [
        ("PATCH", &app, json!({"password": "three"})),
        ("DELETE", &app, Value::Null),
        ("DELETE", &database, Value::Null),
        ("PUT", &setting, json!({"value": 60})),
        ("DELETE", &project, Value::Null),
        ("PATCH", &"/api/v1/keys/test".to_owned(), json!({"expires_in": "1h"})),
    ] {
        let (status, _, problem) = with_headers(&api, method, path, &[("if-match", &before)], body).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (412, Some("precondition_failed")),
            "{method} {path}"
        );
    }
    assert_eq!(
        with_headers(&api, "DELETE", &app, &[("if-match", "*")], Value::Null)
            .await
            .0,
        204
    );
    assert_eq!(
        with_headers(&api, "DELETE", &app, &[("if-match", "*")], Value::Null)
            .await
            .0,
        404
    );

    let seen = tag(&setting).await;
    let put = with_headers(&api, "PUT", &setting, &[("if-match", &seen)], json!({"value": 60})).await;
    assert_eq!(put.0, 200);
    let put = with_headers(&api, "PUT", &setting, &[("if-match", &seen)], json!({"value": 61})).await;
    assert_eq!(put.0, 412);

    let seen = tag(&project).await;
    api.post("/api/v1/projects/demo/compute/wake", json!(null)).await;
    assert_ne!(tag(&project).await, seen, "a reader sees that it woke");
    let deleted = with_headers(&api, "DELETE", &project, &[("if-match", &seen)], Value::Null).await;
    assert_eq!(deleted.0, 204, "a wake is no change of the project");
}

#[tokio::test]
async fn a_password_is_changed_by_api() {
    let api = Api::with_demo().await;
    api.post(USERS, json!({"name": "app", "password": "one"})).await;
    let verifiers = async || api.plane.store_access().await.users[0].verifiers.clone();
    let before = verifiers().await;
    let app = format!("{USERS}/app");
    let (status, changed) = api.call("PATCH", &app, Some(json!({"password": "two"}))).await;
    assert_eq!(
        (status, &changed["name"], changed.get("password")),
        (200, &json!("app"), None)
    );
    let after = verifiers().await;
    assert_ne!(after, before);
    let (_, generated) = api.call("PATCH", &app, Some(json!({}))).await;
    assert_eq!(generated["password"].as_str().unwrap().len(), 24);
    assert_ne!(verifiers().await, after);
    assert_eq!(
        api.call("PATCH", &app, Some(json!({"password": ""}))).await.1["code"],
        "invalid_password"
    );
    assert_eq!(
        api.call("PATCH", &format!("{USERS}/nobody"), Some(json!({}))).await.1["code"],
        "user_not_found"
    );
}

#[tokio::test]
async fn lists_have_pages() {
    let api = Api::with_demo().await;
    for name in ["a", "b", "c"] {
        api.post(USERS, json!({"name": name})).await;
        api.post("/api/v1/projects/demo/databases", json!({"name": name})).await;
    }
    for list in ["users", "databases", "settings"] {
        let path = format!("/api/v1/projects/demo/{list}");
        let (_, whole) = api.get(&path).await;
        let all = whole[list].as_array().unwrap().clone();
        assert_eq!(whole.get("next"), None);
        let (mut read, mut at) = (Vec::new(), format!("{path}?limit=2"));
        loop {
            let (status, page) = api.get(&at).await;
            assert_eq!(status, 200);
            read.extend(page[list].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            at = format!("{path}?limit=2&after={next}");
        }
        assert_eq!(read, all, "{list}");
        assert_eq!(api.get(&format!("{path}?limit=x")).await.1["code"], "invalid_query");
    }
}
