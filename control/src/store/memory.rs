//! A store without a database, for tests with a paused clock: a real one answers from threads of its own, and the clock
//! would run away meanwhile, and for simulations. It passes the same suite, so what tests see of it is what a store does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use control_api::rest::{ComputeState, OperationKind, Scope};
use tokio::time::Instant;

use super::{
    audit::{Attempt, AuditRecord, path_of},
    keys::KeyRecord,
    operations::BY_API,
    replays::{Answer, NewReplay, Replay, ReplayId},
    *,
};
use crate::{
    accounts::{Anywhere, Fate},
    clock,
    name::UserName,
    secret::Verifiers,
    weight::weigh,
};

mod access;
mod audit;
mod computes;
mod keys;
mod leases;
pub(crate) mod mortal;
mod operations;
mod replays;
mod usage;

use mortal::Mortal;

#[derive(Clone, Default)]
pub(crate) struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    term: Option<i64>,
    /// Nobody gets an answer about leases.
    pub(crate) leases_hang: Arc<AtomicBool>,
    /// Nobody gets a list of projects.
    pub(crate) lists_hang: Arc<AtomicBool>,
    /// So many starts are not written down.
    pub(crate) starts_fail: Arc<AtomicU32>,
    /// Nothing can be written.
    pub(crate) is_full: Arc<AtomicBool>,
    /// The control plane that has this handle: once it is dead, it writes nothing.
    pub(crate) mortal: Mortal,
    /// What a keeper writes takes up to so long to arrive, and as long to be answered.
    pub(crate) pace: Duration,
}

#[derive(Default)]
struct Inner {
    projects: BTreeMap<ProjectId, Kept>,
    keys: BTreeMap<String, (KeyRecord, [u8; 32])>,
    audit: Vec<AuditRecord>,
    replays: BTreeMap<ReplayId, KeptReplay>,
    leases: BTreeMap<String, (LeaseRecord, Instant)>,
    operations: BTreeMap<String, super::operations::OperationRecord>,
    usage_windows: BTreeSet<super::usage::WindowId>,
    /// By project, when it was made, and hour.
    usage_hours: BTreeMap<(ProjectId, EpochMs, EpochMs), super::usage::Counts>,
    /// Projects that are gone, in order.
    past: Vec<super::usage::PastProject>,
    /// Of all projects, in order, with when each project was made.
    transitions: Vec<(ProjectId, EpochMs, Transition)>,
    /// Who woke it, by the transition.
    causes: BTreeMap<i64, control_api::rest::WokenBy>,
}

struct KeptReplay {
    new: NewReplay,
    answer: Option<Answer>,
}

struct Kept {
    whole: WholeProject,
    deleting: bool,
    /// Of the compute that was started last, in millionths of a CU.
    size_ucu: i64,
    seen: Vec<DatabaseName>,
    pending_users: BTreeMap<UserName, i64>,
    pending_databases: BTreeMap<DatabaseName, i64>,
    pending_settings: BTreeMap<String, i64>,
}

const NO_PROJECT: StoreError = StoreError::NotFound("project");

impl MemoryStore {
    /// Everything that is kept of requests.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (Vec<AuditRecord>, Vec<Option<Answer>>) {
        let inner = self.lock();
        let answers = inner.replays.values().map(|kept| kept.answer.clone());
        (inner.audit.clone(), answers.collect())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn travel(&self) {
        if !self.pace.is_zero() {
            tokio::time::sleep(self.pace.mul_f64(rand::random())).await;
        }
    }

    /// Users or databases have changed; where a compute runs, it has to be told.
    fn apply_begun(&self, id: &ProjectId) {
        let mut inner = self.lock();
        let state = inner.projects.get(id).map(|kept| kept.whole.record.compute.state);
        if matches!(state, Some(ComputeState::Starting | ComputeState::Ready)) {
            inner.begin(id, (OperationKind::Apply, "applying"), BY_API, None, clock::now());
        }
    }

    async fn answers(&self) {
        if self.leases_hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// For a write.
    fn lock_in_term(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        if !self.mortal.lives_on() {
            return Err(StoreError::Backend("its control plane was killed".into()));
        }
        if self.is_full.load(Ordering::Relaxed) {
            return Err(StoreError::Faulty {
                fault: Fault::Full,
                source: "as if it stood on a full disk".into(),
            });
        }
        let inner = self.lock();
        let now = inner.leases.get(LEADER).map(|(lease, _)| lease.term);
        if self.term.is_some() && self.term != now {
            return Err(StoreError::NotLeader);
        }
        Ok(inner)
    }

    fn change<T>(
        &self,
        id: &ProjectId,
        work: impl FnOnce(&mut Kept) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        drop(self.lock_in_term()?);
        self.with(id, work)
    }

    fn with<T>(&self, id: &ProjectId, work: impl FnOnce(&mut Kept) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.lock();
        let kept = inner.projects.get_mut(id).filter(|kept| !kept.deleting);
        let result = work(kept.ok_or(NO_PROJECT)?)?;
        Ok(result)
    }
}

impl Inner {
    /// The key, where it is still as it was read.
    fn expected_key(&mut self, read: &KeyRecord) -> Result<&mut KeyRecord, StoreError> {
        let (key, _) = self.keys.get_mut(&read.name).ok_or(StoreError::NotFound("key"))?;
        match key.is_as(read) {
            true => Ok(key),
            false => Err(StoreError::Changed),
        }
    }

    /// The compute, the transition to it, and what it means for operations.
    fn keep_compute(&mut self, id: &ProjectId, compute: &ComputeRecord) {
        let Some(kept) = self.projects.get_mut(id) else { return };
        let before = &mut kept.whole.record.compute;
        if compute.incarnation < before.incarnation {
            return;
        }
        if compute.state != before.state {
            let transition = Transition {
                id: self.transitions.last().map_or(0, |(_, _, last)| last.id) + 1,
                incarnation: compute.incarnation,
                from: before.state,
                to: compute.state,
                at: compute.since,
                reason: compute.reason.clone(),
                size_ucu: kept.size_ucu,
            };
            let created = kept.whole.record.created;
            self.transitions.push((id.clone(), created, transition));
        }
        *before = ComputeRecord {
            size_ucu: kept.size_ucu,
            ..compute.clone()
        };
        self.compute_changed(id, compute);
    }
}

impl Kept {
    fn expect(&self, expected: Expected) -> Result<(), StoreError> {
        match expected {
            Some(expected) if expected != self.whole.access.revision => Err(StoreError::Changed),
            _ => Ok(()),
        }
    }

    /// `undo` takes back what was added.
    fn must_fit(&mut self, undo: impl FnOnce(&mut Access)) -> Result<(), StoreError> {
        let fits = weigh(&self.access(), self.whole.observed.as_ref());
        if fits.is_err() {
            undo(&mut self.whole.access);
        }
        Ok(fits?)
    }

    fn touch_user(&mut self, name: &UserName) -> Access {
        self.whole.access.revision += 1;
        self.pending_users.insert(name.clone(), self.whole.access.revision);
        self.access()
    }

    fn touch_database(&mut self, name: &DatabaseName) -> Access {
        self.whole.access.revision += 1;
        self.pending_databases.insert(name.clone(), self.whole.access.revision);
        self.access()
    }

    fn access(&self) -> Access {
        let mut access = self.whole.access.clone();
        let gone = self
            .pending_databases
            .keys()
            .filter(|name| !access.databases.contains(name));
        access.removed_databases = gone.cloned().collect();
        let gone = self.pending_users.keys();
        let gone = gone.filter(|name| access.users.iter().all(|user| user.name != **name));
        access.removed_users = gone.cloned().collect();
        let new = access.databases.iter().filter(|name| !self.seen.contains(name));
        access.new_databases = new.cloned().collect();
        access
    }

    fn whole(&self) -> WholeProject {
        WholeProject {
            access: self.access(),
            ..self.whole.clone()
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn create_project(&self, new: NewProject) -> Result<WholeProject, StoreError> {
        let mut inner = self.lock_in_term()?;
        let taken: Vec<u32> = inner
            .projects
            .values()
            .filter_map(|kept| kept.whole.record.uid)
            .collect();
        let uid = match new.uids {
            Some(range) => Some(
                (range.first..=range.last)
                    .find(|uid| !taken.contains(uid))
                    .ok_or(StoreError::NoFreeUid)?,
            ),
            None => None,
        };
        if inner.projects.contains_key(&new.id) {
            return Err(StoreError::Exists("project"));
        }
        let user = |user: NewUser| UserRecord {
            name: user.name,
            verifiers: user.verifiers,
            admin: user.admin,
            created: new.now,
            known: false,
            had: false,
            by_sql: false,
        };
        let compute = ComputeRecord {
            state: ComputeState::Suspended,
            incarnation: 0,
            round: 0,
            forced: false,
            since: new.now,
            reason: None,
            size_ucu: ucu(new.size_cu),
        };
        let record = ProjectRecord {
            id: new.id.clone(),
            size_cu: new.size_cu,
            wake_timeout_ms: new.wake_timeout_ms,
            sleep: Sleep::default(),
            allowed_networks: new.allowed_networks,
            uid,
            created: new.now,
            compute,
        };
        let access = Access {
            users: new.user.map(user).into_iter().collect(),
            databases: new.database.into_iter().collect(),
            ..Access::default()
        };
        let kept = Kept {
            whole: WholeProject {
                record,
                access,
                observed: None,
            },
            deleting: false,
            size_ucu: ucu(new.size_cu),
            seen: Vec::new(),
            pending_users: BTreeMap::new(),
            pending_databases: BTreeMap::new(),
            pending_settings: BTreeMap::new(),
        };
        let whole = kept.whole();
        inner.begin(&new.id, (OperationKind::Create, "preparing"), BY_API, None, new.now);
        inner.projects.insert(new.id, kept);
        Ok(whole)
    }

    async fn project(&self, id: &ProjectId) -> Result<ProjectRecord, StoreError> {
        self.with(id, |kept| Ok(kept.whole.record.clone()))
    }

    async fn whole_project(&self, id: &ProjectId) -> Result<WholeProject, StoreError> {
        self.with(id, |kept| Ok(kept.whole()))
    }

    async fn projects(&self, after: Option<&str>, limit: u32) -> Result<Vec<ProjectRecord>, StoreError> {
        if self.lists_hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(self
            .whole_projects(after, limit)
            .await?
            .into_iter()
            .map(|whole| whole.record)
            .collect())
    }

    async fn whole_projects(&self, after: Option<&str>, limit: u32) -> Result<Vec<WholeProject>, StoreError> {
        let inner = self.lock();
        let seen = inner.projects.values().filter(|kept| !kept.deleting).map(Kept::whole);
        let page = seen.filter(|whole| whole.record.id.as_str() > after.unwrap_or_default());
        Ok(page.take(limit as usize).collect())
    }

    async fn begin_delete(&self, id: &ProjectId, read: Option<&ProjectRecord>) -> Result<ProjectRecord, StoreError> {
        let result = self.change(id, |kept| {
            if let Some(read) = read {
                kept.whole.record.expect(read)?;
            }
            kept.deleting = true;
            Ok(kept.whole.record.clone())
        })?;
        let begun = (OperationKind::Delete, "stopping");
        self.lock().begin(id, begun, BY_API, None, clock::now());
        Ok(result)
    }

    async fn deleting(&self) -> Result<Vec<ProjectRecord>, StoreError> {
        let inner = self.lock();
        Ok(inner
            .projects
            .values()
            .filter(|kept| kept.deleting)
            .map(|kept| kept.whole.record.clone())
            .collect())
    }

    async fn finish_delete(&self, id: &ProjectId) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        if inner.projects.get(id).is_some_and(|kept| kept.deleting)
            && let Some(gone) = inner.projects.remove(id)
        {
            inner.was(&gone.whole.record, clock::now());
            inner.keys.retain(|_, (key, _)| key.project.as_ref() != Some(id));
            for kind in OperationKind::ALL {
                let error = (kind != OperationKind::Delete).then_some("the project was deleted");
                inner.end(id, kind, error, clock::now());
            }
        }
        Ok(())
    }

    async fn set_options(&self, read: &ProjectRecord, options: &Options) -> Result<(), StoreError> {
        self.change(&read.id, |kept| {
            kept.whole.record.expect(read)?;
            kept.whole.record = kept.whole.record.clone().with_options(options.clone());
            Ok(())
        })
    }

    async fn seal(&self) -> Result<Sealed, StoreError> {
        Ok(Sealed::default())
    }

    fn for_term(&self, term: i64) -> Arc<dyn Store> {
        Arc::new(Self {
            term: Some(term),
            ..self.clone()
        })
    }

    async fn close(&self) {}
}

#[tokio::test]
async fn behaves_as_a_store_must() {
    suite::run_all(async || ((), MemoryStore::default())).await;
}
