//! SQLite: the store of one machine, a file below the data directory. Writers queue (SQLite has one at a time); a commit
//! is on disk when it returns.

use std::{path::Path, time::Duration};

use sqlx::{
    Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Fault, StoreError, migrated};

mod inspect;

#[allow(clippy::duplicate_mod, reason = "written once, compiled for each database")]
#[path = "sql.rs"]
mod sql;

pub(crate) use sql::SqlStore as SqliteStore;

type Db = sqlx::Sqlite;

/// In WAL mode the first read fixes what the transaction sees.
const BEGIN_READ: &str = "BEGIN";
/// Takes the write lock at once, so that a transaction never fails half-way for another's.
const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";
/// The write lock is held already.
const LOCK_PROJECT: &str = "SELECT id FROM projects WHERE id = $1 AND NOT deleting";
const LOCK_KEY: &str = "SELECT name FROM api_keys WHERE name = $1";
const SERIALISE_CREATES: Option<&str> = None;
/// Milliseconds since 1970 by the database's clock, the only one that all control planes share.
const NOW_MS: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
const LOCK_TERM: &str = "SELECT term FROM leases WHERE name = $1 AND term = $2";

/// The file is written anew, and then the log of what was written is emptied; answers whether a reader was in its way.
const WIPE: [&str; 2] = ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"];

/// Readers beside the one writer; REST is the only one that reads in parallel.
const CONNECTIONS_MAX: u32 = 4;
/// A writer waits for the one before it; these are transactions of a few milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens or makes the file and brings its tables up to date; `keys` is the file of its keys. What cannot be used stays as
/// it is.
pub(super) async fn open(file: &Path, keys: &Path) -> Result<SqliteStore, StoreError> {
    inspect::inspect(file).await?;
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // Full, not normal: an incarnation number must not come again after a power cut.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(BUSY_TIMEOUT)
        // On a full disk SQLite rolls back by itself; sqlx then fails to, and takes the connection for one in a transaction for
        // ever after: nothing could begin on it any more.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .connect_with(options)
        .await
        .map_err(|error| refused(file, error.into()))?;
    let opened = async {
        let name = file.display().to_string();
        migrated(sqlx::migrate!("migrations/sqlite").run(&pool).await, &name)?;
        SqliteStore::open(pool.clone(), keys, &name).await
    };
    let opened = opened.await;
    if opened.is_err() {
        pool.close().await;
    }
    opened.map_err(|error| refused(file, error))
}

/// At the start: which file, and what to do.
fn refused(file: &Path, error: StoreError) -> StoreError {
    let StoreError::Faulty { fault, source } = error else {
        return error;
    };
    let problem = match fault {
        Fault::Full => format!("no space is left on its file system ({source}): make some"),
        Fault::ReadOnly => format!("cannot be written ({source}): is it, or its file system, read-only?"),
        Fault::Damaged => format!("is damaged ({source}): {}", inspect::RESTORE),
        Fault::Away => format!(
            "cannot be used ({source}): who owns it and its directory, does another program hold it, is its disk well?"
        ),
    };
    StoreError::unusable(&file.display().to_string(), problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, suite};

    async fn open_in(dir: &tempfile::TempDir) -> Result<SqliteStore, StoreError> {
        open(&dir.path().join("control.sqlite"), &dir.path().join("store.keys")).await
    }

    async fn open_fresh() -> (tempfile::TempDir, SqliteStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = open_in(&dir).await.unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn behaves_as_a_store_must() {
        suite::run_all(async || open_fresh().await).await;
    }

    #[tokio::test]
    async fn opens_again_with_what_was_written() {
        let (dir, store) = open_fresh().await;
        store.create_project(suite::new_project("demo")).await.unwrap();
        store.close().await;
        let again = open_in(&dir).await.unwrap();
        assert_eq!(again.projects(None, 10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn file_of_a_newer_version_is_refused_by_name() {
        let (dir, store) = open_fresh().await;
        store.close().await;
        let file = dir.path().join("control.sqlite");
        let pool = SqlitePoolOptions::new()
            .connect_with(SqliteConnectOptions::new().filename(&file))
            .await
            .unwrap();
        sqlx::query("UPDATE _sqlx_migrations SET version = 9000 WHERE version = 1")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        let refused = open_in(&dir).await.map(drop).unwrap_err().to_string();
        assert!(
            refused.contains("control.sqlite") && refused.contains("newer version"),
            "{refused}"
        );
    }
}
