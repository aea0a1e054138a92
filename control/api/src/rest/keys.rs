//! API keys, and what was done with them.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// POST /keys
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// 1 to 64 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit.
    #[schema(example = "ci")]
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// The only project that it sees: needed with `project`, possible with `read-only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Until it is refused, from now on; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "90d")]
    pub expires_in: Option<String>,
}

/// PATCH /keys/{name}
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeKey {
    /// Until it is refused, from now on; `null` is never.
    #[schema(example = "90d", required = true)]
    #[serde(deserialize_with = "Option::deserialize")]
    pub expires_in: Option<String>,
}

/// GET /keys/{name}
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Its name, which stands in the audit log.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// The only project that it sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// RFC 3339, to the hour; absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
}

/// Answer to POST /keys.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyCreated {
    /// As GET answers it.
    #[serde(flatten)]
    pub about: Key,
    /// Only here: control keeps its hash. Absent when the answer is given again for an `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl fmt::Debug for KeyCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCreated")
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}

/// GET /keys, in the order of names; pages as those of GET /projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// This page.
    pub keys: Vec<Key>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A change that was asked for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Grows with time.
    pub id: i64,
    /// When it was asked for, RFC 3339.
    pub at: String,
    /// The name of the API key.
    pub key: String,
    /// Of HTTP.
    pub method: String,
    /// Of the request.
    pub path: String,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The fields of the request, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<serde_json::Value>,
    /// The HTTP status of the answer; absent: it has not ended, or control ended before it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `X-Request-Id` of the answer.
    pub request_id: String,
}

/// GET /audit and GET /projects/{id}/audit, the latest first; pages as those of GET /projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// This page.
    pub entries: Vec<AuditEntry>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everything.
    Admin,
    /// Everything of one project, but making and deleting projects, and keys.
    Project,
    /// Reading, but keys and the whole audit log; of one project, where the key has one.
    ReadOnly,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Project, Self::ReadOnly];

    /// The word in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Project => "project",
            Self::ReadOnly => "read-only",
        }
    }
}
