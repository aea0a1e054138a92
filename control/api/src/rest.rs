//! The bodies of the REST API under `/api/v1`: control serves them, `selkie` on the command line and scripts read them.
//! Requests refuse unknown fields; answers may gain fields. Times are RFC 3339 in UTC; durations are text such as "60s".

mod computes;
mod databases;
mod keys;
mod operations;
mod projects;
mod settings;
mod usage;
mod users;

pub use computes::*;
pub use databases::*;
pub use keys::*;
pub use operations::*;
pub use projects::*;
pub use settings::*;
pub use usage::*;
pub use users::*;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error answer (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:selkie:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short text that goes with the code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here and where.
    pub detail: String,
    /// Stable, for programs: `project_not_found`, `invalid_body`, ...
    pub code: String,
}
