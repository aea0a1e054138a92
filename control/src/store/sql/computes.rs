//! `store::computes` in SQL.

use async_trait::async_trait;
use control_api::rest::{ComputeState, WokenBy};

use super::{SqlStore, lock_project, operations, read_project, read_whole};
use crate::{
    name::ProjectId,
    store::{
        ComputeRecord, ComputeStates, EpochMs, StoreError, Transition, WholeProject,
        rows::{self, ComputeRow, LifeRow, TransitionRow},
    },
};

#[async_trait]
impl ComputeStates for SqlStore {
    async fn begin_start_for(&self, id: &ProjectId, now: EpochMs, by: &WokenBy) -> Result<WholeProject, StoreError> {
        let cause = rows::json(by, "compute_transitions.cause")?;
        let mut tx = self.write().await?;
        lock_project(&mut tx, id).await?;
        sqlx::query(
            "INSERT INTO compute_transitions (project_id, project_created_ms, incarnation, from_state, to_state, at_ms, cause, size_ucu) \
             SELECT c.project_id, p.created_ms, c.incarnation + 1, c.state, $2, $3, $4, CAST(ROUND(p.size_cu * 1000000) AS BIGINT) \
             FROM computes c JOIN projects p ON p.id = c.project_id WHERE c.project_id = $1",
        )
        .bind(id.as_str())
        .bind(ComputeState::Starting.as_str())
        .bind(now)
        .bind(cause)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE computes SET state = $2, incarnation = incarnation + 1, drain_round = 0, \
             drain_forced = FALSE, since_ms = $3, reason = NULL, \
             size_ucu = (SELECT CAST(ROUND(p.size_cu * 1000000) AS BIGINT) FROM projects p WHERE p.id = computes.project_id) \
             WHERE project_id = $1",
        )
        .bind(id.as_str())
        .bind(ComputeState::Starting.as_str())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        for added in [
            "DELETE FROM pending_changes WHERE project_id = $1 AND kind = 'user' \
             AND name IN (SELECT name FROM users WHERE project_id = $1)",
            "DELETE FROM pending_changes WHERE project_id = $1 AND kind = 'database' \
             AND name IN (SELECT name FROM databases WHERE project_id = $1)",
            "DELETE FROM pending_changes WHERE project_id = $1 AND kind = 'setting'",
        ] {
            sqlx::query(added).bind(id.as_str()).execute(&mut *tx).await?;
        }
        let record = read_project(&mut tx, id).await?;
        let whole = read_whole(&mut tx, record).await?;
        operations::compute_changed(&mut tx, id, &whole.record.compute).await?;
        tx.commit().await?;
        Ok(whole)
    }

    async fn set_compute(&self, id: &ProjectId, compute: &ComputeRecord) -> Result<(), StoreError> {
        let row = ComputeRow::try_from(compute)?;
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO compute_transitions \
             (project_id, project_created_ms, incarnation, from_state, to_state, at_ms, reason, size_ucu) \
             SELECT c.project_id, p.created_ms, $3, c.state, $2, $4, $5, c.size_ucu \
             FROM computes c JOIN projects p ON p.id = c.project_id \
             WHERE c.project_id = $1 AND c.incarnation <= $3 AND c.state <> $2",
        )
        .bind(id.as_str())
        .bind(&row.state)
        .bind(row.incarnation)
        .bind(row.since_ms)
        .bind(&row.reason)
        .execute(&mut *tx)
        .await?;
        let changed = sqlx::query(
            "UPDATE computes SET state = $2, incarnation = $3, drain_round = $4, drain_forced = $5, \
             since_ms = $6, reason = $7 \
             WHERE project_id = $1 AND incarnation <= $3",
        )
        .bind(id.as_str())
        .bind(row.state)
        .bind(row.incarnation)
        .bind(row.drain_round)
        .bind(row.drain_forced)
        .bind(row.since_ms)
        .bind(row.reason)
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() > 0 {
            operations::compute_changed(&mut tx, id, compute).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn transitions(
        &self,
        id: &ProjectId,
        created: Option<EpochMs>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Transition>, StoreError> {
        let rows = sqlx::query_as::<_, TransitionRow>(
            "SELECT id, incarnation, from_state, to_state, at_ms, reason, size_ucu FROM compute_transitions \
             WHERE project_id = $1 AND id < $2 AND project_created_ms = COALESCE($3, project_created_ms) \
             ORDER BY id DESC LIMIT $4",
        )
        .bind(id.as_str())
        .bind(before.unwrap_or(i64::MAX))
        .bind(created)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Transition::try_from).collect()
    }

    async fn lives(
        &self,
        id: &ProjectId,
        created: EpochMs,
        incarnations: std::ops::Range<u64>,
    ) -> Result<Vec<(Transition, Option<WokenBy>)>, StoreError> {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let rows = sqlx::query_as::<_, LifeRow>(
            "SELECT id, incarnation, from_state, to_state, at_ms, reason, size_ucu, cause FROM compute_transitions \
             WHERE project_id = $1 AND project_created_ms = $2 AND incarnation >= $3 AND incarnation < $4 ORDER BY id",
        )
        .bind(id.as_str())
        .bind(created)
        .bind(whole(incarnations.start))
        .bind(whole(incarnations.end))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(LifeRow::life).collect()
    }

    async fn prune_transitions(&self, before: EpochMs) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        // Two projects of one name, one after the other, are told apart by when they were made.
        let result = sqlx::query(
            "DELETE FROM compute_transitions WHERE at_ms < $1 AND (\
             EXISTS (SELECT 1 FROM compute_transitions l WHERE l.project_id = compute_transitions.project_id \
             AND l.project_created_ms = compute_transitions.project_created_ms \
             AND l.id > compute_transitions.id AND l.at_ms < $1) \
             OR NOT EXISTS (SELECT 1 FROM projects p WHERE p.id = compute_transitions.project_id \
             AND p.created_ms = compute_transitions.project_created_ms) \
             AND NOT EXISTS (SELECT 1 FROM past_projects p WHERE p.project_id = compute_transitions.project_id \
             AND p.project_created_ms = compute_transitions.project_created_ms AND p.deleted_ms >= $1))",
        )
        .bind(before)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(result.rows_affected())
    }
}
