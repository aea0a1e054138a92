//! What clients did, by the hour, from the windows that gateways tell of.

use async_trait::async_trait;

use super::{EpochMs, StoreError, Transition};
use crate::name::ProjectId;

/// What is counted, in the order of the columns of `usage_hours`.
pub(crate) const COLUMNS: [&str; 16] = [
    "selects",
    "inserts",
    "updates",
    "deletes",
    "ddl",
    "others",
    "row_count",
    "bytes_out",
    "bytes_in",
    "logins",
    "logins_failed",
    "attached_us",
    "wakes_query",
    "wakes_prepare",
    "wakes_execute",
    "wakes_other",
];
/// By [`COLUMNS`].
pub(crate) type Counts = [i64; COLUMNS.len()];

/// Hours of the bill are UTC's.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// The name of a window: one that is counted is never counted again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WindowId {
    pub(crate) gateway_id: String,
    pub(crate) sequence: i64,
    pub(crate) start: EpochMs,
}

/// What one gateway saw in one window, each project once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageWindow {
    pub(crate) id: WindowId,
    pub(crate) end: EpochMs,
    pub(crate) projects: Vec<(ProjectId, Counts)>,
}

/// What was counted of a project, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CountedHours {
    /// Beginnings of hours, in order; those without a count are absent.
    pub(crate) hours: Vec<(EpochMs, Counts)>,
    /// Those of the windows asked for that are counted in them.
    pub(crate) taken: Vec<WindowId>,
}

/// The part of a store that knows what was used.
#[async_trait]
pub(crate) trait UsageHours {
    /// Counts the window and remembers its name, in one transaction; false: it was counted before. It counts for the
    /// project that there is, or, where that was made after it, for the last one of that name.
    async fn add_usage(&self, window: &UsageWindow) -> Result<bool, StoreError>;
    /// Hours that begin in `from..to`, of the project made at `created`; and which of `windows` are in them.
    async fn usage(
        &self,
        id: &ProjectId,
        created: EpochMs,
        hours: std::ops::Range<EpochMs>,
        windows: &[WindowId],
    ) -> Result<CountedHours, StoreError>;
    /// The transitions of that project's compute within the time, and the last one before it; in order.
    async fn transitions_within(
        &self,
        id: &ProjectId,
        created: EpochMs,
        time: std::ops::Range<EpochMs>,
    ) -> Result<Vec<Transition>, StoreError>;
    /// Forgets windows that began and hours that were over before. Answers how many.
    async fn prune_usage(&self, windows: EpochMs, hours: EpochMs) -> Result<u64, StoreError>;
}
