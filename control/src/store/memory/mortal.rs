//! A control plane that may be killed, as its store and its hands see it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// A control plane that is killed after so many steps (writes to the store and acts of the driver), or at any moment. Each
/// of the steps before has its effect, none of those after. Immortal by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mortal {
    steps: Arc<AtomicUsize>,
    dies_at: Option<usize>,
    /// Steps do not count for now.
    spared: Arc<AtomicBool>,
    killed: Arc<AtomicBool>,
}

impl Mortal {
    #[cfg(test)]
    pub(crate) fn dies_at(step: usize) -> Self {
        Self {
            dies_at: Some(step),
            ..Self::default()
        }
    }

    /// Counts a step; `false`: it was killed before it.
    pub(crate) fn lives_on(&self) -> bool {
        if self.spared.load(Ordering::Relaxed) {
            return true;
        }
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if self.dies_at.is_some_and(|dies_at| step >= dies_at) {
            self.kill();
        }
        self.is_alive()
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.killed.load(Ordering::Relaxed)
    }

    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) async fn spare(&self, work: impl Future<Output = ()>) {
        self.spared.store(true, Ordering::Relaxed);
        work.await;
        self.spared.store(false, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn steps(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }
}
