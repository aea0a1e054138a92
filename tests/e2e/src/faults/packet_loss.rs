//! Packets between clients and the gateway are lost, in a network of the test's own.

use std::time::Duration;

use harness::network::in_own_network;
use harness::{Selkie, eventually};
use tokio::task::JoinSet;

use super::writer::Writer;

const CLIENTS: u32 = 4;
const LASTS: Duration = Duration::from_secs(6);
/// The kernel sends again after 0.2 s, then after twice as long each time: five losses in a row of one packet.
const PATIENCE: Duration = Duration::from_secs(10);
const LOST_OF_100: u32 = 5;

#[test]
fn lost_packets_cost_time_and_nothing_else() {
    in_own_network(async |network| {
        let selkie = Selkie::start().await;
        let project = selkie.project("lossy").await;
        Writer::make_table(&project.endpoint).await;
        network.lose_of_100(selkie.up().mysql.port, LOST_OF_100);
        let mut writers = JoinSet::new();
        for number in 0..CLIENTS {
            let writer = Writer::new(number, project.endpoint.clone(), PATIENCE);
            writers.spawn(writer.writes_for(LASTS));
        }
        let writers = writers.join_all().await;
        assert!(network.lost() > 0, "nothing was lost, which tests nothing");
        network.lose_nothing();
        for writer in &writers {
            assert!(writer.told.is_empty(), "no error of a server's: {:?}", writer.told);
            assert_eq!(writer.connections, 1, "client {} lost its connection", writer.number());
            writer.is_right(&project.endpoint).await;
        }
        eventually("the gateway has let everybody go", async || {
            let left = selkie.metric("selkie_gateway_clients").await + selkie.metric("selkie_gateway_attached").await;
            (left == 0.0).then_some(())
        })
        .await;
        selkie.logs.check();
    });
}
