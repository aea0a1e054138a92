//! COM_CHANGE_USER: what is the session's goes with it to whom it becomes, and nothing is left with whom it was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use control_api::control as proto;
use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client, err};
use support::{World, project};
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(20);

async fn log_in(world: &World, name: &str) -> Result<Client, String> {
    let logging_in = Client::log_in(world.mysql, name, "p", BASE | Capabilities::PLUGIN_AUTH);
    timeout(GUARD, logging_in).await.unwrap()
}

async fn told(client: &mut Client) -> String {
    err(&timeout(GUARD, client.read()).await.unwrap().unwrap().1)
}

#[tokio::test]
async fn a_session_is_killed_by_whose_it_is_and_not_by_whose_it_was() {
    let world = World::start([project("demo"), project("other")]).await;
    let mut changed = log_in(&world, "demo.u").await.unwrap();
    changed.change_user("other.u", "p").await.unwrap();
    let kill = format!("KILL {}", changed.greeting.connection_id);
    let mut of_old = log_in(&world, "demo.u").await.unwrap();
    assert!(of_old.ask(&kill).await.unwrap_err().starts_with("1094 "));
    of_old.ask("KILL USER u").await.unwrap_err();
    changed.ask("SET NAMES utf8mb4").await.unwrap();
    let mut of_new = log_in(&world, "other.u").await.unwrap();
    of_new.ask(&kill).await.unwrap();
    assert!(told(&mut changed).await.starts_with("1927 "));
}

#[tokio::test]
async fn a_place_in_a_project_is_given_back_by_who_goes_to_another_and_by_who_leaves_that() {
    let world = World::start_with([project("demo"), project("other")], |raw| {
        raw.max_clients_per_project = Some(1);
    })
    .await;
    let mut changed = log_in(&world, "demo.u").await.unwrap();
    assert!(log_in(&world, "demo.u").await.err().unwrap().starts_with("1040 "));
    changed.change_user("other.u", "p").await.unwrap();
    let _in_its_place = log_in(&world, "demo.u").await.unwrap();
    assert!(log_in(&world, "other.u").await.err().unwrap().starts_with("1040 "));
    drop(changed);
    let room = async { while log_in(&world, "other.u").await.is_err() {} };
    timeout(GUARD, room).await.expect("its place is taken for ever");
}

#[tokio::test]
async fn a_session_lives_with_whom_it_became_and_not_with_whom_it_was() {
    let user = |name: &str| proto::User {
        name: name.into(),
        created_ms: 1,
        ..project("demo").users[0].clone()
    };
    let with = |users: &[&str]| proto::Project {
        users: users.iter().map(|name| user(name)).collect(),
        ..project("demo")
    };
    let world = World::start([with(&["ann", "bob", "eve"])]).await;
    let mut changed = log_in(&world, "demo.bob").await.unwrap();
    changed.change_user("ann", "p").await.unwrap();
    changed.ask("SET NAMES utf8mb4").await.unwrap();
    world.script.publish(with(&["ann", "eve"])).await;
    let bob_is_gone = async { while log_in(&world, "demo.bob").await.is_ok() {} };
    timeout(GUARD, bob_is_gone).await.unwrap();
    changed.ask("SET NAMES latin1").await.unwrap();
    world.script.publish(with(&["eve"])).await;
    assert_eq!(told(&mut changed).await, "1053 08S01 The user was deleted");
}
