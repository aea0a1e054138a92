//! The first command that needs the database wakes it, once for everybody who waits.

use futures::future::join_all;
use harness::client::{run, value};
use harness::raw::{Kind, frames};
use harness::{Raw, Selkie};
use mysql_async::prelude::Queryable;

#[tokio::test]
async fn the_first_query_wakes_the_database() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("wakes").await;
    let mut conn = project.endpoint.connect().await;
    assert_eq!(project.compute().await.state, "suspended");
    assert_eq!(value(&mut conn, "SELECT 41 + 1").await.as_deref(), Some("42"));
    let compute = project.compute().await;
    assert_eq!((compute.state.as_str(), compute.incarnation), ("ready", 1));
    selkie.logs.check();
}

#[tokio::test]
async fn prepare_wakes_and_so_does_change_of_database() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("wakes-too").await;
    let mut conn = project.endpoint.connect().await;
    let row: Option<u32> = conn.exec_first("SELECT ? + 1", (41,)).await.unwrap();
    assert_eq!(row, Some(42));
    project.suspend().await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.command(0x02, b"app").await; // COM_INIT_DB
    assert_eq!(raw.response(Kind::Single).await.packets[0].payload[0], 0);
    raw.query("SELECT DATABASE()").await.ok();
    assert_eq!(project.compute().await.incarnation, 2);
    selkie.logs.check();
}

/// As many as the smallest compute has places for, so that its queue of new connections is full.
#[tokio::test]
async fn five_hundred_waiting_clients_share_one_start() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("storm").await;
    let mut clients = Vec::new();
    for _ in 0..500 {
        clients.push(Raw::login(&project.endpoint).await);
    }
    assert_eq!(project.compute().await.state, "suspended");
    // Each keeps its connection until all have their answers.
    let answered = join_all(clients.into_iter().enumerate().map(async |(number, mut raw)| {
        let answer = raw.query(&format!("SELECT {number} + 1")).await.ok().text();
        (number, answer, raw)
    }))
    .await;
    for (number, answer, _) in &answered {
        assert_eq!(*answer, (number + 1).to_string());
    }
    assert_eq!(project.compute().await.incarnation, 1);
    selkie.logs.check();
}

#[tokio::test]
async fn commands_sent_ahead_while_it_wakes_are_answered_in_order() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("ahead").await;
    let mut raw = Raw::login(&project.endpoint).await;
    let commands: Vec<u8> = ["SELECT 'one'", "SELEC two", "SELECT 'three'"]
        .iter()
        .flat_map(|sql| frames(0, &[b"\x03", sql.as_bytes()].concat()))
        .collect();
    let (first, second) = commands.split_at(25); // in the middle of a packet
    raw.write(first).await.unwrap();
    raw.write(second).await.unwrap();
    assert_eq!(raw.response(Kind::Query).await.ok().text(), "one");
    assert_eq!(raw.response(Kind::Query).await.error(), Some(1064));
    assert_eq!(raw.response(Kind::Query).await.ok().text(), "three");
    selkie.logs.check();
}

#[tokio::test]
async fn a_client_that_leaves_while_waiting_harms_nobody() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("leaves").await;
    let mut stays = project.endpoint.connect().await;
    for _ in 0..10 {
        let mut leaves = Raw::login(&project.endpoint).await;
        leaves.command(0x03, b"SELECT 1").await;
    }
    run(&mut stays, "CREATE TABLE t (a INT)").await;
    run(&mut stays, "INSERT INTO t VALUES (1)").await;
    assert_eq!(value(&mut stays, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
    assert_eq!(project.compute().await.incarnation, 1);
    selkie.logs.check();
}
