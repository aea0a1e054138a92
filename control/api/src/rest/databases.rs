//! Databases of projects.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// POST /projects/{id}/databases
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDatabase {
    /// Up to 64 characters, not one of the server's own.
    #[schema(example = "app")]
    pub name: String,
}

/// One database of a project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Made through this API; otherwise made in SQL and seen by the agent.
    pub made_by_api: bool,
}

/// GET /projects/{id}/databases; pages as those of GET /projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatabaseList {
    /// This page, in the order of names.
    pub databases: Vec<Database>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
