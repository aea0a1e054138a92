//! Going down: who is refused when, and what may still be finished.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client, err};
use support::compute::{ALL, FakeCompute};
use support::{World, project, ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(30);
const GOING: &str = "1053 08S01 Server shutdown in progress";

async fn client(world: &World) -> Client {
    Client::log_in(world.mysql, "demo.u", "p", BASE | Capabilities::EMPTY)
        .await
        .unwrap()
}

async fn is_ready(world: &World) -> bool {
    let mut http = TcpStream::connect(world.http).await.unwrap();
    let request = "GET /readyz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";
    http.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.unwrap();
    answer.starts_with("HTTP/1.1 200")
}

/// What the client reads next, which is the end.
async fn told(client: &mut Client) -> String {
    let (_, payload) = timeout(GUARD, client.read()).await.unwrap().unwrap();
    err(&payload)
}

#[tokio::test]
async fn readiness_fails_before_clients_are_refused() {
    let world = World::start_with([project("demo")], |raw| raw.drain_notice = "1h".into()).await;
    assert!(is_ready(&world).await);
    world.stop();
    timeout(GUARD, async {
        while is_ready(&world).await {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    client(&world).await.ask("SET NAMES utf8mb4").await.unwrap();
}

#[tokio::test]
async fn a_transaction_may_be_finished_while_idle_sessions_end() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = World::start_with([project("demo")], |raw| raw.drain_timeout = "1h".into()).await;
    let answer = Ok(ready(1, &compute.socket));
    world.script.wakes.lock().unwrap().insert("demo".into(), answer);
    let (mut open, mut idle) = (client(&world).await, client(&world).await);
    let mut attached = client(&world).await;
    attached.ask("DO 1").await.unwrap();
    open.ask("BEGIN").await.unwrap();
    world.stop();
    assert_eq!(told(&mut idle).await, GOING);
    assert_eq!(told(&mut attached).await, GOING);
    open.ask("COMMIT").await.unwrap();
    assert_eq!(told(&mut open).await, GOING);
}

#[tokio::test]
async fn a_command_that_waits_for_its_database_is_told_when_the_time_is_over() {
    let world = World::start_with([project("demo")], |raw| raw.drain_timeout = "50ms".into()).await;
    let mut waiting = client(&world).await;
    waiting.query("SELECT 1").await;
    timeout(GUARD, async {
        while world.script.asked.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    world.stop();
    assert_eq!(told(&mut waiting).await, GOING);
}

#[tokio::test]
async fn a_login_that_does_not_go_on_holds_no_drain_up() {
    let world = World::start_with([project("demo")], |raw| {
        raw.login_timeout = "1h".into();
        raw.drain_timeout = "1h".into();
    })
    .await;
    let mut half_open = Client::connect(world.mysql).await;
    world.stop();
    timeout(GUARD, half_open.read()).await.unwrap().unwrap_err();
    timeout(GUARD, world.ended()).await.unwrap();
}
