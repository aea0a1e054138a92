//! What stands in the way of a suspend, seen from inside of the server, and that nobody gets in once nothing does.

use control_api::agent::{QuiesceRequest, ResumeRequest};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::stage::{Compute, Stage, account};

async fn stage() -> (Stage, Compute) {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "a", false)];
    stage.spec.databases = vec!["app".into()];
    let compute = stage.ready().await;
    (stage, compute)
}

async fn quiesce(compute: &Compute, forced_ms: Option<u32>) -> String {
    let request = QuiesceRequest {
        forced: forced_ms.is_some(),
        patience_ms: forced_ms.unwrap_or_default(),
    };
    compute.agent().await.quiesce(request).await.unwrap().into_inner().busy
}

async fn resume(compute: &Compute) {
    compute.agent().await.resume(ResumeRequest {}).await.unwrap();
}

async fn app(compute: &Compute) -> Conn {
    compute.login("app", b"a").await.unwrap()
}

#[tokio::test]
async fn nobody_gets_in_once_nothing_runs_until_it_is_called_off() {
    let (stage, compute) = stage().await;
    let mut conn = app(&compute).await;
    conn.query_drop("CREATE TABLE app.t (a INT)").await.unwrap();
    conn.disconnect().await.unwrap();
    assert_eq!(quiesce(&compute, None).await, "");
    assert!(compute.login("app", b"a").await.is_err());
    assert_eq!(quiesce(&compute, None).await, "", "asked again, it says the same");
    resume(&compute).await;
    resume(&compute).await;
    let mut conn = app(&compute).await;
    conn.query_drop("INSERT INTO app.t VALUES (1)").await.unwrap();
    conn.disconnect().await.unwrap();
    assert_eq!(quiesce(&compute, None).await, "");
    compute.stop().await;
    assert_eq!(
        std::fs::read_dir(&stage.spec.run_dir)
            .unwrap()
            .filter(is_socket)
            .count(),
        0
    );

    let compute = stage.ready().await;
    let mut conn = app(&compute).await;
    assert_eq!(
        conn.query_first::<i32, _>("SELECT a FROM app.t").await.unwrap(),
        Some(1)
    );
    drop(conn);
    compute.stop().await;
}

fn is_socket(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    let kind = entry.as_ref().unwrap().file_type().unwrap();
    std::os::unix::fs::FileTypeExt::is_socket(&kind)
}

#[tokio::test]
async fn any_connection_stands_in_the_way_of_a_suspend_that_is_not_forced() {
    let (_stage, compute) = stage().await;
    let mut conn = app(&compute).await;
    let said = quiesce(&compute, None).await;
    assert!(said.contains("of app is idle"), "{said}");
    conn.query_drop("CREATE TABLE app.t (a INT); BEGIN; INSERT INTO app.t VALUES (1)")
        .await
        .unwrap();
    let said = quiesce(&compute, None).await;
    assert!(said.contains("of app holds a transaction"), "{said}");
    // It was called off each time, so that the next one gets in.
    app(&compute).await.disconnect().await.unwrap();
    let sleeps = conn.query_drop("SELECT SLEEP(2)");
    let asks = async {
        let mut other = app(&compute).await;
        let running = "SELECT 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'";
        while other.query_first::<u8, _>(running).await.unwrap().is_none() {}
        quiesce(&compute, None).await
    };
    let (slept, said) = tokio::join!(sleeps, asks);
    slept.unwrap();
    assert!(said.contains("of app runs a statement"), "{said}");
    conn.disconnect().await.unwrap();
    assert_eq!(quiesce(&compute, None).await, "");
    compute.stop().await;
}

#[tokio::test]
async fn a_connection_that_has_only_dialled_is_seen() {
    let (_stage, compute) = stage().await;
    let mut dialled = UnixStream::connect(compute.spec.server_socket()).await.unwrap();
    assert_eq!(quiesce(&compute, None).await, "somebody is logging in");
    // And it is still being served.
    assert_ne!(dialled.read_u8().await.unwrap(), 0xff);
    drop(dialled);
    assert_eq!(quiesce(&compute, None).await, "");
    compute.stop().await;
}

/// Runs as the server's root, which only a tenant who has taken over its server can be.
async fn root(compute: &Compute, statement: &str) {
    let options = mysql_async::OptsBuilder::default()
        .socket(Some(compute.spec.server_socket().display().to_string()))
        .user(Some("boss"))
        .pass(Some("b"))
        .prefer_socket(false);
    let mut conn = Conn::new(options).await.unwrap();
    conn.query_drop(statement).await.unwrap();
    conn.disconnect().await.unwrap();
}

#[tokio::test]
async fn an_event_under_way_stands_in_the_way_and_one_that_is_due_later_does_not() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("boss", "b", false)];
    stage.spec.databases = vec!["app".into()];
    stage.spec.settings.insert("event_scheduler".into(), "ON".into());
    let compute = stage.ready().await;
    root(
        &compute,
        "CREATE EVENT app.later ON SCHEDULE EVERY 1 HOUR STARTS NOW() + INTERVAL 1 HOUR DO SELECT 1",
    )
    .await;
    assert_eq!(quiesce(&compute, None).await, "");
    resume(&compute).await;
    root(
        &compute,
        "CREATE TABLE app.ran (a INT); CREATE EVENT app.now ON SCHEDULE EVERY 1 HOUR DO \
         BEGIN INSERT INTO app.ran VALUES (1); DO SLEEP(2); END",
    )
    .await;
    let mut boss = compute.login("boss", b"b").await.unwrap();
    let ran = "SELECT 1 FROM app.ran";
    // That it runs at all shows that the scheduler was switched on again.
    while boss.query_first::<u8, _>(ran).await.unwrap().is_none() {}
    boss.disconnect().await.unwrap();
    let said = quiesce(&compute, None).await;
    assert!(said.contains("an event of boss is being executed"), "{said}");
    // Forced, it is waited for.
    assert_eq!(quiesce(&compute, Some(60_000)).await, "");
    compute.stop().await;
}

#[tokio::test]
async fn a_forced_suspend_waits_for_statements_as_long_as_it_was_told() {
    let (_stage, compute) = stage().await;
    let mut conn = app(&compute).await;
    let (slept, said) = tokio::join!(conn.query_drop("SELECT SLEEP(1)"), quiesce(&compute, Some(60_000)));
    slept.unwrap();
    assert_eq!(said, "", "an idle connection is no reason to wait");
    assert!(compute.login("app", b"a").await.is_err(), "the door stays shut");
    let endless = conn.query_drop("SELECT SLEEP(1000)");
    let asks = async {
        loop {
            let said = quiesce(&compute, Some(1)).await;
            if !said.is_empty() {
                return said;
            }
        }
    };
    tokio::select! {
        _ = endless => panic!("it ended"),
        said = asks => assert!(said.contains("of app runs a statement"), "{said}"),
    }
    compute.stop().await;
}
