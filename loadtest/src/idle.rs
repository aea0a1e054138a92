//! Memory of clients that are logged in and do nothing.

use harness::Selkie;
use harness::process::resident_bytes;
use harness::raw::client_config;

use crate::client::Client;
use crate::report;
use crate::stage::{Address, Resumption, Target, Tls};

const CLIENTS: usize = 10_000;
/// The first clients also pay for what all share.
const WARM_UP: usize = 100;

/// In processes of their own: what other scenarios have given back to the allocator would hide what clients need.
pub(crate) async fn measure() -> anyhow::Result<()> {
    for (name, over_tls) in [
        ("resident memory per idle client", false),
        ("the same inside TLS 1.3", true),
    ] {
        let selkie = Selkie::start().await;
        let target = target(&selkie, over_tls);
        let pid = selkie.pid();
        let mut clients = Vec::new();
        for _ in 0..WARM_UP {
            clients.push(Client::log_in(&target)?);
        }
        let before = resident_bytes(pid);
        for _ in 0..CLIENTS {
            clients.push(Client::log_in(&target)?);
        }
        let each = (resident_bytes(pid).saturating_sub(before)) as f64 / CLIENTS as f64;
        report::figure(name, CLIENTS, &format!("{each:.0} bytes"));
    }
    Ok(())
}

fn target(selkie: &Selkie, over_tls: bool) -> Target {
    let endpoint = selkie.demo();
    let target = Target {
        address: Address::Tcp(endpoint.port),
        tls: over_tls.then(|| Tls::OnRequest(client_config(endpoint.ca.as_slice(), None))),
        user: endpoint.user,
        password: endpoint.password,
        database: endpoint.database,
        pid: None,
    };
    target.for_one_client(Resumption::Never)
}
