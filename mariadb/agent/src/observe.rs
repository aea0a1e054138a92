//! What a running server holds and does, by the agent's own connection.

use std::collections::BTreeMap;
use std::path::Path;

use control_api::agent::{AccountGrants, Activity, Server};
use control_api::settings::{self, Offer};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use crate::error::Error;
use crate::sql::{self, AGENT_USER};

/// What drivers ask for while connecting.
const VARIABLES: &str = "'version','version_comment','version_compile_os','version_compile_machine','protocol_version',\
    'max_allowed_packet','wait_timeout','interactive_timeout','net_read_timeout','net_write_timeout','sql_mode','autocommit',\
    'tx_isolation','transaction_isolation','tx_read_only','character_set_server','character_set_client',\
    'character_set_connection','character_set_results','character_set_database','collation_server','collation_connection',\
    'collation_database','time_zone','system_time_zone','auto_increment_increment','auto_increment_offset','init_connect',\
    'license','lower_case_table_names','query_cache_size','query_cache_type','socket','performance_schema','have_ssl'";

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
    let values: Vec<(String, Option<String>)> = conn.query(query).await?;
    let values = values
        .into_iter()
        .map(|(name, value)| (name, value.unwrap_or_default()));
    Ok(values.collect())
}

/// What a project can set its settings to, asked of a server for which nothing is set.
pub(crate) async fn offer(conn: &mut Conn) -> Result<Offer, Error> {
    let time_zones = conn
        .query("SELECT Name FROM mysql.time_zone_name ORDER BY Name")
        .await?;
    let character_sets: Vec<(String, String)> = conn
        .query("SELECT CHARACTER_SET_NAME, DEFAULT_COLLATE_NAME FROM information_schema.CHARACTER_SETS")
        .await?;
    let collations: Vec<(String, String)> = conn
        .query(
            "SELECT FULL_COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY",
        )
        .await?;
    Ok(Offer {
        defaults: settings(conn).await?,
        time_zones,
        character_sets: character_sets.into_iter().collect(),
        collations: collations.into_iter().collect(),
    })
}

/// Version, variables, databases, grants.
pub(crate) async fn server(conn: &mut Conn) -> Result<Server, Error> {
    let query = format!(
        "SELECT LOWER(VARIABLE_NAME), VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME IN ({VARIABLES})"
    );
    let variables: Vec<(String, String)> = conn.query(query).await?;
    let query = format!(
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ({SYSTEM_DATABASES}) ORDER BY 1"
    );
    let databases: Vec<String> = conn.query(query).await?;
    let rows: Vec<(String, String, String)> = conn
        .query("SELECT User, Host, Db FROM mysql.db ORDER BY User, Host, Db")
        .await?;
    let mut grants: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (user, host, pattern) in rows {
        grants.entry((user, host)).or_default().push(pattern);
    }
    let variables: std::collections::HashMap<_, _> = variables.into_iter().collect();
    let version = variables.get("version").cloned().unwrap_or_default();
    let grants = grants
        .into_iter()
        .map(|((user, host), database_patterns)| AccountGrants {
            user,
            host,
            database_patterns,
        });
    Ok(Server {
        version,
        variables,
        databases,
        grants: grants.collect(),
    })
}

/// What others do.
pub(crate) async fn activity(conn: &mut Conn) -> Result<Activity, Error> {
    let row: Option<(u32, u32, u32)> = conn
        .query_first(
            "SELECT CAST(COUNT(*) AS UNSIGNED), CAST(COALESCE(SUM(COMMAND NOT IN ('Sleep', 'Daemon')), 0) AS UNSIGNED), \
             CAST((SELECT COUNT(*) FROM information_schema.INNODB_TRX) AS UNSIGNED) \
             FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND USER <> 'system user' AND COMMAND <> 'Daemon'",
        )
        .await?;
    let (connections, running_statements, open_transactions) = row.unwrap_or_default();
    Ok(Activity {
        connections,
        running_statements,
        open_transactions,
    })
}
