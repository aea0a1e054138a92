//! `store::usage` in SQL.

use std::ops::Range;

use async_trait::async_trait;
use sqlx::Row;

use super::{SqlStore, Tx};
use crate::{
    name::ProjectId,
    store::{
        EpochMs, StoreError, Transition,
        rows::TransitionRow,
        usage::{COLUMNS, CountedHours, Counts, HOUR_MS, UsageHours, UsageWindow, WindowId},
    },
};

/// A minute of difference between the clocks of gateway and database.
const CLOCKS_APART_MS: i64 = 60_000;

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

/// Adds to the hour, whether there is anything in it or not.
fn add() -> String {
    let places: Vec<_> = (0..COLUMNS.len()).map(|n| format!("${}", n + 4)).collect();
    let sums: Vec<_> = COLUMNS
        .iter()
        .map(|column| format!("{column} = usage_hours.{column} + excluded.{column}"))
        .collect();
    format!(
        "INSERT INTO usage_hours (project_id, project_created_ms, hour_ms, {}) VALUES ($1, \
         COALESCE((SELECT created_ms FROM projects WHERE id = $1 AND created_ms <= $3), \
         (SELECT MAX(project_created_ms) FROM usage_hours WHERE project_id = $1), \
         (SELECT created_ms FROM projects WHERE id = $1), 0), $2, {}) \
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
        let hour = window.id.start.div_euclid(HOUR_MS) * HOUR_MS;
        let statement = add();
        for (project, counts) in &window.projects {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(statement.as_str()))
                .bind(project.as_str())
                .bind(hour)
                .bind(window.end + CLOCKS_APART_MS);
            for count in counts {
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
        windows: &[WindowId],
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
            counted.hours.push((row.try_get(0)?, counts));
        }
        for window in windows {
            if is_taken(&mut tx, window).await? {
                counted.taken.push(window.clone());
            }
        }
        Ok(counted)
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
