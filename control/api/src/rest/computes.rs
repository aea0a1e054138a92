//! Computes: their states, and who woke them.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The states of a compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeState {
    /// Nothing runs.
    Suspended,
    /// mariadbd has been started and does not answer yet.
    Starting,
    /// Clients are served.
    Ready,
    /// It is being stopped.
    Draining,
    /// The last start failed; `reason` says why. The next wake tries again after a short back-off.
    Failed,
}

impl ComputeState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Suspended,
        Self::Starting,
        Self::Ready,
        Self::Draining,
        Self::Failed,
    ];

    /// The word in JSON, in the store and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspended => "suspended",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ComputeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// GET /projects/{id}/compute, and the answer to its `suspend` and `wake`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Compute {
    /// What it does.
    pub state: ComputeState,
    /// The number of its last start; 0 before the first.
    pub incarnation: u64,
    /// What it runs with, and is billed by; while it does not run, what its next start has. 1 CU is 1 vCPU and 4 GiB.
    pub size_cu: f64,
    /// When it came into this state, RFC 3339.
    pub since: String,
    /// Why it failed, or stopped without being asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its gateways said last of who uses it, for instance "2 commands in flight"; empty when nobody does.
    #[serde(default)]
    pub kept_awake_by: Vec<String>,
}

/// One change of a compute's state.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Transition {
    /// Grows with time.
    pub id: i64,
    /// Of the state that it went to.
    pub incarnation: u64,
    /// Before.
    pub from: ComputeState,
    /// After.
    pub to: ComputeState,
    /// RFC 3339.
    pub at: String,
    /// Why, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// GET /projects/{id}/compute/transitions; pages as those of GET /projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TransitionList {
    /// This page, the latest first.
    pub transitions: Vec<Transition>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// From where a wake came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WakeSource {
    /// A client's command, at a gateway.
    Client,
    /// POST /projects/{id}/compute/wake.
    Api,
    /// Not known: it was before such things were written down, or the control plane's own doing.
    #[default]
    Control,
}

/// Who woke a compute: the first of all who waited for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WokenBy {
    /// From where.
    pub source: WakeSource,
    /// The client's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Address and port of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<String>,
    /// As the client's connection attributes say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_name: Option<String>,
    /// What needed the database: COM_QUERY, COM_STMT_PREPARE, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The API key's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One wake, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Wake {
    /// Of the compute that it started.
    pub incarnation: u64,
    /// RFC 3339.
    pub at: String,
    /// Who woke it.
    pub by: WokenBy,
    /// RFC 3339; absent where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<String>,
    /// RFC 3339; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why it ended, where something is known of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_because: Option<String>,
    /// From `ready_at` to `ended_at` or now: what is billed.
    pub ran_seconds: f64,
}

/// GET /projects/{id}/wakes, the latest first. `?after=N&limit=N` as for projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WakeList {
    /// This page.
    pub wakes: Vec<Wake>,
    /// Who and what keeps the compute awake now, as in the compute.
    pub kept_awake_by: Vec<String>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
