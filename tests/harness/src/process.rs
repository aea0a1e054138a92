//! Processes by their id: signal them, wait for their end, find those that belong to a directory, and what they use.

use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Sends `signal`; a process that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = as_pid(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until process `pid` has ended; false when it has not within `limit`. Works for processes that are no child of
/// this one.
pub fn wait_for_exit(pid: u32, limit: Duration) -> bool {
    let Some(pid) = as_pid(pid) else { return true };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let mut fds = [PollFd::new(&handle, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    };
    poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// SIGTERM, then SIGKILL for what is still there after `limit`; true when it ended by itself.
pub fn stop(pid: u32, limit: Duration) -> bool {
    signal(pid, Signal::TERM);
    let clean = wait_for_exit(pid, limit);
    if !clean {
        signal(pid, Signal::KILL);
        wait_for_exit(pid, Duration::from_secs(10));
    }
    clean
}

/// Ids of the processes whose command line names `dir`, zombies excepted.
pub fn of_directory(dir: &Path) -> Vec<u32> {
    let name = dir.as_os_str().as_encoded_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(name.len()).any(|part| part == name))
        })
        .collect()
}

/// Those of `pids` that run the program `name`.
pub fn running(pids: &[u32], name: &str) -> Vec<u32> {
    let is = |pid: &&u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    pids.iter().filter(is).copied().collect()
}

/// Resident memory of a process in bytes; 0 when it is gone.
pub fn resident_bytes(pid: u32) -> u64 {
    status_field(pid, "VmRSS:") * 1024
}

/// The most resident memory that a process ever had, in bytes.
pub fn resident_bytes_max(pid: u32) -> u64 {
    status_field(pid, "VmHWM:") * 1024
}

fn status_field(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn as_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Files called `name` below `dir`.
pub fn files_below(dir: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_below(&path, name));
        } else if path.file_name().is_some_and(|known| known == name) {
            found.push(path);
        }
    }
    found
}
