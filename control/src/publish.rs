//! What gateways must know, held whole in memory and pushed: each change gets the next version and goes to every watcher
//! in that order. A watcher has a queue of fixed size; one that does not keep up is dropped and comes back for a new
//! snapshot, so that nobody ever waits for it. Nothing here awaits under the lock.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use control_api::{
    control::{self as proto, watch_event},
    rest::ComputeState,
    settings::{self, Offer},
};
use prost::Message;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, error::TrySendError},
    watch,
};
use tokio::time::Instant;

use crate::{
    accounts, clock,
    name::ProjectId,
    secret::GatewaySecret,
    store::{Access, ComputeRecord, EpochMs, Observed, Options, Sleep, WholeProject},
    weight::{PROJECT_BYTES_MAX, weigh},
};

/// Changes that a watcher may lag behind. A snapshot of many projects takes a while to send, and changes go on meanwhile.
const WATCHER_QUEUE: usize = 4096;
/// Of those changes together, in KiB: a hundred thousand of usual projects, and sixteen of one as large as a project may be.
/// Without it a tenant that changes a large project again and again fills the memory of the control plane while one gateway
/// does not read.
const WATCHER_KIB: usize = 64 << 10;

/// Of one project. What may grow is bounded where it grows, by [`PROJECT_BYTES_MAX`]; the rest is the values of a few server
/// variables and what stands in the settings. Only a project from before there was that bound weighs more: one message that a
/// gateway refuses would end the watch of every gateway, again with each snapshot.
const MESSAGE_BYTES_MAX: usize = 2 * PROJECT_BYTES_MAX;

/// The head of the file says it.
pub(crate) struct Publisher {
    inner: Mutex<Inner>,
    /// Ticks when a watcher acknowledges, answers a drain, comes or goes.
    acknowledged: watch::Sender<()>,
}

struct Inner {
    version: u64,
    entries: BTreeMap<ProjectId, Entry>,
    watchers: HashMap<u64, Watcher>,
    next_watcher: u64,
    /// What a compute that has never run will say of itself.
    fresh_server: Option<proto::ServerInfo>,
    /// The values that settings have where nothing is set.
    offer: Arc<Offer>,
}

struct Watcher {
    queue: mpsc::Sender<Queued>,
    /// In KiB, what its queue may still take.
    room: Arc<Semaphore>,
    acknowledged: u64,
    /// Since when it has not said anything although there is something that it has not acknowledged.
    owes_since: Option<Instant>,
}

/// A change on its way to a watcher.
pub(crate) struct Queued {
    pub(crate) event: proto::WatchEvent,
    /// Of the watcher's room.
    _taken: OwnedSemaphorePermit,
}

/// One project, in the parts that different owners change: REST the access, the agent what was observed, the keeper of
/// its compute the rest.
struct Entry {
    created: EpochMs,
    wake_timeout_ms: Option<u32>,
    sleep: Sleep,
    /// As they are sent.
    allowed_networks: Vec<String>,
    access: Access,
    observed: Option<Observed>,
    compute: ComputeRecord,
    passage: Passage,
    /// What watchers answered to the present drain: empty for having let go, otherwise why not.
    drained: HashMap<u64, String>,
    /// It was said that gateways cannot be told all of it.
    too_large: bool,
    /// The message made of all this, as it was sent last.
    sent: Arc<proto::Project>,
}

/// How a gateway gets into a ready compute.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) socket: PathBuf,
    pub(crate) secret: GatewaySecret,
}

/// Whether gateways may go into a compute.
#[derive(Debug, Clone, Default)]
pub(crate) enum Passage {
    #[default]
    Shut,
    /// With a ready compute only.
    Open(Address),
}

/// How gateways answered a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Drain {
    /// All that are connected have let go.
    Emptied,
    /// One cannot; why.
    Refused(String),
    /// Not all have answered in time; how many did not.
    Silent(usize),
}

/// A gateway's place in the push; ends when dropped.
pub(crate) struct Subscription {
    id: u64,
    publisher: Arc<Publisher>,
    /// The version that the snapshot is of.
    pub(crate) version: u64,
    pub(crate) snapshot: Vec<Arc<proto::Project>>,
    /// Ends when the gateway has fallen behind, or control goes.
    pub(crate) changes: Option<mpsc::Receiver<Queued>>,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                // Above every version of an earlier run of this control plane, without keeping one.
                version: u64::try_from(clock::now()).unwrap_or_default().saturating_mul(1000),
                entries: BTreeMap::new(),
                watchers: HashMap::new(),
                next_watcher: 0,
                fresh_server: None,
                offer: Arc::default(),
            }),
            acknowledged: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before anything in here can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a project in, or all of it anew. Answers the version that contains it.
    pub(crate) fn put(&self, whole: WholeProject) -> u64 {
        let mut inner = self.lock();
        let entry = Entry {
            created: whole.record.created,
            wake_timeout_ms: whole.record.wake_timeout_ms,
            sleep: whole.record.sleep,
            allowed_networks: whole.record.allowed_networks.texts(),
            access: whole.access,
            observed: whole.observed,
            compute: whole.record.compute,
            passage: Passage::Shut,
            drained: HashMap::new(),
            too_large: false,
            sent: Arc::default(),
        };
        inner.entries.insert(whole.record.id.clone(), entry);
        inner.publish(&whole.record.id)
    }

    pub(crate) fn remove(&self, id: &ProjectId) -> u64 {
        let mut inner = self.lock();
        if inner.entries.remove(id).is_some() {
            inner.push(watch_event::Event::RemovedProject(id.to_string()));
        }
        inner.version
    }

    /// Readings may come here in another order than they were taken; an older one changes nothing.
    pub(crate) fn set_access(&self, id: &ProjectId, access: Access) -> u64 {
        self.change(id, |entry| {
            if access.revision >= entry.access.revision {
                entry.access = access;
            }
        })
    }

    /// What would make the project too large to be told changes nothing; its keeper says so.
    pub(crate) fn set_observed(&self, id: &ProjectId, observed: Observed) -> u64 {
        self.change(id, |entry| {
            if observed.left_out.is_none() && weigh(&entry.access, Some(&observed)).is_ok() {
                entry.observed = Some(observed);
            }
        })
    }

    pub(crate) fn set_options(&self, id: &ProjectId, options: &Options) -> u64 {
        self.change(id, |entry| {
            entry.wake_timeout_ms = options.wake_timeout_ms;
            entry.sleep = options.sleep;
            entry.allowed_networks = options.allowed_networks.texts();
        })
    }

    /// When it may fall asleep; `None`: no such project.
    pub(crate) fn sleep(&self, id: &ProjectId) -> Option<Sleep> {
        self.lock().entries.get(id).map(|entry| entry.sleep)
    }

    pub(crate) fn set_compute(&self, id: &ProjectId, compute: ComputeRecord, passage: Passage) -> u64 {
        self.change(id, |entry| {
            let drain = |compute: &ComputeRecord| (compute.state, compute.incarnation, compute.round);
            if drain(&entry.compute) != drain(&compute) {
                entry.drained.clear();
            }
            entry.compute = compute;
            entry.passage = passage;
        })
    }

    /// What is told of the server of projects that have never run.
    pub(crate) fn set_fresh_server(&self, server: &Observed, offer: Arc<Offer>) {
        let mut inner = self.lock();
        inner.fresh_server = Some(server_info(server));
        inner.offer = offer;
        let affected: Vec<_> = inner
            .entries
            .iter()
            .filter(|(_, entry)| entry.observed.is_none() || !entry.access.settings.is_empty())
            .map(|(id, _)| id.clone())
            .collect();
        for id in affected {
            inner.publish(&id);
        }
    }

    fn change(&self, id: &ProjectId, change: impl FnOnce(&mut Entry)) -> u64 {
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.get_mut(id) {
            change(entry);
            inner.publish(id)
        } else {
            inner.version
        }
    }

    /// The compute as it is now, and as gateways are told it; `None`: no such project.
    pub(crate) fn compute(&self, id: &ProjectId) -> Option<ComputeRecord> {
        self.lock().entries.get(id).map(|entry| entry.compute.clone())
    }

    /// The same as the message for a gateway.
    pub(crate) fn message(&self, id: &ProjectId) -> Option<Arc<proto::Project>> {
        self.lock().entries.get(id).map(|entry| entry.sent.clone())
    }

    /// The same with the version that it is of.
    pub(crate) fn versioned(&self, id: &ProjectId) -> Option<(Arc<proto::Project>, u64)> {
        let inner = self.lock();
        let entry = inner.entries.get(id)?;
        Some((entry.sent.clone(), inner.version))
    }

    /// Projects whose compute is not suspended.
    pub(crate) fn not_suspended(&self) -> Vec<ProjectId> {
        let inner = self.lock();
        let awake = inner
            .entries
            .iter()
            .filter(|(_, entry)| entry.compute.state != ComputeState::Suspended);
        awake.map(|(id, _)| id.clone()).collect()
    }

    /// How many computes are in each state, and the CU of those that run.
    pub(crate) fn count(&self) -> (BTreeMap<&'static str, i64>, f64) {
        let mut counts: BTreeMap<_, _> = ComputeState::ALL.into_iter().map(|state| (state.as_str(), 0)).collect();
        let mut cu = 0.0;
        for entry in self.lock().entries.values() {
            *counts.entry(entry.compute.state.as_str()).or_default() += 1;
            if entry.compute.state == ComputeState::Ready {
                cu += entry.compute.size_cu();
            }
        }
        (counts, cu)
    }

    /// Since when the compute is in that state that has been for the longest time; `None`: none is.
    pub(crate) fn longest_in(&self, state: ComputeState) -> Option<EpochMs> {
        let inner = self.lock();
        let computes = inner.entries.values().map(|entry| &entry.compute);
        computes
            .filter(|compute| compute.state == state)
            .map(|compute| compute.since)
            .min()
    }

    /// For how long the gateway has owed an acknowledgement and said none at all that has for the longest time.
    pub(crate) fn longest_silence(&self) -> Duration {
        let inner = self.lock();
        let owing = inner.watchers.values().filter_map(|watcher| watcher.owes_since);
        owing.map(|since| since.elapsed()).max().unwrap_or_default()
    }

    pub(crate) fn watchers(&self) -> usize {
        self.lock().watchers.len()
    }

    /// A snapshot now and every change after it, without a gap.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscription {
        let (queue, changes) = mpsc::channel(WATCHER_QUEUE);
        let mut inner = self.lock();
        let id = inner.next_watcher;
        inner.next_watcher += 1;
        let watcher = Watcher {
            queue,
            room: Arc::new(Semaphore::new(WATCHER_KIB)),
            acknowledged: 0,
            owes_since: Some(Instant::now()),
        };
        inner.watchers.insert(id, watcher);
        let snapshot = inner.entries.values().map(|entry| entry.sent.clone()).collect();
        Subscription {
            id,
            publisher: self.clone(),
            version: inner.version,
            snapshot,
            changes: Some(changes),
        }
    }

    /// Ends all watches: control goes.
    pub(crate) fn disconnect_all(&self) {
        self.lock().watchers.clear();
        self.acknowledged.send_replace(());
    }

    /// Waits until every connected watcher has acknowledged `version`, `patience` at most. Cancel-safe. Answers whether
    /// all have.
    pub(crate) async fn acknowledged(&self, version: u64, patience: Duration) -> bool {
        let mut ticks = self.acknowledged.subscribe();
        let all = async {
            while self
                .lock()
                .watchers
                .values()
                .any(|watcher| watcher.acknowledged < version)
            {
                if ticks.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    /// Waits until every connected watcher has answered the drain that the project's compute is in, `patience` at most,
    /// or, where `refusals` count, one has refused. A watcher that goes is not waited for; one that comes meanwhile hears
    /// of the drain in its snapshot and is. Cancel-safe.
    pub(crate) async fn drained(&self, id: &ProjectId, refusals: bool, patience: Duration) -> Drain {
        let mut ticks = self.acknowledged.subscribe();
        let answered = async {
            loop {
                match self.drain(id) {
                    Drain::Silent(_) => {}
                    Drain::Refused(_) if !refusals => {}
                    answered => return answered,
                }
                if ticks.changed().await.is_err() {
                    return Drain::Emptied;
                }
            }
        };
        tokio::time::timeout(patience, answered)
            .await
            .unwrap_or_else(|_| self.drain(id))
    }

    /// How far it is now.
    fn drain(&self, id: &ProjectId) -> Drain {
        let inner = self.lock();
        let Some(entry) = inner.entries.get(id) else {
            return Drain::Emptied;
        };
        let answers = inner.watchers.keys().map(|watcher| entry.drained.get(watcher));
        if let Some(reason) = answers.clone().flatten().find(|reason| !reason.is_empty()) {
            return Drain::Refused(reason.clone());
        }
        match answers.filter(Option::is_none).count() {
            0 => Drain::Emptied,
            silent => Drain::Silent(silent),
        }
    }
}

impl Subscription {
    /// Who acknowledges for this subscription, from another task than the one that sends.
    pub(crate) fn acknowledger(&self) -> Acknowledger {
        Acknowledger {
            id: self.id,
            publisher: self.publisher.clone(),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.publisher.lock().watchers.remove(&self.id);
        self.publisher.acknowledged.send_replace(());
    }
}

/// See [`Subscription::acknowledger`].
pub(crate) struct Acknowledger {
    id: u64,
    publisher: Arc<Publisher>,
}

impl Acknowledger {
    pub(crate) fn acknowledge(&self, version: u64) {
        let mut inner = self.publisher.lock();
        let current = inner.version;
        if let Some(watcher) = inner.watchers.get_mut(&self.id) {
            watcher.acknowledged = watcher.acknowledged.max(version);
            watcher.owes_since = (watcher.acknowledged < current).then(Instant::now);
        }
        drop(inner);
        self.publisher.acknowledged.send_replace(());
    }

    /// The answer to a drain. One to a drain that is over changes nothing.
    pub(crate) fn drained(&self, drained: proto::Drained) {
        let Ok(id) = ProjectId::new(&drained.project) else {
            return;
        };
        if let Some(entry) = self.publisher.lock().entries.get_mut(&id)
            && entry.compute.state == ComputeState::Draining
            && (entry.compute.incarnation, entry.compute.round) == (drained.incarnation, drained.round)
        {
            entry.drained.insert(self.id, drained.refused);
        }
        self.publisher.acknowledged.send_replace(());
    }
}

impl Inner {
    /// Sends the project as it is now, unless that is what was sent last.
    fn publish(&mut self, id: &ProjectId) -> u64 {
        let Some(entry) = self.entries.get_mut(id) else {
            return self.version;
        };
        let mut message = message(id, entry, self.fresh_server.as_ref(), &self.offer);
        let bytes = message.encoded_len();
        let too_large = bytes > MESSAGE_BYTES_MAX;
        if too_large {
            if !entry.too_large {
                tracing::error!(
                    project = %id,
                    bytes,
                    most = MESSAGE_BYTES_MAX,
                    "the project is too large for gateways: they are told of it without its users, and nobody gets in, until it \
                     has fewer users or databases"
                );
            }
            message.users.clear();
            message.databases.clear();
            message.server.clone_from(&self.fresh_server);
        }
        entry.too_large = too_large;
        if *entry.sent != message {
            entry.sent = Arc::new(message.clone());
            self.push(watch_event::Event::Project(message));
        }
        self.version
    }

    fn push(&mut self, event: watch_event::Event) {
        self.version += 1;
        let event = proto::WatchEvent {
            version: self.version,
            event: Some(event),
        };
        let kib = u32::try_from(event.encoded_len() / 1024 + 1).unwrap_or(u32::MAX);
        self.watchers.retain(|id, watcher| {
            watcher.owes_since.get_or_insert_with(Instant::now);
            let sent = match watcher.room.clone().try_acquire_many_owned(kib) {
                Ok(taken) => watcher.queue.try_send(Queued {
                    event: event.clone(),
                    _taken: taken,
                }),
                Err(_) if watcher.queue.is_closed() => return false,
                Err(_) => {
                    fell_behind(*id);
                    return false;
                }
            };
            match sent {
                Ok(()) => true,
                // It has left; its subscription ends any moment.
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    fell_behind(*id);
                    false
                }
            }
        });
    }
}

fn fell_behind(watcher: u64) {
    tracing::warn!(watcher, "a gateway fell behind and is disconnected to begin anew");
}

fn message(id: &ProjectId, entry: &Entry, fresh_server: Option<&proto::ServerInfo>, offer: &Offer) -> proto::Project {
    proto::Project {
        id: id.to_string(),
        users: accounts::users(&entry.access, entry.observed.as_ref()),
        databases: accounts::databases(&entry.access, entry.observed.as_ref()),
        server: server(entry, fresh_server, offer),
        compute: Some(compute(entry)),
        wake_timeout_ms: entry.wake_timeout_ms.unwrap_or_default(),
        pinned_idle_timeout_ms: entry.sleep.pinned_idle_timeout_ms.unwrap_or_default(),
        allowed_networks: entry.allowed_networks.clone(),
        created_ms: entry.created,
    }
}

/// What the project's server says of itself; while it does not run, what the next one will say.
fn server(entry: &Entry, fresh_server: Option<&proto::ServerInfo>, offer: &Offer) -> Option<proto::ServerInfo> {
    let seen = entry.observed.as_ref().map(server_info);
    let mut server = seen.or_else(|| fresh_server.cloned())?;
    if entry.compute.state != ComputeState::Ready {
        for (name, value) in &mut server.variables {
            let next = settings::resolved(set_by(name), &entry.access.settings, offer);
            *value = next.unwrap_or_else(|| std::mem::take(value));
        }
    }
    Some(server)
}

/// A server that starts takes these from its own character set.
fn set_by(variable: &str) -> &str {
    match variable {
        "character_set_client" | "character_set_connection" | "character_set_results" | "character_set_database" => {
            "character_set_server"
        }
        "collation_connection" | "collation_database" => "collation_server",
        other => other,
    }
}

fn server_info(observed: &Observed) -> proto::ServerInfo {
    proto::ServerInfo {
        version: observed.version.clone(),
        variables: observed
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    }
}

fn compute(entry: &Entry) -> proto::Compute {
    let state = match entry.compute.state {
        ComputeState::Suspended => proto::ComputeState::Suspended,
        ComputeState::Starting => proto::ComputeState::Starting,
        ComputeState::Ready => proto::ComputeState::Ready,
        ComputeState::Draining => proto::ComputeState::Draining,
        ComputeState::Failed => proto::ComputeState::Failed,
    };
    let address = match &entry.passage {
        Passage::Open(address) if entry.compute.state == ComputeState::Ready => Some(address),
        _ => None,
    };
    proto::Compute {
        state: state.into(),
        incarnation: entry.compute.incarnation,
        socket_path: address
            .map(|address| address.socket.display().to_string())
            .unwrap_or_default(),
        gateway_secret: address
            .map(|address| address.secret.bytes().to_vec())
            .unwrap_or_default(),
        // Why a suspend was called off is for who looks after the project, not for clients.
        reason: match entry.compute.state {
            ComputeState::Ready => String::new(),
            _ => entry.compute.reason.clone().unwrap_or_default(),
        },
        forced: entry.compute.forced,
        round: entry.compute.round,
    }
}

#[cfg(test)]
mod tests;
