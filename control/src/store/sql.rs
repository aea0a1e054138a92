//! The store in SQL, written once. `sqlite.rs` and `postgres.rs` each compile this file as a module of their own: what
//! differs stands there, and `super::Db` is the database. Statements keep to what both understand: numbered parameters,
//! `ON CONFLICT`, `RETURNING`, BIGINT for every whole number (a bare `SELECT 1` has another type in each).

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use control_api::rest::{ComputeState, OperationKind};
use sqlx::{Database, Pool, Transaction};

#[path = "sql/access.rs"]
mod access;
#[path = "sql/audit.rs"]
mod audit;
#[path = "sql/computes.rs"]
mod computes;
#[path = "sql/keys.rs"]
mod keys;
#[path = "sql/leases.rs"]
mod leases;
#[path = "sql/operations.rs"]
mod operations;
#[path = "sql/replays.rs"]
mod replays;
#[path = "sql/sealing.rs"]
mod sealing;
#[path = "sql/usage.rs"]
mod usage;

use super::{BEGIN_READ, BEGIN_WRITE, Db, LOCK_PROJECT, LOCK_TERM, SERIALISE_CREATES};
use crate::{
    clock,
    config::UidRange,
    name::ProjectId,
    store::{
        LEADER, NewProject, Options, ProjectRecord, Sealed, Store, StoreError, WholeProject,
        operations::BY_API,
        rows::{self, Of, ProjectRow, ServerRow},
        seal::Keyring,
        ucu,
    },
};

use access::{insert_database, insert_user, read_accesses};

/// See the head of this file.
pub(crate) struct SqlStore {
    pool: Pool<Db>,
    keys: Arc<Keyring>,
    /// As in `StoreError::Unusable`.
    name: Arc<str>,
    /// Writes are refused when it is over.
    term: Option<i64>,
}

impl SqlStore {
    /// On tables that are up to date. `keys` is the file of the keys, `name` as in `StoreError::Unusable`.
    pub(super) async fn open(pool: Pool<Db>, keys: &Path, name: &str) -> Result<Self, StoreError> {
        let keys = Arc::new(sealing::unlock(&pool, keys, name).await?);
        Ok(Self {
            pool,
            keys,
            name: name.into(),
            term: None,
        })
    }

    /// A transaction that sees one moment.
    async fn read(&self) -> Result<Tx, StoreError> {
        Ok(self.tx(self.pool.begin_with(BEGIN_READ).await?))
    }

    /// A transaction that may write: every write but those of leases begins here, or a control plane that leads no more
    /// could still write. What it changes of a project it does under `lock_project`.
    async fn write(&self) -> Result<Tx, StoreError> {
        let mut tx = self.tx(self.pool.begin_with(BEGIN_WRITE).await?);
        if let Some(term) = self.term {
            let lasts: Option<i64> = sqlx::query_scalar(LOCK_TERM)
                .bind(LEADER)
                .bind(term)
                .fetch_optional(&mut *tx)
                .await?;
            lasts.ok_or(StoreError::NotLeader)?;
        }
        Ok(tx)
    }

    fn tx(&self, transaction: Transaction<'static, Db>) -> Tx {
        Tx {
            transaction,
            keys: self.keys.clone(),
        }
    }
}

/// A transaction, with what opens and seals the values in it. Dropped, it is rolled back.
struct Tx {
    transaction: Transaction<'static, Db>,
    keys: Arc<Keyring>,
}

impl Tx {
    async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

impl Deref for Tx {
    type Target = <Db as Database>::Connection;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

const PROJECT_COLUMNS: &str = "SELECT p.id, p.size_cu, p.wake_timeout_ms, p.suspend_after_ms, \
     p.pinned_idle_timeout_ms, p.allowed_networks, p.os_uid, p.created_ms, c.state, c.incarnation, c.drain_round, c.drain_forced, c.since_ms, c.reason, c.size_ucu FROM projects p JOIN computes c ON c.project_id = p.id ";

/// `PROJECT_COLUMNS` with a constant tail; no text of a caller ever gets into a statement.
macro_rules! select_projects {
    ($tail:literal) => {
        sqlx::query_as::<_, ProjectRow>(sqlx::AssertSqlSafe(format!("{PROJECT_COLUMNS}{}", $tail)))
    };
}

async fn read_project(tx: &mut Tx, id: &ProjectId) -> Result<ProjectRecord, StoreError> {
    select_projects!("WHERE p.id = $1 AND NOT p.deleting")
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(StoreError::NotFound("project"))?
        .try_into()
}

async fn read_whole(tx: &mut Tx, record: ProjectRecord) -> Result<WholeProject, StoreError> {
    let mut wholes = read_wholes(tx, vec![record]).await?;
    wholes.pop().ok_or(StoreError::NotFound("project"))
}

/// `records` in the order of ids, without a gap but for projects that are being deleted.
async fn read_wholes(tx: &mut Tx, records: Vec<ProjectRecord>) -> Result<Vec<WholeProject>, StoreError> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Ok(Vec::new());
    };
    let mut accesses = read_accesses(tx, &first.id, &last.id).await?;
    let servers = sqlx::query_as::<_, Of<ServerRow>>(
        "SELECT project_id, version, variables, databases, sealed_accounts FROM servers WHERE project_id BETWEEN $1 AND $2",
    )
    .bind(first.id.as_str())
    .bind(last.id.as_str())
    .fetch_all(&mut **tx)
    .await?;
    let mut servers: BTreeMap<_, _> = servers
        .into_iter()
        .map(|Of { project_id, row }| (project_id, row))
        .collect();
    let whole = |record: ProjectRecord| {
        let id = record.id.as_str();
        Ok(WholeProject {
            access: accesses.remove(id).ok_or(StoreError::NotFound("project"))?,
            observed: servers.remove(id).map(|row| row.opened(&tx.keys, id)).transpose()?,
            record,
        })
    };
    records.into_iter().map(whole).collect()
}

async fn must_exist(tx: &mut Tx, id: &ProjectId) -> Result<(), StoreError> {
    let found: Option<String> = sqlx::query_scalar("SELECT id FROM projects WHERE id = $1 AND NOT deleting")
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    found.map(drop).ok_or(StoreError::NotFound("project"))
}

/// `must_exist`, and until the end of the transaction nobody else changes it.
async fn lock_project(tx: &mut Tx, id: &ProjectId) -> Result<(), StoreError> {
    let found: Option<String> = sqlx::query_scalar(LOCK_PROJECT)
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    found.map(drop).ok_or(StoreError::NotFound("project"))
}

async fn free_uid(tx: &mut Tx, range: UidRange) -> Result<i64, StoreError> {
    let first_is_taken: Option<i64> = sqlx::query_scalar("SELECT os_uid FROM projects WHERE os_uid = $1")
        .bind(i64::from(range.first))
        .fetch_optional(&mut **tx)
        .await?;
    if first_is_taken.is_none() {
        return Ok(i64::from(range.first));
    }
    // The first that follows a taken one and is not taken itself.
    let next: Option<i64> = sqlx::query_scalar(
        "SELECT MIN(p.os_uid) + 1 FROM projects p WHERE p.os_uid >= $1 AND p.os_uid < $2 \
         AND NOT EXISTS (SELECT 1 FROM projects n WHERE n.os_uid = p.os_uid + 1)",
    )
    .bind(i64::from(range.first))
    .bind(i64::from(range.last))
    .fetch_one(&mut **tx)
    .await?;
    next.ok_or(StoreError::NoFreeUid)
}

/// A breach of a primary key means that the name is taken.
fn taken(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match error.as_database_error() {
        Some(database) if database.is_unique_violation() => StoreError::Exists(what),
        _ => error.into(),
    }
}

fn found(rows_affected: u64, what: &'static str) -> Result<(), StoreError> {
    if rows_affected == 0 {
        Err(StoreError::NotFound(what))
    } else {
        Ok(())
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn create_project(&self, new: NewProject) -> Result<WholeProject, StoreError> {
        let mut tx = self.write().await?;
        if let Some(serialise) = SERIALISE_CREATES {
            sqlx::query(serialise).execute(&mut *tx).await?;
        }
        let uid = match new.uids {
            Some(range) => Some(free_uid(&mut tx, range).await?),
            None => None,
        };
        sqlx::query(
            "INSERT INTO projects (id, size_cu, wake_timeout_ms, allowed_networks, os_uid, created_ms) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(new.id.as_str())
        .bind(new.size_cu)
        .bind(new.wake_timeout_ms.map(i64::from))
        .bind(rows::allowed_networks(&new.allowed_networks)?)
        .bind(uid)
        .bind(new.now)
        .execute(&mut *tx)
        .await
        .map_err(taken("project"))?;
        sqlx::query(
            "INSERT INTO computes (project_id, state, incarnation, since_ms, size_ucu) VALUES ($1, $2, 0, $3, $4)",
        )
        .bind(new.id.as_str())
        .bind(ComputeState::Suspended.as_str())
        .bind(new.now)
        .bind(ucu(new.size_cu))
        .execute(&mut *tx)
        .await?;
        if let Some(user) = &new.user {
            insert_user(&mut tx, &new.id, user, new.now).await?;
        }
        if let Some(database) = &new.database {
            insert_database(&mut tx, &new.id, database).await?;
        }
        let begun = (OperationKind::Create, "preparing");
        operations::begin(&mut tx, &new.id, begun, BY_API, None, new.now).await?;
        let record = read_project(&mut tx, &new.id).await?;
        let whole = read_whole(&mut tx, record).await?;
        tx.commit().await?;
        Ok(whole)
    }

    async fn project(&self, id: &ProjectId) -> Result<ProjectRecord, StoreError> {
        read_project(&mut self.read().await?, id).await
    }

    async fn whole_project(&self, id: &ProjectId) -> Result<WholeProject, StoreError> {
        let mut tx = self.read().await?;
        let record = read_project(&mut tx, id).await?;
        read_whole(&mut tx, record).await
    }

    async fn projects(&self, after: Option<&str>, limit: u32) -> Result<Vec<ProjectRecord>, StoreError> {
        // Every id is above the empty text.
        let rows = select_projects!("WHERE p.id > $1 AND NOT p.deleting ORDER BY p.id LIMIT $2")
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(ProjectRecord::try_from).collect()
    }

    async fn whole_projects(&self, after: Option<&str>, limit: u32) -> Result<Vec<WholeProject>, StoreError> {
        let mut tx = self.read().await?;
        let rows = select_projects!("WHERE p.id > $1 AND NOT p.deleting ORDER BY p.id LIMIT $2")
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?;
        let records: Result<_, _> = rows.into_iter().map(ProjectRecord::try_from).collect();
        read_wholes(&mut tx, records?).await
    }

    async fn begin_delete(&self, id: &ProjectId, read: Option<&ProjectRecord>) -> Result<ProjectRecord, StoreError> {
        let mut tx = self.write().await?;
        lock_project(&mut tx, id).await?;
        let record = read_project(&mut tx, id).await?;
        if let Some(read) = read {
            record.expect(read)?;
        }
        sqlx::query("UPDATE projects SET deleting = TRUE WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        let begun = (OperationKind::Delete, "stopping");
        operations::begin(&mut tx, id, begun, BY_API, None, clock::now()).await?;
        tx.commit().await?;
        Ok(record)
    }

    async fn deleting(&self) -> Result<Vec<ProjectRecord>, StoreError> {
        let rows = select_projects!("WHERE p.deleting ORDER BY p.id")
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(ProjectRecord::try_from).collect()
    }

    async fn finish_delete(&self, id: &ProjectId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        // Where the clock was set back it is not told from one made at the same moment before.
        sqlx::query(
            "INSERT INTO past_projects (project_id, project_created_ms, deleted_ms, size_cu) \
             SELECT id, created_ms, $2, size_cu FROM projects WHERE id = $1 AND deleting \
             ON CONFLICT (project_id, project_created_ms) DO UPDATE SET deleted_ms = excluded.deleted_ms",
        )
        .bind(id.as_str())
        .bind(clock::now())
        .execute(&mut *tx)
        .await?;
        let deleted = sqlx::query("DELETE FROM projects WHERE id = $1 AND deleting")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() > 0 {
            for kind in OperationKind::ALL {
                let error = (kind != OperationKind::Delete).then_some("the project was deleted");
                operations::end(&mut tx, id, kind, error, clock::now()).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    async fn set_options(&self, read: &ProjectRecord, options: &Options) -> Result<(), StoreError> {
        let Options {
            size_cu,
            wake_timeout_ms,
            sleep,
            allowed_networks,
        } = options;
        let mut tx = self.write().await?;
        lock_project(&mut tx, &read.id).await?;
        read_project(&mut tx, &read.id).await?.expect(read)?;
        sqlx::query(
            "UPDATE projects SET suspend_after_ms = $2, pinned_idle_timeout_ms = $3, allowed_networks = $4, \
             size_cu = $5, wake_timeout_ms = $6 WHERE id = $1",
        )
        .bind(read.id.as_str())
        .bind(sleep.suspend_after.map(rows::suspend_after_ms))
        .bind(sleep.pinned_idle_timeout_ms.map(i64::from))
        .bind(rows::allowed_networks(allowed_networks)?)
        .bind(size_cu)
        .bind(wake_timeout_ms.map(i64::from))
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn seal(&self) -> Result<Sealed, StoreError> {
        Ok(self.seal_in(u64::MAX, sealing::BATCH).await?.unwrap_or_default())
    }

    fn for_term(&self, term: i64) -> Arc<dyn Store> {
        Arc::new(Self {
            pool: self.pool.clone(),
            keys: self.keys.clone(),
            name: self.name.clone(),
            term: Some(term),
        })
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
