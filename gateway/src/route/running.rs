//! A compute that can be dialled, its seats, and how sessions are asked to give theirs up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use arc_swap::ArcSwapOption;
use control_api::control as proto;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use crate::drain::Signal;

/// A compute that can be dialled.
pub(crate) struct Running {
    pub(crate) incarnation: u64,
    pub(crate) socket: PathBuf,
    /// The password of the gateway's own method on every account there.
    pub(crate) secret: Zeroizing<Vec<u8>>,
    /// It is going or gone: sessions end.
    closing: Signal,
    wanted: AtomicU32,
    /// Tells attached sessions to look at `wanted`.
    nudge: Notify,
    /// How often; for those that look at every turn, at the price of a load.
    nudges: AtomicU32,
    /// Why it is drained.
    drained_because: ArcSwapOption<String>,
    /// Sessions that hold a connection to it, and who waits for there to be none.
    seated: watch::Sender<usize>,
    /// Wakes one who waits for a place.
    freed: Notify,
    /// Why a session has said that it cannot park, since the drain began.
    refusal: watch::Sender<Option<String>>,
}

/// `Running::wanted`: it is to be suspended, and sessions park where they can.
const DRAIN: u32 = 1 << 31;

/// `Running::wanted`: sessions that cannot park are to end.
const FORCED: u32 = 1 << 30;

/// The rest of `Running::wanted`: so many connections are wanted for others.
const PLACES: u32 = FORCED - 1;

/// More than waiters at one time would only park sessions for nothing.
const PLACES_MAX: u32 = 1024;

/// Why a session is asked to give up its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The compute is to be suspended, if every session can park.
    Drain,
    /// The compute is going to be suspended.
    Forced,
    /// Somebody waits for a connection.
    Place,
}

/// A session's place at a compute, held while it is attached.
pub(crate) struct Seat(Arc<Running>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seated.send_modify(|seated| *seated -= 1);
        self.0.freed.notify_one();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("incarnation", &self.incarnation)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Running {
    pub(crate) fn new(incarnation: u64, socket: PathBuf, secret: Vec<u8>) -> Self {
        Self {
            incarnation,
            socket,
            secret: Zeroizing::new(secret),
            closing: Signal::default(),
            wanted: AtomicU32::new(0),
            nudge: Notify::new(),
            nudges: AtomicU32::new(0),
            drained_because: ArcSwapOption::empty(),
            seated: watch::Sender::new(0),
            freed: Notify::new(),
            refusal: watch::Sender::new(None),
        }
    }

    /// Raised when sessions must let go of this compute.
    pub(crate) fn closing(&self) -> &Signal {
        &self.closing
    }

    /// Somebody wants sessions to give up their connections. One load.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed) != 0
    }

    /// Why this session is asked to give up its connection. A place that is asked for is asked of one session only.
    pub(crate) fn asked(&self) -> Option<Asked> {
        if let Some(draining) = self.draining() {
            return Some(draining);
        }
        let one_less = |wanted: u32| (wanted & PLACES != 0).then(|| wanted - 1);
        self.wanted
            .fetch_update(Relaxed, Relaxed, one_less)
            .ok()
            .map(|_| Asked::Place)
    }

    /// Why every session is asked to give up its connection; None: no drain is on.
    pub(crate) fn draining(&self) -> Option<Asked> {
        match self.wanted.load(Relaxed) {
            wanted if wanted & DRAIN == 0 => None,
            wanted if wanted & FORCED == 0 => Some(Asked::Drain),
            _ => Some(Asked::Forced),
        }
    }

    /// For clients to read.
    pub(crate) fn draining_reason(&self) -> String {
        let because = self.drained_because.load_full();
        because.map_or_else(|| "the compute is being suspended".into(), |because| (*because).clone())
    }

    /// Completes when a session has left; one of those who wait is told. Cancel-safe.
    pub(crate) async fn place_freed(&self) {
        self.freed.notified().await;
    }

    /// Completes at the next change of what is wanted. To be polled once before `is_wanted` is asked.
    pub(crate) fn nudged(&self) -> Notified<'_> {
        self.nudge.notified()
    }

    /// Differs when there was a nudge in between. A task that has polled [`Self::nudged`] is woken by the next one.
    pub(crate) fn nudges(&self) -> u32 {
        self.nudges.load(Acquire)
    }

    pub(super) fn nudge(&self) {
        self.nudges.fetch_add(1, Release);
        self.nudge.notify_waiters();
    }

    /// One connection is wanted for another session.
    pub(crate) fn want_place(&self) {
        let one_more = |wanted: u32| (wanted & PLACES < PLACES_MAX).then(|| wanted + 1);
        let _ = self.wanted.fetch_update(Relaxed, Relaxed, one_more);
        self.nudge();
    }

    pub(super) fn drain(&self, said: &proto::Compute) {
        let forced = said.forced;
        let because = (!said.reason.is_empty()).then(|| Arc::new(said.reason.clone()));
        self.drained_because.store(because);
        self.refusal.send_replace(None);
        self.wanted
            .fetch_or(if forced { DRAIN | FORCED } else { DRAIN }, Relaxed);
        self.nudge();
    }

    /// The suspend was called off.
    pub(super) fn stay(&self) {
        self.wanted.fetch_and(PLACES, Relaxed);
    }

    /// A session cannot park.
    pub(crate) fn refuse(&self, reason: &str) {
        self.refusal.send_if_modified(|refusal| {
            let first = refusal.is_none();
            refusal.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    /// Completes when a session has said that it cannot park, with its reason. Cancel-safe.
    pub(crate) async fn refused(&self) -> String {
        let mut refusal = self.refusal.subscribe();
        // The sender lives as long as `self`.
        match refusal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// A place for one more session. None: it is going to be suspended. Whoever waits for it to be empty waits for this
    /// seat, too.
    pub(crate) fn seat(self: &Arc<Self>) -> Option<Seat> {
        self.seated.send_modify(|seated| *seated += 1);
        let seat = Seat(Arc::clone(self));
        (self.wanted.load(Relaxed) & DRAIN == 0).then_some(seat)
    }

    /// Completes when no session holds a connection to it. Cancel-safe.
    pub(crate) async fn empty(&self) {
        // The sender lives as long as `self`.
        let _ = self.seated.subscribe().wait_for(|seated| *seated == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_asked_of_one_session() {
        let running = Running::new(1, PathBuf::new(), Vec::new());
        assert_eq!((running.asked(), running.is_wanted()), (None, false));
        running.want_place();
        assert_eq!((running.asked(), running.asked()), (Some(Asked::Place), None));
    }
}
