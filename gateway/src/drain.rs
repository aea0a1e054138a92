//! Going down without cutting anyone short: no new clients, idle ones told and closed, commands in flight given a time.
//!
//! [`Signal`] is what sessions watch: raised once, seen at the price of one atomic load, and waking whoever sleeps.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// How long commands in flight may go on.
    pub(crate) timeout: Duration,
}

/// Something that happens once, with a reason.
#[derive(Default)]
pub(crate) struct Signal {
    /// Beside the token because asking a token takes a lock, and sessions ask at every turn.
    raised: AtomicBool,
    token: CancellationToken,
    reason: OnceLock<String>,
}

impl Signal {
    /// The first reason stays: it is the cause.
    pub(crate) fn raise(&self, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
        self.raised.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Completes when raised. Polled once, it wakes the task that polled it; `is_raised` tells the rest.
    pub(crate) fn raised(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }
}

/// The two steps of a shut-down.
#[derive(Default)]
pub(crate) struct Drain {
    /// Idle sessions end; sessions with commands in flight end after them.
    pub(crate) begun: Signal,
    /// The time is over: everything ends.
    pub(crate) over: Signal,
}

/// What clients are told when the gateway goes down.
pub(crate) const SHUTDOWN_TEXT: &str = "Server shutdown in progress";
