//! What dies without warning: the next client is served, and there are never two servers on the same data.

use harness::client::{run, value};
use harness::process::{self, wait_for_exit};
use harness::{Raw, Selkie, eventually};
use rustix::process::Signal;

use std::time::{Duration, SystemTime};

#[tokio::test]
async fn a_killed_mariadbd_is_started_again_for_the_next_client() {
    let selkie = Selkie::start().await;
    for part in ["crash", "signal", "mariadbd", "InnoDB"] {
        selkie.logs.allow(part);
    }
    let project = selkie.project("crash").await;
    let mut attached = Raw::login(&project.endpoint).await;
    attached.query("CREATE TABLE t (a INT)").await.ok();
    attached.query("INSERT INTO t VALUES (1)").await.ok();
    let mut idle = Raw::login(&project.endpoint).await;
    let [server] = selkie.servers()[..] else {
        panic!("not one server: {:?}", selkie.servers())
    };
    process::signal(server, Signal::KILL);
    wait_for_exit(server, Duration::from_secs(10));

    // Nothing was under way and nothing of the session is lost: it goes on, too.
    assert_eq!(attached.query("SELECT COUNT(*) FROM t").await.ok().text(), "1");
    assert_eq!(idle.query("SELECT COUNT(*) FROM t").await.ok().text(), "1");
    let compute = project.compute().await;
    assert_eq!((compute.state.as_str(), compute.incarnation), ("ready", 2));
    assert_eq!(selkie.servers().len(), 1);
}

#[tokio::test]
async fn a_killed_selkie_comes_back_and_there_are_never_two_servers() {
    let mut selkie = Selkie::start().await;
    let endpoint = {
        let project = selkie.project("comeback").await;
        let mut conn = project.endpoint.connect().await;
        run(&mut conn, "CREATE TABLE t (a INT)").await;
        run(&mut conn, "INSERT INTO t VALUES (1)").await;
        project.endpoint.clone()
    };
    let before = selkie.servers();
    assert_eq!(before.len(), 1);
    selkie.crash();
    selkie.restart().await;
    assert!(selkie.servers().len() <= 1, "{:?} after {before:?}", selkie.servers());
    let mut conn = endpoint.connect().await;
    assert_eq!(value(&mut conn, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
    let now = eventually("one server", async || {
        Some(selkie.servers()).filter(|servers| servers.len() == 1)
    })
    .await;
    // Adopted or replaced: the old one lives on alone or is gone.
    assert!(
        now == before || wait_for_exit(before[0], Duration::from_secs(10)),
        "{now:?} beside {before:?}"
    );
    run(&mut conn, "INSERT INTO t VALUES (2)").await;
}

/// As the control plane has written it down last: what the compute came to, why, and when.
async fn last_transition(selkie: &Selkie, project: &str) -> (String, String, SystemTime) {
    let path = format!("/projects/{project}/compute/transitions?limit=1");
    let listed = selkie.rest("GET", &path, None).await.json();
    let made = &listed["transitions"][0];
    let text = |field: &str| made[field].as_str().unwrap_or_default().to_owned();
    let at = humantime::parse_rfc3339(&text("at")).expect("a time");
    (text("to"), text("reason"), at)
}

fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|pid| pid.trim().parse().ok()).expect("its parent")
}

#[tokio::test]
async fn a_database_that_dies_while_nobody_watches_is_billed_to_its_death() {
    let mut selkie = Selkie::start().await;
    let mut awake = Vec::new();
    for _ in 0..2 {
        let project = selkie.project("unwatched").await;
        project.wake().await;
        let known: Vec<u32> = awake.iter().map(|(_, server)| *server).collect();
        let mut servers = selkie.servers();
        servers.retain(|server| !known.contains(server));
        awake.push((project.id.clone(), servers[0]));
    }
    let [(server_killed, first), (agent_killed, second)] = &awake[..] else {
        panic!("two are awake")
    };
    selkie.crash();
    let before = SystemTime::now();
    process::signal(*first, Signal::KILL);
    process::signal(parent(*second), Signal::KILL);
    for server in [first, second] {
        assert!(
            wait_for_exit(*server, Duration::from_secs(10)),
            "a server goes with its agent"
        );
    }
    let after = SystemTime::now();
    // What is not known exactly would be billed to the restart: it must be told from the death.
    tokio::time::sleep(Duration::from_secs(5)).await;
    selkie.restart().await;

    let (to, reason, at) = last_transition(&selkie, server_killed).await;
    assert_eq!(to, "suspended");
    assert!(
        reason.contains("while the control plane was away: signal: 9 (SIGKILL)"),
        "{reason}"
    );
    let second = Duration::from_secs(1);
    assert!(
        before - second / 100 <= at && at <= after + second,
        "{before:?} {at:?} {after:?}"
    );
    let (to, reason, at) = last_transition(&selkie, agent_killed).await;
    assert_eq!(to, "suspended");
    assert!(reason.ends_with("while the control plane was away"), "{reason}");
    // The last beat, which a busy machine may have delayed.
    assert!(before - second * 3 <= at && at <= after, "{before:?} {at:?} {after:?}");
}
