//! Every combination of the capabilities we claim, client by compute: what both have works, byte for byte; where the form
//! of packets would differ, the client is told and nothing is mistaken for something else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::column::{ColumnDefinition, text_result_set};
use mysql_wire::status::StatusFlags;
use support::client::{BASE, Client};
use support::compute::{ALL, FakeCompute};
use support::{World, project, ready};

/// What a client may or may not have, and what changes a packet somewhere.
const CLIENT_FLAGS: [Capabilities; 9] = [
    Capabilities::CONNECT_WITH_DB,
    Capabilities::PLUGIN_AUTH,
    Capabilities::PLUGIN_AUTH_LENENC_DATA,
    Capabilities::CONNECT_ATTRS,
    Capabilities::SESSION_TRACK,
    Capabilities::DEPRECATE_EOF,
    Capabilities::MARIADB_EXTENDED_METADATA,
    Capabilities::MARIADB_PROGRESS,
    Capabilities::LOCAL_FILES,
];

/// What changes the form of packets in the command phase.
const FORM_FLAGS: [Capabilities; 3] = [
    Capabilities::SESSION_TRACK,
    Capabilities::DEPRECATE_EOF,
    Capabilities::MARIADB_EXTENDED_METADATA,
];

fn subsets(flags: &[Capabilities]) -> impl Iterator<Item = Capabilities> + '_ {
    (0..1_u32 << flags.len()).map(|bits| {
        let chosen = flags.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0);
        chosen.fold(Capabilities::EMPTY, |set, (_, flag)| set | *flag)
    })
}

/// The bytes that a compute with these capabilities answers `SELECT two results` with.
fn expected(capabilities: Capabilities) -> Vec<u8> {
    let columns = [ColumnDefinition {
        name: b"c".to_vec(),
        charset: 45,
        column_type: 0xfd,
        ..Default::default()
    }];
    let rows = [vec![Some(&b"x"[..])], vec![None]];
    let mut out = Vec::new();
    let more = StatusFlags::AUTOCOMMIT | StatusFlags::MORE_RESULTS;
    text_result_set(&mut out, 1, &columns, &rows, capabilities, more);
    let second = if capabilities.contains(Capabilities::DEPRECATE_EOF) {
        6
    } else {
        7
    };
    text_result_set(&mut out, second, &columns, &rows, capabilities, StatusFlags::AUTOCOMMIT);
    out
}

async fn check(world: &World, client: Capabilities, compute: Capabilities) {
    let what = format!("client {client:?}, compute lacks {:?}", ALL & !compute);
    let mut session = Client::log_in(world.mysql, "demo.u", "p", BASE | client)
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let form = FORM_FLAGS.iter().fold(Capabilities::EMPTY, |set, flag| set | *flag);
    let missing = client & form & !compute;
    if !missing.is_empty() {
        let error = session.ask("DO 1").await.unwrap_err();
        assert!(error.starts_with("1105 HY000"), "{what}: {error}");
        return;
    }
    session.query("SELECT two results").await;
    let expected = expected(session.capabilities);
    let mut answer = vec![0; expected.len()];
    let read = tokio::io::AsyncReadExt::read_exact(&mut session.stream, &mut answer).await;
    read.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(answer, expected, "{what}");
    // The end of the response was found: the next command is answered.
    session.ask("DO 2").await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let refused = session.ask("SELECT fail").await.unwrap_err();
    assert_eq!(refused, "1146 42S02 no such table", "{what}");
}

async fn world_with(compute: &FakeCompute) -> World {
    let world = World::start([project("demo")]).await;
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(ready(1, &compute.socket)));
    world
}

#[tokio::test]
async fn every_client_works_with_a_compute_that_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let compute = FakeCompute::start(dir.path(), "c", ALL);
    let world = world_with(&compute).await;
    for client in subsets(&CLIENT_FLAGS) {
        check(&world, client, ALL).await;
    }
}

#[tokio::test]
async fn a_compute_that_lacks_a_form_is_refused_to_clients_that_were_promised_it() {
    let dir = tempfile::tempdir().unwrap();
    for (n, lacking) in subsets(&FORM_FLAGS).enumerate() {
        let offered = ALL & !lacking;
        let compute = FakeCompute::start(dir.path(), &format!("c{n}"), offered);
        let world = world_with(&compute).await;
        for client in subsets(&FORM_FLAGS) {
            check(&world, client | Capabilities::PLUGIN_AUTH, offered).await;
        }
    }
}

#[tokio::test]
async fn compression_is_not_offered() {
    let world = World::start([project("demo")]).await;
    let client = Client::connect(world.mysql).await;
    assert!(!client.greeting.capabilities.contains(Capabilities::COMPRESS));
    assert!(!client.greeting.capabilities.contains(Capabilities::CLIENT_MYSQL));
    assert!(client.greeting.connection_id >= 1 << 31);
}
