//! What clients did, by the hour, from the windows that gateways tell of.

use std::collections::BTreeMap;

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
    pub(crate) shares: Vec<Share>,
}

impl UsageWindow {
    /// Beginning of the hour that it counts in.
    pub(crate) fn hour(&self) -> EpochMs {
        self.id.start.div_euclid(HOUR_MS) * HOUR_MS
    }
}

/// What a project has of a window. Whose it is: the project of that name made at `created`. Where nothing is known of such
/// a one, or the gateway did not say (0): the last one of that name that was made before the end of the window, else the
/// first of those made after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) project: ProjectId,
    pub(crate) created: EpochMs,
    pub(crate) counts: Counts,
}

/// A minute of difference between the clocks of gateway and control.
pub(crate) const CLOCKS_APART_MS: i64 = 60_000;

/// What was counted of a project, by the beginning of the hour; hours without a count are absent.
pub(crate) type CountedHours = BTreeMap<EpochMs, Counts>;

pub(crate) fn add(sums: &mut Counts, counts: &Counts) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// Whose bill it is: a project that there is, or was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Billed {
    pub(crate) id: ProjectId,
    pub(crate) created: EpochMs,
    /// When it was gone; None: it is there.
    pub(crate) deleted: Option<EpochMs>,
    /// Its size, or the last that it had.
    pub(crate) size_cu: f64,
}

/// A project that is gone, and its place in the order in which they went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PastProject {
    pub(crate) number: i64,
    pub(crate) billed: Billed,
}

/// The part of a store that knows what was used.
#[async_trait]
pub(crate) trait UsageHours {
    /// Counts the window and remembers its name, in one transaction; false: it was counted before. See [`Share`].
    async fn add_usage(&self, window: &UsageWindow) -> Result<bool, StoreError>;
    /// What the project made at `created` has in the hours that begin in `from..to`, with what it would have of those of the
    /// `open` windows that are not counted yet.
    async fn usage(
        &self,
        id: &ProjectId,
        created: EpochMs,
        hours: std::ops::Range<EpochMs>,
        open: &[UsageWindow],
    ) -> Result<CountedHours, StoreError>;
    /// The project of that name made at `created`; where it is not said when, the one that there is, also while it is being
    /// deleted, else the last that was.
    async fn billed(&self, id: &ProjectId, created: Option<EpochMs>) -> Result<Billed, StoreError>;
    /// Projects that are gone, the latest first, before that number.
    async fn past_projects(&self, before: Option<i64>, limit: u32) -> Result<Vec<PastProject>, StoreError>;
    /// The transitions of that project's compute within the time, and the last one before it; in order.
    async fn transitions_within(
        &self,
        id: &ProjectId,
        created: EpochMs,
        time: std::ops::Range<EpochMs>,
    ) -> Result<Vec<Transition>, StoreError>;
    /// Forgets windows that began, and hours that were over and projects that were gone before. Answers how many.
    async fn prune_usage(&self, windows: EpochMs, hours: EpochMs) -> Result<u64, StoreError>;
}
