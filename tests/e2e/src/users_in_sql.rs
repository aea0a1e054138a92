//! Users that a tenant makes in SQL log in like those made by API: with the statement's OK, asleep and awake, and what the
//! statement asks of them holds at the gateway.

use harness::client::{error_code, run, value};
use harness::{Endpoint, Project, Selkie, eventually, http};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// A project with an admin, who is logged in.
async fn with_boss<'a>(selkie: &'a Selkie, name: &str) -> (Project<'a>, Endpoint, mysql_async::Conn) {
    let project = selkie.project(name).await;
    let boss = project.admin("boss", "boss pw").await;
    let conn = boss.connect().await;
    (project, boss, conn)
}

fn user(project: &Project<'_>, name: &str, password: &str) -> Endpoint {
    project
        .endpoint
        .with_user(&format!("{}.{name}", project.id))
        .with_password(password)
        .with_database("")
}

/// What REST says of one user.
async fn listed(selkie: &Selkie, project: &Project<'_>, name: &str) -> Option<Value> {
    let users = selkie
        .rest("GET", &format!("/projects/{}/users", project.id), None)
        .await
        .json();
    let users = users["users"].as_array().expect("a list").clone();
    users.into_iter().find(|user| user["name"] == name)
}

#[tokio::test]
async fn every_statement_holds_with_its_ok() {
    let selkie = Selkie::shared().await;
    let (project, _, mut boss) = with_boss(selkie, "sql-users").await;
    let refused = async |name: &str, password: &str| error_code(user(&project, name, password).try_connect().await);
    run(&mut boss, "CREATE USER ann IDENTIFIED BY 'one'").await;
    let mut ann = user(&project, "ann", "one").connect().await;
    assert_eq!(value(&mut ann, "SELECT CURRENT_USER()").await.as_deref(), Some("ann@%"));
    let in_app = || user(&project, "ann", "one").with_database("app");
    assert_eq!(error_code(in_app().try_connect().await), 1044, "no right on it yet");
    run(&mut boss, "GRANT SELECT ON app.* TO ann").await;
    in_app().connect().await;
    run(&mut boss, "REVOKE SELECT ON app.* FROM ann").await;
    assert_eq!(error_code(in_app().try_connect().await), 1044);

    // A new password ends the old one at once, and no session.
    run(&mut boss, "ALTER USER ann IDENTIFIED BY 'two'").await;
    assert_eq!(refused("ann", "one").await, 1045);
    user(&project, "ann", "two").connect().await;
    assert_eq!(value(&mut ann, "SELECT 1").await.as_deref(), Some("1"), "cut off");
    run(&mut ann, "SET PASSWORD = PASSWORD('three')").await;
    assert_eq!(refused("ann", "two").await, 1045);
    assert_eq!(value(&mut ann, "SELECT 2").await.as_deref(), Some("2"), "cut off");
    let mut again = user(&project, "ann", "three").connect().await;
    assert_eq!(
        value(&mut again, "SELECT 3").await.as_deref(),
        Some("3"),
        "the gateway's own access"
    );

    // A stranger is told nothing of it, whoever knows the password is.
    run(&mut boss, "ALTER USER ann ACCOUNT LOCK").await;
    assert_eq!(
        (refused("ann", "no").await, refused("ann", "three").await),
        (1045, 4151)
    );
    assert_eq!(
        value(&mut ann, "SELECT 4").await.as_deref(),
        Some("4"),
        "a lock is for logins"
    );
    run(&mut boss, "ALTER USER ann REQUIRE SSL ACCOUNT UNLOCK").await;
    assert_eq!(refused("ann", "three").await, 1045, "in the clear");
    run(&mut boss, "ALTER USER ann REQUIRE NONE").await;
    user(&project, "ann", "three").connect().await;

    run(&mut boss, "RENAME USER ann TO `first.last`").await;
    assert_eq!(refused("ann", "three").await, 1045);
    user(&project, "first.last", "three").connect().await;
    run(&mut boss, "SELECT 1; /*!50003 DROP USER `first.last` */").await;
    assert_eq!(refused("first.last", "three").await, 1045);
    selkie.logs.check();
}

#[tokio::test]
async fn they_log_in_asleep_and_after_it_and_what_is_dropped_stays_dropped() {
    let selkie = Selkie::shared().await;
    let (project, boss, mut conn) = with_boss(selkie, "sql-asleep").await;
    run(
        &mut conn,
        "CREATE USER `Zo\u{eb}` IDENTIFIED BY 'z'; GRANT ALL ON app.* TO `Zo\u{eb}`; ALTER USER boss IDENTIFIED BY 'new pw'; \
         DROP USER app",
    )
    .await;
    drop(conn);
    project.suspend().await;
    let zoe = user(&project, "Zo\u{eb}", "z").with_database("app");
    let mut zoe = zoe.connect().await;
    let boss = boss.with_password("new pw");
    assert_eq!(error_code(boss.with_password("boss pw").try_connect().await), 1045);
    assert_eq!(
        error_code(user(&project, "zo\u{eb}", "z").try_connect().await),
        1045,
        "names have a case"
    );
    assert_eq!(error_code(project.endpoint.try_connect().await), 1045, "dropped");
    boss.connect().await;
    assert_eq!(project.compute().await.state, "suspended", "no login wakes");
    run(&mut zoe, "CREATE TABLE t (a INT)").await;
    let mut boss = boss.connect().await;
    assert_eq!(
        value(&mut boss, "SELECT CURRENT_USER()").await.as_deref(),
        Some("boss@%")
    );
    assert_eq!(
        error_code(project.endpoint.try_connect().await),
        1045,
        "made again by the start"
    );
    assert!(listed(selkie, &project, "app").await.is_none());
    selkie.logs.check();
}

#[tokio::test]
async fn who_cannot_log_in_is_listed_with_the_reason() {
    let selkie = Selkie::shared().await;
    let (project, _, mut boss) = with_boss(selkie, "sql-reasons").await;
    run(
        &mut boss,
        "CREATE USER far@'10.%' IDENTIFIED BY 'x'; CREATE USER empty; CREATE USER shut IDENTIFIED BY 'x' ACCOUNT LOCK; \
         CREATE USER cert IDENTIFIED BY 'x' REQUIRE X509; CREATE USER fine IDENTIFIED BY 'x'; \
         CREATE USER key_only IDENTIFIED VIA ed25519 USING PASSWORD('x'); \
         CREATE USER key_too IDENTIFIED VIA ed25519 USING PASSWORD('x') OR mysql_native_password USING PASSWORD('x')",
    )
    .await;
    for (name, code, reason) in [
        ("far", 1045, "10.%"),
        ("empty", 1045, "no password"),
        ("shut", 4151, "locked"),
    ] {
        assert_eq!(
            error_code(user(&project, name, "x").try_connect().await),
            code,
            "{name}"
        );
        let listed = listed(selkie, &project, name)
            .await
            .unwrap_or_else(|| panic!("{name} is not listed"));
        assert_eq!(listed["source"], "sql");
        assert!(
            listed["reason"].as_str().is_some_and(|told| told.contains(reason)),
            "{listed}"
        );
    }
    assert_eq!(
        error_code(user(&project, "cert", "x").try_connect().await),
        1045,
        "without a certificate"
    );
    let cert = listed(selkie, &project, "cert").await.expect("it is listed");
    assert_eq!(cert["require"], "X509", "{cert}");
    assert_eq!(
        error_code(user(&project, "key_only", "x").try_connect().await),
        1045,
        "by a method of which it has nothing"
    );
    for name in ["fine", "cert", "key_only"] {
        let listed = listed(selkie, &project, name).await.expect("listed");
        assert!(listed.get("reason").is_none(), "{listed}");
    }
    let mut key_too = user(&project, "key_too", "x").connect().await;
    assert_eq!(
        value(&mut key_too, "SELECT 1").await.as_deref(),
        Some("1"),
        "by its other method"
    );
    assert_eq!(listed(selkie, &project, "boss").await.expect("listed")["source"], "api");
    selkie.logs.check();
}

#[tokio::test]
async fn what_no_text_shows_is_seen_too() {
    let selkie = Selkie::shared().await;
    let (project, _, mut boss) = with_boss(selkie, "sql-hidden").await;
    for statement in [
        "CREATE PROCEDURE app.make(name TEXT) EXECUTE IMMEDIATE CONCAT('CREATE USER ', name, ' IDENTIFIED BY ''x''')",
        "CREATE PROCEDURE app.change() ALTER USER hidden IDENTIFIED BY 'y'",
        "CREATE PROCEDURE app.drop_it() DROP USER hidden",
    ] {
        run(&mut boss, statement).await;
    }
    let logs_in = async |password: &str| user(&project, "hidden", password).try_connect().await.ok();
    run(&mut boss, "CALL app.make('hidden')").await;
    let mut session = eventually("the user that a procedure made", async || logs_in("x").await).await;
    assert_eq!(value(&mut session, "SELECT 1").await.as_deref(), Some("1"));
    run(&mut boss, "CALL app.change()").await;
    eventually("its new password", async || logs_in("y").await).await;
    assert!(logs_in("x").await.is_none());
    run(&mut boss, "CALL app.drop_it()").await;
    eventually("it is gone", async || logs_in("y").await.is_none().then_some(())).await;
    selkie.logs.check();
}

#[tokio::test]
async fn an_expired_password_lets_in_to_set_another() {
    let selkie = Selkie::shared().await;
    let (project, _, mut boss) = with_boss(selkie, "sql-expired").await;
    run(&mut boss, "CREATE USER old IDENTIFIED BY 'x' PASSWORD EXPIRE").await;
    let mut old = user(&project, "old", "x").connect().await;
    assert_eq!(error_code(old.query_drop("SELECT 1").await), 1820);
    run(&mut old, "SET PASSWORD = PASSWORD('y')").await;
    assert_eq!(value(&mut old, "SELECT 1").await.as_deref(), Some("1"));
    user(&project, "old", "y").connect().await;
    selkie.logs.check();
}

/// A request about one user, with `If-Match` where a tag is given; the answer and its tag.
async fn about(selkie: &Selkie, method: &str, path: &str, tag: &str, body: Option<&Value>) -> (u16, String) {
    let url = format!("{}{path}", selkie.api());
    let headers: &[(&str, &str)] = if tag.is_empty() { &[] } else { &[("If-Match", tag)] };
    let answer = http::request_with(method, &url, Some(&selkie.up().rest.api_key), headers, body).await;
    (answer.status, answer.header("etag").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn rest_changes_and_removes_them_and_leaves_their_rights_alone() {
    let selkie = Selkie::shared().await;
    let (project, _, mut boss) = with_boss(selkie, "sql-rest").await;
    run(
        &mut boss,
        "CREATE TABLE app.t (a INT); CREATE USER ann IDENTIFIED BY 'one'; GRANT SELECT ON app.* TO ann; \
         CREATE USER bob IDENTIFIED BY 'one'; CREATE USER far@'10.%' IDENTIFIED BY 'x'; \
         REVOKE INSERT ON app.* FROM app",
    )
    .await;
    let path = |name: &str| format!("/projects/{}/users/{name}", project.id);
    let get = async |name: &str| about(selkie, "GET", &path(name), "", None).await.1;
    let (before, app_before) = (get("ann").await, get("app").await);
    run(
        &mut boss,
        "ALTER USER ann IDENTIFIED BY 'two'; ALTER USER app IDENTIFIED BY 'by sql'",
    )
    .await;
    let tag = get("ann").await;
    assert!(
        tag != before && get("app").await != app_before,
        "the password is another"
    );
    let given = json!({"password": "three"});
    let patch = async |name: &str, tag: &str| about(selkie, "PATCH", &path(name), tag, Some(&given)).await;
    assert_eq!(patch("ann", &before).await.0, 412);
    assert_eq!(patch("app", &app_before).await.0, 412);
    let (status, told) = patch("ann", &tag).await;
    assert_eq!(
        (status, told.split('-').next()),
        (200, get("ann").await.split('-').next())
    );
    assert_eq!(patch("app", "").await.0, 200);
    project.database("later").await;
    let refused = async |name: &str, password: &str| error_code(user(&project, name, password).try_connect().await);
    for _ in 0..2 {
        assert_eq!(
            (refused("ann", "two").await, refused("app", "by sql").await),
            (1045, 1045)
        );
        let mut ann = user(&project, "ann", "three").with_database("app").connect().await;
        assert_eq!(error_code(ann.query_drop("INSERT INTO t VALUES (1)").await), 1142);
        let mut app = user(&project, "app", "three").with_database("app").connect().await;
        assert_eq!(
            error_code(app.query_drop("INSERT INTO t VALUES (1)").await),
            1142,
            "given back"
        );
        let later = user(&project, "ann", "three").with_database("later");
        assert_eq!(error_code(later.try_connect().await), 1044);
        drop((ann, app));
        project.suspend().await;
    }
    assert_eq!(listed(selkie, &project, "ann").await.expect("listed")["source"], "sql");
    assert_eq!(patch("far", "").await.0, 409, "of another host");
    assert_eq!(patch("nobody", "").await.0, 404);

    // Asleep it is the same.
    assert_eq!(patch("bob", "").await.0, 200);
    let delete = async |name: &str, tag: &str| about(selkie, "DELETE", &path(name), tag, None).await.0;
    assert_eq!(delete("ann", &tag).await, 412);
    assert_eq!(delete("ann", "").await, 204);
    for _ in 0..2 {
        assert_eq!(
            (refused("ann", "three").await, refused("bob", "one").await),
            (1045, 1045)
        );
        assert!(listed(selkie, &project, "ann").await.is_none());
        let mut bob = user(&project, "bob", "three").connect().await;
        assert_eq!(value(&mut bob, "SELECT CURRENT_USER()").await.as_deref(), Some("bob@%"));
    }
    assert_eq!(delete("bob", "").await, 204);
    assert_eq!((delete("bob", "").await, refused("bob", "three").await), (404, 1045));
    run(
        &mut boss,
        "CREATE USER ann IDENTIFIED BY 'anew'; CREATE USER cid IDENTIFIED BY 'x'",
    )
    .await;
    user(&project, "ann", "anew").connect().await;
    assert_eq!(delete("cid", "").await, 204);
    assert_eq!(refused("cid", "x").await, 1045);
    selkie.logs.check();
}
