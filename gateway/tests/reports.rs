//! What a gateway reports of its clients to control.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::atomic::Ordering;

use control_api::control::{PinnedSession, ProjectActivity};
use mysql_wire::capabilities::Capabilities;
use mysql_wire::login::encode_attributes;
use support::client::{BASE, Client};
use support::compute::{ALL, FakeCompute};
use support::metrics::{eventually, value};
use support::{World, project, ready};

/// What was reported last of the project.
fn last_of(world: &World, project: &str) -> Option<ProjectActivity> {
    let reports = world.script.reports.lock().unwrap();
    let mut activities = reports.iter().rev().flat_map(|report| &report.projects);
    activities.find(|activity| activity.project == project).cloned()
}

async fn failed_reports(world: &World) -> f64 {
    value(world, "selkie_gateway_reports_failed_total").await
}

#[tokio::test]
async fn of_what_a_client_says_of_itself_control_is_told_no_more_than_a_name() {
    let world = World::start([project("demo")]).await;
    let compute = FakeCompute::start(world.dir.path(), "compute", ALL);
    let woken = ready(1, &compute.socket);
    world.script.wakes.lock().unwrap().insert("demo".into(), Ok(woken));
    // No character: read as text, each byte would be three.
    let client = Client::reach(world.mysql, [127, 0, 0, 1]).await.unwrap();
    let capabilities = BASE | Capabilities::CONNECT_ATTRS;
    let mut client = client
        .prove_as("demo.u", "p", &[0xff; 60_000], capabilities)
        .await
        .unwrap();
    client.ask("BEGIN").await.unwrap();
    let told = world.script.asked.lock().unwrap()[0].cause.clone().unwrap();
    let cut = "\u{fffd}".repeat(256);
    assert_eq!(told.program_name, cut);
    let named = eventually("the session is named", async || {
        last_of(&world, "demo")?.pinned_sessions.first().cloned()
    })
    .await;
    let PinnedSession { user, program_name, .. } = named;
    assert_eq!((user.as_str(), program_name), ("u", cut));
}

/// One client may send 128 KiB of them and idle; what is kept of them is kept for as long as it is there.
#[tokio::test]
async fn of_a_clients_attributes_no_more_are_kept_than_a_server_would_keep() {
    let world = World::start([project("demo")]).await;
    let compute = FakeCompute::start(world.dir.path(), "compute", ALL);
    let woken = ready(1, &compute.socket);
    world.script.wakes.lock().unwrap().insert("demo".into(), Ok(woken));
    let client = Client::reach(world.mysql, [127, 0, 0, 1]).await.unwrap();
    let capabilities = BASE | Capabilities::CONNECT_ATTRS | Capabilities::PLUGIN_AUTH;
    let mut client = client
        .prove_as("demo.u", "p", &[b'x'; 60_000], capabilities)
        .await
        .unwrap();
    client.ask("DO 1").await.unwrap();
    let large = (0..30_000).map(|_| (&b"k"[..], &b"v"[..]));
    client
        .change_user_with("u", "p", &encode_attributes(large))
        .await
        .unwrap();
    client.ask("DO 2").await.unwrap();
    let seen: Vec<_> = compute.seen.lock().unwrap().attributes.iter().map(Vec::len).collect();
    assert_eq!(seen.len(), 2);
    assert!(seen[0] <= 4096 && (1..=4096).contains(&seen[1]), "{seen:?}");
}

#[tokio::test]
async fn a_report_that_is_refused_is_counted_and_said_again_until_it_is_taken() {
    let world = World::start([project("demo")]).await;
    world.script.refuses_reports.store(true, Ordering::Relaxed);
    let client = Client::log_in(world.mysql, "demo.u", "p", BASE).await.unwrap();
    eventually("a refusal is counted", async || {
        (failed_reports(&world).await >= 1.0).then_some(())
    })
    .await;
    drop(client);
    // One may have been on its way; the second says that nobody is there any more.
    let before = failed_reports(&world).await;
    eventually("its end is refused, too", async || {
        (failed_reports(&world).await >= before + 2.0).then_some(())
    })
    .await;
    world.script.refuses_reports.store(false, Ordering::Relaxed);
    eventually("what was refused is reported", async || {
        (last_of(&world, "demo")?.clients == 0).then_some(())
    })
    .await;
}
