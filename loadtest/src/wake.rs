//! Cold wakes by phase, beside what `mariadbd` alone needs from its execution to its greeting, in turn.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::process;

use crate::client::Client;
use crate::report;
use crate::stage::Stage;

/// Of the gateway's metric `selkie_gateway_wake_phase_seconds`.
const PHASES: [&str; 6] = ["asked", "started", "ready", "greeting", "logged_in", "first_row"];
const START_LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn measure(stage: &Stage, wakes: usize) -> anyhow::Result<()> {
    let target = stage.gateway()?;
    let project = stage.demo();
    project.suspend().await;
    let alone = Alone::of(stage)?;
    // The first start of a stock server resizes the redo log.
    alone.start()?;
    let mut exec_to_greeting = Vec::new();
    let mut phases = PHASES.map(|_| Vec::new());
    let mut seen_by_client = Vec::new();
    for _ in 0..wakes {
        exec_to_greeting.push(alone.start()?);
        let before = phase_sums(stage).await?;
        let mut client = Client::log_in(&target)?;
        let began = Instant::now();
        client.query("SELECT 1")?;
        seen_by_client.push(began.elapsed());
        client.quit()?;
        let after = phase_sums(stage).await?;
        for (times, (before, after)) in phases.iter_mut().zip(before.iter().zip(after)) {
            times.push(Duration::from_secs_f64((after - before).max(0.0)));
        }
        project.suspend().await;
    }
    report::times(
        "mariadbd alone, stock settings: execution to greeting",
        exec_to_greeting,
    );
    for (name, times) in PHASES.iter().zip(phases) {
        report::times(&format!("cold wake, command to: {}", name.replace('_', " ")), times);
    }
    report::times("cold wake, as the client sees it: command to first row", seen_by_client);
    Ok(())
}

/// The sums of the histograms; one wake between two readings is the difference.
async fn phase_sums(stage: &Stage) -> anyhow::Result<Vec<f64>> {
    let url = format!("{}/metrics", stage.selkie.gateway_http());
    let text = harness::http::request("GET", &url, None, None).await.body;
    let sum = |phase: &str| {
        let name = format!("selkie_gateway_wake_phase_seconds_sum{{phase=\"{phase}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        // Absent before the first wake.
        value.map_or(Ok(0.0), str::parse)
    };
    Ok(PHASES.iter().map(|phase| sum(phase)).collect::<Result<_, _>>()?)
}

/// A server of its own on a copy of the project's data, with nothing but its defaults.
struct Alone {
    dir: tempfile::TempDir,
}

impl Alone {
    fn of(stage: &Stage) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("selkie-a-").tempdir_in("/tmp")?;
        let data = process::files_below(&stage.selkie.data_dir(), "ibdata1")
            .into_iter()
            .find(|path| path.to_string_lossy().contains("/demo/"))
            .context("the demo project's data directory")?;
        let data = data.parent().context("a directory")?;
        let copied = Command::new("cp")
            .arg("-r")
            .arg(data)
            .arg(dir.path().join("data"))
            .status()?;
        ensure!(copied.success(), "copying {}", data.display());
        Ok(Self { dir })
    }

    /// From the execution to the last byte of the greeting; then the server is stopped.
    fn start(&self) -> anyhow::Result<Duration> {
        let dir: &Path = self.dir.path();
        let socket = dir.join("s");
        let began = Instant::now();
        let mut server = Command::new("mariadbd")
            .args(["--no-defaults", "--user=root", "--skip-networking"])
            .arg(format!("--datadir={}", dir.join("data").display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--tmpdir={}", dir.display()))
            .arg(format!("--pid-file={}", dir.join("pid").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log"))?)
            .spawn()
            .context("starting mariadbd")?;
        let took = loop {
            if let Ok(mut stream) = UnixStream::connect(&socket) {
                let mut greeting = [0; 64];
                ensure!(stream.read(&mut greeting)? > 4, "no greeting");
                break began.elapsed();
            }
            ensure!(server.try_wait()?.is_none(), "mariadbd ended");
            ensure!(began.elapsed() < START_LIMIT, "mariadbd does not listen");
            std::thread::sleep(Duration::from_millis(1));
        };
        process::stop(server.id(), START_LIMIT);
        server.wait()?;
        Ok(took)
    }
}
