//! A user made by REST or by the command line logs in at once, with either method, and may do what it should and no more.

use harness::client::{error_code, run, value};
use harness::raw::{Login, Plugin};
use harness::{Raw, Selkie};
use mysql_async::prelude::Queryable;

#[tokio::test]
async fn a_user_logs_in_as_soon_as_it_is_made() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("made").await;
    for awake in [false, true] {
        for plugin in [Plugin::Native, Plugin::CachingSha2, Plugin::CachingSha2Empty] {
            let name = format!("u{awake}{plugin:?}").to_lowercase();
            let user = project.user(&name, "p\u{e4}ss 'word\\").await;
            let mut raw = Raw::login_with(
                &user,
                Login {
                    plugin,
                    ..Login::default()
                },
            )
            .await;
            if awake {
                assert_eq!(
                    raw.query("SELECT CURRENT_USER()").await.ok().text(),
                    format!("{name}@%")
                );
            }
        }
        if !awake {
            assert_eq!(project.compute().await.incarnation, 0);
        }
    }
    selkie.logs.check();
}

#[tokio::test]
async fn a_user_owns_its_databases_and_nothing_else() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("rights").await;
    let mut conn = project.endpoint.connect().await;
    run(&mut conn, "CREATE TABLE t (a INT)").await;
    run(&mut conn, "CREATE VIEW v AS SELECT * FROM t").await;
    for forbidden in [
        "SELECT * FROM mysql.global_priv",
        "SELECT * FROM mysql.user",
        "SET GLOBAL max_connections = 5",
        "CREATE USER stranger",
        "SHUTDOWN",
        "SELECT LOAD_FILE('/etc/passwd') INTO OUTFILE '/tmp/selkie-never'",
        "INSTALL SONAME 'metadata_lock_info'",
        "GRANT ALL ON *.* TO app@`%`",
    ] {
        let code = error_code(conn.query_drop(forbidden).await);
        assert!([1044, 1045, 1142, 1227, 1290].contains(&code), "{forbidden}: {code}");
    }
    let databases: Vec<String> = conn.query("SHOW DATABASES").await.unwrap();
    assert_eq!(databases, ["app", "information_schema"]);
    selkie.logs.check();
}

#[tokio::test]
async fn a_database_made_while_awake_can_be_used_at_once() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("more-data").await;
    project.wake().await;
    project.database("second").await;
    let mut conn = project.endpoint.with_database("second").connect().await;
    run(&mut conn, "CREATE TABLE t (a INT)").await;
    assert_eq!(value(&mut conn, "SELECT DATABASE()").await.as_deref(), Some("second"));
    selkie.logs.check();
}

#[tokio::test]
async fn users_of_one_project_do_not_exist_in_another() {
    let selkie = Selkie::shared().await;
    let (one, two) = (selkie.project("apart-one").await, selkie.project("apart-two").await);
    let only_one = one.user("only", "the password of only").await;
    only_one.connect().await;
    let bare = only_one.user.split('.').nth(1).unwrap();
    let there = only_one.with_user(&format!("{}.{bare}", two.id));
    assert_eq!(error_code(there.try_connect().await), 1045);
    selkie.logs.check();
}
