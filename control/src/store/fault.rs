//! What is wrong with the database, or with what it stands on, when a statement fails: what a caller may be told, and an
//! operator can do something about. Both databases say it by code.

use std::fmt;

use sqlx::{Error, error::DatabaseError, postgres::PgDatabaseError, sqlite::SqliteError};

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk, or what it may use of it. It goes on by itself once there is space.
    Full,
    /// A file system, a file or a server that takes no changes.
    ReadOnly,
    /// What is there cannot have been written by it.
    Damaged,
    /// Not reached, busy for too long, or its disk fails.
    Away,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no space is left for it",
            Self::ReadOnly => "it cannot be changed",
            Self::Damaged => "it is damaged",
            Self::Away => "it does not answer",
        })
    }
}

impl Fault {
    /// `None`: the statement itself is at fault.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Database(error) => of_database(&**error),
            Error::Io(_) | Error::Tls(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed => {
                Some(Self::Away)
            }
            _ => None,
        }
    }
}

fn of_database(error: &dyn DatabaseError) -> Option<Fault> {
    let code = error.code()?;
    if error.try_downcast_ref::<SqliteError>().is_some() {
        return of_sqlite(code.parse().ok()?);
    }
    error.try_downcast_ref::<PgDatabaseError>()?;
    of_postgres(&code, error.message())
}

/// <https://www.sqlite.org/rescode.html>; the lowest byte is the kind.
fn of_sqlite(code: i32) -> Option<Fault> {
    const IOERR_SHMSIZE: i32 = 10 | 19 << 8;
    match code & 0xff {
        // No room for the index of the log: a full disk, told as an error of it.
        _ if code == IOERR_SHMSIZE => Some(Fault::Full),
        5 | 6 | 10 | 14 | 15 => Some(Fault::Away),
        8 => Some(Fault::ReadOnly),
        11 | 26 => Some(Fault::Damaged),
        13 => Some(Fault::Full),
        _ => None,
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn of_postgres(code: &str, message: &str) -> Option<Fault> {
    match code {
        "53100" => Some(Fault::Full),
        // A standby says the second to whoever wants to begin a change.
        "25006" => Some(Fault::ReadOnly),
        "0A000" if message.contains("during recovery") => Some(Fault::ReadOnly),
        "XX001" | "XX002" => Some(Fault::Damaged),
        // Too many connections or too little memory, a limit of time, an operator; it takes no connections.
        "53200" | "53300" | "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "55P03" | "55000" | "25P03" => {
            Some(Fault::Away)
        }
        _ if code.starts_with("08") || code.starts_with("58") => Some(Fault::Away),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use harness::Postgres;

    use super::*;

    #[test]
    fn sqlite_says_it_by_the_lowest_byte_of_its_code() {
        for (code, fault) in [
            (13, Some(Fault::Full)),
            (4874, Some(Fault::Full)),
            (11, Some(Fault::Damaged)),
            (267, Some(Fault::Damaged)),
            (26, Some(Fault::Damaged)),
            (8, Some(Fault::ReadOnly)),
            (1032, Some(Fault::ReadOnly)),
            (5, Some(Fault::Away)),
            (266, Some(Fault::Away)),
            (1555, None),
            (1, None),
        ] {
            assert_eq!(of_sqlite(code), fault, "{code}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_says_it_by_the_code_of_its_error() {
        let url = tokio::task::spawn_blocking(|| Postgres::shared().database())
            .await
            .unwrap();
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        for (code, message, fault) in [
            ("53100", "could not extend file", Some(Fault::Full)),
            (
                "25006",
                "cannot execute UPDATE in a read-only transaction",
                Some(Fault::ReadOnly),
            ),
            (
                "0A000",
                "cannot set transaction read-write mode during recovery",
                Some(Fault::ReadOnly),
            ),
            ("0A000", "cannot do that", None),
            ("XX001", "invalid page in block 7", Some(Fault::Damaged)),
            (
                "57P01",
                "terminating connection due to administrator command",
                Some(Fault::Away),
            ),
            ("58030", "could not read block", Some(Fault::Away)),
            ("23505", "duplicate key", None),
            ("42P01", "no such table", None),
        ] {
            let raise = format!("DO $$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = '{code}'; END $$");
            let raised = sqlx::query(sqlx::AssertSqlSafe(raise))
                .execute(&pool)
                .await
                .unwrap_err();
            assert_eq!(Fault::of(&raised), fault, "{code}: {raised}");
        }
        pool.close().await;
        let closed = pool.acquire().await.unwrap_err();
        assert_eq!(Fault::of(&closed), Some(Fault::Away));
    }
}
