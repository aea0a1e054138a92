//! A compute connection for a session: wake, dial, log in, under one deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::accounts::Accounts;
use crate::compute::{self, ComputeConnection, DialError};
use crate::error::{ClientFacing, ErrorKind, Told};
use crate::route::{Project, Running, Seat};
use crate::session::Session;
use crate::wake::{Cause, Phases, WakeError, Wakes, jittered};

/// ER_ACCESS_DENIED_ERROR, ER_ACCOUNT_HAS_BEEN_LOCKED: a statement has changed the account, and the agent has not seen it yet.
const ACCOUNT_REFUSED: [u16; 2] = [1045, 4151];
/// Looks of the agent for one attach: an account is changed again right after a look now and then, not time after time.
const LOOKS_MAX: u32 = 3;
/// Pauses between tries to get a compute connection, before jitter.
const ATTACH_RETRY_MIN: Duration = Duration::from_millis(5);
const ATTACH_RETRY_MAX: Duration = Duration::from_millis(500);

/// How one try to connect to a compute goes: narrow, so that the loop around it runs in simulations, too.
pub(crate) trait Dial {
    type Connection;
    async fn dial(&mut self, running: &Running) -> Result<Self::Connection, DialError>;
    /// Its current database was dropped meanwhile; false: it has none, or has never used it.
    fn go_on_without_database(&mut self) -> bool;
}

impl Dial for Session {
    type Connection = ComputeConnection;

    async fn dial(&mut self, running: &Running) -> Result<ComputeConnection, DialError> {
        compute::connect(running, self).await
    }

    fn go_on_without_database(&mut self) -> bool {
        self.was_attached() && self.identity.database.take().is_some()
    }
}

/// Everything needed to get a compute connection.
pub(crate) struct Attach<'a, D> {
    pub(crate) wakes: &'a Wakes,
    /// Whom to ask where the compute refuses the account.
    pub(crate) accounts: &'a Accounts,
    pub(crate) project: &'a Arc<Project>,
    pub(crate) dial: &'a mut D,
    pub(crate) cause: Cause,
    pub(crate) deadline: Instant,
}

/// A session's compute connection.
pub(crate) struct Attached<C> {
    pub(crate) running: Arc<Running>,
    pub(crate) seat: Seat,
    pub(crate) connection: C,
    /// Where a wake was needed.
    pub(super) phases: Option<Phases>,
    /// When control was first asked, where it had to be.
    pub(super) asked: Instant,
}

/// Why none could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error(transparent)]
    Wake(#[from] WakeError),
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl ClientFacing for AttachError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Wake(_) => ErrorKind::Wake,
            Self::Dial(error) => error.kind(),
        }
    }

    fn told(&self) -> Option<Told> {
        match self {
            Self::Wake(error) => {
                let mut text = error.to_string();
                if let Some(first) = text.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                Some(Told::shutdown(text))
            }
            Self::Dial(error) => error.told(),
        }
    }
}

impl<D: Dial> Attach<'_, D> {
    /// Wake, dial, log in, under one deadline. What may be tried again is tried again until then.
    pub(crate) async fn run(self) -> Result<Attached<D::Connection>, AttachError> {
        let mut pause = ATTACH_RETRY_MIN;
        let mut unreachable = None;
        let mut denied_by = None;
        let mut looks = 0;
        let mut phases = None;
        let asked = Instant::now();
        loop {
            let woken = self
                .wakes
                .running(self.project, &self.cause, self.deadline, unreachable)
                .await?;
            phases = phases.or(woken.phases);
            let running = woken.running;
            // None: a drain has begun in this moment, and the view says so by now.
            let Some(seat) = running.seat() else { continue };
            let error = match timeout_at(self.deadline, self.dial.dial(&running)).await {
                Ok(Ok(connection)) => {
                    return Ok(Attached {
                        running,
                        seat,
                        connection,
                        phases,
                        asked,
                    });
                }
                Ok(Err(error)) => error,
                Err(_elapsed) => DialError::Unreachable(std::io::ErrorKind::TimedOut.into()),
            };
            drop(seat);
            unreachable = match &error {
                DialError::Unreachable(_) => Some(running.incarnation),
                // What a statement has just taken from the account, or put on it, the agent sets right as it looks. Or the
                // secret is older than the server that answers, because control was not heard since: it says so when it
                // is asked, and one that it calls the present one is believed.
                DialError::Refused(told) if ACCOUNT_REFUSED.contains(&told.code) && looks < LOOKS_MAX => {
                    looks += 1;
                    let looked = self.accounts.changed(&self.project.id, running.incarnation);
                    let _ = timeout_at(self.deadline, looked).await;
                    if self.project.access().user(&self.cause.user).is_none() {
                        return Err(error.into());
                    }
                    denied_by
                        .replace(running.incarnation)
                        .is_none_or(|before| before != running.incarnation)
                        .then_some(running.incarnation)
                }
                DialError::NoPlace(_) => {
                    running.want_place();
                    None
                }
                // Its current database was dropped meanwhile: it goes on with none, as on a connection of its own.
                DialError::NoDatabase(_) if self.dial.go_on_without_database() => continue,
                _ => return Err(error.into()),
            };
            let again = Instant::now() + jittered(pause);
            if again >= self.deadline {
                return Err(error.into());
            }
            tracing::debug!(project = %self.project.id, reason = %error, "dialling again");
            tokio::select! {
                () = sleep(again - Instant::now()) => {}
                () = running.place_freed(), if unreachable.is_none() => {}
            }
            pause = (pause * 2).min(ATTACH_RETRY_MAX);
        }
    }
}
