//! The unix socket between the control plane and an agent, with the proxy in its place: what control asks for gets there and
//! its answer does not, or neither.

use std::time::Duration;

use harness::client::{run, value};
use harness::proxy::{Then, Trouble, restore, seed};
use harness::{Proxy, Selkie, process};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::writer::Writer;
use crate::chaos::bill;

const ROUNDS: u64 = 5;
const LASTS: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(8);
/// A change that the server has not said to have taken is given up after 15 s; here nothing is silent.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn what_control_said_is_so_whatever_became_of_its_talk_with_the_agent() {
    let seed = seed("control_to_agent", 1);
    let selkie = Selkie::start().await;
    for part in [
        "changes were not applied to the running compute",
        "the compute does not say whether it works",
        "ending processes that were left behind",
        "the compute was not stopped cleanly",
        "cannot be opened again",
    ] {
        selkie.logs.allow(part);
    }
    let project = selkie.project("asked").await;
    let mut boss = project.admin("boss", "boss pw").await.connect().await;
    Writer::make_table(&project.endpoint).await;
    let mut made = Vec::new();
    let mut written = Vec::new();
    for round in 0..ROUNDS {
        // Each start has a socket of its own.
        value(&mut boss, "SELECT 1").await;
        let sockets = process::files_below(&selkie.data_dir(), "a.sock");
        let socket = sockets.iter().find(|path| path.to_string_lossy().contains("/asked"));
        let socket = socket.expect("the agent's socket").clone();
        let (proxy, away) = Proxy::in_place_of(&socket);
        proxy.foul(Trouble {
            seed: seed + round,
            ends: &[Then::End, Then::HalfClose],
            until_max: 2 << 10,
            delay_max: Duration::from_millis(10),
        });
        let mut writing = JoinSet::new();
        writing.spawn(Writer::new(round as u32, project.endpoint.clone(), PATIENCE).writes_for(LASTS));
        for number in 0..3 {
            let name = format!("user{round}{number}");
            let body = json!({"name": name, "password": name});
            let began = Instant::now();
            let answer = selkie
                .rest("POST", &format!("/projects/{}/users", project.id), Some(&body))
                .await;
            assert!(began.elapsed() < ANSWERED_WITHIN, "{:?}", began.elapsed());
            // 503: it is kept, and brought to the server later.
            assert!([201, 503].contains(&answer.status), "{answer:?}");
            made.push(name);
            let in_sql = format!("sql{round}{number}");
            run(&mut boss, &format!("CREATE USER {in_sql} IDENTIFIED BY '{in_sql}'")).await;
            made.push(in_sql);
        }
        written.extend(writing.join_all().await);
        let began = Instant::now();
        project.suspend_without_waiting().await;
        assert!(began.elapsed() < ANSWERED_WITHIN, "{:?}", began.elapsed());
        assert!(selkie.servers().is_empty(), "it says that nothing runs");
        drop(proxy);
        restore(&socket, &away);
        // The agent has gone with its server, and its own socket under the other name is nobody's.
        let _ = std::fs::remove_file(&away);
        let _ = std::fs::remove_file(&socket);
    }
    for writer in &written {
        assert!(writer.told.keys().all(|code| *code == 1053), "{:?}", writer.told);
        writer.is_right(&project.endpoint).await;
    }
    for name in &made {
        let user = project
            .endpoint
            .with_user(&format!("{}.{name}", project.id))
            .with_password(name)
            .with_database("");
        let mut conn = user.connect().await;
        assert_eq!(value(&mut conn, "SELECT 41 + 1").await.as_deref(), Some("42"), "{name}");
    }
    let wrong = bill::what_is_wrong(&selkie, &project.id).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    drop(boss);
    selkie.logs.check();
}
