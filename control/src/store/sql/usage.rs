//! `store::usage` in SQL.

use std::ops::Range;

use async_trait::async_trait;
use sqlx::Row;

use super::{SqlStore, Tx};
use crate::{
    name::ProjectId,
    store::{
        EpochMs, StoreError, Transition,
        rows::{BilledRow, PastProjectRow, TransitionRow},
        usage::{
            self, Billed, CLOCKS_APART_MS, COLUMNS, CountedHours, Counts, HOUR_MS, PastProject, Share, UsageHours,
            UsageWindow, WindowId,
        },
    },
};

/// When the project was made that a share counts for (`store::usage::Share`). $1: its name. $2: when it was made, as the
/// gateway says. $3: the end of the window, by a clock that is behind. 0: there never was one.
const WHOSE: &str = "COALESCE(\
     (SELECT created_ms FROM projects WHERE id = $1 AND created_ms = $2), \
     (SELECT project_created_ms FROM past_projects WHERE project_id = $1 AND project_created_ms = $2), \
     (SELECT created_ms FROM projects WHERE id = $1 AND created_ms <= $3), \
     (SELECT MAX(project_created_ms) FROM past_projects WHERE project_id = $1 AND project_created_ms <= $3), \
     (SELECT MIN(project_created_ms) FROM past_projects WHERE project_id = $1), \
     (SELECT created_ms FROM projects WHERE id = $1), 0)";

async fn is_taken(tx: &mut Tx, window: &WindowId) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT sequence FROM usage_windows WHERE gateway_id = $1 AND sequence = $2 AND start_ms = $3",
    )
    .bind(&window.gateway_id)
    .bind(window.sequence)
    .bind(window.start)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found.is_some())
}

async fn whose(tx: &mut Tx, share: &Share, end: EpochMs) -> Result<EpochMs, StoreError> {
    let created: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT {WHOSE}")))
        .bind(share.project.as_str())
        .bind(share.created)
        .bind(end + CLOCKS_APART_MS)
        .fetch_one(&mut **tx)
        .await?;
    Ok(created)
}

/// Adds to the hour, whether there is anything in it or not.
fn add() -> String {
    let places: Vec<_> = (0..COLUMNS.len()).map(|n| format!("${}", n + 5)).collect();
    let sums: Vec<_> = COLUMNS
        .iter()
        .map(|column| format!("{column} = usage_hours.{column} + excluded.{column}"))
        .collect();
    format!(
        "INSERT INTO usage_hours (project_id, project_created_ms, hour_ms, {}) VALUES ($1, {WHOSE}, $4, {}) \
         ON CONFLICT (project_id, project_created_ms, hour_ms) DO UPDATE SET {}",
        COLUMNS.join(", "),
        places.join(", "),
        sums.join(", ")
    )
}

#[async_trait]
impl UsageHours for SqlStore {
    async fn add_usage(&self, window: &UsageWindow) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let named = sqlx::query(
            "INSERT INTO usage_windows (gateway_id, sequence, start_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(&window.id.gateway_id)
        .bind(window.id.sequence)
        .bind(window.id.start)
        .execute(&mut *tx)
        .await?;
        if named.rows_affected() == 0 {
            return Ok(false);
        }
        let statement = add();
        for share in &window.shares {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(statement.as_str()))
                .bind(share.project.as_str())
                .bind(share.created)
                .bind(window.end + CLOCKS_APART_MS)
                .bind(window.hour());
            for count in &share.counts {
                query = query.bind(count);
            }
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn usage(
        &self,
        id: &ProjectId,
        created: EpochMs,
        hours: Range<EpochMs>,
        open: &[UsageWindow],
    ) -> Result<CountedHours, StoreError> {
        let mut tx = self.read().await?;
        let statement = format!(
            "SELECT hour_ms, {} FROM usage_hours WHERE project_id = $1 AND project_created_ms = $2 \
             AND hour_ms >= $3 AND hour_ms < $4 ORDER BY hour_ms",
            COLUMNS.join(", ")
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement.as_str()))
            .bind(id.as_str())
            .bind(created)
            .bind(hours.start)
            .bind(hours.end)
            .fetch_all(&mut *tx)
            .await?;
        let mut counted = CountedHours::default();
        for row in rows {
            let mut counts = Counts::default();
            for (at, count) in counts.iter_mut().enumerate() {
                *count = row.try_get(at + 1)?;
            }
            counted.insert(row.try_get(0)?, counts);
        }
        for window in open.iter().filter(|window| hours.contains(&window.hour())) {
            if is_taken(&mut tx, &window.id).await? {
                continue;
            }
            for share in window.shares.iter().filter(|share| share.project == *id) {
                if whose(&mut tx, share, window.end).await? == created {
                    usage::add(counted.entry(window.hour()).or_default(), &share.counts);
                }
            }
        }
        Ok(counted)
    }

    async fn billed(&self, id: &ProjectId, created: Option<EpochMs>) -> Result<Billed, StoreError> {
        let mut tx = self.read().await?;
        let there = sqlx::query_as::<_, BilledRow>(
            "SELECT id AS project_id, created_ms, CAST(NULL AS BIGINT) AS deleted_ms, size_cu FROM projects \
             WHERE id = $1 AND ($2 IS NULL OR created_ms = $2)",
        )
        .bind(id.as_str())
        .bind(created)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(there) = there {
            return there.try_into();
        }
        let was = sqlx::query_as::<_, BilledRow>(
            "SELECT project_id, project_created_ms AS created_ms, deleted_ms, size_cu FROM past_projects \
             WHERE project_id = $1 AND ($2 IS NULL OR project_created_ms = $2) ORDER BY number DESC LIMIT 1",
        )
        .bind(id.as_str())
        .bind(created)
        .fetch_optional(&mut *tx)
        .await?;
        was.ok_or(StoreError::NotFound("project"))?.try_into()
    }

    async fn past_projects(&self, before: Option<i64>, limit: u32) -> Result<Vec<PastProject>, StoreError> {
        let rows = sqlx::query_as::<_, PastProjectRow>(
            "SELECT number, project_id, project_created_ms AS created_ms, deleted_ms, size_cu FROM past_projects \
             WHERE number < $1 ORDER BY number DESC LIMIT $2",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(PastProject::try_from).collect()
    }

    async fn transitions_within(
        &self,
        id: &ProjectId,
        created: EpochMs,
        time: Range<EpochMs>,
    ) -> Result<Vec<Transition>, StoreError> {
        let rows = sqlx::query_as::<_, TransitionRow>(
            "SELECT id, incarnation, from_state, to_state, at_ms, reason, size_ucu FROM compute_transitions \
             WHERE project_id = $1 AND project_created_ms = $2 AND at_ms < $4 AND id >= COALESCE(\
             (SELECT MAX(id) FROM compute_transitions WHERE project_id = $1 AND project_created_ms = $2 \
             AND at_ms <= $3), 0) ORDER BY id",
        )
        .bind(id.as_str())
        .bind(created)
        .bind(time.start)
        .bind(time.end)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Transition::try_from).collect()
    }

    async fn prune_usage(&self, windows: EpochMs, hours: EpochMs) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let mut pruned = 0;
        for (statement, before) in [
            ("DELETE FROM usage_windows WHERE start_ms < $1", windows),
            ("DELETE FROM usage_hours WHERE hour_ms < $1", hours - HOUR_MS),
            ("DELETE FROM past_projects WHERE deleted_ms < $1", hours),
        ] {
            pruned += sqlx::query(statement)
                .bind(before)
                .execute(&mut *tx)
                .await?
                .rows_affected();
        }
        tx.commit().await?;
        Ok(pruned)
    }
}
