//! What every connection of this gateway shares.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::accept::Seats;
use crate::accept::turnstile::Turnstile;
use crate::accounts::Accounts;
use crate::activity::Clock;
use crate::auth::Decoy;
use crate::auth::throttle::Throttle;
use crate::cancel::Sessions;
use crate::config::Config;
use crate::drain::Drain;
use crate::meter::Meter;
use crate::metrics::Metrics;
use crate::route::Routes;
use crate::tls::Certificates;
use crate::wake::Wakes;

/// One gateway.
pub(crate) struct Gateway {
    /// The settings in use; a reload exchanges them.
    pub(crate) settings: ArcSwap<Config>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) tls: Arc<Certificates>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) wakes: Wakes,
    pub(crate) accounts: Accounts,
    pub(crate) decoy: Decoy,
    pub(crate) turnstile: Turnstile,
    pub(crate) throttle: Throttle,
    pub(crate) drain: Drain,
    pub(crate) metrics: Metrics,
    pub(crate) meter: Arc<Meter>,
    pub(crate) clock: Clock,
    pub(crate) sessions: Arc<Sessions>,
}

impl Gateway {
    /// The settings of this moment. Asked for at a login, an attach, a drain; never for a packet.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.settings.load_full()
    }
}
