//! The store in SQL, written once. `sqlite.rs` and `postgres.rs` each compile this file as a module of their own: what
//! differs stands there, and `super::Db` is the database. Statements keep to what both understand: numbered parameters,
//! `ON CONFLICT`, `RETURNING`, BIGINT for every whole number (a bare `SELECT 1` has another type in each).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use control_api::rest::{ComputeState, OperationKind};
use sqlx::{Pool, Transaction};

#[path = "sql/audit.rs"]
mod audit;
#[path = "sql/keys.rs"]
mod keys;
#[path = "sql/operations.rs"]
mod operations;
#[path = "sql/replays.rs"]
mod replays;

use super::{BEGIN_READ, BEGIN_WRITE, Db, LOCK_PROJECT, LOCK_TERM, NOW_MS, SERIALISE_CREATES};
use crate::{
    accounts::{Fate, fate},
    clock,
    config::UidRange,
    name::{DatabaseName, ProjectId, UserName},
    secret::Verifiers,
    store::{
        Access, ComputeRecord, EpochMs, Expected, Holder, LEADER, LeaseRecord, NewProject, NewUser, Observed,
        ProjectRecord, Sleep, Store, StoreError, Touched, Transition, WholeProject,
        operations::BY_API,
        rows::{self, ComputeRow, Of, ProjectRow, ServerRow, TransitionRow, UserRow},
    },
};

/// See the head of this file.
pub(crate) struct SqlStore {
    pool: Pool<Db>,
    /// Writes are refused when it is over.
    term: Option<i64>,
}

impl SqlStore {
    pub(super) fn new(pool: Pool<Db>) -> Self {
        Self { pool, term: None }
    }

    /// A transaction that sees one moment.
    async fn read(&self) -> Result<Tx, StoreError> {
        Ok(self.pool.begin_with(BEGIN_READ).await?)
    }

    /// A transaction that may write: every write but those of leases begins here, or a control plane that leads no more
    /// could still write. What it changes of a project it does under `lock_project`.
    async fn write(&self) -> Result<Tx, StoreError> {
        let mut tx = self.pool.begin_with(BEGIN_WRITE).await?;
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
}

type Tx = Transaction<'static, Db>;

const PROJECT_COLUMNS: &str = "SELECT p.id, p.size_cu, p.wake_timeout_ms, p.suspend_after_ms, \
     p.pinned_idle_timeout_ms, p.os_uid, p.created_ms, c.state, c.incarnation, c.drain_round, c.drain_forced, c.since_ms, c.reason FROM projects p JOIN computes c ON c.project_id = p.id ";

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

async fn read_access(tx: &mut Tx, id: &ProjectId) -> Result<Access, StoreError> {
    let mut accesses = read_accesses(tx, id, id).await?;
    accesses.remove(id.as_str()).ok_or(StoreError::NotFound("project"))
}

/// Of every project from `first` to `last`: a handful of statements, however many they are.
async fn read_accesses(
    tx: &mut Tx,
    first: &ProjectId,
    last: &ProjectId,
) -> Result<BTreeMap<String, Access>, StoreError> {
    let (first, last) = (first.as_str(), last.as_str());
    let revisions: Vec<(String, i64)> =
        sqlx::query_as("SELECT id, access_revision FROM projects WHERE id BETWEEN $1 AND $2")
            .bind(first)
            .bind(last)
            .fetch_all(&mut **tx)
            .await?;
    let access = |(id, revision)| {
        let access = Access {
            revision,
            ..Access::default()
        };
        (id, access)
    };
    let mut accesses: BTreeMap<String, Access> = revisions.into_iter().map(access).collect();
    let users = sqlx::query_as::<_, Of<UserRow>>(
        "SELECT project_id, name, native_sha1, caching_sha2, admin, created_ms, known FROM users \
         WHERE project_id BETWEEN $1 AND $2 ORDER BY project_id, name",
    )
    .bind(first)
    .bind(last)
    .fetch_all(&mut **tx)
    .await?;
    for Of { project_id, row } in users {
        if let Some(access) = accesses.get_mut(&project_id) {
            access.users.push(row.try_into()?);
        }
    }
    let databases: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT project_id, name, seen FROM databases WHERE project_id BETWEEN $1 AND $2 ORDER BY project_id, name",
    )
    .bind(first)
    .bind(last)
    .fetch_all(&mut **tx)
    .await?;
    for (project_id, name, seen) in databases {
        if let Some(access) = accesses.get_mut(&project_id) {
            let name = rows::name(DatabaseName::new(&name))?;
            access.new_databases.extend((!seen).then(|| name.clone()));
            access.databases.push(name);
        }
    }
    let removed: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT c.project_id, c.kind, c.name FROM pending_changes c WHERE c.project_id BETWEEN $1 AND $2 \
         AND c.kind IN ('user', 'database') AND NOT (c.kind = 'database' AND EXISTS (SELECT 1 FROM databases d \
         WHERE d.project_id = c.project_id AND d.name = c.name)) \
         AND NOT (c.kind = 'user' AND EXISTS (SELECT 1 FROM users u \
         WHERE u.project_id = c.project_id AND u.name = c.name)) ORDER BY c.project_id, c.name",
    )
    .bind(first)
    .bind(last)
    .fetch_all(&mut **tx)
    .await?;
    for (project_id, kind, name) in removed {
        let Some(access) = accesses.get_mut(&project_id) else {
            continue;
        };
        if kind == "user" {
            access.removed_users.push(rows::name(UserName::new(&name))?);
        } else {
            access.removed_databases.push(rows::name(DatabaseName::new(&name))?);
        }
    }
    let settings: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT project_id, name, value FROM project_settings WHERE project_id BETWEEN $1 AND $2 ORDER BY project_id, name",
    )
    .bind(first)
    .bind(last)
    .fetch_all(&mut **tx)
    .await?;
    for (project_id, name, value) in settings {
        if let Some(access) = accesses.get_mut(&project_id) {
            access.settings.insert(name, value);
        }
    }
    Ok(accesses)
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
        "SELECT project_id, version, variables, databases, accounts FROM servers WHERE project_id BETWEEN $1 AND $2",
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
            observed: servers.remove(id).map(Observed::try_from).transpose()?,
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

/// `lock_project`, where its access is still as the caller has read it.
async fn lock_expected(tx: &mut Tx, id: &ProjectId, expected: Expected) -> Result<(), StoreError> {
    lock_project(tx, id).await?;
    let Some(expected) = expected else { return Ok(()) };
    let now: i64 = sqlx::query_scalar("SELECT access_revision FROM projects WHERE id = $1")
        .bind(id.as_str())
        .fetch_one(&mut **tx)
        .await?;
    if now == expected {
        Ok(())
    } else {
        Err(StoreError::Changed)
    }
}

/// The end of every change of users, databases and settings. What changed is pending until a server has it.
async fn commit_access(mut tx: Tx, id: &ProjectId, changes: &[(&str, &str)]) -> Result<Access, StoreError> {
    sqlx::query("UPDATE projects SET access_revision = access_revision + 1 WHERE id = $1")
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    for (kind, name) in changes {
        sqlx::query(
            "INSERT INTO pending_changes (project_id, kind, name, revision) \
             SELECT p.id, $2, $3, p.access_revision FROM projects p WHERE p.id = $1 \
             ON CONFLICT (project_id, kind, name) DO UPDATE SET revision = excluded.revision",
        )
        .bind(id.as_str())
        .bind(kind)
        .bind(name)
        .execute(&mut *tx)
        .await?;
    }
    // Else the next start brings it.
    let runs: Option<String> =
        sqlx::query_scalar("SELECT project_id FROM computes WHERE project_id = $1 AND state IN ('starting', 'ready')")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
    if !changes.is_empty() && runs.is_some() {
        let begun = (OperationKind::Apply, "applying");
        operations::begin(&mut tx, id, begun, BY_API, None, clock::now()).await?;
    }
    let access = read_access(&mut tx, id).await?;
    tx.commit().await?;
    Ok(access)
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

async fn insert_user(tx: &mut Tx, id: &ProjectId, user: &NewUser, now: EpochMs) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO users (project_id, name, native_sha1, caching_sha2, admin, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.as_str())
    .bind(user.name.as_str())
    .bind(&user.verifiers.native_sha1[..])
    .bind(&user.verifiers.caching_sha2[..])
    .bind(user.admin)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(taken("user"))?;
    Ok(())
}

async fn insert_database(tx: &mut Tx, id: &ProjectId, name: &DatabaseName) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO databases (project_id, name) VALUES ($1, $2)")
        .bind(id.as_str())
        .bind(name.as_str())
        .execute(&mut **tx)
        .await
        .map_err(taken("database"))?;
    Ok(())
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
            "INSERT INTO projects (id, size_cu, wake_timeout_ms, os_uid, created_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(new.id.as_str())
        .bind(new.size_cu)
        .bind(new.wake_timeout_ms.map(i64::from))
        .bind(uid)
        .bind(new.now)
        .execute(&mut *tx)
        .await
        .map_err(taken("project"))?;
        sqlx::query("INSERT INTO computes (project_id, state, incarnation, since_ms) VALUES ($1, $2, 0, $3)")
            .bind(new.id.as_str())
            .bind(ComputeState::Suspended.as_str())
            .bind(new.now)
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

    async fn access(&self, id: &ProjectId) -> Result<Access, StoreError> {
        let mut tx = self.read().await?;
        must_exist(&mut tx, id).await?;
        read_access(&mut tx, id).await
    }

    async fn add_user(&self, id: &ProjectId, user: NewUser, now: EpochMs) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_project(&mut tx, id).await?;
        insert_user(&mut tx, id, &user, now).await?;
        commit_access(tx, id, &[("user", user.name.as_str())]).await
    }

    async fn set_verifiers(
        &self,
        id: &ProjectId,
        name: &UserName,
        verifiers: &Verifiers,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_expected(&mut tx, id, expected).await?;
        // Not known: it counts as it is here until a server has it so, whatever the server has meanwhile.
        let result = sqlx::query(
            "UPDATE users SET native_sha1 = $3, caching_sha2 = $4, known = FALSE WHERE project_id = $1 AND name = $2",
        )
        .bind(id.as_str())
        .bind(name.as_str())
        .bind(&verifiers.native_sha1[..])
        .bind(&verifiers.caching_sha2[..])
        .execute(&mut *tx)
        .await?;
        found(result.rows_affected(), "user")?;
        commit_access(tx, id, &[("user", name.as_str())]).await
    }

    async fn remove_user(&self, id: &ProjectId, name: &UserName, expected: Expected) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_expected(&mut tx, id, expected).await?;
        let result = sqlx::query("DELETE FROM users WHERE project_id = $1 AND name = $2")
            .bind(id.as_str())
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        found(result.rows_affected(), "user")?;
        commit_access(tx, id, &[("user", name.as_str())]).await
    }

    async fn add_database(&self, id: &ProjectId, name: &DatabaseName) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_project(&mut tx, id).await?;
        insert_database(&mut tx, id, name).await?;
        commit_access(tx, id, &[("database", name.as_str())]).await
    }

    async fn set_settings(
        &self,
        id: &ProjectId,
        changes: &BTreeMap<String, Option<String>>,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_expected(&mut tx, id, expected).await?;
        for (name, value) in changes {
            let statement = match value {
                Some(_) => {
                    "INSERT INTO project_settings (project_id, name, value) VALUES ($1, $2, $3) \
                     ON CONFLICT (project_id, name) DO UPDATE SET value = excluded.value"
                }
                None => "DELETE FROM project_settings WHERE project_id = $1 AND name = $2",
            };
            let mut query = sqlx::query(statement).bind(id.as_str()).bind(name);
            if let Some(value) = value {
                query = query.bind(value);
            }
            query.execute(&mut *tx).await?;
        }
        let touched: Vec<_> = changes.keys().map(|name| ("setting", name.as_str())).collect();
        commit_access(tx, id, &touched).await
    }

    async fn remove_database(
        &self,
        id: &ProjectId,
        name: &DatabaseName,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_expected(&mut tx, id, expected).await?;
        let result = sqlx::query("DELETE FROM databases WHERE project_id = $1 AND name = $2")
            .bind(id.as_str())
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        found(result.rows_affected(), "database")?;
        commit_access(tx, id, &[("database", name.as_str())]).await
    }

    async fn pending(&self, id: &ProjectId) -> Result<(Access, Touched), StoreError> {
        let mut tx = self.read().await?;
        must_exist(&mut tx, id).await?;
        let access = read_access(&mut tx, id).await?;
        let names = "SELECT name FROM pending_changes WHERE project_id = $1 AND kind = $2 ORDER BY name";
        let users: Vec<String> = sqlx::query_scalar(names)
            .bind(id.as_str())
            .bind("user")
            .fetch_all(&mut *tx)
            .await?;
        let databases: Vec<String> = sqlx::query_scalar(names)
            .bind(id.as_str())
            .bind("database")
            .fetch_all(&mut *tx)
            .await?;
        let settings = sqlx::query_scalar(names)
            .bind(id.as_str())
            .bind("setting")
            .fetch_all(&mut *tx)
            .await?;
        let touched = Touched {
            settings,
            users: rows::names(&users, UserName::new)?,
            databases: rows::names(&databases, DatabaseName::new)?,
        };
        Ok((access, touched))
    }

    async fn applied(&self, id: &ProjectId, revision: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for change in [
            // First, for what it looks at: of two readings the one that knows of it is the later.
            "UPDATE projects SET access_revision = access_revision + 1 WHERE id = $1 AND EXISTS (SELECT name FROM \
             pending_changes WHERE project_id = $1 AND kind = 'user' AND revision <= $2)",
            "UPDATE users SET known = TRUE WHERE project_id = $1 AND name IN (SELECT name FROM pending_changes \
             WHERE project_id = $1 AND kind = 'user' AND revision <= $2)",
            "DELETE FROM pending_changes WHERE project_id = $1 AND revision <= $2",
        ] {
            sqlx::query(change)
                .bind(id.as_str())
                .bind(revision)
                .execute(&mut *tx)
                .await?;
        }
        let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pending_changes WHERE project_id = $1")
            .bind(id.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if left == 0 {
            operations::end(&mut tx, id, OperationKind::Apply, None, clock::now()).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn begin_start(&self, id: &ProjectId, now: EpochMs) -> Result<WholeProject, StoreError> {
        let mut tx = self.write().await?;
        lock_project(&mut tx, id).await?;
        sqlx::query(
            "INSERT INTO compute_transitions (project_id, project_created_ms, incarnation, from_state, to_state, at_ms) \
             SELECT c.project_id, p.created_ms, c.incarnation + 1, c.state, $2, $3 \
             FROM computes c JOIN projects p ON p.id = c.project_id WHERE c.project_id = $1",
        )
        .bind(id.as_str())
        .bind(ComputeState::Starting.as_str())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE computes SET state = $2, incarnation = incarnation + 1, drain_round = 0, \
             drain_forced = FALSE, since_ms = $3, reason = NULL \
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
             (project_id, project_created_ms, incarnation, from_state, to_state, at_ms, reason) \
             SELECT c.project_id, p.created_ms, $3, c.state, $2, $4, $5 \
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
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Transition>, StoreError> {
        let rows = sqlx::query_as::<_, TransitionRow>(
            "SELECT id, incarnation, from_state, to_state, at_ms, reason FROM compute_transitions \
             WHERE project_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        )
        .bind(id.as_str())
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Transition::try_from).collect()
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
             AND p.created_ms = compute_transitions.project_created_ms))",
        )
        .bind(before)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(result.rows_affected())
    }

    async fn set_sleep(&self, read: &ProjectRecord, sleep: Sleep) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        lock_project(&mut tx, &read.id).await?;
        read_project(&mut tx, &read.id).await?.expect(read)?;
        sqlx::query("UPDATE projects SET suspend_after_ms = $2, pinned_idle_timeout_ms = $3 WHERE id = $1")
            .bind(read.id.as_str())
            .bind(sleep.suspend_after.map(rows::suspend_after_ms))
            .bind(sleep.pinned_idle_timeout_ms.map(i64::from))
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn set_observed(&self, id: &ProjectId, observed: &Observed) -> Result<Access, StoreError> {
        let row = ServerRow::try_from(observed)?;
        let mut tx = self.write().await?;
        lock_project(&mut tx, id).await?;
        sqlx::query(
            "INSERT INTO servers (project_id, version, variables, databases, accounts) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (project_id) DO UPDATE SET version = excluded.version, variables = excluded.variables, \
             databases = excluded.databases, accounts = excluded.accounts",
        )
        .bind(id.as_str())
        .bind(&row.version)
        .bind(&row.variables)
        .bind(&row.databases)
        .bind(&row.accounts)
        .execute(&mut *tx)
        .await?;
        let made_here: Vec<(String, bool)> = sqlx::query_as("SELECT name, seen FROM databases WHERE project_id = $1")
            .bind(id.as_str())
            .fetch_all(&mut *tx)
            .await?;
        let mut changed = false;
        for (name, seen) in made_here {
            let exists = observed.databases.contains(&name);
            let statement = match (exists, seen) {
                (true, false) => "UPDATE databases SET seen = TRUE WHERE project_id = $1 AND name = $2",
                (false, true) => "DELETE FROM databases WHERE project_id = $1 AND name = $2",
                _ => continue,
            };
            changed = true;
            sqlx::query(statement)
                .bind(id.as_str())
                .bind(&name)
                .execute(&mut *tx)
                .await?;
        }
        let access = read_access(&mut tx, id).await?;
        for user in &access.users {
            let statement = match fate(user, observed) {
                Fate::Arrived => "UPDATE users SET known = TRUE WHERE project_id = $1 AND name = $2",
                Fate::Gone => "DELETE FROM users WHERE project_id = $1 AND name = $2",
                Fate::Unchanged => continue,
            };
            changed = true;
            sqlx::query(statement)
                .bind(id.as_str())
                .bind(user.name.as_str())
                .execute(&mut *tx)
                .await?;
        }
        if changed {
            return commit_access(tx, id, &[]).await;
        }
        tx.commit().await?;
        Ok(access)
    }

    fn for_term(&self, term: i64) -> Arc<dyn Store> {
        Arc::new(Self {
            pool: self.pool.clone(),
            term: Some(term),
        })
    }

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

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
