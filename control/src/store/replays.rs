//! Answers to requests with an Idempotency-Key as they are kept, and who works on those that have none yet.

use async_trait::async_trait;

use super::{EpochMs, StoreError};

/// Whose request: the hash of the API key, and the Idempotency-Key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplayId {
    pub(crate) key_hash: [u8; 32],
    pub(crate) idempotency_key: String,
}

/// A request that is about to be done, or was.
#[derive(Debug, Clone)]
pub(crate) struct NewReplay {
    pub(crate) id: ReplayId,
    pub(crate) request_hash: [u8; 32],
    pub(crate) now: EpochMs,
    /// Until then it is this control plane's to do.
    pub(crate) lease: EpochMs,
    /// What began before is forgotten.
    pub(crate) expired: EpochMs,
    /// As many may be kept for one API key.
    pub(crate) rows_max: u32,
}

/// An answer, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) body: String,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Do it, and finish or drop it.
    Begun,
    /// Somebody does it.
    InProgress,
    /// It was done.
    Done(Answer),
    /// The key belongs to another request.
    Other,
    /// The API key has too many.
    Full,
}

/// The part of a store that knows answers to be given again.
#[async_trait]
pub(crate) trait Replays {
    /// Of many that ask for one at once, one begins.
    async fn begin_replay(&self, new: &NewReplay) -> Result<Replay, StoreError>;
    async fn extend_replay(&self, id: &ReplayId, lease: EpochMs) -> Result<(), StoreError>;
    async fn finish_replay(&self, id: &ReplayId, answer: &Answer) -> Result<(), StoreError>;
    /// It was not done and may be tried again.
    async fn drop_replay(&self, id: &ReplayId) -> Result<(), StoreError>;
    async fn prune_replays(&self, expired: EpochMs) -> Result<u64, StoreError>;
}
