//! What was killed and when, and what went wrong meanwhile. A client's error is excused by a kill that can have caused it,
//! and by nothing else; when things happened decides that, not how long they took.

use std::collections::HashMap;
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
    /// When each server was seen first, by its process id.
    seen: HashMap<u32, Instant>,
    /// When the last insert that was acknowledged began, by project.
    served: HashMap<String, Instant>,
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
            seen: HashMap::new(),
            served: HashMap::new(),
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

    pub(super) fn sees(&self, server: u32) {
        self.known().seen.entry(server).or_insert_with(Instant::now);
    }

    pub(super) fn served(&self, project: &str, begun: Instant) {
        self.known().served.insert(project.to_owned(), begun);
    }

    /// Whether `server` has served its project since it was seen, so that its start is over.
    pub(super) fn has_served(&self, project: &str, server: u32) -> bool {
        let known = self.known();
        let (seen, served) = (known.seen.get(&server), known.served.get(project));
        seen.is_some_and(|seen| served.is_some_and(|served| served > seen))
    }

    /// Whether the compute of `project` was dying at any moment since `since`.
    pub(super) fn compute_died(&self, project: &str, since: Instant) -> bool {
        self.died(since, |kill| {
            matches!(kill.part, Part::Agent | Part::Server) && kill.project == project
        })
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
