//! Prepared statements of the binary protocol outlive the connection they were prepared on.

use harness::raw::Kind;
use harness::{Raw, Selkie};

use crate::relay_prepared::{LAST_PREPARED, bigint, execute, prepare, run, with_id};

#[tokio::test]
async fn a_statement_is_executed_after_a_suspend_with_the_types_it_was_given_before() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("again").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("CREATE TABLE t (a BIGINT)").await.ok();
    let (insert, _) = prepare(&mut raw, "INSERT INTO t VALUES (?)").await;
    run(&mut raw, &execute(insert, 0, &bigint(1)), Kind::Query).await.ok();
    // Without types, as clients do from the second time on.
    let again = |value: i64| execute(insert, 0, &[&[0, 0][..], &value.to_le_bytes()].concat());
    run(&mut raw, &again(2), Kind::Query).await.ok();
    project.suspend().await;
    run(&mut raw, &again(3), Kind::Query).await.ok();
    run(&mut raw, &again(4), Kind::Query).await.ok();
    project.suspend().await;
    run(
        &mut raw,
        &execute(LAST_PREPARED, 0, &[&[0, 0][..], &5_i64.to_le_bytes()].concat()),
        Kind::Query,
    )
    .await
    .ok();
    let all = raw.query("SELECT GROUP_CONCAT(a ORDER BY a) FROM t").await.ok().text();
    assert_eq!(all, "1,2,3,4,5");
    selkie.logs.check();
}

#[tokio::test]
async fn a_statement_keeps_the_schema_and_modes_it_was_prepared_under() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("modes").await;
    project.database("second").await;
    let mut raw = Raw::login(&project.endpoint).await;
    for statement in [
        "CREATE TABLE t SELECT 'first' AS a",
        "CREATE TABLE second.t SELECT 'second' AS a",
        "SET sql_mode='ANSI_QUOTES'",
    ] {
        raw.query(statement).await.ok();
    }
    let (select, _) = prepare(&mut raw, "SELECT \"a\" FROM t").await;
    raw.query("SET sql_mode=''").await.ok();
    raw.query("USE second").await.ok();
    let before = run(&mut raw, &execute(select, 0, b""), Kind::Query).await.ok();
    // The server reports the first.
    for (set, mode) in [
        ("SET sql_mode='PIPES_AS_CONCAT'", "PIPES_AS_CONCAT"),
        ("SET @@sql_mode='PAD_CHAR_TO_FULL_LENGTH'", "PAD_CHAR_TO_FULL_LENGTH"),
    ] {
        project.suspend().await;
        raw.query("SELECT 1").await.ok();
        raw.query(set).await.ok();
        let after = run(&mut raw, &execute(select, 0, b""), Kind::Query).await.ok();
        assert_eq!(after, before, "{set}");
        let now = raw.query("SELECT CONCAT(@@sql_mode, DATABASE(), \"x\")").await;
        assert_eq!(now.ok().text(), format!("{mode}secondx"), "the session is where it was");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn a_statement_that_cannot_be_prepared_again_says_so_and_the_session_goes_on() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("dropped").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("CREATE TABLE t (a INT)").await.ok();
    let (select, _) = prepare(&mut raw, "SELECT a FROM t").await;
    project.suspend().await;
    raw.query("DROP TABLE t").await.ok();
    assert_eq!(
        run(&mut raw, &execute(select, 0, b""), Kind::Query).await.error(),
        Some(1146)
    );
    raw.query("CREATE TABLE t (a INT)").await.ok();
    run(&mut raw, &execute(select, 0, b""), Kind::Query).await.ok();
    selkie.logs.check();
}

#[tokio::test]
async fn a_parked_session_answers_for_its_statements() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("answers").await;
    let mut raw = Raw::login(&project.endpoint).await;
    let (kept, _) = prepare(&mut raw, "SELECT 1").await;
    let (closed, _) = prepare(&mut raw, "SELECT 2").await;
    project.suspend().await;
    raw.send(0, &with_id(0x19, closed, b"")).await; // COM_STMT_CLOSE, not answered
    run(&mut raw, &with_id(0x1a, kept, b""), Kind::Single).await.ok(); // COM_STMT_RESET
    assert_eq!(project.compute().await.state, "suspended", "and none of it wakes");
    for unknown in [with_id(0x1a, closed, b""), execute(closed, 0, b"")] {
        assert_eq!(run(&mut raw, &unknown, Kind::Single).await.error(), Some(1243));
        assert!(
            raw.query("SHOW WARNINGS").await.ok().packets.len() > 5,
            "and the server knows of it"
        );
    }
    run(&mut raw, &execute(kept, 0, b""), Kind::Query).await.ok();
    selkie.logs.check();
}

#[tokio::test]
async fn long_data_and_cursors_keep_their_connection() {
    let selkie = Selkie::start_with("gateway.park_after = \"50ms\"").await;
    let project = selkie.project("tied").await;
    let mut raw = Raw::login(&project.endpoint).await;
    let (long, _) = prepare(&mut raw, "SELECT LENGTH(?)").await;
    raw.send(0, &with_id(0x18, long, b"\0\0twelve bytes")).await; // COM_STMT_SEND_LONG_DATA, not answered
    let pins = async || selkie.metric("selkie_gateway_pins_total").await;
    harness::eventually("long data ties", async || (pins().await >= 1.0).then_some(())).await;
    let parameters = [0, 1, 0xfc, 0];
    let answer = run(&mut raw, &execute(long, 0, &parameters), Kind::Query).await.ok();
    assert!(
        answer
            .packets
            .iter()
            .any(|packet| packet.payload.ends_with(&[12, 0, 0, 0])),
        "{answer:?}"
    );

    let (rows, _) = prepare(&mut raw, "SELECT 1 UNION SELECT 2 UNION SELECT 3").await;
    run(&mut raw, &execute(rows, 1, b""), Kind::Query).await.ok();
    let before = pins().await;
    harness::eventually("a cursor ties", async || (pins().await > before).then_some(())).await;
    let fetched = run(&mut raw, &with_id(0x1c, rows, &10_u32.to_le_bytes()), Kind::Fetch)
        .await
        .ok();
    assert_eq!(fetched.packets.len(), 4, "three rows and the end: {fetched:?}");
    selkie.logs.check();
}
