//! A gateway for simulations. Real: its talk with control (gRPC, over whatever bytes the simulation carries), routes,
//! wakes, the loop that attaches, seats, the answers to drains, activity, verifiers, the table of a session's life.
//! Simulated: client and compute connections, and the relay between them, which is [`session`] here: it makes the calls
//! that `relay.rs` and `relay/park.rs` make, in their order, for commands instead of bytes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::accounts::Accounts;
use crate::activity::{Clock, Counting};
use crate::auth::{self, Decoy};
use crate::compute::DialError;
use crate::control::{self, Control};
use crate::error::Told;
use crate::relay;
use crate::route::{Project, Routes};
use crate::wake::{self, Wakes};

mod session;

pub use session::{Answer, Command, Session};

/// What one try to reach a compute came to.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody listens.
    Unreachable,
    /// The secret is not the one of the compute that answers.
    Secret,
}

/// How a command at a compute ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// Answered; whether a transaction is open after it.
    Answered {
        /// As the status flags of an OK say.
        in_transaction: bool,
    },
    /// The connection was gone before anything of it was sent.
    Unsent,
    /// The connection broke with the command under way.
    Broken,
}

/// A command's effect at the compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// Autocommitted, or a part of the transaction that is open.
    Write,
    /// BEGIN.
    Begin,
    /// COMMIT.
    Commit,
}

/// Where computes are dialled.
#[async_trait::async_trait]
pub trait Network: Send + Sync + 'static {
    /// Logs in at the socket with that incarnation's secret.
    async fn dial(&self, socket: &Path, incarnation: u64) -> Result<Box<dyn Connection>, Refusal>;
}

/// A connection to a compute; dropped, it is closed.
#[async_trait::async_trait]
pub trait Connection: Send {
    /// Runs one statement. Dropped, it is cut.
    async fn run(&mut self, id: u64, statement: Statement) -> Ran;
    /// Whether a transaction ties the session; `None`: it is gone.
    async fn inventory(&mut self) -> Option<bool>;
    /// Resolves when it is gone. Cancel-safe.
    async fn gone(&self);
}

/// One gateway. Dropped, it is as if killed.
pub struct Gateway {
    shared: Arc<Shared>,
    known: watch::Receiver<bool>,
    _services: JoinSet<()>,
}

struct Shared {
    routes: Arc<Routes>,
    wakes: Wakes,
    accounts: Accounts,
    decoy: Decoy,
    clock: Clock,
    park: relay::Config,
    network: Arc<dyn Network>,
    connections: AtomicU32,
}

impl Gateway {
    /// Begins to watch control through `connect`.
    pub fn start(connect: impl FnOnce(Endpoint) -> Channel, token: &str, network: Arc<dyn Network>) -> Self {
        let routes = Arc::new(Routes::default());
        let endpoint = control::endpoint("http://control").expect("an address");
        let token = MetadataValue::try_from(format!("Bearer {token}")).expect("a token");
        let control = Control::over(connect(endpoint), token, Arc::clone(&routes));
        let wake = wake::Config {
            timeout: Duration::from_secs(60),
        };
        let clock = Clock::start();
        let shared = Arc::new(Shared {
            wakes: Wakes::new(wake, Arc::new(control.clone()), Arc::clone(&routes), Handle::current()),
            routes: Arc::clone(&routes),
            accounts: Accounts::new(control.clone()),
            decoy: Decoy::random(),
            clock,
            park: relay::Config {
                after: Duration::from_secs(5),
                pinned_idle_timeout: Duration::from_secs(600),
            },
            network,
            connections: AtomicU32::new(0),
        });
        let (known_here, known) = watch::channel(false);
        let mut services = JoinSet::new();
        services.spawn(control.clone().watch(known_here));
        services.spawn(control.report(routes, clock));
        Self {
            shared,
            known,
            _services: services,
        }
    }

    /// Whether it knows its projects, and takes clients.
    pub fn is_ready(&self) -> bool {
        *self.known.borrow()
    }

    /// A client logs in; `None`: it is told that access is denied. Control hears nothing of it.
    pub fn log_in(&self, project: &str, user: &str, password: &str) -> Option<Session> {
        let nonce = [7; 20];
        let answer = auth::native_response(password.as_bytes(), &nonce);
        let project = self.shared.routes.project(project)?;
        auth::proves(&project, user, &answer, &nonce, &self.shared.decoy).then_some(())?;
        self.session(project, user)
    }

    fn session(&self, project: Arc<Project>, user: &str) -> Option<Session> {
        let counted = Counting::client(&project, u32::MAX)?;
        let id = self.shared.connections.fetch_add(1, Relaxed);
        Some(Session::new(Arc::clone(&self.shared), project, user, id, counted))
    }
}

impl From<Refusal> for DialError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unreachable => Self::Unreachable(std::io::ErrorKind::ConnectionRefused.into()),
            Refusal::Secret => Self::Refused(Told::new(1045, "28000", "Access denied")),
        }
    }
}
