//! `store::audit` in memory.

use super::*;

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

    async fn prune_audit(&self, before: EpochMs, of_project_max: u32, rows_max: u32) -> Result<u64, StoreError> {
        let mut inner = self.lock_in_term()?;
        let rows = inner.audit.len();
        inner.audit.retain(|record| record.attempt.at >= before);
        let mut places: BTreeMap<String, u32> = BTreeMap::new();
        let mut kept: Vec<_> = std::mem::take(&mut inner.audit);
        kept.reverse();
        kept.retain(|record| {
            let Some(project) = &record.attempt.project else {
                return true;
            };
            let place = places.entry(project.clone()).or_default();
            *place += 1;
            *place <= of_project_max
        });
        kept.reverse();
        inner.audit = kept;
        let too_many = inner.audit.len().saturating_sub(rows_max as usize);
        inner.audit.drain(..too_many);
        Ok((rows - inner.audit.len()) as u64)
    }
}
