//! What a process has used, from /proc.

use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// CPU time in user and system mode, of all threads.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    // schedstat counts nanoseconds, where stat counts ticks of 10 ms; threads do not end while we measure.
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of {pid}"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds = text.split_whitespace().next().context("a number")?.parse()?;
        total += Duration::from_nanos(nanoseconds);
    }
    Ok(total)
}

/// Thousands of clients are thousands of descriptors.
pub(crate) fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // What cannot be raised stays; running out says so.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
