//! Operations: work that takes steps, written down before each is done. What a compute's keeper does follows from the
//! states that it keeps, in the same transaction; making, changing and deleting projects say their steps themselves. Of
//! one project at most one operation of each kind is open.

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use control_api::rest::{ComputeState, OperationKind, OperationState};

use super::{ComputeRecord, EpochMs, StoreError};
use crate::name::ProjectId;

/// Ended operations that a project keeps: enough to see a pattern.
pub(crate) const KEPT_PER_PROJECT: i64 = 100;

/// An operation as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperationRecord {
    /// Grows with time.
    pub(crate) id: String,
    pub(crate) project: ProjectId,
    pub(crate) kind: OperationKind,
    pub(crate) state: OperationState,
    /// The one that was begun last.
    pub(crate) step: String,
    /// Of the last try, where it is open; else why it failed.
    pub(crate) error: Option<String>,
    pub(crate) incarnation: Option<u64>,
    /// `api` or `control`.
    pub(crate) requested_by: String,
    pub(crate) created: EpochMs,
    pub(crate) updated: EpochMs,
    pub(crate) ended: Option<EpochMs>,
}

/// The part of a store that remembers operations.
#[async_trait]
pub(crate) trait Operations {
    async fn operation(&self, id: &str) -> Result<OperationRecord, StoreError>;
    /// Of one project, begun at `since` or later, the latest first, before `before`.
    async fn operations(
        &self,
        project: &ProjectId,
        since: EpochMs,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OperationRecord>, StoreError>;
    /// All that have not ended, the earliest first: for a control plane that begins.
    async fn open_operations(&self) -> Result<Vec<OperationRecord>, StoreError>;
    /// The next step of the open one of that kind, or why this step has to be tried again.
    async fn step_operation(
        &self,
        project: &ProjectId,
        kind: OperationKind,
        step: &str,
        error: Option<&str>,
        now: EpochMs,
    ) -> Result<(), StoreError>;
    /// Done, or failed with an error.
    async fn end_operation(
        &self,
        project: &ProjectId,
        kind: OperationKind,
        error: Option<&str>,
        now: EpochMs,
    ) -> Result<(), StoreError>;
    /// Forgets what ended before.
    async fn prune_operations(&self, before: EpochMs) -> Result<(), StoreError>;
}

pub(crate) const BY_API: &str = "api";
pub(crate) const BY_CONTROL: &str = "control";

/// Ids sort by the order in which one control plane made them, and by time between two; the random part keeps those two
/// apart whose clocks agree too well.
pub(super) fn new_id(now: EpochMs) -> String {
    static LAST: AtomicI64 = AtomicI64::new(0);
    // Room for 4096 in each millisecond; more run ahead of the clock.
    let wanted = now.saturating_mul(4096);
    let advance = |last: i64| Some(wanted.max(last.saturating_add(1)));
    let before = LAST
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance)
        .unwrap_or_default();
    format!(
        "{:015x}{:04x}",
        wanted.max(before.saturating_add(1)),
        rand::random::<u16>()
    )
}

/// Which open operations end when a compute has come into this state, and with which error.
pub(super) fn ended_by(compute: &ComputeRecord) -> Vec<(OperationKind, Option<String>)> {
    let reason = |otherwise: &str| Some(compute.reason.clone().unwrap_or_else(|| otherwise.into()));
    match compute.state {
        ComputeState::Ready => vec![
            (OperationKind::Start, None),
            (OperationKind::Suspend, Some("it was called off".into())),
        ],
        // What was changed, the next start brings.
        ComputeState::Failed => vec![
            (OperationKind::Start, reason("it did not start")),
            (OperationKind::Suspend, None),
            (OperationKind::Apply, None),
        ],
        ComputeState::Suspended => vec![
            (OperationKind::Start, reason("it was suspended before it was ready")),
            (OperationKind::Suspend, None),
            (OperationKind::Apply, None),
        ],
        ComputeState::Starting => vec![(OperationKind::Apply, None)],
        ComputeState::Draining => Vec::new(),
    }
}

/// Which operation begins, and with which step.
pub(super) fn begun_by(compute: &ComputeRecord) -> Option<(OperationKind, &'static str)> {
    match compute.state {
        ComputeState::Starting => Some((OperationKind::Start, "starting")),
        ComputeState::Draining => Some((OperationKind::Suspend, "draining")),
        _ => None,
    }
}
