//! Bytes that are no MySQL, at every phase: a clear error or a clean close, and nobody else notices.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::login::LoginPacket;
use proptest::prelude::*;
use support::client::{BASE, Client, err, native_answer};
use support::compute::{ALL, FakeCompute};
use support::{World, project, ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Only against hanging: the login's own time is 10 s.
const GUARD: Duration = Duration::from_secs(9);

/// Everything that comes until the gateway closes.
async fn until_closed(client: &mut Client) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = timeout(GUARD, client.stream.read_to_end(&mut rest))
        .await
        .expect("the gateway keeps it open");
    // A reset after the answer is a close.
    let _ = read;
    rest
}

/// The text of the one ERR packet in these bytes; empty if there is none.
fn told(bytes: &[u8]) -> String {
    if bytes.len() > 4 {
        err(&bytes[4..])
    } else {
        String::new()
    }
}

fn login_bytes(client: &Client) -> Vec<u8> {
    let answer = native_answer(b"p", &client.greeting.nonce);
    LoginPacket {
        capabilities: BASE | Capabilities::PLUGIN_AUTH | Capabilities::PLUGIN_AUTH_LENENC_DATA,
        max_packet_bytes: 1 << 24,
        collation: 45,
        user: b"demo.u",
        auth_response: &answer,
        database: None,
        auth_plugin: Some(b"mysql_native_password"),
        raw_attributes: b"",
    }
    .encode()
}

#[tokio::test]
async fn other_protocols_get_an_answer_and_a_close() {
    let world = World::start([project("demo")]).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x00\xc4\x01\x00\x00\xc0\x03\x03",
        b"SSH-2.0-x\r\n",
    ] {
        let mut client = Client::connect(world.mysql).await;
        client.stream.write_all(bytes).await.unwrap();
        client.stream.shutdown().await.unwrap();
        until_closed(&mut client).await;
    }
    Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
}

#[tokio::test]
async fn a_login_packet_cut_anywhere_is_a_bad_handshake() {
    let world = World::start([project("demo")]).await;
    let whole = login_bytes(&Client::connect(world.mysql).await).len();
    for len in 0..whole {
        let mut client = Client::connect(world.mysql).await;
        let login = login_bytes(&client);
        client.send(1, &login[..len]).await;
        client.stream.shutdown().await.unwrap();
        let text = told(&until_closed(&mut client).await);
        let plain = ["1043 08S01", "1045 28000", "1251 08004"]
            .iter()
            .any(|code| text.starts_with(code));
        // The plugin's name may be cut: then there is another exchange, which the client ended; or it is whole.
        assert!(
            plain || text.is_empty() || text.starts_with("no ERR packet"),
            "cut at {len}: {text}"
        );
    }
}

#[tokio::test]
async fn an_oversized_or_misnumbered_login_is_refused() {
    let world = World::start([project("demo")]).await;
    let mut client = Client::connect(world.mysql).await;
    client.stream.write_all(&[0xff, 0xff, 0xff, 1]).await.unwrap();
    assert_eq!(told(&until_closed(&mut client).await), "1043 08S01 Bad handshake");
    let mut client = Client::connect(world.mysql).await;
    let login = login_bytes(&client);
    client.send(7, &login).await;
    assert_eq!(
        told(&until_closed(&mut client).await),
        "1156 08S01 Got packets out of order"
    );
}

#[tokio::test]
async fn a_command_out_of_order_is_told_and_ends_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = World::start([project("demo")]).await;
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(ready(1, &compute.socket)));
    for attached in [false, true] {
        let mut client = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
        if attached {
            client.ask("DO 1").await.unwrap();
        }
        client.send(3, &[0x0e]).await;
        assert_eq!(
            told(&until_closed(&mut client).await),
            "1156 08S01 Got packets out of order",
            "attached: {attached}"
        );
    }
}

#[tokio::test]
async fn commands_that_are_refused_are_answered_wherever_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = World::start([project("demo")]).await;
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(ready(1, &compute.socket)));
    let mut client = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
    for attach in [false, true] {
        if attach {
            client.ask("DO 1").await.unwrap();
        }
        for code in [0x12, 0x13, 0x15, 0x00, 0x1e, 0x77, 0xff] {
            let body = [&[code][..], &vec![0; 70_000]].concat();
            client.send(0, &body).await;
            let (_, reply) = timeout(GUARD, client.read()).await.unwrap().unwrap();
            assert_eq!(
                err(&reply),
                "1047 08S01 Unknown command",
                "{code:#x}, attached: {attach}"
            );
        }
    }
    client.ask("DO 2").await.unwrap();
    assert!(!compute.seen.lock().unwrap().commands.contains(&0x12));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// At each phase: after the greeting, after the login, with a compute.
    #[test]
    fn random_bytes_hang_nothing_and_hurt_nobody(phase in 0..3_usize, bytes in proptest::collection::vec(any::<u8>(), 1..600)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let compute = FakeCompute::start(dir.path(), "c", ALL);
            let world = World::start([project("demo")]).await;
            world.script.wakes.lock().unwrap().insert("demo".into(), Ok(ready(1, &compute.socket)));
            let mut bystander = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
            bystander.ask("DO 1").await.unwrap();
            let mut client = match phase {
                0 => Client::connect(world.mysql).await,
                _ => Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap(),
            };
            if phase == 2 {
                client.ask("DO 1").await.unwrap();
            }
            let _ = client.stream.write_all(&bytes).await;
            let _ = client.stream.shutdown().await;
            until_closed(&mut client).await;
            timeout(GUARD, bystander.ask("DO 2")).await.unwrap().unwrap();
        });
    }
}
