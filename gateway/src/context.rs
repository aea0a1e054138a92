//! What every connection of this gateway shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::accept::turnstile::Turnstile;
use crate::accounts::Accounts;
use crate::activity::Clock;
use crate::auth::Decoy;
use crate::auth::throttle::Throttle;
use crate::config::Config;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::route::Routes;
use crate::tls::Certificates;
use crate::wake::Wakes;

/// Ids that the gateway gives out begin here; smaller ones are thread ids of computes.
const CONNECTION_IDS_BEGIN: u32 = 1 << 31;

/// One gateway.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) tls: Arc<Certificates>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) wakes: Wakes,
    pub(crate) accounts: Accounts,
    pub(crate) decoy: Decoy,
    pub(crate) turnstile: Turnstile,
    pub(crate) throttle: Throttle,
    pub(crate) drain: Drain,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) connections: AtomicU32,
}

impl Gateway {
    /// The id of a new client connection: 2^31 and up, round and round.
    pub(crate) fn next_connection_id(&self) -> u32 {
        CONNECTION_IDS_BEGIN | self.connections.fetch_add(1, Ordering::Relaxed)
    }
}
