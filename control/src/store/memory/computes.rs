//! `store::computes` in memory.

use control_api::rest::WokenBy;

use super::*;

#[async_trait]
impl ComputeStates for MemoryStore {
    async fn begin_start_for(&self, id: &ProjectId, now: EpochMs, by: &WokenBy) -> Result<WholeProject, StoreError> {
        self.travel().await;
        let fails = |left: u32| left.checked_sub(1);
        if self
            .starts_fail
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
            .is_ok()
        {
            return Err(StoreError::Backend("the connection was lost".into()));
        }
        let compute = self.change(id, |kept| {
            let access = kept.whole.access.clone();
            kept.pending_users
                .retain(|name, _| access.users.iter().all(|user| user.name != *name));
            kept.pending_databases
                .retain(|name, _| !access.databases.contains(name));
            kept.pending_settings.clear();
            kept.size_ucu = ucu(kept.whole.record.size_cu);
            Ok(ComputeRecord {
                state: ComputeState::Starting,
                incarnation: kept.whole.record.compute.incarnation + 1,
                round: 0,
                forced: false,
                since: now,
                reason: None,
                size_ucu: kept.size_ucu,
            })
        })?;
        {
            let mut inner = self.lock();
            inner.keep_compute(id, &compute);
            let written = inner.transitions.last().map(|(.., made)| made.id);
            inner.causes.extend(written.map(|written| (written, by.clone())));
        }
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
        created: Option<EpochMs>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Transition>, StoreError> {
        let inner = self.lock();
        let wanted = |(project, of, made): &&(ProjectId, EpochMs, Transition)| {
            project == id
                && created.is_none_or(|created| created == *of)
                && before.is_none_or(|before| made.id < before)
        };
        let of_project = inner.transitions.iter().rev().filter(wanted);
        Ok(of_project
            .map(|(_, _, made)| made.clone())
            .take(limit as usize)
            .collect())
    }

    async fn lives(
        &self,
        id: &ProjectId,
        created: EpochMs,
        incarnations: std::ops::Range<u64>,
    ) -> Result<Vec<(Transition, Option<WokenBy>)>, StoreError> {
        let inner = self.lock();
        let wanted = inner.transitions.iter().filter(|(project, made, transition)| {
            project == id && *made == created && incarnations.contains(&transition.incarnation)
        });
        Ok(wanted
            .map(|(.., made)| (made.clone(), inner.causes.get(&made.id).cloned()))
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
            transitions,
            projects,
            past,
            ..
        } = &mut *inner;
        transitions.retain(|(id, created, made)| {
            let exists = projects
                .get(id)
                .is_some_and(|kept| kept.whole.record.created == *created);
            let existed = past.iter().any(|past| {
                past.billed.id == *id && past.billed.created == *created && past.billed.deleted >= Some(before)
            });
            made.at >= before || (exists || existed) && last_of(id, *created) == Some(made.id)
        });
        Ok((all.len() - transitions.len()) as u64)
    }
}
