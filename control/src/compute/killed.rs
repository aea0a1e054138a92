//! A control plane is killed before every single step of everything that takes steps, and the next one finishes: the
//! steps are counted in an undisturbed run, then each is taken in turn. The machine (`World`) lives on, as processes and
//! files do, and remembers when two incarnations of one project were alive.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use control_api::{rest::OperationKind, settings::Offer};

use super::*;
use crate::{
    driver::{Quiesce, Quiet, Report, StartError},
    metrics::Metrics,
    projects::Projects,
    store::{
        Access, Accesses, Observed, ProjectRecord, StoreError, Touched, WholeProject,
        memory::MemoryStore,
        operations::Operations,
        suite::{new_project, new_user},
    },
    testing::{Mortal, observed},
};

const MINUTE: Duration = Duration::from_secs(60);

/// What is on the machine.
#[derive(Default)]
struct World {
    files: Mutex<BTreeSet<ProjectId>>,
    /// By project: the incarnation, and whether it is ready.
    alive: Mutex<BTreeMap<ProjectId, (u64, bool)>>,
    broken: Mutex<Vec<String>>,
    /// Starts that something else kills, too.
    starts_killed: Mutex<u32>,
}

impl World {
    fn spawn(&self, id: &ProjectId, incarnation: u64) {
        if !self.files.lock().unwrap().contains(id) {
            self.breaks(format!("{id} {incarnation} is started without files"));
        }
        let other = self.alive.lock().unwrap().insert(id.clone(), (incarnation, false));
        if let Some((other, _)) = other {
            self.breaks(format!("{id} {incarnation} is started while {other} is alive"));
        }
    }

    fn kills_a_start(&self, id: &ProjectId) -> bool {
        let mut left = self.starts_killed.lock().unwrap();
        let kills = *left > 0;
        if kills {
            *left -= 1;
            self.alive.lock().unwrap().remove(id);
        }
        kills
    }

    /// Remembered, because a panic in a control plane's task is the control plane's to survive.
    fn breaks(&self, rule: String) {
        self.broken.lock().unwrap().push(rule);
    }
}

/// A control plane's hands in the world, until it is killed.
struct Hands {
    world: Arc<World>,
    mortal: Mortal,
    /// Kept so that a report's stream does not end.
    senders: Mutex<Vec<mpsc::Sender<Report>>>,
}

impl Hands {
    /// Before every act. One that was killed never comes back.
    async fn act(&self) {
        if !self.mortal.lives_on() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    fn running(&self, project: &ProjectRecord) -> Running {
        let (sender, reports) = mpsc::channel(4);
        self.senders.lock().unwrap().push(sender);
        Running {
            incarnation: project.compute.incarnation,
            socket: "/run/m.sock".into(),
            secret: crate::secret::GatewaySecret::generate(),
            executed_ms: 1,
            ready_ms: 2,
            observed: observed(&[]),
            reports,
        }
    }
}

#[async_trait]
impl Driver for Hands {
    async fn server(&self) -> Result<Observed, DriverError> {
        Ok(observed(&[]))
    }

    async fn prepare(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        self.act().await;
        self.world.files.lock().unwrap().insert(project.id.clone());
        Ok(())
    }

    async fn start(&self, whole: &WholeProject) -> Result<Running, StartError> {
        let id = &whole.record.id;
        let prepared = self.world.files.lock().unwrap().contains(id);
        if !prepared {
            self.prepare(&whole.record).await?;
        }
        self.act().await;
        self.world.spawn(id, whole.record.compute.incarnation);
        self.act().await;
        if self.world.kills_a_start(id) {
            return Err(StartError::Killed("signal: 9".into()));
        }
        if let Some((_, ready)) = self.world.alive.lock().unwrap().get_mut(id) {
            *ready = true;
        }
        Ok(self.running(&whole.record))
    }

    async fn adopt(&self, project: &ProjectRecord) -> Result<Found, DriverError> {
        let found = self.world.alive.lock().unwrap().get(&project.id).copied();
        if found == Some((project.compute.incarnation, true)) {
            return Ok(Found::Running(self.running(project)));
        }
        self.stop(&project.id).await.map(|_| Found::Gone(None))
    }

    async fn running(&self) -> Result<Vec<ProjectId>, DriverError> {
        Ok(self.world.alive.lock().unwrap().keys().cloned().collect())
    }

    async fn is_well(&self, id: &ProjectId, incarnation: u64) -> bool {
        self.world.alive.lock().unwrap().get(id) == Some(&(incarnation, true))
    }

    async fn apply(&self, _id: &ProjectId, _access: &Access, _touched: &Touched) -> Result<Observed, DriverError> {
        self.act().await;
        Ok(observed(&[]))
    }

    async fn offer(&self) -> Result<Arc<Offer>, DriverError> {
        Ok(Arc::default())
    }

    async fn settings(&self, _id: &ProjectId) -> Result<BTreeMap<String, String>, DriverError> {
        Ok(BTreeMap::new())
    }

    async fn look(&self, _id: &ProjectId) -> Result<Observed, DriverError> {
        Ok(observed(&[]))
    }

    async fn quiesce(&self, _id: &ProjectId, _how: Quiesce) -> Result<Quiet, DriverError> {
        self.act().await;
        Ok(Quiet::Idle)
    }

    async fn resume(&self, _id: &ProjectId) -> Result<(), DriverError> {
        self.act().await;
        Ok(())
    }

    async fn stop(&self, id: &ProjectId) -> Result<Option<Observed>, DriverError> {
        self.act().await;
        self.world.alive.lock().unwrap().remove(id);
        Ok(None)
    }

    async fn remove(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        self.act().await;
        if self.world.alive.lock().unwrap().contains_key(&project.id) {
            self.world
                .breaks(format!("the files of {} are removed under its server", project.id));
        }
        self.world.files.lock().unwrap().remove(&project.id);
        Ok(())
    }
}

/// A control plane on a world and a store that outlive it.
struct Control {
    projects: Projects,
    world: Arc<World>,
    store: MemoryStore,
}

impl Control {
    fn on(world: &Arc<World>, store: &MemoryStore, mortal: Mortal) -> Self {
        let mut store = store.clone();
        store.mortal = mortal.clone();
        let hands = Hands {
            world: world.clone(),
            mortal,
            senders: Mutex::default(),
        };
        let (publisher, shared): (_, Arc<dyn Store>) = (Arc::new(Publisher::new()), Arc::new(store.clone()));
        let driver: Arc<dyn Driver> = Arc::new(hands);
        let activity: Arc<Activity> = Arc::default();
        let parts = Parts::new(
            shared.clone(),
            driver.clone(),
            publisher.clone(),
            activity.clone(),
            Metrics::new().unwrap(),
        );
        let projects = Projects {
            usage: Arc::new(crate::usage::Usage::new(shared.clone())),
            store: shared,
            driver,
            publisher,
            computes: Computes::new(parts),
            activity,
            changing_options: Default::default(),
        };
        Self {
            projects,
            world: world.clone(),
            store,
        }
    }

    /// As `run.rs` does.
    async fn begin(&self) {
        for whole in self.store.whole_projects(None, 100).await.unwrap() {
            self.projects.publisher.put(whole);
        }
        self.projects.computes.adopt().await;
        let interrupted = self.projects.interrupted().await.unwrap();
        self.projects.resume(interrupted).await.unwrap();
    }

    /// Until no operation is open; the deadline guards against hanging, on the paused clock.
    async fn settles(&self) {
        let settled = async {
            while !self.store.open_operations().await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let settled = tokio::time::timeout(MINUTE, settled).await;
        let open = self.store.open_operations().await.unwrap();
        settled.unwrap_or_else(|_| panic!("never ends: {open:?}"));
    }
}

fn demo() -> ProjectId {
    ProjectId::new("demo").unwrap()
}

/// What is done while the control plane is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Start,
    /// The first two are killed.
    StartAgain,
    Suspend,
    /// Not forced.
    Sleep,
    Apply,
    Delete,
    DeleteAsleep,
}

impl Act {
    async fn prepare(self, control: &Control) {
        if self == Self::Create {
            return;
        }
        control.projects.create(new_project("demo")).await.unwrap();
        if matches!(self, Self::Suspend | Self::Sleep | Self::Apply | Self::Delete) {
            control.projects.computes.wake(&demo(), None, MINUTE).await.unwrap();
            control.settles().await;
        }
    }

    async fn run(self, control: &Control) {
        let Projects { computes, .. } = &control.projects;
        // Results do not matter: whoever asked has lost the connection.
        match self {
            Self::Create => drop(control.projects.create(new_project("demo")).await),
            Self::Start | Self::StartAgain => {
                drop(computes.wake(&demo(), None, MINUTE).await);
                while control.store.mortal.is_alive() && !control.store.open_operations().await.unwrap().is_empty() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Self::Suspend => drop(computes.suspend(&demo(), "asked").await),
            Self::Sleep => drop(computes.suspend_if_idle(&demo(), "idle").await),
            Self::Apply => drop(control.projects.add_user(&demo(), new_user("app"), 1).await),
            Self::Delete | Self::DeleteAsleep => {
                let read = control.store.project(&demo()).await.unwrap();
                drop(control.projects.delete(&read).await);
            }
        }
    }
}

/// How many steps it took; `None`: killed.
async fn kill_at(act: Act, step: Option<usize>) -> usize {
    let (world, store) = (Arc::new(World::default()), MemoryStore::default());
    let before = Control::on(&world, &store, Mortal::default());
    act.prepare(&before).await;
    if act == Act::StartAgain {
        *world.starts_killed.lock().unwrap() = 2;
    }
    before.projects.computes.leave().await;

    let mortal = step.map_or_else(Mortal::default, Mortal::dies_at);
    let killed = Control::on(&world, &store, mortal.clone());
    // It begins unharmed: what it finds is in order.
    let begins = async {
        killed.begin().await;
        // What a keeper writes down of a compute that it adopts is part of it; a look comes after that. No project, no keeper.
        let _ = killed.projects.computes.look(&demo()).await;
    };
    mortal.spare(begins).await;
    drop(tokio::time::timeout(MINUTE, act.run(&killed)).await);
    let steps = mortal.steps();
    // Nothing of it has any effect any more, whatever its tasks still try.
    mortal.kill();
    killed.projects.computes.leave().await;

    let next = Control::on(&world, &store, Mortal::default());
    next.begin().await;
    next.settles().await;
    is_in_order(act, step, &next).await;
    steps
}

async fn is_in_order(act: Act, step: Option<usize>, control: &Control) {
    let at = format!("{act:?} killed at {step:?}");
    let alive = control.world.alive.lock().unwrap().get(&demo()).copied();
    let files = control.world.files.lock().unwrap().contains(&demo());
    let record = match control.store.project(&demo()).await {
        Ok(record) => record,
        Err(StoreError::NotFound(_)) => {
            assert!(
                matches!(act, Act::Create | Act::Delete | Act::DeleteAsleep),
                "{at}: the project is lost"
            );
            assert!(!files && alive.is_none(), "{at}: something is left behind");
            assert!(
                control.world.broken.lock().unwrap().is_empty(),
                "{at}: {:?}",
                control.world.broken
            );
            assert!(control.store.deleting().await.unwrap().is_empty(), "{at}");
            return;
        }
        Err(error) => panic!("{at}: {error}"),
    };
    assert!(files, "{at}: a project without files");
    let told = control.projects.publisher.compute(&demo()).unwrap();
    assert_eq!(told, record.compute, "{at}: gateways are told what is kept");
    match record.compute.state {
        ComputeState::Ready => assert_eq!(alive, Some((record.compute.incarnation, true)), "{at}"),
        ComputeState::Suspended => assert_eq!(alive, None, "{at}: an orphan"),
        state => panic!("{at}: {state} is no end"),
    }
    match (act, step) {
        (_, Some(0)) => {}
        (Act::Delete | Act::DeleteAsleep, _) => panic!("{at}: a deletion that was begun is finished"),
        (Act::Suspend, _) => assert_eq!(
            record.compute.state,
            ComputeState::Suspended,
            "{at}: begun, so finished"
        ),
        (Act::Apply, _) => assert!(
            control.store.pending(&demo()).await.unwrap().1.is_empty(),
            "{at}: not applied"
        ),
        _ => {}
    }
    assert!(
        control.world.broken.lock().unwrap().is_empty(),
        "{at}: {:?}",
        control.world.broken
    );
    let before = record.compute.incarnation;
    let woken = control.projects.computes.wake(&demo(), None, MINUTE).await.unwrap();
    let incarnation = woken.project.compute.as_ref().unwrap().incarnation;
    assert!(
        incarnation == before && alive.is_some() || incarnation > before,
        "{at}: a number came again"
    );
}

async fn kill_at_every_step(act: Act, least: usize) {
    let steps = kill_at(act, None).await;
    assert!(steps >= least, "{act:?} takes {steps} steps only: is it still counted?");
    for step in 0..steps {
        kill_at(act, Some(step)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn create_is_finished_or_never_was() {
    kill_at_every_step(Act::Create, 3).await;
}

#[tokio::test(start_paused = true)]
async fn start_ends_in_one_live_incarnation_or_none() {
    kill_at_every_step(Act::Start, 4).await;
}

#[tokio::test(start_paused = true)]
async fn start_that_is_begun_again_ends_in_one_live_incarnation_or_none() {
    kill_at_every_step(Act::StartAgain, 12).await;
}

#[tokio::test(start_paused = true)]
async fn suspend_that_was_begun_is_finished() {
    kill_at_every_step(Act::Suspend, 3).await;
}

/// Whichever it is: asleep, or awake and to be put to sleep again when it is idle.
#[tokio::test(start_paused = true)]
async fn unforced_suspend_is_finished_or_called_off() {
    kill_at_every_step(Act::Sleep, 4).await;
}

#[tokio::test(start_paused = true)]
async fn change_reaches_the_compute_that_ran_through_it() {
    kill_at_every_step(Act::Apply, 3).await;
}

#[tokio::test(start_paused = true)]
async fn delete_that_was_begun_is_finished() {
    kill_at_every_step(Act::Delete, 5).await;
    kill_at_every_step(Act::DeleteAsleep, 4).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_without_a_project_is_stopped() {
    let (world, store) = (Arc::new(World::default()), MemoryStore::default());
    let control = Control::on(&world, &store, Mortal::default());
    for name in ["demo", "gone"] {
        let project = control.projects.create(new_project(name)).await.unwrap();
        control
            .projects
            .computes
            .wake(&project.record.id, None, MINUTE)
            .await
            .unwrap();
        control.settles().await;
    }
    control.projects.computes.leave().await;
    // The store is restored from a copy in which one project is not there and the other has not been started yet.
    let older = MemoryStore::default();
    let next = Control::on(&world, &older, Mortal::default());
    older.create_project(new_project("demo")).await.unwrap();
    older
        .end_operation(&demo(), OperationKind::Create, None, 1)
        .await
        .unwrap();
    next.begin().await;
    assert!(world.alive.lock().unwrap().is_empty());
}
