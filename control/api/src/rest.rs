//! The bodies of the REST API under `/api/v1`: control serves them, `selkie` on the command line and scripts read them.
//! Requests refuse unknown fields; answers may gain fields. Times are RFC 3339 in UTC; durations are text such as "60s".

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    object,
    settings::{self, Applies},
};

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

/// POST /projects/{id}/databases
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDatabase {
    /// Up to 64 characters, not one of the server's own.
    #[schema(example = "app")]
    pub name: String,
}

/// GET /projects/{id}
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its name in logins.
    pub id: String,
    /// 1 CU is 1 vCPU and 4 GiB.
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

/// GET /projects/{id}/settings/{name}: a server variable that a project may set.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// As the server spells it.
    pub name: String,
    /// What the project has, as the server reports it: the value that was set, or the default. Absent where the default
    /// is not known yet, because the server's template is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// It was set; otherwise `value` is the default.
    pub is_set: bool,
    /// Where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What the running server says at this moment; absent while none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// When a change is in force.
    pub applies: Applies,
    /// What values it takes.
    pub takes: String,
    /// What it does.
    pub description: String,
}

/// GET /projects/{id}/settings, in the order of names; pages as those of GET /projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SettingList {
    /// This page.
    pub settings: Vec<Setting>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// PUT /projects/{id}/settings: these are set, all others are not. Names may be written as in option files.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ReplaceSettings(
    /// Values by name.
    pub BTreeMap<String, settings::Value>,
);

/// PATCH /projects/{id}/settings: these are set, or unset where they are `null`; others stay as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ChangeSettings(
    /// Values by name.
    pub BTreeMap<String, Option<settings::Value>>,
);

/// PUT /projects/{id}/settings/{name}
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSetting {
    /// Text, a number or a truth value.
    pub value: settings::Value,
}

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
    /// 1 CU is 1 vCPU and 4 GiB.
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

/// What lies within one row of a usage report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// An hour, UTC.
    #[default]
    Hour,
    /// A day, UTC.
    Day,
    /// All of it.
    Total,
}

/// What a project used in some time. Statements are those that a database answered; a text of several counts as one, by
/// its first word.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsagePeriod {
    /// RFC 3339.
    pub from: String,
    /// RFC 3339; what follows is not in it.
    pub to: String,
    /// Seconds that the compute ran, from `ready` to its end.
    pub compute_seconds: f64,
    /// The same times the size that it was started with.
    pub cu_seconds: f64,
    /// All statements.
    pub statements: i64,
    /// SELECT, WITH, VALUES.
    pub selects: i64,
    /// INSERT, REPLACE, LOAD.
    pub inserts: i64,
    /// UPDATE.
    pub updates: i64,
    /// DELETE.
    pub deletes: i64,
    /// CREATE, ALTER, DROP, RENAME, TRUNCATE.
    pub ddl: i64,
    /// Everything else.
    pub others: i64,
    /// Rows sent to clients.
    pub rows_out: i64,
    /// Bytes sent from databases to clients.
    pub bytes_out: i64,
    /// Bytes sent from clients to databases.
    pub bytes_in: i64,
    /// Logins that succeeded.
    pub logins: i64,
    /// Logins that were refused.
    pub logins_failed: i64,
    /// Sum over sessions of the seconds that they held a database connection.
    pub attached_seconds: f64,
    /// Wakes that gateways asked for.
    pub wakes: i64,
    /// Those of COM_QUERY.
    pub wakes_query: i64,
    /// Those of COM_STMT_PREPARE.
    pub wakes_prepare: i64,
    /// Those of COM_STMT_EXECUTE.
    pub wakes_execute: i64,
    /// Those of any other command.
    pub wakes_other: i64,
}

/// GET /projects/{id}/usage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The project.
    pub project: String,
    /// When it was made, which tells it from others of that name. RFC 3339.
    pub created_at: String,
    /// When it was gone. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// Its size now, or the last that it had; `cu_seconds` are reckoned by the size at each start.
    pub size_cu: f64,
    /// What a period is.
    pub granularity: Granularity,
    /// In order, also those in which nothing was used.
    pub periods: Vec<UsagePeriod>,
}

/// A line of a statement. Numbers are decimal texts, exact to their last digit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementLine {
    /// `compute`, `statements` or `bytes_out`.
    pub item: String,
    /// How many units, to the millionth.
    pub quantity: String,
    /// `CU hour`, `million` or `GiB`.
    pub unit: String,
    /// Of a unit; absent where none is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// Price times quantity, rounded half up once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
}

/// GET /projects/{id}/usage/statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Statement {
    /// The project.
    pub project: String,
    /// When it was made, which tells it from others of that name. RFC 3339.
    pub created_at: String,
    /// When it was gone. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// As 2026-11.
    pub month: String,
    /// RFC 3339.
    pub from: String,
    /// RFC 3339; what follows is not in it.
    pub to: String,
    /// The month is not over.
    pub open: bool,
    /// When this was reckoned. RFC 3339.
    pub as_of: String,
    /// Of prices and amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// What was used.
    pub lines: Vec<StatementLine>,
    /// The sum of the amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
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
