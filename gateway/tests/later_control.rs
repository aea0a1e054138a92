//! A control plane of a later version: what it adds is passed over, and where it would keep somebody out, nobody is let in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use control_api::control as proto;
use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client};
use support::compute::{ALL, FakeCompute};
use support::{World, project, ready};
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(10);
/// That is no value here.
const LATER: i32 = 77;

#[tokio::test]
async fn what_only_a_later_control_plane_says_is_passed_over_and_lets_nobody_in() {
    let mut said = project("demo");
    let strict = proto::User {
        name: "strict".into(),
        require: LATER,
        ..said.users[0].clone()
    };
    said.users.push(strict);
    let world = World::start([said.clone()]).await;
    let log_in = async |user: &str| {
        let logging_in = Client::log_in(world.mysql, user, "p", BASE | Capabilities::PLUGIN_AUTH);
        timeout(GUARD, logging_in).await.unwrap()
    };
    let refused = log_in("demo.strict").await.err().unwrap();
    assert!(refused.starts_with("4151 "), "{refused}");

    world.script.says(None).await;
    said.compute = Some(proto::Compute {
        state: LATER,
        incarnation: 5,
        ..Default::default()
    });
    said.id = "other".into();
    world.script.publish(said).await;
    let mut client = timeout(GUARD, async {
        loop {
            // Heard after what was passed over.
            if let Ok(client) = log_in("other.u").await {
                return client;
            }
        }
    })
    .await
    .unwrap();
    let compute = FakeCompute::start(world.dir.path(), "c", ALL);
    let running = Ok(ready(6, &compute.socket));
    world.script.wakes.lock().unwrap().insert("other".into(), running);
    timeout(GUARD, client.ask("DO 1")).await.unwrap().unwrap();
}
