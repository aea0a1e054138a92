//! Computes as processes of this machine: an agent beside each mariadbd, as a child that outlives control. Which
//! incarnation runs, with which secret, stands in the spec file that its agent was started with, so that a new control
//! plane can take over what an older one left.

use std::{
    collections::{BTreeMap, HashMap},
    io::ErrorKind,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use control_api::{
    agent::{AgentStatus, Phase},
    life::{End, Life},
    settings::Offer,
    spec::{INIT_FILE, Spec, SpecError, Template},
};
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    sync::{OnceCell, mpsc},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use tonic::Streaming;

use super::{Doing, Driver, DriverError, Ended, Found, Quiesce, Quiet, Running, StartError, spec_account};
use crate::{
    config::{Config, ProcessConfig, UidRange},
    error::Error,
    name::ProjectId,
    secret::GatewaySecret,
    store::{Access, EpochMs, Observed, ProjectRecord, Touched, WholeProject},
};

mod agent;
mod child;
mod leftovers;
mod news;
mod paths;

use agent::Agent;
use child::Child;
use leftovers::Traits;
use news::News;
use paths::Paths;

/// Making a template initialises a data directory and loads time zones.
const TEMPLATE_PATIENCE: Duration = Duration::from_secs(180);
/// Copying it takes well under a second; more on a disk that is busy.
const PREPARE_PATIENCE: Duration = Duration::from_secs(60);
/// Between looks for the socket of an agent that was just started: small against what mariadbd needs.
const SOCKET_LOOK: Duration = Duration::from_millis(2);
/// The agent gives up a start by itself; this much later control does.
const START_GRACE: Duration = Duration::from_secs(5);
/// After its last word an agent has only to exit.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);
/// For the greeting of a server that is said to be well. Without it the server is stopped, so a storm of clients on a slow
/// machine must not look like a server that hangs.
const GREETING_PATIENCE: Duration = Duration::from_secs(15);
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(20);
/// What is asked of an agent that lives and is not reached waits so long: longer than most wants of descriptors or memory last,
/// shorter than whoever waits for the answer does.
const REACH_PATIENCE: Duration = Duration::from_secs(10);
/// Between the tries, each of which looks through the machine's processes.
const REACH_AGAIN: Duration = Duration::from_millis(250);
/// It would run as root, whose server a tenant can own.
const NO_OS_USER: &str = "it has no OS user, since its control plane was not root when it was made: run the control plane as that user \
     again, or dump its databases there and load them into a new project";
/// News of one compute that wait for its keeper.
const REPORTS: usize = 16;

/// See the head of this file.
pub(crate) struct ProcessDriver {
    inner: Arc<Inner>,
}

struct Inner {
    config: ProcessConfig,
    paths: Paths,
    /// OS users are given only by root.
    is_root: bool,
    template: OnceCell<Template>,
    /// The template's, shared with everybody who checks a setting.
    offer: OnceCell<Arc<Offer>>,
    children: Mutex<HashMap<ProjectId, Child>>,
    tasks: TaskTracker,
}

impl ProcessDriver {
    /// `tasks` owns what runs for as long as control does.
    pub(crate) fn new(config: &Config, tasks: TaskTracker) -> Result<Self, Error> {
        let is_root = rustix::process::geteuid().is_root();
        if is_root && let Some(barrier) = paths::first_barrier(&config.data_dir) {
            return Err(Error::Barrier {
                data_dir: config.data_dir.clone(),
                barrier,
            });
        }
        let inner = Inner {
            config: config.process.clone(),
            paths: Paths::new(&config.data_dir, is_root),
            is_root,
            template: OnceCell::new(),
            offer: OnceCell::new(),
            children: Mutex::default(),
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where projects get their OS users from; `None`: they run as whoever control runs as.
    pub(crate) fn uids(&self) -> Option<UidRange> {
        self.inner.is_root.then_some(self.inner.config.uid_range)
    }
}

#[async_trait]
impl Driver for ProcessDriver {
    async fn server(&self) -> Result<Observed, DriverError> {
        let template = self.inner.template().await?;
        let (version, variables) = (template.version.clone(), template.variables.clone());
        Ok(Observed {
            version,
            variables,
            ..Observed::default()
        })
    }

    async fn prepare(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        self.inner.prepare(project).await
    }

    async fn start(&self, whole: &WholeProject) -> Result<Running, StartError> {
        let started = self.inner.start(whole).await;
        if started.is_err()
            && let Err(error) = self.inner.stop(&whole.record.id).await
        {
            tracing::error!(project = %whole.record.id, %error, "a failed start left something behind");
        }
        started
    }

    async fn adopt(&self, project: &ProjectRecord) -> Result<Found, DriverError> {
        self.inner.adopt(project).await
    }

    async fn running(&self) -> Result<Vec<ProjectId>, DriverError> {
        let paths = self.inner.paths.clone();
        blocking(move || paths.with_socket()).await
    }

    async fn is_well(&self, id: &ProjectId, incarnation: u64) -> bool {
        self.inner.serves(id, incarnation).await && self.inner.greets(id).await
    }

    async fn quiesce(&self, id: &ProjectId, how: Quiesce) -> Result<Quiet, DriverError> {
        self.inner.agent(id).await?.quiesce(how).await
    }

    async fn resume(&self, id: &ProjectId) -> Result<(), DriverError> {
        self.inner.agent(id).await?.resume().await
    }

    async fn offer(&self) -> Result<Arc<Offer>, DriverError> {
        let offer = self.inner.offer.get_or_try_init(async || {
            let template = self.inner.template().await?;
            Ok(Arc::new(template.offer.clone()))
        });
        offer.await.cloned()
    }

    async fn settings(&self, id: &ProjectId) -> Result<BTreeMap<String, String>, DriverError> {
        self.inner.agent(id).await?.settings().await
    }

    async fn apply(&self, id: &ProjectId, access: &Access, touched: &Touched) -> Result<Observed, DriverError> {
        let offer = self.offer().await?;
        self.inner.agent(id).await?.apply(access, touched, &offer).await
    }

    async fn look(&self, id: &ProjectId) -> Result<Observed, DriverError> {
        self.inner.agent(id).await?.look().await
    }

    async fn stop(&self, id: &ProjectId) -> Result<Option<Observed>, DriverError> {
        self.inner.stop(id).await
    }

    async fn remove(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        let (inner, id) = (self.inner.clone(), project.id.clone());
        blocking(move || inner.paths.remove(&id)).await
    }
}

impl Inner {
    /// Prepared once; callers share the work, and after a failure the next caller tries again.
    async fn template(&self) -> Result<&Template, DriverError> {
        self.template
            .get_or_try_init(async || {
                let templates = self.paths.templates();
                // Only root copies from there; the projects' users could else hold its lock.
                let made = std::fs::create_dir_all(&templates)
                    .and_then(|()| std::fs::set_permissions(&templates, std::fs::Permissions::from_mode(0o700)));
                made.map_err(|error| DriverError(format!("cannot make {}: {error}", templates.display())))?;
                let mut arguments = vec![("--templates-dir", templates)];
                arguments.extend(self.config.mariadbd.clone().map(|path| ("--mariadbd", path)));
                let said = child::run(&self.config.agent, "template", &arguments, TEMPLATE_PATIENCE).await?;
                let line = said.lines().last().unwrap_or_default();
                let template: Template = serde_json::from_str(line)
                    .map_err(|error| DriverError(format!("`agent template` said what is not a template: {error}")))?;
                tracing::info!(version = template.version, "the template is ready");
                Ok(template)
            })
            .await
    }

    fn spec(&self, project: &ProjectRecord, access: &Access, template: &Template, secret: String) -> Spec {
        let uid = project.uid.filter(|_| self.is_root);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Spec {
            project: project.id.to_string(),
            incarnation: project.compute.incarnation,
            data_dir: self.paths.data(&project.id),
            run_dir: self.paths.run(&project.id),
            log_dir: self.paths.log(&project.id),
            template_dir: template.template_dir.clone(),
            mariadbd: self.config.mariadbd.clone(),
            uid,
            gid: uid,
            size_cu: project.size_cu,
            gateway_secret_hex: secret,
            // Those made in SQL need nothing but a new password.
            accounts: access
                .users
                .iter()
                .filter(|user| !(user.by_sql && user.known))
                .map(spec_account)
                .collect(),
            removed_accounts: access.removed_users.iter().map(ToString::to_string).collect(),
            databases: access.databases.iter().map(ToString::to_string).collect(),
            new_databases: access.new_databases.iter().map(ToString::to_string).collect(),
            settings: access.settings.clone(),
            start_timeout_ms: millis(self.config.start_timeout),
            stop_timeout_ms: millis(self.config.stop_timeout),
        }
    }

    /// Makes the directories and writes the spec.
    async fn lay_out(&self, project: &ProjectRecord, spec: Spec) -> Result<(), DriverError> {
        let (paths, id, uid) = (self.paths.clone(), project.id.clone(), spec.uid);
        blocking(move || {
            paths.make(&id, uid)?;
            spec.write(&paths.spec(&id))
                .map_err(|error: SpecError| std::io::Error::other(error.to_string()))
        })
        .await
    }

    async fn prepare(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        let template = self.template().await?;
        self.lay_out(project, self.spec(project, &Access::default(), template, String::new()))
            .await?;
        let arguments = [("--spec", self.paths.spec(&project.id))];
        child::run(&self.config.agent, "prepare", &arguments, PREPARE_PATIENCE)
            .await
            .map(drop)
    }

    async fn start(self: &Arc<Self>, whole: &WholeProject) -> Result<Running, StartError> {
        let began = Instant::now();
        let project = &whole.record;
        if self.paths.agent_socket(&project.id).exists() {
            self.stop(&project.id).await?;
        }
        if self.is_root && project.uid.is_none() {
            return Err(DriverError(NO_OS_USER.into()).into());
        }
        if !self.paths.data(&project.id).exists() {
            // Control ended between writing the project down and preparing it.
            self.prepare(project).await?;
        }
        let template = self.template().await?;
        let secret = GatewaySecret::generate();
        self.lay_out(project, self.spec(project, &whole.access, template, secret.hex()))
            .await?;
        let (spec, output) = (self.paths.spec(&project.id), self.paths.agent_output(&project.id));
        let child = child::start(&self.config.agent, &spec, &output, &self.tasks)?;
        self.children().insert(project.id.clone(), child.clone());
        let spawned_ms = millis(began.elapsed());
        let deadline = Instant::now() + self.config.start_timeout + START_GRACE;
        let (stream, status) = tokio::time::timeout_at(deadline, self.until_ready(project, child))
            .await
            .map_err(|_| DriverError("it was not ready in time".into()))??;
        let mut running = self.running(project, secret, stream, status);
        running.executed_ms = running.executed_ms.saturating_add(spawned_ms);
        running.ready_ms = millis(began.elapsed());
        Ok(running)
    }

    /// Waits for the agent's socket and then for its word; the caller sets the deadline.
    async fn until_ready(
        &self,
        project: &ProjectRecord,
        mut child: Child,
    ) -> Result<(Streaming<AgentStatus>, AgentStatus), StartError> {
        let socket = self.paths.agent_socket(&project.id);
        let mut stream = loop {
            if let Some(status) = child.exit() {
                return Err(self.died(project, status));
            }
            if let Some(mut agent) = Agent::connect(&socket).await
                && let Some(stream) = agent.watch().await
            {
                break stream;
            }
            tokio::time::sleep(SOCKET_LOOK).await;
        };
        while let Ok(Some(status)) = stream.message().await {
            match status.phase() {
                Phase::Ready => return Ok((stream, status)),
                Phase::Exited if status.exit_signal != 0 => return Err(StartError::Killed(status.exit)),
                Phase::Exited => return Err(DriverError(status.exit).into()),
                _ => {}
            }
        }
        let _ = tokio::time::timeout(EXIT_PATIENCE, child.wait()).await;
        Err(match child.exit() {
            Some(status) => self.died(project, status),
            None => DriverError("its agent does not answer any more".into()).into(),
        })
    }

    /// The agent ended without a word to us.
    fn died(&self, project: &ProjectRecord, status: ExitStatus) -> StartError {
        if status.signal().is_some() {
            return StartError::Killed(format!("its agent ended: {status}"));
        }
        let end = self.life(project).and_then(|(life, _)| life.end);
        if let Some(End {
            how, signal: Some(_), ..
        }) = end
        {
            return StartError::Killed(how);
        }
        let said = child::last_words(&self.paths.agent_output(&project.id));
        DriverError(if said.is_empty() { status.to_string() } else { said }).into()
    }

    fn running(
        self: &Arc<Self>,
        project: &ProjectRecord,
        secret: GatewaySecret,
        stream: Streaming<AgentStatus>,
        status: AgentStatus,
    ) -> Running {
        let (sender, reports) = mpsc::channel(REPORTS);
        let observed = agent::observed(status.server.unwrap_or_default());
        let incarnation = project.compute.incarnation;
        let news = News {
            inner: self.clone(),
            id: project.id.clone(),
            incarnation,
            last: observed.clone(),
            last_doing: Doing::default(),
            sender,
        };
        self.tasks.spawn(news.forward(stream));
        Running {
            incarnation,
            socket: self.paths.server_socket(&project.id),
            secret,
            executed_ms: status.executed_ms,
            ready_ms: status.ready_ms,
            observed,
            reports,
        }
    }

    async fn adopt(self: &Arc<Self>, project: &ProjectRecord) -> Result<Found, DriverError> {
        if let Some(running) = self.take_over(project).await {
            return Ok(Found::Running(running));
        }
        let stopped = self.end(&project.id).await?;
        Ok(Found::Gone(self.ended(project, stopped.leftovers)))
    }

    /// When its server ended, by the mark on disk. Where something had to be killed that wrote no end, it lived until now.
    fn ended(&self, project: &ProjectRecord, leftovers: usize) -> Option<Ended> {
        let (life, touched) = self.life(project)?;
        match life.end {
            Some(End { at_ms, how, .. }) => Some(Ended {
                at: at_ms,
                how: Some(how),
            }),
            None if leftovers > 0 => None,
            None => Some(Ended { at: touched, how: None }),
        }
    }

    /// The mark of that incarnation, and when it was touched last.
    fn life(&self, project: &ProjectRecord) -> Option<(Life, EpochMs)> {
        Life::read(&self.paths.log(&project.id)).filter(|(life, _)| life.incarnation == project.compute.incarnation)
    }

    async fn take_over(self: &Arc<Self>, project: &ProjectRecord) -> Option<Running> {
        let mut agent = self.reach(&project.id).await?;
        let status = agent.status().await?;
        if !agent::serves(&status, project.id.as_str(), project.compute.incarnation) {
            return None;
        }
        let spec = Spec::read(&self.paths.spec(&project.id)).ok()?;
        if spec.incarnation != project.compute.incarnation {
            return None;
        }
        let secret = GatewaySecret::from_hex(&spec.gateway_secret_hex)?;
        // The last control plane may have ended in the middle of a suspend.
        agent.resume().await.ok()?;
        let stream = agent.watch().await?;
        Some(self.running(project, secret, stream, status))
    }

    async fn agent(&self, id: &ProjectId) -> Result<Agent, DriverError> {
        let agent = self.reach(id).await;
        agent.ok_or_else(|| DriverError("the compute's agent does not answer".into()))
    }

    /// One connection that fails says nothing of an agent: control may be short of descriptors. While its process lives it is
    /// tried again, [`REACH_PATIENCE`] at most.
    async fn reach(&self, id: &ProjectId) -> Option<Agent> {
        let deadline = Instant::now() + REACH_PATIENCE;
        loop {
            if let Some(agent) = Agent::connect(&self.paths.agent_socket(id)).await {
                return Some(agent);
            }
            if Instant::now() >= deadline || !self.agent_lives(id).await {
                return None;
            }
            tokio::time::sleep(REACH_AGAIN).await;
        }
    }

    /// Where that cannot be seen, yes: who is not known to be gone is not given up.
    async fn agent_lives(&self, id: &ProjectId) -> bool {
        let traits = self.traits(id);
        // Away from the threads that renew the lease: many may ask at once.
        let looked = tokio::task::spawn_blocking(move || leftovers::agent_lives(&traits)).await;
        !matches!(looked, Ok(Ok(false)))
    }

    async fn serves(&self, id: &ProjectId, incarnation: u64) -> bool {
        let Some(mut agent) = self.reach(id).await else {
            return false;
        };
        agent
            .status()
            .await
            .is_some_and(|status| agent::serves(&status, id.as_str(), incarnation))
    }

    /// An agent may say ready while its server hangs: only a greeting shows that it takes connections.
    async fn greets(&self, id: &ProjectId) -> bool {
        let greeting = async {
            loop {
                match UnixStream::connect(self.paths.server_socket(id)).await {
                    Ok(mut stream) => return stream.read_u8().await,
                    // Its queue is full: it is busy, or it hangs.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(FULL_QUEUE_PAUSE).await,
                    Err(error) => return Err(error),
                }
            }
        };
        matches!(tokio::time::timeout(GREETING_PATIENCE, greeting).await, Ok(Ok(_)))
    }

    async fn stop(&self, id: &ProjectId) -> Result<Option<Observed>, DriverError> {
        let stopped = self.end(id).await?;
        Ok(stopped.said.and_then(|status| status.server).map(agent::observed))
    }

    async fn end(&self, id: &ProjectId) -> Result<Stopped, DriverError> {
        let child = self.children().get(id).cloned();
        let said = match Agent::connect(&self.paths.agent_socket(id)).await {
            Some(mut agent) => agent.stop(self.config.stop_timeout).await,
            None => None,
        };
        match child {
            Some(mut child) if said.is_some() => drop(tokio::time::timeout(EXIT_PATIENCE, child.wait()).await),
            // Not our child: an earlier control plane started it.
            None if said.is_some() => drop(leftovers::gone(&self.traits(id), EXIT_PATIENCE).await),
            _ => {}
        }
        let leftovers = self.end_leftovers(id).await?;
        self.children().remove(id);
        Ok(Stopped { said, leftovers })
    }

    fn traits(&self, id: &ProjectId) -> Traits {
        Traits {
            spec: self.paths.spec(id),
            dirs: vec![self.paths.project(id), self.paths.run(id)],
            init_file: self.paths.run(id).join(INIT_FILE),
        }
    }

    /// How many there were.
    async fn end_leftovers(&self, id: &ProjectId) -> Result<usize, DriverError> {
        let ended = leftovers::end(&self.traits(id), self.config.stop_timeout).await;
        ended.map_err(|error| DriverError(error.to_string()))
    }

    fn children(&self) -> std::sync::MutexGuard<'_, HashMap<ProjectId, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a stop has found.
struct Stopped {
    /// The agent's last status, where one answered.
    said: Option<AgentStatus>,
    /// Processes that nobody answered for.
    leftovers: usize,
}

/// File work off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, DriverError> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)
        .flatten();
    done.map_err(|error| DriverError(format!("the project's files: {error}")))
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
