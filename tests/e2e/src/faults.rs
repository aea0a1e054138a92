//! The way between clients and gateways with a proxy in it that delays, chops, cuts and goes silent; and services that run
//! out of file descriptors. What was acknowledged is there once, what was not at most once, nobody reads
//! another's data, nothing hangs beyond the documented times, and afterwards all is as before.

mod client_to_gateway;
mod descriptors;
mod writer;

/// File descriptors of a process.
fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").count()
}
