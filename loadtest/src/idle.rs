//! Memory of clients that are logged in and do nothing.

use harness::process::resident_bytes;
use harness::{Raw, Selkie};

use crate::report;

const CLIENTS: usize = 5_000;
/// The first clients also pay for what all share.
const WARM_UP: usize = 100;

/// In a process of its own: what other scenarios have given back to its allocator would hide what clients need.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let selkie = Selkie::start().await;
    let endpoint = selkie.demo();
    let pid = selkie.pid();
    let mut clients = Vec::new();
    for _ in 0..WARM_UP {
        clients.push(Raw::login(&endpoint).await);
    }
    let before = resident_bytes(pid);
    for _ in 0..CLIENTS {
        clients.push(Raw::login(&endpoint).await);
    }
    let each = (resident_bytes(pid).saturating_sub(before)) as f64 / CLIENTS as f64;
    report::figure("resident memory per idle client", CLIENTS, &format!("{each:.0} bytes"));
    Ok(())
}
