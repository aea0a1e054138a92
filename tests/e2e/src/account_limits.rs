//! What a tenant's admin limits of an account by SQL holds at the gateway: MAX_QUERIES_PER_HOUR and its kin, and passwords
//! that have expired. What is refused there does not wake a database.

use harness::client::{error_code, run, value};
use harness::raw::{Kind, Login, caps};
use harness::{Endpoint, Project, Raw, Selkie, eventually};
use serde_json::json;

/// The client understands a login that may only change its password.
const CAN_HANDLE_EXPIRED_PASSWORDS: u64 = 1 << 22;

/// A project with an admin, who is logged in.
async fn with_boss<'a>(selkie: &'a Selkie, name: &str) -> (Project<'a>, mysql_async::Conn) {
    let project = selkie.project(name).await;
    let boss = project.admin("boss", "boss pw").await.connect().await;
    (project, boss)
}

fn user(project: &Project<'_>, name: &str, password: &str) -> Endpoint {
    project
        .endpoint
        .with_user(&format!("{}.{name}", project.id))
        .with_password(password)
}

/// Runs it; the code of the error, or 0.
async fn code(raw: &mut Raw, sql: &str) -> u16 {
    raw.query(sql).await.error().unwrap_or(0)
}

#[tokio::test]
async fn queries_and_updates_of_an_hour_are_limited_asleep_and_awake() {
    let selkie = Selkie::shared().await;
    let (project, mut boss) = with_boss(selkie, "limits").await;
    run(
        &mut boss,
        "CREATE TABLE t (a INT); CREATE USER few IDENTIFIED BY 'x' WITH MAX_QUERIES_PER_HOUR 3 MAX_UPDATES_PER_HOUR 1; \
         GRANT ALL ON app.* TO few; CREATE USER free IDENTIFIED BY 'x'; GRANT ALL ON app.* TO free",
    )
    .await;
    let few = user(&project, "few", "x");
    let mut session = Raw::login(&few).await;
    assert_eq!(code(&mut session, "INSERT INTO t VALUES (1)").await, 0);
    let refused = session.query("DELETE FROM t").await;
    assert_eq!(
        (refused.error(), refused.error_text().as_str()),
        (
            Some(1226),
            "#42000User 'few' has exceeded the 'max_updates_per_hour' resource (current value: 1)"
        )
    );
    assert_eq!(code(&mut session, "SET @a = 1").await, 0, "asked: three");
    // All sessions of the account together; commands that are no statements are free.
    let mut other = Raw::login(&few).await;
    let refused = other.query("SELECT 1").await;
    assert_eq!(
        refused.error_text(),
        "#42000User 'few' has exceeded the 'max_queries_per_hour' resource (current value: 3)"
    );
    other.command(0x0e, b"").await;
    assert_eq!(other.response(Kind::Single).await.error(), None, "a ping");
    assert_eq!(value(&mut boss, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
    let mut free = Raw::login(&user(&project, "free", "x")).await;
    for _ in 0..5 {
        assert_eq!(code(&mut free, "INSERT INTO t VALUES (2)").await, 0);
    }

    drop((session, other, free));
    project.suspend().await;
    let mut session = Raw::login(&few).await;
    for text in ["SELECT 1", "SET autocommit=1", "SET autocommit=1; SELECT 1"] {
        assert_eq!(code(&mut session, text).await, 1226, "{text}");
    }
    assert_eq!(project.compute().await.state, "suspended", "nothing of it wakes");
    run(&mut boss, "ALTER USER few WITH MAX_QUERIES_PER_HOUR 2").await;
    // One is answered by the gateway, the next wakes or finds the compute; each counts once.
    assert_eq!(code(&mut session, "SET autocommit=1").await, 0, "counted anew");
    project.suspend().await;
    assert_eq!(code(&mut session, "SELECT 1").await, 0);
    assert_eq!(code(&mut session, "SELECT 1").await, 1226);
    selkie.logs.check();
}

#[tokio::test]
async fn counters_begin_anew_with_flush_user_resources() {
    let selkie = Selkie::shared().await;
    let (project, mut boss) = with_boss(selkie, "limits-flush").await;
    // Who may make accounts may own the server, and with it RELOAD.
    run(
        &mut boss,
        "ALTER USER root@localhost IDENTIFIED BY 'own'; RENAME USER root@localhost TO chief; \
         CREATE USER few IDENTIFIED BY 'x' WITH MAX_QUERIES_PER_HOUR 1",
    )
    .await;
    let mut chief = user(&project, "chief", "own").with_database("").connect().await;
    let mut session = Raw::login(&user(&project, "few", "x").with_database("")).await;
    assert_eq!(code(&mut session, "SELECT 1").await, 0);
    assert_eq!(code(&mut session, "SELECT 1").await, 1226);
    run(&mut chief, "FLUSH USER_RESOURCES").await;
    assert_eq!(code(&mut session, "SELECT 1").await, 0);
    assert_eq!(code(&mut session, "SELECT 1").await, 1226);
    selkie.logs.check();
}

#[tokio::test]
async fn sessions_at_one_time_and_logins_of_an_hour_are_limited() {
    let selkie = Selkie::shared().await;
    let (project, mut boss) = with_boss(selkie, "limits-logins").await;
    run(
        &mut boss,
        "CREATE USER one IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 1; \
         CREATE USER twice IDENTIFIED BY 'x' WITH MAX_CONNECTIONS_PER_HOUR 2; \
         CREATE USER nobody IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS -1",
    )
    .await;
    let to = |name: &str| user(&project, name, "x").with_database("");
    let refused = async |name: &str| match to(name).try_connect().await {
        Err(mysql_async::Error::Server(told)) => (told.code, told.message),
        other => panic!("{other:?}"),
    };
    let text = |user: &str, resource: &str, value: i64| {
        let text = format!("User '{user}' has exceeded the '{resource}' resource (current value: {value})");
        (1226, text)
    };
    let mut first = Raw::login(&to("one")).await;
    assert_eq!(refused("one").await, text("one", "max_user_connections", 1));
    assert_eq!(code(&mut first, "SELECT 1").await, 0);
    project.suspend().await;
    assert_eq!(refused("one").await.0, 1226, "a session counts without a compute, too");
    assert_eq!(
        error_code(to("one").with_password("y").try_connect().await),
        1045,
        "told to nobody else"
    );
    drop(first);
    eventually("the place is free", async || to("one").try_connect().await.ok()).await;

    for _ in 0..2 {
        to("twice").connect().await;
    }
    assert_eq!(refused("twice").await, text("twice", "max_connections_per_hour", 2));
    assert_eq!(refused("nobody").await, text("nobody", "max_user_connections", -1));
    run(&mut boss, "ALTER USER nobody WITH MAX_USER_CONNECTIONS 0").await;
    to("nobody").connect().await;
    selkie.logs.check();
}

#[tokio::test]
async fn an_expired_password_lets_in_to_set_another_and_wakes_nobody() {
    let selkie = Selkie::shared().await;
    let (project, mut boss) = with_boss(selkie, "expired").await;
    run(
        &mut boss,
        "CREATE USER old IDENTIFIED BY 'x' PASSWORD EXPIRE; GRANT ALL ON app.* TO old; \
         CREATE USER aside IDENTIFIED BY 'x' PASSWORD EXPIRE; \
         SET timestamp = UNIX_TIMESTAMP() - 3 * 86400; \
         CREATE USER aged IDENTIFIED BY 'x' PASSWORD EXPIRE INTERVAL 2 DAY; \
         CREATE USER fresh IDENTIFIED BY 'x' PASSWORD EXPIRE INTERVAL 4 DAY; SET timestamp = DEFAULT",
    )
    .await;
    let old = user(&project, "old", "x");
    project.suspend().await;
    let mut session = Raw::login(&old).await;
    let refused = session.query("SELECT @@version_comment LIMIT 1").await;
    assert_eq!(
        (refused.error(), refused.error_text().as_str()),
        (
            Some(1820),
            "#HY000You must SET PASSWORD before executing this statement"
        )
    );
    for text in [
        "SELECT 1",
        "SET autocommit=1; SELECT 1",
        "SET STATEMENT max_statement_time=1 FOR SELECT 1",
        "BEGIN",
    ] {
        assert_eq!(code(&mut session, text).await, 1820, "{text}");
    }
    assert_eq!(code(&mut session, "SET autocommit=1").await, 0);
    for command in [&b"\x02app"[..], b"\x1f", b"\x16SELECT 1", b"\x09"] {
        session.send(0, command).await;
        assert_eq!(session.response(Kind::Single).await.error(), Some(1820), "{command:?}");
    }
    assert_eq!(error_code(old.with_password("y").try_connect().await), 1045);
    assert_eq!(project.compute().await.state, "suspended");

    // Awake it is the same, until another password is set.
    assert_eq!(code(&mut session, "SET @a = (SELECT 41)").await, 0);
    assert_eq!(project.compute().await.state, "ready");
    assert_eq!(code(&mut session, "SELECT @a").await, 1820);
    let mut second = Raw::login(&old).await;
    assert_eq!(code(&mut session, "SET PASSWORD = PASSWORD('y')").await, 0);
    assert_eq!(session.query("SELECT @a").await.ok().text(), "41");
    assert_eq!(
        code(&mut second, "SELECT 1").await,
        1820,
        "it logged in with the expired one"
    );
    let old = old.with_password("y");
    assert_eq!(Raw::login(&old).await.query("SELECT 1").await.ok().text(), "1");

    let mut aside = Raw::login(&user(&project, "aside", "x").with_database("")).await;
    assert_eq!(code(&mut aside, "SET @b = 1, PASSWORD = PASSWORD('y')").await, 0);
    assert_eq!(aside.query("SELECT @b").await.ok().text(), "1");

    // Who is logged in stays so when the password expires, over parks and suspends.
    run(&mut boss, "ALTER USER old PASSWORD EXPIRE").await;
    project.suspend().await;
    assert_eq!(session.query("SELECT 2").await.ok().text(), "2");
    assert_eq!(code(&mut Raw::login(&old).await, "SELECT 1").await, 1820);

    let asks = async |name: &str| {
        let endpoint = user(&project, name, "x").with_database("");
        code(&mut Raw::login(&endpoint).await, "SELECT 1").await
    };
    assert_eq!((asks("aged").await, asks("fresh").await), (1820, 0));
    selkie.logs.check();
}

#[tokio::test]
async fn a_server_that_turns_expired_passwords_away_does_so_at_the_gateway() {
    let selkie = Selkie::shared().await;
    let (project, mut boss) = with_boss(selkie, "expired-away").await;
    run(
        &mut boss,
        "ALTER USER root@localhost IDENTIFIED BY 'own'; RENAME USER root@localhost TO chief; \
         CREATE USER old IDENTIFIED BY 'x' PASSWORD EXPIRE",
    )
    .await;
    let mut chief = user(&project, "chief", "own").with_database("").connect().await;
    let old = user(&project, "old", "x").with_database("");
    // FLUSH makes the agent look, at variables, too.
    run(
        &mut chief,
        "SET GLOBAL disconnect_on_expired_password = ON; FLUSH PRIVILEGES",
    )
    .await;
    assert_eq!(error_code(old.try_connect().await), 1862);
    assert_eq!(error_code(old.with_password("y").try_connect().await), 1045);
    let can_handle = Login {
        caps: caps::USUAL | CAN_HANDLE_EXPIRED_PASSWORDS,
        ..Login::default()
    };
    let mut session = Raw::login_with(&old, can_handle).await;
    assert_eq!(code(&mut session, "SELECT 1").await, 1820);
    selkie.logs.check();
}

#[tokio::test]
async fn a_password_that_rest_gives_has_not_expired() {
    let selkie = Selkie::shared().await;
    let (project, mut boss) = with_boss(selkie, "expired-rest").await;
    run(&mut boss, "ALTER USER app PASSWORD EXPIRE").await;
    let app = &project.endpoint;
    assert_eq!(code(&mut Raw::login(app).await, "SELECT 1").await, 1820);
    let path = format!("/projects/{}/users/app", project.id);
    let changed = selkie.rest("PATCH", &path, Some(&json!({"password": "given"}))).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    for _ in 0..2 {
        let mut session = Raw::login(&app.with_password("given")).await;
        assert_eq!(session.query("SELECT 1").await.ok().text(), "1");
        drop(session);
        project.suspend().await;
    }
    selkie.logs.check();
}
