//! What keeps a project awake, as this gateway sees it: its clients, those that hold a compute connection, commands in
//! flight, and when the last one was. Counted by guards, so that nothing is left over when a connection ends.

use std::collections::HashMap;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};

use control_api::control as proto;
use tokio::time::Instant;

use crate::route::Project;
use crate::session::life::Pin;

/// Pinned sessions that are named in a report; the count is of all.
const NAMED_MAX: usize = 16;

/// Counters of one project at this gateway.
#[derive(Default)]
pub(crate) struct Activity {
    clients: AtomicU32,
    attached: AtomicU32,
    in_flight: AtomicU32,
    /// Milliseconds on the gateway's clock (see [`Clock`]) when a command last ended.
    last_ms: AtomicU64,
    /// Changes with all that is counted here, but for commands.
    changes: AtomicU64,
    /// Sessions that cannot leave their compute connection, by connection id.
    pinned: Mutex<HashMap<u32, PinnedSince>>,
}

struct PinnedSince {
    who: Who,
    pin: Pin,
    since: Instant,
}

/// Whose session it is, for those who ask what keeps a project awake.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) connection_id: u32,
    pub(crate) user: Arc<str>,
    pub(crate) client_address: Arc<str>,
    pub(crate) program_name: Arc<str>,
}

/// The gateway's own clock: milliseconds since it started.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_ms(self) -> u64 {
        self.ms(Instant::now())
    }

    fn ms(self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Where a project's counters stood at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    in_flight: u32,
    last_ms: u64,
    others: u64,
}

impl Activity {
    /// Differs when there is something new to report since it was last asked for.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            in_flight: self.in_flight.load(Acquire),
            last_ms: self.last_ms.load(Relaxed),
            others: self.changes.load(Relaxed),
        }
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.clients.load(Relaxed) > 0
    }

    fn pinned(&self) -> std::sync::MutexGuard<'_, HashMap<u32, PinnedSince>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self, project: &str, incarnation: u64, clock: Clock) -> proto::ProjectActivity {
        let pinned = self.pinned();
        let named = pinned.values().take(NAMED_MAX).map(|pinned| proto::PinnedSession {
            connection_id: pinned.who.connection_id,
            user: pinned.who.user.to_string(),
            client_address: pinned.who.client_address.to_string(),
            program_name: pinned.who.program_name.to_string(),
            reason: pinned.pin.as_str().to_owned(),
            idle_ms: u64::try_from(pinned.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        let in_flight = self.in_flight.load(Acquire);
        let idle_ms = clock.now_ms().saturating_sub(self.last_ms.load(Relaxed));
        proto::ProjectActivity {
            project: project.to_owned(),
            incarnation,
            clients: self.clients.load(Relaxed),
            attached: self.attached.load(Relaxed),
            commands_in_flight: in_flight,
            idle_ms: if in_flight > 0 { 0 } else { idle_ms },
            pinned: u32::try_from(pinned.len()).unwrap_or(u32::MAX),
            pinned_sessions: named.collect(),
        }
    }
}

/// What a guard counts.
#[derive(Clone, Copy)]
enum Counted {
    Client,
    Attached,
}

/// Counts one client or one attached session of a project while it lives.
pub(crate) struct Counting {
    project: Arc<Project>,
    counted: Counted,
}

impl Counting {
    /// One more client. None: there are as many as there may be.
    pub(crate) fn client(project: &Arc<Project>, max: u32) -> Option<Self> {
        let room = |clients: u32| (clients < max).then_some(clients + 1);
        let clients = &project.activity.clients;
        clients.fetch_update(Relaxed, Relaxed, room).ok()?;
        Some(Self::counted(project, Counted::Client))
    }

    pub(crate) fn attached(project: &Arc<Project>) -> Self {
        project.activity.attached.fetch_add(1, Relaxed);
        Self::counted(project, Counted::Attached)
    }

    /// It is counted by now.
    fn counted(project: &Arc<Project>, counted: Counted) -> Self {
        project.activity.changes.fetch_add(1, Relaxed);
        Self {
            project: Arc::clone(project),
            counted,
        }
    }

    fn counter(&self) -> &AtomicU32 {
        match self.counted {
            Counted::Client => &self.project.activity.clients,
            Counted::Attached => &self.project.activity.attached,
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.counter().fetch_sub(1, Relaxed);
        self.project.activity.changes.fetch_add(1, Relaxed);
    }
}

/// Names a project's pinned sessions; one session's.
pub(crate) struct Pins {
    pub(crate) project: Arc<Project>,
    pub(crate) who: Who,
}

impl Pins {
    /// While the guard lives, this session is named as pinned. `since`: its last command.
    pub(crate) fn pinned(&self, pin: Pin, since: Instant) -> Pinned {
        let who = self.who.clone();
        let connection_id = who.connection_id;
        let activity = &self.project.activity;
        activity.pinned().insert(connection_id, PinnedSince { who, pin, since });
        activity.changes.fetch_add(1, Relaxed);
        Pinned {
            project: Arc::clone(&self.project),
            connection_id,
            pin,
        }
    }
}

/// A session is tied to its compute connection.
pub(crate) struct Pinned {
    project: Arc<Project>,
    connection_id: u32,
    pub(crate) pin: Pin,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let activity = &self.project.activity;
        activity.pinned().remove(&self.connection_id);
        activity.changes.fetch_add(1, Relaxed);
    }
}

/// Tells a project's activity whether one session has commands in flight: an atomic when they begin, two when they end.
pub(crate) struct InFlight {
    project: Arc<Project>,
    clock: Clock,
    busy: bool,
}

impl InFlight {
    pub(crate) fn new(project: &Arc<Project>, clock: Clock) -> Self {
        Self {
            project: Arc::clone(project),
            clock,
            busy: false,
        }
    }

    pub(crate) fn begun(&mut self) {
        if !std::mem::replace(&mut self.busy, true) {
            self.project.activity.in_flight.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn ended(&mut self, at: Instant) {
        if std::mem::replace(&mut self.busy, false) {
            let activity = &self.project.activity;
            activity.last_ms.store(self.clock.ms(at), Relaxed);
            // Whoever sees it gone sees when.
            activity.in_flight.fetch_sub(1, Release);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.ended(Instant::now());
    }
}
