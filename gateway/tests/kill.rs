//! KILL against a scripted control and a scripted compute: what reaches a compute, and what does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use control_api::control as proto;
use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client, err};
use support::compute::{ALL, FakeCompute};
use support::{World, project, ready};
use tokio::time::{sleep, timeout};

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(30);

async fn client(world: &World) -> Client {
    Client::log_in(world.mysql, "demo.u", "p", BASE | Capabilities::EMPTY)
        .await
        .unwrap()
}

/// A gateway whose project's compute is there once it is asked for.
async fn awake(dir: &std::path::Path) -> (World, FakeCompute) {
    let compute = FakeCompute::start(dir, "c", ALL);
    let world = World::start([project("demo")]).await;
    let answer = Ok(ready(1, &compute.socket));
    world.script.wakes.lock().unwrap().insert("demo".into(), answer);
    (world, compute)
}

/// Waits until the compute was sent this text.
async fn was_sent(compute: &FakeCompute, text: &str) {
    let seen = || compute.seen.lock().unwrap().queries.iter().any(|query| query == text);
    let waited = async {
        while !seen() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(GUARD, waited).await;
    assert!(
        waited.is_ok(),
        "{text} not in {:?}",
        compute.seen.lock().unwrap().queries
    );
}

fn kills(compute: &FakeCompute) -> Vec<String> {
    let queries = compute.seen.lock().unwrap().queries.clone();
    queries.into_iter().filter(|query| query.starts_with("KILL")).collect()
}

#[tokio::test]
async fn an_idle_session_that_is_killed_by_its_id_at_the_compute_hears_that() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _compute) = awake(dir.path()).await;
    let mut client = client(&world).await;
    client.ask("KILLED AFTERWARDS").await.unwrap();
    let (_, told) = timeout(GUARD, client.read()).await.unwrap().unwrap();
    assert_eq!(err(&told), "1927 70100 Connection was killed");
    let closed = timeout(GUARD, client.read()).await.unwrap();
    assert!(closed.is_err(), "and nothing more: {closed:?}");
}

#[tokio::test]
async fn a_command_that_waits_for_the_database_is_interrupted_and_the_session_goes_on() {
    // Nobody says what a wake comes to: it goes on for ever.
    let world = World::start([project("demo")]).await;
    let mut waiting = client(&world).await;
    let mut killer = client(&world).await;
    let id = waiting.greeting.connection_id;
    for round in 1..=2 {
        waiting.query("SELECT 1").await;
        timeout(GUARD, async {
            while world.script.asked.lock().unwrap().len() < round {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        killer.ask(&format!("KILL QUERY {id}")).await.unwrap();
        let (_, reply) = timeout(GUARD, waiting.read()).await.unwrap().unwrap();
        assert!(err(&reply).starts_with("1317 70100"), "{}", err(&reply));
        waiting.ask("SET NAMES utf8mb4").await.unwrap();
    }
    waiting.query("SELECT 1").await;
    killer.ask(&format!("KILL {id}")).await.unwrap();
    let (_, reply) = timeout(GUARD, waiting.read()).await.unwrap().unwrap();
    assert!(err(&reply).starts_with("1927 70100"), "{}", err(&reply));
    assert!(waiting.read().await.is_err(), "closed");
}

#[tokio::test]
async fn only_a_statement_under_way_is_killed_at_the_compute() {
    let dir = tempfile::tempdir().unwrap();
    let (world, compute) = awake(dir.path()).await;
    let mut target = client(&world).await;
    let mut killer = client(&world).await;
    let id = target.greeting.connection_id;
    target.ask("DO 1").await.unwrap();
    killer.ask(&format!("KILL QUERY {id}")).await.unwrap();
    assert_eq!(kills(&compute), [""; 0]);
    target.query("HANG").await;
    was_sent(&compute, "HANG").await;
    killer.ask(&format!("KILL SOFT QUERY {id}")).await.unwrap();
    assert_eq!(kills(&compute), ["KILL SOFT QUERY 7"]);
    killer.ask(&format!("KILL SOFT {id}")).await.unwrap();
    let (_, reply) = timeout(GUARD, target.read()).await.unwrap().unwrap();
    assert!(err(&reply).starts_with("1927 70100"), "{}", err(&reply));
    was_sent(&compute, "KILL SOFT CONNECTION 7").await;
    assert_eq!(kills(&compute).len(), 2);
}

#[tokio::test]
async fn two_sessions_that_kill_each_other_do_not_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _compute) = awake(dir.path()).await;
    let (mut one, mut other) = (client(&world).await, client(&world).await);
    one.ask("DO 1").await.unwrap();
    other.ask("DO 1").await.unwrap();
    let kill = |target: &Client| format!("KILL QUERY {}", target.greeting.connection_id);
    let (of_other, of_one) = (kill(&other), kill(&one));
    for _ in 0..20 {
        let both = async { tokio::join!(one.ask(&of_other), other.ask(&of_one)) };
        let (one, other) = timeout(GUARD, both).await.unwrap();
        assert_eq!((one, other), (Ok(()), Ok(())));
    }
}

#[tokio::test]
async fn a_statement_of_a_client_that_breaks_the_protocol_is_killed_too() {
    let dir = tempfile::tempdir().unwrap();
    let (world, compute) = awake(dir.path()).await;
    let mut client = client(&world).await;
    client.query("HANG").await;
    was_sent(&compute, "HANG").await;
    client.send(9, &[0x0e]).await;
    was_sent(&compute, "KILL CONNECTION 7").await;
}

#[tokio::test]
async fn another_users_session_is_not_killed_whatever_names_it() {
    let mut two = project("demo");
    two.users.push(proto::User {
        name: "v".into(),
        ..two.users[0].clone()
    });
    let world = World::start([two]).await;
    let mut target = client(&world).await;
    let mut other = Client::log_in(world.mysql, "demo.v", "p", BASE).await.unwrap();
    let id = target.greeting.connection_id;
    for (kill, code) in [
        (format!("KILL {id}"), "1095 "),
        (format!("KILL QUERY {id}"), "1095 "),
        ("KILL USER u".into(), "1095 "),
        ("KILL USER nobody".into(), ""),
    ] {
        let told = other.ask(&kill).await.err().unwrap_or_default();
        assert!(
            told.starts_with(code) && told.is_empty() == code.is_empty(),
            "{kill}: {told}"
        );
    }
    target.ask("SET NAMES utf8mb4").await.unwrap();
}
