//! `store::usage` in memory.

use std::ops::Range;

use super::*;
use crate::store::usage::{CountedHours, Counts, HOUR_MS, UsageHours, UsageWindow, WindowId};

#[async_trait]
impl UsageHours for MemoryStore {
    async fn add_usage(&self, window: &UsageWindow) -> Result<bool, StoreError> {
        let mut inner = self.lock_in_term()?;
        if !inner.usage_windows.insert(window.id.clone()) {
            return Ok(false);
        }
        let hour = window.id.start.div_euclid(HOUR_MS) * HOUR_MS;
        for (project, counts) in &window.projects {
            let made = inner.projects.get(project).map(|kept| kept.whole.record.created);
            let last = inner.usage_hours.keys().rev().find(|(id, ..)| id == project);
            let created = made
                .filter(|made| *made <= window.end + 60_000)
                .or(last.map(|(_, created, _)| *created))
                .or(made)
                .unwrap_or_default();
            let sums = inner
                .usage_hours
                .entry((project.clone(), created, hour))
                .or_insert(Counts::default());
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        Ok(true)
    }

    async fn usage(
        &self,
        id: &ProjectId,
        created: EpochMs,
        hours: Range<EpochMs>,
        windows: &[WindowId],
    ) -> Result<CountedHours, StoreError> {
        let inner = self.lock();
        let of_project = inner
            .usage_hours
            .iter()
            .filter(|((project, made, hour), _)| project == id && *made == created && hours.contains(hour));
        let taken = windows.iter().filter(|window| inner.usage_windows.contains(window));
        Ok(CountedHours {
            hours: of_project.map(|((.., hour), counts)| (*hour, *counts)).collect(),
            taken: taken.cloned().collect(),
        })
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
        let rows = |inner: &Inner| inner.usage_windows.len() + inner.usage_hours.len();
        let before = rows(&inner);
        inner.usage_windows.retain(|window| window.start >= windows);
        inner.usage_hours.retain(|(.., hour), _| *hour >= hours - HOUR_MS);
        Ok((before - rows(&inner)) as u64)
    }
}
