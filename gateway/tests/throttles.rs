//! What a source may do before it has logged in, and what it learns when it has done too much: nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use gateway::RawConfig;
use mysql_wire::capabilities::Capabilities;
use mysql_wire::login::LoginPacket;
use sha2::{Digest, Sha256};
use support::client::{BASE, Client, err, native_answer};
use support::metrics::value;
use support::{World, project};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Only against hanging.
const GUARD: Duration = Duration::from_secs(10);
const STRANGER: [u8; 4] = [127, 9, 9, 1];
const NEIGHBOUR: [u8; 4] = [127, 9, 9, 2];
const ELSEWHERE: [u8; 4] = [127, 8, 8, 8];
const FAILURES: u32 = 3;

async fn world(adjust: impl FnOnce(&mut RawConfig)) -> World {
    World::start_with([project("demo")], |raw| {
        raw.throttle.failures_per_minute = FAILURES;
        adjust(raw);
    })
    .await
}

async fn log_in(world: &World, from: [u8; 4], name: &str, password: &str) -> Result<Client, String> {
    let logging_in = Client::log_in_from(world.mysql, from, name, password, BASE);
    timeout(GUARD, logging_in).await.unwrap()
}

#[tokio::test]
async fn a_stranger_who_guesses_keeps_nobody_out_but_strangers_at_its_own_address() {
    let world = world(|_| {}).await;
    for _ in 0..20 {
        let refused = log_in(&world, STRANGER, "demo.u", "wrong").await.err().unwrap();
        assert!(refused.starts_with("1045 28000"), "{refused}");
    }
    let found = log_in(&world, STRANGER, "demo.u", "p").await.err().unwrap();
    assert_eq!(
        found, "1045 28000 Access denied for user 'demo.u'@'127.9.9.1' (using password: YES)",
        "the right password is no news"
    );
    log_in(&world, ELSEWHERE, "demo.u", "p").await.unwrap();
    log_in(&world, NEIGHBOUR, "demo.u", "p").await.unwrap();
    assert!(world.script.asked.lock().unwrap().is_empty(), "nothing was woken");
    let held_back = value(&world, "selkie_gateway_throttled_total{bound=\"password\"}").await;
    assert_eq!(held_back, f64::from(20 - FAILURES + 1));
}

#[tokio::test]
async fn an_application_that_was_here_before_is_not_kept_out_by_guesses_from_its_own_address() {
    let world = world(|_| {}).await;
    log_in(&world, STRANGER, "demo.u", "p").await.unwrap();
    for _ in 0..20 {
        log_in(&world, STRANGER, "demo.other", "wrong").await.err().unwrap();
    }
    for _ in 0..20 {
        log_in(&world, STRANGER, "demo.u", "p").await.unwrap();
    }
}

#[tokio::test]
async fn guesses_by_change_user_are_counted_with_the_others() {
    let world = world(|_| {}).await;
    let mut inside = log_in(&world, NEIGHBOUR, "demo.u", "p").await.unwrap();
    for _ in 0..20 {
        log_in(&world, NEIGHBOUR, "demo.u", "wrong").await.err().unwrap();
    }
    let change = mysql_wire::login::ChangeUser {
        user: b"u",
        auth_response: b"",
        database: None,
        collation: Some(45),
        auth_plugin: None,
        raw_attributes: b"",
    };
    inside.send(0, &change.encode(inside.capabilities)).await;
    let (sequence, _switch) = inside.read().await.unwrap();
    inside
        .send(sequence + 1, &native_answer(b"p", &inside.greeting.nonce))
        .await;
    let (_, answer) = timeout(GUARD, inside.read()).await.unwrap().unwrap();
    assert!(support::client::err(&answer).starts_with("1045 28000"), "{answer:?}");
}

/// How a client answers.
#[derive(Debug, Clone, Copy)]
enum Exchange {
    Native,
    CachingSha2,
    /// A plugin that nobody has: the gateway asks for another.
    Switched,
}

/// All that the gateway sends in one login, the nonce aside.
async fn transcript(world: &World, from: [u8; 4], name: &str, password: &[u8], exchange: Exchange) -> Vec<String> {
    let mut client = Client::reach(world.mysql, from).await.unwrap();
    let nonce = client.greeting.nonce;
    let plugin: &[u8] = match exchange {
        Exchange::Native => b"mysql_native_password",
        Exchange::CachingSha2 => b"caching_sha2_password",
        Exchange::Switched => b"nobodys_password",
    };
    let native = native_answer(password, &nonce);
    let stage1 = Sha256::digest(password);
    let mask = Sha256::new()
        .chain_update(Sha256::digest(stage1))
        .chain_update(nonce)
        .finalize();
    let sha2: Vec<u8> = stage1.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    let login = LoginPacket {
        capabilities: BASE | Capabilities::PLUGIN_AUTH,
        max_packet_bytes: 1 << 24,
        collation: 45,
        user: name.as_bytes(),
        auth_response: &native,
        database: None,
        auth_plugin: Some(plugin),
        raw_attributes: b"",
    };
    client.send(1, &login.encode()).await;
    let mut seen = Vec::new();
    while let Ok(Ok((sequence, payload))) = timeout(GUARD, client.read()).await {
        if payload[0] == 0xfe {
            let answer = if matches!(exchange, Exchange::CachingSha2) {
                &sha2
            } else {
                &native
            };
            client.send(sequence + 1, answer).await;
        }
        let shown = payload.escape_ascii().to_string();
        let shown = shown.replace(&nonce.escape_ascii().to_string(), "NONCE");
        seen.push(format!("{sequence} {}", shown.replace(name, "NAME")));
        if payload[0] == 0 {
            break;
        }
    }
    seen
}

#[tokio::test]
async fn every_refusal_is_the_same_to_the_byte_held_back_or_not() {
    for exchange in [Exchange::Native, Exchange::CachingSha2, Exchange::Switched] {
        let world = world(|_| {}).await;
        let mut refusals = Vec::new();
        for round in 0..4 * FAILURES {
            for name in ["demo.u", "demo.x", "none.u", "nodots"] {
                let seen = transcript(&world, STRANGER, name, b"wrong", exchange).await;
                refusals.push((round, name, seen));
            }
        }
        // Held back by now, for the right password, too.
        refusals.push((
            99,
            "demo.u",
            transcript(&world, STRANGER, "demo.u", b"p", exchange).await,
        ));
        let (_, _, first) = &refusals[0];
        assert!(first.last().unwrap().contains("Access denied"), "{first:?}");
        for (round, name, seen) in &refusals {
            assert_eq!(seen, first, "{exchange:?}, {name} in round {round}");
        }
        let let_in = transcript(&world, ELSEWHERE, "demo.u", b"p", exchange).await;
        assert_ne!(&let_in, first, "{exchange:?}");
        assert!(world.script.asked.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn half_open_logins_of_one_address_are_bounded_and_others_log_in() {
    let world = world(|raw| raw.throttle.max_half_open_per_address = 2).await;
    let held = [
        Client::reach(world.mysql, STRANGER).await.unwrap(),
        Client::reach(world.mysql, STRANGER).await.unwrap(),
    ];
    let refused = Client::reach(world.mysql, STRANGER).await.err().unwrap();
    assert_eq!(
        refused,
        "1040 08004 Too many connections: too many logins from '127.9.9.1' are under way"
    );
    log_in(&world, NEIGHBOUR, "demo.u", "p").await.unwrap();
    drop(held);
    let room = async { while log_in(&world, STRANGER, "demo.u", "p").await.is_err() {} };
    timeout(GUARD, room).await.unwrap();
}

#[tokio::test]
async fn one_address_that_says_nothing_does_not_have_all_places_of_a_small_gateway() {
    let world = world(|raw| raw.max_clients = 300).await;
    let mut held = Vec::new();
    let refused = loop {
        match Client::reach(world.mysql, STRANGER).await {
            Ok(client) => held.push(client),
            Err(text) => break text,
        }
    };
    assert!(
        refused.contains("too many logins from '127.9.9.1' are under way"),
        "{refused}"
    );
    assert!((64..=150).contains(&held.len()), "{}", held.len());
    log_in(&world, NEIGHBOUR, "demo.u", "p").await.unwrap();
}

#[tokio::test]
async fn long_login_packets_have_so_much_room_together_and_others_log_in_beside_them() {
    let world = world(|_| {}).await;
    let mut told: FuturesUnordered<_> = (0..200)
        .map(|_| async {
            let mut client = Client::reach(world.mysql, STRANGER).await.unwrap();
            // The head of a packet of 128 KiB; the rest does not come.
            client.stream.write_all(&[0, 0, 2, 1]).await.unwrap();
            client.read().await.map(|(_, told)| err(&told))
        })
        .collect();
    for _ in 0..50 {
        let told = timeout(GUARD, told.next())
            .await
            .expect("all of them are waited for")
            .unwrap();
        assert_eq!(
            told.unwrap(),
            "1040 08004 Too many connections: too many logins with long packets are under way"
        );
    }
    log_in(&world, STRANGER, "demo.u", "p").await.unwrap();
}

#[tokio::test]
async fn logged_in_clients_are_no_half_open_ones() {
    let world = world(|raw| raw.throttle.max_half_open_per_address = 1).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        // The place is given back in the moment after the OK was sent.
        let next = async {
            loop {
                if let Ok(client) = log_in(&world, STRANGER, "demo.u", "p").await {
                    return client;
                }
            }
        };
        clients.push(timeout(GUARD, next).await.unwrap());
    }
}

#[tokio::test]
async fn a_client_that_sends_its_login_byte_by_byte_is_closed_in_time() {
    let world = world(|raw| raw.login_timeout = "500ms".into()).await;
    let mut slow = Client::reach(world.mysql, STRANGER).await.unwrap();
    let dribble = async {
        slow.stream.write_all(&[200, 0, 0, 1]).await.unwrap();
        let mut byte = [0];
        loop {
            tokio::select! {
                read = slow.stream.read(&mut byte) => return matches!(read, Ok(0) | Err(_)),
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    let _ = slow.stream.write_all(&[0]).await;
                }
            }
        }
    };
    // 200 bytes would take 4 s.
    assert!(timeout(Duration::from_secs(3), dribble).await.expect("still open"));
}

#[tokio::test]
async fn clients_beyond_the_bound_are_told_so() {
    let world = world(|raw| raw.max_clients = 1).await;
    let _held = Client::reach(world.mysql, STRANGER).await.unwrap();
    for _ in 0..20 {
        let told = Client::reach(world.mysql, NEIGHBOUR).await.err().unwrap();
        assert_eq!(told, "1040 08004 Too many connections");
    }
}

#[tokio::test]
async fn an_address_that_only_fails_is_turned_away_before_the_greeting() {
    let world = world(|raw| raw.throttle.address_failures_per_second = 1).await;
    let turned_away = async {
        loop {
            match Client::reach(world.mysql, STRANGER).await {
                Ok(client) => drop(client),
                Err(text) => return text,
            }
        }
    };
    let text = timeout(GUARD, turned_away).await.unwrap();
    assert_eq!(
        text,
        "1129 HY000 Host '127.9.9.1' is blocked because of many failed logins; try again in 1 s"
    );
    log_in(&world, NEIGHBOUR, "demo.u", "p").await.unwrap();
    assert!(value(&world, "selkie_gateway_throttled_total{bound=\"address\"}").await >= 1.0);
}

#[tokio::test]
async fn an_address_that_logs_in_as_often_as_it_fails_is_not_turned_away() {
    let world = world(|raw| {
        raw.throttle.failures_per_minute = 0;
        // Twenty at once.
        raw.throttle.address_failures_per_second = 1;
    })
    .await;
    for _ in 0..60 {
        let refused = log_in(&world, STRANGER, "demo.u", "old").await.err().unwrap();
        assert!(refused.starts_with("1045 "), "{refused}");
        log_in(&world, STRANGER, "demo.u", "p").await.unwrap();
    }
}
