//! Each setting that a reload takes holds for who comes next, and for nobody who is there already.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use gateway::RawConfig;
use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client, err};
use support::compute::{ALL, FakeCompute};
use support::metrics::value;
use support::{TOKEN, World, project, ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(20);
const HERE: [u8; 4] = [127, 9, 9, 1];

/// By REST: its answer says that it is done.
async fn reload(world: &World, adjust: impl FnOnce(&mut RawConfig)) -> String {
    world.settings.change(adjust);
    let mut http = TcpStream::connect(world.http).await.unwrap();
    let request =
        format!("POST /reload HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    http.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

async fn log_in(world: &World, password: &str) -> Result<Client, String> {
    let logging_in = Client::log_in_from(world.mysql, HERE, "demo.u", password, BASE | Capabilities::EMPTY);
    timeout(GUARD, logging_in).await.unwrap()
}

async fn refused(world: &World, password: &str) -> String {
    log_in(world, password).await.err().unwrap()
}

#[tokio::test]
async fn nobody_reloads_without_the_gateways_token() {
    let world = World::start([project("demo")]).await;
    world.settings.change(|raw| raw.max_clients = 7);
    for authorization in [
        String::new(),
        "authorization: Bearer \r\n".into(),
        format!("authorization: Bearer {TOKEN}x\r\n"),
        format!("authorization: Bearer {}\r\n", &TOKEN[1..]),
        format!("authorization: Basic {TOKEN}\r\n"),
    ] {
        let mut http = TcpStream::connect(world.http).await.unwrap();
        let request = format!("POST /reload HTTP/1.1\r\nhost: gateway\r\n{authorization}content-length: 0\r\n\r\n");
        http.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        http.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{authorization}: {answer}");
    }
    assert_ne!(
        value(&world, "selkie_gateway_max_clients").await,
        7.0,
        "nothing was taken"
    );
}

#[tokio::test]
async fn bounds_hold_for_who_comes_next() {
    let world = World::start_with([project("demo")], |raw| raw.throttle.failures_per_minute = 0).await;
    let mut there = log_in(&world, "p").await.unwrap();

    reload(&world, |raw| raw.max_clients = 1).await;
    assert!(refused(&world, "p").await.starts_with("1040 "));
    reload(&world, |raw| raw.max_clients = 100).await;
    drop(log_in(&world, "p").await.unwrap());

    reload(&world, |raw| raw.throttle.max_half_open_per_address = 1).await;
    // The login before is over a moment after its client has heard so.
    let half_open = timeout(GUARD, async {
        loop {
            if let Ok(half_open) = Client::reach(world.mysql, HERE).await {
                break half_open;
            }
        }
    });
    let half_open = half_open.await.unwrap();
    assert!(
        refused(&world, "p").await.starts_with("1040 "),
        "one login is under way"
    );
    drop(half_open);
    reload(&world, |raw| raw.throttle.max_half_open_per_address = 100).await;

    reload(&world, |raw| raw.throttle.address_failures_per_second = 1).await;
    for _ in 0..100 {
        if !refused(&world, "wrong").await.starts_with("1045 ") {
            break;
        }
    }
    assert!(
        !refused(&world, "wrong").await.starts_with("1045 "),
        "turned away at the door"
    );
    reload(&world, |raw| raw.throttle.address_failures_per_second = 0).await;
    drop(log_in(&world, "p").await.unwrap());
    there.ask("SET NAMES utf8mb4").await.unwrap();
}

#[tokio::test]
async fn wrong_passwords_are_counted_from_the_reload_on() {
    let world = World::start_with([project("demo")], |raw| raw.throttle.failures_per_minute = 0).await;
    for _ in 0..10 {
        assert!(refused(&world, "wrong").await.starts_with("1045 "));
    }
    reload(&world, |raw| raw.throttle.failures_per_minute = 3).await;
    for _ in 0..3 {
        assert!(refused(&world, "wrong").await.starts_with("1045 "));
    }
    // It was never seen there, so it is not told from who guesses.
    assert!(refused(&world, "p").await.starts_with("1045 "));
    let elsewhere = Client::log_in_from(world.mysql, [127, 9, 9, 2], "demo.u", "p", BASE);
    elsewhere.await.unwrap();
    reload(&world, |raw| raw.throttle.failures_per_minute = 0).await;
    log_in(&world, "p").await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_is_trusted_from_now_on_must_say_who_its_client_is() {
    let world = World::start_with([project("demo")], |raw| raw.tls.mode = "optional".into()).await;
    let mut there = log_in(&world, "p").await.unwrap();
    reload(&world, |raw| raw.proxy_protocol.trusted = vec!["127.9.9.0/24".into()]).await;
    let header = b"PROXY TCP4 127.8.8.8 127.0.0.1 1 2\r\n";
    let through_it = Client::reach_saying(world.mysql, HERE, header).await.unwrap();
    // Of anybody who is not trusted the header is taken for a login packet.
    timeout(GUARD, through_it.prove("demo.u", "p", BASE))
        .await
        .unwrap()
        .unwrap();
    // Who comes through a proxy comes from elsewhere, and without TLS.
    reload(&world, |raw| raw.tls.mode = "required".into()).await;
    let through_it = Client::reach_saying(world.mysql, HERE, header).await.unwrap();
    let refused = timeout(GUARD, through_it.prove("demo.u", "p", BASE)).await.unwrap();
    assert!(refused.err().unwrap().starts_with("1045 "));
    there.ask("SET NAMES utf8mb4").await.unwrap();
}

#[tokio::test]
async fn a_login_that_takes_too_long_ends_by_the_new_time() {
    let world = World::start_with([project("demo")], |raw| raw.login_timeout = "1h".into()).await;
    reload(&world, |raw| raw.login_timeout = "50ms".into()).await;
    let mut slow = Client::reach(world.mysql, HERE).await.unwrap();
    // Told or closed: in either case it is not waited for an hour.
    let _ = timeout(GUARD, slow.read()).await.unwrap();
}

#[tokio::test]
async fn a_command_waits_for_its_database_as_long_as_is_written_now() {
    let world = World::start_with([project("demo")], |raw| raw.wake_timeout = "1h".into()).await;
    let mut there = log_in(&world, "p").await.unwrap();
    reload(&world, |raw| raw.wake_timeout = "50ms".into()).await;
    there.query("SELECT 1").await;
    let (_, payload) = timeout(GUARD, there.read()).await.unwrap().unwrap();
    assert_eq!(payload[0], 0xff, "{}", err(&payload));
}

#[tokio::test]
async fn a_drain_takes_the_time_that_is_written_now() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = World::start_with([project("demo")], |raw| {
        raw.drain_notice = "1h".into();
        raw.drain_timeout = "1h".into();
    })
    .await;
    let answer = Ok(ready(1, &compute.socket));
    world.script.wakes.lock().unwrap().insert("demo".into(), answer);
    let mut open = log_in(&world, "p").await.unwrap();
    open.ask("BEGIN").await.unwrap();
    let taken = reload(&world, |raw| {
        raw.drain_notice = "0s".into();
        raw.drain_timeout = "50ms".into();
    })
    .await;
    assert_eq!(
        taken,
        "{\"taken\":[\"gateway.drain_notice\",\"gateway.drain_timeout\"],\"needs_restart\":[]}"
    );
    world.stop();
    let (_, payload) = timeout(GUARD, open.read()).await.unwrap().unwrap();
    assert_eq!(err(&payload), "1053 08S01 Server shutdown in progress");
}

#[tokio::test]
async fn a_session_parks_and_a_pinned_one_ends_by_the_times_of_its_next_attach() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = World::start_with([project("demo")], |raw| {
        raw.park_after = "1h".into();
        raw.pinned_idle_timeout = "1h".into();
    })
    .await;
    let answer = Ok(ready(1, &compute.socket));
    world.script.wakes.lock().unwrap().insert("demo".into(), answer);
    let mut there = log_in(&world, "p").await.unwrap();
    reload(&world, |raw| {
        raw.park_after = "20ms".into();
        raw.pinned_idle_timeout = "50ms".into();
    })
    .await;
    there.ask("BEGIN").await.unwrap();
    let (_, payload) = timeout(GUARD, there.read()).await.unwrap().unwrap();
    assert!(err(&payload).contains("transaction"), "{}", err(&payload));
}

#[tokio::test]
async fn a_signal_reloads_as_rest_does_and_a_bad_file_changes_nothing() {
    let world = World::start([project("demo")]).await;
    let mut there = log_in(&world, "p").await.unwrap();
    world.settings.change(|raw| raw.max_clients = 1);
    world.reload();
    timeout(GUARD, async {
        while log_in(&world, "p").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let settings = world.settings.0.lock().unwrap().clone();
    *world.settings.0.lock().unwrap() = Err("no such file".into());
    let mut http = TcpStream::connect(world.http).await.unwrap();
    let request =
        format!("POST /reload HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    http.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 422") && answer.contains("no such file"),
        "{answer}"
    );
    *world.settings.0.lock().unwrap() = settings;
    assert!(refused(&world, "p").await.starts_with("1040 "));
    there.ask("SET NAMES utf8mb4").await.unwrap();
}
