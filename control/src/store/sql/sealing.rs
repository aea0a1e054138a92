//! Sealing in SQL: which keys the state needs, and sealing what is not sealed yet or by another key than the first. Each
//! step is a transaction; after any of them everything is either as it was or sealed, so that a control plane may be killed
//! between two and the next one goes on.

use std::path::Path;

use sqlx::{Database, Pool, QueryBuilder};

use super::{
    super::{BEGIN_WRITE, Db, SERIALISE_CREATES, WIPE},
    SqlStore, Tx,
};
use crate::{
    clock,
    store::{
        Sealed, StoreError,
        rows::{self, ACCOUNTS, VERIFIERS},
        seal::{Keyring, Place},
    },
};

/// Rows of one transaction: some milliseconds, after which another writer has its turn and the lease is looked at again.
pub(super) const BATCH: i64 = 500;

/// Where the probe of a key stands.
fn probe(id: &str) -> Place<'_> {
    Place {
        column: "sealing_keys.probe",
        project: "",
        row: id,
    }
}

const PROBE: &[u8] = b"selkie";

/// The keys of `file` once they are known to open what is in the store; `name` as in `StoreError::Unusable`. Nothing is
/// changed where they do not. The file is made where the state has never needed one.
pub(super) async fn unlock(pool: &Pool<Db>, file: &Path, name: &str) -> Result<Keyring, StoreError> {
    let mut tx = pool.begin_with(BEGIN_WRITE).await?;
    if let Some(serialise) = SERIALISE_CREATES {
        sqlx::query(serialise).execute(&mut *tx).await?;
    }
    let known: Vec<(String, Vec<u8>)> = sqlx::query_as("SELECT id, probe FROM sealing_keys ORDER BY id")
        .fetch_all(&mut *tx)
        .await?;
    let keys = match Keyring::read(file)? {
        Some(keys) => keys,
        None if known.is_empty() => Keyring::make(file)?,
        None => {
            let problem = format!(
                "is missing, and the state in {name} is sealed by the key {}: put the file back, or name its place in \
                 control.store.key_file; nothing was changed",
                listed(&known)
            );
            return Err(StoreError::unusable(&file.display().to_string(), problem));
        }
    };
    must_open(&keys, &known, name)?;
    if known.is_empty() {
        let id = keys.sealing().to_string();
        register(&mut tx, &keys, &id).await?;
        tx.commit().await?;
    }
    Ok(keys)
}

async fn register(connection: &mut <Db as Database>::Connection, keys: &Keyring, id: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO sealing_keys (id, probe, since_ms) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING")
        .bind(id)
        .bind(keys.seal(probe(id), PROBE))
        .bind(clock::now())
        .execute(connection)
        .await?;
    Ok(())
}

fn listed(known: &[(String, Vec<u8>)]) -> String {
    let ids: Vec<_> = known.iter().map(|(id, _)| id.as_str()).collect();
    ids.join(" and ")
}

fn must_open(keys: &Keyring, known: &[(String, Vec<u8>)], name: &str) -> Result<(), StoreError> {
    let refused = |problem| Err(StoreError::unusable(&keys.file().display().to_string(), problem));
    for (id, sealed) in known {
        if !keys.has(id) {
            let here: Vec<_> = keys.ids().map(|id| id.to_string()).collect();
            return refused(format!(
                "has the key {}, and the state in {name} is sealed by {id}: add that key as a line of its own; nothing was \
                 changed",
                here.join(" and ")
            ));
        }
        if keys.open(probe(id), sealed).ok().as_deref() != Some(PROBE) {
            return refused(format!(
                "has the key {id}, and it does not open what the state in {name} was sealed with it: one of the two is \
                 damaged; nothing was changed"
            ));
        }
    }
    Ok(())
}

impl SqlStore {
    /// `Store::seal`, `batch` rows at once and no more than `steps_max` transactions of it; `None`: there is more to do.
    pub(in crate::store) async fn seal_in(&self, mut steps_max: u64, batch: i64) -> Result<Option<Sealed>, StoreError> {
        let mut sealed = Sealed::default();
        let first = self.keys.sealing().to_string();
        let mut step = || {
            let left = steps_max > 0;
            steps_max = steps_max.saturating_sub(1);
            left
        };
        if !step() {
            return Ok(None);
        }
        self.begin_sealing(&first).await?;
        for kind in [Kind::Users, Kind::Servers] {
            let mut after = (String::new(), String::new());
            loop {
                if !step() {
                    return Ok(None);
                }
                let Some((last, count)) = self.seal_batch(kind, &after, batch).await? else {
                    break;
                };
                (after, sealed.values) = (last, sealed.values + count);
            }
        }
        if !step() {
            return Ok(None);
        }
        if self.is_to_be_wiped(&first).await? && !self.wipe().await {
            // Another start tries it again; the keys that what is left may be sealed by stay known until then.
            return Ok(Some(sealed));
        }
        let mut tx = self.write().await?;
        sqlx::query("UPDATE sealing_keys SET wiped = TRUE WHERE id = $1 AND NOT wiped")
            .bind(&first)
            .execute(&mut *tx)
            .await?;
        sealed.retired = sqlx::query_scalar("DELETE FROM sealing_keys WHERE id <> $1 RETURNING id")
            .bind(&first)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Some(sealed))
    }

    /// The first key is known before anything is sealed by it; and no other control plane has sealed anything that this one
    /// cannot open.
    async fn begin_sealing(&self, first: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let known: Vec<(String, Vec<u8>)> = sqlx::query_as("SELECT id, probe FROM sealing_keys ORDER BY id")
            .fetch_all(&mut *tx)
            .await?;
        must_open(&self.keys, &known, &self.name)?;
        if !known.iter().any(|(id, _)| id == first) {
            register(&mut tx, &self.keys, first).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The next rows behind `after` that are not sealed by the first key; answers the last of them, and how many they were.
    async fn seal_batch(&self, kind: Kind, after: &RowName, batch: i64) -> Result<Option<(RowName, u64)>, StoreError> {
        let mut tx = self.write().await?;
        let rows = kind.unsealed(&mut tx, &self.keys.head(), after, batch).await?;
        let Some(last) = rows.last().map(|row| (row.project_id.clone(), row.name.clone())) else {
            return Ok(None);
        };
        let sealed: Result<Vec<_>, _> = rows.iter().map(|row| self.sealed(kind, row)).collect();
        kind.update(&mut tx, &rows, sealed?).await?;
        let count = rows.len() as u64;
        tx.commit().await?;
        Ok(Some((last, count)))
    }

    fn sealed(&self, kind: Kind, row: &Unsealed) -> Result<Vec<u8>, StoreError> {
        let place = Place {
            column: kind.column(),
            project: &row.project_id,
            row: &row.name,
        };
        let plain = match &row.sealed {
            Some(sealed) => rows::opened(&self.keys, place, sealed)?,
            None => row.plain(kind)?,
        };
        Ok(self.keys.seal(place, &plain))
    }

    async fn is_to_be_wiped(&self, first: &str) -> Result<bool, StoreError> {
        let wiped: Option<bool> = sqlx::query_scalar("SELECT wiped FROM sealing_keys WHERE id = $1")
            .bind(first)
            .fetch_optional(&self.pool)
            .await?;
        Ok(wiped != Some(true))
    }

    /// What was overwritten or deleted is still in the database's files, until they are written anew.
    async fn wipe(&self) -> bool {
        for statement in WIPE {
            // What answers says whether somebody was in its way.
            let hindered = sqlx::query_scalar::<_, i32>(statement).fetch_optional(&self.pool).await;
            let problem = match hindered {
                Ok(None | Some(0)) => continue,
                Ok(Some(_)) => "the database was busy".into(),
                Err(error) => error.to_string(),
            };
            tracing::warn!(
                problem,
                statement,
                "what was in the state before it was sealed is still in its files; the next start tries again"
            );
            return false;
        }
        true
    }
}

/// Project and name.
type RowName = (String, String);

/// What is kept sealed.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Users,
    Servers,
}

/// A row that is not sealed by the first key.
#[derive(sqlx::FromRow)]
struct Unsealed {
    project_id: String,
    #[sqlx(default)]
    name: String,
    sealed: Option<Vec<u8>>,
    #[sqlx(default)]
    native_sha1: Vec<u8>,
    #[sqlx(default)]
    caching_sha2: Vec<u8>,
    #[sqlx(default)]
    accounts: String,
}

impl Unsealed {
    /// As an earlier version has left it.
    fn plain(&self, kind: Kind) -> Result<Vec<u8>, StoreError> {
        match kind {
            Kind::Users if self.native_sha1.len() == 20 && self.caching_sha2.len() == 32 => {
                Ok([&self.native_sha1[..], &self.caching_sha2].concat())
            }
            Kind::Servers if !self.accounts.is_empty() => Ok(self.accounts.clone().into_bytes()),
            _ => Err(StoreError::Corrupt(format!("{} of {}", kind.column(), self.project_id))),
        }
    }
}

impl Kind {
    fn column(self) -> &'static str {
        match self {
            Self::Users => VERIFIERS,
            Self::Servers => ACCOUNTS,
        }
    }

    /// The first `batch` behind `after`; `head` begins what is sealed as it should be.
    async fn unsealed(
        self,
        tx: &mut Tx,
        head: &[u8],
        (project, name): &RowName,
        batch: i64,
    ) -> Result<Vec<Unsealed>, StoreError> {
        let rows = match self {
            Self::Users => {
                sqlx::query_as(
                    "SELECT project_id, name, verifiers AS sealed, native_sha1, caching_sha2 FROM users \
                     WHERE (verifiers IS NULL OR substr(verifiers, 1, 5) <> $1) \
                     AND (project_id, name) > ($2, $3) ORDER BY project_id, name LIMIT $4",
                )
                .bind(head)
                .bind(project)
                .bind(name)
                .bind(batch)
                .fetch_all(&mut **tx)
                .await?
            }
            Self::Servers => {
                sqlx::query_as(
                    "SELECT project_id, sealed_accounts AS sealed, accounts FROM servers \
                     WHERE (sealed_accounts IS NULL OR substr(sealed_accounts, 1, 5) <> $1) \
                     AND project_id > $2 ORDER BY project_id LIMIT $3",
                )
                .bind(head)
                .bind(project)
                .bind(batch)
                .fetch_all(&mut **tx)
                .await?
            }
        };
        Ok(rows)
    }

    /// One statement for all: each on its way alone would cost PostgreSQL a minute for 100,000 projects.
    async fn update(self, tx: &mut Tx, rows: &[Unsealed], sealed: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let (before, after) = match self {
            Self::Users => (
                "UPDATE users SET verifiers = n.column3, native_sha1 = n.column4, caching_sha2 = n.column4 FROM (",
                ") n WHERE users.project_id = n.column1 AND users.name = n.column2",
            ),
            Self::Servers => (
                "UPDATE servers SET sealed_accounts = n.column3, accounts = n.column2 FROM (",
                ") n WHERE servers.project_id = n.column1",
            ),
        };
        let mut query = QueryBuilder::<Db>::new(before);
        query.push_values(rows.iter().zip(sealed), |mut values, (row, sealed)| {
            // A server's row has no name of its own, and no text is what is left of its accounts.
            values.push_bind(&row.project_id).push_bind(&row.name).push_bind(sealed);
            values.push_bind(rows::IN_THE_CLEAR);
        });
        query.push(after);
        query.build().execute(&mut **tx).await?;
        Ok(())
    }
}
