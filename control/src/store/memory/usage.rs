//! `store::usage` in memory.

use std::ops::Range;

use super::*;
use crate::store::usage::{
    self, Billed, CLOCKS_APART_MS, CountedHours, HOUR_MS, PastProject, Share, UsageHours, UsageWindow,
};

impl Inner {
    /// The project is gone.
    pub(super) fn was(&mut self, record: &ProjectRecord, now: EpochMs) {
        let billed = billed(record);
        self.past
            .retain(|past| (&past.billed.id, past.billed.created) != (&billed.id, billed.created));
        self.past.push(PastProject {
            number: self.past.last().map_or(0, |last| last.number) + 1,
            billed: Billed {
                deleted: Some(now),
                ..billed
            },
        });
    }

    fn whose(&self, share: &Share, end: EpochMs) -> EpochMs {
        let there = self.projects.get(&share.project).map(|kept| kept.whole.record.created);
        let were = || self.past.iter().filter(|past| past.billed.id == share.project);
        let were = || were().map(|past| past.billed.created);
        let ended = end + CLOCKS_APART_MS;
        there
            .into_iter()
            .chain(were())
            .find(|created| *created == share.created)
            .or(there.filter(|created| *created <= ended))
            .or(were().filter(|created| *created <= ended).max())
            .or(were().min())
            .or(there)
            .unwrap_or_default()
    }
}

fn billed(record: &ProjectRecord) -> Billed {
    Billed {
        id: record.id.clone(),
        created: record.created,
        deleted: None,
        size_cu: record.size_cu,
    }
}

#[async_trait]
impl UsageHours for MemoryStore {
    async fn add_usage(&self, window: &UsageWindow) -> Result<bool, StoreError> {
        let mut inner = self.lock_in_term()?;
        if !inner.usage_windows.insert(window.id.clone()) {
            return Ok(false);
        }
        for share in &window.shares {
            let created = inner.whose(share, window.end);
            let hour = (share.project.clone(), created, window.hour());
            usage::add(inner.usage_hours.entry(hour).or_default(), &share.counts);
        }
        Ok(true)
    }

    async fn usage(
        &self,
        id: &ProjectId,
        created: EpochMs,
        hours: Range<EpochMs>,
        open: &[UsageWindow],
    ) -> Result<CountedHours, StoreError> {
        let inner = self.lock();
        let of_project = inner
            .usage_hours
            .iter()
            .filter(|((project, made, hour), _)| project == id && *made == created && hours.contains(hour));
        let mut counted: CountedHours = of_project.map(|((.., hour), counts)| (*hour, *counts)).collect();
        for window in open.iter().filter(|window| hours.contains(&window.hour())) {
            if inner.usage_windows.contains(&window.id) {
                continue;
            }
            let of_project = |share: &&Share| share.project == *id && inner.whose(share, window.end) == created;
            for share in window.shares.iter().filter(of_project) {
                usage::add(counted.entry(window.hour()).or_default(), &share.counts);
            }
        }
        Ok(counted)
    }

    async fn billed(&self, id: &ProjectId, created: Option<EpochMs>) -> Result<Billed, StoreError> {
        let inner = self.lock();
        let there = inner.projects.get(id).map(|kept| billed(&kept.whole.record));
        let were = inner.past.iter().rev().map(|past| past.billed.clone());
        let mut all = there.into_iter().chain(were.filter(|billed| billed.id == *id));
        all.find(|billed| created.is_none_or(|created| billed.created == created))
            .ok_or(NO_PROJECT)
    }

    async fn past_projects(&self, before: Option<i64>, limit: u32) -> Result<Vec<PastProject>, StoreError> {
        let inner = self.lock();
        let past = inner
            .past
            .iter()
            .rev()
            .filter(|past| before.is_none_or(|before| past.number < before));
        Ok(past.take(limit as usize).cloned().collect())
    }

    async fn transitions_within(
        &self,
        id: &ProjectId,
        created: EpochMs,
        time: Range<EpochMs>,
    ) -> Result<Vec<Transition>, StoreError> {
        let inner = self.lock();
        let of_project: Vec<_> = inner
            .transitions
            .iter()
            .filter(|(project, made, _)| project == id && *made == created)
            .map(|(.., made)| made)
            .collect();
        let before = of_project
            .iter()
            .rposition(|made| made.at <= time.start)
            .unwrap_or_default();
        let within = of_project[before..].iter().take_while(|made| made.at < time.end);
        Ok(within.map(|made| (*made).clone()).collect())
    }

    async fn prune_usage(&self, windows: EpochMs, hours: EpochMs) -> Result<u64, StoreError> {
        let mut inner = self.lock_in_term()?;
        let rows = |inner: &Inner| inner.usage_windows.len() + inner.usage_hours.len() + inner.past.len();
        let before = rows(&inner);
        inner.usage_windows.retain(|window| window.start >= windows);
        inner.usage_hours.retain(|(.., hour), _| *hour >= hours - HOUR_MS);
        inner.past.retain(|past| past.billed.deleted >= Some(hours));
        Ok((before - rows(&inner)) as u64)
    }
}
