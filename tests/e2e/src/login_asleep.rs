//! A login is answered while the database sleeps, and never wakes it, whether it is right or wrong.

use harness::raw::{Kind, Login, Packet};
use harness::{Raw, Selkie, eventually};

use crate::oracle::oracle;

#[tokio::test]
async fn login_and_ping_leave_the_database_asleep() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("asleep").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.command(0x0e, b"").await; // COM_PING
    assert_eq!(raw.response(Kind::Single).await.packets[0].payload[0], 0);
    raw.command(0x09, b"").await; // COM_STATISTICS
    let statistics = raw.response(Kind::Single).await;
    assert!(statistics.packets[0].payload.starts_with(b"Uptime: "), "{statistics:?}");
    raw.command(0x1f, b"").await; // COM_RESET_CONNECTION
    assert_eq!(raw.response(Kind::Single).await.packets[0].payload[0], 0);
    raw.command(0x01, b"").await; // COM_QUIT
    assert!(raw.ends().await.is_empty());
    let compute = project.compute().await;
    assert_eq!((compute.state.as_str(), compute.incarnation), ("suspended", 0));
    selkie.logs.check();
}

#[tokio::test]
async fn the_greeting_names_the_version_of_the_real_server() {
    let selkie = Selkie::shared().await;
    let endpoint = &selkie.demo();
    let seen = Raw::connect(&endpoint.host, endpoint.port).await.greeting;
    let direct = oracle().await;
    let expected = Raw::connect(&direct.host, direct.port).await.greeting;
    assert_eq!(seen.version, expected.version);
    assert_eq!((seen.plugin.as_str(), seen.nonce.len()), ("mysql_native_password", 20));
    assert_eq!(seen.status, expected.status);
    let other = Raw::connect(&endpoint.host, endpoint.port).await.greeting;
    assert_ne!(seen.nonce, other.nonce);
    assert_ne!(seen.thread_id, other.thread_id);
    assert!(
        seen.thread_id >= 1 << 31,
        "ids below 2^31 are the computes' own: {}",
        seen.thread_id
    );
}

/// The packet that a failed login ends in, with the name taken out.
async fn refusal(endpoint: &harness::Endpoint, login: &Login) -> Packet {
    let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
    let answer = raw.authenticate(endpoint, login).await;
    assert_eq!(answer.error(), Some(1045), "{answer:?}");
    assert!(raw.ends().await.is_empty(), "the connection closes after the refusal");
    let text = String::from_utf8_lossy(&answer.payload[3..]).replace(&endpoint.user, "NAME");
    Packet {
        seq: answer.seq,
        payload: text.into_bytes(),
    }
}

#[tokio::test]
async fn wrong_password_unknown_user_and_unknown_project_are_answered_alike() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("refused").await;
    let right = &project.endpoint;
    let attempts = [
        right.with_password("wrong"),
        right.with_password(""),
        right.with_user(&format!("{}.nobody", project.id)),
        right.with_user("no-such-project.app"),
        right.with_user("no-such-project.nobody").with_password("wrong"),
        right.with_database("no_such_db").with_password("wrong"),
    ];
    for plugin in [harness::raw::Plugin::Native, harness::raw::Plugin::CachingSha2] {
        let login = Login {
            plugin,
            ..Login::default()
        };
        let mut seen = Vec::new();
        for attempt in &attempts {
            seen.push(refusal(attempt, &login).await);
        }
        let empty = seen.remove(1);
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{plugin:?}: {seen:?}");
        assert_eq!(
            String::from_utf8_lossy(&empty.payload),
            String::from_utf8_lossy(&seen[0].payload).replace("YES", "NO"),
            "MariaDB says whether a password was given"
        );
    }
    assert_eq!(project.compute().await.incarnation, 0);
    let odd_names = [
        "",
        ".",
        "..",
        "app",
        ".app",
        "refused.",
        "UPPER.app",
        "a.b.c",
        "\u{1f9ad}.app",
        "demo.app' OR '1",
    ];
    for name in odd_names {
        refusal(&right.with_user(name), &Login::default()).await;
    }
    let long = "x".repeat(10_000);
    refusal(&right.with_user(&long), &Login::default()).await;
    selkie.logs.check();
}

#[tokio::test]
async fn the_database_named_at_login_is_answered_as_mariadb_would() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("dbname").await;
    let direct = oracle().await;
    for database in ["no_such_db", "mysql", "information_schema", ""] {
        let mut answers = Vec::new();
        for endpoint in [&project.endpoint, direct] {
            let endpoint = endpoint.with_database(database);
            let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
            let answer = raw.authenticate(&endpoint, &Login::default()).await;
            answers.push((answer.error(), answer.error_text()));
        }
        assert_eq!(answers[0], answers[1], "{database:?}");
    }
    assert_eq!(project.compute().await.incarnation, 0);
    selkie.logs.check();
}

#[tokio::test]
async fn a_database_made_in_sql_can_be_named_at_login_at_once_and_asleep() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("dbsql").await;
    let login = async || {
        let mut raw = Raw::connect(&project.endpoint.host, project.endpoint.port).await;
        raw.authenticate(&project.endpoint, &Login::default()).await.error()
    };
    let mut raw = Raw::login(&project.endpoint.with_database("")).await;
    let database = &project.endpoint.database;
    raw.query(&format!("DROP DATABASE `{database}`")).await.ok();
    eventually("the gateway knows that the database is gone", async || {
        (login().await == Some(1049)).then_some(())
    })
    .await;
    raw.query(&format!("CREATE DATABASE `{database}`")).await.ok();
    assert_eq!(login().await, None, "while the compute runs");
    project.suspend().await;
    assert_eq!(login().await, None, "asleep");
    assert_eq!(project.compute().await.incarnation, 1);
    selkie.logs.check();
}
