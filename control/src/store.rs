//! What control remembers across restarts. Each method is one transaction with a meaning of its own; callers see neither
//! SQL nor connections, so that a second database can stand behind the same trait. `store/suite.rs` says what a store
//! must do, whichever it is.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use control_api::rest::ComputeState;
use serde::{Deserialize, Serialize};
use sqlx::migrate::MigrateError;

use crate::{
    accounts::ObservedAccount,
    config::{StoreConfig, UidRange},
    name::{DatabaseName, ProjectId, UserName},
    secret::Verifiers,
};

pub(crate) mod audit;
pub(crate) mod keys;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod memory;
pub(crate) mod operations;
mod postgres;
pub(crate) mod replays;
mod rows;
mod sqlite;
#[cfg(test)]
pub(crate) mod suite;

use audit::AuditLog;
use keys::Keys;
use operations::Operations;
use replays::Replays;

/// Milliseconds since 1970, UTC.
pub(crate) type EpochMs = i64;

/// Why the state could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing, or no such project.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The name is taken.
    #[error("the {0} exists already")]
    Exists(&'static str),
    /// Something of the project was changed since the caller read it.
    #[error("the project has changed meanwhile")]
    Changed,
    /// Every OS user of the range belongs to a project.
    #[error("all OS users of control.process.uid_range are in use")]
    NoFreeUid,
    /// The term of the lease that this handle writes under is over: another control plane leads.
    #[error("another control plane leads now")]
    NotLeader,
    /// A row holds what this version cannot read.
    #[error("unreadable row: {0}")]
    Corrupt(String),
    /// It cannot be opened.
    #[error("{store}: {problem}")]
    Unusable {
        /// The file, or the URL without its password.
        store: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database itself.
    #[error(transparent)]
    Backend(Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    fn unusable(store: &str, problem: impl Into<String>) -> Self {
        Self::Unusable {
            store: store.into(),
            problem: problem.into(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Backend(Box::new(error))
    }
}

/// Opens the store of the settings; `file` is SQLite's.
pub(crate) async fn open(config: &StoreConfig, file: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match config {
        StoreConfig::Sqlite => Arc::new(sqlite::open(file).await?),
        StoreConfig::Postgres(url) => Arc::new(postgres::open(url.options(), &url.to_string()).await?),
    })
}

/// How bringing the tables up to date ended; `store` as in [`StoreError::Unusable`].
fn migrated(result: Result<(), MigrateError>, store: &str) -> Result<(), StoreError> {
    let problem = match result {
        Ok(()) => return Ok(()),
        Err(MigrateError::VersionMissing(version)) => format!(
            "it was used by a newer version of Selkie (its migration {version} is unknown here): run that version, or go \
             back to a copy from before"
        ),
        Err(MigrateError::VersionMismatch(version)) => {
            format!(
                "its migration {version} is not the one of this version: it was made by a build that was never released"
            )
        }
        Err(error) => format!("its tables cannot be brought up to date: {error}"),
    };
    Err(StoreError::unusable(store, problem))
}

/// A project to be made.
pub(crate) struct NewProject {
    pub(crate) id: ProjectId,
    pub(crate) size_cu: f64,
    pub(crate) wake_timeout_ms: Option<u32>,
    /// Give it an OS user of its own from here.
    pub(crate) uids: Option<UidRange>,
    pub(crate) user: Option<NewUser>,
    pub(crate) database: Option<DatabaseName>,
    pub(crate) now: EpochMs,
}

/// A user to be made.
#[derive(Clone)]
pub(crate) struct NewUser {
    pub(crate) name: UserName,
    pub(crate) verifiers: Verifiers,
    pub(crate) admin: bool,
}

/// A project as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProjectRecord {
    pub(crate) id: ProjectId,
    pub(crate) size_cu: f64,
    pub(crate) wake_timeout_ms: Option<u32>,
    pub(crate) sleep: Sleep,
    pub(crate) uid: Option<u32>,
    pub(crate) created: EpochMs,
    pub(crate) compute: ComputeRecord,
}

impl ProjectRecord {
    /// Whether nothing that callers can change is different, and it is no later project of the same name.
    pub(crate) fn is_as(&self, read: &Self) -> bool {
        let changeable = |record: &Self| (record.created, record.size_cu, record.wake_timeout_ms, record.sleep);
        changeable(self) == changeable(read)
    }

    fn expect(&self, read: &Self) -> Result<(), StoreError> {
        if self.is_as(read) {
            Ok(())
        } else {
            Err(StoreError::Changed)
        }
    }
}

/// When a project falls asleep; what is absent is as the control plane's settings say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sleep {
    pub(crate) suspend_after: Option<SuspendAfter>,
    pub(crate) pinned_idle_timeout_ms: Option<u32>,
}

/// How long a compute may be idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SuspendAfter {
    Never,
    Idle(Duration),
}

/// A change of a compute's outward state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    /// Grows with time.
    pub(crate) id: i64,
    pub(crate) incarnation: u64,
    pub(crate) from: ComputeState,
    pub(crate) to: ComputeState,
    pub(crate) at: EpochMs,
    pub(crate) reason: Option<String>,
}

/// What is kept of a compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComputeRecord {
    pub(crate) state: ComputeState,
    pub(crate) incarnation: u64,
    /// Grows within an incarnation when a suspend is called off, so that of two readings the later one is known.
    pub(crate) round: u32,
    /// It is being suspended whoever needs it.
    pub(crate) forced: bool,
    pub(crate) since: EpochMs,
    pub(crate) reason: Option<String>,
}

/// A user as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserRecord {
    pub(crate) name: UserName,
    pub(crate) verifiers: Verifiers,
    pub(crate) admin: bool,
    pub(crate) created: EpochMs,
    /// A server has had it as it is here; from then on what the server says of the account counts.
    pub(crate) known: bool,
}

/// Who may come in and where to: the part of a project that REST changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Grows with every change, so that of two readings the later one is known.
    pub(crate) revision: i64,
    pub(crate) users: Vec<UserRecord>,
    pub(crate) databases: Vec<DatabaseName>,
    /// Of `databases` those that no server has been seen with.
    pub(crate) new_databases: Vec<DatabaseName>,
    /// Removed here, and a server may still have them.
    pub(crate) removed_databases: Vec<DatabaseName>,
    /// Server variables that were set, as the server reports them.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) removed_users: Vec<UserName>,
}

/// Of a change: it is made only where the access still has this revision. `None`: whatever was changed meanwhile.
pub(crate) type Expected = Option<i64>;

/// Names of users, databases and settings that have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) users: Vec<UserName>,
    pub(crate) databases: Vec<DatabaseName>,
    pub(crate) settings: Vec<String>,
}

impl Touched {
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.databases.is_empty() && self.settings.is_empty()
    }
}

/// What the agent said of the server: the part of a project that only the server knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Observed {
    pub(crate) version: String,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) databases: Vec<String>,
    pub(crate) accounts: Vec<ObservedAccount>,
    /// Of two that one agent said the later has the higher number; not kept.
    pub(crate) look: u64,
}

/// Everything of one project, read at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WholeProject {
    pub(crate) record: ProjectRecord,
    pub(crate) access: Access,
    /// Absent before the first start.
    pub(crate) observed: Option<Observed>,
}

/// The lease of the control plane that acts; every other name is one that stands by.
pub(crate) const LEADER: &str = "leader";

/// A control plane, and where the others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// New at every start of a process.
    pub(crate) id: String,
    /// `IP:PORT` of REST.
    pub(crate) http: String,
    /// `IP:PORT` of gRPC.
    pub(crate) grpc: String,
}

/// A lease that has not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRecord {
    pub(crate) name: String,
    pub(crate) term: i64,
    pub(crate) holder: Holder,
}

/// The memory of a control plane. Projects that are being deleted are invisible to all but `deleting`, `finish_delete`
/// and the uniqueness of ids and OS users.
#[async_trait]
pub(crate) trait Store: Keys + AuditLog + Replays + Operations + Send + Sync + 'static {
    /// Makes a project, suspended and never started, with its first user and database: all or nothing.
    async fn create_project(&self, new: NewProject) -> Result<WholeProject, StoreError>;
    async fn project(&self, id: &ProjectId) -> Result<ProjectRecord, StoreError>;
    async fn whole_project(&self, id: &ProjectId) -> Result<WholeProject, StoreError>;
    /// In the order of ids, after `after`.
    async fn projects(&self, after: Option<&str>, limit: u32) -> Result<Vec<ProjectRecord>, StoreError>;
    /// The same with everything in it, for a control plane that starts.
    async fn whole_projects(&self, after: Option<&str>, limit: u32) -> Result<Vec<WholeProject>, StoreError>;
    /// From now on nobody sees the project. `read`: only where it is still as it was read (`ProjectRecord::is_as`), else
    /// `Changed`.
    async fn begin_delete(&self, id: &ProjectId, read: Option<&ProjectRecord>) -> Result<ProjectRecord, StoreError>;
    /// Projects whose deletion has begun and not ended.
    async fn deleting(&self) -> Result<Vec<ProjectRecord>, StoreError>;
    /// Forgets the project; its id and OS user are free again.
    async fn finish_delete(&self, id: &ProjectId) -> Result<(), StoreError>;

    async fn access(&self, id: &ProjectId) -> Result<Access, StoreError>;
    /// This and the next five answer the access as it is after the change.
    async fn add_user(&self, id: &ProjectId, user: NewUser, now: EpochMs) -> Result<Access, StoreError>;
    async fn set_verifiers(
        &self,
        id: &ProjectId,
        name: &UserName,
        verifiers: &Verifiers,
        expected: Expected,
    ) -> Result<Access, StoreError>;
    async fn remove_user(&self, id: &ProjectId, name: &UserName, expected: Expected) -> Result<Access, StoreError>;
    async fn add_database(&self, id: &ProjectId, name: &DatabaseName) -> Result<Access, StoreError>;
    async fn remove_database(
        &self,
        id: &ProjectId,
        name: &DatabaseName,
        expected: Expected,
    ) -> Result<Access, StoreError>;
    /// Those without a value are unset.
    async fn set_settings(
        &self,
        id: &ProjectId,
        changes: &BTreeMap<String, Option<String>>,
        expected: Expected,
    ) -> Result<Access, StoreError>;

    /// The changes that no running server is known to have, with the access that they led to.
    async fn pending(&self, id: &ProjectId) -> Result<(Access, Touched), StoreError>;
    /// A server has everything up to this revision.
    async fn applied(&self, id: &ProjectId, revision: i64) -> Result<(), StoreError>;

    /// Takes the next incarnation number, sets the state to starting, and reads what the start needs: one transaction,
    /// durable when it returns, because nothing may ever start twice under one number. What was added is no longer
    /// pending then: the start brings it.
    async fn begin_start(&self, id: &ProjectId, now: EpochMs) -> Result<WholeProject, StoreError>;
    /// Keeps the state of that incarnation, and the transition to it; a report of an older one changes nothing.
    async fn set_compute(&self, id: &ProjectId, compute: &ComputeRecord) -> Result<(), StoreError>;
    /// The last transitions of the project's compute before that one, the latest first; also after the project was deleted.
    /// A compute's seconds are those from `ready` to the next state that is neither `ready` nor `draining`.
    async fn transitions(&self, id: &ProjectId, before: Option<i64>, limit: u32)
    -> Result<Vec<Transition>, StoreError>;
    /// Forgets what was before; of each project that there is all but the last of it, so that what lasts until then keeps
    /// its beginning. Answers how many.
    async fn prune_transitions(&self, before: EpochMs) -> Result<u64, StoreError>;
    /// Where the project is still as it was read, else `Changed`.
    async fn set_sleep(&self, read: &ProjectRecord, sleep: Sleep) -> Result<(), StoreError>;
    /// Keeps what the agent said. A user that a server had and has no more was dropped in SQL: it is forgotten. A
    /// database that was made here, was reported once and now is not, was dropped in SQL:
    /// it is forgotten. Answers what is left.
    async fn set_observed(&self, id: &ProjectId, observed: &Observed) -> Result<Access, StoreError>;

    /// A handle of the same store. Each of its writes is refused with `NotLeader` once that term of `LEADER` is over: a
    /// takeover waits for writes that have begun, and none begins after it.
    fn for_term(&self, term: i64) -> Arc<dyn Store>;
    /// Takes a lease that nobody holds (any more); answers its new term, which is above every earlier one of that name.
    async fn take_lease(&self, name: &str, holder: &Holder, lasts: Duration) -> Result<Option<i64>, StoreError>;
    /// Extends it from now; `false`: the term is over. One that ran out and that nobody took since is still its holder's.
    async fn renew_lease(&self, name: &str, term: i64, lasts: Duration) -> Result<bool, StoreError>;
    /// Ends it at once, if it is still of that term.
    async fn release_lease(&self, name: &str, term: i64) -> Result<(), StoreError>;
    /// Those in force, by the store's clock.
    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError>;

    /// Waits for writes and closes.
    async fn close(&self);
}
