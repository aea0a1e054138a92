//! What the gateway knows of each project: who may log in, which databases there are, where its compute runs.
//!
//! In: the watched events of control. Out: a [`Project`] by name, without a look-up anywhere else: a name that is not
//! here is unknown. Versions and incarnations fence: an older incarnation never replaces a newer one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use control_api::control as proto;
use control_api::networks::Networks;
use dashmap::DashMap;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use crate::activity::Activity;
use crate::drain::Signal;
use crate::quota::{Limits, Quotas};
use crate::wake::Flight;

/// Every project this gateway knows.
#[derive(Default)]
pub(crate) struct Routes {
    projects: DashMap<Box<str>, Arc<Project>>,
    /// What the greeting says of the server, before a project is known: the one that control spoke of last.
    server: ArcSwapOption<Server>,
}

/// A project as this gateway knows it.
pub(crate) struct Project {
    pub(crate) id: Box<str>,
    access: ArcSwap<Access>,
    server: ArcSwapOption<Server>,
    compute: RwLock<Known>,
    wake_timeout: ArcSwapOption<Duration>,
    pinned_idle_timeout: ArcSwapOption<Duration>,
    /// Where clients may come from. None: from anywhere.
    allowed_networks: ArcSwapOption<Networks>,
    /// Tells sessions without a compute to look at `allowed_networks`.
    networks_changed: Notify,
    /// The wake in flight, kept alive by those who wait for it.
    pub(crate) flight: Mutex<Weak<Flight>>,
    pub(crate) activity: Activity,
    pub(crate) quotas: Quotas,
}

/// Which project a login is for, and the user's name there. `named`: what the client has named besides its login name, by
/// server name or attribute; then the project may stand in front of the name once more. Otherwise the first dot splits, and a
/// name without one names no project.
pub(crate) fn split_name<'a>(name: &'a str, named: Option<&'a str>) -> (Option<&'a str>, &'a str) {
    let Some(project) = named else {
        return match name.split_once('.') {
            Some((project, user)) => (Some(project), user),
            None => (None, name),
        };
    };
    let again = name.strip_prefix(project).and_then(|rest| rest.strip_prefix('.'));
    (Some(project), again.unwrap_or(name))
}

/// The project that a server name asks for: the one label in front of a domain below which projects are.
pub(crate) fn project_of_server_name<'a>(server: &'a str, domains: &[String]) -> Option<&'a str> {
    let (project, below) = server.split_once('.')?;
    let known = domains.iter().any(|domain| domain.eq_ignore_ascii_case(below));
    (known && !project.is_empty()).then_some(project)
}

/// Who may log in to a project, and to which of its databases.
#[derive(Default)]
pub(crate) struct Access {
    // Sorted, and no larger than they must be: there may be 100,000 projects with one user and one database each, and a
    // table of hashes has room for three more of each.
    users: Box<[(Box<str>, User)]>,
    databases: Box<[Box<str>]>,
}

/// A user's verifiers and rights; never a password.
pub(crate) struct User {
    /// SHA1(SHA1(password)).
    pub(crate) native: Option<[u8; 20]>,
    /// SHA256(SHA256(password)).
    pub(crate) caching_sha2: Option<[u8; 32]>,
    /// Further passwords of the account, as `native`.
    pub(crate) more_native: Vec<[u8; 20]>,
    /// Public keys; any of them proves it, too.
    pub(crate) ed25519: Box<[[u8; 32]]>,
    granted_databases: Vec<Box<str>>,
    pub(crate) locked: bool,
    pub(crate) require: Require,
    limits: Option<Box<Limits>>,
    /// Seconds since 1970, from when on the password must be replaced. 0: never.
    password_expires_s: u64,
}

/// What an account requires of a connection, besides the password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Require {
    #[default]
    Nothing,
    Tls,
    /// A client certificate that somebody vouches for whom the gateway trusts.
    Certificate,
    /// What is said of these; at least TLS.
    Specified(Box<Specified>),
}

/// In OpenSSL's words, as MariaDB compares them; None: whatever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Specified {
    pub(crate) cipher: Option<Box<str>>,
    pub(crate) issuer: Option<Box<str>>,
    pub(crate) subject: Option<Box<str>>,
}

/// What a project's server says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// `@@version`.
    pub(crate) version: String,
    /// Global variables by lower-case name.
    pub(crate) variables: HashMap<String, String>,
}

/// Where a project's compute stands.
#[derive(Clone, Debug)]
pub(crate) enum ComputeView {
    Suspended,
    Starting,
    Ready(Arc<Running>),
    Draining,
    /// The next wake tries again, and tells what keeps it from running.
    Failed,
    /// The project is gone.
    Removed,
}

/// A compute that can be dialled.
pub(crate) struct Running {
    pub(crate) incarnation: u64,
    pub(crate) socket: PathBuf,
    /// The password of the gateway's own method on every account there.
    pub(crate) secret: Zeroizing<Vec<u8>>,
    /// It is going or gone: sessions end.
    closing: Signal,
    wanted: AtomicU32,
    /// Tells attached sessions to look at `wanted`.
    nudge: Notify,
    /// How often; for those that look at every turn, at the price of a load.
    nudges: AtomicU32,
    /// Why it is drained.
    drained_because: ArcSwapOption<String>,
    /// Sessions that hold a connection to it, and who waits for there to be none.
    seated: watch::Sender<usize>,
    /// Wakes one who waits for a place.
    freed: Notify,
    /// Why a session has said that it cannot park, since the drain began.
    refusal: watch::Sender<Option<String>>,
}

/// `Running::wanted`: it is to be suspended, and sessions park where they can.
const DRAIN: u32 = 1 << 31;
/// `Running::wanted`: sessions that cannot park are to end.
const FORCED: u32 = 1 << 30;
/// The rest of `Running::wanted`: so many connections are wanted for others.
const PLACES: u32 = FORCED - 1;
/// More than waiters at one time would only park sessions for nothing.
const PLACES_MAX: u32 = 1024;

/// Why a session is asked to give up its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The compute is to be suspended, if every session can park.
    Drain,
    /// The compute is going to be suspended.
    Forced,
    /// Somebody waits for a connection.
    Place,
}

/// A session's place at a compute, held while it is attached.
pub(crate) struct Seat(Arc<Running>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seated.send_modify(|seated| *seated -= 1);
        self.0.freed.notify_one();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("incarnation", &self.incarnation)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Running {
    pub(crate) fn new(incarnation: u64, socket: PathBuf, secret: Vec<u8>) -> Self {
        Self {
            incarnation,
            socket,
            secret: Zeroizing::new(secret),
            closing: Signal::default(),
            wanted: AtomicU32::new(0),
            nudge: Notify::new(),
            nudges: AtomicU32::new(0),
            drained_because: ArcSwapOption::empty(),
            seated: watch::Sender::new(0),
            freed: Notify::new(),
            refusal: watch::Sender::new(None),
        }
    }

    /// Raised when sessions must let go of this compute.
    pub(crate) fn closing(&self) -> &Signal {
        &self.closing
    }

    /// Somebody wants sessions to give up their connections. One load.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed) != 0
    }

    /// Why this session is asked to give up its connection. A place that is asked for is asked of one session only.
    pub(crate) fn asked(&self) -> Option<Asked> {
        if let Some(draining) = self.draining() {
            return Some(draining);
        }
        let one_less = |wanted: u32| (wanted & PLACES != 0).then(|| wanted - 1);
        self.wanted
            .fetch_update(Relaxed, Relaxed, one_less)
            .ok()
            .map(|_| Asked::Place)
    }

    /// Why every session is asked to give up its connection; None: no drain is on.
    pub(crate) fn draining(&self) -> Option<Asked> {
        match self.wanted.load(Relaxed) {
            wanted if wanted & DRAIN == 0 => None,
            wanted if wanted & FORCED == 0 => Some(Asked::Drain),
            _ => Some(Asked::Forced),
        }
    }

    /// For clients to read.
    pub(crate) fn draining_reason(&self) -> String {
        let because = self.drained_because.load_full();
        because.map_or_else(|| "the compute is being suspended".into(), |because| (*because).clone())
    }

    /// Completes when a session has left; one of those who wait is told. Cancel-safe.
    pub(crate) async fn place_freed(&self) {
        self.freed.notified().await;
    }

    /// Completes at the next change of what is wanted. To be polled once before `is_wanted` is asked.
    pub(crate) fn nudged(&self) -> Notified<'_> {
        self.nudge.notified()
    }

    /// Differs when there was a nudge in between. A task that has polled [`Self::nudged`] is woken by the next one.
    pub(crate) fn nudges(&self) -> u32 {
        self.nudges.load(Acquire)
    }

    fn nudge(&self) {
        self.nudges.fetch_add(1, Release);
        self.nudge.notify_waiters();
    }

    /// One connection is wanted for another session.
    pub(crate) fn want_place(&self) {
        let one_more = |wanted: u32| (wanted & PLACES < PLACES_MAX).then(|| wanted + 1);
        let _ = self.wanted.fetch_update(Relaxed, Relaxed, one_more);
        self.nudge();
    }

    fn drain(&self, said: &proto::Compute) {
        let forced = said.forced;
        let because = (!said.reason.is_empty()).then(|| Arc::new(said.reason.clone()));
        self.drained_because.store(because);
        self.refusal.send_replace(None);
        self.wanted
            .fetch_or(if forced { DRAIN | FORCED } else { DRAIN }, Relaxed);
        self.nudge();
    }

    /// The suspend was called off.
    fn stay(&self) {
        self.wanted.fetch_and(PLACES, Relaxed);
    }

    /// A session cannot park.
    pub(crate) fn refuse(&self, reason: &str) {
        self.refusal.send_if_modified(|refusal| {
            let first = refusal.is_none();
            refusal.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    /// Completes when a session has said that it cannot park, with its reason. Cancel-safe.
    pub(crate) async fn refused(&self) -> String {
        let mut refusal = self.refusal.subscribe();
        // The sender lives as long as `self`.
        match refusal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// A place for one more session. None: it is going to be suspended. Whoever waits for it to be empty waits for this
    /// seat, too.
    pub(crate) fn seat(self: &Arc<Self>) -> Option<Seat> {
        self.seated.send_modify(|seated| *seated += 1);
        let seat = Seat(Arc::clone(self));
        (self.wanted.load(Relaxed) & DRAIN == 0).then_some(seat)
    }

    /// Completes when no session holds a connection to it. Cancel-safe.
    pub(crate) async fn empty(&self) {
        // The sender lives as long as `self`.
        let _ = self.seated.subscribe().wait_for(|seated| *seated == 0).await;
    }
}

/// May this user use this database?
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum DatabaseAccess {
    Granted,
    /// MariaDB's 1044.
    Denied,
    /// MariaDB's 1049: the right is there, the database is not.
    Unknown,
}

impl Access {
    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        let at = self.users.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.users[at].1)
    }

    /// None at all for a name that is not there.
    pub(crate) fn limits(&self, name: &str) -> Limits {
        let limits = self.user(name).and_then(|user| user.limits.as_deref());
        limits.copied().unwrap_or_default()
    }

    /// By this machine's clock.
    pub(crate) fn password_has_expired(&self, name: &str) -> bool {
        let Some(expires_s) = self.user(name).map(|user| user.password_expires_s) else {
            return false;
        };
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        expires_s != 0 && since_1970.is_ok_and(|now| now.as_secs() >= expires_s)
    }

    /// As MariaDB answers for a user who has rights on databases only.
    pub(crate) fn database(&self, user: &User, database: &str) -> DatabaseAccess {
        if database.eq_ignore_ascii_case("information_schema") {
            return DatabaseAccess::Granted;
        }
        let granted = user
            .granted_databases
            .iter()
            .any(|pattern| matches_pattern(pattern.as_bytes(), database.as_bytes()));
        let exists = self.databases.binary_search_by(|known| (**known).cmp(database)).is_ok();
        match (granted, exists) {
            (true, true) => DatabaseAccess::Granted,
            (true, false) => DatabaseAccess::Unknown,
            (false, _) => DatabaseAccess::Denied,
        }
    }
}

/// MariaDB's pattern of a database-level grant: `%` any bytes, `_` one byte, `\` takes the next literally.
fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'%', rest @ ..] => (0..=name.len()).any(|skip| matches_pattern(rest, &name[skip..])),
        [b'_', rest @ ..] => !name.is_empty() && matches_pattern(rest, &name[1..]),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            name.first() == Some(literal) && matches_pattern(rest, &name[1..])
        }
    }
}

impl Project {
    fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            access: ArcSwap::default(),
            server: ArcSwapOption::empty(),
            compute: RwLock::new(Known {
                fence: Fence::default(),
                view: ComputeView::Suspended,
                draining: None,
            }),
            wake_timeout: ArcSwapOption::empty(),
            pinned_idle_timeout: ArcSwapOption::empty(),
            allowed_networks: ArcSwapOption::empty(),
            networks_changed: Notify::new(),
            flight: Mutex::new(Weak::new()),
            activity: Activity::default(),
            quotas: Quotas::default(),
        }
    }

    pub(crate) fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// Absent until control has said something of a server.
    pub(crate) fn server(&self) -> Option<Arc<Server>> {
        self.server.load_full()
    }

    pub(crate) fn wake_timeout(&self) -> Option<Duration> {
        self.wake_timeout.load().as_deref().copied()
    }

    /// How long a session that cannot leave its compute connection may idle.
    pub(crate) fn pinned_idle_timeout(&self) -> Option<Duration> {
        self.pinned_idle_timeout.load().as_deref().copied()
    }

    /// May a client come from there?
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        self.allowed_networks
            .load()
            .as_deref()
            .is_none_or(|networks| networks.contains(ip))
    }

    /// Completes when a client from there may be here no more. Cancel-safe.
    pub(crate) async fn shuts_out(&self, ip: IpAddr) {
        loop {
            // Before the look: a change right after it is not missed.
            let changed = self.networks_changed.notified();
            if !self.admits(ip) {
                return;
            }
            changed.await;
        }
    }

    /// Where clients may come from, from now on; sessions look whether they still may be here.
    fn allow(&self, networks: &[String]) {
        let allowed = (!networks.is_empty()).then(|| {
            Networks::parse(networks).unwrap_or_else(|error| {
                // Control has checked them. What cannot be read lets nobody in: it was meant to keep somebody out.
                tracing::error!(project = %self.id, %error, "an allowed network that is none: nobody is let in");
                Networks::default()
            })
        });
        if self.allowed_networks.load().as_deref() == allowed.as_ref() {
            return;
        }
        self.allowed_networks.store(allowed.map(Arc::new));
        self.networks_changed.notify_waiters();
        let known = self.known();
        let ready = match &known.view {
            ComputeView::Ready(running) => Some(running),
            _ => known.draining.as_ref(),
        };
        if let Some(running) = ready {
            running.nudge();
        }
    }

    pub(crate) fn compute(&self) -> ComputeView {
        self.compute.read().unwrap_or_else(PoisonError::into_inner).view.clone()
    }

    /// Takes over what control says of the compute, unless something newer is known. Returns a compute that is to be
    /// emptied for a suspend.
    pub(crate) fn apply_compute(&self, said: &proto::Compute) -> Option<Arc<Running>> {
        let fence = Fence {
            incarnation: said.incarnation,
            round: said.round,
            step: step(said.state()),
        };
        let mut known = self.known();
        let repeated = fence == known.fence && matches!(known.view, ComputeView::Ready(_));
        if fence < known.fence || repeated {
            return None;
        }
        known.replace(fence, view(said), said)
    }

    fn remove(&self) {
        let said = proto::Compute {
            reason: "the project was deleted".into(),
            ..Default::default()
        };
        let mut known = self.known();
        let fence = known.fence;
        known.replace(fence, ComputeView::Removed, &said);
    }

    /// For a change. Each is complete before anything can panic.
    fn known(&self) -> RwLockWriteGuard<'_, Known> {
        self.compute.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn apply(&self, said: &proto::Project) -> Option<Arc<Running>> {
        let mut users: Vec<(Box<str>, User)> = Vec::with_capacity(said.users.len());
        users.extend(
            said.users
                .iter()
                .map(|user| (user.name.as_str().into(), User::from(user))),
        );
        users.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut databases: Vec<Box<str>> = said.databases.iter().map(|name| name.as_str().into()).collect();
        databases.sort_unstable();
        let (users, databases) = (users.into(), databases.into());
        let access = Arc::new(Access { users, databases });
        self.quotas.limits_are(|name| access.limits(name));
        self.access.store(access);
        let own = |ms: u32| (ms > 0).then(|| Arc::new(Duration::from_millis(ms.into())));
        self.wake_timeout.store(own(said.wake_timeout_ms));
        self.pinned_idle_timeout.store(own(said.pinned_idle_timeout_ms));
        self.allow(&said.allowed_networks);
        said.compute.as_ref().and_then(|compute| self.apply_compute(compute))
    }
}

/// What orders two things said of one project's compute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Fence {
    incarnation: u64,
    /// Grows when a drain is called off, after which the same incarnation is ready again.
    round: u32,
    /// How far along its life, so that a late "ready" does not undo a "draining" of the same incarnation.
    step: u8,
}

struct Known {
    fence: Fence,
    view: ComputeView,
    /// The compute that is being drained.
    draining: Option<Arc<Running>>,
}

impl Known {
    /// Returns a compute whose sessions have been asked to park.
    fn replace(&mut self, fence: Fence, view: ComputeView, said: &proto::Compute) -> Option<Arc<Running>> {
        let running = match &self.view {
            ComputeView::Ready(running) => Some(Arc::clone(running)),
            _ => self.draining.take(),
        };
        (self.fence, self.view) = (fence, view);
        let running = running?;
        match &mut self.view {
            ComputeView::Draining => {
                running.drain(said);
                self.draining = Some(Arc::clone(&running));
                return Some(running);
            }
            // The drain was called off: sessions that stayed are where they were.
            ComputeView::Ready(again) if again.incarnation == running.incarnation => {
                running.stay();
                *again = running;
            }
            _ => running.closing.raise(&closing_reason(said)),
        }
        None
    }
}

fn step(state: proto::ComputeState) -> u8 {
    match state {
        proto::ComputeState::Unspecified => 0,
        proto::ComputeState::Starting => 1,
        proto::ComputeState::Ready => 2,
        proto::ComputeState::Draining => 3,
        proto::ComputeState::Suspended | proto::ComputeState::Failed => 4,
    }
}

fn view(said: &proto::Compute) -> ComputeView {
    match said.state() {
        proto::ComputeState::Ready => ComputeView::Ready(Arc::new(Running::new(
            said.incarnation,
            PathBuf::from(&said.socket_path),
            said.gateway_secret.clone(),
        ))),
        proto::ComputeState::Starting => ComputeView::Starting,
        proto::ComputeState::Draining => ComputeView::Draining,
        proto::ComputeState::Failed => ComputeView::Failed,
        proto::ComputeState::Suspended | proto::ComputeState::Unspecified => ComputeView::Suspended,
    }
}

fn closing_reason(said: &proto::Compute) -> String {
    if !said.reason.is_empty() {
        return said.reason.clone();
    }
    match said.state() {
        proto::ComputeState::Draining | proto::ComputeState::Suspended => "the compute is being suspended".into(),
        _ => "the compute stopped".into(),
    }
}

impl From<&proto::User> for User {
    fn from(said: &proto::User) -> Self {
        Self {
            // A verifier of another length verifies nothing: the account then has none.
            native: said.native_sha1.as_slice().try_into().ok(),
            caching_sha2: said.caching_sha2.as_slice().try_into().ok(),
            more_native: said
                .more_native_sha1
                .iter()
                .filter_map(|verifier| verifier.as_slice().try_into().ok())
                .collect(),
            ed25519: said
                .ed25519_keys
                .iter()
                .filter_map(|key| key.as_slice().try_into().ok())
                .collect(),
            locked: said.locked,
            require: match said.require() {
                proto::Require::None => Require::Nothing,
                proto::Require::Ssl => Require::Tls,
                proto::Require::Certificate => Require::Certificate,
                proto::Require::Specified => {
                    let given = |text: &str| (!text.is_empty()).then(|| text.into());
                    Require::Specified(Box::new(Specified {
                        cipher: given(&said.require_cipher),
                        issuer: given(&said.require_issuer),
                        subject: given(&said.require_subject),
                    }))
                }
            },
            limits: said.limits.as_ref().map(|limits| {
                Box::new(Limits {
                    queries_per_hour: limits.queries_per_hour,
                    updates_per_hour: limits.updates_per_hour,
                    connections_per_hour: limits.connections_per_hour,
                    user_connections: limits.user_connections,
                })
            }),
            password_expires_s: if said.password_expired {
                1
            } else {
                said.password_expires_s
            },
            granted_databases: said
                .granted_databases
                .iter()
                .map(|pattern| pattern.as_str().into())
                .collect(),
        }
    }
}

impl Routes {
    pub(crate) fn project(&self, id: &str) -> Option<Arc<Project>> {
        self.projects.get(id).map(|entry| Arc::clone(entry.value()))
    }

    /// The server that a client is greeted for, before its project is known.
    pub(crate) fn server(&self) -> Option<Arc<Server>> {
        self.server.load_full()
    }

    /// Takes over what control says of a project. Returns a compute that is to be emptied for a suspend.
    pub(crate) fn apply(&self, said: &proto::Project) -> Option<Arc<Running>> {
        let server = said.server.as_ref().map(|server| self.intern(server));
        let project = Arc::clone(
            self.projects
                .entry(said.id.as_str().into())
                .or_insert_with(|| Arc::new(Project::new(&said.id)))
                .value(),
        );
        if server.is_some() {
            project.server.store(server);
        }
        project.apply(said)
    }

    /// Takes over what a wake's answer says of the server.
    pub(crate) fn apply_server(&self, project: &Project, said: &proto::ServerInfo) {
        project.server.store(Some(self.intern(said)));
    }

    /// Projects of one server version share one copy of what it says of itself.
    fn intern(&self, said: &proto::ServerInfo) -> Arc<Server> {
        let server = Server {
            version: said.version.clone(),
            variables: said.variables.clone(),
        };
        if let Some(known) = self.server.load_full().filter(|known| **known == server) {
            return known;
        }
        let server = Arc::new(server);
        self.server.store(Some(Arc::clone(&server)));
        server
    }

    pub(crate) fn remove(&self, id: &str) {
        if let Some((_, project)) = self.projects.remove(id) {
            project.remove();
        }
    }

    /// Forgets every project that a snapshot did not name.
    pub(crate) fn retain(&self, named: &HashSet<String>) {
        let gone: Vec<_> = self
            .projects
            .iter()
            .map(|e| e.key().clone())
            .filter(|id| !named.contains(id.as_ref()))
            .collect();
        gone.iter().for_each(|id| self.remove(id));
    }

    /// Every project, for reports; a copy, so that no lock is held while it is used.
    pub(crate) fn all(&self) -> Vec<Arc<Project>> {
        self.projects.iter().map(|entry| Arc::clone(entry.value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ComputeState::{Draining, Ready, Starting, Suspended};

    fn said(incarnation: u64, state: proto::ComputeState) -> proto::Compute {
        proto::Compute {
            incarnation,
            state: state.into(),
            socket_path: format!("/s{incarnation}"),
            ..Default::default()
        }
    }

    fn running(project: &Project) -> Option<Arc<Running>> {
        match project.compute() {
            ComputeView::Ready(running) => Some(running),
            _ => None,
        }
    }

    #[test]
    fn a_login_names_its_project_in_one_of_three_ways() {
        for (name, named, split) in [
            ("shop.ann", None, (Some("shop"), "ann")),
            ("shop.ann.b", None, (Some("shop"), "ann.b")),
            ("ann", None, (None, "ann")),
            (".ann", None, (Some(""), "ann")),
            ("ann", Some("shop"), (Some("shop"), "ann")),
            ("shop.ann", Some("shop"), (Some("shop"), "ann")),
            ("shopann", Some("shop"), (Some("shop"), "shopann")),
            ("other.ann", Some("shop"), (Some("shop"), "other.ann")),
            ("shop.shop.ann", Some("shop"), (Some("shop"), "shop.ann")),
        ] {
            assert_eq!(split_name(name, named), split, "{name} {named:?}");
        }
    }

    #[test]
    fn server_names_name_projects_below_known_domains_only() {
        let domains = ["db.example.org".to_owned(), "db.test".to_owned()];
        for (server, project) in [
            ("shop.db.example.org", Some("shop")),
            ("shop.DB.Test", Some("shop")),
            ("db.test", None),
            ("a.shop.db.test", None),
            ("shop.other.test", None),
            ("shop.xdb.test", None),
            ("shop", None),
            (".db.test", None),
        ] {
            assert_eq!(project_of_server_name(server, &domains), project, "{server}");
        }
        assert_eq!(project_of_server_name("shop.db.test", &[]), None);
    }

    #[test]
    fn an_older_incarnation_never_comes_back() {
        let project = Project::new("p");
        project.apply_compute(&said(2, Ready));
        project.apply_compute(&said(1, Ready));
        project.apply_compute(&said(1, Draining));
        assert_eq!(running(&project).unwrap().incarnation, 2);
    }

    #[test]
    fn a_late_ready_does_not_undo_draining() {
        let project = Project::new("p");
        project.apply_compute(&said(1, Ready));
        let first = running(&project).unwrap();
        let seat = first.seat().unwrap();
        let draining = project.apply_compute(&said(1, Draining)).unwrap();
        assert!(Arc::ptr_eq(&draining, &first) && first.seat().is_none());
        assert_eq!(first.asked(), Some(Asked::Drain));
        project.apply_compute(&said(1, Ready));
        assert!(running(&project).is_none() && !first.closing().is_raised());
        drop(seat);
        project.apply_compute(&said(1, Suspended));
        assert!(first.closing().is_raised());
        project.apply_compute(&said(2, Starting));
        project.apply_compute(&said(2, Ready));
        assert_eq!(running(&project).unwrap().incarnation, 2);
    }

    #[test]
    fn a_drain_that_is_called_off_keeps_the_sessions() {
        let project = Project::new("p");
        project.apply_compute(&said(1, Ready));
        let first = running(&project).unwrap();
        let _seat = first.seat().unwrap();
        project.apply_compute(&said(1, Draining));
        let again = proto::Compute {
            round: 1,
            ..said(1, Ready)
        };
        project.apply_compute(&again);
        assert!(Arc::ptr_eq(&first, &running(&project).unwrap()));
        assert!(!first.closing().is_raised() && !first.is_wanted() && first.seat().is_some());
        project.apply_compute(&said(1, Draining));
        assert!(running(&project).is_some(), "an older round says nothing");
    }

    #[test]
    fn a_place_is_asked_of_one_session() {
        let running = Running::new(1, PathBuf::new(), Vec::new());
        assert_eq!((running.asked(), running.is_wanted()), (None, false));
        running.want_place();
        assert_eq!((running.asked(), running.asked()), (Some(Asked::Place), None));
    }

    #[test]
    fn hearing_ready_twice_keeps_the_sessions() {
        let project = Project::new("p");
        project.apply_compute(&said(1, Ready));
        let first = running(&project).unwrap();
        project.apply_compute(&said(1, Ready));
        assert!(Arc::ptr_eq(&first, &running(&project).unwrap()) && !first.closing().is_raised());
    }

    #[test]
    fn a_snapshot_forgets_what_it_does_not_name() {
        let routes = Routes::default();
        for id in ["kept", "gone"] {
            routes.apply(&proto::Project {
                id: id.into(),
                compute: Some(said(1, Ready)),
                ..Default::default()
            });
        }
        let gone = running(&routes.project("gone").unwrap()).unwrap();
        routes.retain(&HashSet::from(["kept".to_owned()]));
        assert!(routes.project("gone").is_none() && routes.project("kept").is_some());
        assert!(gone.closing().is_raised());
    }

    #[test]
    fn database_rights_answer_as_mariadb_does() {
        let access = Access {
            users: Box::default(),
            databases: ["demo".into(), "other".into()].into(),
        };
        let user = User {
            native: None,
            caching_sha2: None,
            more_native: Vec::new(),
            ed25519: Box::default(),
            locked: false,
            require: Require::Nothing,
            limits: None,
            password_expires_s: 0,
            granted_databases: vec!["demo".into(), r"my\_db".into()],
        };
        assert_eq!(access.database(&user, "demo"), DatabaseAccess::Granted);
        assert_eq!(access.database(&user, "other"), DatabaseAccess::Denied);
        assert_eq!(access.database(&user, "nosuch"), DatabaseAccess::Denied);
        assert_eq!(access.database(&user, "my_db"), DatabaseAccess::Unknown);
        assert_eq!(access.database(&user, "myxdb"), DatabaseAccess::Denied);
        assert_eq!(access.database(&user, "INFORMATION_SCHEMA"), DatabaseAccess::Granted);
    }
}
