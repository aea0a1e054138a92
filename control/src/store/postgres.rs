//! PostgreSQL: the store that several control planes share. Whatever changes a project first locks its row, so that
//! changes of one project follow one another and those of different projects do not wait.

use std::{io, path::Path, time::Duration};

use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
};

use super::{StoreError, migrated};

#[allow(clippy::duplicate_mod, reason = "written once, compiled for each database")]
#[path = "sql.rs"]
mod sql;

pub(crate) use sql::SqlStore as PostgresStore;

type Db = sqlx::Postgres;

/// Several statements make one reading.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Said in full: an operator may have set another default.
const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
const LOCK_KEY: &str = "SELECT name FROM api_keys WHERE name = $1 FOR UPDATE";
const LOCK_PROJECT: &str = "SELECT id FROM projects WHERE id = $1 AND NOT deleting FOR UPDATE";
/// Two creates at once would choose the same OS user. The number only has to be unlike those of others in this database.
const SERIALISE_CREATES: Option<&str> = Some("SELECT pg_advisory_xact_lock(7300010001)");
/// Milliseconds since 1970 by the database's clock, the only one that all control planes share.
const NOW_MS: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
/// Held to the end of the transaction: a takeover changes the term, which is part of a key, and waits; a renewal does not.
const LOCK_TERM: &str = "SELECT term FROM leases WHERE name = $1 AND term = $2 FOR KEY SHARE";

/// Outside of any transaction. Tables of a row for each user and project: written anew in seconds. What it held is given back
/// to the file system, and is in PostgreSQL's own log for as long as that is kept.
const WIPE: [&str; 2] = ["VACUUM (FULL) users", "VACUUM (FULL) servers"];

/// REST and a wake storm's keepers; PostgreSQL allows 100 by default, and several control planes share them.
const CONNECTIONS_MAX: u32 = 16;
/// For a connection from the pool, and for the first one. A caller that waits longer has given up by itself.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// 14, of Ubuntu 22.04, the oldest of the distributions that are in use. Tests run on Debian's 15.
const VERSION_MIN: i32 = 140_000;
/// Of each connection. A statement here takes milliseconds; what hangs must not hold locks for ever, nor must a control
/// plane that was frozen in the middle of a transaction delay the takeover. A commit is on disk when it returns: an incarnation number must
/// not come again after a power cut.
const SESSION: [(&str, &str); 4] = [
    ("statement_timeout", "30s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "3s"),
    ("synchronous_commit", "on"),
];

/// Connects and brings the tables up to date. `name` is the URL without its password, `keys` the file of the keys.
pub(super) async fn open(options: PgConnectOptions, name: &str, keys: &Path) -> Result<PostgresStore, StoreError> {
    let options = options.application_name("selkie-control").options(SESSION);
    check(&options, name).await?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(CONNECT_PATIENCE)
        .connect_with(options)
        .await
        .map_err(|error| unusable(name, &error))?;
    let opened = async {
        migrated(sqlx::migrate!("migrations/postgres").run(&pool).await, name)?;
        PostgresStore::open(pool.clone(), keys, name).await
    };
    opened.await.map_err(|error| match error {
        StoreError::Faulty { fault, source } => StoreError::unusable(name, format!("{fault}: {source}")),
        error => error,
    })
}

/// One connection outside of the pool first: the pool tries again until its time is over and then forgets why.
async fn check(options: &PgConnectOptions, name: &str) -> Result<(), StoreError> {
    let look = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let version = sqlx::query_scalar("SELECT current_setting('server_version_num')::INT4")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(version)
    };
    let version: i32 = match tokio::time::timeout(CONNECT_PATIENCE, look).await {
        Ok(looked) => looked.map_err(|error| unusable(name, &error))?,
        Err(_) => {
            let problem = format!("no answer within {} s", CONNECT_PATIENCE.as_secs());
            return Err(StoreError::unusable(name, problem));
        }
    };
    old_enough(version).map_err(|problem| StoreError::unusable(name, problem))
}

/// `version` as `server_version_num` tells it.
fn old_enough(version: i32) -> Result<(), String> {
    if version >= VERSION_MIN {
        return Ok(());
    }
    let (here, least) = (version / 10_000, VERSION_MIN / 10_000);
    Err(format!(
        "this is PostgreSQL {here}, and {least} is the oldest that works: upgrade it"
    ))
}

fn tls(error: impl std::fmt::Display) -> String {
    format!("TLS, see `sslmode` and `sslrootcert` of the URL: {error}")
}

/// What an operator can do something about, in words. PostgreSQL's own messages hold no password.
fn unusable(name: &str, error: &sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code());
    let problem = match (error, code.as_deref()) {
        (_, Some("28P01" | "28000")) => format!("login refused, check user and password: {error}"),
        (_, Some("3D000")) => format!("create the database first: {error}"),
        (_, Some("53300")) => format!("raise max_connections of the server: {error}"),
        (_, Some("42501")) => format!("the user may not create tables there: {error}"),
        // What rustls thinks of a certificate comes as the connection's error.
        (sqlx::Error::Io(error), _) if error.kind() == io::ErrorKind::InvalidData => tls(error),
        (sqlx::Error::Io(error), _) if error.kind() == io::ErrorKind::NotFound => {
            format!("cannot connect, `sslrootcert` of the URL or the server's socket is missing: {error}")
        }
        (sqlx::Error::Io(error), _) => format!("cannot connect: {error}"),
        (sqlx::Error::Tls(error), _) => tls(error),
        _ => error.to_string(),
    };
    StoreError::unusable(name, problem)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, str::FromStr};

    use harness::Postgres;

    use super::*;
    use crate::store::{Fault, Store, suite};

    async fn server() -> &'static Postgres {
        tokio::task::spawn_blocking(Postgres::shared).await.unwrap()
    }

    async fn open_url(url: &str, dir: &tempfile::TempDir) -> Result<PostgresStore, StoreError> {
        let keys = dir.path().join("store.keys");
        open(PgConnectOptions::from_str(url).unwrap(), "the store", &keys).await
    }

    async fn open_fresh() -> (tempfile::TempDir, PostgresStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = open_url(&server().await.database(), &dir).await.unwrap();
        (dir, store)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn behaves_as_a_store_must() {
        suite::run_all(open_fresh).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_control_planes_that_start_at_once_make_the_tables_once() {
        let (url, dir) = (server().await.database(), tempfile::tempdir().unwrap());
        let (one, other) = tokio::join!(open_url(&url, &dir), open_url(&url, &dir));
        one.unwrap().create_project(suite::new_project("demo")).await.unwrap();
        assert_eq!(other.unwrap().projects(None, 10).await.unwrap().len(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_opened_says_why_and_no_secret() {
        let server = server().await;
        let dir = tempfile::tempdir().unwrap();
        let refused = async |url: &str| open_url(url, &dir).await.map(drop).unwrap_err().to_string();
        let password = refused(&server.url_of("postgres", "sesame", "postgres")).await;
        assert!(
            password.contains("check user and password") && !password.contains("sesame"),
            "{password}"
        );
        let database = refused(&server.url_of("postgres", "harness", "none")).await;
        assert!(database.contains("create the database first"), "{database}");
        let nobody = format!("postgres://u:sesame@127.0.0.1:{}/d", harness::ports::free_port());
        let unreachable = refused(&nobody).await;
        assert!(
            unreachable.contains("cannot connect") && !unreachable.contains("sesame"),
            "{unreachable}"
        );
    }

    #[test]
    fn server_that_is_too_old_is_told_so_with_both_versions() {
        let refused = old_enough(130_022).unwrap_err();
        assert!(
            refused.contains("PostgreSQL 13") && refused.contains("14 is the oldest"),
            "{refused}"
        );
        assert_eq!(old_enough(140_000), Ok(()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_are_encrypted_and_checked_as_the_url_says() {
        let tls = tokio::task::spawn_blocking(Postgres::with_tls).await.unwrap();
        let url = tls.database();
        let ca = tls.ca().display().to_string();
        let checked = format!("{url}?sslmode=verify-full&sslrootcert={ca}");
        let dir = tempfile::tempdir().unwrap();
        let store = open_url(&checked, &dir).await.unwrap();
        store.create_project(suite::new_project("demo")).await.unwrap();
        let open = "SELECT BOOL_AND(s.ssl) FROM pg_stat_ssl s \
                    JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'selkie-control'";
        assert_eq!(tls.sql("postgres", open), "t");
        store.close().await;

        let dir = tempfile::tempdir().unwrap();
        let refused = async |url: &str| open_url(url, &dir).await.map(drop).unwrap_err().to_string();
        let told = |refused: &str| refused.contains("sslmode") && refused.contains("sslrootcert");
        // The machine's own authorities have not signed it.
        let unknown = refused(&format!("{url}?sslmode=verify-full")).await;
        assert!(told(&unknown), "{unknown}");
        let other_name = checked.replace("127.0.0.1", "localhost");
        let misnamed = refused(&other_name).await;
        assert!(told(&misnamed), "{misnamed}");
        let missing = refused(&format!("{url}?sslmode=verify-full&sslrootcert=/nowhere/ca.pem")).await;
        assert!(
            missing.contains("sslrootcert") && missing.contains("missing"),
            "{missing}"
        );
        let plain = server().await.database();
        let without = refused(&format!("{plain}?sslmode=require")).await;
        assert!(told(&without), "{without}");
        for text in [unknown, misnamed, missing, without] {
            assert!(!text.contains("harness"), "a password: {text}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_asked_while_the_database_is_away_is_not_done_and_all_goes_on_when_it_is_back() {
        let server = server().await;
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        let store = open_url(&url, &dir).await.unwrap();
        store.create_project(suite::new_project("early")).await.unwrap();
        let name = url.rsplit('/').next().unwrap();
        let admit = |who: bool| server.sql("postgres", &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {who}"));
        admit(false);
        let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        server.sql("postgres", &cut);
        for _ in 0..2 {
            let refused = store.create_project(suite::new_project("late")).await.unwrap_err();
            let away = matches!(refused, StoreError::Faulty { fault: Fault::Away, .. });
            assert!(away, "{refused:?}");
        }
        admit(true);
        assert_eq!(store.projects(None, 10).await.unwrap().len(), 1);
        store.create_project(suite::new_project("late")).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn database_of_a_newer_version_is_refused() {
        let server = server().await;
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        open_url(&url, &dir).await.unwrap().close().await;
        let name = url.rsplit('/').next().unwrap();
        server.sql(name, "UPDATE _sqlx_migrations SET version = 9000 WHERE version = 1");
        let refused = open_url(&url, &dir).await.map(drop).unwrap_err().to_string();
        assert!(
            refused.contains("the store: it was used by a newer version"),
            "{refused}"
        );
    }

    /// The two sets of migrations are written by hand; statements are written once for both.
    #[tokio::test(flavor = "multi_thread")]
    async fn tables_and_columns_are_those_of_sqlite() {
        let server = server().await;
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        open_url(&url, &dir).await.unwrap();
        let listed = server.sql(
            url.rsplit('/').next().unwrap(),
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'",
        );
        let here: BTreeSet<String> = listed.lines().map(ToString::to_string).collect();

        let sqlite = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
        sqlx::migrate!("migrations/sqlite").run(&sqlite).await.unwrap();
        let there: Vec<String> = sqlx::query_scalar(
            "SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'",
        )
        .fetch_all(&sqlite)
        .await
        .unwrap();
        let there: BTreeSet<String> = there.into_iter().filter(|name| !name.starts_with("sqlite_")).collect();
        assert_eq!(here, there);
    }
}
