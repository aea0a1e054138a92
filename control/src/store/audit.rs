//! The audit log as it is kept: a row before each change, its result after it.

use async_trait::async_trait;

use super::{EpochMs, StoreError};
use crate::name::ProjectId;

/// A change that is about to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) at: EpochMs,
    /// Of the API key.
    pub(crate) key_name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) project: Option<String>,
    /// JSON, without secrets.
    pub(crate) changed: Option<String>,
    pub(crate) request_id: String,
}

/// A change as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditRecord {
    /// Grows with time.
    pub(crate) id: i64,
    pub(crate) attempt: Attempt,
    /// `None`: it has not ended, or control ended before it did.
    pub(crate) status: Option<u16>,
}

/// The part of a store that knows the audit log.
#[async_trait]
pub(crate) trait AuditLog {
    /// Answers the row's id. Nothing may be changed before this has returned.
    async fn begin_audit(&self, attempt: &Attempt) -> Result<i64, StoreError>;
    /// `project`: it is known only now, because it was made.
    async fn finish_audit(&self, id: i64, status: u16, project: Option<&ProjectId>) -> Result<(), StoreError>;
    /// The latest first, those before `after`. Of a project: what came after an earlier one of its id was deleted.
    async fn audit(
        &self,
        project: Option<&ProjectId>,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError>;
    /// Forgets what is older than `before`, then of each project all but the latest `of_project_max`, and of the rest all but
    /// the latest `rows_max`: in this order, so that who changes one project a lot forgets nothing of others.
    async fn prune_audit(&self, before: EpochMs, of_project_max: u32, rows_max: u32) -> Result<u64, StoreError>;
}

/// The path of a project, as its deletion stands in the log.
pub(crate) fn path_of(id: &ProjectId) -> String {
    format!("/api/v1/projects/{id}")
}
