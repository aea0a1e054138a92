//! Users of projects.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// POST /projects/{id}/users, and the first user of POST /projects
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The part of the login name after the first dot: `project.user`.
    #[schema(example = "app")]
    pub name: String,
    /// Generated, and told once in the answer, where absent. Only its verifiers are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// May also CREATE USER.
    #[serde(default)]
    pub admin: bool,
}

impl fmt::Debug for CreateUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateUser")
            .field("name", &self.name)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// GET /projects/{id}/users/{name}
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Without the project.
    pub name: String,
    /// May also CREATE USER.
    pub admin: bool,
    /// RFC 3339; absent where it was made in SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// `api` or `sql`: where it was made.
    #[serde(default)]
    #[schema(example = "api")]
    pub source: String,
    /// As in MariaDB; the gateway lets in users of host `%`.
    #[serde(default)]
    #[schema(example = "%")]
    pub host: String,
    /// What it requires of a connection, as SQL has it behind REQUIRE; absent where that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "SSL")]
    pub require: Option<String>,
    /// Why it cannot log in; absent where it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answer to POST /projects/{id}/users.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct UserCreated {
    /// As GET answers it.
    #[serde(flatten)]
    pub user: User,
    /// Only where it was generated, and only here: control does not keep it. Absent when the answer is given again for an
    /// `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl fmt::Debug for UserCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserCreated")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// GET /projects/{id}/users; pages as those of GET /projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    /// This page, in the order of names.
    pub users: Vec<User>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// PATCH /projects/{id}/users/{name}
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// The new password; generated, and told once in the answer, where absent. Who is logged in stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl fmt::Debug for ChangeUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeUser").finish_non_exhaustive()
    }
}
