//! Clients whose connections are chopped, cut, reset, half-closed or go silent on their way to the gateway.

use std::time::Duration;

use harness::proxy::{Then, Trouble, seed};
use harness::{Endpoint, Proxy, Raw, Selkie, eventually};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::descriptors_of;
use super::writer::Writer;

const CLIENTS: u32 = 6;
/// Enough for some hundred connections.
const LASTS: Duration = Duration::from_secs(6);
/// Of a client: many times what a statement takes with the longest delay and in single bytes.
const PATIENCE: Duration = Duration::from_secs(2);
/// What else a process opens and keeps meanwhile: connections of its store.
const DESCRIPTORS_MORE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_over_a_bad_way_is_there_and_the_gateway_forgets_the_rest() {
    let seed = seed("client_to_gateway", 4);
    let selkie = Selkie::start_with("gateway.login_timeout = \"3s\"\n").await;
    let projects = [selkie.project("near").await, selkie.project("far").await];
    for project in &projects {
        Writer::make_table(&project.endpoint).await;
    }
    eventually("nobody is there", async || {
        (selkie.metric("selkie_gateway_clients").await == 0.0).then_some(())
    })
    .await;
    let before = descriptors_of(selkie.pid());

    let proxy = Proxy::before_port(selkie.up().mysql.port).await;
    proxy.foul(Trouble {
        seed,
        ends: &[
            Then::End,
            Then::Reset,
            Then::HalfClose,
            Then::Silence,
            Then::StopReading,
        ],
        until_max: 8 << 10,
        delay_max: Duration::from_millis(10),
    });
    let mut writers = JoinSet::new();
    for number in 0..CLIENTS {
        let endpoint = Endpoint {
            port: proxy.port,
            ..projects[number as usize % projects.len()].endpoint.clone()
        };
        writers.spawn(Writer::new(number, endpoint, PATIENCE).writes_for(LASTS));
    }
    let writers = writers.join_all().await;
    proxy.calm();
    for writer in &writers {
        // 1043, bad handshake: its login ended in the middle of a packet. A way that fails is no reason to be told of wrong
        // passwords or throttles.
        let others: Vec<_> = writer.told.iter().filter(|(code, _)| **code != 1043).collect();
        assert!(others.is_empty(), "{others:?}");
    }
    eventually("the gateway has let everybody go", async || {
        let left = selkie.metric("selkie_gateway_clients").await + selkie.metric("selkie_gateway_attached").await;
        (left == 0.0).then_some(())
    })
    .await;
    for (number, writer) in writers.iter().map(|writer| (writer.number(), writer)) {
        writer
            .is_right(&projects[number as usize % projects.len()].endpoint)
            .await;
    }
    let mut through = Raw::login(&Endpoint {
        port: proxy.port,
        ..projects[0].endpoint.clone()
    })
    .await;
    assert_eq!(through.query("SELECT 41 + 1").await.ok().text(), "42");
    drop(through);
    eventually(
        format_args!("no more than the {before} descriptors of before"),
        async || (descriptors_of(selkie.pid()) <= before + DESCRIPTORS_MORE).then_some(()),
    )
    .await;
    assert!(
        proxy.connections() > u64::from(CLIENTS) * 3,
        "{proxy:?}: hardly anything was cut"
    );
    selkie.logs.check();
}

/// Its machine has lost power, or a firewall has forgotten the connection: no end ever comes.
#[tokio::test(flavor = "multi_thread")]
async fn the_transaction_of_a_client_that_is_gone_without_a_word_is_undone_in_time() {
    const PINNED_IDLE: Duration = Duration::from_secs(3);
    let selkie = Selkie::start_with("gateway.pinned_idle_timeout = \"3s\"\n").await;
    let project = selkie.project("half-open").await;
    let proxy = Proxy::before_port(selkie.up().mysql.port).await;
    let mut other = Raw::login(&project.endpoint).await;
    other.query("CREATE TABLE t (a INT PRIMARY KEY)").await.ok();
    let mut gone = Raw::login(&Endpoint {
        port: proxy.port,
        ..project.endpoint.clone()
    })
    .await;
    gone.query("BEGIN").await.ok();
    gone.query("INSERT INTO t VALUES (1)").await.ok();
    proxy.strand();
    let began = Instant::now();
    // It waits for the lock that the other one holds.
    other.query("INSERT INTO t VALUES (1)").await.ok();
    let waited = began.elapsed();
    assert!(waited < PINNED_IDLE + Duration::from_secs(4), "{waited:?}");
    assert_eq!(other.query("SELECT COUNT(*) FROM t").await.ok().text(), "1");
    eventually("the gateway has forgotten it", async || {
        (selkie.metric("selkie_gateway_clients").await == 1.0).then_some(())
    })
    .await;
    drop((gone, other));
    selkie.logs.check();
}
