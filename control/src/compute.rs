//! Who brings computes up and down: one keeper task per project whose compute is not at rest. Callers put a request into
//! the keeper's mailbox and wait for its answer; requests of one project are handled in order, those of different
//! projects have nothing to do with each other. What a keeper does is decided by `lifecycle.rs`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use control_api::{
    control as proto,
    rest::{ComputeState, WokenBy},
};
use futures::StreamExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    activity::Activity,
    driver::{Driver, DriverError, Found, Running},
    metrics::Metrics,
    name::ProjectId,
    publish::{Address, Passage, Publisher},
    store::{ComputeRecord, ProjectRecord, Store},
};

mod keeper;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod tests;

use keeper::Keeper;

/// Requests of one project that may wait for its keeper. A storm of waking clients is one request per gateway.
const MAILBOX: usize = 1024;
/// Computes that start at the same time on this machine: more only make each other slow.
const STARTS_MAX: usize = 16;
/// Computes that are taken over or suspended at the same time when control starts and ends.
const TOGETHER_MAX: usize = 16;
/// Looks at what may be left of a compute, and between them, before it is given up as gone: a want of descriptors or memory passes.
const ADOPTION_TRIES: u32 = 10;
const ADOPTION_PAUSE: Duration = Duration::from_secs(1);
/// The longest that a caller is kept waiting for a wake, whatever it asks for.
const WAKE_PATIENCE_MAX: Duration = Duration::from_secs(600);
/// Gateways have this long to acknowledge; then what they do is up to the compute's own check.
pub(crate) const ACKNOWLEDGE_PATIENCE: Duration = Duration::from_secs(1);

/// All computes; see the head of this file.
pub(crate) struct Computes {
    parts: Parts,
    mailboxes: Mutex<HashMap<ProjectId, mpsc::Sender<Request>>>,
    keepers: TaskTracker,
    closing: AtomicBool,
}

/// What every keeper works with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) metrics: Metrics,
    /// Permits to start.
    turns: Arc<Semaphore>,
    /// Keepers end when it fires; computes do not.
    end: CancellationToken,
}

impl Parts {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        driver: Arc<dyn Driver>,
        publisher: Arc<Publisher>,
        activity: Arc<Activity>,
        metrics: Metrics,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(STARTS_MAX));
        Self {
            store,
            driver,
            publisher,
            activity,
            metrics,
            turns,
            end: CancellationToken::new(),
        }
    }
}

/// A request to a keeper. Dropping the receiver of `reply` withdraws interest in it.
enum Request {
    Wake {
        /// The incarnation that the caller could not reach.
        unreachable: Option<u64>,
        by: WokenBy,
        reply: oneshot::Sender<Result<Woken, WakeError>>,
    },
    Suspend {
        /// Not called off by anybody who needs the compute.
        forced: bool,
        /// Fit for clients to read.
        reason: String,
        reply: oneshot::Sender<Result<(), CalledOff>>,
    },
    Apply {
        reply: oneshot::Sender<Result<(), DriverError>>,
    },
    Look {
        /// The version that tells gateways of what was seen.
        reply: oneshot::Sender<u64>,
    },
}

/// A compute that a wake found or made ready.
#[derive(Debug, Clone)]
pub(crate) struct Woken {
    pub(crate) project: Arc<proto::Project>,
    /// Since the wake began: mariadbd was executed; the agent said ready. 0 where it was ready before.
    pub(crate) executed_ms: u32,
    pub(crate) ready_ms: u32,
}

/// Why a wake did not end in a ready compute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WakeError {
    #[error("no such project")]
    NotFound,
    /// The reason is fit for a client to read.
    #[error("the compute cannot start: {0}")]
    CannotStart(String),
    /// Trying again helps.
    #[error("{0}")]
    Unavailable(&'static str),
    #[error("the compute was not ready in time")]
    Deadline,
}

/// The compute stays awake; why, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CalledOff(pub(crate) String);

impl Computes {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            mailboxes: Mutex::default(),
            keepers: TaskTracker::new(),
            closing: AtomicBool::new(false),
        })
    }

    /// Answers when the compute is ready. Many callers share one start. Dropping the call stops waiting; a start that
    /// has not begun and that nobody waits for is then dropped.
    #[cfg(test)]
    pub(crate) async fn wake(
        self: &Arc<Self>,
        id: &ProjectId,
        unreachable: Option<u64>,
        patience: Duration,
    ) -> Result<Woken, WakeError> {
        self.wake_for(id, unreachable, patience, WokenBy::default()).await
    }

    /// The same for whom the ledger names, where it is the first that waits.
    pub(crate) async fn wake_for(
        self: &Arc<Self>,
        id: &ProjectId,
        unreachable: Option<u64>,
        patience: Duration,
        by: WokenBy,
    ) -> Result<Woken, WakeError> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(WakeError::Unavailable("the control plane is shutting down"));
        }
        let message = self.parts.publisher.message(id).ok_or(WakeError::NotFound)?;
        if unreachable.is_none() && is_ready(&message) {
            self.parts.metrics.wake("already_ready");
            return Ok(Woken {
                project: message,
                executed_ms: 0,
                ready_ms: 0,
            });
        }
        let (reply, answer) = oneshot::channel();
        self.send(id, Request::Wake { unreachable, by, reply })?;
        match tokio::time::timeout(patience.min(WAKE_PATIENCE_MAX), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(WakeError::Unavailable("the control plane is shutting down")),
            Err(_) => {
                self.parts.metrics.wake("deadline");
                Err(WakeError::Deadline)
            }
        }
    }

    /// Answers when nothing of the compute runs, whoever uses it: their sessions are ended. Bounded by the time limits of
    /// the drain and of the driver's stop.
    pub(crate) async fn suspend(self: &Arc<Self>, id: &ProjectId, reason: &str) -> Result<(), WakeError> {
        // A forced suspend is never called off.
        self.ask_to_suspend(id, reason, true).await.map(drop)
    }

    /// The same unless somebody needs it. Answers why it stays awake, where it does.
    pub(crate) async fn suspend_if_idle(
        self: &Arc<Self>,
        id: &ProjectId,
        reason: &str,
    ) -> Result<Result<(), CalledOff>, WakeError> {
        self.ask_to_suspend(id, reason, false).await
    }

    async fn ask_to_suspend(
        self: &Arc<Self>,
        id: &ProjectId,
        reason: &str,
        forced: bool,
    ) -> Result<Result<(), CalledOff>, WakeError> {
        let (reply, answer) = oneshot::channel();
        let reason = reason.into();
        self.send(id, Request::Suspend { forced, reason, reply })?;
        answer
            .await
            .map_err(|_| WakeError::Unavailable("the control plane is shutting down"))
    }

    /// Brings pending changes of the store to a running compute; one that sleeps gets them at its next start.
    pub(crate) async fn apply(self: &Arc<Self>, id: &ProjectId) -> Result<(), DriverError> {
        let (reply, answer) = oneshot::channel();
        self.send(id, Request::Apply { reply })
            .map_err(|error| DriverError(error.to_string()))?;
        answer
            .await
            .unwrap_or_else(|_| Err(DriverError("the control plane is shutting down".into())))
    }

    /// Looks at a running compute's accounts; answers when every gateway has what was seen, or with the version that tells
    /// them when they do not acknowledge in time.
    pub(crate) async fn look(self: &Arc<Self>, id: &ProjectId) -> Result<u64, WakeError> {
        let (reply, answer) = oneshot::channel();
        self.send(id, Request::Look { reply })?;
        let version = answer
            .await
            .map_err(|_| WakeError::Unavailable("the control plane is shutting down"))?;
        self.parts.publisher.acknowledged(version, ACKNOWLEDGE_PATIENCE).await;
        Ok(version)
    }

    /// Takes over what an earlier control plane left running, and writes down what is not there any more. To be called
    /// once, before anybody can ask for anything.
    pub(crate) async fn adopt(self: &Arc<Self>) {
        let left = self.parts.publisher.not_suspended();
        self.stop_orphans(&left).await;
        futures::stream::iter(left)
            .for_each_concurrent(TOGETHER_MAX, async |id| self.adopt_one(&id).await)
            .await;
    }

    /// What runs although nothing of its project may: the store is older than it, or the project is gone.
    async fn stop_orphans(&self, may_run: &[ProjectId]) {
        let running = self.parts.driver.running().await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot see what runs here");
            Vec::new()
        });
        let orphans = running.into_iter().filter(|id| !may_run.contains(id));
        let stop = async |id: ProjectId| match self.parts.driver.stop(&id).await {
            Ok(_) => tracing::warn!(project = %id, "stopped a compute that should not have run"),
            Err(error) => tracing::error!(project = %id, %error, "a compute that should not run was not stopped"),
        };
        futures::stream::iter(orphans)
            .for_each_concurrent(TOGETHER_MAX, stop)
            .await;
    }

    /// It was being suspended when the last control plane ended.
    fn finish_suspend(self: &Arc<Self>, id: ProjectId) {
        let computes = self.clone();
        self.keepers.spawn(async move {
            let reason = "the suspend that an earlier control plane had begun goes on";
            if let Err(error) = computes.suspend(&id, reason).await {
                tracing::warn!(project = %id, %error, "a suspend was not finished");
            }
        });
    }

    /// What may run is not written down as gone, where some seconds help to see it.
    async fn find(&self, project: &ProjectRecord) -> Found {
        let mut tries = ADOPTION_TRIES;
        loop {
            let error = match self.parts.driver.adopt(project).await {
                Ok(found) => return found,
                Err(error) => error,
            };
            tries -= 1;
            if tries == 0 {
                tracing::error!(project = %project.id, %error, "cannot adopt a compute nor make sure that it is gone");
                return Found::Gone(None);
            }
            tokio::time::sleep(ADOPTION_PAUSE).await;
        }
    }

    async fn adopt_one(self: &Arc<Self>, id: &ProjectId) {
        let project = match self.parts.store.project(id).await {
            Ok(project) if project.compute.state != ComputeState::Failed => project,
            Ok(_) => return,
            Err(error) => return tracing::error!(project = %id, %error, "cannot read a project to adopt its compute"),
        };
        let adopted = self.find(&project).await;
        let was_forced = project.compute.state == ComputeState::Draining && project.compute.forced;
        let mut compute = project.compute;
        let before = std::mem::replace(&mut compute.since, crate::clock::now());
        compute.forced = false;
        match adopted {
            Found::Running(running) => {
                tracing::info!(project = %id, incarnation = running.incarnation, "adopted a running compute");
                compute.state = ComputeState::Ready;
                // The last change may have been told and not written down.
                compute.round = compute.round.saturating_add(2);
                compute.reason = None;
                self.keep(id, &compute, Some(running));
            }
            Found::Gone(ended) => {
                tracing::info!(project = %id, was = %compute.state, ?ended, "a compute is gone since the last control plane");
                let how = ended.as_ref().and_then(|ended| ended.how.as_ref());
                let how = how.map(|how| format!(": {how}")).unwrap_or_default();
                compute.reason = Some(format!("the compute ended while the control plane was away{how}"));
                // It is billed to here. Whatever a clock says, not to before what was written down, nor into the future.
                if let Some(ended) = ended {
                    compute.since = ended.at.min(compute.since).max(before);
                }
                compute.state = ComputeState::Suspended;
                self.parts.publisher.set_compute(id, compute.clone(), Passage::Shut);
            }
        }
        if was_forced && compute.state == ComputeState::Ready {
            // The store goes on saying draining, so that a control plane that follows this one would finish it, too.
            return self.finish_suspend(id.clone());
        }
        if let Err(error) = self.parts.store.set_compute(id, &compute).await {
            tracing::error!(project = %id, %error, "cannot keep a compute's state");
        }
    }

    /// Suspends everything and ends the keepers.
    pub(crate) async fn close(self: &Arc<Self>) {
        self.closing.store(true, Ordering::Relaxed);
        self.parts.turns.close();
        let awake = self.busy();
        if !awake.is_empty() {
            tracing::info!(computes = awake.len(), "suspending all computes");
        }
        let suspend = async |id: ProjectId| {
            if let Err(error) = self.suspend(&id, "the control plane is shutting down").await {
                tracing::warn!(project = %id, %error, "a compute was not suspended");
            }
        };
        futures::stream::iter(awake)
            .for_each_concurrent(TOGETHER_MAX, suspend)
            .await;
        self.parts.end.cancel();
        self.keepers.close();
        self.keepers.wait().await;
    }

    /// Ends the keepers and leaves computes as they are: another control plane takes them over.
    pub(crate) async fn leave(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.parts.end.cancel();
        self.keepers.close();
        self.keepers.wait().await;
    }

    /// As if it were killed: nobody waits for the keepers to end.
    #[cfg(feature = "sim")]
    pub(crate) fn abandon(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.parts.end.cancel();
    }

    /// Projects that have a keeper: all that are not at rest.
    fn busy(&self) -> Vec<ProjectId> {
        self.mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }

    fn send(self: &Arc<Self>, id: &ProjectId, request: Request) -> Result<(), WakeError> {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if !mailboxes.contains_key(id) {
            let compute = self.parts.publisher.compute(id).ok_or(WakeError::NotFound)?;
            self.spawn(&mut mailboxes, id, compute, None);
        }
        let mailbox = mailboxes.get(id).ok_or(WakeError::NotFound)?;
        mailbox
            .try_send(request)
            .map_err(|_| WakeError::Unavailable("too many requests wait for this compute"))
    }

    fn keep(self: &Arc<Self>, id: &ProjectId, compute: &ComputeRecord, running: Option<Running>) {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        self.spawn(&mut mailboxes, id, compute.clone(), running);
    }

    fn spawn(
        self: &Arc<Self>,
        mailboxes: &mut HashMap<ProjectId, mpsc::Sender<Request>>,
        id: &ProjectId,
        compute: ComputeRecord,
        running: Option<Running>,
    ) {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        mailboxes.insert(id.clone(), sender);
        let keeper = Keeper::new(id.clone(), self.parts.clone(), compute, running);
        let computes = self.clone();
        self.keepers.spawn(async move { keeper.run(mailbox, &computes).await });
    }

    /// A keeper with nothing to do asks whether it may go; no request can slip in between.
    fn retire(&self, id: &ProjectId, mailbox: &mpsc::Receiver<Request>) -> bool {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = mailbox.is_empty();
        if idle {
            mailboxes.remove(id);
        }
        idle
    }
}

impl Running {
    fn address(&self) -> Address {
        Address {
            socket: self.socket.clone(),
            secret: self.secret.clone(),
        }
    }
}

fn is_ready(project: &proto::Project) -> bool {
    project
        .compute
        .as_ref()
        .is_some_and(|compute| compute.state() == proto::ComputeState::Ready)
}
