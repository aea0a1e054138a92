//! What control remembers across restarts. Each method is one transaction with a meaning of its own; callers see neither
//! SQL nor connections, so that a second database can stand behind the same trait. `store/suite.rs` says what a store
//! must do, whichever it is.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use control_api::networks::Networks;
use sqlx::migrate::MigrateError;

use crate::{
    config::{StoreConfig, UidRange},
    name::{DatabaseName, ProjectId},
    weight::TooLarge,
};

mod access;
pub(crate) mod audit;
mod computes;
pub(crate) mod counted;
mod fault;
pub(crate) mod keys;
mod leases;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod memory;
pub(crate) mod operations;
mod postgres;
pub(crate) mod replays;
mod rows;
mod seal;
mod sqlite;
#[cfg(test)]
pub(crate) mod suite;
pub(crate) mod usage;

pub(crate) use access::{Access, Accesses, Expected, NewUser, Observed, Touched, UserRecord};
pub(crate) use computes::{ComputeRecord, ComputeStates, Transition, ucu};
pub use fault::Fault;
pub(crate) use leases::{Holder, LEADER, LeaseRecord, Leases};

use audit::AuditLog;
use keys::Keys;
use operations::Operations;
use replays::Replays;
use usage::UsageHours;

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
    /// It would be more than gateways can be told.
    #[error("the project has no room for that: {0}")]
    TooLarge(#[from] TooLarge),
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
    /// The database cannot do it now, or not any more.
    #[error("the state: {fault}: {source}")]
    Faulty {
        /// What is wrong.
        fault: Fault,
        /// As the database says it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database refuses the statement.
    #[error(transparent)]
    Backend(Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// The store has not answered in the time that its caller gives it.
    pub(crate) fn silent() -> Self {
        counted::failed(Some(Fault::Away));
        Self::Faulty {
            fault: Fault::Away,
            source: "it did not answer in time".into(),
        }
    }

    /// `None`: nothing is wrong with the store.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Faulty { fault, .. } => Some(*fault),
            _ => None,
        }
    }

    fn unusable(store: &str, problem: impl Into<String>) -> Self {
        Self::Unusable {
            store: store.into(),
            problem: problem.into(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let fault = Fault::of(&error);
        counted::failed(fault);
        match fault {
            Some(fault) => Self::Faulty {
                fault,
                source: Box::new(error),
            },
            None => Self::Backend(Box::new(error)),
        }
    }
}

/// Opens the store of the settings; `file` is SQLite's, `keys` that of the keys that open what is sealed in it.
pub(crate) async fn open(config: &StoreConfig, file: &Path, keys: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match config {
        StoreConfig::Sqlite => Arc::new(sqlite::open(file, keys).await?),
        StoreConfig::Postgres(url) => Arc::new(postgres::open(url.options(), &url.to_string(), keys).await?),
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
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) if Fault::of(&error).is_some() => {
            return Err(error.into());
        }
        Err(error) => format!("its tables cannot be brought up to date: {error}"),
    };
    Err(StoreError::unusable(store, problem))
}

/// What `Store::seal` has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// So many values were in the clear, or sealed by another key.
    pub(crate) values: u64,
    /// Nothing in the store is sealed by these keys any more.
    pub(crate) retired: Vec<String>,
}

/// A project to be made.
pub(crate) struct NewProject {
    pub(crate) id: ProjectId,
    pub(crate) size_cu: f64,
    pub(crate) wake_timeout_ms: Option<u32>,
    /// Where clients may come from; empty: from anywhere.
    pub(crate) allowed_networks: Networks,
    /// Give it an OS user of its own from here.
    pub(crate) uids: Option<UidRange>,
    pub(crate) user: Option<NewUser>,
    pub(crate) database: Option<DatabaseName>,
    pub(crate) now: EpochMs,
}

/// A project as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProjectRecord {
    pub(crate) id: ProjectId,
    /// Of its next start; what its compute runs with is in `compute`.
    pub(crate) size_cu: f64,
    pub(crate) wake_timeout_ms: Option<u32>,
    pub(crate) sleep: Sleep,
    /// Where clients may come from; empty: from anywhere.
    pub(crate) allowed_networks: Networks,
    pub(crate) uid: Option<u32>,
    pub(crate) created: EpochMs,
    pub(crate) compute: ComputeRecord,
}

/// What callers may change of a project.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) size_cu: f64,
    pub(crate) wake_timeout_ms: Option<u32>,
    pub(crate) sleep: Sleep,
    pub(crate) allowed_networks: Networks,
}

impl ProjectRecord {
    /// As they are.
    pub(crate) fn options(&self) -> Options {
        Options {
            size_cu: self.size_cu,
            wake_timeout_ms: self.wake_timeout_ms,
            sleep: self.sleep,
            allowed_networks: self.allowed_networks.clone(),
        }
    }

    /// The project with others.
    pub(crate) fn with_options(self, options: Options) -> Self {
        let Options {
            size_cu,
            wake_timeout_ms,
            sleep,
            allowed_networks,
        } = options;
        Self {
            size_cu,
            wake_timeout_ms,
            sleep,
            allowed_networks,
            ..self
        }
    }

    /// Whether nothing that callers can change is different, and it is no later project of the same name.
    pub(crate) fn is_as(&self, read: &Self) -> bool {
        self.created == read.created && self.options() == read.options()
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

/// Everything of one project, read at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WholeProject {
    pub(crate) record: ProjectRecord,
    pub(crate) access: Access,
    /// Absent before the first start.
    pub(crate) observed: Option<Observed>,
}

/// The memory of a control plane. Projects that are being deleted are invisible to all but `deleting`, `finish_delete`
/// and the uniqueness of ids and OS users.
#[async_trait]
pub(crate) trait Store:
    Accesses + ComputeStates + Leases + Keys + AuditLog + Replays + Operations + UsageHours + Send + Sync + 'static
{
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
    /// Where the project is still as it was read, else `Changed`. Another size is that of the next start.
    async fn set_options(&self, read: &ProjectRecord, options: &Options) -> Result<(), StoreError>;
    /// Seals by the first key what is sealed by another, or was left in the clear by an earlier version. Call it before
    /// anything sealed is read and while nobody else writes: when a control plane begins to lead.
    async fn seal(&self) -> Result<Sealed, StoreError>;
    /// A handle of the same store. Each of its writes is refused with `NotLeader` once that term of `LEADER` is over: a
    /// takeover waits for writes that have begun, and none begins after it.
    fn for_term(&self, term: i64) -> Arc<dyn Store>;
    /// Waits for writes and closes.
    async fn close(&self);
}
