//! What is done in steps, and how far it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// A project is made.
    Create,
    /// A compute is started.
    Start,
    /// A compute is stopped.
    Suspend,
    /// Users, databases or settings are brought to a running compute.
    Apply,
    /// A project is removed with all of its data.
    Delete,
}

impl OperationKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Create, Self::Start, Self::Suspend, Self::Apply, Self::Delete];

    /// The word in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Suspend => "suspend",
            Self::Apply => "apply",
            Self::Delete => "delete",
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// It goes on, by another control plane where the one that began it is gone.
    Running,
    /// It did what it was to do.
    Done,
    /// It did not; `error` says why.
    Failed,
}

impl OperationState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Running, Self::Done, Self::Failed];

    /// The word in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// GET /operations/{id}
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Grows with time.
    pub id: String,
    /// Which project; it may be gone.
    pub project: String,
    /// What is done.
    pub kind: OperationKind,
    /// How far it is.
    pub state: OperationState,
    /// The step that was begun last: `preparing`, `starting`, `draining`, `applying`, `stopping`, `removing`.
    pub step: String,
    /// Why it failed, or why the step is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of the compute that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// `api`, or `control` for what the control plane does by itself or for clients.
    pub requested_by: String,
    /// RFC 3339.
    pub created_at: String,
    /// When it came to this step or ended, RFC 3339.
    pub updated_at: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

/// GET /projects/{id}/operations, the latest first. `?after=ID&limit=N` as for projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OperationList {
    /// This page.
    pub operations: Vec<Operation>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
