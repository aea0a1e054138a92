//! The connection to control, as operators see it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

/// Whether control is there, and since when nothing was heard of it.
pub(crate) struct Link {
    began: Instant,
    /// A watch is open and its snapshot is here.
    connected: AtomicBool,
    /// When control last said anything, since `began`.
    heard_ms: AtomicU64,
    reports_failed: AtomicU64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            connected: AtomicBool::new(false),
            heard_ms: AtomicU64::new(0),
            reports_failed: AtomicU64::new(0),
        }
    }
}

impl Link {
    /// Control has said something.
    pub(crate) fn heard(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.fetch_max(ms, Relaxed);
    }

    /// All that control has to say is here, and more will come.
    pub(crate) fn is_up(&self) {
        self.connected.store(true, Relaxed);
    }

    /// Nothing more comes until it is tried again. Answers whether it was up.
    pub(crate) fn is_down(&self) -> bool {
        self.connected.swap(false, Relaxed)
    }

    /// Control has not taken a report on databases in use.
    pub(crate) fn report_failed(&self) {
        self.reports_failed.fetch_add(1, Relaxed);
    }

    pub(super) fn reports_failed(&self) -> u64 {
        self.reports_failed.load(Relaxed)
    }

    pub(super) fn connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Seconds since control last said anything; since the start, where it never has.
    pub(super) fn silence(&self) -> f64 {
        let heard_ms = self.heard_ms.load(Relaxed) as f64;
        (self.began.elapsed().as_secs_f64() - heard_ms / 1000.0).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_begins_anew_with_every_word_and_goes_on_over_a_loss() {
        let link = Link::default();
        advance(Duration::from_secs(3)).await;
        assert_eq!((link.connected(), link.silence()), (false, 3.0));
        link.heard();
        link.is_up();
        advance(Duration::from_secs(5)).await;
        link.is_down();
        advance(Duration::from_secs(2)).await;
        assert_eq!((link.connected(), link.silence()), (false, 7.0));
    }
}
