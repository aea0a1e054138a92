//! What a client asks of its last statement when its session has left the connection that ran it.

use harness::raw::Kind;
use harness::{Raw, Selkie};

use crate::park::{parks, quick};
use crate::relay_prepared::{prepare, run};

#[tokio::test]
async fn what_may_be_asked_of_the_last_statement_can_be_asked_after_a_park() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("last").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a TINYINT)")
        .await
        .ok();
    raw.query("SET sql_mode=''").await.ok();
    for (statement, question) in [
        ("INSERT INTO t (a) VALUES (1), (2), (3)", "SELECT ROW_COUNT()"),
        ("INSERT INTO t (a) VALUES (1)", "select row_count();"),
        (
            "SELECT SQL_CALC_FOUND_ROWS 1 UNION SELECT 2 UNION SELECT 3 LIMIT 1",
            "SELECT FOUND_ROWS()",
        ),
        ("INSERT INTO t (a) VALUES (1000)", "SHOW COUNT(*) WARNINGS"),
        ("INSERT INTO t (a) VALUES (1000)", "SELECT @@warning_count"),
        ("INSERT INTO t (a) VALUES (1000)", "SHOW WARNINGS"),
        ("SELECT nonsense", "SHOW WARNINGS"),
        ("SELECT nonsense", "SELECT @@error_count"),
        ("SELECT nonsense", "SHOW COUNT(*) ERRORS"),
        ("SELECT 1 + 'a', 1 + 'b', 1 + 'c'", "SHOW WARNINGS LIMIT 2"),
        ("SELECT 1 + 'a', 1 + 'b', 1 + 'c'", "show warnings limit 1, 2"),
        ("SELECT 1 + 'a', 1 + 'b', 1 + 'c'", "SHOW WARNINGS LIMIT 1 OFFSET 2"),
        ("SELECT 1 + 'a', 1 + 'b', 1 + 'c'", "SHOW ERRORS"),
        ("SELECT nonsense", "SHOW ERRORS LIMIT 1"),
        ("SELECT 1", "SHOW WARNINGS"),
        (
            "INSERT INTO t (a) VALUES (1000)",
            "SELECT @@session.warning_count AS w, @@error_count",
        ),
        (
            "SELECT 1 UNION SELECT 2",
            "SELECT ROW_COUNT() AS `n`, LAST_INSERT_ID() id, found_rows()",
        ),
    ] {
        raw.query(statement).await;
        let direct = raw.query(question).await.ok();
        raw.query(statement).await;
        project.suspend().await;
        // The same to the last byte of the metadata.
        assert_eq!(raw.query(question).await.ok(), direct, "{statement}: {question}");
    }
    raw.query("INSERT INTO t VALUES (NULL, 1)").await.ok();
    let id = raw.query("SELECT LAST_INSERT_ID()").await.ok();
    project.suspend().await;
    assert_eq!(raw.query("SELECT LAST_INSERT_ID()").await.ok(), id);
    selkie.logs.check();
}

#[tokio::test]
async fn a_question_for_the_last_statement_that_was_not_kept_is_refused() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("notkept").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("CREATE TABLE t (a INT)").await.ok();
    for question in [
        "GET DIAGNOSTICS CONDITION 1 @m = MESSAGE_TEXT",
        "INSERT INTO t VALUES (ROW_COUNT())",
        "SELECT 1 + @@warning_count",
    ] {
        raw.query("SELECT 1 + 'a'").await.ok();
        project.suspend().await;
        let told = raw.query(question).await;
        assert_eq!(told.error(), Some(1105), "{question}: {told:?}");
        assert!(told.error_text().contains("SHOW WARNINGS"), "{told:?}");
        assert_eq!(
            raw.query("SELECT @@warning_count").await.ok().text(),
            "1",
            "what was kept can be asked"
        );
    }
    // What a text asks of its own statements is nobody else's.
    project.suspend().await;
    raw.query("INSERT INTO t VALUES (1), (2); SET @n = ROW_COUNT()")
        .await
        .ok();
    assert_eq!(raw.query("SELECT @n").await.ok().text(), "2");
    assert_eq!(raw.query("SELECT COUNT(*) FROM t").await.ok().text(), "2");
    // A prepared one, too.
    let (id, prepared) = prepare(&mut raw, "SELECT ROW_COUNT()").await;
    prepared.ok();
    project.suspend().await;
    let execute = [&[0x17][..], &id.to_le_bytes(), &[0, 1, 0, 0, 0]].concat();
    let told = run(&mut raw, &execute, Kind::Query).await;
    assert_eq!(told.error(), Some(1105), "{told:?}");
    raw.query("DO 1").await.ok();
    run(&mut raw, &execute, Kind::Query).await.ok();
    selkie.logs.check();
}

#[tokio::test]
async fn a_session_with_warnings_leaves_its_connection_only_when_that_is_wanted() {
    let selkie = quick().await;
    let project = selkie.project("warned").await;
    let mut warned = Raw::login(&project.endpoint).await;
    let mut other = Raw::login(&project.endpoint).await;
    other.query("SELECT 1").await.ok();
    warned.query("SELECT 1 + 'a'").await.ok();
    // It has been idle for as long as this one, which parks and is given another connection.
    parks(&mut other, "a session that was warned").await;
    warned.query("GET DIAGNOSTICS CONDITION 1 @m = MESSAGE_TEXT").await.ok();
    let said = warned.query("SELECT @m").await.ok().text();
    assert!(said.contains("Truncated"), "{said}");
    parks(&mut warned, "its warnings are gone").await;
    warned.query("SELECT 1 + 'a'").await.ok();
    project.suspend().await;
    assert_eq!(warned.query("SHOW COUNT(*) WARNINGS").await.ok().text(), "1");
    selkie.logs.check();
}
