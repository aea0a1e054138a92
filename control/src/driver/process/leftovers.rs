//! Processes of a project that nobody answers for any more: a mariadbd whose agent was killed, an agent that hangs. They
//! are found by what they were started with, and each is looked at again, through a handle that cannot come to mean
//! another process, before it gets a signal.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

/// Between looks at whether they have gone.
const LOOK: Duration = Duration::from_millis(50);
/// After SIGKILL; what is not gone by then waits for a disk.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// What the processes of one project look like.
#[derive(Debug, Clone)]
pub(super) struct Traits {
    /// An agent was started with this spec.
    pub(super) spec: PathBuf,
    /// A server was started with something in one of these directories.
    pub(super) dirs: Vec<PathBuf>,
    /// There while the server has not greeted yet.
    pub(super) init_file: PathBuf,
}

/// Why not all of them are gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndError {
    #[error("processes {0:?} of the compute do not end")]
    Stay(Vec<u32>),
    /// Nobody can say whether there are any.
    #[error("the machine's processes cannot be looked at: {0}")]
    Unseen(#[from] io::Error),
}

/// Ends all of them: asks first, and after `patience` does not ask. A server that is starting is not asked at all: a SIGTERM
/// can hang it, and it has promised nobody anything. Answers how many there were.
pub(super) async fn end(traits: &Traits, patience: Duration) -> Result<usize, EndError> {
    let found = find(traits)?;
    if found.is_empty() {
        return Ok(0);
    }
    tracing::warn!(pids = ?found, spec = %traits.spec.display(), "ending processes that were left behind");
    let (first, patience) = if traits.init_file.exists() {
        (Signal::KILL, KILL_PATIENCE)
    } else {
        (Signal::TERM, patience)
    };
    signal(traits, &found, first);
    if gone(traits, patience).await? {
        return Ok(found.len());
    }
    signal(traits, &find(traits)?, Signal::KILL);
    if gone(traits, KILL_PATIENCE).await? {
        Ok(found.len())
    } else {
        Err(EndError::Stay(find(traits)?))
    }
}

/// Whether all of them are gone by themselves within `patience`.
pub(super) async fn gone(traits: &Traits, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    while !find(traits)?.is_empty() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(true)
}

/// Whether the project's agent runs.
pub(super) fn agent_lives(traits: &Traits) -> io::Result<bool> {
    search(|arguments| traits.fit_agent(arguments)).map(|pids| !pids.is_empty())
}

fn find(traits: &Traits) -> io::Result<Vec<u32>> {
    search(|arguments| traits.fit_any(arguments))
}

/// /proc is memory: a few hundred small reads, no disk. Fails where it cannot be read, as without a free descriptor: that
/// nothing was found would be no answer.
fn search(fit: impl Fn(&[&OsStr]) -> bool) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if started_with(pid, &fit)? {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Whether what it was started with fits. No, for a process that is gone, or is none of ours to read.
fn started_with(pid: u32, fit: impl Fn(&[&OsStr]) -> bool) -> io::Result<bool> {
    match std::fs::read(format!("/proc/{pid}/cmdline")) {
        // Empty for a process that has ended and was not waited for: that one holds nothing any more.
        Ok(cmdline) => Ok(fit(&arguments(&cmdline))),
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
            ) =>
        {
            Err(error)
        }
        Err(_) => Ok(false),
    }
}

fn arguments(cmdline: &[u8]) -> Vec<&OsStr> {
    cmdline.split(|byte| *byte == 0).map(OsStr::from_bytes).collect()
}

fn signal(traits: &Traits, pids: &[u32], signal: Signal) {
    for pid in pids {
        let Some(handle) = open(*pid) else { continue };
        // Looked at only after the handle is held: from here on it means this process or none.
        if started_with(*pid, |arguments| traits.fit_any(arguments)).unwrap_or_default()
            && let Err(error) = pidfd_send_signal(&handle, signal)
        {
            tracing::warn!(pid, %error, "cannot signal a process that was left behind");
        }
    }
}

fn open(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()
}

impl Traits {
    fn fit_any(&self, arguments: &[&OsStr]) -> bool {
        self.fit_agent(arguments) || self.fit_server(arguments)
    }

    fn fit_agent(&self, arguments: &[&OsStr]) -> bool {
        let [_program, agent, run, spec_flag, spec, ..] = arguments else {
            return false;
        };
        (*agent, *run, *spec_flag) == (OsStr::new("agent"), OsStr::new("run"), OsStr::new("--spec"))
            && Path::new(spec) == self.spec
    }

    fn fit_server(&self, arguments: &[&OsStr]) -> bool {
        let [program, rest @ ..] = arguments else {
            return false;
        };
        let name = Path::new(program).file_name().map(OsStr::as_bytes).unwrap_or_default();
        let is_server = name.starts_with(b"mariadbd") || name.starts_with(b"mysqld");
        is_server && rest.iter().any(|argument| self.is_inside(argument))
    }

    /// `--datadir=/a/b` with `/a/b` at or below one of the directories.
    fn is_inside(&self, argument: &OsStr) -> bool {
        let bytes = argument.as_bytes();
        let value = bytes
            .iter()
            .position(|byte| *byte == b'=')
            .map_or(bytes, |at| &bytes[at + 1..]);
        self.dirs
            .iter()
            .any(|dir| Path::new(OsStr::from_bytes(value)).starts_with(dir))
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use super::*;

    fn traits(dir: &Path) -> Traits {
        Traits {
            spec: dir.join("spec.json"),
            dirs: vec![dir.into()],
            init_file: dir.join("init.sql"),
        }
    }

    /// A server that goes on after a SIGTERM, and says that it had one.
    fn deaf(dir: &Path) -> std::process::Child {
        let script = "trap 'echo asked' TERM; echo on; while :; do read -t 1 x < /dev/zero || :; done";
        let mut child = Command::new("bash")
            .arg0("mariadbd")
            .args([
                "-c",
                script,
                "mariadbd",
                &format!("--datadir={}", dir.join("data").display()),
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        child
    }

    /// The signal that ended it, and what it said before.
    fn outcome(mut child: std::process::Child) -> (Option<i32>, String) {
        let status = child.wait().unwrap();
        let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        (std::os::unix::process::ExitStatusExt::signal(&status), said)
    }

    #[test]
    fn knows_agents_and_servers_and_leaves_all_others_alone() {
        let traits = traits(Path::new("/d/projects/demo"));
        let fits = |words: &[&str]| traits.fit_any(&arguments(words.join("\0").as_bytes()));
        assert!(fits(&[
            "/bin/selkie",
            "agent",
            "run",
            "--spec",
            "/d/projects/demo/spec.json",
            ""
        ]));
        assert!(fits(&[
            "/usr/sbin/mariadbd",
            "--no-defaults",
            "--datadir=/d/projects/demo/data",
            ""
        ]));
        assert!(!fits(&[
            "/bin/selkie",
            "agent",
            "run",
            "--spec",
            "/d/projects/demo2/spec.json",
            ""
        ]));
        assert!(!fits(&["/usr/sbin/mariadbd", "--datadir=/d/projects/demo2/data", ""]));
        assert!(!fits(&["tail", "-f", "/d/projects/demo/log/mariadbd.log", ""]));
        assert!(!fits(&["/bin/selkie", "up", ""]));
        assert!(!fits(&[""]));
    }

    #[tokio::test]
    async fn ends_a_process_that_does_not_want_to() {
        let dir = tempfile::tempdir().unwrap();
        let child = deaf(dir.path());
        let waiter = std::thread::spawn(|| outcome(child));
        // Longer than it takes the shell to say that it was asked.
        let ended = end(&traits(dir.path()), Duration::from_secs(2)).await;
        assert_eq!(ended.unwrap(), 1);
        assert_eq!(waiter.join().unwrap(), (Some(9), "asked\n".into()));
        assert_eq!(end(&traits(dir.path()), Duration::ZERO).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_has_not_greeted_yet_is_killed_and_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("init.sql"), "").unwrap();
        let child = deaf(dir.path());
        let waiter = std::thread::spawn(|| outcome(child));
        assert_eq!(end(&traits(dir.path()), Duration::from_secs(60)).await.unwrap(), 1);
        assert_eq!(waiter.join().unwrap(), (Some(9), String::new()));
    }
}
