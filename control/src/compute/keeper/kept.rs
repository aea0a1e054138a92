//! What the store is to keep: the compute's states in their order, and what the agent said; also when it takes them later.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::Keeper;
use crate::store::{ComputeRecord, Observed, StoreError};

/// Until the store is asked again for what it did not take: soon enough after a disk has space again, and no load on one that
/// has none.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Changes of state that wait for the store. Without it nothing can start, so that only suspends that are called off make
/// many; of those the oldest go.
const UNSAVED_MAX: usize = 64;

impl Keeper {
    /// Takes in what the agent said, unless something later of it is known already. Answers the version that tells
    /// gateways.
    pub(super) async fn observed(&mut self, observed: Observed) -> u64 {
        if observed.look < self.look {
            return self.version;
        }
        self.look = observed.look;
        if let Some(reason) = &observed.left_out {
            return self.leave_behind(reason);
        }
        // Of two looks the later counts.
        let earlier = self.unsaved_look.take();
        match self.parts.store.set_observed(&self.id, &observed).await {
            Ok(access) => {
                self.parts.publisher.set_access(&self.id, access);
            }
            Err(StoreError::TooLarge(reason)) => {
                self.unsaved_look = earlier;
                return self.leave_behind(&reason);
            }
            // Its last word comes while it is being deleted.
            Err(StoreError::NotFound(_)) => return self.version,
            Err(error) => {
                tracing::error!(%error, "cannot keep what the agent reported");
                if may_pass(&error) {
                    self.unsaved_look = Some(observed.clone());
                    self.save_later();
                }
            }
        }
        if std::mem::take(&mut self.left_behind) {
            tracing::info!("what the server has can be told again, and is known");
        }
        self.parts.publisher.set_observed(&self.id, observed)
    }

    /// The project goes on with the users and databases that it was known to have.
    fn leave_behind(&mut self, reason: &dyn fmt::Display) -> u64 {
        if !std::mem::replace(&mut self.left_behind, true) {
            tracing::warn!(
                %reason,
                "the server has more users or databases than can be told: what was changed in SQL is not known until it has fewer"
            );
        }
        self.version
    }

    pub(super) async fn persist(&mut self) {
        let record = self.record.clone();
        let outward = |record: &ComputeRecord| (record.incarnation, record.state);
        match self.unsaved.back_mut() {
            // A start that is tried again and again ends in the state that is waiting already, since it began.
            Some(last) if outward(last) == outward(&record) => {
                *last = ComputeRecord {
                    since: last.since,
                    ..record
                }
            }
            _ => self.unsaved.push_back(record),
        }
        if self.unsaved.len() > UNSAVED_MAX {
            self.unsaved.pop_front();
        }
        self.save().await;
    }

    /// Gives the store, in their order, the states that it has not taken, and what the agent said. What it cannot take now is
    /// tried again: nothing else would tell it, and what is counted by it would be wrong.
    pub(super) async fn save(&mut self) {
        let again = self.save_at.take().is_some();
        while let Some(record) = self.unsaved.front() {
            if let Err(error) = self.parts.store.set_compute(&self.id, record).await {
                if may_pass(&error) {
                    if !again {
                        tracing::error!(%error, state = %record.state, "cannot keep the compute's state yet");
                    }
                    return self.save_later();
                }
                tracing::error!(%error, state = %record.state, "cannot keep the compute's state");
            }
            self.unsaved.pop_front();
        }
        if let Some(observed) = self.unsaved_look.take() {
            match self.parts.store.set_observed(&self.id, &observed).await {
                Ok(access) => {
                    self.parts.publisher.set_access(&self.id, access);
                }
                Err(error) if may_pass(&error) => {
                    self.unsaved_look = Some(observed);
                    return self.save_later();
                }
                Err(_) => {}
            }
        }
        if again {
            tracing::info!("what the store did not take is kept now");
        }
    }

    fn save_later(&mut self) {
        self.save_at = Some(Instant::now() + SAVE_AGAIN_AFTER);
    }
}

/// Whether the store may take later what it did not take now.
fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Faulty { .. })
}
