//! A control plane without processes, for tests: the real parts around a scripted driver and a store in memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use control_api::settings::{self, Applies, Offer};
use tokio::sync::mpsc;

pub(crate) use crate::store::memory::mortal::Mortal;

use crate::{
    accounts::ObservedAccount,
    activity::Activity,
    compute::{Computes, Parts},
    driver::{Driver, DriverError, Ended, Found, Quiesce, Quiet, Report, Running, StartError},
    metrics::Metrics,
    name::ProjectId,
    projects::Projects,
    publish::Publisher,
    secret::{GatewaySecret, hex},
    store::{
        Access, Accesses, NewProject, Observed, ProjectRecord, Store, Touched, UserRecord, WholeProject,
        memory::MemoryStore, suite,
    },
};

/// What the next start does, after so long.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    Ready(Duration),
    Fails(Duration, &'static str),
    Killed(Duration, &'static str),
}

/// Does what its script says and writes down what it was told.
#[derive(Default)]
pub(crate) struct FakeDriver {
    /// Starts in order; ready after 100 ms when it is empty.
    pub(crate) starts: Mutex<VecDeque<Start>>,
    /// What a look sees.
    pub(crate) held: Mutex<Option<Observed>>,
    /// What the next stop says that the server held.
    pub(crate) held_at_end: Mutex<Option<Observed>>,
    /// "start demo 1", "stop demo", "apply demo ...", in order.
    log: Mutex<Vec<String>>,
    reports: Mutex<HashMap<ProjectId, mpsc::Sender<Report>>>,
    /// What looks behind the shut door find, in order; nothing when it is empty. `Err`: no answer.
    pub(crate) looks: Mutex<VecDeque<Result<Quiet, DriverError>>>,
    pub(crate) resume_fails: Mutex<bool>,
    pub(crate) is_unwell: Mutex<bool>,
    pub(crate) adopts: Mutex<bool>,
    /// What is known of the end of what is not there to be adopted.
    pub(crate) ended: Mutex<Option<Ended>>,
    /// What runs and nobody knows of.
    pub(crate) orphans: Mutex<Vec<ProjectId>>,
    pub(crate) prepare_fails: Mutex<bool>,
    pub(crate) prepare_takes: Mutex<Duration>,
    pub(crate) apply_fails: Mutex<bool>,
    /// The settings that each compute runs with.
    applied: Mutex<HashMap<ProjectId, BTreeMap<String, String>>>,
}

/// A server of few words.
pub(crate) fn offer() -> Offer {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    Offer {
        defaults: settings::ALL
            .iter()
            .map(|setting| {
                let value = match setting.name {
                    "character_set_server" => "utf8mb4",
                    "collation_server" => "utf8mb4_general_ci",
                    "wait_timeout" => "28800",
                    "ft_min_word_len" => "4",
                    _ => "",
                };
                (setting.name.to_owned(), value.to_owned())
            })
            .collect(),
        time_zones: vec!["Europe/Berlin".into()],
        character_sets: pairs(&[("utf8mb4", "utf8mb4_general_ci"), ("latin1", "latin1_swedish_ci")]),
        collations: pairs(&[("utf8mb4_general_ci", "utf8mb4"), ("latin1_swedish_ci", "latin1")]),
    }
}

/// What a compute that starts with these settings runs with.
fn running_settings(access: &Access) -> BTreeMap<String, String> {
    let offer = offer();
    let names = settings::ALL.iter().map(|setting| setting.name);
    names
        .filter_map(|name| Some((name.to_owned(), settings::resolved(name, &access.settings, &offer)?)))
        .collect()
}

const QUIESCE_TAKES: Duration = Duration::from_millis(50);
const STOP_TAKES: Duration = Duration::from_millis(200);
const LOOK_TAKES: Duration = Duration::from_millis(5);
const APPLY_TAKES: Duration = Duration::from_millis(20);

impl FakeDriver {
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    /// The compute tells something.
    pub(crate) async fn report(&self, id: &ProjectId, report: Report) {
        let sender = self.reports.lock().unwrap().get(id).unwrap().clone();
        sender.send(report).await.unwrap();
    }

    fn running(&self, project: &ProjectRecord) -> Running {
        let (sender, reports) = mpsc::channel(4);
        self.reports.lock().unwrap().insert(project.id.clone(), sender);
        Running {
            incarnation: project.compute.incarnation,
            socket: PathBuf::from(format!("/run/{}/m.sock", project.id)),
            secret: GatewaySecret::generate(),
            executed_ms: 10,
            ready_ms: 100,
            observed: observed(&[]),
            reports,
        }
    }
}

/// What a server says that has all of this.
pub(crate) fn holding(access: &Access) -> Observed {
    let databases: Vec<_> = access.databases.iter().map(|name| name.as_str()).collect();
    let account = |user: &UserRecord| ObservedAccount {
        user: user.name.to_string(),
        host: "%".into(),
        native_sha1: vec![hex(&user.verifiers.native_sha1)],
        ..ObservedAccount::default()
    };
    Observed {
        accounts: access.users.iter().map(account).collect(),
        ..observed(&databases)
    }
}

pub(crate) fn observed(databases: &[&str]) -> Observed {
    Observed {
        version: "10.11.19-MariaDB".into(),
        variables: BTreeMap::from([("version_comment".into(), "fake".into())]),
        databases: databases.iter().map(ToString::to_string).collect(),
        ..Observed::default()
    }
}

#[async_trait]
impl Driver for FakeDriver {
    async fn server(&self) -> Result<Observed, DriverError> {
        Ok(observed(&[]))
    }

    async fn prepare(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        self.note(format!("prepare {}", project.id));
        let takes = *self.prepare_takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        let fails = *self.prepare_fails.lock().unwrap();
        if fails {
            Err(DriverError("no space left".into()))
        } else {
            Ok(())
        }
    }

    async fn start(&self, whole: &WholeProject) -> Result<Running, StartError> {
        self.note(format!(
            "start {} {}",
            whole.record.id, whole.record.compute.incarnation
        ));
        self.applied
            .lock()
            .unwrap()
            .insert(whole.record.id.clone(), running_settings(&whole.access));
        let next = self.starts.lock().unwrap().pop_front();
        match next.unwrap_or(Start::Ready(Duration::from_millis(100))) {
            Start::Ready(time) => {
                tokio::time::sleep(time).await;
                Ok(self.running(&whole.record))
            }
            Start::Fails(time, reason) => {
                tokio::time::sleep(time).await;
                Err(DriverError(reason.into()).into())
            }
            Start::Killed(time, how) => {
                tokio::time::sleep(time).await;
                Err(StartError::Killed(how.into()))
            }
        }
    }

    async fn adopt(&self, project: &ProjectRecord) -> Result<Found, DriverError> {
        let adopts = *self.adopts.lock().unwrap();
        if adopts {
            let mut running = self.running(project);
            running.observed = self.held.lock().unwrap().clone().unwrap_or(running.observed);
            return Ok(Found::Running(running));
        }
        Ok(Found::Gone(self.ended.lock().unwrap().clone()))
    }

    async fn running(&self) -> Result<Vec<ProjectId>, DriverError> {
        Ok(self.orphans.lock().unwrap().clone())
    }

    async fn is_well(&self, _id: &ProjectId, _incarnation: u64) -> bool {
        !*self.is_unwell.lock().unwrap()
    }

    async fn quiesce(&self, id: &ProjectId, how: Quiesce) -> Result<Quiet, DriverError> {
        self.note(match how {
            Quiesce::IfIdle => format!("quiesce {id}"),
            Quiesce::Forced(patience) => format!("quiesce {id} within {} s", patience.as_secs()),
        });
        tokio::time::sleep(QUIESCE_TAKES).await;
        self.looks.lock().unwrap().pop_front().unwrap_or(Ok(Quiet::Idle))
    }

    async fn resume(&self, id: &ProjectId) -> Result<(), DriverError> {
        self.note(format!("resume {id}"));
        let fails = *self.resume_fails.lock().unwrap();
        if fails {
            Err(DriverError("it hangs".into()))
        } else {
            Ok(())
        }
    }

    async fn apply(&self, id: &ProjectId, access: &Access, touched: &Touched) -> Result<Observed, DriverError> {
        tokio::time::sleep(APPLY_TAKES).await;
        let presence = |exists: bool| if exists { '+' } else { '-' };
        let users = touched.users.iter().map(|name| {
            let exists = access.users.iter().any(|user| user.name == *name);
            format!(" {}{name}", presence(exists))
        });
        let databases = touched.databases.iter().map(|name| {
            let exists = access.databases.contains(name);
            format!(" {}{name}", presence(exists))
        });
        let settings = touched.settings.iter().map(|name| {
            let value = access.settings.get(name).map_or("", String::as_str);
            format!(" {name}={value}")
        });
        self.note(format!(
            "apply {id}{}",
            users.chain(databases).chain(settings).collect::<String>()
        ));
        let fails = *self.apply_fails.lock().unwrap();
        if fails {
            return Err(DriverError("lock wait".into()));
        }
        let wanted = running_settings(access);
        let live = |name: &String| settings::find(name).is_ok_and(|setting| setting.applies == Applies::Live);
        let mut applied = self.applied.lock().unwrap();
        let running = applied.entry(id.clone()).or_default();
        let names = touched.settings.iter().filter(|name| live(name));
        running.extend(names.map(|name| (name.clone(), wanted[name].clone())));
        let held = self.held.lock().unwrap().clone();
        Ok(held.unwrap_or_else(|| holding(access)))
    }

    async fn offer(&self) -> Result<Arc<Offer>, DriverError> {
        Ok(Arc::new(offer()))
    }

    async fn settings(&self, id: &ProjectId) -> Result<BTreeMap<String, String>, DriverError> {
        let applied = self.applied.lock().unwrap().get(id).cloned();
        Ok(applied.unwrap_or_else(|| offer().defaults))
    }

    async fn look(&self, id: &ProjectId) -> Result<Observed, DriverError> {
        self.note(format!("look {id}"));
        tokio::time::sleep(LOOK_TAKES).await;
        let held = self.held.lock().unwrap().clone();
        held.ok_or_else(|| DriverError("the compute's agent does not answer".into()))
    }

    async fn stop(&self, id: &ProjectId) -> Result<Option<Observed>, DriverError> {
        self.note(format!("stop {id}"));
        // As the real one: the agent tells its watchers of the end before whoever asked for it has the answer.
        let reports = self.reports.lock().unwrap().remove(id);
        if let Some(reports) = reports {
            drop(reports.send(Report::Exited("exit status: 0".into())).await);
        }
        tokio::time::sleep(STOP_TAKES).await;
        Ok(self.held_at_end.lock().unwrap().take())
    }

    async fn remove(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        self.note(format!("remove {}", project.id));
        Ok(())
    }
}

/// The parts, put together as `run.rs` does.
#[derive(Clone)]
pub(crate) struct Plane {
    pub(crate) driver: Arc<FakeDriver>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) projects: Arc<Projects>,
    pub(crate) metrics: Metrics,
}

impl Plane {
    pub(crate) fn new() -> Self {
        Self::on(Arc::default(), Arc::default())
    }

    /// Another control plane on the same store and driver, as after a restart; it has read nothing yet.
    pub(crate) fn on(driver: Arc<FakeDriver>, store: Arc<MemoryStore>) -> Self {
        let publisher = Arc::new(Publisher::new());
        let metrics = Metrics::new().unwrap();
        let activity: Arc<Activity> = Arc::default();
        let parts = Parts::new(
            store.clone(),
            driver.clone(),
            publisher.clone(),
            activity.clone(),
            metrics.clone(),
        );
        let projects = Projects {
            usage: Arc::new(crate::usage::Usage::new(store.clone())),
            store: store.clone(),
            driver: driver.clone(),
            publisher,
            computes: Computes::new(parts),
            activity,
            changing_options: Default::default(),
        };
        Self {
            driver,
            store,
            projects: Arc::new(projects),
            metrics,
        }
    }

    /// With one project `demo`.
    pub(crate) async fn with_demo() -> (Self, ProjectId) {
        let plane = Self::new();
        let id = plane.create("demo").await;
        plane.driver.log.lock().unwrap().clear();
        (plane, id)
    }

    pub(crate) async fn create(&self, name: &str) -> ProjectId {
        let new: NewProject = suite::new_project(name);
        self.projects.create(new).await.unwrap().record.id
    }

    pub(crate) fn computes(&self) -> &Arc<Computes> {
        &self.projects.computes
    }

    pub(crate) fn publisher(&self) -> &Arc<Publisher> {
        &self.projects.publisher
    }

    /// As somebody has read it who is about to change it.
    pub(crate) async fn read(&self, id: &ProjectId) -> ProjectRecord {
        self.store.project(id).await.unwrap()
    }

    /// Of `demo`.
    pub(crate) async fn store_access(&self) -> Access {
        self.store.access(&ProjectId::new("demo").unwrap()).await.unwrap()
    }

    /// Reads what the store has, as a start does.
    pub(crate) async fn load(&self) {
        for whole in self.store.whole_projects(None, 1000).await.unwrap() {
            self.publisher().put(whole);
        }
    }
}
