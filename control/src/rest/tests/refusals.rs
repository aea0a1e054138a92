//! Whatever is wrong with a request is said in the answer.

use super::*;

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
