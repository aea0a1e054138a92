//! What was killed and when, and what went wrong meanwhile. A client's error is excused by a kill that can have caused it,
//! and by nothing else; when things happened decides that, not how long they took.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Control,
    Gateway,
    Agent,
    Server,
}

/// So many killed starts are called a start that fails.
const KILLED_IN_A_ROW: usize = 3;

/// From just before the signal until what it ended is gone; of a gateway, until the next one is ready.
struct Kill {
    part: Part,
    project: String,
    begun: Instant,
    over: Option<Instant>,
}

struct Known {
    kills: Vec<Kill>,
    findings: Vec<String>,
}

pub(super) struct Witness {
    start: Instant,
    known: Mutex<Known>,
}

impl Witness {
    pub(super) fn new() -> Self {
        let known = Known {
            kills: Vec::new(),
            findings: Vec::new(),
        };
        Self {
            start: Instant::now(),
            known: Mutex::new(known),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("what is known")
    }

    /// To be called before the signal is sent; the number to say [`Witness::over`] with.
    pub(super) fn kills(&self, part: Part, project: &str) -> usize {
        let kills = &mut self.known().kills;
        kills.push(Kill {
            part,
            project: project.to_owned(),
            begun: Instant::now(),
            over: None,
        });
        kills.len() - 1
    }

    pub(super) fn over(&self, kill: usize) {
        self.known().kills[kill].over = Some(Instant::now());
    }

    pub(super) fn finds(&self, what: String) {
        let at = self.start.elapsed();
        self.known().findings.push(format!("{at:.3?} {what}"));
    }

    pub(super) fn found_anything(&self) -> bool {
        !self.known().findings.is_empty()
    }

    /// Whether the compute of `project` was dying at any moment since `since`, so that a command may have got this error.
    /// Of a start that was killed who waits for it hears nothing: the next one serves; unless that was killed, too, and
    /// the one after it.
    pub(super) fn excuses(&self, project: &str, since: Instant, told: &str) -> bool {
        let killed = |kill: &Kill| matches!(kill.part, Part::Agent | Part::Server) && kill.project == project;
        let starts = told.contains("cannot start") || told.contains("did not start");
        let in_a_row = self.known().kills.iter().filter(|kill| killed(kill)).count() >= KILLED_IN_A_ROW;
        self.died(since, killed) && (!starts || in_a_row && told.contains("times in a row"))
    }

    /// Whether the gateway was away at any moment since `since`.
    pub(super) fn gateway_died(&self, since: Instant) -> bool {
        self.died(since, |kill| kill.part == Part::Gateway)
    }

    fn died(&self, since: Instant, is: impl Fn(&Kill) -> bool) -> bool {
        let known = self.known();
        let mut kills = known.kills.iter();
        kills.any(|kill| is(kill) && kill.over.is_none_or(|over| over >= since))
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        writeln!(f, "killed:")?;
        for kill in &known.kills {
            let at = kill.begun - self.start;
            let over = kill.over.map(|over| over - self.start);
            writeln!(f, "  {at:.3?} {:?} {} over at {over:.3?}", kill.part, kill.project)?;
        }
        writeln!(f, "found:")?;
        known.findings.iter().try_for_each(|what| writeln!(f, "  {what}"))
    }
}
