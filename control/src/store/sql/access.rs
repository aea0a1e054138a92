//! `store::access` in SQL.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use control_api::rest::OperationKind;

use super::{SqlStore, Tx, found, lock_project, must_exist, operations, taken};
use crate::{
    accounts::{Anywhere, Fate},
    clock,
    name::{DatabaseName, ProjectId, UserName},
    secret::Verifiers,
    store::{
        Access, Accesses, EpochMs, Expected, NewUser, Observed, StoreError, Touched,
        operations::BY_API,
        rows::{self, Of, ServerRow, UserRow},
    },
    weight::weigh,
};

pub(super) async fn read_access(tx: &mut Tx, id: &ProjectId) -> Result<Access, StoreError> {
    let mut accesses = read_accesses(tx, id, id).await?;
    accesses.remove(id.as_str()).ok_or(StoreError::NotFound("project"))
}

/// Of every project from `first` to `last`: a handful of statements, however many they are.
pub(super) async fn read_accesses(
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
        "SELECT project_id, name, verifiers, admin, created_ms, known, had, by_sql FROM users \
         WHERE project_id BETWEEN $1 AND $2 ORDER BY project_id, name",
    )
    .bind(first)
    .bind(last)
    .fetch_all(&mut **tx)
    .await?;
    for Of { project_id, row } in users {
        if let Some(access) = accesses.get_mut(&project_id) {
            access.users.push(row.opened(&tx.keys, &project_id)?);
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

/// Where what was just added makes the project too large, it is not added. To be called under the project's lock.
async fn must_fit(tx: &mut Tx, id: &ProjectId) -> Result<(), StoreError> {
    let access = read_access(tx, id).await?;
    let server = sqlx::query_as::<_, ServerRow>(
        "SELECT version, variables, databases, sealed_accounts FROM servers WHERE project_id = $1",
    )
    .bind(id.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    let observed = server.map(|row| row.opened(&tx.keys, id.as_str())).transpose()?;
    Ok(weigh(&access, observed.as_ref())?)
}

pub(super) async fn insert_user(tx: &mut Tx, id: &ProjectId, user: &NewUser, now: EpochMs) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO users (project_id, name, verifiers, native_sha1, caching_sha2, admin, created_ms) \
         VALUES ($1, $2, $3, $4, $4, $5, $6)",
    )
    .bind(id.as_str())
    .bind(user.name.as_str())
    .bind(rows::sealed_verifiers(&tx.keys, id, &user.name, &user.verifiers))
    .bind(rows::IN_THE_CLEAR)
    .bind(user.admin)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(taken("user"))?;
    Ok(())
}

pub(super) async fn insert_database(tx: &mut Tx, id: &ProjectId, name: &DatabaseName) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO databases (project_id, name) VALUES ($1, $2)")
        .bind(id.as_str())
        .bind(name.as_str())
        .execute(&mut **tx)
        .await
        .map_err(taken("database"))?;
    Ok(())
}

#[async_trait]
impl Accesses for SqlStore {
    async fn access(&self, id: &ProjectId) -> Result<Access, StoreError> {
        let mut tx = self.read().await?;
        must_exist(&mut tx, id).await?;
        read_access(&mut tx, id).await
    }

    async fn add_user(&self, id: &ProjectId, user: NewUser, now: EpochMs) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_project(&mut tx, id).await?;
        insert_user(&mut tx, id, &user, now).await?;
        must_fit(&mut tx, id).await?;
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
        let result = sqlx::query("UPDATE users SET verifiers = $3, known = FALSE WHERE project_id = $1 AND name = $2")
            .bind(id.as_str())
            .bind(name.as_str())
            .bind(rows::sealed_verifiers(&tx.keys, id, name, verifiers))
            .execute(&mut *tx)
            .await?;
        found(result.rows_affected(), "user")?;
        commit_access(tx, id, &[("user", name.as_str())]).await
    }

    async fn adopt_user(
        &self,
        id: &ProjectId,
        user: NewUser,
        now: EpochMs,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_expected(&mut tx, id, expected).await?;
        insert_user(&mut tx, id, &user, now).await?;
        sqlx::query("UPDATE users SET had = TRUE, by_sql = TRUE WHERE project_id = $1 AND name = $2")
            .bind(id.as_str())
            .bind(user.name.as_str())
            .execute(&mut *tx)
            .await?;
        must_fit(&mut tx, id).await?;
        commit_access(tx, id, &[("user", user.name.as_str())]).await
    }

    async fn remove_sql_user(&self, id: &ProjectId, name: &UserName, expected: Expected) -> Result<Access, StoreError> {
        let mut tx = self.write().await?;
        lock_expected(&mut tx, id, expected).await?;
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
        must_fit(&mut tx, id).await?;
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
            "UPDATE users SET known = TRUE, had = TRUE WHERE project_id = $1 AND name IN (SELECT name FROM pending_changes \
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

    async fn set_observed(&self, id: &ProjectId, observed: &Observed) -> Result<Access, StoreError> {
        let row = ServerRow::sealed(observed, &self.keys, id)?;
        let mut tx = self.write().await?;
        lock_project(&mut tx, id).await?;
        sqlx::query(
            "INSERT INTO servers (project_id, version, variables, databases, sealed_accounts, accounts) \
             VALUES ($1, $2, $3, $4, $5, '') \
             ON CONFLICT (project_id) DO UPDATE SET version = excluded.version, variables = excluded.variables, \
             databases = excluded.databases, sealed_accounts = excluded.sealed_accounts",
        )
        .bind(id.as_str())
        .bind(&row.version)
        .bind(&row.variables)
        .bind(&row.databases)
        .bind(&row.sealed_accounts)
        .execute(&mut *tx)
        .await?;
        let made_here: Vec<(String, bool)> = sqlx::query_as("SELECT name, seen FROM databases WHERE project_id = $1")
            .bind(id.as_str())
            .fetch_all(&mut *tx)
            .await?;
        let mut changed = false;
        let there: HashSet<&str> = observed.databases.iter().map(String::as_str).collect();
        for (name, seen) in made_here {
            let exists = there.contains(name.as_str());
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
        let anywhere = Anywhere::of(&observed.accounts);
        for user in &access.users {
            let statement = match anywhere.fate(user) {
                Fate::Arrived => "UPDATE users SET known = TRUE, had = TRUE WHERE project_id = $1 AND name = $2",
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
        if !changed {
            weigh(&access, Some(observed))?;
            tx.commit().await?;
            return Ok(access);
        }
        weigh(&read_access(&mut tx, id).await?, Some(observed))?;
        commit_access(tx, id, &[]).await
    }
}
