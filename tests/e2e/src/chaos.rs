//! Control planes, gateways, agents and servers are killed at random while clients read, write and sleep. What was
//! acknowledged is there once, what was not committed is not, nothing hangs, who only waited notices nothing, no project
//! has two servers, and in the end all is as if nothing had been: databases fall asleep by themselves, and what is billed
//! is one interval after the other.
//!
//! A seed decides the order of kills and pauses; what each meets depends on the machine. `CHAOS_SEED` and `CHAOS_SECONDS`
//! choose them.

pub(crate) mod bill;
mod client;
pub(crate) mod service;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use harness::process::{of_directory, running, signal, wait_for_exit};
use harness::{Endpoint, Raw, Selkie, eventually};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use client::{Client, Ledger, Role};
use service::Service;
use witness::{Part, Witness};

/// Of the short form.
const SHORT_SEED: u64 = 6;
/// Idle databases fall asleep and idle sessions park between two kills.
const SETTINGS: &str = "control.suspend.after = \"3s\"\ngateway.park_after = \"1s\"";
/// Few enough for two cores to start them again and again.
const PROJECTS: usize = 3;
const ROLES: [(Role, u32); 5] = [
    (Role::Writes, 7),
    (Role::Transacts, 4),
    (Role::Idles, 4),
    (Role::IsSilent, 3),
    (Role::Sleeps, 2),
];
/// What must be dead when waited for: a killed process, or a server whose agent was killed.
const EXIT_GUARD: Duration = Duration::from_secs(30);
/// Between two looks for a second server of a project.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_whatever_is_killed() {
    let lasts = number("CHAOS_SECONDS");
    // The short form plays one and the same; whoever asks for more time gets another each time.
    let any = || lasts.map_or(SHORT_SEED, |_| rand::rng().random_range(0..1_000_000));
    let seed = number("CHAOS_SEED").unwrap_or_else(any);
    let lasts = Duration::from_secs(lasts.unwrap_or(20));
    eprintln!("chaos: CHAOS_SEED={seed} for {lasts:?}");
    let selkie = Selkie::start_with(SETTINGS).await;
    allow_what_kills_explain(&selkie);
    let projects = projects(&selkie).await;
    let (stopped, _) = selkie.stop();
    assert!(stopped, "`selkie up` ends when asked");

    let control = Service::new("control", &selkie, selkie.up().rest.url.clone());
    let gateway = Service::new("gateway", &selkie, selkie.gateway_http());
    control.starts().await;
    gateway.starts().await;
    let witness = Arc::new(Witness::new());
    let (stop, stopping) = watch::channel(false);
    let mut clients = JoinSet::new();
    for (client, role) in (0..).zip(roles()) {
        let project = projects[client as usize % PROJECTS].clone();
        clients.spawn(Client::new(client, role, project, seed, witness.clone(), stopping.clone()).plays());
    }
    let mut looks = JoinSet::new();
    looks.spawn(sees_no_second_server(
        selkie.dir().to_owned(),
        witness.clone(),
        stopping,
    ));
    let chaos = Chaos {
        selkie: &selkie,
        control: &control,
        gateway: &gateway,
        witness: &witness,
    };
    chaos.reigns(seed, lasts).await;
    stop.send_replace(true);
    let played = clients.join_all().await;
    looks.join_all().await;
    for (client, project, ledger) in played {
        let (_, endpoint) = projects.iter().find(|(id, _)| *id == project).expect("its project");
        chaos.compares(client, &ledger, endpoint).await;
    }
    if witness.found_anything() {
        let kept = keep_logs(&selkie, seed);
        panic!("CHAOS_SEED={seed}\n{witness}the logs are in {kept}");
    }
    eventually(format_args!("CHAOS_SEED={seed}: every database sleeps"), async || {
        selkie.servers().is_empty().then_some(())
    })
    .await;
    for (project, _) in &projects {
        eventually(format_args!("CHAOS_SEED={seed}: {project} is suspended"), async || {
            let compute = selkie.rest("GET", &format!("/projects/{project}/compute"), None).await;
            let asleep = compute.json()["state"] == "suspended" && bill::ends_asleep(&selkie, project).await;
            asleep.then_some(())
        })
        .await;
        let wrong = bill::what_is_wrong(&selkie, project).await;
        assert!(wrong.is_empty(), "CHAOS_SEED={seed}: {project} is billed {wrong:#?}");
    }
    gateway.stops();
    control.stops();
    eprintln!("{witness}");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text:?} is no number")),
    )
}

fn roles() -> impl Iterator<Item = Role> {
    ROLES
        .iter()
        .flat_map(|(role, clients)| std::iter::repeat_n(*role, *clients as usize))
}

async fn projects(selkie: &Selkie) -> Vec<(String, Endpoint)> {
    let mut projects = Vec::new();
    for _ in 0..PROJECTS {
        let project = selkie.project("chaos").await;
        let mut raw = Raw::login(&project.endpoint).await;
        // No key on what clients write: a row that was inserted twice must be seen.
        let table = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, client INT, n INT)";
        raw.query(table).await.ok();
        projects.push((project.id, project.endpoint));
    }
    projects
}

/// What is told of things that were killed, and nothing else.
fn allow_what_kills_explain(selkie: &Selkie) {
    for part in [
        "the compute ended without being asked",
        "ending processes that were left behind",
        "a start was killed",
    ] {
        selkie.logs.allow(part);
    }
}

/// Kills and starts again.
struct Chaos<'a> {
    selkie: &'a Selkie,
    control: &'a Service<'a>,
    gateway: &'a Service<'a>,
    witness: &'a Witness,
}

/// One kill. All of it is drawn before it is known whether there is a victim, so that a seed means the same order.
struct Step {
    pause: Duration,
    part: Part,
    pick: usize,
    /// Until what was killed is started again.
    away: Duration,
}

impl Step {
    fn draw(random: &mut StdRng) -> Self {
        let part = match random.random_range(0..10) {
            0..2 => Part::Control,
            2..4 => Part::Gateway,
            4..7 => Part::Agent,
            _ => Part::Server,
        };
        Self {
            pause: Duration::from_millis(random.random_range(100..2500)),
            part,
            pick: random.random_range(0..PROJECTS),
            away: Duration::from_millis(random.random_range(0..2000)),
        }
    }
}

impl Chaos<'_> {
    /// Until the time is over or something is found; then all that was killed is there again.
    async fn reigns(&self, seed: u64, lasts: Duration) {
        let mut random = StdRng::seed_from_u64(seed);
        let end = Instant::now() + lasts;
        let kills = async {
            let mut begun = futures::stream::FuturesUnordered::new();
            while Instant::now() < end && !self.witness.found_anything() {
                let step = Step::draw(&mut random);
                let pause = sleep(step.pause);
                tokio::pin!(pause);
                loop {
                    tokio::select! {
                        () = &mut pause => break,
                        Some(()) = futures::StreamExt::next(&mut begun) => {}
                    }
                }
                begun.push(self.kills(step));
            }
            while futures::StreamExt::next(&mut begun).await.is_some() {}
        };
        kills.await;
    }

    async fn kills(&self, step: Step) {
        match step.part {
            Part::Control => self.kills_service(self.control, step).await,
            Part::Gateway => self.kills_service(self.gateway, step).await,
            Part::Agent => self.kills_compute(agents(self.selkie), step).await,
            Part::Server => self.kills_compute(servers(self.selkie), step).await,
        }
    }

    async fn kills_service(&self, service: &Service<'_>, step: Step) {
        if !service.runs() {
            return;
        }
        let kill = self.killing(&step, "");
        service.kill();
        sleep(step.away).await;
        service.starts().await;
        self.witness.over(kill);
    }

    /// Whether it serves or starts. It is over when nothing of the compute that was there is left.
    async fn kills_compute(&self, there: Vec<(String, u32)>, step: Step) {
        if there.is_empty() {
            return;
        }
        let (project, victim) = there[step.pick % there.len()].clone();
        // Listed before, too: a dying process has no command line any more while its connections are still open.
        let before = servers(self.selkie);
        let kill = self.killing(&step, &project);
        signal(victim, Signal::KILL);
        ended(self.witness, victim).await;
        if step.part == Part::Agent {
            for (_, server) in before
                .into_iter()
                .chain(servers(self.selkie))
                .filter(|(id, _)| *id == project)
            {
                ended(self.witness, server).await;
            }
        }
        self.witness.over(kill);
    }

    fn killing(&self, step: &Step, project: &str) -> usize {
        eprintln!("chaos: kill -9 {:?} {project}", step.part);
        self.witness.kills(step.part, project)
    }

    /// Every row of `client` against what it was told.
    async fn compares(&self, client: u32, ledger: &Ledger, endpoint: &Endpoint) {
        let sql = format!("SELECT COALESCE(GROUP_CONCAT(n ORDER BY n), '') FROM t WHERE client = {client}");
        let mut conn = endpoint.connect().await;
        harness::client::run(&mut conn, "SET group_concat_max_len = 100000000").await;
        let there = harness::client::value(&mut conn, &sql).await.unwrap_or_default();
        let mut times = BTreeMap::new();
        for row in there.split(',').filter_map(|row| row.parse::<u32>().ok()) {
            *times.entry(row).or_insert(0) += 1;
        }
        let finds = |row: u32, what: &str| self.witness.finds(format!("row {row} of client {client} {what}"));
        for row in &ledger.written {
            if !times.contains_key(row) {
                finds(*row, "was acknowledged and is lost");
            }
        }
        for (row, times) in times {
            if times > 1 {
                finds(row, &format!("is there {times} times"));
            }
            if ledger.undone.contains(&row) {
                finds(row, "is there and was never committed");
            }
            if !ledger.written.contains(&row) && !ledger.perhaps.contains(&row) && !ledger.undone.contains(&row) {
                finds(row, "is there and was never sent");
            }
        }
    }
}

async fn ended(witness: &Witness, pid: u32) {
    let ended = tokio::task::spawn_blocking(move || wait_for_exit(pid, EXIT_GUARD)).await;
    if !ended.expect("waiting for an exit") {
        witness.finds(format!("process {pid} lives on after the kill"));
    }
}

fn servers(selkie: &Selkie) -> Vec<(String, u32)> {
    of_projects(&selkie.servers())
}

fn agents(selkie: &Selkie) -> Vec<(String, u32)> {
    let mut agents = of_directory(selkie.dir());
    agents.retain(|pid| {
        let line = command_line(*pid);
        let words: Vec<_> = line.split('\0').collect();
        words.get(1..3) == Some(&["agent", "run"])
    });
    of_projects(&agents)
}

/// With the projects that their command lines name, in the order of these.
fn of_projects(pids: &[u32]) -> Vec<(String, u32)> {
    let mut found: Vec<_> = pids
        .iter()
        .filter_map(|pid| {
            let line = command_line(*pid);
            let (_, rest) = line.split_once("/projects/")?;
            Some((rest.split('/').next()?.to_owned(), *pid))
        })
        .collect();
    found.sort();
    found
}

fn command_line(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

/// Until all is told to stop. One that ends while the next begins is no second one: both must be there at a second look.
async fn sees_no_second_server(dir: std::path::PathBuf, witness: Arc<Witness>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let seen = of_projects(&running(&of_directory(&dir), "mariadbd"));
        for pair in seen.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            if of_projects(&[pair[0].1, pair[1].1]).len() == 2 {
                witness.finds(format!("two servers at once: {pair:?}"));
            }
        }
        let _ = tokio::time::timeout(LOOK_EVERY, stop.wait_for(|stop| *stop)).await;
    }
}

/// Where the logs can be read after the directory has been cleared away.
fn keep_logs(selkie: &Selkie, seed: u64) -> String {
    let kept = std::env::temp_dir().join(format!("chaos-{seed}"));
    std::fs::create_dir_all(&kept).expect("a directory for the logs");
    let copied = std::process::Command::new("find")
        .arg(selkie.dir())
        .args(["(", "-name", "*.log", "-o", "-name", "*.err", ")"])
        .args(["-exec", "cp", "--parents", "-t"])
        .arg(&kept)
        .args(["{}", "+"])
        .status();
    assert!(copied.is_ok_and(|status| status.success()), "copying the logs");
    kept.display().to_string()
}
