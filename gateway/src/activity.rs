//! What keeps a project awake, as this gateway sees it: its clients, those that hold a compute connection, commands in
//! flight, and when the last one was. Counted by guards, so that nothing is left over when a connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use control_api::control as proto;
use tokio::time::Instant;

use crate::route::Project;

/// Counters of one project at this gateway.
#[derive(Default)]
pub(crate) struct Activity {
    clients: AtomicU32,
    attached: AtomicU32,
    in_flight: AtomicU32,
    /// Changes whenever there is something to report.
    changes: AtomicU64,
    /// Milliseconds on the gateway's clock (see [`Clock`]) when a command last began or ended.
    last_ms: AtomicU64,
}

/// The gateway's own clock: milliseconds since it started.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Activity {
    /// A number that differs when the counters have moved since it was last asked for.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.clients.load(Relaxed) > 0
    }

    pub(crate) fn report(&self, project: &str, incarnation: u64, clock: Clock) -> proto::ProjectActivity {
        proto::ProjectActivity {
            project: project.to_owned(),
            incarnation,
            clients: self.clients.load(Relaxed),
            attached: self.attached.load(Relaxed),
            commands_in_flight: self.in_flight.load(Relaxed),
            idle_ms: clock.now_ms().saturating_sub(self.last_ms.load(Relaxed)),
            ..proto::ProjectActivity::default()
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
    pub(crate) fn client(project: &Arc<Project>) -> Self {
        Self::start(project, Counted::Client)
    }

    pub(crate) fn attached(project: &Arc<Project>) -> Self {
        Self::start(project, Counted::Attached)
    }

    fn start(project: &Arc<Project>, counted: Counted) -> Self {
        let this = Self {
            project: Arc::clone(project),
            counted,
        };
        this.counter().fetch_add(1, Relaxed);
        this.project.activity.changes.fetch_add(1, Relaxed);
        this
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

/// Tells a project's activity whether one session has commands in flight; two atomics per busy period, none per packet.
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

    pub(crate) fn set(&mut self, busy: bool) {
        if busy == self.busy {
            return;
        }
        self.busy = busy;
        let activity = &self.project.activity;
        if busy {
            activity.in_flight.fetch_add(1, Relaxed);
        } else {
            activity.in_flight.fetch_sub(1, Relaxed);
        }
        activity.last_ms.store(self.clock.now_ms(), Relaxed);
        activity.changes.fetch_add(1, Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.set(false);
    }
}
