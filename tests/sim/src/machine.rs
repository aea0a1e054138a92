//! The machine that computes run on: agents and servers as processes that outlive the control plane that started them,
//! crash, hang and answer late, and remember which statements ran.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use control::sim::{Adopted, News, NotStarted, Started};
use gateway::sim::{Connection, Network, Ran, Refusal, Statement};
use rand::random_range;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::oracle::Oracle;

/// An agent that hangs answers nothing; who asks waits for so long.
const AGENT_PATIENCE: Duration = Duration::from_secs(3);

/// Nobody has another reason to stop a compute so soon after it was told that the compute works.
const HEEDED_FOR: Duration = Duration::from_secs(1);

/// See the head of this file.
pub(crate) struct Machine {
    pub(crate) oracle: Arc<Oracle>,
    processes: Mutex<BTreeMap<String, Arc<Process>>>,
    hang_until: Mutex<BTreeMap<String, Instant>>,
    /// Of a hundred starts.
    pub(crate) starts_fail: AtomicU32,
    /// The project whose agent was asked for quiet last.
    pub(crate) asked_for_quiet: watch::Sender<String>,
    /// What goes on whoever has asked for it.
    tasks: TaskTracker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    /// SIGTERM has come: connections are cut.
    Going,
    Dead,
}

struct Process {
    project: String,
    incarnation: u64,
    phase: watch::Sender<Phase>,
    /// What killed it or its agent.
    signal: OnceLock<&'static str>,
    /// Fires when connections are cut.
    cut: CancellationToken,
    door: Mutex<Door>,
    /// When the control plane was told last that something stands in the way of its suspend.
    refused: Mutex<Option<Instant>>,
    news: Mutex<Option<News>>,
    connections: AtomicU32,
    statements: AtomicU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Shut,
    /// Nothing was behind it, and the control plane was told so.
    Promised,
}

fn up_to(ms: u64) -> Duration {
    Duration::from_millis(random_range(0..=ms))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(crate) fn new(oracle: Arc<Oracle>) -> Arc<Self> {
        Arc::new(Self {
            oracle,
            processes: Mutex::default(),
            hang_until: Mutex::default(),
            starts_fail: AtomicU32::new(0),
            asked_for_quiet: watch::Sender::default(),
            tasks: TaskTracker::new(),
        })
    }

    fn process(&self, project: &str) -> Option<Arc<Process>> {
        let process = locked(&self.processes).get(project).cloned();
        process.filter(|process| *process.phase.borrow() != Phase::Dead)
    }

    /// The server dies, and its agent says so.
    pub(crate) fn crash(&self, project: &str) {
        if let Some(process) = self.process(project) {
            self.oracle.note(&format!("{project}: {} crashes", process.incarnation));
            self.killed(&process, "signal: 9");
            self.tasks.spawn(async move {
                sleep(up_to(900)).await;
                if let Some(news) = &*locked(&process.news) {
                    news.exited("signal: 9");
                }
            });
        }
    }

    /// The agent dies and takes its server with it, without a word.
    pub(crate) fn crash_agent(&self, project: &str) {
        if let Some(process) = self.process(project) {
            self.oracle
                .note(&format!("{project}: the agent of {} crashes", process.incarnation));
            self.killed(&process, "its agent ended: signal: 9");
            self.tasks.spawn(async move {
                sleep(up_to(900)).await;
                drop(locked(&process.news).take());
            });
        }
    }

    pub(crate) fn hang_agent(&self, project: &str, time: Duration) {
        self.oracle.note(&format!("{project}: the agent hangs for {time:?}"));
        locked(&self.hang_until).insert(project.into(), Instant::now() + time);
    }

    fn hangs(&self, project: &str) -> bool {
        locked(&self.hang_until)
            .get(project)
            .is_some_and(|until| Instant::now() < *until)
    }

    /// Nobody hangs, nothing fails any more.
    pub(crate) fn heal(&self) {
        locked(&self.hang_until).clear();
        self.starts_fail.store(0, Relaxed);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.running().is_empty()
    }

    fn killed(&self, process: &Process, how: &'static str) {
        let starts = *process.phase.borrow() == Phase::Starting;
        // Only of the first does anybody hear.
        if process.signal.set(how).is_ok() && starts {
            self.oracle.start_killed(&process.project, process.incarnation);
        }
        self.dies(process);
    }

    fn dies(&self, process: &Process) {
        if process.phase.send_replace(Phase::Dead) != Phase::Dead {
            process.cut.cancel();
            self.oracle.exited(&process.project, process.incarnation);
        }
    }

    fn execute(self: &Arc<Self>, project: &str, incarnation: u64) -> Arc<Process> {
        let process = Arc::new(Process {
            project: project.into(),
            incarnation,
            phase: watch::Sender::new(Phase::Starting),
            signal: OnceLock::new(),
            cut: CancellationToken::new(),
            door: Mutex::new(Door::Open),
            refused: Mutex::default(),
            news: Mutex::default(),
            connections: AtomicU32::new(0),
            statements: AtomicU32::new(0),
        });
        self.oracle.executed(project, incarnation);
        locked(&self.processes).insert(project.into(), process.clone());
        let (machine, starting) = (self.clone(), process.clone());
        self.tasks.spawn(async move {
            sleep(Duration::from_millis(if random_range(0..20) == 0 {
                5_000
            } else {
                random_range(80..400)
            }))
            .await;
            if random_range(0..100) < machine.starts_fail.load(Relaxed) {
                return machine.dies(&starting);
            }
            let became = starting.phase.send_if_modified(|phase| {
                let starts = *phase == Phase::Starting;
                if starts {
                    *phase = Phase::Ready;
                }
                starts
            });
            if became {
                machine.oracle.ready(&starting.project, starting.incarnation);
            }
        });
        process
    }

    /// SIGTERM and what follows it, whether anybody waits for it or not.
    fn terminate(self: &Arc<Self>, process: &Arc<Process>) {
        let phase = *process.phase.borrow();
        if matches!(phase, Phase::Going | Phase::Dead) {
            return;
        }
        let (promised, connections) = (
            *locked(&process.door) == Door::Promised,
            process.connections.load(Relaxed),
        );
        if promised && connections > 0 {
            self.oracle.breaks(&format!(
                "{}: {} is stopped with {connections} connections, although nothing was to be in it",
                process.project, process.incarnation
            ));
        }
        let refused = locked(&process.refused).is_some_and(|at| at.elapsed() < HEEDED_FOR);
        let forced = *locked(&process.door) == Door::Shut;
        if refused && connections > 0 && !forced && !self.hangs(&process.project) {
            self.oracle.breaks(&format!(
                "{}: {} is stopped with {connections} connections right after its agent said so",
                process.project, process.incarnation
            ));
        }
        process.phase.send_replace(Phase::Going);
        process.cut.cancel();
        let (machine, process) = (self.clone(), process.clone());
        self.tasks.spawn(async move {
            sleep(Duration::from_millis(random_range(20..600))).await;
            if let Some(news) = &*locked(&process.news) {
                news.exited("exit status: 0");
            }
            machine.dies(&process);
        });
    }
}

impl Process {
    fn started(&self) -> Started {
        let (started, news) = Started::new(socket(&self.project));
        *locked(&self.news) = Some(news);
        started
    }

    /// Holds the door shut until it opens it, unless nothing is behind it.
    fn shut_if_idle(&self) -> Option<String> {
        let mut door = locked(&self.door);
        match self.connections.load(Relaxed) {
            0 => {
                *door = Door::Promised;
                None
            }
            n => {
                *door = Door::Open;
                *locked(&self.refused) = Some(Instant::now());
                Some(format!("{n} connections"))
            }
        }
    }

    fn tell_statements(&self) {
        if let Some(news) = &*locked(&self.news) {
            news.runs(self.statements.load(Relaxed));
        }
    }
}

fn socket(project: &str) -> PathBuf {
    PathBuf::from(project)
}

/// So that what was asked goes on when the asker is dropped.
struct Handle(Arc<Machine>);

/// The machine as control planes see it.
pub(crate) fn as_driver(machine: &Arc<Machine>) -> Arc<dyn control::sim::Machine> {
    Arc::new(Handle(machine.clone()))
}

#[async_trait]
impl control::sim::Machine for Handle {
    async fn start(&self, project: &str, incarnation: u64) -> Result<Started, NotStarted> {
        // As the process driver: what is there already is stopped.
        self.stop(project).await?;
        sleep(up_to(20)).await;
        let process = self.0.execute(project, incarnation);
        let mut phase = process.phase.subscribe();
        let reached = phase.wait_for(|phase| *phase != Phase::Starting).await;
        if reached.is_ok_and(|phase| *phase == Phase::Ready) {
            sleep(up_to(5)).await;
            return Ok(process.started());
        }
        Err(match process.signal.get() {
            Some(how) => NotStarted::Killed((*how).into()),
            None => NotStarted::Failed("exit status: 1".into()),
        })
    }

    async fn adopt(&self, project: &str, incarnation: u64) -> Result<Adopted, String> {
        sleep(up_to(10)).await;
        if let Some(process) = self.0.process(project)
            && process.incarnation == incarnation
            && *process.phase.borrow() == Phase::Ready
            && !self.0.hangs(project)
        {
            *locked(&process.door) = Door::Open;
            return Ok(Adopted::Running(process.started()));
        }
        self.stop(project).await?;
        // An agent writes its server's end to disk, and one that is killed has shortly before touched what is there.
        let last = locked(&self.0.processes).get(project).cloned();
        let last = last.filter(|process| process.incarnation == incarnation);
        Ok(Adopted::Gone(last.and_then(|process| {
            self.0.oracle.exit_ms(project, process.incarnation)
        })))
    }

    fn running(&self) -> Vec<String> {
        self.0.running()
    }

    async fn is_well(&self, project: &str, incarnation: u64) -> bool {
        sleep(up_to(5)).await;
        if self.0.hangs(project) {
            sleep(AGENT_PATIENCE).await;
            return false;
        }
        let process = self.0.process(project);
        process.is_some_and(|process| process.incarnation == incarnation && *process.phase.borrow() == Phase::Ready)
    }

    async fn quiesce(&self, project: &str, forced: Option<Duration>) -> Result<Option<String>, String> {
        sleep(up_to(5)).await;
        let Some(process) = self.0.process(project) else {
            return Err("the agent does not answer".into());
        };
        self.0.oracle.note(&format!(
            "{project}: {} is asked for quiet, forced: {forced:?}",
            process.incarnation
        ));
        self.0.asked_for_quiet.send_replace(project.to_owned());
        if self.0.hangs(project) {
            // It may have heard the question, and nobody hears the answer.
            if random_range(0..2) == 0 {
                *locked(&process.door) = Door::Shut;
            }
            sleep(AGENT_PATIENCE).await;
            return Err("the agent does not answer".into());
        }
        let Some(patience) = forced else {
            let found = process.shut_if_idle();
            sleep(up_to(5)).await;
            return Ok(found);
        };
        *locked(&process.door) = Door::Shut;
        let quiet = async {
            while process.statements.load(Relaxed) > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        Ok(timeout(patience, quiet)
            .await
            .err()
            .map(|_| "statements run".to_owned()))
    }

    async fn resume(&self, project: &str) -> Result<(), String> {
        sleep(up_to(5)).await;
        if self.0.hangs(project) {
            sleep(AGENT_PATIENCE).await;
            return Err("the agent does not answer".into());
        }
        let process = self.0.process(project).ok_or("the agent is gone")?;
        *locked(&process.door) = Door::Open;
        Ok(())
    }

    async fn stop(&self, project: &str) -> Result<(), String> {
        sleep(up_to(5)).await;
        if let Some(process) = self.0.process(project) {
            self.0
                .oracle
                .note(&format!("{project}: {} is stopped", process.incarnation));
            self.0.terminate(&process);
            let mut phase = process.phase.subscribe();
            let _ = phase.wait_for(|phase| *phase == Phase::Dead).await;
        }
        Ok(())
    }
}

impl Machine {
    /// What runs.
    pub(crate) fn running(&self) -> Vec<String> {
        let processes = locked(&self.processes);
        let alive = processes
            .values()
            .filter(|process| *process.phase.borrow() != Phase::Dead);
        alive.map(|process| process.project.clone()).collect()
    }
}

#[async_trait]
impl Network for Machine {
    async fn dial(&self, socket: &Path, incarnation: u64) -> Result<Box<dyn Connection>, Refusal> {
        sleep(up_to(2)).await;
        let process = socket
            .to_str()
            .and_then(|project| self.process(project))
            .ok_or(Refusal::Unreachable)?;
        if *process.phase.borrow() != Phase::Ready {
            return Err(Refusal::Unreachable);
        }
        {
            // Under the door's lock: who was let in is seen by who shuts it.
            let door = locked(&process.door);
            if *door != Door::Open {
                return Err(Refusal::Unreachable);
            }
            process.connections.fetch_add(1, Relaxed);
        }
        let wire = Wire {
            oracle: self.oracle.clone(),
            process,
            in_transaction: false,
        };
        sleep(up_to(2)).await;
        if wire.process.incarnation != incarnation {
            return Err(Refusal::Secret);
        }
        if wire.process.cut.is_cancelled() {
            return Err(Refusal::Unreachable);
        }
        Ok(Box::new(wire))
    }
}

/// A connection to a server.
struct Wire {
    oracle: Arc<Oracle>,
    process: Arc<Process>,
    in_transaction: bool,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.process.connections.fetch_sub(1, Relaxed);
    }
}

/// A statement that runs.
struct Runs<'a>(&'a Process);

impl<'a> Runs<'a> {
    fn begin(process: &'a Process) -> Self {
        process.statements.fetch_add(1, Relaxed);
        process.tell_statements();
        Self(process)
    }
}

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        self.0.statements.fetch_sub(1, Relaxed);
        self.0.tell_statements();
    }
}

impl Wire {
    /// `None`: it was cut meanwhile.
    async fn takes(&self, time: Duration) -> Option<()> {
        self.process.cut.run_until_cancelled(sleep(time)).await
    }

    async fn execute(&self, id: u64) -> Option<()> {
        self.takes(up_to(1)).await?;
        let _runs = Runs::begin(&self.process);
        let slow = random_range(0..12) == 0;
        let time = Duration::from_millis(if slow {
            random_range(500..8_000)
        } else {
            random_range(1..20)
        });
        self.takes(time).await?;
        self.oracle.ran(&self.process.project, self.process.incarnation, id);
        self.takes(up_to(3)).await
    }
}

#[async_trait]
impl Connection for Wire {
    async fn run(&mut self, id: u64, statement: Statement) -> Ran {
        if self.process.cut.is_cancelled() {
            // The end of the other side may have been seen before the command was written, or not.
            return if random_range(0..2) == 0 {
                Ran::Unsent
            } else {
                Ran::Broken
            };
        }
        match self.execute(id).await {
            None => Ran::Broken,
            Some(()) => {
                match statement {
                    Statement::Begin => self.in_transaction = true,
                    Statement::Commit => self.in_transaction = false,
                    Statement::Write => {}
                }
                Ran::Answered {
                    in_transaction: self.in_transaction,
                }
            }
        }
    }

    async fn inventory(&mut self) -> Option<bool> {
        self.takes(up_to(5)).await.map(|()| self.in_transaction)
    }

    async fn gone(&self) {
        self.process.cut.cancelled().await;
    }
}
