//! Asks control for a running compute: one wake in flight per project, everyone who needs it waits on that one.
//!
//! In: a project, who asks and until when. Out: a [`Running`] to dial, or a reason fit for the client. The wake lives as
//! long as somebody waits for it: when the last waiter is gone it is dropped. Retries are jittered and end with the
//! deadline of the waiter who started the flight; a later waiter with time left starts another.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use control_api::control as proto;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::route::{ComputeView, Project, Routes, Running};

/// Pauses between tries, before jitter: a compute that is almost there is asked for again soon, an absent control plane
/// is not hammered.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// From a client's first command to a compute connection, for projects that say nothing else.
    pub(crate) timeout: Duration,
}

/// Who asks, for the wake ledger.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause {
    pub(crate) user: String,
    pub(crate) client_address: String,
    pub(crate) program_name: String,
    pub(crate) command: &'static str,
}

/// One question to control.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) project: Box<str>,
    /// When that one was made.
    pub(crate) created_ms: i64,
    pub(crate) deadline: Duration,
    /// The incarnation that could not be reached, if one was tried.
    pub(crate) unreachable: Option<u64>,
    pub(crate) cause: Cause,
}

/// How control may answer that it has no compute.
#[derive(Debug, Clone)]
pub(crate) enum AskError {
    /// Ask again.
    Unavailable(String),
    /// It cannot be; the reason may be shown to the client.
    Refused(String),
    NoSuchProject,
}

/// Control, as far as this step needs it.
#[async_trait::async_trait]
pub(crate) trait ComputeSource: Send + Sync {
    /// Answers when the compute is ready. Cancel-safe.
    async fn wake(&self, ask: Ask) -> Result<proto::WakeReply, AskError>;
}

/// Why there is no compute.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WakeError {
    #[error("the database of project '{project}' did not start within {waited:?}{last}")]
    Deadline {
        project: Box<str>,
        waited: Duration,
        last: String,
    },
    #[error("the database of project '{project}' cannot start: {reason}")]
    Refused { project: Box<str>, reason: String },
    #[error("project '{project}' was deleted")]
    Removed { project: Box<str> },
}

/// A compute to dial, and how long the wake took where there was one.
#[derive(Debug, Clone)]
pub(crate) struct Woken {
    pub(crate) running: Arc<Running>,
    pub(crate) phases: Option<Phases>,
}

/// When the phases of a wake were over, since it was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phases {
    pub(crate) started: Duration,
    pub(crate) ready: Duration,
}

type Outcome = Option<Result<Woken, WakeError>>;

/// A wake in flight; dropping the last handle drops the wake.
pub(crate) struct Flight {
    outcome: watch::Receiver<Outcome>,
    /// Why the last try came to nothing, for those whose time is over.
    last: Arc<Mutex<String>>,
    _cancel_when_dropped: DropGuard,
}

/// Starts wakes and lets callers share them.
pub(crate) struct Wakes {
    config: ArcSwap<Config>,
    source: Arc<dyn ComputeSource>,
    routes: Arc<Routes>,
    /// Where flights run: a waiter's own thread may be gone before the flight is.
    runtime: Handle,
    flights: TaskTracker,
}

impl Wakes {
    pub(crate) fn new(config: Config, source: Arc<dyn ComputeSource>, routes: Arc<Routes>, runtime: Handle) -> Self {
        Self {
            config: ArcSwap::from_pointee(config),
            source,
            routes,
            runtime,
            flights: TaskTracker::new(),
        }
    }

    /// For commands that come from now on.
    pub(crate) fn adjust(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    /// Until when a command of this project that arrives now may wait.
    pub(crate) fn deadline(&self, project: &Project) -> Instant {
        Instant::now() + project.wake_timeout().unwrap_or(self.config.load().timeout)
    }

    /// A compute to dial; at once when one runs. `unreachable` is the incarnation that the caller dialled in vain.
    /// Cancel-safe: a caller that goes away only stops waiting.
    pub(crate) async fn running(
        &self,
        project: &Arc<Project>,
        cause: &Cause,
        deadline: Instant,
        unreachable: Option<u64>,
    ) -> Result<Woken, WakeError> {
        let asked = Instant::now();
        loop {
            match project.compute() {
                ComputeView::Ready(running) if Some(running.incarnation) != unreachable => {
                    return Ok(Woken { running, phases: None });
                }
                ComputeView::Removed => {
                    return Err(WakeError::Removed {
                        project: project.id.clone(),
                    });
                }
                _ => {}
            }
            let flight = self.join(project, cause, deadline, unreachable);
            let mut outcome = flight.outcome.clone();
            let landed = timeout_at(deadline, outcome.wait_for(Option::is_some)).await;
            let late = || WakeError::Deadline {
                project: project.id.clone(),
                waited: asked.elapsed(),
                last: flight.last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            };
            match landed {
                Err(_elapsed) => return Err(late()),
                // The flight's task was dropped with its runtime: the gateway is going down.
                Ok(Err(_closed)) => return Err(late()),
                Ok(Ok(outcome)) => match outcome.as_ref() {
                    Some(Err(WakeError::Deadline { .. })) if Instant::now() < deadline => {}
                    Some(result) => return result.clone(),
                    None => {}
                },
            }
        }
    }

    /// The flight in progress, or a new one.
    fn join(&self, project: &Arc<Project>, cause: &Cause, deadline: Instant, unreachable: Option<u64>) -> Arc<Flight> {
        let mut slot = project.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = slot.upgrade()
            && flight.outcome.borrow().is_none()
        {
            return flight;
        }
        let (sender, outcome) = watch::channel(None);
        let cancelled = CancellationToken::new();
        let last = Arc::default();
        let flight = Arc::new(Flight {
            outcome,
            last: Arc::clone(&last),
            _cancel_when_dropped: cancelled.clone().drop_guard(),
        });
        *slot = Arc::downgrade(&flight);
        let fly = fly(
            Arc::clone(&self.source),
            Arc::clone(&self.routes),
            Arc::downgrade(project),
            Ask {
                project: project.id.clone(),
                created_ms: project.created_ms,
                deadline: Duration::ZERO,
                unreachable,
                cause: cause.clone(),
            },
            deadline,
            last,
        );
        self.flights.spawn_on(
            async move {
                tokio::select! {
                    () = cancelled.cancelled() => tracing::debug!("wake dropped: nobody waits for it any more"),
                    outcome = fly => { sender.send_replace(Some(outcome)); }
                }
            },
            &self.runtime,
        );
        flight
    }
}

/// One wake, with its retries.
async fn fly(
    source: Arc<dyn ComputeSource>,
    routes: Arc<Routes>,
    project: Weak<Project>,
    mut ask: Ask,
    deadline: Instant,
    last: Arc<Mutex<String>>,
) -> Result<Woken, WakeError> {
    let failed = |why: &str| why.clone_into(&mut last.lock().unwrap_or_else(PoisonError::into_inner));
    let late = |id, asked: Instant| WakeError::Deadline {
        project: id,
        waited: asked.elapsed(),
        last: last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    };
    let id = ask.project.clone();
    let asked = Instant::now();
    let mut pause = RETRY_MIN;
    loop {
        ask.deadline = deadline.saturating_duration_since(Instant::now());
        let Some(project) = project.upgrade() else {
            return Err(WakeError::Removed { project: id });
        };
        match timeout_at(deadline, source.wake(ask.clone())).await {
            Err(_elapsed) => return Err(late(id, asked)),
            Ok(Ok(reply)) => match landed(&routes, &project, &reply) {
                Some(woken) => return Ok(woken),
                None => failed("; it stopped again at once"),
            },
            Ok(Err(AskError::Refused(reason))) => return Err(WakeError::Refused { project: id, reason }),
            Ok(Err(AskError::NoSuchProject)) => return Err(WakeError::Removed { project: id }),
            Ok(Err(AskError::Unavailable(why))) => {
                tracing::debug!(project = %id, why, "wake: asking again");
                failed(&format!("; {why}"));
            }
        }
        sleep_until(deadline.min(Instant::now() + jittered(pause))).await;
        if Instant::now() >= deadline {
            return Err(late(id, asked));
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Takes over what a wake's answer says. None: something newer is known, and it is not running.
fn landed(routes: &Routes, project: &Project, reply: &proto::WakeReply) -> Option<Woken> {
    if let Some(server) = &reply.server {
        routes.apply_server(project, server);
    }
    if let Some(compute) = &reply.compute {
        // A wake answers with a compute that is ready; drains come by the watch.
        drop(project.apply_compute(compute));
    }
    let ComputeView::Ready(running) = project.compute() else {
        return None;
    };
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let phases = (reply.ready_ms > 0).then(|| Phases {
        started: ms(reply.started_ms),
        ready: ms(reply.ready_ms),
    });
    Some(Woken { running, phases })
}

/// Half to one and a half of `pause`: many gateways that failed together do not ask again together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>())
}

#[cfg(test)]
mod tests;
