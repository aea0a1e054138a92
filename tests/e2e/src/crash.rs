//! What dies without warning: the next client is served, and there are never two servers on the same data.

use harness::client::{run, value};
use harness::process::{self, wait_for_exit};
use harness::{Raw, Selkie, eventually};
use rustix::process::Signal;

use std::time::Duration;

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
