//! The control plane's state in a PostgreSQL that cannot take it: on a disk that is full, or a standby after a failover that went
//! wrong. What runs is served, what is asked is refused with the reason, and all goes on when it is mended.

use harness::client::{run, value};
use harness::http::Response;
use harness::{Postgres, Selkie, SmallDisk, eventually};
use serde_json::json;

use crate::two_control_planes::leads;

/// Tries to make another user of that project.
async fn make_user(selkie: &Selkie, project: &str) -> Response {
    let body = json!({"name": format!("u{}", rand::random::<u32>()), "password": "sesame of this user"});
    let path = format!("/projects/{project}/users");
    selkie.rest("POST", &path, Some(&body)).await
}

async fn on(store: String) -> Selkie {
    let settings = format!("control.store.url = \"{store}\"\ngateway.wake_timeout = \"50s\"\n");
    Selkie::start_with(&settings).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("what was begun")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_database_costs_changes_and_nothing_else() {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        println!("SKIPPED: this process may not mount a file system; run it as root");
        return;
    };
    let path = disk.path().join("tables");
    std::fs::create_dir(&path).expect("a directory");
    let (_postgres, store) = blocking(move || {
        let postgres = Postgres::alone();
        let store = postgres.database_in(&path);
        (postgres, store)
    })
    .await;
    let selkie = on(store).await;
    for part in ["no space is left for it", "cannot keep", "sqlx"] {
        selkie.logs.allow(part);
    }
    let [project, asleep] = [selkie.project("kept").await, selkie.project("asleep").await];
    let mut client = project.endpoint.connect().await;
    run(&mut client, "CREATE TABLE t (a INT)").await;

    disk.fill();
    // Pages that are there already are still filled.
    let refused = eventually("the disk is full", async || {
        let answer = make_user(&selkie, &asleep.id).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    let code = refused.json()["code"].as_str().map(str::to_owned);
    assert_eq!(
        (refused.status, code.as_deref()),
        (507, Some("state_full")),
        "{refused:?}"
    );
    run(&mut client, "INSERT INTO t VALUES (1)").await;
    drop(project.endpoint.connect().await);

    disk.free();
    // Whoever leads may have lost the lease for want of space, and takes it at its next try.
    eventually("changes are taken again", async || {
        (make_user(&selkie, &asleep.id).await.status == 201).then_some(())
    })
    .await;
    project.suspend().await;
    assert_eq!(value(&mut client, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
    assert_eq!(project.compute().await.incarnation, 2, "it was never stopped by itself");
    selkie.logs.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_no_changes_says_so_and_all_goes_on_once_it_is_promoted() {
    let postgres = blocking(Postgres::alone).await;
    let postgres = std::sync::Arc::new(postgres);
    let asked = postgres.clone();
    let selkie = on(blocking(move || asked.database()).await).await;
    for part in [
        "the lease",
        "who leads",
        "sqlx",
        "it cannot be changed",
        "it does not answer",
        "cannot keep",
    ] {
        selkie.logs.allow(part);
    }
    let (awake, asleep) = (selkie.project("awake").await, selkie.project("asleep").await);
    let mut client = awake.endpoint.connect().await;
    run(&mut client, "CREATE TABLE t (a INT)").await;

    let asked = postgres.clone();
    blocking(move || asked.becomes_standby()).await;
    let refused = eventually("changes are refused for what it is", async || {
        let answer = make_user(&selkie, &awake.id).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        (answer.json()["code"] == "state_read_only").then_some(answer)
    })
    .await;
    assert!(refused.body.contains("nothing can be written"), "{refused:?}");
    // Also when it leads no more, for it cannot renew its lease.
    let base = selkie.api().replace("/api/v1", "");
    eventually("it leads no more", async || (!leads(&base).await).then_some(())).await;
    let refused = make_user(&selkie, &awake.id).await;
    assert_eq!(refused.json()["code"], "state_read_only", "{refused:?}");
    let listed = selkie.rest("GET", "/projects", None).await;
    assert_eq!(listed.status, 200, "what can be read is: {listed:?}");
    run(&mut client, "INSERT INTO t VALUES (1)").await;
    drop(awake.endpoint.connect().await);

    // Who asks a sleeping database waits for it, and is served once it can be written down.
    let mut sleeper = asleep.endpoint.connect().await;
    let asked = postgres.clone();
    let promoted = blocking(move || asked.is_promoted());
    let (woken, ()) = tokio::join!(value(&mut sleeper, "SELECT 41 + 1"), promoted);
    assert_eq!(woken.as_deref(), Some("42"));
    let made = make_user(&selkie, &awake.id).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(awake.compute().await.incarnation, 1, "what ran was taken over");
    assert_eq!(value(&mut client, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
    drop((client, sleeper));
    selkie.logs.check();
}
