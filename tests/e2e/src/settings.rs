//! Settings of a project on its real server: set while it runs and while it sleeps, kept over sleeps.

use harness::client::{run, value};
use harness::{Project, Selkie};
use serde_json::{Value, json};

async fn setting(selkie: &Selkie, project: &Project<'_>, name: &str) -> Value {
    let path = format!("/projects/{}/settings/{name}", project.id);
    let answer = selkie.rest("GET", &path, None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn global(project: &Project<'_>, name: &str) -> String {
    let mut conn = project.endpoint.connect().await;
    value(&mut conn, &format!("SELECT @@global.{name}"))
        .await
        .unwrap_or_default()
}

#[tokio::test]
async fn a_setting_holds_at_once_over_a_sleep_and_until_it_is_unset() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("settings").await;
    project.wake().await;
    let path = format!("/projects/{}/settings", project.id);
    let body = json!({
        "sql_mode": "ANSI", "time_zone": "Europe/Berlin", "wait_timeout": 1234, "max_allowed_packet": "32M",
        "ft_min_word_len": 2, "character_set_server": "latin1",
    });
    let set = selkie.rest("PATCH", &path, Some(&body)).await;
    assert_eq!(set.status, 200, "{set:?}");
    for name in [
        "sql_mode",
        "time_zone",
        "wait_timeout",
        "max_allowed_packet",
        "character_set_server",
        "collation_server",
    ] {
        let shown = setting(selkie, &project, name).await;
        assert_eq!(shown["running"], shown["value"], "{name}");
        assert_eq!(shown["value"], global(&project, name).await, "{name}: {shown}");
    }
    let word = setting(selkie, &project, "ft_min_word_len").await;
    assert_eq!(
        (&word["value"], &word["running"]),
        (&json!("2"), &json!("4")),
        "at the next start"
    );
    let mut conn = project.endpoint.connect().await;
    assert_eq!(
        value(&mut conn, "SELECT 'a' || 'b'").await.as_deref(),
        Some("ab"),
        "a new session has them"
    );
    drop(conn);

    project.suspend().await;
    assert_eq!(setting(selkie, &project, "wait_timeout").await.get("running"), None);
    let unset = selkie
        .rest("PATCH", &path, Some(&json!({"time_zone": null, "wait_timeout": 4321})))
        .await;
    assert_eq!(unset.status, 200, "{unset:?}");
    project.wake().await;
    for (name, expected) in [
        ("ft_min_word_len", "2"),
        ("time_zone", "SYSTEM"),
        ("wait_timeout", "4321"),
        (
            "sql_mode",
            "REAL_AS_FLOAT,PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ANSI",
        ),
        ("collation_server", "latin1_swedish_ci"),
    ] {
        assert_eq!(global(&project, name).await, expected, "{name}");
        assert_eq!(setting(selkie, &project, name).await["running"], expected, "{name}");
    }

    let cleared = selkie.rest("PUT", &path, Some(&json!({}))).await;
    assert_eq!(cleared.status, 200, "{cleared:?}");
    for name in ["sql_mode", "wait_timeout", "collation_server"] {
        let shown = setting(selkie, &project, name).await;
        assert_eq!(
            (&shown["running"], &shown["is_set"]),
            (&shown["default"], &json!(false)),
            "{name}"
        );
        assert_eq!(shown["default"], global(&project, name).await, "{name}");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn what_would_lock_gateway_or_agent_out_does_not() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("settings-hard").await;
    let path = format!("/projects/{}/settings", project.id);
    let body = json!({
        "sql_mode": "ORACLE,NO_BACKSLASH_ESCAPES,EMPTY_STRING_IS_NULL", "max_statement_time": "0.5", "wait_timeout": 1,
        "idle_transaction_timeout": 1, "max_allowed_packet": 65536, "tx_isolation": "SERIALIZABLE",
    });
    let set = selkie.rest("PATCH", &path, Some(&body)).await;
    assert_eq!(set.status, 200, "{set:?}");
    project.wake().await;
    let mut conn = project.endpoint.connect().await;
    run(&mut conn, "CREATE TABLE t (a INT)").await;
    drop(conn);
    let made = selkie
        .rest(
            "POST",
            &format!("/projects/{}/users", project.id),
            Some(&json!({"name": "late", "password": "pw"})),
        )
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let late = project
        .endpoint
        .with_user(&format!("{}.late", project.id))
        .with_password("pw");
    let mut conn = late.connect().await;
    assert_eq!(value(&mut conn, "SELECT COUNT(*) FROM t").await.as_deref(), Some("0"));
    drop(conn);
    project.suspend().await;
    assert_eq!(global(&project, "wait_timeout").await, "1");
    selkie.logs.check();
}

#[tokio::test]
async fn what_may_not_be_set_is_refused_and_the_project_still_starts() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("settings-no").await;
    for (name, value) in [
        ("socket", "/tmp/x"),
        ("datadir", "/tmp"),
        ("plugin_dir", "/tmp"),
        ("init_file", "/tmp/x"),
        ("general_log_file", "/tmp/x"),
        ("time_zone", "No/Where"),
        ("sql_mode", "ANSI\nsocket=/tmp/x"),
        ("collation_server", "latin1_bin"),
    ] {
        let path = format!("/projects/{}/settings/{name}", project.id);
        let refused = selkie.rest("PUT", &path, Some(&json!({"value": value}))).await;
        assert_eq!(refused.status, 422, "{name}: {refused:?}");
        assert!(refused.json()["detail"].as_str().unwrap().contains(name), "{refused:?}");
    }
    project.wake().await;
    selkie.logs.check();
}
