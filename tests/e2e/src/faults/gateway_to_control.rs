//! A gateway on another machine, with certificates, and a bad way between it and the control plane.

use std::time::Duration;

use harness::client::{error_code, run, value};
use harness::proxy::{Then, Trouble, seed};
use harness::{Endpoint, Project, Proxy, Raw, Selkie, eventually, process};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::metric;
use super::writer::Writer;
use crate::chaos::bill;
use crate::service::Service;
use crate::services_tls::certificates;

const CLIENTS: u32 = 3;
/// Projects that are made, used and suspended while the way is cut; every other one is deleted so, too.
const ROUNDS: u32 = 4;
const LASTS: Duration = Duration::from_secs(5);
/// Of a client: longer than the gateway lets it wait for a database.
const PATIENCE: Duration = Duration::from_secs(8);
/// A suspend waits 5 s for gateways that are silent, and not the 60 s that a server has for its end: whatever lies between
/// is the machine's.
const SUSPENDS_WITHIN: Duration = Duration::from_secs(45);
/// Both sides probe after 5 s and wait as long for an answer; the kernel would wait for minutes.
const NOTICED_WITHIN: Duration = Duration::from_secs(45);

/// A `selkie up`, and a gateway that reaches its control plane through the proxy.
struct Places {
    gateway: Service,
    proxy: Proxy,
    selkie: Selkie,
}

impl Places {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = certificates(dir.path());
        let selkie = Selkie::start_with(&settings).await;
        let proxy = Proxy::before_port(selkie.control_port()).await;
        let gateway = Service::start(&selkie, "gateway", |[mysql, http]| {
            format!(
                "gateway.listen = \"127.0.0.1:{mysql}\"\ngateway.http.listen = \"127.0.0.1:{http}\"\n\
                 gateway.wake_timeout = \"5s\"\ngateway.control.address = \"https://127.0.0.1:{}\"\n{}",
                proxy.port,
                settings.split_once("\n\n").expect("two parts").1
            )
        });
        gateway.serves().await;
        Self { gateway, proxy, selkie }
    }

    fn through(&self, endpoint: &Endpoint) -> Endpoint {
        Endpoint {
            port: self.gateway.ports[0],
            ..endpoint.clone()
        }
    }

    /// How many gateways control believes to have.
    async fn watchers(&self) -> f64 {
        metric(&self.selkie.api().replace("/api/v1", ""), "selkie_control_watchers").await
    }

    /// Both gateways are connected, and what is made from now on is known to them when REST says that it is made.
    async fn hears_of_changes(&self, project: &Project<'_>, name: &str) {
        eventually("control knows of two gateways and no ghost", async || {
            (self.watchers().await == 2.0).then_some(())
        })
        .await;
        let user = self.through(&project.user(name, &format!("what {name} alone knows")).await);
        eventually("the gateway knows who was made", async || {
            user.try_connect().await.ok().map(drop)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_behind_a_bad_way_serves_wakes_counts_and_heals() {
    let seed = seed("gateway_to_control", 4);
    let places = Places::new().await;
    let (selkie, proxy) = (&places.selkie, &places.proxy);
    let project = selkie.project("remote").await;
    Writer::make_table(&project.endpoint).await;
    let through = places.through(&project.endpoint);
    let mut writers = JoinSet::new();
    for number in 0..CLIENTS {
        writers.spawn(Writer::new(number, through.clone(), PATIENCE).writes_for(LASTS));
    }
    // Some seeds let hardly anything through.
    let mut looks = project.endpoint.connect().await;
    eventually("everybody has written something", async || {
        let there = value(&mut looks, "SELECT COUNT(DISTINCT client) FROM t").await;
        (there == Some(CLIENTS.to_string())).then_some(())
    })
    .await;
    drop(looks);
    proxy.foul(Trouble {
        seed,
        ends: &[Then::End, Then::Reset, Then::HalfClose],
        until_max: 16 << 10,
        delay_max: Duration::from_millis(20),
    });
    // It must be woken over that way again and again, and whatever is under way when it is suspended is cut.
    let end = Instant::now() + LASTS;
    for round in 0.. {
        if Instant::now() >= end {
            break;
        }
        if round % 2 == 0 {
            proxy.cut();
        }
        let began = Instant::now();
        project.suspend_without_waiting().await;
        assert!(began.elapsed() < SUSPENDS_WITHIN, "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let writers = writers.join_all().await;
    assert!(proxy.connections() > 5, "{proxy:?}: hardly anything was cut");
    proxy.calm();
    for writer in &writers {
        // 1053: its database was not there in time, or was stopped under a statement.
        let others: Vec<_> = writer.told.iter().filter(|(code, _)| **code != 1053).collect();
        assert!(others.is_empty(), "{others:?}");
        writer.is_right(&project.endpoint).await;
    }
    places.hears_of_changes(&project, "late").await;
    assert_eq!(
        Raw::login(&through).await.query("SELECT 41 + 1").await.ok().text(),
        "42"
    );
    let (least, most) = writers.iter().fold((0, 0), |(least, most), writer| {
        (least + writer.acknowledged() as i64, most + i64::from(writer.sent()))
    });
    eventually("what clients did is on the bill", async || {
        let path = format!("/projects/{}/usage?granularity=total", project.id);
        let usage = selkie.rest("GET", &path, None).await.json();
        let inserts = usage["periods"][0]["inserts"].as_i64().unwrap_or_default();
        assert!(inserts <= most, "{inserts} inserts are billed, {most} were sent");
        (inserts >= least).then_some(())
    })
    .await;
    places.gateway.stop();
    selkie.logs.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_and_a_control_plane_that_lost_each_other_without_a_word_notice_it() {
    let places = Places::new().await;
    let project = places.selkie.project("lost").await;
    let mut client = places.through(&project.endpoint).connect().await;
    run(&mut client, "CREATE TABLE t (a INT)").await;
    let connections = places.proxy.connections();
    places.proxy.strand();
    let began = Instant::now();
    // A compute that runs is served without control.
    run(&mut client, "INSERT INTO t VALUES (1)").await;
    eventually("control has given the gateway up", async || {
        (places.watchers().await == 1.0).then_some(())
    })
    .await;
    eventually("the gateway is back over a new connection", async || {
        (places.proxy.connections() > connections).then_some(())
    })
    .await;
    places.hears_of_changes(&project, "latest").await;
    assert!(began.elapsed() < NOTICED_WITHIN, "{:?}", began.elapsed());
    assert_eq!(value(&mut client, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
    project.suspend().await;
    assert_eq!(
        value(&mut client, "SELECT COUNT(*) FROM t").await.as_deref(),
        Some("1"),
        "woken"
    );
    drop(client);
    places.gateway.stop();
    places.selkie.logs.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_woken_suspended_and_deleted_over_a_way_that_is_cut_is_so_at_both_ends() {
    let seed = seed("made over a way that is cut", 7);
    let places = Places::new().await;
    let (selkie, proxy) = (&places.selkie, &places.proxy);
    let (mut kept, mut deleted) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        proxy.foul(Trouble {
            seed: seed + u64::from(round),
            ends: &[Then::End, Then::Reset, Then::HalfClose],
            until_max: 4 << 10,
            delay_max: Duration::from_millis(20),
        });
        proxy.cut();
        let project = selkie.project("cut").await;
        Writer::make_table(&project.endpoint).await;
        project.suspend().await;
        let user = project.user("more", "what more alone knows").await;
        let mut writing = JoinSet::new();
        writing.spawn(Writer::new(round, places.through(&user), PATIENCE).writes_for(Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.cut();
        project.suspend_without_waiting().await;
        proxy.cut();
        if round % 2 == 1 {
            let path = format!("/projects/{}", project.id);
            let answer = selkie.rest("DELETE", &path, None).await;
            assert!((200..300).contains(&answer.status), "{answer:?}");
            deleted.push((project, user));
            writing.join_all().await;
        } else {
            let writer = writing.join_all().await.remove(0);
            kept.push((project, user, writer));
        }
    }
    let (tried, cuts) = (
        kept.iter().map(|(_, _, writer)| writer.acknowledged()).sum::<usize>(),
        proxy.connections(),
    );
    assert!(
        tried > 0 && cuts > 2 * u64::from(ROUNDS),
        "{tried} rows, {cuts} connections: which tests nothing"
    );
    proxy.calm();
    let last = selkie.project("last").await;
    places.hears_of_changes(&last, "latest").await;
    for (project, user, writer) in &kept {
        let mut conn = places.through(user).connect().await;
        let rows: usize = value(&mut conn, "SELECT COUNT(DISTINCT n) FROM t")
            .await
            .and_then(|rows| rows.parse().ok())
            .expect("a number");
        assert!(rows >= writer.acknowledged(), "{rows} of {}", writer.acknowledged());
        eventually(
            format_args!("{rows} rows are on the bill of {}", project.id),
            async || {
                let path = format!("/projects/{}/usage?granularity=total", project.id);
                let usage = selkie.rest("GET", &path, None).await.json();
                let inserts = usage["periods"][0]["inserts"].as_u64().unwrap_or_default();
                assert!(
                    inserts <= writer.sent().into(),
                    "{inserts} inserts, {} were sent",
                    writer.sent()
                );
                (inserts >= writer.acknowledged() as u64).then_some(())
            },
        )
        .await;
        drop(conn);
        project.suspend().await;
        let wrong = bill::what_is_wrong(selkie, &project.id).await;
        assert!(wrong.is_empty(), "{} is billed {wrong:#?}", project.id);
    }
    for (project, user) in &deleted {
        assert_eq!(
            error_code(places.through(user).try_connect().await),
            1045,
            "{}",
            project.id
        );
        let dir = selkie.data_dir().join("projects").join(&project.id);
        eventually(format_args!("nothing is left of {}", project.id), async || {
            (!dir.exists() && process::of_directory(&dir).is_empty()).then_some(())
        })
        .await;
    }
    places.gateway.stop();
    selkie.logs.check();
}
