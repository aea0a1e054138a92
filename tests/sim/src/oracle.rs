//! What may and may not be, kept apart from the code under test: hears what clients were told, what ran where and when
//! computes lived, and knows nothing of how gateways and control planes think.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::sim::{DAY_MS, Transition};
use control_api::rest::ComputeState;
use tokio::time::Instant;

/// A start may follow the last command that asked for it by this much: a wake's deadline, and messages that are late.
const NEED_LASTS: Duration = Duration::from_secs(75);
/// From what happens to a compute to the leading control plane's knowing of it: an agent's word, the store.
const KNOWN_WITHIN: Duration = Duration::from_millis(3_500);

/// So many starts in a row have to be killed until whoever waits is told that it cannot start.
const KILLED_IN_A_ROW: usize = 3;

/// Why a command may be given up before it was run: the server does not start, or not in time, or the client was told
/// before that its session was over.
const EXCUSES: [&str; 3] = ["cannot start: ", "did not start within", "closed"];

/// See the head of this file.
pub(crate) struct Oracle {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    trace: Vec<String>,
    broken: Vec<String>,
    commands: BTreeMap<u64, Fate>,
    needs: BTreeMap<String, Need>,
    lives: Vec<Life>,
    leaderless: Vec<Duration>,
}

/// What became of a command.
#[derive(Debug, Default)]
struct Fate {
    ran: u32,
    told: Told,
}

/// What a client was told of its command.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing, or that nobody knows.
    #[default]
    Unknown,
    Done,
    NotRun,
}

#[derive(Default)]
struct Need {
    waiting: u32,
    last: Option<Duration>,
}

/// One incarnation, from the execution of its server to its end.
struct Life {
    project: String,
    incarnation: u64,
    ready: Option<Duration>,
    exited: Option<Duration>,
    killed_starting: bool,
}

/// What a simulation came to.
pub struct Verdict {
    /// Rules that were broken.
    pub broken: Vec<String>,
    /// Everything that happened, in order.
    pub trace: Vec<String>,
    /// Computes that ran, commands that ran.
    pub figures: (usize, usize),
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn note(&self, what: &str) {
        let line = format!("{:9.3} {what}", self.now().as_secs_f64());
        self.lock().trace.push(line);
    }

    pub(crate) fn breaks(&self, rule: &str) {
        self.note(&format!("BROKEN: {rule}"));
        let line = format!("{:9.3} {rule}", self.now().as_secs_f64());
        self.lock().broken.push(line);
    }

    /// A client that is logged in needs the compute from here to [`Self::answered`].
    pub(crate) fn sent(&self, project: &str, command: u64) {
        self.note(&format!("{project}: command {command} is sent"));
        let mut inner = self.lock();
        inner.commands.insert(command, Fate::default());
        inner.needs.entry(project.into()).or_default().waiting += 1;
    }

    pub(crate) fn answered(&self, project: &str, command: u64, told: Told, text: &str) {
        self.note(&format!("{project}: command {command} is answered {told:?} {text}"));
        if told == Told::NotRun && !EXCUSES.iter().any(|excuse| text.contains(excuse)) {
            self.breaks(&format!(
                "{project}: command {command} is given up for no good reason: {text}"
            ));
        }
        if told == Told::NotRun && text.contains("killed while it started") && !self.was_killed_often(project) {
            self.breaks(&format!(
                "{project}: command {command} is given up for a start that was killed: {text}"
            ));
        }
        let now = self.now();
        let mut inner = self.lock();
        if let Some(fate) = inner.commands.get_mut(&command) {
            fate.told = told;
        }
        let need = inner.needs.entry(project.into()).or_default();
        need.waiting -= 1;
        need.last = Some(now);
    }

    /// Whether so many starts in a row ever were that a project may have been called failed.
    fn was_killed_often(&self, project: &str) -> bool {
        let inner = self.lock();
        let lives: Vec<_> = inner.lives.iter().filter(|life| life.project == project).collect();
        lives
            .windows(KILLED_IN_A_ROW)
            .any(|row| row.iter().all(|life| life.killed_starting))
    }

    pub(crate) fn ran(&self, project: &str, incarnation: u64, command: u64) {
        self.note(&format!("{project}: command {command} runs at {incarnation}"));
        let twice = self.lock().commands.get_mut(&command).is_some_and(|fate| {
            fate.ran += 1;
            fate.ran > 1
        });
        if twice {
            self.breaks(&format!("{project}: command {command} ran twice"));
        }
    }

    /// So far.
    pub(crate) fn commands_run(&self) -> usize {
        self.lock().commands.values().filter(|fate| fate.ran > 0).count()
    }

    /// A server is executed.
    pub(crate) fn executed(&self, project: &str, incarnation: u64) {
        self.note(&format!("{project}: {incarnation} is executed"));
        let now = self.now();
        let mut rules = Vec::new();
        {
            let mut inner = self.lock();
            for life in inner.lives.iter().filter(|life| life.project == project) {
                if life.exited.is_none() {
                    rules.push(format!(
                        "{project}: {incarnation} is executed while {} lives",
                        life.incarnation
                    ));
                }
                if life.incarnation >= incarnation {
                    rules.push(format!(
                        "{project}: {incarnation} is executed after {}",
                        life.incarnation
                    ));
                }
            }
            let need = inner.needs.get(project);
            let needed =
                need.is_some_and(|need| need.waiting > 0 || need.last.is_some_and(|last| now - last < NEED_LASTS));
            if !needed {
                rules.push(format!(
                    "{project}: {incarnation} is executed and no client that logged in needs it"
                ));
            }
            inner.lives.push(Life {
                project: project.into(),
                incarnation,
                ready: None,
                exited: None,
                killed_starting: false,
            });
        }
        rules.iter().for_each(|rule| self.breaks(rule));
    }

    pub(crate) fn ready(&self, project: &str, incarnation: u64) {
        self.note(&format!("{project}: {incarnation} is ready"));
        let now = self.now();
        self.life(project, incarnation, |life| life.ready = Some(now));
    }

    /// A signal ends it while it starts: whoever waits for it is served by another start.
    pub(crate) fn start_killed(&self, project: &str, incarnation: u64) {
        self.life(project, incarnation, |life| life.killed_starting = true);
    }

    pub(crate) fn exited(&self, project: &str, incarnation: u64) {
        self.note(&format!("{project}: {incarnation} has exited"));
        let now = self.now();
        self.life(project, incarnation, |life| life.exited = Some(now));
    }

    /// As a file on the machine says it, in milliseconds since 1970.
    pub(crate) fn exit_ms(&self, project: &str, incarnation: u64) -> Option<i64> {
        let inner = self.lock();
        let mut lives = inner.lives.iter();
        let life = lives.find(|life| life.project == project && life.incarnation == incarnation)?;
        Some(DAY_MS + i64::try_from(life.exited?.as_millis()).unwrap_or_default())
    }

    fn life(&self, project: &str, incarnation: u64, change: impl FnOnce(&mut Life)) {
        let mut inner = self.lock();
        let mut lives = inner.lives.iter_mut();
        if let Some(life) = lives.find(|life| life.project == project && life.incarnation == incarnation) {
            change(life);
        }
    }

    /// For a tick nobody led.
    pub(crate) fn leaderless(&self) {
        let now = self.now();
        self.lock().leaderless.push(now);
    }

    /// After everything: each command's fate is the one that its client was told.
    pub(crate) fn judge_commands(&self) {
        let wrong: Vec<String> = {
            let inner = self.lock();
            let wrong = inner.commands.iter().filter(|(_, fate)| match fate.told {
                Told::Unknown => fate.ran > 1,
                Told::Done => fate.ran != 1,
                Told::NotRun => fate.ran != 0,
            });
            wrong.map(|(id, fate)| format!("command {id}: {fate:?}")).collect()
        };
        wrong.iter().for_each(|rule| self.breaks(rule));
    }

    /// Billed is what ran: from when the control plane knew that it was ready, which is not before it was and soon after
    /// a control plane led, to when it knew of its exit, which is soon after that, whoever led.
    pub(crate) fn judge_bill(&self, project: &str, transitions: &[Transition], tick: Duration) {
        let bill = bill(transitions);
        let mut rules = Vec::new();
        {
            let inner = self.lock();
            let patience = |from: Duration, to: Duration| {
                let blind = inner.leaderless.iter().filter(|at| (from..=to).contains(*at)).count();
                KNOWN_WITHIN + tick * u32::try_from(blind).unwrap_or(u32::MAX)
            };
            // Both are rounded to milliseconds.
            let not_before = |what: Duration, told: Duration| told + Duration::from_millis(2) >= what;
            let ready_soon =
                |ready: Duration, told: Duration| not_before(ready, told) && told <= ready + patience(ready, told);
            // Also where nobody led: the next leader finds out when it was.
            let exited_soon =
                |exited: Duration, told: Duration| not_before(exited, told) && told <= exited + KNOWN_WITHIN;
            for billed in &bill {
                let life = inner
                    .lives
                    .iter()
                    .find(|life| life.project == project && life.incarnation == billed.0);
                let Some((ready, exited)) = life.and_then(|life| Some((life.ready?, life.exited?))) else {
                    rules.push(format!(
                        "{project}: {billed:?} is billed and has not been ready, or still runs"
                    ));
                    continue;
                };
                if !ready_soon(ready, billed.1) || !exited_soon(exited, billed.2) {
                    rules.push(format!(
                        "{project}: billed {billed:?}, ran from {ready:?} to {exited:?}"
                    ));
                }
            }
            for life in inner.lives.iter().filter(|life| life.project == project) {
                let (Some(ready), Some(exited)) = (life.ready, life.exited) else {
                    continue;
                };
                let billed = bill.iter().filter(|billed| billed.0 == life.incarnation).count();
                if billed > 1 || billed == 0 && exited - ready > patience(ready, exited) {
                    rules.push(format!("{project}: {} is billed {billed} times", life.incarnation));
                }
            }
        }
        rules.iter().for_each(|rule| self.breaks(rule));
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let mut inner = self.lock();
        Verdict {
            figures: (
                inner.lives.len(),
                inner.commands.values().filter(|fate| fate.ran > 0).count(),
            ),
            broken: std::mem::take(&mut inner.broken),
            trace: std::mem::take(&mut inner.trace),
        }
    }
}

/// Incarnation, from, to: as `Store::transitions` of control says that a compute's seconds are counted.
fn bill(transitions: &[Transition]) -> Vec<(u64, Duration, Duration)> {
    let runs = |state: ComputeState| matches!(state, ComputeState::Ready | ComputeState::Draining);
    let at = |made: &Transition| Duration::from_millis(u64::try_from(made.at_ms - DAY_MS).unwrap_or_default());
    let mut bill = Vec::new();
    let mut since = None;
    for made in transitions {
        match since {
            None if made.to == ComputeState::Ready => since = Some((made.incarnation, at(made))),
            Some((incarnation, from)) if !runs(made.to) => {
                bill.push((incarnation, from, at(made)));
                since = None;
            }
            _ => {}
        }
    }
    bill
}

/// The last lines before the first broken rule, for people.
pub fn excerpt(verdict: &Verdict, lines: usize) -> String {
    let first = verdict.trace.iter().position(|line| line.contains("BROKEN"));
    let end = first.map_or(verdict.trace.len(), |at| at + 1);
    let mut text = String::new();
    for line in &verdict.trace[end.saturating_sub(lines)..end] {
        let _ = writeln!(text, "{line}");
    }
    text
}
