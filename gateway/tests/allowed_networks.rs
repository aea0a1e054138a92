//! A project that lets clients in from some networks only.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use control_api::control as proto;
use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client, err};
use support::compute::{ALL, FakeCompute};
use support::{World, project, ready};
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(10);
const INSIDE: [u8; 4] = [127, 5, 0, 1];
const OUTSIDE: [u8; 4] = [127, 6, 0, 1];

fn allowing(networks: &[&str]) -> proto::Project {
    proto::Project {
        allowed_networks: networks.iter().map(|network| (*network).to_owned()).collect(),
        ..project("demo")
    }
}

async fn log_in(world: &World, from: [u8; 4], name: &str, password: &str) -> Result<Client, String> {
    let logging_in = Client::log_in_from(world.mysql, from, name, password, BASE | Capabilities::PLUGIN_AUTH);
    timeout(GUARD, logging_in).await.unwrap()
}

#[tokio::test]
async fn who_comes_from_elsewhere_is_told_what_a_wrong_password_is_told() {
    let world = World::start([allowing(&["127.5.0.0/16", "::1"])]).await;
    let outside = log_in(&world, OUTSIDE, "demo.u", "p").await.err().unwrap();
    assert_eq!(outside, log_in(&world, OUTSIDE, "demo.u", "wrong").await.err().unwrap());
    assert!(outside.starts_with("1045 28000 Access denied"), "{outside}");
    log_in(&world, INSIDE, "demo.u", "p").await.unwrap();
    assert!(world.script.asked.lock().unwrap().is_empty(), "nothing was woken");
}

#[tokio::test]
async fn a_changed_list_ends_sessions_from_elsewhere_idle_ones_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    // Who holds a connection is not told because it has given that up.
    let world = World::start_with([project("demo")], |raw| raw.park_after = "1h".into()).await;
    let running = Ok(ready(1, &compute.socket));
    world.script.wakes.lock().unwrap().insert("demo".into(), running);
    let mut busy = log_in(&world, OUTSIDE, "demo.u", "p").await.unwrap();
    busy.query("HANG").await;
    let mut idle = log_in(&world, OUTSIDE, "demo.u", "p").await.unwrap();
    let mut attached = log_in(&world, OUTSIDE, "demo.u", "p").await.unwrap();
    timeout(GUARD, attached.ask("DO 1")).await.unwrap().unwrap();
    let mut inside_idle = log_in(&world, INSIDE, "demo.u", "p").await.unwrap();
    let mut inside_attached = log_in(&world, INSIDE, "demo.u", "p").await.unwrap();
    timeout(GUARD, inside_attached.ask("DO 2")).await.unwrap().unwrap();

    let compute_now = Some(ready(1, &compute.socket));
    let only_inside = proto::Project {
        compute: compute_now,
        ..allowing(&["127.5.0.1"])
    };
    world.script.publish(only_inside).await;
    for client in [&mut idle, &mut attached, &mut busy] {
        let (sequence, told) = timeout(GUARD, client.read()).await.unwrap().unwrap();
        assert_eq!(
            (sequence, err(&told).as_str()),
            (
                1,
                "1053 08S01 Clients from '127.6.0.1' may use this project no more: its allowed networks have changed"
            )
        );
        assert!(
            timeout(GUARD, client.read()).await.unwrap().is_err(),
            "and it is closed"
        );
    }
    log_in(&world, OUTSIDE, "demo.u", "p").await.err().unwrap();
    for client in [&mut inside_idle, &mut inside_attached] {
        timeout(GUARD, client.ask("DO 3")).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_waits_for_the_database_while_its_network_is_taken_away_gets_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    // It cannot be reached yet.
    let socket = dir.path().join("later");
    let world = World::start([project("demo")]).await;
    let running = ready(1, &socket);
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(running.clone()));
    let mut waiting = log_in(&world, OUTSIDE, "demo.u", "p").await.unwrap();
    waiting.query("SELECT secret").await;
    timeout(GUARD, async {
        while world.script.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let only_inside = proto::Project {
        compute: Some(running),
        ..allowing(&["127.5.0.1"])
    };
    world.script.publish(only_inside).await;
    let shut_out = async { while log_in(&world, OUTSIDE, "demo.u", "p").await.is_ok() {} };
    timeout(GUARD, shut_out).await.unwrap();
    std::os::unix::fs::symlink(&compute.socket, &socket).unwrap();
    let (_, told) = timeout(GUARD, waiting.read()).await.unwrap().unwrap();
    assert!(err(&told).contains("may use this project no more"), "{}", err(&told));
    assert!(compute.seen.lock().unwrap().clients_queries().is_empty());
}

#[tokio::test]
async fn a_list_that_cannot_be_read_lets_nobody_in() {
    let world = World::start([allowing(&["127.0.0.0/8", "of a newer version"])]).await;
    log_in(&world, INSIDE, "demo.u", "p").await.err().unwrap();
}

#[tokio::test]
async fn a_change_of_user_does_not_reach_a_project_that_is_closed_to_the_address() {
    let closed = proto::Project {
        id: "closed".into(),
        ..allowing(&["127.5.0.0/16"])
    };
    let world = World::start([project("demo"), closed]).await;
    for (from, expected) in [(OUTSIDE, 0xff), (INSIDE, 0)] {
        let mut client = log_in(&world, from, "demo.u", "p").await.unwrap();
        let change = mysql_wire::login::ChangeUser {
            user: b"closed.u",
            auth_response: b"",
            database: None,
            collation: Some(45),
            auth_plugin: Some(b"mysql_native_password"),
            raw_attributes: b"",
        };
        client.send(0, &change.encode(client.capabilities)).await;
        let (sequence, _switch) = client.read().await.unwrap();
        let answer = support::client::native_answer(b"p", &client.greeting.nonce);
        client.send(sequence + 1, &answer).await;
        let (_, reply) = timeout(GUARD, client.read()).await.unwrap().unwrap();
        assert_eq!(reply[0], expected, "{}", err(&reply));
    }
}
