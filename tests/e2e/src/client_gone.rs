//! A client that goes away in the middle of a statement takes the statement along, unless it had said goodbye.

use harness::client::{Endpoint, run, value};
use harness::{Raw, Selkie, eventually};
use mysql_async::Conn;

/// Waits for a lock of the witness's for longer than any guard: only a KILL ends it in time. (In SLEEP() MariaDB looks itself
/// whether its client is there, every 5 s.)
const LONG: &str = "SET STATEMENT innodb_lock_wait_timeout=1000 FOR UPDATE locked SET a = 2";
/// More than a gateway has under way at once, so that it stops reading.
const PIPELINED: usize = 600;

/// A connection that holds the lock, and sees what the same user is at.
async fn witness(endpoint: &Endpoint) -> Conn {
    let mut witness = endpoint.connect().await;
    run(&mut witness, "CREATE TABLE locked (a INT)").await;
    run(&mut witness, "INSERT INTO locked VALUES (1)").await;
    run(&mut witness, "BEGIN").await;
    run(&mut witness, "DO (SELECT a FROM locked FOR UPDATE)").await;
    witness
}

/// Waits until so many of the user's threads are at the long statement.
async fn at_work(witness: &mut Conn, expected: &str) {
    let count = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = '{LONG}'");
    eventually(format_args!("{expected} at {LONG}"), async || {
        let seen = value(witness, &count).await;
        (seen.as_deref() == Some(expected)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_statement_along() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("vanish").await;
    let mut witness = witness(&project.endpoint).await;
    let mut client = Raw::login(&project.endpoint).await;
    client.command(0x03, LONG.as_bytes()).await;
    at_work(&mut witness, "1").await;
    drop(client);
    at_work(&mut witness, "0").await;
    selkie.logs.check();
}

#[tokio::test]
async fn it_is_seen_to_be_gone_also_behind_what_it_sent_and_nobody_read() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("unread").await;
    let mut witness = witness(&project.endpoint).await;
    let mut client = Raw::login(&project.endpoint).await;
    client.command(0x03, LONG.as_bytes()).await;
    at_work(&mut witness, "1").await;
    client.write(&[1, 0, 0, 0, 0x0e].repeat(PIPELINED)).await.unwrap();
    drop(client);
    at_work(&mut witness, "0").await;
    selkie.logs.check();
}

#[tokio::test]
async fn a_statement_whose_client_has_said_goodbye_is_done() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("goodbye").await;
    let mut witness = project.endpoint.connect().await;
    run(&mut witness, "CREATE TABLE done (a INT)").await;
    // Whether it holds a connection to the database already or is about to get one.
    for (attached, rows) in [(false, "1"), (true, "2")] {
        let mut client = Raw::login(&project.endpoint).await;
        if attached {
            client.query("DO 1").await.ok();
        }
        client.command(0x03, b"INSERT INTO done SELECT 1 + SLEEP(1)").await;
        client.command(0x01, b"").await;
        drop(client);
        eventually("the row of a client that has gone", async || {
            let seen = value(&mut witness, "SELECT COUNT(*) FROM done").await;
            (seen.as_deref() == Some(rows)).then_some(())
        })
        .await;
    }
    selkie.logs.check();
}
