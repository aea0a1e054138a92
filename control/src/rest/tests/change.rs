//! Idempotency keys, the audit log, entity tags.

use axum::{body::Body, extract::Request};
use control_api::control as proto;
use serde_json::{Value, json};

use super::{Api, KEY};
use crate::{
    accounts::{self, ObservedAccount, Require},
    name::ProjectId,
    secret::hex,
    store::{Accesses, Observed, Store, replays::Replays},
    testing::holding,
};

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
    let (status, headers, body) = api.exchange(request.body(body).unwrap()).await;
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
        .push_back(crate::testing::Start::Fails(slow, "no room"));
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

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_waited_for_only_so_long_and_changes_nothing() {
    let api = Api::with_demo().await;
    let begins = futures::stream::once(async { Ok::<_, std::io::Error>(r#"{"name": "slow""#) });
    let never_ends = futures::StreamExt::chain(begins, futures::stream::pending());
    let request = Request::post(USERS)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {KEY}"))
        .body(Body::from_stream(never_ends));
    let (status, _, body) = api.send(request.unwrap()).await;
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, problem["code"].as_str()), (408, Some("body_too_slow")));
    assert_eq!(api.get(&format!("{USERS}/slow")).await.0, 404);
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
async fn of_two_changes_at_once_that_say_what_they_have_read_one_is_made() {
    let api = Api::with_demo().await;
    let (status, _) = api.post("/api/v1/keys", json!({"name": "ci", "scope": "admin"})).await;
    assert_eq!(status, 201);
    for (path, bodies) in [
        (
            "/api/v1/projects/demo",
            [json!({"suspend_after": "10s"}), json!({"suspend_after": "20s"})],
        ),
        (
            "/api/v1/keys/ci",
            [json!({"expires_in": "1h"}), json!({"expires_in": "2h"})],
        ),
    ] {
        let (_, headers, _) = with_headers(&api, "GET", path, &[], Value::Null).await;
        let seen = [("if-match", headers["etag"].to_str().unwrap())];
        let [one, other] = bodies.map(|body| with_headers(&api, "PATCH", path, &seen, body));
        let (one, other) = tokio::join!(one, other);
        let mut statuses = [one.0, other.0];
        statuses.sort();
        assert_eq!(statuses, [200, 412], "{path}: {one:?} {other:?}");
        let made = if one.0 == 200 { one } else { other };
        assert_eq!(api.get(path).await.1, made.2, "{path}");
    }
}

#[tokio::test]
async fn two_changes_at_once_of_different_fields_are_both_made() {
    let api = Api::with_demo().await;
    let patch = async |body: Value| api.call("PATCH", "/api/v1/projects/demo", Some(body)).await.0;
    let both = tokio::join!(
        patch(json!({"suspend_after": "10s"})),
        patch(json!({"pinned_idle_timeout": "20s"}))
    );
    assert_eq!(both, (200, 200));
    let (_, project) = api.get("/api/v1/projects/demo").await;
    assert_eq!(
        (&project["suspend_after"], &project["pinned_idle_timeout"]),
        (&json!("10s"), &json!("20s"))
    );
    let told = api.plane.publisher().message(&ProjectId::new("demo").unwrap()).unwrap();
    assert_eq!(told.pinned_idle_timeout_ms, 20_000, "gateways have what is kept");
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

/// What is published of the demo project's user, and how a server says that it has it.
async fn published(api: &Api) -> (proto::User, Observed) {
    let whole = api.plane.store.whole_project(&demo()).await.unwrap();
    let mut users = accounts::users(&whole.access, whole.observed.as_ref());
    (users.remove(0), holding(&whole.access))
}

fn demo() -> ProjectId {
    ProjectId::new("demo").unwrap()
}

#[tokio::test]
async fn a_password_by_api_wins_over_what_the_server_has_until_it_is_applied() {
    let api = Api::with_demo().await;
    api.post(USERS, json!({"name": "app", "password": "one"})).await;
    let (made, mut seen) = published(&api).await;
    api.plane.store.set_observed(&demo(), &seen).await.unwrap();
    let by_sql = vec![0x5a; 20];
    seen.accounts[0].native_sha1 = vec![hex(&by_sql)];
    api.plane.store.set_observed(&demo(), &seen).await.unwrap();
    assert_eq!(published(&api).await.0.native_sha1, by_sql);

    let app = format!("{USERS}/app");
    let (status, _) = api.call("PATCH", &app, Some(json!({"password": "two"}))).await;
    assert_eq!(status, 200);
    api.plane.store.set_observed(&demo(), &seen).await.unwrap();
    let (changed, has_it) = published(&api).await;
    assert!(changed.native_sha1 != by_sql && changed.native_sha1 != made.native_sha1);

    api.plane.store.set_observed(&demo(), &has_it).await.unwrap();
    api.plane.store.set_observed(&demo(), &seen).await.unwrap();
    let now = published(&api).await.0.native_sha1;
    assert_eq!(now, by_sql, "changed in SQL after it was applied");
}

#[tokio::test]
async fn users_made_in_sql_are_shown_and_listed_in_pages() {
    let api = Api::with_demo().await;
    api.post(USERS, json!({"name": "app", "password": "one"})).await;
    let (_, mut seen) = published(&api).await;
    for (name, host) in [("eve", "%"), ("eve", "10.%"), ("app", "10.%")] {
        let account = ObservedAccount {
            user: name.into(),
            host: host.into(),
            require: if name == "eve" { Require::Ssl } else { Require::None },
            ..seen.accounts[0].clone()
        };
        seen.accounts.push(account);
    }
    api.plane.store.set_observed(&demo(), &seen).await.unwrap();
    let (mut read, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = api.get(&format!("{USERS}?limit=1{after}")).await;
        let user = &page["users"][0];
        read.push(["name", "host", "source"].map(|field| user[field].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={}", next.replace('%', "%25"));
    }
    assert_eq!(
        read,
        [
            ["app", "%", "api"],
            ["app", "10.%", "sql"],
            ["eve", "%", "sql"],
            ["eve", "10.%", "sql"]
        ]
    );
    let (status, shown) = api.get(&format!("{USERS}/eve")).await;
    assert_eq!(
        (status, &shown["host"], &shown["require"]),
        (200, &json!("%"), &json!("SSL"))
    );
    let (_, plain) = api.get(&format!("{USERS}/app")).await;
    assert_eq!(plain.get("require"), None, "{plain}");
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
