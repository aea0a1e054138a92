//! Idle databases fall asleep by themselves; who keeps one awake is told.

use harness::client::run;
use harness::process::{self, wait_for_exit};
use harness::{Project, Raw, Selkie, eventually};
use rustix::process::Signal;
use serde_json::json;

use std::time::Duration;

use crate::chaos::service::Service;

/// Short enough for a test to wait for, longer than gateways take to report.
const SHORT: &str = "control.suspend.after = \"4s\"";

async fn kept_awake(project: &Project<'_>, part: &str) {
    eventually(format_args!("kept_awake_by says {part:?}"), async || {
        let compute = project.compute().await;
        let by = compute.whole["kept_awake_by"].to_string();
        by.contains(part).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_database_falls_asleep_under_its_clients_and_wakes_at_their_next_command() {
    let selkie = Selkie::start_with(SHORT).await;
    let project = selkie.project("drowsy").await;
    let mut client = Raw::login(&project.endpoint).await;
    client.query("CREATE TABLE t (a INT)").await.ok();
    client.query("INSERT INTO t VALUES (1)").await.ok();
    for incarnation in 1..=2 {
        let asleep = project.reaches("suspended").await;
        assert_eq!(asleep.incarnation, incarnation);
        assert_eq!(client.query("SELECT COUNT(*) FROM t").await.ok().text(), "1");
    }
    let log = selkie
        .rest("GET", &format!("/projects/{}/compute/transitions", project.id), None)
        .await
        .json();
    let made = log["transitions"].as_array().expect("a list");
    let states: Vec<_> = made.iter().rev().map(|made| &made["to"]).collect();
    assert_eq!(
        states[..5],
        ["starting", "ready", "draining", "suspended", "starting"],
        "{log}"
    );
    let reason = &made[made.len() - 3]["reason"];
    assert!(reason.to_string().contains("it was idle for"), "{log}");
}

#[tokio::test]
async fn what_keeps_a_database_awake_is_told_and_does() {
    let selkie = Selkie::start_with(SHORT).await;
    let project = selkie.project("busy").await;
    let mut client = Raw::login(&project.endpoint).await;
    client.query("CREATE TABLE t (a INT)").await.ok();
    let (slept, ()) = tokio::join!(
        client.query("SELECT SLEEP(5)"),
        kept_awake(&project, "1 command in flight at gateway")
    );
    assert_eq!(slept.ok().text(), "0");
    assert_eq!(
        project.compute().await.incarnation,
        1,
        "it did not sleep under a command"
    );
    client.query("BEGIN").await.ok();
    client.query("INSERT INTO t VALUES (1)").await.ok();
    kept_awake(&project, "transaction").await;
    client.query("COMMIT").await.ok();
    assert_eq!(project.compute().await.incarnation, 1, "nor under a transaction");
    let never = json!({"suspend_after": "never"});
    let changed = selkie
        .rest("PATCH", &format!("/projects/{}", project.id), Some(&never))
        .await;
    assert_eq!(changed.json()["suspend_after"], "never");
    project.wake().await;
    kept_awake(&project, "never").await;
    let back = json!({"suspend_after": null});
    selkie
        .rest("PATCH", &format!("/projects/{}", project.id), Some(&back))
        .await;
    project.reaches("suspended").await;
}

#[tokio::test]
async fn a_killed_agent_is_noticed_and_the_next_command_starts_the_database_again() {
    let selkie = Selkie::start().await;
    for part in ["left behind", "agent", "crash", "signal", "mariadbd", "InnoDB"] {
        selkie.logs.allow(part);
    }
    let project = selkie.project("orphan").await;
    let mut conn = project.endpoint.connect().await;
    run(&mut conn, "CREATE TABLE t (a INT)").await;
    run(&mut conn, "INSERT INTO t VALUES (1)").await;
    for (killed, both) in [(1, false), (2, true)] {
        let mut idle = Raw::login(&project.endpoint).await;
        idle.query("SET NAMES utf8mb4").await.ok();
        let servers = selkie.servers();
        let all = process::of_directory(selkie.dir());
        let agent = all.into_iter().find(|pid| is_agent(*pid)).expect("an agent");
        process::signal(agent, Signal::KILL);
        if both {
            process::signal(servers[0], Signal::KILL);
        }
        assert!(
            wait_for_exit(servers[0], Duration::from_secs(10)),
            "it goes with its agent"
        );
        let noticed = project.reaches("suspended").await;
        assert_eq!(noticed.incarnation, killed);
        assert_eq!(idle.query("SELECT COUNT(*) FROM t").await.ok().text(), "1");
        assert_eq!(project.compute().await.incarnation, killed + 1);
    }
}

fn is_agent(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).collect();
    words.get(1..3) == Some(&[&b"agent"[..], &b"run"[..]])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_keeps_no_database_awake() {
    let selkie = Selkie::start_with(SHORT).await;
    let project = selkie.project("abandoned").await;
    let (stopped, _) = selkie.stop();
    assert!(stopped, "`selkie up` ends when asked");
    let control = Service::new("control", &selkie, selkie.up().rest.url.clone());
    let gateway = Service::new("gateway", &selkie, selkie.gateway_http());
    control.starts().await;
    gateway.starts().await;
    let mut client = Raw::login(&project.endpoint).await;
    client.query("CREATE TABLE t (a INT)").await.ok();
    client.query("BEGIN").await.ok();
    client.query("INSERT INTO t VALUES (1)").await.ok();
    kept_awake(&project, "transaction").await;
    assert!(gateway.kill(), "it runs");
    // What it said last would count for longer than anybody waits here.
    let asleep = project.reaches("suspended").await;
    assert_eq!(asleep.incarnation, 1);
    control.stops();
}
