//! Suspending: who notices, who does not, and what comes after.

use harness::client::{run, value};
use harness::{Raw, Selkie, eventually};

#[tokio::test]
async fn a_client_whose_session_cannot_be_parked_is_told_why_its_connection_ends() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("told").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("CREATE TEMPORARY TABLE mine (a INT)").await.ok();
    project.suspend().await;
    let packets = raw.ends().await;
    let told = packets.last().unwrap_or_else(|| panic!("closed without a word"));
    assert_eq!(told.error(), Some(1053), "{told:?}");
    for part in ["suspend", "a temporary table"] {
        assert!(told.error_text().contains(part), "{told:?}");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn a_connected_client_that_ran_nothing_notices_nothing() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("unaware").await;
    let mut idle = Raw::login(&project.endpoint).await;
    idle.query("SET NAMES latin1").await.ok();
    let mut conn = project.endpoint.connect().await;
    run(&mut conn, "CREATE TABLE t (a INT)").await;
    drop(conn);
    project.suspend().await;
    idle.command(0x0e, b"").await;
    assert_eq!(idle.packet().await.payload[0], 0, "COM_PING while suspended");
    assert_eq!(project.compute().await.state, "suspended");
    assert_eq!(
        idle.query("SELECT CONCAT(COUNT(*), @@character_set_client) FROM t")
            .await
            .ok()
            .text(),
        "0latin1"
    );
    assert_eq!(project.compute().await.incarnation, 2);
    selkie.logs.check();
}

#[tokio::test]
async fn what_was_written_is_there_after_the_next_wake() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("kept").await;
    let mut conn = project.endpoint.connect().await;
    run(&mut conn, "CREATE TABLE t (a INT)").await;
    for round in 1..=3u64 {
        run(&mut conn, "INSERT INTO t VALUES (1)").await;
        drop(conn);
        project.suspend().await;
        conn = project.endpoint.connect().await;
        assert_eq!(
            value(&mut conn, "SELECT COUNT(*) FROM t").await,
            Some(round.to_string())
        );
        assert_eq!(project.compute().await.incarnation, round + 1);
    }
    selkie.logs.check();
}

#[tokio::test]
async fn a_command_sent_while_draining_runs_on_the_next_start() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("draining").await;
    project.wake().await;
    let mut waits = Raw::login(&project.endpoint).await;
    let suspend = project.suspend_without_waiting();
    let asks = async {
        eventually("draining began", async || {
            (project.compute().await.state != "ready").then_some(())
        })
        .await;
        waits.query("SELECT 'after'").await.ok().text()
    };
    let ((), answer) = tokio::join!(suspend, asks);
    assert_eq!(answer, "after");
    assert_eq!(project.compute().await.incarnation, 2);
    selkie.logs.check();
}

#[tokio::test]
async fn suspending_and_waking_twice_is_no_error() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("twice").await;
    project.suspend().await;
    assert_eq!(project.compute().await.incarnation, 0);
    project.wake().await;
    assert_eq!(project.wake().await.incarnation, 1);
    project.suspend().await;
    project.suspend().await;
    assert_eq!(project.compute().await.incarnation, 1);
    selkie.logs.check();
}
