//! A control plane for simulations: everything that decides is the real thing (keepers, their table, the lease, the
//! scheduler, the push, the gRPC service), its store is in memory and its driver is whatever machine the simulation gives
//! it. It can be killed at any moment, and then has no effect on anything any more. REST and the relay between control
//! planes are not in here.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use control_api::{networks::Networks, rest::ComputeState, settings::Offer};
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    activity::Activity,
    clock,
    compute::{Computes, Parts},
    driver::{Doing, Driver, DriverError, Ended, Found, Quiesce, Quiet, Report, Running, StartError},
    grpc::{self, GatewayService},
    lead::{Candidate, LedDriver},
    metrics::Metrics,
    name::{ProjectId, UserName},
    projects::{Interrupted, Projects},
    publish::Publisher,
    run,
    scheduler::Scheduler,
    secret::{GatewaySecret, Password, Verifiers},
    store::{
        Access, ComputeStates as _, Holder, NewProject, NewUser, Observed, Options, ProjectRecord, Sleep, Store as _,
        Touched, WholeProject,
        memory::{MemoryStore, mortal::Mortal},
    },
};

/// What gateways prove themselves with.
pub const TOKEN: &str = "simulated";
/// The time of day when a simulation begins, in milliseconds since 1970.
pub const DAY_MS: i64 = 1_800_000_000_000;
/// Connections that wait to be accepted.
const BACKLOG: usize = 16;
/// News of a compute that wait for its keeper; more are dropped, as a stream that nobody reads would stop.
const REPORTS: usize = 64;
/// What the store takes to hear and to answer, at the most.
const STORE_PACE: Duration = Duration::from_millis(8);

/// From now on control planes of this thread take the time of day from tokio's clock.
pub fn begin_day() {
    clock::SIMULATED_SINCE.set(Some(tokio::time::Instant::now()));
}

/// What control planes share.
#[derive(Default)]
pub struct Store(MemoryStore);

/// A change of a compute's state as it was written down.
#[derive(Debug, Clone)]
pub struct Transition {
    /// Of the compute.
    pub incarnation: u64,
    /// Before it.
    pub from: ComputeState,
    /// After it.
    pub to: ComputeState,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

impl Store {
    /// A sleeping project with one user.
    pub async fn create_project(&self, id: &str, user: &str, password: &str, pinned_idle: Duration) {
        let id = ProjectId::new(id).expect("a simulation knows its names");
        let password = Password::new(password.into()).expect("a simulation knows its passwords");
        let new = NewProject {
            id,
            size_cu: 1.0,
            wake_timeout_ms: None,
            allowed_networks: Networks::default(),
            uids: None,
            user: Some(NewUser {
                name: UserName::new(user).expect("a simulation knows its names"),
                verifiers: Verifiers::of(&password),
                admin: false,
            }),
            database: None,
            now: clock::now(),
        };
        let sleep = Sleep {
            suspend_after: None,
            pinned_idle_timeout_ms: u32::try_from(pinned_idle.as_millis()).ok(),
        };
        let made = async {
            let made = self.0.create_project(new).await?.record;
            self.0
                .set_options(
                    &made,
                    &Options {
                        sleep,
                        ..made.options()
                    },
                )
                .await
        };
        made.await.expect("it is a new name in a store in memory");
    }

    /// All of a project, the first one first.
    pub async fn transitions(&self, id: &str) -> Vec<Transition> {
        let id = ProjectId::new(id).expect("a simulation knows its names");
        let mut made = self.0.transitions(&id, None, None, u32::MAX).await.unwrap_or_default();
        made.reverse();
        let shown = |made: crate::store::Transition| Transition {
            incarnation: made.incarnation,
            from: made.from,
            to: made.to,
            at_ms: made.at,
        };
        made.into_iter().map(shown).collect()
    }
}

/// What runs computes. Errors are texts. A call may be dropped at any moment: its control plane is dead.
#[async_trait]
pub trait Machine: Send + Sync + 'static {
    /// Answers when it is ready.
    async fn start(&self, project: &str, incarnation: u64) -> Result<Started, NotStarted>;
    /// Of that incarnation, where it is ready; else nothing of the project runs after it.
    async fn adopt(&self, project: &str, incarnation: u64) -> Result<Adopted, String>;
    /// Projects of which something runs.
    fn running(&self) -> Vec<String>;
    /// Whether it serves.
    async fn is_well(&self, project: &str, incarnation: u64) -> bool;
    /// Shuts the door; `Some`: what was found behind it. `forced`: how long that may go on.
    async fn quiesce(&self, project: &str, forced: Option<Duration>) -> Result<Option<String>, String>;
    /// Opens it.
    async fn resume(&self, project: &str) -> Result<(), String>;
    /// Nothing of it runs after it.
    async fn stop(&self, project: &str) -> Result<(), String>;
}

/// Why a start came to nothing.
pub enum NotStarted {
    /// A signal ended it.
    Killed(String),
    /// It ended by itself, or cannot be begun.
    Failed(String),
}

impl From<String> for NotStarted {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// A compute that is ready.
pub struct Started {
    socket: PathBuf,
    reports: mpsc::Receiver<Report>,
}

/// What a control plane that begins finds.
pub enum Adopted {
    /// It runs.
    Running(Started),
    /// It is gone, since then where that is known: in milliseconds since 1970.
    Gone(Option<i64>),
}

/// What a machine tells of a compute; dropped, its agent is gone.
pub struct News(mpsc::Sender<Report>);

impl Started {
    /// Listens on `socket`.
    pub fn new(socket: PathBuf) -> (Self, News) {
        let (sender, reports) = mpsc::channel(REPORTS);
        (Self { socket, reports }, News(sender))
    }
}

impl News {
    /// It ended unasked.
    pub fn exited(&self, how: &str) {
        let _ = self.0.try_send(Report::Exited(how.into()));
    }

    /// So many statements run.
    pub fn runs(&self, running_statements: u32) {
        let doing = Doing {
            running_statements,
            ..Doing::default()
        };
        let _ = self.0.try_send(Report::Doing(doing));
    }
}

/// The driver of one control plane, as long as that lives.
struct Hands {
    machine: Arc<dyn Machine>,
    mortal: Mortal,
    killed: CancellationToken,
}

impl Hands {
    /// A dead control plane does nothing and hears nothing.
    async fn act<T>(&self, act: impl Future<Output = T>) -> T {
        if self.mortal.is_alive()
            && let Some(done) = self.killed.run_until_cancelled(act).await
        {
            return done;
        }
        std::future::pending().await
    }

    fn running(project: &ProjectRecord, started: Started) -> Running {
        Running {
            incarnation: project.compute.incarnation,
            socket: started.socket,
            secret: GatewaySecret::generate(),
            executed_ms: 1,
            ready_ms: 2,
            observed: observed(),
            reports: started.reports,
        }
    }
}

fn observed() -> Observed {
    Observed {
        version: "10.11.19-MariaDB".into(),
        ..Observed::default()
    }
}

#[async_trait]
impl Driver for Hands {
    async fn server(&self) -> Result<Observed, DriverError> {
        Ok(observed())
    }

    async fn prepare(&self, _project: &ProjectRecord) -> Result<(), DriverError> {
        Ok(())
    }

    async fn start(&self, whole: &WholeProject) -> Result<Running, StartError> {
        let (id, incarnation) = (whole.record.id.as_str(), whole.record.compute.incarnation);
        let started = self.act(self.machine.start(id, incarnation)).await;
        match started {
            Ok(started) => Ok(Self::running(&whole.record, started)),
            Err(error) => {
                // As the process driver: whatever a failed start left behind must not stay.
                drop(self.stop(&whole.record.id).await);
                Err(match error {
                    NotStarted::Killed(how) => StartError::Killed(how),
                    NotStarted::Failed(why) => DriverError(why).into(),
                })
            }
        }
    }

    async fn adopt(&self, project: &ProjectRecord) -> Result<Found, DriverError> {
        let (id, incarnation) = (project.id.as_str(), project.compute.incarnation);
        let adopted = self.act(self.machine.adopt(id, incarnation)).await;
        Ok(match adopted.map_err(DriverError)? {
            Adopted::Running(started) => Found::Running(Self::running(project, started)),
            Adopted::Gone(at) => Found::Gone(at.map(|at| Ended { at, how: None })),
        })
    }

    async fn running(&self) -> Result<Vec<ProjectId>, DriverError> {
        let running = self.machine.running();
        Ok(running.iter().filter_map(|id| ProjectId::new(id).ok()).collect())
    }

    async fn is_well(&self, id: &ProjectId, incarnation: u64) -> bool {
        self.act(self.machine.is_well(id.as_str(), incarnation)).await
    }

    async fn quiesce(&self, id: &ProjectId, how: Quiesce) -> Result<Quiet, DriverError> {
        let forced = match how {
            Quiesce::IfIdle => None,
            Quiesce::Forced(patience) => Some(patience),
        };
        let found = self.act(self.machine.quiesce(id.as_str(), forced)).await;
        Ok(found.map_err(DriverError)?.map_or(Quiet::Idle, Quiet::Busy))
    }

    async fn resume(&self, id: &ProjectId) -> Result<(), DriverError> {
        self.act(self.machine.resume(id.as_str())).await.map_err(DriverError)
    }

    async fn offer(&self) -> Result<Arc<Offer>, DriverError> {
        Ok(Arc::default())
    }

    async fn settings(&self, _id: &ProjectId) -> Result<BTreeMap<String, String>, DriverError> {
        Ok(BTreeMap::new())
    }

    async fn apply(&self, _id: &ProjectId, _access: &Access, _touched: &Touched) -> Result<Observed, DriverError> {
        Ok(observed())
    }

    async fn look(&self, _id: &ProjectId) -> Result<Observed, DriverError> {
        Ok(observed())
    }

    async fn stop(&self, id: &ProjectId) -> Result<Option<Observed>, DriverError> {
        let stopped = self.act(self.machine.stop(id.as_str())).await;
        stopped.map(|()| None).map_err(DriverError)
    }

    async fn remove(&self, _project: &ProjectRecord) -> Result<(), DriverError> {
        Ok(())
    }
}

/// A control plane that tries to lead until it is killed.
pub struct Control {
    inner: Arc<Inner>,
    tasks: JoinSet<()>,
}

struct Inner {
    candidate: Candidate,
    store: MemoryStore,
    hands: Arc<Hands>,
    suspend_after: Duration,
    leases_hang: Arc<AtomicBool>,
    /// While it leads.
    reign: Mutex<Option<Reign>>,
}

#[derive(Clone)]
struct Reign {
    projects: Arc<Projects>,
    door: mpsc::Sender<std::io::Result<DuplexStream>>,
    /// It leads no more.
    over: CancellationToken,
}

impl Control {
    /// Begins one on this store and machine.
    pub fn start(name: &str, store: &Store, machine: Arc<dyn Machine>, suspend_after: Duration) -> Self {
        let (mortal, leases_hang) = (Mortal::default(), Arc::<AtomicBool>::default());
        let mut store = store.0.clone();
        store.mortal = mortal.clone();
        store.leases_hang = leases_hang.clone();
        store.pace = STORE_PACE;
        let holder = Holder {
            id: name.into(),
            http: String::new(),
            grpc: String::new(),
        };
        let inner = Arc::new(Inner {
            candidate: Candidate::new(Arc::new(store.clone()), holder),
            store,
            hands: Arc::new(Hands {
                machine,
                mortal,
                killed: CancellationToken::new(),
            }),
            suspend_after,
            leases_hang,
            reign: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(take_turns(inner.clone()));
        Self { inner, tasks }
    }

    /// Whether gateways are answered here.
    pub fn leads(&self) -> bool {
        self.inner.reign().is_some()
    }

    /// Takes a gateway's connection; what is answered fires when it is to be cut. `None`: refused.
    pub fn accept(&self, connection: DuplexStream) -> Option<CancellationToken> {
        let reign = self.inner.reign()?;
        reign.door.try_send(Ok(connection)).ok()?;
        Some(reign.over)
    }

    /// As somebody asks for by REST; answers whether it was done.
    pub fn suspension(&self, project: &str) -> impl Future<Output = bool> + Send + use<> {
        let reign = self.inner.reign();
        let id = ProjectId::new(project).expect("a simulation knows its names");
        async move {
            let Some(reign) = reign else { return false };
            reign.projects.computes.suspend(&id, "suspended by API").await.is_ok()
        }
    }

    /// The store does not answer it about leases for as long as this holds.
    pub fn cut_off_from_leases(&self, cut_off: bool) {
        self.inner.leases_hang.store(cut_off, Ordering::Relaxed);
    }

    /// As kill -9.
    pub fn kill(mut self) {
        self.inner.hands.mortal.kill();
        self.inner.hands.killed.cancel();
        if let Some(reign) = self.inner.set_reign(None) {
            reign.over.cancel();
            reign.projects.publisher.disconnect_all();
            // What is left of its keepers can do nothing any more; they end when they see this.
            reign.projects.computes.abandon();
        }
        self.tasks.abort_all();
    }
}

impl Inner {
    fn reign(&self) -> Option<Reign> {
        self.reign.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_reign(&self, reign: Option<Reign>) -> Option<Reign> {
        std::mem::replace(&mut *self.reign.lock().unwrap_or_else(PoisonError::into_inner), reign)
    }
}

/// In the order of `run.rs`.
async fn take_turns(inner: Arc<Inner>) {
    let (leader, stop) = (watch::Sender::new(None), CancellationToken::new());
    while let Some(leadership) = inner.candidate.lead(&leader, &stop).await {
        let store = inner.store.for_term(leadership.term);
        let driver: Arc<dyn Driver> = Arc::new(LedDriver {
            driver: inner.hands.clone(),
            hold: leadership.hold.clone(),
        });
        let projects = Arc::new(assemble(store, driver));
        let over = leadership.over.clone();
        let begun = over.run_until_cancelled(run::begin(&projects)).await;
        if let Some(Ok(interrupted)) = begun {
            let mut tasks = JoinSet::new();
            let door = open(&inner, &projects, interrupted, &over, &mut tasks);
            inner.set_reign(Some(Reign {
                projects: projects.clone(),
                door,
                over: over.clone(),
            }));
            over.cancelled().await;
            inner.set_reign(None);
        }
        run::leave(&projects).await;
        inner.candidate.resign(leadership).await;
    }
}

fn assemble(store: Arc<dyn crate::store::Store>, driver: Arc<dyn Driver>) -> Projects {
    let publisher = Arc::new(Publisher::new());
    let activity: Arc<Activity> = Arc::default();
    let metrics = Metrics::new().expect("a registry of its own");
    let parts = Parts::new(
        store.clone(),
        driver.clone(),
        publisher.clone(),
        activity.clone(),
        metrics,
    );
    Projects {
        usage: Arc::new(crate::usage::Usage::new(store.clone())),
        store,
        driver,
        publisher,
        computes: Computes::new(parts),
        activity,
        changing_options: Default::default(),
    }
}

/// Everything that runs while it leads; ends with `tasks`.
fn open(
    inner: &Inner,
    projects: &Arc<Projects>,
    interrupted: Interrupted,
    over: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> mpsc::Sender<std::io::Result<DuplexStream>> {
    let (door, connections) = mpsc::channel(BACKLOG);
    let service = GatewayService {
        publisher: projects.publisher.clone(),
        computes: projects.computes.clone(),
        activity: projects.activity.clone(),
        usage: projects.usage.clone(),
        tasks: TaskTracker::new(),
    };
    let end = over.clone();
    tasks.spawn(async move {
        drop(
            grpc::serve_on(
                Arc::new(service),
                ReceiverStream::new(connections),
                None,
                None,
                TOKEN,
                end,
            )
            .await,
        );
    });
    let preparing = projects.clone();
    tasks.spawn(async move { run::prepare(&preparing, interrupted).await });
    let scheduler = Scheduler::new(projects.clone(), Some(inner.suspend_after));
    tasks.spawn(scheduler.run(over.clone()));
    door
}
