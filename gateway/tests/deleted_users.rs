//! Sessions of users that are deleted, or deleted and made again under their name, and of projects that are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use control_api::control as proto;
use mysql_wire::capabilities::Capabilities;
use mysql_wire::command::Command;
use sha1::{Digest, Sha1};
use support::client::{BASE, Client, err};
use support::compute::{ALL, FakeCompute};
use support::{World, project, ready};
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(10);
const GONE: &str = "1053 08S01 The user was deleted";

fn user(name: &str, password: &str, created_ms: i64) -> proto::User {
    proto::User {
        name: name.into(),
        native_sha1: Sha1::digest(Sha1::digest(password.as_bytes())).to_vec(),
        created_ms,
        ..Default::default()
    }
}

fn with_users(users: &[proto::User]) -> proto::Project {
    proto::Project {
        users: users.to_vec(),
        ..project("demo")
    }
}

/// No session is parked before it must, and whoever waits for a password to be the right one is not taken for a stranger who guesses.
async fn world(project: proto::Project) -> World {
    World::start_with([project], |raw| {
        raw.park_after = "1h".into();
        raw.throttle.failures_per_minute = 0;
        raw.throttle.address_failures_per_second = 0;
    })
    .await
}

async fn log_in(world: &World, name: &str, password: &str) -> Result<Client, String> {
    let name = format!("demo.{name}");
    let logging_in = Client::log_in(world.mysql, &name, password, BASE | Capabilities::PLUGIN_AUTH);
    timeout(GUARD, logging_in).await.unwrap()
}

async fn ask(client: &mut Client, text: &str) -> Result<(), String> {
    timeout(GUARD, client.ask(text)).await.unwrap()
}

/// Until control's word has come.
async fn comes_in(world: &World, name: &str, password: &str) -> Client {
    let tried = async {
        loop {
            if let Ok(client) = log_in(world, name, password).await {
                return client;
            }
        }
    };
    timeout(GUARD, tried).await.unwrap()
}

/// What it is told unasked; then it is closed.
async fn last_word(client: &mut Client) -> String {
    let (sequence, told) = timeout(GUARD, client.read()).await.unwrap().unwrap();
    assert_eq!(sequence, 1);
    assert!(timeout(GUARD, client.read()).await.unwrap().is_err(), "it is closed");
    err(&told)
}

/// A server that runs, and what control says with it.
fn running(world: &World) -> (FakeCompute, proto::Compute) {
    let compute = FakeCompute::start(world.dir.path(), "c", ALL);
    let running = ready(1, &compute.socket);
    let woken = ("demo".to_owned(), Ok(running.clone()));
    world.script.wakes.lock().unwrap().extend([woken]);
    (compute, running)
}

fn said(users: &[proto::User], compute: &proto::Compute) -> proto::Project {
    proto::Project {
        compute: Some(compute.clone()),
        ..with_users(users)
    }
}

/// The server has been asked that.
async fn is_at(compute: &FakeCompute, query: &str) {
    let asked = async {
        while !compute.seen.lock().unwrap().clients_queries().contains(&query) {
            tokio::task::yield_now().await;
        }
    };
    timeout(GUARD, asked).await.unwrap();
}

#[tokio::test]
async fn sessions_of_a_deleted_user_end_at_a_database_too_and_nobody_elses() {
    let (ann, bob) = (user("ann", "a", 1), user("bob", "b", 2));
    let world = world(with_users(&[ann, bob.clone()])).await;
    let (_compute, running) = running(&world);
    let mut idle = log_in(&world, "ann", "a").await.unwrap();
    let mut attached = log_in(&world, "ann", "a").await.unwrap();
    ask(&mut attached, "DO 0").await.unwrap();
    let mut open = log_in(&world, "ann", "a").await.unwrap();
    ask(&mut open, "BEGIN").await.unwrap();
    let mut others = log_in(&world, "bob", "b").await.unwrap();
    ask(&mut others, "BEGIN").await.unwrap();
    world.script.publish(said(std::slice::from_ref(&bob), &running)).await;
    for client in [&mut idle, &mut attached, &mut open] {
        assert_eq!(last_word(client).await, GONE);
    }
    assert!(log_in(&world, "ann", "a").await.err().unwrap().starts_with("1045 "));
    let made_again = [user("ann", "other", 3), bob];
    world.script.publish(said(&made_again, &running)).await;
    let mut ann = comes_in(&world, "ann", "other").await;
    ask(&mut ann, "DO 1").await.unwrap();
    ask(&mut others, "COMMIT").await.unwrap();
}

#[tokio::test]
async fn the_command_in_flight_of_a_deleted_user_is_answered_and_is_the_last() {
    let (ann, bob) = (user("ann", "a", 1), user("bob", "b", 2));
    let world = world(with_users(&[ann, bob.clone()])).await;
    let (compute, running) = running(&world);
    let mut ann = log_in(&world, "ann", "a").await.unwrap();
    ask(&mut ann, "BEGIN").await.unwrap();
    ann.query("WAIT").await;
    is_at(&compute, "WAIT").await;
    world.script.publish(said(&[bob], &running)).await;
    timeout(GUARD, async { while log_in(&world, "ann", "a").await.is_ok() {} })
        .await
        .unwrap();
    // Its next one it has sent already, and the gateway has had time to read it.
    ann.query("COMMIT").await;
    for _ in 0..4 {
        log_in(&world, "bob", "b").await.unwrap();
    }
    compute.answers.notify_one();
    let (_, answer) = timeout(GUARD, ann.read()).await.unwrap().unwrap();
    assert_eq!(answer[0], 0, "{}", err(&answer));
    assert_eq!(last_word(&mut ann).await, GONE);
    assert!(!compute.seen.lock().unwrap().clients_queries().contains(&"COMMIT"));
}

#[tokio::test]
async fn who_drops_itself_is_told_that_it_is_done_and_then_that_it_is_gone() {
    let world = world(with_users(&[user("ann", "a", 1)])).await;
    let (_compute, running) = running(&world);
    let mut ann = log_in(&world, "ann", "a").await.unwrap();
    ask(&mut ann, "DO 0").await.unwrap();
    // What control answers when it is asked what the statement did.
    let without = ("demo".to_owned(), said(&[], &running));
    world.script.projects.lock().unwrap().extend([without]);
    world.script.says(None).await;
    ask(&mut ann, "DROP USER ann").await.unwrap();
    assert_eq!(last_word(&mut ann).await, GONE);
}

#[tokio::test]
async fn a_command_of_a_deleted_user_that_does_not_end_is_cut_when_the_time_is_over() {
    let one = with_users(&[user("ann", "a", 1)]);
    let world = World::start_with([one], |raw| raw.drain_timeout = "50ms".into()).await;
    let (compute, running) = running(&world);
    let mut ann = log_in(&world, "ann", "a").await.unwrap();
    ann.query("HANG").await;
    is_at(&compute, "HANG").await;
    world.script.publish(said(&[], &running)).await;
    assert_eq!(last_word(&mut ann).await, GONE);
}

#[tokio::test]
async fn sessions_of_a_deleted_project_end_idle_ones_too() {
    let world = world(with_users(&[user("ann", "a", 1)])).await;
    let (_compute, running) = running(&world);
    let mut idle = log_in(&world, "ann", "a").await.unwrap();
    let mut attached = log_in(&world, "ann", "a").await.unwrap();
    ask(&mut attached, "DO 0").await.unwrap();
    world.script.publish(said(&[user("ann", "a", 1)], &running)).await;
    world.script.remove("demo").await;
    for client in [&mut idle, &mut attached] {
        assert_eq!(last_word(client).await, "1053 08S01 The project was deleted");
    }
    assert!(log_in(&world, "ann", "a").await.err().unwrap().starts_with("1045 "));
}

#[tokio::test]
async fn nobody_goes_on_as_a_user_that_was_made_again_unheard() {
    let world = world(with_users(&[user("ann", "a", 1)])).await;
    // It cannot be reached yet.
    let running = ready(1, &world.dir.path().join("c"));
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(running.clone()));
    let mut idle = log_in(&world, "ann", "a").await.unwrap();
    let mut waking = log_in(&world, "ann", "a").await.unwrap();
    waking.query("SELECT 1").await;
    timeout(GUARD, async {
        while world.script.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    // Another password is no other user.
    world.script.publish(with_users(&[user("ann", "b", 1)])).await;
    comes_in(&world, "ann", "b").await;
    idle.send(0, &[Command::Ping.code()]).await;
    let (_, pong) = timeout(GUARD, idle.read()).await.unwrap().unwrap();
    assert_eq!(pong[0], 0, "{}", err(&pong));
    let made_again = proto::Project {
        compute: Some(running),
        ..with_users(&[user("ann", "c", 2)])
    };
    world.script.publish(made_again).await;
    assert_eq!(last_word(&mut idle).await, GONE);
    let compute = FakeCompute::start(world.dir.path(), "c", ALL);
    assert_eq!(last_word(&mut waking).await, GONE);
    assert!(compute.seen.lock().unwrap().clients_queries().is_empty());
    let mut ann = comes_in(&world, "ann", "c").await;
    ask(&mut ann, "DO 1").await.unwrap();
}
