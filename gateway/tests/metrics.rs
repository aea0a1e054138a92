//! What operators see of a gateway at /metrics, as things happen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use mysql_wire::capabilities::Capabilities;
use support::client::{BASE, Client};
use support::metrics::{eventually, page, value};
use support::{World, project};

async fn becomes(world: &World, series: &str, expected: f64) {
    eventually(&format!("{series} is {expected}"), async || {
        (value(world, series).await == expected).then_some(())
    })
    .await;
}

async fn client(world: &World) -> Result<Client, String> {
    Client::log_in(world.mysql, "demo.u", "p", BASE | Capabilities::EMPTY).await
}

#[tokio::test]
async fn clients_that_find_no_place_are_counted_beside_the_bound_that_holds() {
    let world = World::start_with([project("demo")], |raw| raw.max_clients = 1).await;
    assert_eq!(value(&world, "selkie_gateway_max_clients").await, 1.0);
    assert_eq!(value(&world, "selkie_gateway_clients_refused_total").await, 0.0);
    let there = client(&world).await.unwrap();
    for refused in [1.0, 2.0] {
        assert!(client(&world).await.err().unwrap().starts_with("1040 "));
        assert_eq!(value(&world, "selkie_gateway_clients_refused_total").await, refused);
    }
    world.settings.change(|raw| raw.max_clients = 7);
    world.reload();
    becomes(&world, "selkie_gateway_max_clients", 7.0).await;
    drop(there);
}

#[tokio::test]
async fn one_project_takes_no_more_than_its_part_of_the_places() {
    let refused = "selkie_gateway_project_clients_refused_total";
    let world = World::start_with([project("demo"), project("other")], |raw| raw.max_clients = 9).await;
    let log_in = async |name: &str| Client::log_in(world.mysql, name, "p", BASE | Capabilities::PLUGIN_AUTH).await;
    // By default half of all, rounded up.
    let mut there = Vec::new();
    for _ in 0..5 {
        there.push(log_in("demo.u").await.unwrap());
    }
    let told = log_in("demo.u").await.err().unwrap();
    assert_eq!(told, "1040 08004 Too many connections");
    becomes(&world, refused, 1.0).await;
    // Who proves nothing learns nothing of how full it is.
    let denied = Client::log_in(world.mysql, "demo.u", "wrong", BASE | Capabilities::PLUGIN_AUTH).await;
    assert!(denied.err().unwrap().starts_with("1045 "));
    // The others come in, and become nobody of the full one.
    let mut other = log_in("other.u").await.unwrap();
    assert_eq!(other.change_user("demo.u", "p").await.err().unwrap(), told);
    becomes(&world, refused, 2.0).await;
    // A place that is free again is taken again, also by a COM_CHANGE_USER; within the project it needs none.
    there.pop();
    drop(other);
    let mut moved = eventually("there is room for one who comes from another project", async || {
        let mut other = log_in("other.u").await.ok()?;
        other.change_user("demo.u", "p").await.ok()?;
        Some(other)
    })
    .await;
    moved.change_user("demo.u", "p").await.unwrap();
    assert!(log_in("demo.u").await.err().unwrap().starts_with("1040 "));
    world.settings.change(|raw| raw.max_clients_per_project = Some(6));
    world.reload();
    eventually("the next client comes in", async || log_in("demo.u").await.ok()).await;
}

#[tokio::test]
async fn a_control_plane_that_is_gone_is_seen_and_so_is_its_return() {
    let world = World::start([project("demo")]).await;
    let connected = "selkie_gateway_control_connected";
    assert_eq!(value(&world, connected).await, 1.0);
    world.script.leave();
    becomes(&world, connected, 0.0).await;
    let silence = "selkie_gateway_control_silence_seconds";
    let before = value(&world, silence).await;
    eventually("it has been silent for longer", async || {
        (value(&world, silence).await > before + 0.1).then_some(())
    })
    .await;
    assert_eq!(value(&world, connected).await, 0.0, "tried again, in vain");
    world.script.come_back();
    becomes(&world, connected, 1.0).await;
    // The snapshot's end was heard, and then nothing.
    let grown = eventually("it has been silent since", async || {
        let grown = value(&world, silence).await;
        (grown > 0.2).then_some(grown)
    })
    .await;
    world.script.publish(project("another")).await;
    eventually("it was heard", async || {
        (value(&world, silence).await < grown).then_some(())
    })
    .await;
}

#[tokio::test]
async fn certificates_version_and_process_are_told_without_a_name_of_anybodys() {
    let world = World::start([project("demo")]).await;
    let ends = value(
        &world,
        "selkie_gateway_certificate_not_after_seconds{setting=\"gateway.tls.cert\"}",
    )
    .await;
    // The development certificate never has to be renewed.
    assert!(ends > 4e9, "{ends}");
    let version = format!("selkie_gateway_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&world, &version).await, 1.0);
    assert!(value(&world, "process_open_fds").await > 3.0);
    let page = page(&world).await;
    assert!(
        !page.contains("demo") && !page.contains(&*world.dir.path().to_string_lossy()),
        "{page}"
    );
    // As Prometheus wants it: each metric announced once.
    let mut announced: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    announced.sort_unstable();
    let all = announced.len();
    announced.dedup();
    assert_eq!(announced.len(), all);
}
