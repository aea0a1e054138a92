//! Ten minutes without a control plane, under load: what clients notice of it, and how long it takes until all that they
//! did is on the bill.
//!
//! Gateway and control plane are processes of their own; the control plane is killed, and started again.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::raw::{Kind, Login};
use harness::selkie::binary;
use harness::{Endpoint, Raw, Selkie, http, process};
use tokio::task::JoinSet;

use crate::report;

const WRITERS: usize = 8;
/// Between two statements of a writer, so that the machine is not full.
const THINK: Duration = Duration::from_millis(20);
/// A gateway lets a command wait for its database for so long.
const WAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Of the project that sleeps, from one command to the next.
const ASKS_EVERY: Duration = Duration::from_secs(20);
const LOGS_IN_EVERY: Duration = Duration::from_millis(500);
/// Before and after, for comparison.
const ORDINARY: Duration = Duration::from_secs(15);
/// For whatever is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(120);

struct Service(Child);

impl Service {
    async fn start(selkie: &Selkie, name: &str, run: u32, url: &str) -> anyhow::Result<Self> {
        let dir = selkie.dir();
        let child = Command::new(binary())
            .arg(name)
            .arg("--config")
            .arg(dir.join("selkie.toml"))
            .arg("--data-dir")
            .arg(selkie.data_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join(format!("{name}-{run}.log")))?)
            .spawn()
            .context("starting selkie")?;
        let end = Instant::now() + PATIENCE;
        while http::status(&format!("{url}/readyz")).await != Some(200) {
            ensure!(Instant::now() < end, "selkie {name} is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self(child))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        process::stop(self.0.id(), Duration::from_secs(40));
        let _ = self.0.wait();
    }
}

/// What clients did and were told, in one phase.
#[derive(Default)]
struct Told {
    statements: Vec<Duration>,
    logins: Vec<Duration>,
    failed: usize,
}

/// Inserts until the end, on one connection.
async fn writes(endpoint: Endpoint, over: Arc<AtomicBool>, inserts: Arc<AtomicI64>) -> Told {
    let mut told = Told::default();
    let mut raw = Raw::login(&endpoint).await;
    while !over.load(Relaxed) {
        let began = Instant::now();
        raw.command(3, b"INSERT INTO t VALUES (1)").await;
        let response = raw.response(Kind::Query).await;
        told.statements.push(began.elapsed());
        match response.error() {
            None => drop(inserts.fetch_add(1, Relaxed)),
            Some(_) => told.failed += 1,
        }
        tokio::time::sleep(THINK).await;
    }
    told
}

/// Connects, logs in and leaves, again and again.
async fn comes_and_goes(endpoint: Endpoint, over: Arc<AtomicBool>) -> Told {
    let mut told = Told::default();
    while !over.load(Relaxed) {
        let began = Instant::now();
        let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
        match raw.authenticate(&endpoint, &Login::default()).await.error() {
            None => told.logins.push(began.elapsed()),
            Some(_) => told.failed += 1,
        }
        tokio::time::sleep(LOGS_IN_EVERY).await;
    }
    told
}

/// How long each command waited for a database that nobody starts, and how many were answered all the same.
async fn asks_in_vain(endpoint: Endpoint, over: Arc<AtomicBool>) -> (Vec<Duration>, usize) {
    let (mut waited, mut answered) = (Vec::new(), 0);
    while !over.load(Relaxed) {
        let mut raw = Raw::login(&endpoint).await;
        let began = Instant::now();
        raw.command(3, b"SELECT 1").await;
        match raw.response(Kind::Query).await.error() {
            Some(1053) => waited.push(began.elapsed()),
            _ => answered += 1,
        }
        let end = Instant::now() + ASKS_EVERY;
        while Instant::now() < end && !over.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    (waited, answered)
}

async fn phase(name: &str, lasts: Duration, endpoint: &Endpoint, inserts: &Arc<AtomicI64>) {
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..WRITERS {
        clients.spawn(writes(endpoint.clone(), over.clone(), inserts.clone()));
    }
    clients.spawn(comes_and_goes(endpoint.clone(), over.clone()));
    tokio::time::sleep(lasts).await;
    over.store(true, Relaxed);
    let all = clients.join_all().await;
    let failed: usize = all.iter().map(|told| told.failed).sum();
    let (mut statements, mut logins) = (Vec::new(), Vec::new());
    for told in all {
        statements.extend(told.statements);
        logins.extend(told.logins);
    }
    report::times(&format!("{name}: INSERT of {WRITERS} clients"), statements);
    report::times(&format!("{name}: connect and login"), logins);
    report::figure(&format!("{name}: refused"), failed, "");
}

async fn inserts_billed(selkie: &Selkie, project: &str) -> Option<i64> {
    let path = format!("/projects/{project}/usage?granularity=total");
    let usage = selkie.rest("GET", &path, None).await;
    (usage.status == 200).then(|| usage.json()["periods"][0]["inserts"].as_i64().unwrap_or_default())
}

pub(crate) async fn measure(away: Duration) -> anyhow::Result<()> {
    let settings = format!("gateway.wake_timeout = \"{}s\"\n", WAKE_TIMEOUT.as_secs());
    let selkie = Selkie::start_with(&settings).await;
    let busy = selkie.project("busy").await;
    let asleep = selkie.project("asleep").await;
    let mut conn = busy.endpoint.connect().await;
    harness::client::run(&mut conn, "CREATE TABLE t (a INT)").await;
    drop(conn);
    selkie.stop();
    let (rest, gateway_url) = (selkie.up().rest.url.clone(), selkie.gateway_http());
    let mut control = Service::start(&selkie, "control", 0, &rest).await?;
    let gateway = Service::start(&selkie, "gateway", 0, &gateway_url).await?;
    let inserts = Arc::new(AtomicI64::new(0));

    phase("control there", ORDINARY, &busy.endpoint, &inserts).await;
    let incarnation = busy.compute().await.incarnation;
    let resident = process::resident_bytes(gateway.0.id());
    control.0.kill()?;
    control.0.wait()?;
    let over = Arc::new(AtomicBool::new(false));
    let mut vain = JoinSet::new();
    vain.spawn(asks_in_vain(asleep.endpoint.clone(), over.clone()));
    phase("control away", away, &busy.endpoint, &inserts).await;
    over.store(true, Relaxed);
    let (waited, answered) = vain.join_next().await.context("a client that asks in vain")??;
    report::times("control away: command for a sleeping database, to its 1053", waited);
    report::figure("control away: such commands answered", answered, "");
    let waiting = selkie.metric("selkie_gateway_usage_windows_waiting").await;
    let bytes = selkie.metric("selkie_gateway_usage_spool_bytes").await;
    report::figure("usage that waits: windows", waiting as usize, &format!("{bytes} bytes"));
    let grown = process::resident_bytes(gateway.0.id()).saturating_sub(resident);
    report::figure("gateway: resident memory grown by", 1, &format!("{grown} bytes"));

    let began = Instant::now();
    let _control = Service::start(&selkie, "control", 1, &rest).await?;
    let mut woken = Raw::login(&asleep.endpoint).await;
    woken.command(3, b"SELECT 1").await;
    ensure!(woken.response(Kind::Query).await.error().is_none(), "a wake is refused");
    report::times(
        "control back: from its start to a row of a database it started",
        vec![began.elapsed()],
    );
    let did = inserts.load(Relaxed);
    while inserts_billed(&selkie, &busy.id).await != Some(did) {
        ensure!(began.elapsed() < PATIENCE, "{did} inserts are not on the bill");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report::times(
        &format!("control back: from its start to all {did} INSERTs on the bill"),
        vec![began.elapsed()],
    );
    phase("control back", ORDINARY, &busy.endpoint, &inserts).await;
    let starts = busy.compute().await.incarnation - incarnation;
    report::figure("starts of the busy database since", starts as usize, "");
    let log = PathBuf::from(selkie.dir()).join("gateway-0.log");
    let lines = std::fs::read_to_string(log)?.lines().count();
    report::figure("lines in the gateway's log", lines, "");
    Ok(())
}
