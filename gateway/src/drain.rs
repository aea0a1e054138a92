//! Going down without cutting anyone short: first nobody new is sent here, then no new clients; idle ones are told and closed, one
//! after the other; commands and transactions are given a time. Out: how many had to be cut.
//!
//! [`Signal`] is what sessions watch: raised once, seen at the price of one atomic load, and waking whoever sleeps.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// How long `/readyz` fails before clients are refused.
    pub(crate) notice: Duration,
    /// How long commands in flight and transactions may go on.
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

/// Between the ends of two idle sessions: clients come back at once, and log in elsewhere, which costs more than to leave.
const PACE: Duration = Duration::from_millis(1);

/// The steps of a shut-down.
#[derive(Default)]
pub(crate) struct Drain {
    /// Whoever asks is told not to send anybody here any more.
    pub(crate) announced: Signal,
    /// Idle sessions end, each in its turn; sessions with commands or a transaction in flight end after them.
    pub(crate) begun: Signal,
    /// The time is over: everything ends.
    pub(crate) over: Signal,
    pace: OnceLock<(Instant, Duration)>,
    turns: AtomicU32,
    cut: AtomicU32,
}

impl Drain {
    /// Idle sessions begin to end, so fast that all have had their turn in half of `timeout`.
    pub(crate) fn begin(&self, clients: u32, timeout: Duration) {
        let pace = PACE.min(timeout / 2 / clients.max(1));
        let _ = self.pace.set((Instant::now(), pace));
        self.begun.raise(SHUTDOWN_TEXT);
    }

    /// Completes when it is the turn of a session that has nothing under way. One for each: a second has a later turn.
    /// Cancel-safe.
    pub(crate) async fn turn(&self) {
        self.begun.raised().await;
        if let Some((began, pace)) = self.pace.get() {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            sleep_until(*began + *pace * turn).await;
        }
    }

    /// A session is ended in the middle of a command or a transaction.
    pub(crate) fn cuts(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn cut(&self) -> u32 {
        self.cut.load(Ordering::Relaxed)
    }
}

/// What clients are told when the gateway goes down.
pub(crate) const SHUTDOWN_TEXT: &str = "Server shutdown in progress";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_sessions_end_one_after_the_other_and_all_in_half_of_the_time() {
        for (clients, timeout, last_ms) in [(5, 10_000, 4), (20_000, 10_000, 4999)] {
            let drain = Drain::default();
            let turns: Vec<_> = (0..clients).map(|_| drain.turn()).collect();
            let began = Instant::now();
            drain.begin(clients, Duration::from_millis(timeout));
            let ended = futures::future::join_all(turns.into_iter().map(|turn| async {
                turn.await;
                began.elapsed()
            }));
            let ended = ended.await;
            assert!(ended[0] < Duration::from_millis(2), "{:?}", ended[0]);
            let last = ended.iter().max().unwrap().as_millis();
            assert!((last_ms..=last_ms + 2).contains(&last), "{last}");
        }
    }
}
