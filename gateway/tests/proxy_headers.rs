//! The client's address through a proxy: from those who may say it, and from nobody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use mysql_wire::frame::write_packet;
use mysql_wire::login::LoginPacket;
use support::client::{BASE, Client, err};
use support::{World, project};
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(10);
const PROXY: [u8; 4] = [127, 5, 0, 1];
const ELSEWHERE: [u8; 4] = [127, 6, 0, 1];

async fn world() -> World {
    World::start_with([project("demo")], |raw| {
        raw.proxy_protocol.trusted = vec!["127.5.0.0/16".into()];
        raw.throttle.failures_per_minute = 3;
        // A client with a header is remote, and here nothing is about TLS.
        raw.tls.mode = "optional".into();
    })
    .await
}

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.1 56324 3307\r\n").into_bytes()
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, rest].concat()
}

async fn through(world: &World, header: &[u8], name: &str, password: &str) -> Result<Client, String> {
    let logging_in = async {
        let client = Client::reach_saying(world.mysql, PROXY, header).await?;
        client.prove(name, password, BASE).await
    };
    timeout(GUARD, logging_in).await.unwrap()
}

#[tokio::test]
async fn the_client_is_who_the_header_says_in_errors_and_in_what_wakes() {
    let world = world().await;
    let v6 = [
        &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0; 16],
        &[0xdc, 4, 12, 0xeb],
    ]
    .concat();
    let mapped = [
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 3][..],
        &[0; 16],
        &[0xdc, 4, 12, 0xeb],
    ]
    .concat();
    let v4_with_tlvs = [192, 0, 2, 2, 10, 0, 0, 1, 0xdc, 4, 12, 0xeb, 5, 0, 2, b'i', b'd'];
    for (header, client) in [
        (v1("192.0.2.1"), "192.0.2.1:56324"),
        (v2(0x21, 0x11, &v4_with_tlvs), "192.0.2.2:56324"),
        (v2(0x21, 0x21, &v6), "[2001:db8::1]:56324"),
        (v2(0x21, 0x21, &mapped), "192.0.2.3:56324"),
    ] {
        let ip = client.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
        let refused = through(&world, &header, "demo.u", "wrong").await.err().unwrap();
        assert_eq!(
            refused,
            format!("1045 28000 Access denied for user 'demo.u'@'{ip}' (using password: YES)")
        );
        let mut inside = through(&world, &header, "demo.u", "p").await.unwrap();
        inside.query("DO 1").await;
        let asked = async {
            loop {
                if let Some(asked) = world.script.asked.lock().unwrap().pop() {
                    return asked;
                }
                tokio::task::yield_now().await;
            }
        };
        let asked = timeout(GUARD, asked).await.unwrap();
        assert_eq!(asked.cause.unwrap().client_address, client);
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_keeps_its_own_address() {
    let world = world().await;
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, &[]), v2(0x21, 0, b"x")] {
        let refused = through(&world, &header, "demo.u", "").await.err().unwrap();
        assert!(refused.contains("'demo.u'@'127.5.0.1'"), "{refused}");
        through(&world, &header, "demo.u", "p").await.unwrap();
    }
}

#[tokio::test]
async fn not_a_byte_beyond_the_header_is_taken_for_it() {
    let world = world().await;
    let login = LoginPacket {
        capabilities: BASE,
        max_packet_bytes: 1 << 24,
        collation: 45,
        user: b"demo.u",
        auth_response: &[1; 20],
        database: None,
        auth_plugin: None,
        raw_attributes: b"",
    };
    for header in [
        v1("192.0.2.1"),
        v2(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 1, 1, 1]),
    ] {
        let mut at_once = header;
        write_packet(&mut at_once, &mut 1, &login.encode());
        let mut client = Client::reach_saying(world.mysql, PROXY, &at_once).await.unwrap();
        let (_, answer) = timeout(GUARD, client.read()).await.unwrap().unwrap();
        assert!(err(&answer).starts_with("1045 28000"), "{}", err(&answer));
    }
}

#[tokio::test]
async fn nobody_else_can_say_who_it_is() {
    let world = world().await;
    for header in [
        v1("192.0.2.1"),
        v2(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 1, 1, 1]),
    ] {
        // The greeting comes as if nothing had been sent, and what was sent is taken for a login.
        let mut client = Client::reach_saying(world.mysql, ELSEWHERE, &header).await.unwrap();
        let (_, answer) = timeout(GUARD, client.read()).await.unwrap().unwrap();
        assert_eq!(err(&answer), "1043 08S01 Bad handshake");
    }
    let plain = Client::log_in_from(world.mysql, ELSEWHERE, "demo.u", "p", BASE).await;
    plain.unwrap();
}

#[tokio::test]
async fn a_trusted_proxy_must_say_it() {
    let world = world().await;
    for (sent, problem) in [
        (
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            "it does not begin as a PROXY header does",
        ),
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            "its PROXY header has no usable address",
        ),
        (b"PROXY TCP4 192.0.2.1", "it sent no whole PROXY header within 3 s"),
        (b"", "it sent no whole PROXY header within 3 s"),
    ] {
        let told = timeout(GUARD, Client::reach_saying(world.mysql, PROXY, sent))
            .await
            .unwrap();
        assert_eq!(
            told.err().unwrap(),
            format!(
                "1130 HY000 Host '127.5.0.1' is a trusted proxy of this gateway (gateway.proxy_protocol.trusted), but {problem}"
            )
        );
    }
}

#[tokio::test]
async fn a_header_does_not_make_a_client_one_of_this_machine() {
    let world = World::start_with([project("demo")], |raw| {
        raw.proxy_protocol.trusted = vec!["127.5.0.0/16".into()];
    })
    .await;
    for header in [v1("127.0.0.1"), v2(0x20, 0, &[])] {
        let refused = through(&world, &header, "demo.u", "p").await.err().unwrap();
        assert!(refused.starts_with("1045 28000"), "{refused}");
    }
    Client::log_in_from(world.mysql, ELSEWHERE, "demo.u", "p", BASE)
        .await
        .unwrap();
}

#[tokio::test]
async fn clients_behind_one_proxy_are_held_back_each_for_itself() {
    let world = world().await;
    for _ in 0..10 {
        through(&world, &v1("192.0.2.1"), "demo.u", "wrong")
            .await
            .err()
            .unwrap();
    }
    through(&world, &v1("192.0.2.1"), "demo.u", "p").await.err().unwrap();
    through(&world, &v1("198.51.100.1"), "demo.u", "p").await.unwrap();
}
