//! Where a client logs in and as whom; a mysql_async connection to it.

use std::path::PathBuf;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};

use crate::wait::guarded;

/// All that a client needs to log in.
#[derive(Clone)]
pub struct Endpoint {
    /// The server's address; for [`crate::Raw`] also the path of a unix socket.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The login name; `project.user` at the gateway.
    pub user: String,
    /// The password.
    pub password: String,
    /// The database named at login.
    pub database: String,
    /// The certificate authority to trust, where the server has TLS.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

impl Endpoint {
    /// The same with another password.
    pub fn with_password(&self, password: &str) -> Self {
        Self {
            password: password.to_owned(),
            ..self.clone()
        }
    }

    /// The same with another login name.
    pub fn with_user(&self, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            ..self.clone()
        }
    }

    /// The same with another database; none when empty.
    pub fn with_database(&self, database: &str) -> Self {
        Self {
            database: database.to_owned(),
            ..self.clone()
        }
    }

    /// Options for mysql_async. Nothing is asked of the server while connecting.
    pub fn opts(&self) -> Opts {
        let database = (!self.database.is_empty()).then_some(self.database.clone());
        OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(Some(self.password.clone()))
            .db_name(database)
            .prefer_socket(false)
            .max_allowed_packet(Some(1 << 30))
            .wait_timeout(Some(28_800))
            .into()
    }

    /// Logs in, or says what the server answered.
    pub async fn try_connect(&self) -> mysql_async::Result<Conn> {
        guarded(format_args!("login at {self:?}"), Conn::new(self.opts())).await
    }

    /// Logs in.
    pub async fn connect(&self) -> Conn {
        self.try_connect()
            .await
            .unwrap_or_else(|why| panic!("login at {self:?}: {why}"))
    }
}

/// The one value that `sql` selects, as text; `None` for NULL.
pub async fn value(conn: &mut Conn, sql: &str) -> Option<String> {
    let row: Option<Option<String>> = guarded(sql, conn.query_first(sql))
        .await
        .unwrap_or_else(|why| panic!("{sql}: {why}"));
    row.unwrap_or_else(|| panic!("{sql}: no row"))
}

/// Runs `sql` for its effect.
pub async fn run(conn: &mut Conn, sql: &str) {
    guarded(sql, conn.query_drop(sql))
        .await
        .unwrap_or_else(|why| panic!("{sql}: {why}"));
}

/// The number of the server's error in `result`; panics on success and on any other error.
pub fn error_code<T>(result: mysql_async::Result<T>) -> u16 {
    match result {
        Err(mysql_async::Error::Server(told)) => told.code,
        Err(other) => panic!("not an error of the server: {other}"),
        Ok(_) => panic!("no error came"),
    }
}
