//! A store without a database, for tests with a paused clock: a real one answers from threads of its own, and the clock
//! would run away meanwhile, and for simulations. It passes the same suite, so what tests see of it is what a store does.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
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
    accounts::{Fate, fate},
    clock,
};

pub(crate) mod mortal;
mod operations;

use mortal::Mortal;

#[derive(Clone, Default)]
pub(crate) struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    term: Option<i64>,
    /// Nobody gets an answer about leases.
    pub(crate) leases_hang: Arc<AtomicBool>,
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
    /// Of all projects, in order, with when each project was made.
    transitions: Vec<(ProjectId, EpochMs, Transition)>,
}

struct KeptReplay {
    new: NewReplay,
    answer: Option<Answer>,
}

struct Kept {
    whole: WholeProject,
    deleting: bool,
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
            };
            let created = kept.whole.record.created;
            self.transitions.push((id.clone(), created, transition));
        }
        *before = compute.clone();
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
        };
        let compute = ComputeRecord {
            state: ComputeState::Suspended,
            incarnation: 0,
            round: 0,
            forced: false,
            since: new.now,
            reason: None,
        };
        let record = ProjectRecord {
            id: new.id.clone(),
            size_cu: new.size_cu,
            wake_timeout_ms: new.wake_timeout_ms,
            sleep: Sleep::default(),
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
        if inner.projects.get(id).is_some_and(|kept| kept.deleting) {
            inner.projects.remove(id);
            inner.keys.retain(|_, (key, _)| key.project.as_ref() != Some(id));
            for kind in OperationKind::ALL {
                let error = (kind != OperationKind::Delete).then_some("the project was deleted");
                inner.end(id, kind, error, clock::now());
            }
        }
        Ok(())
    }

    async fn access(&self, id: &ProjectId) -> Result<Access, StoreError> {
        self.with(id, |kept| Ok(kept.access()))
    }

    async fn add_user(&self, id: &ProjectId, user: NewUser, now: EpochMs) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            let users = &mut kept.whole.access.users;
            if users.iter().any(|other| other.name == user.name) {
                return Err(StoreError::Exists("user"));
            }
            let record = UserRecord {
                name: user.name.clone(),
                verifiers: user.verifiers,
                admin: user.admin,
                created: now,
                known: false,
            };
            users.push(record);
            users.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(kept.touch_user(&user.name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn set_verifiers(
        &self,
        id: &ProjectId,
        name: &UserName,
        verifiers: &Verifiers,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            let user = kept.whole.access.users.iter_mut().find(|user| user.name == *name);
            let user = user.ok_or(StoreError::NotFound("user"))?;
            user.verifiers = verifiers.clone();
            user.known = false;
            Ok(kept.touch_user(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn remove_user(&self, id: &ProjectId, name: &UserName, expected: Expected) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            let users = &mut kept.whole.access.users;
            let at = users
                .iter()
                .position(|user| user.name == *name)
                .ok_or(StoreError::NotFound("user"))?;
            users.remove(at);
            Ok(kept.touch_user(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn add_database(&self, id: &ProjectId, name: &DatabaseName) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            let databases = &mut kept.whole.access.databases;
            if databases.contains(name) {
                return Err(StoreError::Exists("database"));
            }
            databases.push(name.clone());
            databases.sort();
            Ok(kept.touch_database(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn set_settings(
        &self,
        id: &ProjectId,
        changes: &BTreeMap<String, Option<String>>,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            kept.whole.access.revision += 1;
            for (name, value) in changes {
                kept.pending_settings.insert(name.clone(), kept.whole.access.revision);
                match value {
                    Some(value) => kept.whole.access.settings.insert(name.clone(), value.clone()),
                    None => kept.whole.access.settings.remove(name),
                };
            }
            Ok(kept.access())
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn remove_database(
        &self,
        id: &ProjectId,
        name: &DatabaseName,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            let databases = &mut kept.whole.access.databases;
            let at = databases
                .iter()
                .position(|other| other == name)
                .ok_or(StoreError::NotFound("database"))?;
            databases.remove(at);
            Ok(kept.touch_database(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn pending(&self, id: &ProjectId) -> Result<(Access, Touched), StoreError> {
        self.with(id, |kept| {
            let touched = Touched {
                users: kept.pending_users.keys().cloned().collect(),
                databases: kept.pending_databases.keys().cloned().collect(),
                settings: kept.pending_settings.keys().cloned().collect(),
            };
            Ok((kept.access(), touched))
        })
    }

    async fn applied(&self, id: &ProjectId, revision: i64) -> Result<(), StoreError> {
        let none_left = self.change(id, |kept| {
            let pending = kept.pending_users.clone();
            kept.whole.access.revision += i64::from(pending.values().any(|pending| *pending <= revision));
            for user in &mut kept.whole.access.users {
                user.known |= pending.get(&user.name).is_some_and(|pending| *pending <= revision);
            }
            kept.pending_users.retain(|_, pending| *pending > revision);
            kept.pending_databases.retain(|_, pending| *pending > revision);
            kept.pending_settings.retain(|_, pending| *pending > revision);
            Ok(kept.pending_users.is_empty() && kept.pending_databases.is_empty() && kept.pending_settings.is_empty())
        })?;
        if none_left {
            self.lock().end(id, OperationKind::Apply, None, clock::now());
        }
        Ok(())
    }

    async fn begin_start(&self, id: &ProjectId, now: EpochMs) -> Result<WholeProject, StoreError> {
        self.travel().await;
        let compute = self.change(id, |kept| {
            let access = kept.whole.access.clone();
            kept.pending_users
                .retain(|name, _| access.users.iter().all(|user| user.name != *name));
            kept.pending_databases
                .retain(|name, _| !access.databases.contains(name));
            kept.pending_settings.clear();
            Ok(ComputeRecord {
                state: ComputeState::Starting,
                incarnation: kept.whole.record.compute.incarnation + 1,
                round: 0,
                forced: false,
                since: now,
                reason: None,
            })
        })?;
        self.lock().keep_compute(id, &compute);
        let whole = self.with(id, |kept| Ok(kept.whole()));
        self.travel().await;
        whole
    }

    async fn set_compute(&self, id: &ProjectId, compute: &ComputeRecord) -> Result<(), StoreError> {
        self.travel().await;
        self.lock_in_term()?.keep_compute(id, compute);
        self.travel().await;
        Ok(())
    }

    async fn transitions(
        &self,
        id: &ProjectId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Transition>, StoreError> {
        let inner = self.lock();
        let wanted = |(project, _, made): &&(ProjectId, EpochMs, Transition)| {
            project == id && before.is_none_or(|before| made.id < before)
        };
        let of_project = inner.transitions.iter().rev().filter(wanted);
        Ok(of_project
            .map(|(_, _, made)| made.clone())
            .take(limit as usize)
            .collect())
    }

    async fn prune_transitions(&self, before: EpochMs) -> Result<u64, StoreError> {
        let mut inner = self.lock_in_term()?;
        let all = inner.transitions.clone();
        let last_of = |id: &ProjectId, created: EpochMs| {
            let old = all
                .iter()
                .rev()
                .find(|(other, of, made)| other == id && *of == created && made.at < before);
            old.map(|(_, _, made)| made.id)
        };
        let Inner {
            transitions, projects, ..
        } = &mut *inner;
        transitions.retain(|(id, created, made)| {
            let exists = projects
                .get(id)
                .is_some_and(|kept| kept.whole.record.created == *created);
            made.at >= before || exists && last_of(id, *created) == Some(made.id)
        });
        Ok((all.len() - transitions.len()) as u64)
    }

    async fn set_sleep(&self, read: &ProjectRecord, sleep: Sleep) -> Result<(), StoreError> {
        self.change(&read.id, |kept| {
            kept.whole.record.expect(read)?;
            kept.whole.record.sleep = sleep;
            Ok(())
        })
    }

    async fn set_observed(&self, id: &ProjectId, observed: &Observed) -> Result<Access, StoreError> {
        self.change(id, |kept| {
            let users = kept.whole.access.users.len();
            let mut arrived = false;
            kept.whole.access.users.retain_mut(|user| {
                let fate = fate(user, observed);
                user.known |= fate == Fate::Arrived;
                arrived |= fate == Fate::Arrived;
                fate != Fate::Gone
            });
            let changed = arrived || kept.whole.access.users.len() < users;
            let seen = kept.seen.clone();
            let exists = |name: &DatabaseName| observed.databases.iter().any(|seen| seen == name.as_str());
            let databases = &mut kept.whole.access.databases;
            let before = databases.len();
            databases.retain(|name| exists(name) || !kept.seen.contains(name));
            let dropped = databases.len() < before;
            kept.seen = databases.iter().filter(|name| exists(name)).cloned().collect();
            kept.whole.access.revision += i64::from(changed || dropped || kept.seen != seen);
            kept.whole.observed = Some(observed.clone());
            Ok(kept.access())
        })
    }

    fn for_term(&self, term: i64) -> Arc<dyn Store> {
        Arc::new(Self {
            term: Some(term),
            ..self.clone()
        })
    }

    async fn take_lease(&self, name: &str, holder: &Holder, lasts: Duration) -> Result<Option<i64>, StoreError> {
        self.answers().await;
        let mut inner = self.lock();
        let now = Instant::now();
        let earlier = inner.leases.get(name);
        if earlier.is_some_and(|(_, expires)| *expires > now) {
            return Ok(None);
        }
        let term = earlier.map_or(0, |(lease, _)| lease.term) + 1;
        let lease = LeaseRecord {
            name: name.into(),
            term,
            holder: holder.clone(),
        };
        inner.leases.insert(name.into(), (lease, now + lasts));
        Ok(Some(term))
    }

    async fn renew_lease(&self, name: &str, term: i64, lasts: Duration) -> Result<bool, StoreError> {
        self.answers().await;
        let mut inner = self.lock();
        let held = inner.leases.get_mut(name).filter(|(lease, _)| lease.term == term);
        Ok(held.map(|(_, expires)| *expires = Instant::now() + lasts).is_some())
    }

    async fn release_lease(&self, name: &str, term: i64) -> Result<(), StoreError> {
        self.renew_lease(name, term, Duration::ZERO).await.map(drop)
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        self.answers().await;
        let inner = self.lock();
        let in_force = inner.leases.values().filter(|(_, expires)| *expires > Instant::now());
        Ok(in_force.map(|(lease, _)| lease.clone()).collect())
    }

    async fn close(&self) {}
}

#[async_trait]
impl Keys for MemoryStore {
    async fn put_key(&self, name: &str, hash: [u8; 32], now: EpochMs) -> Result<(), StoreError> {
        let key = KeyRecord {
            name: name.into(),
            scope: Scope::Admin,
            project: None,
            created: now,
            expires: None,
            last_used: None,
        };
        self.lock_in_term()?.keys.insert(name.into(), (key, hash));
        Ok(())
    }

    async fn add_key(&self, key: &KeyRecord, hash: [u8; 32]) -> Result<(), StoreError> {
        if let Some(project) = &key.project {
            self.with(project, |_| Ok(()))?;
        }
        let mut inner = self.lock_in_term()?;
        if inner.keys.contains_key(&key.name) {
            return Err(StoreError::Exists("key"));
        }
        inner.keys.insert(key.name.clone(), (key.clone(), hash));
        Ok(())
    }

    async fn key(&self, hash: [u8; 32]) -> Result<Option<KeyRecord>, StoreError> {
        let inner = self.lock();
        let mut kept = inner.keys.values();
        Ok(kept.find(|(_, kept)| *kept == hash).map(|(key, _)| key.clone()))
    }

    async fn key_named(&self, name: &str) -> Result<KeyRecord, StoreError> {
        let inner = self.lock();
        let key = inner.keys.get(name).map(|(key, _)| key.clone());
        key.ok_or(StoreError::NotFound("key"))
    }

    async fn keys(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>, StoreError> {
        let inner = self.lock();
        let page = inner
            .keys
            .values()
            .filter(|(key, _)| key.name.as_str() > after.unwrap_or_default());
        Ok(page.take(limit as usize).map(|(key, _)| key.clone()).collect())
    }

    async fn set_key_expiry(&self, read: &KeyRecord, expires: Option<EpochMs>) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        inner.expected_key(read)?.expires = expires;
        Ok(())
    }

    async fn remove_key(&self, read: &KeyRecord) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        inner.expected_key(read)?;
        inner.keys.remove(&read.name);
        Ok(())
    }

    async fn key_used(&self, hash: [u8; 32], now: EpochMs) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        if let Some((key, _)) = inner.keys.values_mut().find(|(_, kept)| *kept == hash) {
            key.last_used = Some(now);
        }
        Ok(())
    }
}

#[async_trait]
impl AuditLog for MemoryStore {
    async fn begin_audit(&self, attempt: &Attempt) -> Result<i64, StoreError> {
        let mut inner = self.lock_in_term()?;
        let id = inner.audit.last().map_or(0, |last| last.id) + 1;
        let attempt = attempt.clone();
        let status = None;
        inner.audit.push(AuditRecord { id, attempt, status });
        Ok(id)
    }

    async fn finish_audit(&self, id: i64, status: u16, project: Option<&ProjectId>) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        if let Some(record) = inner.audit.iter_mut().find(|record| record.id == id) {
            record.status = Some(status);
            let known = record.attempt.project.take();
            record.attempt.project = known.or(project.map(ToString::to_string));
        }
        Ok(())
    }

    async fn audit(
        &self,
        project: Option<&ProjectId>,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let inner = self.lock();
        let of_project = |record: &&AuditRecord| {
            project.is_none_or(|project| record.attempt.project.as_deref() == Some(project.as_str()))
        };
        let ends = |record: &&AuditRecord| {
            let path = project.is_some_and(|project| record.attempt.path == path_of(project));
            let began = record.status.is_none_or(|status| status == 204 || status >= 500);
            path && began && record.attempt.method == "DELETE"
        };
        let ended = inner
            .audit
            .iter()
            .filter(of_project)
            .filter(ends)
            .map(|record| record.id)
            .max();
        let page = inner.audit.iter().rev().filter(of_project).filter(|record| {
            record.id < after.unwrap_or(i64::MAX) && (project.is_none() || record.id > ended.unwrap_or_default())
        });
        Ok(page.take(limit as usize).cloned().collect())
    }

    async fn prune_audit(&self, before: EpochMs, rows_max: u32) -> Result<u64, StoreError> {
        let mut inner = self.lock_in_term()?;
        let rows = inner.audit.len();
        inner.audit.retain(|record| record.attempt.at >= before);
        let too_many = inner.audit.len().saturating_sub(rows_max as usize);
        inner.audit.drain(..too_many);
        Ok((rows - inner.audit.len()) as u64)
    }
}

#[async_trait]
impl Replays for MemoryStore {
    async fn begin_replay(&self, new: &NewReplay) -> Result<Replay, StoreError> {
        let mut inner = self.lock_in_term()?;
        inner
            .replays
            .retain(|id, kept| id.key_hash != new.id.key_hash || kept.new.now >= new.expired);
        let kept = inner.replays.keys().filter(|id| id.key_hash == new.id.key_hash).count();
        if let Some(kept) = inner.replays.get_mut(&new.id) {
            if kept.new.request_hash != new.request_hash {
                return Ok(Replay::Other);
            }
            if let Some(answer) = &kept.answer {
                return Ok(Replay::Done(answer.clone()));
            }
            if kept.new.lease > new.now {
                return Ok(Replay::InProgress);
            }
            kept.new.lease = new.lease;
            return Ok(Replay::Begun);
        }
        if kept >= new.rows_max as usize {
            return Ok(Replay::Full);
        }
        let (new, answer) = (new.clone(), None);
        inner.replays.insert(new.id.clone(), KeptReplay { new, answer });
        Ok(Replay::Begun)
    }

    async fn extend_replay(&self, id: &ReplayId, lease: EpochMs) -> Result<(), StoreError> {
        if let Some(kept) = self.lock_in_term()?.replays.get_mut(id) {
            kept.new.lease = lease;
        }
        Ok(())
    }

    async fn finish_replay(&self, id: &ReplayId, answer: &Answer) -> Result<(), StoreError> {
        if let Some(kept) = self.lock_in_term()?.replays.get_mut(id) {
            kept.answer = Some(answer.clone());
        }
        Ok(())
    }

    async fn drop_replay(&self, id: &ReplayId) -> Result<(), StoreError> {
        self.lock_in_term()?
            .replays
            .retain(|other, kept| other != id || kept.answer.is_some());
        Ok(())
    }

    async fn prune_replays(&self, expired: EpochMs) -> Result<u64, StoreError> {
        let mut inner = self.lock_in_term()?;
        let rows = inner.replays.len();
        inner.replays.retain(|_, kept| kept.new.now >= expired);
        Ok((rows - inner.replays.len()) as u64)
    }
}

#[tokio::test]
async fn behaves_as_a_store_must() {
    suite::run_all(async || ((), MemoryStore::default())).await;
}
