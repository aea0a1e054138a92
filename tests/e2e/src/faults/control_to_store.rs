//! The way between a control plane and its PostgreSQL: it cuts, delays, goes silent, and is gone for longer than a lease lasts.

use std::time::Duration;

use harness::client::value;
use harness::proxy::{Then, Trouble, seed};
use harness::{Postgres, Proxy, Selkie, eventually};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::metric;
use super::writer::Writer;
use crate::chaos::bill;

const LASTS: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(8);
/// A lease lasts 5 s: after this nobody leads.
const GONE: Duration = Duration::from_secs(6);
/// Of a request: a standby waits 10 s for a leader, and a connection to PostgreSQL may take as long.
const ANSWERED_WITHIN: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_behind_a_bad_way_to_its_store_keeps_what_it_said() {
    let seed = seed("control_to_store", 3);
    let url = tokio::task::spawn_blocking(|| Postgres::shared().database())
        .await
        .expect("a database");
    let (login, rest) = url.split_once("@127.0.0.1:").expect("a URL");
    let (port, database) = rest.split_once('/').expect("a port");
    let proxy = Proxy::before_port(port.parse().expect("a number")).await;
    let store = format!("control.store.url = \"{login}@127.0.0.1:{}/{database}\"", proxy.port);
    let selkie = Selkie::start_with(&format!("{store}\ngateway.wake_timeout = \"5s\"\n")).await;
    // All that a store says that does not answer.
    for part in [
        "the lease",
        "this control plane",
        "sqlx",
        "the state",
        "cannot keep",
        "cannot begin a start",
        "cannot read",
        "store",
        "a REST request failed inside",
        "changes were not applied",
        "not in the audit log",
        "did not start",
        "was not suspended",
    ] {
        selkie.logs.allow(part);
    }
    let [project, asleep] = [selkie.project("kept").await, selkie.project("asleep").await];
    Writer::make_table(&project.endpoint).await;
    proxy.foul(Trouble {
        seed,
        ends: &[Then::End, Then::Reset, Then::HalfClose],
        until_max: 16 << 10,
        delay_max: Duration::from_millis(20),
    });
    proxy.cut();
    let mut writers = JoinSet::new();
    for number in 0..2 {
        writers.spawn(Writer::new(number, project.endpoint.clone(), PATIENCE).writes_for(LASTS + GONE));
    }
    let mut made = Vec::new();
    let end = Instant::now() + LASTS;
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        proxy.cut();
        let name = format!("user{number}");
        let body = json!({"name": name, "password": name});
        let began = Instant::now();
        let answer = selkie
            .rest("POST", &format!("/projects/{}/users", project.id), Some(&body))
            .await;
        assert!(began.elapsed() < ANSWERED_WITHIN, "{:?}", began.elapsed());
        match answer.status {
            201 => made.push(name),
            // Whether it was kept nobody knows; the text says why.
            500..600 => {}
            _ => panic!("{answer:?}"),
        }
    }
    // Nothing passes, and nothing ends: who is served is served on.
    proxy.hole();
    let mut waits = asleep.endpoint.connect().await;
    let began = Instant::now();
    let told = mysql_async::prelude::Queryable::query_drop(&mut waits, "SELECT 1").await;
    let told = told.expect_err("nobody may start a database").to_string();
    assert!(told.contains("did not start within"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let writers = writers.join_all().await;
    proxy.calm();
    for writer in &writers {
        assert!(
            writer.told.is_empty(),
            "running databases are served: {:?}",
            writer.told
        );
        writer.is_right(&project.endpoint).await;
    }
    eventually("it acts again", async || {
        let answer = selkie
            .rest("POST", &format!("/projects/{}/compute/wake", asleep.id), None)
            .await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(project.compute().await.incarnation, 1, "what ran was taken over");
    let control = selkie.api().replace("/api/v1", "");
    let lost = metric(&control, "selkie_control_leases_lost_total").await;
    assert!(lost >= 1.0, "who could not renew has lost the lead");
    assert!(!made.is_empty(), "nothing was made, which tests nothing");
    for name in &made {
        let user = project
            .endpoint
            .with_user(&format!("{}.{name}", project.id))
            .with_password(name)
            .with_database("");
        let mut conn = user.connect().await;
        assert_eq!(value(&mut conn, "SELECT 41 + 1").await.as_deref(), Some("42"), "{name}");
    }
    for project in [&project, &asleep] {
        project.suspend().await;
        let wrong = bill::what_is_wrong(&selkie, &project.id).await;
        assert!(wrong.is_empty(), "{} is billed {wrong:#?}", project.id);
    }
    drop(waits);
    selkie.logs.check();
}
