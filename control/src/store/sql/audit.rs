//! `store::audit` in SQL.

use async_trait::async_trait;

use super::SqlStore;
use crate::{
    name::ProjectId,
    store::{
        EpochMs, StoreError,
        audit::{Attempt, AuditLog, AuditRecord, path_of},
        rows::AuditRow,
    },
};

const COLUMNS: &str =
    "SELECT id, at_ms, key_name, method, path, project_id, changed, request_id, status FROM audit WHERE id < $1 ";

/// `COLUMNS` with a constant tail.
macro_rules! select_audit {
    ($tail:literal) => {
        sqlx::query_as::<_, AuditRow>(sqlx::AssertSqlSafe(format!("{COLUMNS}{}", $tail)))
    };
}

#[async_trait]
impl AuditLog for SqlStore {
    async fn begin_audit(&self, attempt: &Attempt) -> Result<i64, StoreError> {
        let mut tx = self.write().await?;
        let id = sqlx::query_scalar(
            "INSERT INTO audit (at_ms, key_name, method, path, project_id, changed, request_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        )
        .bind(attempt.at)
        .bind(&attempt.key_name)
        .bind(&attempt.method)
        .bind(&attempt.path)
        .bind(&attempt.project)
        .bind(&attempt.changed)
        .bind(&attempt.request_id)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(id)
    }

    async fn finish_audit(&self, id: i64, status: u16, project: Option<&ProjectId>) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE audit SET status = $2, project_id = COALESCE(project_id, $3) WHERE id = $1")
            .bind(id)
            .bind(i64::from(status))
            .bind(project.map(ProjectId::as_str))
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn audit(
        &self,
        project: Option<&ProjectId>,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let before = after.unwrap_or(i64::MAX);
        let rows = match project {
            None => {
                select_audit!("ORDER BY id DESC LIMIT $2")
                    .bind(before)
                    .bind(i64::from(limit))
                    .fetch_all(&self.pool)
                    .await?
            }
            Some(id) => {
                // A deletion that began ends the project, however it was answered.
                select_audit!(
                    "AND project_id = $2 AND id > COALESCE((SELECT MAX(d.id) FROM audit d WHERE d.project_id = $2 \
                     AND d.method = 'DELETE' AND d.path = $3 AND (d.status IS NULL OR d.status = 204 OR d.status >= 500)), 0) \
                     ORDER BY id DESC LIMIT $4"
                )
                .bind(before)
                .bind(id.as_str())
                .bind(path_of(id))
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await?
            }
        };
        rows.into_iter().map(AuditRecord::try_from).collect()
    }

    async fn prune_audit(&self, before: EpochMs, of_project_max: u32, rows_max: u32) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let old = sqlx::query("DELETE FROM audit WHERE at_ms < $1")
            .bind(before)
            .execute(&mut *tx)
            .await?;
        let of_projects = sqlx::query(
            "DELETE FROM audit WHERE id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER \
             (PARTITION BY project_id ORDER BY id DESC) AS place FROM audit WHERE project_id IS NOT NULL) AS placed \
             WHERE place > $1)",
        )
        .bind(i64::from(of_project_max))
        .execute(&mut *tx)
        .await?;
        let rest = sqlx::query(
            "DELETE FROM audit WHERE id <= COALESCE((SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET $1), 0)",
        )
        .bind(i64::from(rows_max))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        let forgotten = [old, of_projects, rest].map(|result| result.rows_affected());
        Ok(forgotten.into_iter().sum())
    }
}
