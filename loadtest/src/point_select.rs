//! sysbench's point selects, with its own client: what everybody compares by.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::client::Client;
use crate::rates::{closed_loop, interleave};
use crate::stage::{Address, Stage, Target};

const CLIENTS: [usize; 3] = [1, 8, 64];
const CLIENTS_OVER_TLS: [usize; 2] = [8, 64];
const TABLE_ROWS: u32 = 10_000;
/// Shares no factor with [`TABLE_ROWS`]: every row is read in turn, neighbours far apart.
const STRIDE: u32 = 3_571;

pub(crate) fn measure(stage: &Stage, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    let targets = stage.targets()?;
    sysbench(&targets[0], 1, 0, "prepare")?;
    for clients in CLIENTS {
        let name = format!("point select, {clients} clients");
        interleave(&targets, &name, rounds, |target| {
            let said = sysbench(target, clients, seconds, "run")?;
            let queries = field(&said, "total:")?;
            let took: f64 = field(&said, "total time:")?;
            Ok((queries as u64, Duration::from_secs_f64(took)))
        })?;
    }
    Ok(())
}

/// Inside TLS. sysbench's client cannot begin with TLS, as HAProxy wants it, so these are of our own client, as text.
pub(crate) fn measure_over_tls(stage: &Stage, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    let targets = stage.targets_over_tls()?;
    let mut direct = Client::log_in(&targets[0])?;
    direct.query("CREATE OR REPLACE TABLE point (id INT PRIMARY KEY, c CHAR(120) NOT NULL)")?;
    direct.query(&format!(
        "INSERT INTO point SELECT seq, REPEAT('x', 120) FROM seq_1_to_{TABLE_ROWS}"
    ))?;
    for clients in CLIENTS_OVER_TLS {
        let name = format!("point select over TLS 1.3, {clients} clients");
        interleave(&targets, &name, rounds, |target| {
            closed_loop(
                clients,
                seconds,
                || Ok((Client::log_in(target)?, 0)),
                |(client, id)| {
                    *id = (*id + STRIDE) % TABLE_ROWS;
                    client
                        .query(&format!("SELECT c FROM point WHERE id = {}", *id + 1))
                        .map(drop)
                },
            )
        })?;
    }
    Ok(())
}

/// The password goes by a file: command lines are everybody's.
fn sysbench(target: &Target, clients: usize, seconds: u64, command: &str) -> anyhow::Result<String> {
    let mut options = tempfile::NamedTempFile::new()?;
    writeln!(
        options,
        "mysql-user={}\nmysql-password={}",
        target.user, target.password
    )?;
    writeln!(options, "mysql-db={}\ndb-driver=mysql", target.database)?;
    match &target.address {
        Address::Tcp(port) => writeln!(options, "mysql-host=127.0.0.1\nmysql-port={port}")?,
        Address::Unix(path) => writeln!(options, "mysql-socket={}", path.display())?,
    }
    let done = Command::new("sysbench")
        .arg(format!("--config-file={}", options.path().display()))
        .args([format!("--threads={clients}"), format!("--time={seconds}")])
        .args([
            format!("--table-size={TABLE_ROWS}"),
            "oltp_point_select".into(),
            command.into(),
        ])
        .stdin(Stdio::null())
        .output()
        .context("starting sysbench")?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success(),
        "sysbench: {said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(said)
}

/// The number after `name` in sysbench's report.
fn field(said: &str, name: &str) -> anyhow::Result<f64> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
    let text = line.with_context(|| format!("sysbench did not say {name}\n{said}"))?;
    Ok(text.trim().trim_end_matches('s').parse()?)
}
