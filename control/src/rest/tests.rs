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
mod contract;
mod keys;
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
async fn changes_without_space_for_the_state_are_507_and_the_rest_goes_on() {
    let api = Api::with_demo().await;
    let full = |is_full: bool| api.plane.store.is_full.store(is_full, Ordering::Relaxed);
    full(true);
    for (method, path, body) in [
        ("POST", "/api/v1/projects", Some(json!({"id": "late"}))),
        ("POST", "/api/v1/projects/demo/users", Some(json!({"name": "app"}))),
        (
            "PATCH",
            "/api/v1/projects/demo",
            Some(json!({"suspend_after": "never"})),
        ),
        ("DELETE", "/api/v1/projects/demo", None),
    ] {
        let (status, problem) = api.call(method, path, body).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (507, Some("state_full")),
            "{method} {path}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("no space left") && !detail.contains("as if"),
            "{detail}"
        );
    }
    assert_eq!(api.get("/api/v1/projects/demo").await.0, 200);
    let (_, listed) = api.get("/api/v1/projects").await;
    assert_eq!(listed["projects"].as_array().map(Vec::len), Some(1), "{listed}");
    full(false);
    assert_eq!(api.post("/api/v1/projects", json!({"id": "late"})).await.0, 201);
}

#[tokio::test]
async fn project_is_made_shown_listed_and_removed() {
    let api = Api::new().await;
    let body = json!({
        "id": "demo", "size_cu": 0.5, "wake_timeout": "30s",
        "user": {"name": "app", "admin": true}, "database": "shop"
    });
    let (status, created) = api.post("/api/v1/projects", body).await;
    assert_eq!(status, 201);
    assert_eq!(created["user"]["name"], "app");
    assert_eq!(
        created["user"]["password"].as_str().unwrap().len(),
        24,
        "generated, so told"
    );
    assert_eq!(created["database"], json!({"name": "shop", "made_by_api": true}));

    let (status, shown) = api.get("/api/v1/projects/demo").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&shown["size_cu"], &shown["wake_timeout"]),
        (&json!(0.5), &json!("30s"))
    );
    assert_eq!(
        (&shown["compute"]["state"], &shown["compute"]["incarnation"]),
        (&json!("suspended"), &json!(0))
    );
    assert!(shown.get("user").is_none());
    let whole = api.plane.store.whole_projects(None, 1).await.unwrap();
    assert_eq!(whole[0].record.uid, Some(200_000));

    api.post("/api/v1/projects", json!({"id": "another"})).await;
    let (_, page) = api.get("/api/v1/projects?limit=1").await;
    assert_eq!(
        (&page["projects"][0]["id"], &page["next"]),
        (&json!("another"), &json!("another"))
    );
    let (_, page) = api.get("/api/v1/projects?after=another").await;
    assert_eq!(page["projects"][0]["id"], "demo");
    assert!(page.get("next").is_none());

    assert_eq!(api.call("DELETE", "/api/v1/projects/demo", None).await.0, 204);
    assert_eq!(api.get("/api/v1/projects/demo").await.0, 404);
}

#[tokio::test]
async fn every_refusal_has_a_stable_code_and_says_what_is_wrong() {
    let api = Api::with_demo().await;
    let projects = "/api/v1/projects";
    let users = "/api/v1/projects/demo/users";
    let cases = [
        (projects, json!({"id": "Demo"}), 400, "invalid_name", "Demo"),
        (projects, json!({"id": "demo"}), 409, "project_exists", "exists"),
        (
            projects,
            json!({"id": "abc", "size_cu": 0}),
            400,
            "invalid_size",
            "0.05",
        ),
        (
            projects,
            json!({"id": "abc", "wake_timeout": "soon"}),
            400,
            "invalid_duration",
            "soon",
        ),
        (
            projects,
            json!({"id": "abc", "wake_timeout": "1ms"}),
            400,
            "invalid_duration",
            "between",
        ),
        (projects, json!({"id": "abc", "sise": 1}), 400, "invalid_body", "sise"),
        (projects, json!({"id": 1}), 400, "invalid_body", "string"),
        (
            projects,
            json!({"id": "abc", "database": "mysql"}),
            400,
            "invalid_name",
            "reserved",
        ),
        (users, json!({"name": "root"}), 400, "invalid_name", "reserved"),
        (
            users,
            json!({"name": "app", "password": ""}),
            400,
            "invalid_password",
            "empty",
        ),
        (
            "/api/v1/projects/nope/users",
            json!({"name": "app"}),
            404,
            "project_not_found",
            "nope",
        ),
        (
            "/api/v1/projects/demo/databases",
            json!({"name": "sys"}),
            400,
            "invalid_name",
            "reserved",
        ),
        ("/api/v1/nothing", json!({}), 404, "route_not_found", "/api/v1/nothing"),
        ("/api/v1/projects/demo", json!({}), 405, "method_not_allowed", "POST"),
    ];
    for (path, body, status, code, word) in cases {
        let (got, problem) = api.post(path, body.clone()).await;
        assert_eq!(
            (got, problem["code"].as_str()),
            (status, Some(code)),
            "{path} {body}: {problem}"
        );
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:selkie:problem:{code}"));
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
    assert_eq!(api.get("/api/v1/projects?limit=x").await.1["code"], "invalid_query");
    assert_eq!(
        api.plane.store.projects(None, 9).await.unwrap().len(),
        1,
        "nothing was made"
    );
}

#[tokio::test]
async fn an_array_is_no_body() {
    let api = Api::with_demo().await;
    let (status, problem) = api
        .call("PATCH", "/api/v1/projects/demo", Some(json!([null, null])))
        .await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_body")));
    // Nor is one within it: `name`, `password` and `admin` would be taken by their order.
    let within = json!({"id": "other", "user": ["app", "pw of other", true]});
    let (status, problem) = api.post("/api/v1/projects", within).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_body")));
    assert!(problem["detail"].as_str().unwrap().contains("an object"), "{problem}");
    assert_eq!(api.get("/api/v1/projects/other").await.0, 404, "nothing was made");
    let nobody = json!({"id": "other", "user": null});
    assert_eq!(api.post("/api/v1/projects", nobody).await.0, 201, "null is no user");
}

#[tokio::test]
async fn whatever_comes_as_a_body_or_a_path_is_answered_with_what_is_wrong() {
    let api = Api::with_demo().await;
    let ask = async |method: &str, path: &str, body: &[u8]| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json");
        let (status, kind, answer) = api.send(request.body(Body::from(body.to_vec())).unwrap()).await;
        let said = String::from_utf8_lossy(&answer);
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
        assert!((400..500).contains(&status), "{method} {path} {shown}: {status} {said}");
        assert_eq!(kind, "application/problem+json", "{method} {path} {shown}: {said}");
    };
    let deep = [&b"{\"id\": "[..], &[b'['; 5_000]].concat();
    for body in [
        &b""[..],
        b"{",
        b"null",
        b"\"demo\"",
        b"17",
        b"{\"id\": 17}",
        b"{\"id\": null}",
        b"{\"id\": {\"id\": \"other\"}}",
        b"{\"id\": \"a\\u0000b\"}",
        b"{\"id\": \"\xff\xfe\"}",
        b"{\"id\": \"\\ud800\"}",
        b"{\"id\": \"other\", \"id\": \"another\"}",
        b"{\"id\": \"other\"} {}",
        b"{\"id\": \"other\", \"size_cu\": 1e999}",
        b"{\"id\": \"other\", \"size_cu\": -1}",
        b"{\"id\": \"other\", \"size_cu\": NaN}",
        b"{\"id\": \"other\", \"size_cu\": \"1\"}",
        b"{\"id\": \"other\", \"user\": \"app\"}",
        b"{\"id\": \"other\", \"user\": {}}",
        b"{\"id\": \"other\", \"user\": [{\"name\": \"app\"}]}",
        b"{\"id\": \"other\", \"user\": {\"name\": [\"app\"]}}",
        b"{\"id\": \"other\", \"user\": {\"name\": \"app\", \"root\": true}}",
        b"{\"id\": \"other\", \"allowed_networks\": {\"0\": \"10.0.0.0/8\"}}",
        b"{\"id\": \"other\", \"wake_timeout\": 60}",
        b"{\"id\": \"other\", \"unknown\": 1}",
        &deep,
        &[b' '; 70_000],
    ] {
        ask("POST", "/api/v1/projects", body).await;
    }
    let long = format!("/api/v1/projects/{}", "x".repeat(8_000));
    for path in [
        "/api/v1/projects/%00",
        "/api/v1/projects/%ff%fe",
        "/api/v1/projects/..%2f..%2fetc",
        "/api/v1/projects/demo/usage?from=%ff",
        "/api/v1/projects/demo/usage?from=2026-11-25&from=2026-11-24",
        "/api/v1/projects/demo/usage?from=99999999999-01-01T00:00:00Z",
        "/api/v1/projects/demo/usage?to=0000-00-00",
        "/api/v1/projects/demo/usage?created_at=9223372036854775807",
        "/api/v1/projects/demo/usage/statement?month=9999999999-01",
        "/api/v1/projects?limit=-1",
        "/api/v1/projects?limit=99999999999999999999",
        "/api/v1/projects?limit[]=1",
        "/api/v1/deleted-projects?after=x",
        "/api/v1/projects/demo/compute/transitions?after=99999999999999999999",
        "/api/v1/operations/%F0%9F%92%A9",
        "/api/v2/projects",
        &long,
    ] {
        ask("GET", path, b"").await;
    }
    for (method, path) in [
        ("PATCH", "/api/v1/projects/demo"),
        ("POST", "/api/v1/projects/demo/users"),
        ("POST", "/api/v1/projects/demo/databases"),
        ("PATCH", "/api/v1/projects/demo/settings"),
        ("PUT", "/api/v1/projects/demo/settings"),
        ("POST", "/api/v1/keys"),
    ] {
        for body in [
            &b"[]"[..],
            b"[[]]",
            b"0",
            b"{\"\": []}",
            b"{\"a\": {\"b\": {}}}",
            b"\xff",
        ] {
            ask(method, path, body).await;
        }
    }
    let (_, left) = api.get("/api/v1/projects").await;
    assert_eq!(
        left["projects"].as_array().unwrap().len(),
        1,
        "nothing was made: {left}"
    );
}

#[tokio::test]
async fn body_must_be_json_and_short() {
    let api = Api::new().await;
    let post = |kind: &str, body: String| {
        let request = Request::builder().method("POST").uri("/api/v1/projects");
        let request = request
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", kind);
        request.body(Body::from(body)).unwrap()
    };
    let code = async |request| {
        let (status, _, body) = api.send(request).await;
        (
            status,
            serde_json::from_slice::<Value>(&body).unwrap()["code"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    };
    assert_eq!(
        code(post("text/plain", "{}".into())).await,
        (415, "unsupported_media_type".into())
    );
    assert_eq!(
        code(post("application/json", "{".into())).await,
        (400, "invalid_body".into())
    );
    let long = format!("{{\"id\": \"{}\"}}", "a".repeat(BODY_BYTES_MAX));
    assert_eq!(
        code(post("application/json", long)).await,
        (413, "body_too_large".into())
    );
}

#[tokio::test]
async fn nothing_under_the_api_works_without_a_key() {
    let api = Api::with_demo().await;
    for header in [None, Some("Bearer wrong"), Some("Basic x"), Some("Bearer"), Some(KEY)] {
        for path in [
            "/api/v1/projects",
            "/api/v1/projects/demo/users",
            "/api/v1/projects/demo/compute",
        ] {
            let mut request = Request::builder().uri(path);
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let (status, kind, body) = api.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                (status, kind.as_str()),
                (401, "application/problem+json"),
                "{header:?} {path}"
            );
            assert!(!String::from_utf8(body).unwrap().contains("demo"));
        }
    }
    let any_case = Request::builder()
        .uri("/api/v1/projects")
        .header("authorization", format!("bearer {KEY}"));
    assert_eq!(api.send(any_case.body(Body::empty()).unwrap()).await.0, 200);
}

#[tokio::test]
async fn users_are_made_shown_and_removed_and_passwords_are_told_only_when_generated() {
    let api = Api::with_demo().await;
    let users = "/api/v1/projects/demo/users";
    let (status, created) = api
        .post(users, json!({"name": "first.last", "password": "secret"}))
        .await;
    assert_eq!(
        (status, &created["name"], &created["admin"]),
        (201, &json!("first.last"), &json!(false))
    );
    assert!(created.get("password").is_none());
    let (_, generated) = api.post(users, json!({"name": "app"})).await;
    assert!(generated["password"].is_string());
    assert_eq!(api.post(users, json!({"name": "app"})).await.1["code"], "user_exists");

    let (_, list) = api.get(users).await;
    let names: Vec<_> = list["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["name"].clone())
        .collect();
    assert_eq!(names, ["app", "first.last"]);
    assert_eq!(api.get(&format!("{users}/app")).await.1["name"], "app");
    assert_eq!(api.call("DELETE", &format!("{users}/app"), None).await.0, 204);
    assert_eq!(api.get(&format!("{users}/app")).await.1["code"], "user_not_found");
    assert_eq!(
        api.call("DELETE", &format!("{users}/app"), None).await.1["code"],
        "user_not_found"
    );
}

#[tokio::test]
async fn databases_are_made_listed_and_removed() {
    let api = Api::with_demo().await;
    let databases = "/api/v1/projects/demo/databases";
    let (status, created) = api.post(databases, json!({"name": "shop"})).await;
    assert_eq!((status, created), (201, json!({"name": "shop", "made_by_api": true})));
    assert_eq!(
        api.post(databases, json!({"name": "shop"})).await.1["code"],
        "database_exists"
    );
    let id = crate::name::ProjectId::new("demo").unwrap();
    api.plane
        .store
        .set_observed(&id, &crate::testing::observed(&["by_sql", "shop"]))
        .await
        .unwrap();
    let (_, list) = api.get(databases).await;
    let expected = json!([{"name": "by_sql", "made_by_api": false}, {"name": "shop", "made_by_api": true}]);
    assert_eq!(list["databases"], expected);
    assert_eq!(api.call("DELETE", &format!("{databases}/shop"), None).await.0, 204);
    let (_, list) = api.get(databases).await;
    assert_eq!(list["databases"], json!([{"name": "by_sql", "made_by_api": false}]));
    assert_eq!(
        api.call("DELETE", &format!("{databases}/shop"), None).await.1["code"],
        "database_not_found"
    );
}

#[tokio::test]
async fn a_project_that_is_full_takes_no_more_users_and_databases_and_says_why() {
    let api = Api::with_demo().await;
    let id = crate::name::ProjectId::new("demo").unwrap();
    let large = crate::accounts::ObservedAccount {
        user: "large".into(),
        host: "%".into(),
        native_sha1: vec!["11".repeat(20)],
        patterns: vec!["d".repeat(crate::weight::PROJECT_BYTES_MAX - 100)],
        ..Default::default()
    };
    let observed = crate::store::Observed {
        accounts: vec![large],
        ..Default::default()
    };
    api.plane.store.set_observed(&id, &observed).await.unwrap();
    let project = "/api/v1/projects/demo";
    for (what, name) in [("users", "u".repeat(80)), ("databases", "d".repeat(64))] {
        let (status, problem) = api.post(&format!("{project}/{what}"), json!({ "name": name })).await;
        assert_eq!(
            (status, &problem["code"]),
            (409, &json!("project_too_large")),
            "{problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("4194304"), "{detail}");
        let (_, list) = api.get(&format!("{project}/{what}")).await;
        assert!(!list.to_string().contains(&name), "{list}");
    }
}

#[tokio::test]
async fn wake_and_suspend_answer_when_done() {
    let api = Api::with_demo().await;
    let compute = "/api/v1/projects/demo/compute";
    let (status, woken) = api.call("POST", &format!("{compute}/wake"), None).await;
    assert_eq!(
        (status, &woken["state"], &woken["incarnation"]),
        (200, &json!("ready"), &json!(1))
    );
    assert_eq!(api.get(compute).await.1["state"], "ready");
    let (status, suspended) = api.call("POST", &format!("{compute}/suspend"), None).await;
    assert_eq!((status, &suspended["state"]), (200, &json!("suspended")));
    assert_eq!(suspended["kept_awake_by"], json!([]));
    assert_eq!(
        api.call("POST", "/api/v1/projects/nope/compute/wake", None).await.1["code"],
        "project_not_found"
    );
}

#[tokio::test]
async fn failed_wake_is_a_problem_with_the_reason() {
    let api = Api::with_demo().await;
    let fails = Start::Fails(std::time::Duration::ZERO, "mariadbd: not found");
    api.plane.driver.starts.lock().unwrap().push_back(fails);
    let (status, problem) = api.call("POST", "/api/v1/projects/demo/compute/wake", None).await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("compute_failed")));
    assert!(problem["detail"].as_str().unwrap().contains("mariadbd: not found"));
    let (_, compute) = api.get("/api/v1/projects/demo/compute").await;
    assert_eq!(
        (&compute["state"], &compute["reason"]),
        (&json!("failed"), &json!("mariadbd: not found"))
    );
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

#[tokio::test]
async fn operations_are_listed_the_latest_first_and_shown_also_when_the_project_is_gone() {
    let api = Api::with_demo().await;
    api.post("/api/v1/projects/demo/compute/wake", Value::Null).await;
    let ended = async || {
        while !api.plane.store.open_operations().await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended())
        .await
        .unwrap();
    let (status, page) = api.get("/api/v1/projects/demo/operations?limit=1").await;
    assert_eq!(status, 200);
    let start = &page["operations"][0];
    assert_eq!(
        (&start["kind"], &start["state"], &start["incarnation"]),
        (&json!("start"), &json!("done"), &json!(1))
    );
    assert!(start["ended_at"].is_string() && start.get("error").is_none());
    let next = page["next"].as_str().unwrap();
    let (_, rest) = api.get(&format!("/api/v1/projects/demo/operations?after={next}")).await;
    assert_eq!(
        (&rest["operations"][0]["kind"], &rest["next"]),
        (&json!("create"), &Value::Null)
    );

    api.call("DELETE", "/api/v1/projects/demo", None).await;
    assert_eq!(api.get("/api/v1/projects/demo/operations").await.0, 404);
    let (status, shown) = api
        .get(&format!("/api/v1/operations/{}", start["id"].as_str().unwrap()))
        .await;
    assert_eq!((status, &shown["project"]), (200, &json!("demo")));
    let (status, problem) = api.get("/api/v1/operations/none").await;
    assert_eq!((status, &problem["code"]), (404, &json!("operation_not_found")));
}

#[tokio::test]
async fn a_key_of_a_project_sees_nothing_of_an_earlier_one_of_its_name() {
    let api = Api::with_demo().await;
    let demo = "/api/v1/projects/demo";
    api.post(&format!("{demo}/compute/wake"), Value::Null).await;
    let (_, before) = api.get(&format!("{demo}/operations")).await;
    let old = format!("/api/v1/operations/{}", before["operations"][0]["id"].as_str().unwrap());
    let (_, transitions) = api.get(&format!("{demo}/compute/transitions")).await;
    assert!(!transitions["transitions"].as_array().unwrap().is_empty());
    api.call("DELETE", demo, None).await;

    assert_eq!(api.post("/api/v1/projects", json!({"id": "demo"})).await.0, 201);
    let (_, key) = api
        .post(
            "/api/v1/keys",
            json!({"name": "tenant", "scope": "project", "project": "demo"}),
        )
        .await;
    let tenant = api.with_key(key["key"].as_str().unwrap());
    let (_, transitions) = tenant.get(&format!("{demo}/compute/transitions")).await;
    assert_eq!(transitions["transitions"], json!([]));
    let (_, operations) = tenant.get(&format!("{demo}/operations")).await;
    let kinds: Vec<_> = operations["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(kinds, ["create"]);
    let own = format!(
        "/api/v1/operations/{}",
        operations["operations"][0]["id"].as_str().unwrap()
    );
    assert_eq!((tenant.get(&own).await.0, tenant.get(&old).await.0), (200, 404));
    assert_eq!(api.get(&old).await.0, 200, "operators see it");
}

#[tokio::test(start_paused = true)]
async fn when_a_project_sleeps_is_changed_field_by_field_and_goes_back_to_the_default() {
    let api = Api::new().await;
    api.post("/api/v1/projects", json!({"id": "demo"})).await;
    let patch = async |body: Value| api.call("PATCH", "/api/v1/projects/demo", Some(body)).await;
    let (status, made) = api.get("/api/v1/projects/demo").await;
    assert_eq!((status, made.get("suspend_after")), (200, None));
    let (status, never) = patch(json!({"suspend_after": "never"})).await;
    assert_eq!((status, never["suspend_after"].as_str()), (200, Some("never")));
    let (_, pinned) = patch(json!({"pinned_idle_timeout": "90s"})).await;
    assert_eq!(pinned["pinned_idle_timeout"], "1m 30s");
    assert_eq!(pinned["suspend_after"], "never", "what is absent stays");
    let demo = crate::name::ProjectId::new("demo").unwrap();
    let told = api.plane.publisher().message(&demo).unwrap();
    assert_eq!(told.pinned_idle_timeout_ms, 90_000);
    let (_, default) = patch(json!({"suspend_after": null, "pinned_idle_timeout": null})).await;
    assert!(default.get("suspend_after").is_none() && default.get("pinned_idle_timeout").is_none());
    for (bad, part) in [
        (json!({"suspend_after": "9s"}), "between 10s and 7d, or \"never\""),
        (json!({"suspend_after": "8d"}), "suspend_after"),
        (json!({"pinned_idle_timeout": "never"}), "pinned_idle_timeout"),
    ] {
        let (status, told) = patch(bad).await;
        assert_eq!((status, told["code"].as_str()), (400, Some("invalid_duration")));
        assert!(told["detail"].as_str().unwrap().contains(part), "{told}");
    }
    assert_eq!(api.call("PATCH", "/api/v1/projects/none", Some(json!({}))).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn where_clients_may_come_from_is_changed_and_told_to_gateways() {
    let api = Api::new().await;
    api.post("/api/v1/projects", json!({"id": "demo"})).await;
    let patch = async |body: Value| api.call("PATCH", "/api/v1/projects/demo", Some(body)).await;
    let told = || {
        let demo = crate::name::ProjectId::new("demo").unwrap();
        api.plane.publisher().message(&demo).unwrap().allowed_networks.clone()
    };
    let (_, made) = api.get("/api/v1/projects/demo").await;
    assert!(
        made.get("allowed_networks").is_none() && told().is_empty(),
        "from anywhere"
    );
    let (status, changed) = patch(json!({"allowed_networks": ["192.0.2.7/32", "10.0.0.0/8", "10.0.0.0/8"]})).await;
    assert_eq!(
        (status, &changed["allowed_networks"]),
        (200, &json!(["10.0.0.0/8", "192.0.2.7"]))
    );
    assert_eq!(told(), ["10.0.0.0/8", "192.0.2.7"]);
    let (_, other) = patch(json!({"suspend_after": "10s"})).await;
    assert_eq!(
        other["allowed_networks"], changed["allowed_networks"],
        "what is absent stays"
    );
    for (bad, part) in [
        (json!([]), "null lets in from anywhere"),
        (json!(["10.1.2.3/8"]), "write \"10.0.0.0/8\""),
        (json!(["localhost"]), "is not a network"),
        (json!(vec!["10.0.0.0/8"; 257]), "at most 256"),
    ] {
        let (status, told) = patch(json!({"allowed_networks": bad})).await;
        assert_eq!((status, told["code"].as_str()), (400, Some("invalid_network")));
        assert!(told["detail"].as_str().unwrap().contains(part), "{told}");
    }
    assert_eq!(told().len(), 2, "a refused list changes nothing");
    let (_, anywhere) = patch(json!({"allowed_networks": null})).await;
    assert!(anywhere.get("allowed_networks").is_none() && told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_project_may_be_made_closed_to_all_networks_but_some() {
    let api = Api::new().await;
    let create = async |id: &str, networks: Value| {
        let body = json!({"id": id, "allowed_networks": networks});
        api.post("/api/v1/projects", body).await
    };
    let (status, made) = create("closed", json!(["192.0.2.7/32", "10.0.0.0/8"])).await;
    assert_eq!(
        (status, &made["allowed_networks"]),
        (201, &json!(["10.0.0.0/8", "192.0.2.7"]))
    );
    for (bad, part) in [
        (json!([]), "null lets in from anywhere"),
        (json!(["10.1.2.3/8"]), "write \"10.0.0.0/8\""),
    ] {
        let (status, refused) = create("refused", bad).await;
        assert_eq!((status, refused["code"].as_str()), (400, Some("invalid_network")));
        assert!(refused["detail"].as_str().unwrap().contains(part), "{refused}");
        assert_eq!(api.get("/api/v1/projects/refused").await.0, 404, "and is not there");
    }
    let (_, open) = create("open", Value::Null).await;
    assert!(open.get("allowed_networks").is_none());
    let closed = crate::name::ProjectId::new("closed").unwrap();
    assert_eq!(
        api.plane.publisher().message(&closed).unwrap().allowed_networks.len(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_compute_awake_and_what_it_did_are_told() {
    let api = Api::new().await;
    api.post("/api/v1/projects", json!({"id": "demo"})).await;
    api.post("/api/v1/projects/demo/compute/wake", json!({})).await;
    let (_, ready) = api.get("/api/v1/projects/demo/compute").await;
    assert_eq!(ready["kept_awake_by"], json!(["not idle for long enough: 300 s left"]));
    api.post("/api/v1/projects/demo/compute/suspend", json!({})).await;
    let (_, log) = api.get("/api/v1/projects/demo/compute/transitions?limit=2").await;
    assert_eq!(log["transitions"][0]["to"], "suspended");
    assert_eq!(
        log["transitions"][1]["reason"],
        "the compute is being suspended on request"
    );
    let next = log["next"].as_str().unwrap();
    let path = "/api/v1/projects/demo/compute/transitions";
    let (_, rest) = api.get(&format!("{path}?after={next}")).await;
    assert_eq!(
        (&rest["transitions"][0]["to"], &rest["next"]),
        (&json!("ready"), &Value::Null)
    );
    let (status, refused) = api.get(&format!("{path}?after=x")).await;
    assert_eq!((status, refused["code"].as_str()), (400, Some("invalid_query")));
}
