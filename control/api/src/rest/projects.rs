//! Projects, also those that are gone.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Compute, CreateUser, Database, UserCreated};
use crate::object;

/// POST /projects
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// `[a-z][a-z0-9-]{2,39}`; cannot be changed later, because clients log in with it.
    #[schema(example = "demo")]
    pub id: String,
    /// 1 CU is 1 vCPU and 4 GiB; control's `default_size_cu` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_cu: Option<f64>,
    /// From a client's first command to its first byte of answer; the gateway's own (60 s) where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "60s")]
    pub wake_timeout: Option<String>,
    /// Networks that clients may come from, such as "10.0.0.0/8" or "192.0.2.7", 1 to 256 of them, from the project's first
    /// moment on; from anywhere where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["10.0.0.0/8"]))]
    pub allowed_networks: Option<Vec<String>>,
    /// A first user, made together with the project.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "object::optional"
    )]
    pub user: Option<CreateUser>,
    /// A first database, made together with the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// PATCH /projects/{id}: what is absent stays as it is; null goes back to the control plane's default.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeProject {
    /// Between 0.05 and 256, from the compute's next start on: one that runs keeps its own, and is billed by it, until it was
    /// suspended.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<f64>, example = 1.0)]
    pub size_cu: Option<Option<f64>>,
    /// From a client's first command to its first byte of answer, between "1s" and "10m".
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>, example = "60s")]
    pub wake_timeout: Option<Option<String>>,
    /// How long its compute may be idle before it is suspended: between "10s" and "7d", or "never".
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>, example = "5m")]
    pub suspend_after: Option<Option<String>>,
    /// How long a session that is tied to its compute connection (an open transaction, a temporary table) may be idle
    /// before it is closed: between "10s" and "7d". Until then it keeps the compute awake.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>, example = "10m")]
    pub pinned_idle_timeout: Option<Option<String>>,
    /// Networks that clients may come from, such as "10.0.0.0/8" or "192.0.2.7", 1 to 256 of them; null: from anywhere.
    /// Sessions that come from elsewhere are closed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["10.0.0.0/8"]))]
    pub allowed_networks: Option<Option<Vec<String>>>,
}

/// A field that is there, be it null.
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// GET /projects/{id}
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its name in logins.
    pub id: String,
    /// 1 CU is 1 vCPU and 4 GiB. A compute that was started before it was changed runs with the one before:
    /// `compute.size_cu`.
    pub size_cu: f64,
    /// Absent: the gateway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_timeout: Option<String>,
    /// How long its compute may be idle, or "never"; absent: control's `suspend.after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend_after: Option<String>,
    /// How long a session that is tied to its compute connection may be idle; absent: the gateway's own (10 min).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_idle_timeout: Option<String>,
    /// Networks that clients may come from; absent: from anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_networks: Option<Vec<String>>,
    /// RFC 3339.
    pub created_at: String,
    /// What its compute does now.
    pub compute: Compute,
}

/// Answer to POST /projects: the project, and its first user where one was asked for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProjectCreated {
    /// As GET answers it.
    #[serde(flatten)]
    pub project: Project,
    /// The first user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserCreated>,
    /// The first database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
}

/// GET /projects, in the order of ids. `?after=ID&limit=N` asks for the next page (N is 100 where absent, 1,000 at most).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProjectList {
    /// This page.
    pub projects: Vec<Project>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A project that is gone; what it used is kept for 400 days after that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeletedProject {
    /// Its name, which others may have had or have now.
    pub id: String,
    /// When it was made, which tells it from those. RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub deleted_at: String,
    /// The last size that it had.
    pub size_cu: f64,
}

/// GET /deleted-projects, the latest first. `?after=N&limit=N` as for projects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeletedProjectList {
    /// This page.
    pub projects: Vec<DeletedProject>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
