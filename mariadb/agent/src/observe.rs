//! What a running server holds and does, by the agent's own connection.

use std::collections::BTreeMap;
use std::path::Path;

use control_api::agent::{Activity, Server};
use control_api::settings::{self, Offer};
use mysql_async::{Conn, OptsBuilder};

use crate::accounts::{self, Ours, Seen};
use crate::bounded::{self, Room};
use crate::error::Error;
use crate::sql::{self, AGENT_USER};

/// What drivers ask for while connecting.
const VARIABLES: &str = "'version','version_comment','version_compile_os','version_compile_machine','protocol_version',\
    'max_allowed_packet','wait_timeout','interactive_timeout','net_read_timeout','net_write_timeout','sql_mode','autocommit',\
    'tx_isolation','transaction_isolation','tx_read_only','character_set_server','character_set_client',\
    'character_set_connection','character_set_results','character_set_database','collation_server','collation_connection',\
    'collation_database','time_zone','system_time_zone','auto_increment_increment','auto_increment_offset','init_connect',\
    'license','lower_case_table_names','query_cache_size','query_cache_type','socket','performance_schema','have_ssl',\
    'disconnect_on_expired_password'";

/// Of the names of all databases: ten thousand of the longest, as many as control takes over.
const DATABASES_BYTES_MAX: usize = 4 << 20;

/// Of the agent's own session.
const SESSION: &str = "SET SESSION sql_mode='NO_BACKSLASH_ESCAPES', SESSION wait_timeout=28800, \
    SESSION idle_transaction_timeout=0, SESSION max_statement_time=0";

const SYSTEM_DATABASES: &str = "'mysql','information_schema','performance_schema','sys'";

/// Logs the agent in.
pub(crate) async fn connect(socket: &Path, password: &str) -> Result<Conn, Error> {
    let options = OptsBuilder::default()
        .socket(Some(socket.display().to_string()))
        .user(Some(AGENT_USER))
        .pass(Some(password))
        // Known, so that the driver does not ask.
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(28_800))
        .prefer_socket(false)
        // What the project sets for its own sessions must neither end the agent's nor change what it reads.
        .setup(vec![SESSION]);
    Ok(Conn::new(options).await?)
}

/// The value of every setting that a project may have.
pub(crate) async fn settings(conn: &mut Conn) -> Result<BTreeMap<String, String>, Error> {
    let names: Vec<_> = settings::ALL.iter().map(|setting| sql::quoted(setting.name)).collect();
    let query = format!(
        "SELECT LOWER(VARIABLE_NAME), GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME IN ({})",
        names.join(",")
    );
    let values: Vec<(String, Option<String>)> = bounded::few(conn, &query).await?;
    let values = values
        .into_iter()
        .map(|(name, value)| (name, value.unwrap_or_default()));
    Ok(values.collect())
}

/// What a project can set its settings to, asked of a server for which nothing is set.
pub(crate) async fn offer(conn: &mut Conn) -> Result<Offer, Error> {
    let time_zones = bounded::few(conn, "SELECT Name FROM mysql.time_zone_name ORDER BY Name").await?;
    let character_sets = "SELECT CHARACTER_SET_NAME, DEFAULT_COLLATE_NAME FROM information_schema.CHARACTER_SETS";
    let character_sets: Vec<(String, String)> = bounded::few(conn, character_sets).await?;
    let collations =
        "SELECT FULL_COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY";
    let collations: Vec<(String, String)> = bounded::few(conn, collations).await?;
    Ok(Offer {
        defaults: settings(conn).await?,
        time_zones,
        character_sets: character_sets.into_iter().collect(),
        collations: collations.into_iter().collect(),
    })
}

/// Version, variables, databases, accounts; an account that the gateway cannot use is set right first.
pub(crate) async fn server(conn: &mut Conn, ours: &Ours) -> Result<Server, Error> {
    let query = format!(
        "SELECT LOWER(VARIABLE_NAME), VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME IN ({VARIABLES})"
    );
    let variables: Vec<(String, String)> = bounded::few(conn, &query).await?;
    let query = format!(
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ({SYSTEM_DATABASES}) ORDER BY 1"
    );
    let mut room = Room::of(DATABASES_BYTES_MAX);
    let databases = bounded::rows(conn, &query, &mut room, String::len).await?;
    let variables: std::collections::HashMap<_, _> = variables.into_iter().collect();
    let version = variables.get("version").cloned().unwrap_or_default();
    let mut server = Server {
        version,
        variables,
        ..Server::default()
    };
    match accounts::look(conn, ours).await? {
        Seen::TooMany(more) => server.left_out = format!("{more} accounts more than can be told"),
        Seen::Accounts(_) if databases.left_out > 0 => {
            server.left_out = format!("{} databases more than can be told", databases.left_out);
        }
        Seen::Accounts(accounts) => {
            server.accounts = accounts;
            server.databases = databases.rows;
        }
    }
    Ok(server)
}

/// What each row of the process list is; rows of the agent itself are not looked at. Threads that execute an event look
/// like a login of the event's definer.
const KIND: &str = "CASE WHEN COMMAND = 'Daemon' THEN 'none' \
    WHEN USER = 'system user' THEN 'replication' \
    WHEN USER = 'delayed' THEN IF(STATE = 'Waiting for INSERT', 'none', 'background') \
    WHEN COMMAND = 'Sleep' THEN 'idle' \
    WHEN USER = 'unauthenticated user' THEN 'login' \
    WHEN COMMAND = 'Connect' THEN 'event' \
    ELSE 'statement' END";

/// What others do.
pub(crate) async fn activity(conn: &mut Conn) -> Result<Activity, Error> {
    let kinds = format!(
        "SELECT {KIND} AS kind, CAST(COUNT(*) AS UNSIGNED) FROM information_schema.PROCESSLIST \
         WHERE ID <> CONNECTION_ID() GROUP BY kind"
    );
    let kinds: Vec<(String, u32)> = bounded::few(conn, &kinds).await?;
    let open_transactions = "SELECT CAST(COUNT(*) AS UNSIGNED) FROM information_schema.INNODB_TRX \
                             WHERE trx_mysql_thread_id NOT IN (0, CONNECTION_ID())";
    let open_transactions: Option<u32> = bounded::first(conn, open_transactions).await?;
    let count = |wanted: &str| kinds.iter().filter(|(kind, _)| kind == wanted).map(|(_, n)| n).sum();
    let (idle, login, running_statements): (u32, u32, u32) = (count("idle"), count("login"), count("statement"));
    Ok(Activity {
        connections: idle + login + running_statements,
        running_statements,
        open_transactions: open_transactions.unwrap_or_default(),
        running_events: count("event"),
        replication_threads: count("replication"),
        background_tasks: count("background"),
    })
}

/// One thing that is under way in the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Busy {
    /// A client's connection, its account, and what it does: "runs a statement", "is idle".
    Connection(u64, String, &'static str),
    /// A connection that is in no list yet.
    Login,
    Event(String),
    Replication,
    Background,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connection(id, user, does) => write!(f, "connection {id} of {user} {does}"),
            Self::Login => f.write_str("somebody is logging in"),
            Self::Event(definer) => write!(f, "an event of {definer} is being executed"),
            Self::Replication => f.write_str("it is a replica of another server"),
            Self::Background => f.write_str("rows of INSERT DELAYED are not written yet"),
        }
    }
}

/// Which of the things under way count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looking {
    /// All of them, and every connection even when it is idle.
    ForAnything,
    /// Only what would be cut off: statements, events, background work.
    ForRunning,
}

/// The most telling thing that is under way. `ours` is how many connections the agent itself has.
pub(crate) async fn busy(conn: &mut Conn, looking: Looking, ours: u32) -> Result<Option<Busy>, Error> {
    let idle = match looking {
        Looking::ForAnything => "",
        Looking::ForRunning => "AND kind NOT IN ('idle', 'login', 'replication')",
    };
    let found = format!(
        "SELECT kind, ID, USER FROM (SELECT {KIND} AS kind, ID, USER \
         FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()) AS work \
         WHERE kind <> 'none' AND USER <> 'unauthenticated user' {idle} ORDER BY kind = 'idle', ID LIMIT 1"
    );
    let found: Option<(String, u64, String)> = bounded::first(conn, &found).await?;
    if let Some((kind, id, user)) = found {
        return Ok(Some(match kind.as_str() {
            "event" => Busy::Event(user),
            "replication" => Busy::Replication,
            "background" => Busy::Background,
            "idle" => Busy::Connection(id, user, "is idle"),
            _ => Busy::Connection(id, user, "runs a statement"),
        }));
    }
    if looking == Looking::ForRunning {
        return Ok(None);
    }
    // Counted by the server when it takes a connection from the socket, so that one that has sent nothing yet, or that no
    // thread has, counts too.
    let connected = "SELECT CAST(VARIABLE_VALUE AS UNSIGNED) FROM information_schema.GLOBAL_STATUS \
                     WHERE VARIABLE_NAME = 'THREADS_CONNECTED'";
    let connected: Option<u32> = bounded::first(conn, connected).await?;
    Ok((connected.unwrap_or(u32::MAX) > ours).then_some(Busy::Login))
}

/// A better reason than an idle connection: one with a transaction. Asked once and last, because the server makes its
/// list of transactions anew only for who has not asked for a tenth of a second.
pub(crate) async fn better_reason(conn: &mut Conn, busy: Busy) -> Result<Busy, Error> {
    if !matches!(busy, Busy::Connection(_, _, "is idle")) {
        return Ok(busy);
    }
    let holder = "SELECT p.ID, p.USER FROM information_schema.PROCESSLIST p JOIN information_schema.INNODB_TRX t \
                  ON t.trx_mysql_thread_id = p.ID WHERE p.COMMAND = 'Sleep' AND p.ID <> CONNECTION_ID() ORDER BY 1 LIMIT 1";
    let holder: Option<(u64, String)> = bounded::first(conn, holder).await?;
    Ok(holder.map_or(busy, |(id, user)| Busy::Connection(id, user, "holds a transaction")))
}
