//! The unix socket between a gateway and a server, with the proxy in its place: connections end, are cut into pieces, and go
//! silent. As a server does that is short of threads or memory, or whose machine swaps.

use std::time::Duration;

use harness::proxy::{Then, Trouble, restore, seed};
use harness::{Proxy, Raw, Selkie, eventually, process};
use tokio::task::JoinSet;

use super::descriptors_of;
use super::writer::Writer;

const CLIENTS: u32 = 4;
const LASTS: Duration = Duration::from_secs(5);
/// Of a client: what is silent it leaves.
const PATIENCE: Duration = Duration::from_secs(2);
const DESCRIPTORS_MORE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_a_bad_way_to_their_database_or_are_told_of_it() {
    let seed = seed("gateway_to_compute", 2);
    let selkie = Selkie::start().await;
    let [project, neighbour] = [selkie.project("near").await, selkie.project("next").await];
    Writer::make_table(&project.endpoint).await;
    Writer::make_table(&neighbour.endpoint).await;
    // A server that does not greet within 15 s is taken for one that hangs and is started anew, without the proxy.
    for part in ["the compute ended without being asked", "does not answer"] {
        selkie.logs.allow(part);
    }
    let sockets = process::files_below(&selkie.data_dir(), "m.sock");
    let socket = sockets.iter().find(|path| path.to_string_lossy().contains("/near"));
    let socket = socket.expect("the server's socket").clone();
    let before = descriptors_of(selkie.pid());
    let (proxy, away) = Proxy::in_place_of(&socket);
    proxy.foul(Trouble {
        seed,
        ends: &[Then::End, Then::HalfClose, Then::Silence, Then::StopReading],
        until_max: 8 << 10,
        delay_max: Duration::from_millis(10),
    });
    let mut writers = JoinSet::new();
    for number in 0..CLIENTS {
        writers.spawn(Writer::new(number, project.endpoint.clone(), PATIENCE).writes_for(LASTS));
    }
    writers.spawn(Writer::new(CLIENTS, neighbour.endpoint.clone(), PATIENCE).writes_for(LASTS));
    let writers = writers.join_all().await;
    assert!(
        proxy.connections() > u64::from(CLIENTS),
        "{proxy:?}: hardly anybody came by it"
    );
    proxy.calm();
    restore(&socket, &away);
    for writer in &writers {
        // 1053: the database stopped under a statement, as it looks from here.
        let others: Vec<_> = writer.told.iter().filter(|(code, _)| **code != 1053).collect();
        assert!(others.is_empty(), "{others:?}");
        let of_neighbour = writer.number() == CLIENTS;
        assert!(!of_neighbour || writer.told.is_empty(), "{:?}", writer.told);
        let place = if of_neighbour { &neighbour } else { &project };
        writer.is_right(&place.endpoint).await;
    }
    eventually("the gateway has let everybody go", async || {
        let left = selkie.metric("selkie_gateway_clients").await + selkie.metric("selkie_gateway_attached").await;
        (left == 0.0).then_some(())
    })
    .await;
    let mut client = Raw::login(&project.endpoint).await;
    assert_eq!(client.query("SELECT 41 + 1").await.ok().text(), "42");
    project.suspend().await;
    assert_eq!(client.query("SELECT 'woken'").await.ok().text(), "woken");
    drop(client);
    drop(proxy);
    eventually(
        format_args!("no more than the {before} descriptors of before"),
        async || (descriptors_of(selkie.pid()) <= before + DESCRIPTORS_MORE).then_some(()),
    )
    .await;
    selkie.logs.check();
}
