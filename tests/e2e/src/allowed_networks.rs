//! A project that lets clients in from some networks only: by the command line, at a running gateway.

use harness::client::{Endpoint, error_code};
use harness::{Raw, Selkie};
use serde_json::json;

#[tokio::test]
async fn a_project_closes_itself_to_networks_and_opens_again() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("networks").await;
    let allow = async |networks: &[&str]| {
        let args = [&["project", "allow-network", &project.id, "--json"], networks].concat();
        selkie.cli(&args).await
    };
    let mut idle = Raw::login(&project.endpoint).await;
    let mut attached = Raw::login(&project.endpoint).await;
    attached.query("SELECT 1").await.ok();

    let told = allow(&["127.0.0.0/8", "192.0.2.7"]).await.json();
    assert_eq!(told["allowed_networks"].to_string(), "[\"127.0.0.0/8\",\"192.0.2.7\"]");
    attached.query("SELECT 2").await.ok();
    Raw::login(&project.endpoint).await;

    allow(&["192.0.2.7"]).await.json();
    for session in [&mut idle, &mut attached] {
        let left = session.ends().await;
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].error(), Some(1053));
        assert!(
            left[0].error_text().contains("allowed networks have changed"),
            "{left:?}"
        );
    }
    assert_eq!(error_code(project.endpoint.try_connect().await), 1045);
    let shown = selkie.cli(&["project", "show", &project.id]).await.ok();
    assert!(
        shown.contains("allowed networks") && shown.contains("192.0.2.7"),
        "{shown}"
    );

    let refused = allow(&["192.0.2.7/8"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("192.0.0.0/8"), "{refused:?}");
    assert_eq!(
        error_code(project.endpoint.try_connect().await),
        1045,
        "a refused list changes nothing"
    );

    allow(&["any"]).await.json();
    Raw::login(&project.endpoint).await;
    selkie.logs.check();
}

#[tokio::test]
async fn a_project_that_is_made_for_some_networks_is_never_open_to_others() {
    let selkie = Selkie::shared().await;
    let body = json!({
        "id": "closed", "allowed_networks": ["192.0.2.0/24"], "database": "app",
        "user": {"name": "app", "password": "pw of closed"},
    });
    let endpoint = Endpoint {
        user: "closed.app".into(),
        password: "pw of closed".into(),
        database: "app".into(),
        ..selkie.demo()
    };
    let making = selkie.rest("POST", "/projects", Some(&body));
    tokio::pin!(making);
    let made = loop {
        // Who knows the name before it is there, and tries all the time, never gets in.
        tokio::select! {
            made = &mut making => break made,
            tried = endpoint.try_connect() => assert_eq!(error_code(tried), 1045),
        }
    };
    assert_eq!(
        (made.status, &made.json()["allowed_networks"]),
        (201, &json!(["192.0.2.0/24"]))
    );
    assert_eq!(error_code(endpoint.try_connect().await), 1045);

    let made = selkie
        .cli(&[
            "project",
            "create",
            "closed-too",
            "--json",
            "--allow-network",
            "192.0.2.0/24",
            "--allow-network",
            "::1",
        ])
        .await
        .json();
    assert_eq!(made["allowed_networks"], json!(["192.0.2.0/24", "::1"]));
    let refused = selkie
        .cli(&["project", "create", "refused", "--allow-network", "192.0.2.7/8"])
        .await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("192.0.0.0/8"), "{refused:?}");
    assert_eq!(selkie.rest("GET", "/projects/refused", None).await.status, 404);
    // Opened, the right password is one again.
    selkie.cli(&["project", "allow-network", "closed", "any"]).await.ok();
    endpoint.connect().await;
    selkie.logs.check();
}
