//! Memory of clients that are logged in and do nothing.

use harness::Raw;
use harness::process::resident_bytes;

use crate::report;
use crate::stage::Stage;

const CLIENTS: usize = 5_000;
/// The first clients also pay for what all share.
const WARM_UP: usize = 100;

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let endpoint = stage.selkie.demo();
    let pid = stage.selkie.pid();
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
