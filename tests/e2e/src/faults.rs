//! The way between clients and gateways with a proxy in it that delays, chops, cuts and goes silent; and services that run
//! out of file descriptors. What was acknowledged is there once, what was not at most once, nobody reads
//! another's data, nothing hangs beyond the documented times, and afterwards all is as before.

mod client_to_gateway;
mod control_gone;
mod control_to_agent;
mod control_to_store;
mod descriptors;
mod gateway_to_compute;
mod gateway_to_control;
mod half_open;
mod packet_loss;
mod slow_clients;
mod writer;

use harness::http;

/// File descriptors of a process.
fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").count()
}

/// A figure of a service's `/metrics`; `url` is what comes before that.
async fn metric(url: &str, name: &str) -> f64 {
    let metrics = http::request("GET", &format!("{url}/metrics"), None, None).await.body;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_default()
}
