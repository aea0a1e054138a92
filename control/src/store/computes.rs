//! ComputeStates as they are kept: the state that each is in, and every state that it was in.

use async_trait::async_trait;
use control_api::rest::{ComputeState, WokenBy};

use super::{EpochMs, StoreError, WholeProject};
use crate::name::ProjectId;

/// A change of a compute's outward state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    /// Grows with time.
    pub(crate) id: i64,
    pub(crate) incarnation: u64,
    pub(crate) from: ComputeState,
    pub(crate) to: ComputeState,
    pub(crate) at: EpochMs,
    pub(crate) reason: Option<String>,
    /// With which the compute was started, in millionths of a CU.
    pub(crate) size_ucu: i64,
}

/// A size in millionths of a CU: whole numbers add up exactly.
pub(crate) fn ucu(size_cu: f64) -> i64 {
    (size_cu * 1e6).round() as i64
}

/// What is kept of a compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComputeRecord {
    pub(crate) state: ComputeState,
    pub(crate) incarnation: u64,
    /// Grows within an incarnation when a suspend is called off, so that of two readings the later one is known.
    pub(crate) round: u32,
    /// It is being suspended whoever needs it.
    pub(crate) forced: bool,
    pub(crate) since: EpochMs,
    pub(crate) reason: Option<String>,
    /// With which it was started last, in millionths of a CU.
    pub(crate) size_ucu: i64,
}

impl ComputeRecord {
    /// With which it was started last.
    pub(crate) fn size_cu(&self) -> f64 {
        self.size_ucu as f64 / 1e6
    }

    /// Whether there is a process, or will be at once.
    pub(crate) fn runs(&self) -> bool {
        match self.state {
            ComputeState::Starting | ComputeState::Ready | ComputeState::Draining => true,
            ComputeState::Suspended | ComputeState::Failed => false,
        }
    }
}

/// The part of a store that knows what computes do and did.
#[async_trait]
pub(crate) trait ComputeStates: Sync {
    /// Takes the next incarnation number, sets the state to starting, and reads what the start needs: one transaction,
    /// durable when it returns, because nothing may ever start twice under one number. What was added is no longer
    /// pending then: the start brings it.
    /// Who woke it is kept with the transition.
    async fn begin_start_for(&self, id: &ProjectId, now: EpochMs, by: &WokenBy) -> Result<WholeProject, StoreError>;
    /// The same as `begin_start_for` where nobody is known.
    #[cfg(test)]
    async fn begin_start(&self, id: &ProjectId, now: EpochMs) -> Result<WholeProject, StoreError> {
        self.begin_start_for(id, now, &WokenBy::default()).await
    }
    /// The transitions of these incarnations of the project made at `created`, in order, each with who woke it there.
    async fn lives(
        &self,
        id: &ProjectId,
        created: EpochMs,
        incarnations: std::ops::Range<u64>,
    ) -> Result<Vec<(Transition, Option<WokenBy>)>, StoreError>;
    /// Keeps the state of that incarnation, and the transition to it; a report of an older one changes nothing.
    async fn set_compute(&self, id: &ProjectId, compute: &ComputeRecord) -> Result<(), StoreError>;
    /// The last transitions of the project's compute before that one, the latest first; also after the project was deleted.
    /// `created`: of the project of that name that was made then; `None`: of all.
    /// A compute's seconds are those from `ready` to the next state that is neither `ready` nor `draining`.
    async fn transitions(
        &self,
        id: &ProjectId,
        created: Option<EpochMs>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Transition>, StoreError>;
    /// Forgets what was before; of each project that there is, or was until then, all but the last of it, so that what lasts
    /// until then keeps its beginning. Answers how many.
    async fn prune_transitions(&self, before: EpochMs) -> Result<u64, StoreError>;
}
