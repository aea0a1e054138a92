//! `store::operations` in SQL.

use async_trait::async_trait;
use control_api::rest::{OperationKind, OperationState};

use super::{SqlStore, Tx};
use crate::{
    name::ProjectId,
    store::{
        ComputeRecord, EpochMs, StoreError, counted,
        operations::{BY_CONTROL, KEPT_PER_PROJECT, OperationRecord, Operations, begun_by, ended_by, new_id},
        rows::OperationRow,
    },
};

const COLUMNS: &str = "SELECT id, project_id, kind, state, step, error, incarnation, requested_by, created_ms, \
     updated_ms, ended_ms FROM operations ";

/// `COLUMNS` with a constant tail.
macro_rules! select_operations {
    ($tail:literal) => {
        sqlx::query_as::<_, OperationRow>(sqlx::AssertSqlSafe(format!("{COLUMNS}{}", $tail)))
    };
}

/// Begins one, unless one of its kind is open.
pub(super) async fn begin(
    tx: &mut Tx,
    project: &ProjectId,
    (kind, step): (OperationKind, &str),
    requested_by: &str,
    incarnation: Option<u64>,
    now: EpochMs,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO operations \
         (id, project_id, kind, state, step, incarnation, requested_by, created_ms, updated_ms) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $8 WHERE NOT EXISTS \
         (SELECT 1 FROM operations WHERE project_id = $2 AND kind = $3 AND ended_ms IS NULL)",
    )
    .bind(new_id(now))
    .bind(project.as_str())
    .bind(kind.as_str())
    .bind(OperationState::Running.as_str())
    .bind(step)
    .bind(
        incarnation
            .map(i64::try_from)
            .transpose()
            .map_err(|_| StoreError::Corrupt("incarnation".into()))?,
    )
    .bind(requested_by)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends the open one of that kind, and forgets the oldest of the project where there are too many.
pub(super) async fn end(
    tx: &mut Tx,
    project: &ProjectId,
    kind: OperationKind,
    error: Option<&str>,
    now: EpochMs,
) -> Result<(), StoreError> {
    let state = if error.is_some() {
        OperationState::Failed
    } else {
        OperationState::Done
    };
    let ended = sqlx::query(
        "UPDATE operations SET state = $3, error = $4, updated_ms = $5, ended_ms = $5 \
         WHERE project_id = $1 AND kind = $2 AND ended_ms IS NULL",
    )
    .bind(project.as_str())
    .bind(kind.as_str())
    .bind(state.as_str())
    .bind(error.map(|error| error.replace('\0', "\u{fffd}")))
    .bind(now)
    .execute(&mut **tx)
    .await?;
    if ended.rows_affected() > 0 {
        if error.is_some() {
            counted::operation_failed(kind);
        }
        // Nothing where there are fewer: no id is below NULL.
        sqlx::query(
            "DELETE FROM operations WHERE project_id = $1 AND ended_ms IS NOT NULL AND id <= (SELECT id FROM operations \
             WHERE project_id = $1 AND ended_ms IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET $2)",
        )
        .bind(project.as_str())
        .bind(KEPT_PER_PROJECT)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// What a compute's new state means for operations.
pub(super) async fn compute_changed(
    tx: &mut Tx,
    project: &ProjectId,
    compute: &ComputeRecord,
) -> Result<(), StoreError> {
    for (kind, error) in ended_by(compute) {
        end(tx, project, kind, error.as_deref(), compute.since).await?;
    }
    match begun_by(compute) {
        Some(begun) => begin(tx, project, begun, BY_CONTROL, Some(compute.incarnation), compute.since).await,
        None => Ok(()),
    }
}

#[async_trait]
impl Operations for SqlStore {
    async fn operation(&self, id: &str) -> Result<OperationRecord, StoreError> {
        select_operations!("WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?
            .ok_or(StoreError::NotFound("operation"))?
            .try_into()
    }

    async fn operations(
        &self,
        project: &ProjectId,
        since: EpochMs,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OperationRecord>, StoreError> {
        // Every id is below the tilde.
        let rows =
            select_operations!("WHERE project_id = $1 AND id < $2 AND created_ms >= $3 ORDER BY id DESC LIMIT $4")
                .bind(project.as_str())
                .bind(before.unwrap_or("~"))
                .bind(since)
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await?;
        rows.into_iter().map(OperationRecord::try_from).collect()
    }

    async fn open_operations(&self) -> Result<Vec<OperationRecord>, StoreError> {
        let rows = select_operations!("WHERE ended_ms IS NULL ORDER BY id")
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(OperationRecord::try_from).collect()
    }

    async fn step_operation(
        &self,
        project: &ProjectId,
        kind: OperationKind,
        step: &str,
        error: Option<&str>,
        now: EpochMs,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE operations SET step = $3, error = $4, updated_ms = $5 \
             WHERE project_id = $1 AND kind = $2 AND ended_ms IS NULL",
        )
        .bind(project.as_str())
        .bind(kind.as_str())
        .bind(step)
        .bind(error.map(|error| error.replace('\0', "\u{fffd}")))
        .bind(now)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn end_operation(
        &self,
        project: &ProjectId,
        kind: OperationKind,
        error: Option<&str>,
        now: EpochMs,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        end(&mut tx, project, kind, error, now).await?;
        Ok(tx.commit().await?)
    }

    async fn prune_operations(&self, before: EpochMs) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM operations WHERE ended_ms < $1")
            .bind(before)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}
