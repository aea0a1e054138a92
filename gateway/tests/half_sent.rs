//! Clients that stop in the middle of a command, or do not read what they are answered: what ends a session ends theirs, too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use control_api::control as proto;
use mysql_wire::command::Command;
use support::client::{BASE, Client, err};
use support::metrics::{eventually, value};
use support::{World, project};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(20);

/// Beginnings of commands that the gateway answers itself, each read by it in a way of its own.
fn halves() -> [(&'static str, Vec<u8>); 3] {
    let begun = |len: u8, bytes: &[u8]| [&[len, 0, 0, 0], bytes].concat();
    [
        (
            "a text",
            begun(30, &[&[Command::Query.code()], &b"SELECT @@ver"[..]].concat()),
        ),
        ("one to be skipped", begun(200, &[Command::Ping.code(), 1, 2, 3])),
        (
            "a login",
            begun(100, &[&[Command::ChangeUser.code()], &b"demo.u\0"[..]].concat()),
        ),
    ]
}

/// Clients that have sent these, each of which the gateway has read as far as it goes.
async fn stopped(world: &World) -> Vec<(&'static str, Client)> {
    let mut clients = Vec::new();
    for (name, half) in halves() {
        let mut client = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
        let ping = [1, 0, 0, 0, Command::Ping.code()];
        client.stream.write_all(&[&ping[..], &half].concat()).await.unwrap();
        // Read in one go with what follows.
        assert_eq!(client.read().await.unwrap().1[0], 0);
        clients.push((name, client));
    }
    clients
}

/// What each is told before it is closed.
async fn all_are_told(clients: Vec<(&'static str, Client)>, expected: &str) {
    for (name, mut client) in clients {
        let told = timeout(GUARD, client.read()).await;
        let (_, told) = told.unwrap_or_else(|_| panic!("{name}: it is still there")).unwrap();
        assert!(err(&told).starts_with(expected), "{name}: {}", err(&told));
        assert!(
            timeout(GUARD, client.read()).await.unwrap().is_err(),
            "{name}: it is closed"
        );
    }
}

#[tokio::test]
async fn a_kill_ends_a_session_in_the_middle_of_a_command() {
    let world = World::start([project("demo")]).await;
    let clients = stopped(&world).await;
    let mut killer = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
    for (_, client) in &clients {
        killer
            .ask(&format!("KILL {}", client.greeting.connection_id))
            .await
            .unwrap();
    }
    all_are_told(clients, "1927 70100").await;
}

#[tokio::test]
async fn a_network_that_is_taken_away_ends_a_session_in_the_middle_of_a_command() {
    let world = World::start([project("demo")]).await;
    let clients = stopped(&world).await;
    let elsewhere = proto::Project {
        allowed_networks: vec!["198.51.100.0/24".into()],
        ..project("demo")
    };
    world.script.publish(elsewhere).await;
    all_are_told(
        clients,
        "1053 08S01 Clients from '127.0.0.1' may use this project no more",
    )
    .await;
}

#[tokio::test]
async fn a_user_that_is_deleted_ends_its_session_in_the_middle_of_a_command() {
    let world = World::start([project("demo")]).await;
    let clients = stopped(&world).await;
    let without_users = proto::Project {
        users: Vec::new(),
        ..project("demo")
    };
    world.script.publish(without_users).await;
    all_are_told(clients, "1053 08S01 The user was deleted").await;
}

#[tokio::test]
async fn whoever_is_silent_in_the_middle_of_a_command_is_silent() {
    let mut asleep = project("demo");
    let server = asleep.server.as_mut().unwrap();
    server.variables.insert("wait_timeout".into(), "3".into());
    let world = World::start([asleep]).await;
    let clients = stopped(&world).await;
    all_are_told(clients, "4031 08S01").await;
}

#[tokio::test]
async fn a_kill_ends_a_session_whose_client_does_not_read_its_answers() {
    // More than the system keeps for a client that does not read, which is 4 MiB.
    let mut talkative = project("demo");
    let server = talkative.server.as_mut().unwrap();
    server.variables.insert("version_comment".into(), "x".repeat(8 << 20));
    let world = World::start([talkative]).await;
    let mut killer = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
    let mut deaf = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
    deaf.query("SELECT @@version_comment LIMIT 1").await;
    // The answer has begun.
    assert_eq!(deaf.read().await.unwrap().1, [1]);
    killer
        .ask(&format!("KILL {}", deaf.greeting.connection_id))
        .await
        .unwrap();
    eventually("the other is gone", async || {
        (value(&world, "selkie_gateway_clients").await == 1.0).then_some(())
    })
    .await;
}
