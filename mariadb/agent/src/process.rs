//! One mariadbd: its files, its start, the moment it greets, its end.

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use control_api::spec::Spec;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::confine::{self, Own};
use crate::door;
use crate::error::Error;
use crate::options::{self, Places, option_file};
use crate::server::Server;
use crate::sql;

/// Between looks for the greeting: small against the 80 ms that mariadbd needs, and cheap (a connect to a missing file).
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A greeting comes at once when the server serves.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);
/// A log larger than this is set aside at the next start; one older log is kept.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much of the log's end is searched for the reason of a failure.
const LOG_TAIL_BYTES: u64 = 64 << 10;
/// Of them: they go into an error message.
const ERRORS_TOLD_MAX: usize = 4;
/// Of one: enough for every message of the server's. A tenant can have its server write what it likes there, and what is told goes
/// to control's log and state, and to clients.
const ERROR_CHARS_MAX: usize = 400;
/// The kernel's out-of-memory killer takes computes before the control plane.
const OOM_SCORE_ADJ: &str = "500";

/// A started mariadbd.
pub(crate) struct Process {
    child: Child,
    pub(crate) pid: u32,
    error_log: PathBuf,
    /// Of the log, before this start.
    log_begins: u64,
    socket: PathBuf,
    init_file: PathBuf,
    /// It has an OS user of its own.
    has_user: bool,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// As the operating system says it.
    pub(crate) status: String,
    pub(crate) signal: Option<i32>,
}

/// Writes the files of this start and executes mariadbd.
pub(crate) fn start(server: &Server, spec: &Spec, agent_password: &str) -> Result<Process, Error> {
    let socket = spec.server_socket();
    let error_log = spec.log_dir.join("mariadbd.err");
    let files_dir = beside(&spec.data_dir, "files");
    let tmp_dir = beside(&spec.data_dir, "tmp");
    let (init_file, options_file) = (spec.init_file(), spec.run_dir.join("my.cnf"));
    for dir in [&files_dir, &tmp_dir] {
        make_dir(dir, spec)?;
    }
    rotate(&error_log)?;
    make_log(&error_log, spec)?;
    door::remove(&socket)?;
    let places = Places {
        socket: &socket,
        init_file: &init_file,
        error_log: &error_log,
        files_dir: &files_dir,
        tmp_dir: &tmp_dir,
        pid_file: &spec.run_dir.join("mariadbd.pid"),
    };
    write(&options_file, &option_file(spec, &places), spec)?;
    write(&init_file, &sql::init_file(spec, agent_password)?, spec)?;
    let log_begins = std::fs::metadata(&error_log).map_or(0, |log| log.len());
    let mut command = Command::new(&server.program);
    let own = Own {
        dirs: &[&spec.data_dir, &spec.run_dir, &files_dir, &tmp_dir],
        files: &[&error_log],
        program: &server.program,
        connections: options::connections_max(spec).into(),
    };
    confine::confine(&mut command, spec, &own)?;
    command
        .arg(format!("--defaults-file={}", options_file.display()))
        .arg(format!("--datadir={}", spec.data_dir.display()))
        .args(as_root(spec).then_some("--user=root"))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command
        .spawn()
        .map_err(Error::system("cannot start", &server.program))?;
    let pid = child.id().unwrap_or_default();
    // Only root may raise another user's score; without it nothing is lost but the order of killing.
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE_ADJ);
    Ok(Process {
        child,
        pid,
        error_log,
        log_begins,
        socket,
        init_file,
        has_user: spec.uid.is_some(),
    })
}

/// Root without a user for the project: mariadbd must be told that root is meant.
fn as_root(spec: &Spec) -> bool {
    spec.uid.is_none() && rustix::process::geteuid().is_root()
}

impl Process {
    /// Resolves when the server greets; an error when it ends before, or does not in time.
    pub(crate) async fn greeted(&mut self, patience: Duration) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => {
                    let status = status.map_err(Error::system("cannot wait for", &self.socket))?;
                    return Err(self.did_not_start(Ended::of(status)));
                }
                greets = greets(&self.socket) => if greets {
                    break;
                },
            }
            if began.elapsed() > patience {
                return Err(Error::Late {
                    seconds: patience.as_secs(),
                    reason: self.why_not_started(),
                });
            }
            sleep(LOOK_EVERY).await;
        }
        if self.has_user {
            open_to_gateways(&self.socket).map_err(Error::system("cannot give to gateways", &self.socket))?;
        }
        // It was read; nobody needs the hashes in it any more.
        remove(&self.init_file)
    }

    /// Resolves when the server has ended. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Ended {
        match self.child.wait().await {
            Ok(status) => Ended::of(status),
            Err(error) => Ended {
                status: format!("unknown: {error}"),
                signal: None,
            },
        }
    }

    /// It ended before it was ready.
    pub(crate) fn did_not_start(&self, Ended { status, signal }: Ended) -> Error {
        Error::Start {
            status,
            reason: self.why_not_started(),
            signal,
        }
    }

    /// SIGTERM, and SIGKILL when the time is over. Returns how it ended.
    pub(crate) async fn stop(&mut self, patience: Duration) -> Ended {
        self.signal(Signal::TERM);
        match timeout(patience, self.ended()).await {
            Ok(ended) => ended,
            Err(_elapsed) => {
                self.signal(Signal::KILL);
                self.ended().await
            }
        }
    }

    /// The same for one that may not have greeted yet. A SIGTERM before that can hang it for good: it ends a thread that its
    /// main thread goes on to wait for (`init_slave` in 10.11). So it is let come up first, which takes a fraction of a
    /// second, and is killed where its `patience` is over: who has greeted nobody has promised nothing.
    pub(crate) async fn stop_starting(&mut self, patience: Duration) -> Ended {
        let began = Instant::now();
        // Whether it greets, ends or is late: what follows knows.
        let _ = self.greeted(patience).await;
        self.stop(patience.saturating_sub(began.elapsed())).await
    }

    fn signal(&self, signal: Signal) {
        // None once it was waited for: the number may be another's by then.
        let pid = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Gone already is as good as signalled.
            let _ = kill_process(pid, signal);
        }
    }

    /// Why it did not start: the cause stands first in its log, what follows from it after.
    fn why_not_started(&self) -> String {
        self.told(|errors| errors.get(..ERRORS_TOLD_MAX).unwrap_or(errors))
    }

    /// Why a server that ran has ended: its last errors.
    pub(crate) fn why_ended(&self) -> String {
        self.told(|errors| {
            errors
                .get(errors.len().saturating_sub(ERRORS_TOLD_MAX)..)
                .unwrap_or_default()
        })
    }

    fn told(&self, choose: impl FnOnce(&[String]) -> &[String]) -> String {
        let errors = errors(&self.error_log, self.log_begins).unwrap_or_default();
        if errors.is_empty() {
            format!("nothing in {}", self.error_log.display())
        } else {
            choose(&errors).join("; ")
        }
    }
}

/// Makes the socket, which mariadbd opens to everybody, one for gateways only: root's, and those in the group of the
/// directory that holds all run directories. Until then nobody but root and the project gets into the socket's own directory.
fn open_to_gateways(socket: &Path) -> std::io::Result<()> {
    let (Some(run_dir), Some(all)) = (socket.parent(), socket.ancestors().nth(2)) else {
        return Ok(());
    };
    let group = std::fs::metadata(all)?.gid();
    // The project itself could put a link there; what it leads to stays as it is.
    std::os::unix::fs::lchown(socket, None, Some(group))?;
    let opened = rustix::fs::open(socket, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    let found = rustix::fs::fstat(&opened)?;
    if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_socket() {
        return Err(std::io::Error::other("it is no socket"));
    }
    let own = format!("/proc/self/fd/{}", opened.as_raw_fd());
    std::fs::set_permissions(own, std::fs::Permissions::from_mode(0o660))?;
    std::fs::set_permissions(run_dir, std::fs::Permissions::from_mode(0o1771))
}

async fn greets(socket: &Path) -> bool {
    let greeting = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut header = [0; 5];
        stream.read_exact(&mut header).await?;
        std::io::Result::Ok(header[4] != 0xff)
    };
    matches!(timeout(GREETING_PATIENCE, greeting).await, Ok(Ok(true)))
}

impl Ended {
    fn of(status: ExitStatus) -> Self {
        Self {
            status: status.to_string(),
            signal: status.signal(),
        }
    }
}

/// The `[ERROR]` lines, without their time stamps.
fn errors(log: &Path, from: u64) -> std::io::Result<Vec<String>> {
    let mut file = std::fs::File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(len.saturating_sub(LOG_TAIL_BYTES))))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let errors = text.lines().filter_map(|line| line.split_once("[ERROR]"));
    let told = |what: &str| {
        let shown = what.trim().chars().filter(|char| !char.is_control());
        shown.take(ERROR_CHARS_MAX).collect()
    };
    Ok(errors.map(|(_, what)| told(what)).collect())
}

fn rotate(log: &Path) -> Result<(), Error> {
    if std::fs::metadata(log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        std::fs::rename(log, log.with_extension("err.1")).map_err(Error::system("cannot set aside", log))?;
    }
    Ok(())
}

/// The log's directory is not the project's: its user may write this one file there.
fn make_log(log: &Path, spec: &Spec) -> Result<(), Error> {
    let made = || -> std::io::Result<()> {
        std::fs::create_dir_all(&spec.log_dir)?;
        let mut options = std::fs::OpenOptions::new();
        // Not through a link that a tenant might have laid.
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(log)?;
        match spec.uid {
            Some(uid) => std::os::unix::fs::fchown(&file, Some(uid), spec.gid),
            None => Ok(()),
        }
    };
    made().map_err(Error::system("cannot make", log))
}

/// A directory of the project next to its data directory.
fn beside(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.with_file_name(name)
}

/// A directory of the project's user.
pub(crate) fn make_dir(dir: &Path, spec: &Spec) -> Result<(), Error> {
    let made = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        if let Some(uid) = spec.uid {
            std::os::unix::fs::chown(dir, Some(uid), spec.gid)?;
        }
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
    };
    made().map_err(Error::system("cannot make", dir))
}

fn write(path: &Path, text: &str, spec: &Spec) -> Result<(), Error> {
    let written = || -> std::io::Result<()> {
        remove_file(path)?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        if let Some(uid) = spec.uid {
            std::os::unix::fs::fchown(&file, Some(uid), spec.gid)?;
        }
        Ok(())
    };
    written().map_err(Error::system("cannot write", path))
}

pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    remove_file(path).map_err(Error::system("cannot remove", path))
}

/// Whatever stands there: where sockets are, a tenant's server can make directories, as places for tables.
fn remove_file(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => std::fs::remove_dir_all(path),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_s_log_says_of_its_end_is_told_in_short_whatever_stands_there() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("mariadbd.err");
        let lines = [
            "2026-11-25 17:00:00 0 [ERROR] before this start",
            "2026-11-25 17:00:01 0 [Note] fine",
            "2026-11-25 17:00:02 0 [ERROR] Aborting \x1b[31m\u{7}now",
            &format!("[ERROR] {}", "x".repeat(60_000)),
        ];
        std::fs::write(&log, lines.join("\n")).unwrap();
        let from = lines[0].len() as u64;
        let told = errors(&log, from).unwrap();
        assert_eq!(told[0], "Aborting [31mnow");
        assert_eq!((told.len(), told[1].len()), (2, ERROR_CHARS_MAX));
    }
}
