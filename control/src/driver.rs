//! What control needs of whatever runs computes: a narrow trait, so that processes, pods and a scripted fake can stand
//! behind it. The driver decides nothing about a compute's life; it does what it is told and reports what happened.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use control_api::{settings::Offer, spec::SpecAccount};
use tokio::sync::mpsc;

use crate::{
    name::ProjectId,
    secret::{GatewaySecret, hex},
    store::{Access, EpochMs, Observed, ProjectRecord, Touched, UserRecord, WholeProject},
};

pub(crate) mod process;

/// Why it could not; the text is fit for a client to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DriverError(pub(crate) String);

/// Why a start did not end in a ready compute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StartError {
    /// A signal ended its server or its agent: somebody's, the kernel's for want of memory, or its own after a failed
    /// assertion. Another start may go well.
    #[error("it was killed while it started: {0}")]
    Killed(String),
    /// Nothing says that another start would end otherwise.
    #[error(transparent)]
    Failed(#[from] DriverError),
}

/// A compute that is ready.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) incarnation: u64,
    /// Where mariadbd listens.
    pub(crate) socket: PathBuf,
    pub(crate) secret: GatewaySecret,
    /// Milliseconds from the beginning of the start to the execution of mariadbd, and to ready.
    pub(crate) executed_ms: u32,
    pub(crate) ready_ms: u32,
    pub(crate) observed: Observed,
    /// What happens to it from now on. The end of this stream without `Exited` means that it is gone, too.
    pub(crate) reports: mpsc::Receiver<Report>,
}

/// What a control plane that begins finds of a compute.
#[derive(Debug)]
pub(crate) enum Found {
    Running(Running),
    /// Nothing of it runs (any more). `None`: it was ended just now, or nobody knows since when.
    Gone(Option<Ended>),
}

/// A compute's end that nobody watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) at: EpochMs,
    /// `None`: until then there were signs of life.
    pub(crate) how: Option<String>,
}

/// How much may stand in the way of shutting a compute's door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quiesce {
    /// Any connection, and anything that runs by itself.
    IfIdle,
    /// Nothing; what runs may go on for so long.
    Forced(Duration),
}

/// What was found behind the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Quiet {
    Idle,
    /// What runs, in words.
    Busy(String),
}

/// What an agent sees that its server is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Doing {
    pub(crate) running_statements: u32,
    pub(crate) open_transactions: u32,
    pub(crate) running_events: u32,
    pub(crate) replication_threads: u32,
    pub(crate) background_tasks: u32,
}

/// News of a running compute.
#[derive(Debug)]
pub(crate) enum Report {
    /// What the server holds has changed.
    Observed(Observed),
    /// What it is doing has changed.
    Doing(Doing),
    /// It has ended without being asked; how.
    Exited(String),
}

/// See the head of this file. Every method has a deadline of its own.
#[async_trait]
pub(crate) trait Driver: Send + Sync + 'static {
    /// What a fresh compute says of itself; prepares at the first call what all computes have in common.
    async fn server(&self) -> Result<Observed, DriverError>;
    /// Makes what the project's compute will find on its first start. Done again, it changes nothing.
    async fn prepare(&self, project: &ProjectRecord) -> Result<(), DriverError>;
    /// Starts the incarnation in `whole` and answers when it is ready. A dropped call leaves something to `stop`.
    async fn start(&self, whole: &WholeProject) -> Result<Running, StartError>;
    /// For a control plane that starts: takes over that incarnation where it is ready, and ends whatever else there is of
    /// this project.
    async fn adopt(&self, project: &ProjectRecord) -> Result<Found, DriverError>;
    /// Projects of which something may run, whether the store knows them or not.
    async fn running(&self) -> Result<Vec<ProjectId>, DriverError>;
    /// Whether that incarnation still serves.
    async fn is_well(&self, id: &ProjectId, incarnation: u64) -> bool;
    /// Shuts the door of that compute for new connections and looks whether anything runs in it. `Idle` is a promise that
    /// holds until `stop` or `resume`; with `Busy` from one that was not forced, the door is open again.
    async fn quiesce(&self, id: &ProjectId, how: Quiesce) -> Result<Quiet, DriverError>;
    /// Opens the door that `quiesce` has shut; nothing happens where it is open.
    async fn resume(&self, id: &ProjectId) -> Result<(), DriverError>;
    /// What projects may set, as the server that computes start from has it.
    async fn offer(&self) -> Result<Arc<Offer>, DriverError>;
    /// The value of every setting on a running compute.
    async fn settings(&self, id: &ProjectId) -> Result<BTreeMap<String, String>, DriverError>;
    /// Makes a running compute have what `access` says of the touched names: users and databases that are not in it go,
    /// settings that are not in it get their default. What the server holds after it.
    async fn apply(&self, id: &ProjectId, access: &Access, touched: &Touched) -> Result<Observed, DriverError>;
    /// What the server of a running compute holds now.
    async fn look(&self, id: &ProjectId) -> Result<Observed, DriverError>;
    /// Cleanly if it can be, by force if not; on `Ok` nothing of it runs. What the server held at its end, where that could
    /// still be seen.
    async fn stop(&self, id: &ProjectId) -> Result<Option<Observed>, DriverError>;
    /// Removes all data of a project of which nothing runs.
    async fn remove(&self, project: &ProjectRecord) -> Result<(), DriverError>;
}

/// A user as the agent wants it.
pub(crate) fn spec_account(user: &UserRecord) -> SpecAccount {
    SpecAccount {
        user: user.name.to_string(),
        native_sha1_hex: hex(&user.verifiers.native_sha1),
        caching_sha2_hex: Some(hex(&user.verifiers.caching_sha2)),
        admin: user.admin,
        known: user.known,
        password_only: user.had,
    }
}
