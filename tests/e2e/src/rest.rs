//! The REST API as scripts use it: projects, users, databases, computes; errors as problem+json; the key.

use harness::Selkie;
use harness::http::request;
use serde_json::{Value, json};

#[tokio::test]
async fn a_project_is_made_listed_shown_and_deleted() {
    let selkie = Selkie::shared().await;
    let made = selkie
        .rest("POST", "/projects", Some(&json!({"id": "rest-life"})))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["compute"]["state"], "suspended");
    let shown = selkie.rest("GET", "/projects/rest-life", None).await.json();
    assert_eq!(shown["id"], "rest-life");
    let mut listed = Vec::new();
    let mut path = "/projects?limit=2".to_owned();
    loop {
        let page = selkie.rest("GET", &path, None).await.json();
        listed.extend(
            page["projects"]
                .as_array()
                .unwrap()
                .iter()
                .map(|project| project["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/projects?limit=2&after={next}");
    }
    assert!(
        listed.is_sorted() && listed.contains(&"rest-life".to_owned()),
        "{listed:?}"
    );
    let deleted = selkie.rest("DELETE", "/projects/rest-life", None).await;
    assert!((200..300).contains(&deleted.status), "{deleted:?}");
    assert_eq!(selkie.rest("GET", "/projects/rest-life", None).await.status, 404);
    selkie.logs.check();
}

#[tokio::test]
async fn deleting_a_project_stops_its_compute_and_ends_its_logins() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("rest-gone").await;
    project.wake().await;
    let mut conn = project.endpoint.connect().await;
    harness::client::run(&mut conn, "CREATE TABLE t (a INT)").await;
    let deleted = selkie.rest("DELETE", &format!("/projects/{}", project.id), None).await;
    assert!((200..300).contains(&deleted.status), "{deleted:?}");
    assert_eq!(harness::client::error_code(project.endpoint.try_connect().await), 1045);
    let again = selkie
        .rest(
            "POST",
            "/projects",
            Some(&json!({"id": project.id, "database": "app",
        "user": {"name": "app", "password": project.endpoint.password}})),
        )
        .await;
    assert_eq!(again.status, 201, "{again:?}");
    let mut conn = project.endpoint.connect().await;
    let tables = harness::client::value(
        &mut conn,
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 't'",
    )
    .await;
    assert_eq!(
        tables.as_deref(),
        Some("0"),
        "a new project of the same name begins empty"
    );
    selkie.logs.check();
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("rest-wrong").await;
    let users = format!("/projects/{}/users", project.id);
    let databases = format!("/projects/{}/databases", project.id);
    for (method, path, body, status) in [
        ("GET", "/projects/no-such-project", Value::Null, 404),
        ("GET", "/no-such-thing", Value::Null, 404),
        ("POST", "/projects/no-such-project/compute/wake", Value::Null, 404),
        ("POST", "/projects", json!({"id": project.id}), 409),
        ("POST", "/projects", json!({"id": "UPPER"}), 422),
        ("POST", "/projects", json!({"id": "ab"}), 422),
        ("POST", "/projects", json!({"id": "a".repeat(41)}), 422),
        ("POST", "/projects", json!({"id": "../../etc"}), 422),
        ("POST", "/projects", json!({"id": "with.dot"}), 422),
        ("POST", "/projects", json!({"id": "fine-id", "no_such_field": 1}), 422),
        ("POST", "/projects", json!({"id": "fine-id", "size_cu": 1e9}), 422),
        (
            "POST",
            "/projects",
            json!({"id": "fine-id", "wake_timeout": "soon"}),
            422,
        ),
        ("POST", "/projects", json!([1, 2]), 422),
        ("POST", users.as_str(), json!({"name": "app", "password": "x"}), 409),
        ("POST", users.as_str(), json!({"name": "root", "password": "x"}), 422),
        ("POST", users.as_str(), json!({"name": "", "password": "x"}), 422),
        ("POST", users.as_str(), json!({"name": "empty", "password": ""}), 422),
        ("POST", databases.as_str(), json!({"name": "mysql"}), 422),
        ("POST", databases.as_str(), json!({"name": "app"}), 409),
        ("POST", databases.as_str(), json!({"name": "a/b"}), 422),
    ] {
        let answer = selkie
            .rest(method, path, Some(&body).filter(|body| !body.is_null()))
            .await;
        // 400 where the body cannot be read, 422 where its meaning is wrong: both say so.
        let equal = answer.status == status || (status == 422 && answer.status == 400);
        assert!(equal, "{method} {path} {body}: {answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{method} {path}: {answer:?}"
        );
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status);
        assert!(
            problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
            "{problem}"
        );
        assert!(
            problem["code"].as_str().is_some_and(|code| !code.is_empty()),
            "{problem}"
        );
    }
    selkie.logs.check();
}

#[tokio::test]
async fn nothing_is_told_without_the_key() {
    let selkie = Selkie::shared().await;
    let url = format!("{}/projects", selkie.api());
    for key in [None, Some(""), Some("wrong"), Some("a\u{e4}")] {
        let answer = request("GET", &url, key, None).await;
        assert_eq!(answer.status, 401, "{key:?}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let key = &selkie.up().rest.api_key;
    assert!(!selkie.logs.text().contains(key.as_str()), "the key stands in a log");
    selkie.logs.check();
}

#[tokio::test]
async fn the_openapi_document_describes_what_is_served() {
    let selkie = Selkie::shared().await;
    let url = selkie.api().replace("/api/v1", "/openapi.json");
    let document = request("GET", &url, None, None).await.json();
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1")),
        "{}",
        document["openapi"]
    );
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/projects",
        "/projects/{id}/users",
        "/projects/{id}/databases",
        "/projects/{id}/compute/wake",
    ] {
        assert!(
            paths.keys().any(|known| known.ends_with(path)),
            "{path} is not in {:?}",
            paths.keys()
        );
    }
    selkie.logs.check();
}

#[tokio::test]
async fn passwords_are_told_once_and_kept_nowhere() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("rest-secret").await;
    let users = format!("/projects/{}/users", project.id);
    let made = selkie
        .rest("POST", &users, Some(&json!({"name": "generated"})))
        .await
        .json();
    let password = made["password"].as_str().unwrap().to_owned();
    assert!(password.len() >= 16, "a generated password is long");
    let user = project
        .endpoint
        .with_user(&format!("{}.generated", project.id))
        .with_password(&password);
    let mut conn = user.connect().await;
    harness::client::value(&mut conn, "SELECT 1").await;
    for path in [
        users.clone(),
        format!("{users}/generated"),
        format!("/projects/{}", project.id),
    ] {
        assert!(
            !selkie.rest("GET", &path, None).await.body.contains(&password),
            "{path}"
        );
    }
    let text = selkie.logs.text();
    assert!(
        !text.contains(&password) && !text.contains(&project.endpoint.password),
        "a password stands in a log"
    );
    selkie.logs.check();
}
