//! `store::leases` in SQL.

use std::time::Duration;

use async_trait::async_trait;

use super::{super::NOW_MS, SqlStore};
use crate::store::{Holder, LEADER, LeaseRecord, Leases, StoreError};

#[async_trait]
impl Leases for SqlStore {
    async fn take_lease(&self, name: &str, holder: &Holder, lasts: Duration) -> Result<Option<i64>, StoreError> {
        let statement = format!(
            "INSERT INTO leases (name, term, holder, http, grpc, expires_ms) VALUES ($1, 1, $2, $3, $4, {NOW_MS} + $5) \
             ON CONFLICT (name) DO UPDATE SET term = leases.term + 1, holder = excluded.holder, http = excluded.http, \
             grpc = excluded.grpc, expires_ms = excluded.expires_ms WHERE leases.expires_ms <= {NOW_MS} RETURNING term"
        );
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .bind(name)
            .bind(&holder.id)
            .bind(&holder.http)
            .bind(&holder.grpc)
            .bind(millis(lasts))
            .fetch_optional(&self.pool)
            .await?)
    }

    async fn renew_lease(&self, name: &str, term: i64, lasts: Duration) -> Result<bool, StoreError> {
        let statement = format!("UPDATE leases SET expires_ms = {NOW_MS} + $3 WHERE name = $1 AND term = $2");
        let renewed = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(name)
            .bind(term)
            .bind(millis(lasts))
            .execute(&self.pool)
            .await?;
        Ok(renewed.rows_affected() == 1)
    }

    async fn release_lease(&self, name: &str, term: i64) -> Result<(), StoreError> {
        // The row stays: its term must go on growing. Only those who stood by are forgotten.
        sqlx::query("UPDATE leases SET expires_ms = 0 WHERE name = $1 AND term = $2")
            .bind(name)
            .bind(term)
            .execute(&self.pool)
            .await?;
        let forgotten = format!("DELETE FROM leases WHERE name <> $1 AND expires_ms <= {NOW_MS}");
        sqlx::query(sqlx::AssertSqlSafe(forgotten))
            .bind(LEADER)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        let statement =
            format!("SELECT name, term, holder, http, grpc FROM leases WHERE expires_ms > {NOW_MS} ORDER BY name");
        let rows: Vec<(String, i64, String, String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .fetch_all(&self.pool)
            .await?;
        let lease = |(name, term, id, http, grpc)| LeaseRecord {
            name,
            term,
            holder: Holder { id, http, grpc },
        };
        Ok(rows.into_iter().map(lease).collect())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
