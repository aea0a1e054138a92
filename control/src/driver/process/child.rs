//! Runs `selkie agent ...` as a child: to its end for short work, or left to itself for a compute. Children get a process
//! group of their own, so that Ctrl-C in the terminal of `selkie up` reaches control alone, which then stops them in order.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{process::Command, sync::watch};
use tokio_util::task::TaskTracker;

use super::DriverError;

/// Of what a child said last, this much goes into a reason.
const TAIL_BYTES: usize = 600;

/// An agent of ours that runs, or ran.
#[derive(Clone)]
pub(super) struct Child {
    exited: watch::Receiver<Option<ExitStatus>>,
}

impl Child {
    pub(super) fn exit(&self) -> Option<ExitStatus> {
        *self.exited.borrow()
    }

    /// Cancel-safe.
    pub(super) async fn wait(&mut self) {
        // An error means that nobody waits for the child any more; then there is nothing to wait for here either.
        drop(self.exited.wait_for(Option::is_some).await);
    }
}

fn agent(program: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["agent", subcommand])
        .stdin(Stdio::null())
        .current_dir("/")
        .process_group(0);
    command
}

/// Starts `agent run` and leaves it alone; `tasks` owns the one that collects its exit status.
pub(super) fn start(program: &Path, spec: &Path, output: &Path, tasks: &TaskTracker) -> Result<Child, DriverError> {
    let open = || -> io::Result<(File, File)> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(output)?;
        Ok((file.try_clone()?, file))
    };
    let (stdout, stderr) = open().map_err(cannot("open the agent's log"))?;
    let mut child = agent(program, "run")
        .arg("--spec")
        .arg(spec)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(cannot("start the agent"))?;
    let (sender, exited) = watch::channel(None);
    tasks.spawn(async move {
        if let Ok(status) = child.wait().await {
            sender.send_replace(Some(status));
        }
    });
    Ok(Child { exited })
}

/// Runs an `agent` subcommand to its end and answers what it wrote on stdout.
pub(super) async fn run(
    program: &Path,
    subcommand: &str,
    arguments: &[(&str, PathBuf)],
    patience: Duration,
) -> Result<String, DriverError> {
    let mut command = agent(program, subcommand);
    for (flag, value) in arguments {
        command.arg(flag).arg(value);
    }
    let output = tokio::time::timeout(patience, command.kill_on_drop(true).output())
        .await
        .map_err(|_| {
            DriverError(format!(
                "`agent {subcommand}` did not end within {} s",
                patience.as_secs()
            ))
        })?
        .map_err(cannot("start the agent"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = tail(&output.stderr);
    Err(DriverError(if said.is_empty() {
        format!("`agent {subcommand}` ended with {}", output.status)
    } else {
        said
    }))
}

/// What an agent said last before it ended.
pub(super) fn last_words(output: &Path) -> String {
    std::fs::read(output).map(|text| tail(&text)).unwrap_or_default()
}

fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

fn cannot(what: &'static str) -> impl FnOnce(io::Error) -> DriverError {
    move |error| DriverError(format!("cannot {what}: {error}"))
}
