//! `store::keys` in SQL.

use async_trait::async_trait;
use control_api::rest::Scope;

use super::{super::LOCK_KEY, SqlStore, Tx, lock_project, taken};
use crate::{
    name::ProjectId,
    store::{
        EpochMs, StoreError,
        keys::{KeyRecord, Keys},
        rows::KeyRow,
    },
};

const COLUMNS: &str = "SELECT name, scope, project_id, created_ms, expires_ms, last_used_ms FROM api_keys ";

/// `COLUMNS` with a constant tail.
macro_rules! select_keys {
    ($tail:literal) => {
        sqlx::query_as::<_, KeyRow>(sqlx::AssertSqlSafe(format!("{COLUMNS}{}", $tail)))
    };
}

/// Until the end of the transaction nobody else changes the key, which is still as it was read.
async fn lock_expected(tx: &mut Tx, read: &KeyRecord) -> Result<(), StoreError> {
    let locked: Option<String> = sqlx::query_scalar(LOCK_KEY)
        .bind(&read.name)
        .fetch_optional(&mut **tx)
        .await?;
    locked.ok_or(StoreError::NotFound("key"))?;
    let row = select_keys!("WHERE name = $1")
        .bind(&read.name)
        .fetch_one(&mut **tx)
        .await?;
    match KeyRecord::try_from(row)?.is_as(read) {
        true => Ok(()),
        false => Err(StoreError::Changed),
    }
}

#[async_trait]
impl Keys for SqlStore {
    async fn put_key(&self, name: &str, hash: [u8; 32], now: EpochMs) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO api_keys (name, key_sha256, created_ms, scope) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO \
             UPDATE SET key_sha256 = excluded.key_sha256, created_ms = excluded.created_ms, scope = excluded.scope, \
             project_id = NULL, expires_ms = NULL, last_used_ms = NULL",
        )
        .bind(name)
        .bind(&hash[..])
        .bind(now)
        .bind(Scope::Admin.as_str())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn add_key(&self, key: &KeyRecord, hash: [u8; 32]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if let Some(project) = &key.project {
            lock_project(&mut tx, project).await?;
        }
        sqlx::query(
            "INSERT INTO api_keys (name, key_sha256, scope, project_id, created_ms, expires_ms) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&key.name)
        .bind(&hash[..])
        .bind(key.scope.as_str())
        .bind(key.project.as_ref().map(ProjectId::as_str))
        .bind(key.created)
        .bind(key.expires)
        .execute(&mut *tx)
        .await
        .map_err(taken("key"))?;
        Ok(tx.commit().await?)
    }

    async fn key(&self, hash: [u8; 32]) -> Result<Option<KeyRecord>, StoreError> {
        let row = select_keys!("WHERE key_sha256 = $1")
            .bind(&hash[..])
            .fetch_optional(&self.pool)
            .await?;
        row.map(KeyRecord::try_from).transpose()
    }

    async fn key_named(&self, name: &str) -> Result<KeyRecord, StoreError> {
        let row = select_keys!("WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.ok_or(StoreError::NotFound("key"))?.try_into()
    }

    async fn keys(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>, StoreError> {
        let rows = select_keys!("WHERE name > $1 ORDER BY name LIMIT $2")
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(KeyRecord::try_from).collect()
    }

    async fn set_key_expiry(&self, read: &KeyRecord, expires: Option<EpochMs>) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        lock_expected(&mut tx, read).await?;
        sqlx::query("UPDATE api_keys SET expires_ms = $2 WHERE name = $1")
            .bind(&read.name)
            .bind(expires)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn remove_key(&self, read: &KeyRecord) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        lock_expected(&mut tx, read).await?;
        sqlx::query("DELETE FROM api_keys WHERE name = $1")
            .bind(&read.name)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn key_used(&self, hash: [u8; 32], now: EpochMs) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE api_keys SET last_used_ms = $2 WHERE key_sha256 = $1")
            .bind(&hash[..])
            .bind(now)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}
