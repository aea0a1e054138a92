//! Forgets what is too old: the audit log, kept answers, operations and what computes have done are bounded in time, most of
//! them in number, too. The control plane that leads does it.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    clock,
    rest::change::KEPT_MS,
    store::{Store, StoreError},
    usage::WINDOWS_KEPT_MS,
};

/// Of the audit log: a quarter of a year, as auditors ask for.
const AUDIT_KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;
/// Some 300 MB in SQLite as a rule, 5 GB where every request says as much as is kept of one.
const AUDIT_ROWS_MAX: u32 = 1_000_000;
/// Of one project: a change every twelve minutes for all of that time. Whoever has a key for one project cannot push out
/// what was done with others, or by operators.
const AUDIT_ROWS_OF_PROJECT_MAX: u32 = 10_000;
/// Ended operations are looked at within days, and 100 of each project are kept at most.
const OPERATIONS_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// The bill of a year can be drawn up and disputed a month later.
pub(crate) const TRANSITIONS_KEPT_MS: i64 = 400 * 24 * 60 * 60 * 1000;
/// What is kept an hour too long costs nothing.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Goes on until it is dropped; the first time at once.
pub(crate) async fn prune(store: &dyn Store) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match once(store).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(
                rows,
                "forgot old rows of the audit log, old answers, old usage and old states of computes"
            ),
            Err(error) => tracing::warn!(%error, "old rows are not forgotten yet"),
        }
    }
}

async fn once(store: &dyn Store) -> Result<u64, StoreError> {
    let now = clock::now();
    store.prune_operations(now - OPERATIONS_KEPT_MS).await?;
    let transitions = store.prune_transitions(now - TRANSITIONS_KEPT_MS).await?;
    let usage = store
        .prune_usage(now - WINDOWS_KEPT_MS, now - TRANSITIONS_KEPT_MS)
        .await?;
    let audit = store
        .prune_audit(now - AUDIT_KEPT_MS, AUDIT_ROWS_OF_PROJECT_MAX, AUDIT_ROWS_MAX)
        .await?;
    Ok(transitions + usage + audit + store.prune_replays(now - KEPT_MS).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        audit::{Attempt, AuditLog},
        memory::MemoryStore,
    };

    #[tokio::test]
    async fn what_is_older_than_90_days_is_forgotten_and_the_rest_kept() {
        let store = MemoryStore::default();
        let attempt = |at| Attempt {
            at,
            key_name: "k".into(),
            method: "POST".into(),
            path: "/".into(),
            project: None,
            changed: None,
            request_id: String::new(),
        };
        let now = clock::now();
        store.begin_audit(&attempt(now - AUDIT_KEPT_MS - 1_000)).await.unwrap();
        store.begin_audit(&attempt(now - AUDIT_KEPT_MS + 60_000)).await.unwrap();
        assert_eq!(once(&store).await.unwrap(), 1);
        assert_eq!(store.audit(None, None, 9).await.unwrap().len(), 1);
    }
}
