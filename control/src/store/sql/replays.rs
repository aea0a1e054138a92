//! `store::replays` in SQL.

use async_trait::async_trait;

use super::SqlStore;
use crate::store::{
    EpochMs, StoreError,
    replays::{Answer, NewReplay, Replay, ReplayId, Replays},
    rows::ReplayRow,
};

#[async_trait]
impl Replays for SqlStore {
    async fn begin_replay(&self, new: &NewReplay) -> Result<Replay, StoreError> {
        let mut tx = self.write().await?;
        let (hash, name) = (&new.id.key_hash[..], &new.id.idempotency_key);
        sqlx::query("DELETE FROM replays WHERE key_sha256 = $1 AND at_ms < $2")
            .bind(hash)
            .bind(new.expired)
            .execute(&mut *tx)
            .await?;
        let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM replays WHERE key_sha256 = $1")
            .bind(hash)
            .fetch_one(&mut *tx)
            .await?;
        let row = sqlx::query_as::<_, ReplayRow>(
            "SELECT request_sha256, lease_ms, status, content_type, etag, body FROM replays \
             WHERE key_sha256 = $1 AND idempotency_key = $2",
        )
        .bind(hash)
        .bind(name)
        .fetch_optional(&mut *tx)
        .await?;
        let began = match row {
            Some(row) => match row.replay(new)? {
                // Whoever began it is gone.
                Replay::Begun => {
                    sqlx::query(
                        "UPDATE replays SET lease_ms = $3 WHERE key_sha256 = $1 AND idempotency_key = $2 \
                         AND status IS NULL AND lease_ms <= $4",
                    )
                    .bind(hash)
                    .bind(name)
                    .bind(new.lease)
                    .bind(new.now)
                    .execute(&mut *tx)
                    .await?
                }
                other => return Ok(other),
            },
            None if kept >= i64::from(new.rows_max) => return Ok(Replay::Full),
            None => {
                sqlx::query(
                    "INSERT INTO replays (key_sha256, idempotency_key, request_sha256, at_ms, lease_ms) \
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key_sha256, idempotency_key) DO NOTHING",
                )
                .bind(hash)
                .bind(name)
                .bind(&new.request_hash[..])
                .bind(new.now)
                .bind(new.lease)
                .execute(&mut *tx)
                .await?
            }
        };
        tx.commit().await?;
        // Another was quicker.
        Ok(match began.rows_affected() {
            0 => Replay::InProgress,
            _ => Replay::Begun,
        })
    }

    async fn extend_replay(&self, id: &ReplayId, lease: EpochMs) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE replays SET lease_ms = $3 WHERE key_sha256 = $1 AND idempotency_key = $2 AND status IS NULL",
        )
        .bind(&id.key_hash[..])
        .bind(&id.idempotency_key)
        .bind(lease)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn finish_replay(&self, id: &ReplayId, answer: &Answer) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE replays SET status = $3, content_type = $4, etag = $5, body = $6 \
             WHERE key_sha256 = $1 AND idempotency_key = $2",
        )
        .bind(&id.key_hash[..])
        .bind(&id.idempotency_key)
        .bind(i64::from(answer.status))
        .bind(&answer.content_type)
        .bind(&answer.etag)
        .bind(&answer.body)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn drop_replay(&self, id: &ReplayId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM replays WHERE key_sha256 = $1 AND idempotency_key = $2 AND status IS NULL")
            .bind(&id.key_hash[..])
            .bind(&id.idempotency_key)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn prune_replays(&self, expired: EpochMs) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let result = sqlx::query("DELETE FROM replays WHERE at_ms < $1")
            .bind(expired)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(result.rows_affected())
    }
}
