//! What a database's memory is enough for, and what a client sees where it ends.

use harness::Selkie;
use harness::client::{run, value};
use mysql_async::prelude::Queryable;

/// A procedure that has so many cursors open at once.
fn cursors(name: &str, count: u32) -> String {
    let declared: String = (0..count)
        .map(|n| format!("DECLARE c{n} CURSOR FOR SELECT a FROM t; "))
        .collect();
    let opened: String = (0..count).map(|n| format!("OPEN c{n}; ")).collect();
    format!("CREATE PROCEDURE {name}() BEGIN {declared} {opened} END")
}

#[tokio::test]
async fn a_thousand_open_cursors_fit_the_smallest_size_and_who_wants_more_is_told() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("memory").await;
    let mut conn = project.endpoint.connect().await;
    run(&mut conn, "CREATE TABLE t (a INT)").await;
    run(&mut conn, "INSERT INTO t VALUES (1)").await;
    run(&mut conn, &cursors("fits", 1000)).await;
    run(&mut conn, "CALL fits()").await;
    let incarnation = project.compute().await.incarnation;

    run(&mut conn, &cursors("too_many", 4000)).await;
    // The server's own log has it, too.
    selkie.logs.allow("Out of memory");
    match conn.query_drop("CALL too_many()").await {
        Err(mysql_async::Error::Server(told)) => {
            assert_eq!(told.code, 5, "{told}");
            assert!(told.message.starts_with("Out of memory"), "{told}");
        }
        other => panic!("memory has no end: {other:?}"),
    }
    // The statement has failed, and nothing else.
    assert_eq!(value(&mut conn, "SELECT a FROM t").await.as_deref(), Some("1"));
    assert_eq!(project.compute().await.incarnation, incarnation, "the same server");
    selkie.logs.check();
}
