//! Several listeners: what is each one's own, and what holds on all of them together.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use gateway::{RawConfig, RawListener, RawProxyProtocol};
use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client, err};
use support::compute::{ALL, FakeCompute};
use support::{TOKEN, World, project, ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(30);
const HERE: [u8; 4] = [127, 9, 9, 1];

fn listener(project: Option<&str>) -> RawListener {
    RawListener {
        listen: "127.0.0.1:0".into(),
        project: project.map(str::to_owned),
        tls: Default::default(),
        proxy_protocol: None,
    }
}

/// A gateway with two projects that are alike, and besides the listener for all one for `demo`.
async fn world(adjust: impl FnOnce(&mut RawConfig)) -> World {
    World::start_with([project("demo"), project("other")], |raw| {
        raw.listeners = vec![listener(Some("demo"))];
        adjust(raw);
    })
    .await
}

async fn log_in(at: SocketAddr, name: &str, password: &str) -> Result<Client, String> {
    let logging_in = Client::log_in_from(at, HERE, name, password, BASE | Capabilities::PLUGIN_AUTH);
    timeout(GUARD, logging_in).await.unwrap()
}

async fn told(client: &mut Client) -> String {
    let (_, payload) = timeout(GUARD, client.read()).await.unwrap().unwrap();
    err(&payload)
}

/// Changes the user, with the password that every user of these tests has.
async fn change_user(client: &mut Client, name: &str) -> Result<(), String> {
    timeout(GUARD, client.change_user(name, "p")).await.unwrap()
}

/// Which project's database the client's command asks for. The client leaves, and with it the wake: the next one asks anew.
async fn woken(world: &World, mut client: Client) -> String {
    client.query("SELECT 1").await;
    let asked = async {
        loop {
            if let Some(asked) = world.script.asked.lock().unwrap().pop() {
                return asked.project;
            }
            tokio::task::yield_now().await;
        }
    };
    let project = timeout(GUARD, asked).await.unwrap();
    drop(client);
    timeout(GUARD, world.script.given_up.notified()).await.unwrap();
    project
}

#[tokio::test]
async fn a_listener_of_one_project_needs_no_project_in_the_name_and_serves_that_one() {
    let world = world(|_| {}).await;
    let bound = world.listeners[0].address;
    assert_eq!(world.listeners[0].project.as_deref(), Some("demo"));
    for (at, name, serves) in [
        (bound, "u", "demo"),
        (bound, "demo.u", "demo"),
        (world.mysql, "demo.u", "demo"),
        (world.mysql, "other.u", "other"),
    ] {
        let client = log_in(at, name, "p").await.unwrap();
        assert_eq!(woken(&world, client).await, serves, "{name} at {at}");
    }
    for (at, name) in [(bound, "other.u"), (bound, "x"), (bound, "demo.x"), (world.mysql, "u")] {
        assert_eq!(
            log_in(at, name, "p").await.err().unwrap(),
            format!("1045 28000 Access denied for user '{name}'@'127.9.9.1' (using password: YES)")
        );
    }
}

#[tokio::test]
async fn nobody_becomes_another_projects_user_at_a_listener_of_one_project() {
    let world = world(|_| {}).await;
    let mut client = log_in(world.listeners[0].address, "u", "p").await.unwrap();
    change_user(&mut client, "u").await.unwrap();
    change_user(&mut client, "demo.u").await.unwrap();
    let (as_other, as_nobody) = (
        change_user(&mut client, "other.u").await.unwrap_err(),
        change_user(&mut client, "nowhere.u").await.unwrap_err(),
    );
    assert!(as_other.starts_with("1045 28000 "), "{as_other}");
    assert_eq!(as_other.replace("'other.u'", "'nowhere.u'"), as_nobody);
    // The same session elsewhere may.
    let mut client = log_in(world.mysql, "demo.u", "p").await.unwrap();
    change_user(&mut client, "other.u").await.unwrap();
    assert_eq!(woken(&world, client).await, "other");
}

#[tokio::test]
async fn a_listener_for_a_project_that_is_not_there_answers_as_to_an_unknown_user() {
    let world = world(|raw| raw.listeners.push(listener(Some("nowhere")))).await;
    let denied = log_in(world.mysql, "demo.x", "p").await.err().unwrap();
    for name in ["u", "nowhere.u", "demo.u"] {
        let refused = log_in(world.listeners[1].address, name, "p").await.err().unwrap();
        assert_eq!(refused.replace(&format!("'{name}'"), "'demo.x'"), denied);
    }
    world.script.publish(project("nowhere")).await;
    // Once it is there it is served.
    let served = async { while log_in(world.listeners[1].address, "u", "p").await.is_err() {} };
    timeout(GUARD, served).await.unwrap();
}

#[tokio::test]
async fn what_is_counted_is_counted_on_all_listeners_together() {
    let world = world(|raw| {
        raw.max_clients = 2;
        raw.max_clients_per_project = Some(2);
        raw.throttle.failures_per_minute = 3;
    })
    .await;
    let bound = world.listeners[0].address;
    for _ in 0..3 {
        assert!(log_in(bound, "u", "wrong").await.err().unwrap().starts_with("1045 "));
    }
    for (at, name) in [(bound, "u"), (world.mysql, "demo.u")] {
        assert!(
            log_in(at, name, "p").await.err().unwrap().starts_with("1045 "),
            "{name}"
        );
    }
    // The other project was not guessed at; two clients are all that have room.
    let one = log_in(world.mysql, "other.u", "p").await.unwrap();
    let other = log_in(world.mysql, "other.u", "p").await.unwrap();
    for at in [bound, world.mysql] {
        assert!(log_in(at, "u", "p").await.err().unwrap().starts_with("1040 "), "{at}");
    }
    drop((one, other));
}

#[tokio::test]
async fn a_listener_may_have_proxies_of_its_own() {
    let world = world(|raw| {
        raw.tls.mode = "optional".into();
        raw.listeners[0].proxy_protocol = Some(RawProxyProtocol {
            trusted: vec!["127.9.9.0/24".into()],
        });
        raw.listeners.push(RawListener {
            tls: gateway::RawListenerTls {
                mode: Some("required".into()),
            },
            ..raw.listeners[0].clone()
        });
    })
    .await;
    let header = b"PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n";
    let through = async |at: SocketAddr| {
        let client = Client::reach_saying(at, HERE, header).await?;
        timeout(GUARD, client.prove("u", "p", BASE)).await.unwrap()
    };
    through(world.listeners[0].address).await.unwrap();
    // Through a proxy is from elsewhere, where this one wants TLS.
    let without_tls = through(world.listeners[1].address).await.err().unwrap();
    assert_eq!(
        without_tls,
        "1045 28000 Access denied for user 'u'@'192.0.2.9' (using password: YES)"
    );
    assert!(through(world.mysql).await.err().unwrap().starts_with("1043 "));
    let told = Client::reach_saying(world.listeners[0].address, HERE, b"no header at all")
        .await
        .err()
        .unwrap();
    assert!(told.contains("(gateway.listeners.proxy_protocol.trusted)"), "{told}");
}

#[tokio::test]
async fn a_kill_reaches_the_sessions_of_its_project_at_every_listener_and_no_others() {
    let world = world(|raw| raw.listeners.push(listener(Some("other")))).await;
    let mut killer = log_in(world.listeners[0].address, "u", "p").await.unwrap();
    let mut at_all = log_in(world.mysql, "demo.u", "p").await.unwrap();
    let others = log_in(world.listeners[1].address, "u", "p").await.unwrap();
    killer
        .ask(&format!("KILL {}", at_all.greeting.connection_id))
        .await
        .unwrap();
    assert!(told(&mut at_all).await.starts_with("1927 70100"));
    let of_others = killer.ask(&format!("KILL {}", others.greeting.connection_id)).await;
    assert!(of_others.unwrap_err().starts_with("1094 "));
}

#[tokio::test]
async fn a_shut_down_ends_every_listener_and_what_came_through_it() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = world(|raw| raw.drain_timeout = "1h".into()).await;
    let answer = Ok(ready(1, &compute.socket));
    world.script.wakes.lock().unwrap().insert("demo".into(), answer);
    let bound = world.listeners[0].address;
    let mut idle = [
        log_in(world.mysql, "demo.u", "p").await.unwrap(),
        log_in(bound, "u", "p").await.unwrap(),
    ];
    let mut open = log_in(bound, "u", "p").await.unwrap();
    open.ask("BEGIN").await.unwrap();
    world.stop();
    for client in &mut idle {
        assert_eq!(told(client).await, "1053 08S01 Server shutdown in progress");
    }
    for at in [world.mysql, bound] {
        let refused = async { while TcpStream::connect(at).await.is_ok() {} };
        timeout(GUARD, refused).await.unwrap();
    }
    open.ask("COMMIT").await.unwrap();
    assert_eq!(told(&mut open).await, "1053 08S01 Server shutdown in progress");
    timeout(GUARD, world.ended()).await.unwrap();
}

#[tokio::test]
async fn a_reload_takes_what_a_listener_is_for_and_a_new_one_waits_for_a_restart() {
    let world = world(|_| {}).await;
    let bound = world.listeners[0].address;
    let mut there = log_in(bound, "u", "p").await.unwrap();
    world.settings.change(|raw| {
        raw.listeners[0].project = Some("other".into());
        raw.listeners.insert(
            0,
            RawListener {
                listen: "127.0.0.1:1".into(),
                ..listener(None)
            },
        );
    });
    let mut http = TcpStream::connect(world.http).await.unwrap();
    let request =
        format!("POST /reload HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    http.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.unwrap();
    let expected = r#"{"taken":["gateway.listeners"],"needs_restart":["gateway.listeners"]}"#;
    assert!(answer.ends_with(expected), "{answer}");
    let client = log_in(bound, "u", "p").await.unwrap();
    assert_eq!(woken(&world, client).await, "other");
    // Who is there stays whose it was.
    change_user(&mut there, "u").await.unwrap();
    assert_eq!(woken(&world, there).await, "demo");
}
