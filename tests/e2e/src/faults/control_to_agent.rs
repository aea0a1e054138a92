//! The unix socket between the control plane and an agent, with the proxy in its place: what control asks for gets there and
//! its answer does not, or neither.

use std::path::PathBuf;
use std::time::Duration;

use harness::client::{run, value};
use harness::proxy::{Then, Trouble, restore, seed};
use harness::{Proxy, Selkie, eventually, process};
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

fn socket_of(selkie: &Selkie, project: &str) -> PathBuf {
    let sockets = process::files_below(&selkie.data_dir(), "a.sock");
    let of_project = format!("/{project}/");
    let socket = sockets.iter().find(|path| path.to_string_lossy().contains(&of_project));
    socket.expect("the agent's socket").clone()
}

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
        let socket = socket_of(&selkie, &project.id);
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
    // Deleting it, too, while it runs.
    let socket = socket_of(&selkie, &project.id);
    let (proxy, _away) = Proxy::in_place_of(&socket);
    proxy.foul(Trouble {
        seed,
        ends: &[Then::End, Then::HalfClose],
        until_max: 200,
        delay_max: Duration::from_millis(10),
    });
    let path = format!("/projects/{}", project.id);
    let deleted = selkie.rest("DELETE", &path, None).await;
    assert!((200..300).contains(&deleted.status), "{deleted:?}");
    let dir = selkie.data_dir().join("projects").join(&project.id);
    eventually("nothing of it is left", async || {
        (!dir.exists() && selkie.servers().is_empty()).then_some(())
    })
    .await;
    assert_eq!(selkie.rest("GET", &path, None).await.status, 404);
    drop(boss);
    selkie.logs.check();
}

/// The socket is away, as for a control plane without a free descriptor, while the agent and its server live.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_agent_is_not_reached_for_a_while_serves_on_and_control_hears_of_it_again() {
    let mut selkie = Selkie::start().await;
    selkie.logs.allow("an agent that lives is not reached");
    let boss = selkie.demo_project().admin("boss", "boss pw").await;
    value(&mut boss.connect().await, "SELECT 1").await;
    let incarnation = selkie.demo_project().compute().await.incarnation;
    selkie.crash();
    let socket = &socket_of(&selkie, "demo");
    let (proxy, behind) = Proxy::in_place_of(socket);
    // Which takes the server over, by way of the proxy.
    selkie.restart().await;
    let project = selkie.demo_project();
    let mut conn = boss.connect().await;
    run(&mut conn, "CREATE TABLE t (a INT); BEGIN; INSERT INTO t VALUES (1)").await;
    assert_eq!(project.compute().await.incarnation, incarnation, "it was taken over");

    let away = socket.with_extension("away");
    std::fs::rename(socket, &away).expect("a socket to be renamed");
    proxy.cut();
    let says = async |what: &str| {
        eventually(format_args!("word of it: {what}"), async || {
            selkie.logs.text().contains(what).then_some(())
        })
        .await;
    };
    says("an agent that lives is not reached").await;
    run(&mut conn, "INSERT INTO t VALUES (2); COMMIT").await;
    std::fs::rename(&away, socket).expect("a socket to be renamed");
    says("the agent is reached again").await;

    assert_eq!(value(&mut conn, "SELECT SUM(a) FROM t").await.as_deref(), Some("3"));
    assert_eq!(project.compute().await.incarnation, incarnation, "it was never stopped");
    // Of a user made by a procedure control hears by the agent's news alone.
    run(
        &mut conn,
        "CREATE PROCEDURE make_it() CREATE USER later IDENTIFIED BY 'later pw'",
    )
    .await;
    run(&mut conn, "CALL make_it()").await;
    let later = boss.with_user("demo.later").with_password("later pw").with_database("");
    eventually("a user made by a procedure is known", async || {
        later.try_connect().await.ok().map(drop)
    })
    .await;
    drop(conn);
    project.suspend().await;
    let mut conn = boss.connect().await;
    assert_eq!(value(&mut conn, "SELECT SUM(a) FROM t").await.as_deref(), Some("3"));
    drop((conn, proxy));
    // The first agent's; the second has a socket of its own.
    let _ = std::fs::remove_file(&behind);
    selkie.logs.check();
}
