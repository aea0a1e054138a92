//! `store::operations` in memory.

use async_trait::async_trait;
use control_api::rest::{OperationKind, OperationState};

use super::*;
use crate::store::operations::{BY_CONTROL, KEPT_PER_PROJECT, OperationRecord, Operations, begun_by, ended_by, new_id};

impl Inner {
    fn open(&mut self, project: &ProjectId, kind: OperationKind) -> Option<&mut OperationRecord> {
        let mut open = self.operations.values_mut();
        open.find(|operation| operation.project == *project && operation.kind == kind && operation.ended.is_none())
    }

    pub(super) fn begin(
        &mut self,
        project: &ProjectId,
        (kind, step): (OperationKind, &str),
        requested_by: &str,
        incarnation: Option<u64>,
        now: EpochMs,
    ) {
        if self.open(project, kind).is_some() {
            return;
        }
        let record = OperationRecord {
            id: new_id(now),
            project: project.clone(),
            kind,
            state: OperationState::Running,
            step: step.into(),
            error: None,
            incarnation,
            requested_by: requested_by.into(),
            created: now,
            updated: now,
            ended: None,
        };
        self.operations.insert(record.id.clone(), record);
    }

    pub(super) fn end(&mut self, project: &ProjectId, kind: OperationKind, error: Option<&str>, now: EpochMs) {
        let Some(open) = self.open(project, kind) else { return };
        open.state = if error.is_some() {
            OperationState::Failed
        } else {
            OperationState::Done
        };
        if error.is_some() {
            counted::operation_failed(kind);
        }
        open.error = error.map(Into::into);
        open.updated = now;
        open.ended = Some(now);
        let ended = self.operations.values().rev();
        let ended = ended.filter(|operation| operation.project == *project && operation.ended.is_some());
        let old: Vec<_> = ended
            .skip(usize::try_from(KEPT_PER_PROJECT).unwrap_or(usize::MAX))
            .map(|old| old.id.clone())
            .collect();
        self.operations.retain(|id, _| !old.contains(id));
    }

    pub(super) fn compute_changed(&mut self, project: &ProjectId, compute: &ComputeRecord) {
        for (kind, error) in ended_by(compute) {
            self.end(project, kind, error.as_deref(), compute.since);
        }
        if let Some(begun) = begun_by(compute) {
            self.begin(project, begun, BY_CONTROL, Some(compute.incarnation), compute.since);
        }
    }
}

#[async_trait]
impl Operations for MemoryStore {
    async fn operation(&self, id: &str) -> Result<OperationRecord, StoreError> {
        let found = self.lock().operations.get(id).cloned();
        found.ok_or(StoreError::NotFound("operation"))
    }

    async fn operations(
        &self,
        project: &ProjectId,
        since: EpochMs,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OperationRecord>, StoreError> {
        let inner = self.lock();
        let of_project = inner
            .operations
            .values()
            .rev()
            .filter(|operation| operation.project == *project && operation.created >= since);
        let page = of_project.filter(|operation| before.is_none_or(|before| operation.id.as_str() < before));
        Ok(page.take(limit as usize).cloned().collect())
    }

    async fn open_operations(&self) -> Result<Vec<OperationRecord>, StoreError> {
        let inner = self.lock();
        let open = inner.operations.values().filter(|operation| operation.ended.is_none());
        Ok(open.cloned().collect())
    }

    async fn step_operation(
        &self,
        project: &ProjectId,
        kind: OperationKind,
        step: &str,
        error: Option<&str>,
        now: EpochMs,
    ) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        if let Some(open) = inner.open(project, kind) {
            open.step = step.into();
            open.error = error.map(Into::into);
            open.updated = now;
        }
        Ok(())
    }

    async fn end_operation(
        &self,
        project: &ProjectId,
        kind: OperationKind,
        error: Option<&str>,
        now: EpochMs,
    ) -> Result<(), StoreError> {
        self.lock_in_term()?.end(project, kind, error, now);
        Ok(())
    }

    async fn prune_operations(&self, before: EpochMs) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        inner
            .operations
            .retain(|_, operation| operation.ended.is_none_or(|ended| ended >= before));
        Ok(())
    }
}
