//! The accounts of a server, read exactly: `mysql.global_priv` and what grants rights on databases.
//!
//! In: the rows of the privilege tables. Out: what each account of a tenant is proven by, requires and may use, and what
//! has to be changed in its row so that the gateway gets in: its method stands behind the tenant's own, and what the tenant
//! wishes to be enforced on clients (ACCOUNT LOCK, REQUIRE, PASSWORD EXPIRE, resource limits) stands aside under a key that MariaDB keeps
//! and ignores, because over the unix socket it would refuse the gateway. A statement of the tenant's writes its own keys
//! again, also for "none": so the later wish is always known. A row is only replaced where it still is what was read, so
//! that no concurrent change is ever undone; docs/decisions/2026-11-25-accounts-made-in-sql.md has the reasons.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use control_api::agent::{AccountLimits, Require, SeenAccount};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Map, Value, json};

use crate::bounded::{self, Room};
use crate::error::Error;
use crate::sql;

mod rights;

use rights::Rights;

/// A row that is changed by a tenant again and again while we set it right is left to the next look.
const ROUNDS_MAX: usize = 3;
/// Of the rows of all accounts, as they are read: ten thousand, as many as control takes over, with a password each. As JSON
/// they take a few times as much.
const ACCOUNTS_BYTES_MAX: usize = 4 << 20;
const NATIVE: &str = "mysql_native_password";
/// The hash of the gateway's method as it was last written into this row.
const GATEWAY_KEY: &str = "selkie_gateway";
/// What the tenant wishes and the row must not say.
const WISH_KEY: &str = "selkie_wish";
/// Written together by REQUIRE.
const REQUIRE_KEYS: [&str; 4] = ["ssl_type", "ssl_cipher", "x509_issuer", "x509_subject"];
const LOCK_KEY: &str = "account_locked";
/// Seconds since 1970; 0 is how the server writes PASSWORD EXPIRE.
const PASSWORD_CHANGED_KEY: &str = "password_last_changed";
/// Days of PASSWORD EXPIRE INTERVAL; 0 is NEVER, -1 is DEFAULT.
const PASSWORD_LIFETIME_KEY: &str = "password_lifetime";
const DAY_S: u64 = 24 * 60 * 60;
const LIMIT_KEYS: [&str; 4] = [
    "max_questions",
    "max_updates",
    "max_connections",
    "max_user_connections",
];

/// Accounts of the server, of its packages and of Selkie; control refuses them as users.
const RESERVED: [&str; 5] = ["root", "mysql", "mariadb.sys", "public", "debian-sys-maint"];
/// MariaDB's bit of CREATE USER.
const CREATE_USER: u64 = 1 << 25;
/// Of what the agent's account has, the rights without which it cannot keep up the others: SELECT, UPDATE, RELOAD, GRANT,
/// SUPER, CREATE USER.
const AGENT_NEEDS: u64 = 1 | 1 << 2 | 1 << 6 | 1 << 10 | 1 << 15 | CREATE_USER;

/// A row of `mysql.global_priv`.
#[derive(Debug, Clone)]
struct Row {
    host: String,
    user: String,
    text: String,
    privileges: Map<String, Value>,
}

/// What proves our own to the server.
#[derive(Clone, Default)]
pub(crate) struct Ours {
    pub(crate) gateway_hash: String,
    /// Of the agent's own account; empty where it is not to be kept up.
    pub(crate) agent_hash: String,
}

/// What a look has seen.
pub(crate) enum Seen {
    Accounts(Vec<SeenAccount>),
    /// There are more than are looked at; so many more.
    TooMany(usize),
}

/// The accounts as they are, after setting right what keeps the gateway or the agent out.
pub(crate) async fn look(conn: &mut Conn, ours: &Ours) -> Result<Seen, Error> {
    let gateway_hash = ours.gateway_hash.as_str();
    let (mut rows, mut left_out) = read(conn).await?;
    for _ in 0..ROUNDS_MAX {
        let mut any = set_right(conn, &rows, gateway_hash).await?;
        if !ours.agent_hash.is_empty() && !rows.iter().any(|row| row.is_agents(&ours.agent_hash)) {
            // Whoever owns the server has dropped it, or put back an older one from a dump.
            tracing::info!("the agent's own account is made anew");
            for statement in sql::agent(&ours.agent_hash) {
                conn.query_drop(statement).await?;
            }
            any = true;
        }
        if !any {
            break;
        }
        (rows, left_out) = read(conn).await?;
    }
    if left_out > 0 {
        return Ok(Seen::TooMany(left_out));
    }
    rows.retain(Row::is_of_tenant);
    let patterns = Rights::read(conn).await?.told(&rows);
    let seen = rows.iter().zip(patterns);
    Ok(Seen::Accounts(
        seen.map(|(row, patterns)| row.seen(gateway_hash, patterns)).collect(),
    ))
}

/// Which of these are there as users of host `%`.
pub(crate) async fn there<'a>(
    conn: &mut Conn,
    asked: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<String>, Error> {
    let asked: Vec<_> = asked.map(sql::quoted).collect();
    if asked.is_empty() {
        return Ok(BTreeSet::new());
    }
    let query = format!(
        "SELECT User FROM mysql.global_priv WHERE Host='%' AND User IN ({})",
        asked.join(",")
    );
    Ok(bounded::few(conn, &query).await?.into_iter().collect())
}

/// Those for which there is room, the agent's own first, and how many there are besides: so that whoever has made too many
/// can still get in as one of the others, and drop them.
async fn read(conn: &mut Conn) -> Result<(Vec<Row>, usize), Error> {
    let query = format!(
        "SELECT Host, User, Priv FROM mysql.global_priv ORDER BY User = {} DESC, User, Host",
        sql::quoted(sql::AGENT_USER)
    );
    let mut room = Room::of(ACCOUNTS_BYTES_MAX);
    let bytes = |(host, user, text): &(String, String, String)| host.len() + user.len() + text.len();
    let kept = bounded::rows(conn, &query, &mut room, bytes).await?;
    let parsed = kept.rows.into_iter().filter_map(|(host, user, text)| {
        // The table's own check lets only JSON in; what is no object is no account.
        let privileges = serde_json::from_str(&text).ok()?;
        Some(Row {
            host,
            user,
            text,
            privileges,
        })
    });
    Ok((parsed.collect(), kept.left_out))
}

/// Whether any row was not as it must be.
async fn set_right(conn: &mut Conn, rows: &[Row], gateway_hash: &str) -> Result<bool, Error> {
    let mut any = false;
    for row in rows {
        let Some(right) = row.set_right(gateway_hash) else {
            continue;
        };
        any = true;
        let replace = "UPDATE mysql.global_priv SET Priv=? WHERE Host=? AND User=? AND Priv=?";
        conn.exec_drop(
            replace,
            (Value::Object(right).to_string(), &row.host, &row.user, &row.text),
        )
        .await?;
    }
    if any {
        conn.query_drop("FLUSH PRIVILEGES").await?;
    }
    Ok(any)
}

impl Row {
    fn is_role(&self) -> bool {
        self.privileges.get("is_role").is_some_and(is_on)
    }

    fn is_of_tenant(&self) -> bool {
        let name = self.user.to_lowercase();
        !self.is_role() && !RESERVED.contains(&name.as_str()) && !name.starts_with("selkie")
    }

    /// The agent's own, which it can log in to with all that it needs.
    fn is_agents(&self, hash: &str) -> bool {
        let it = self.user == sql::AGENT_USER && self.host == "localhost";
        it && self.methods().contains(&(NATIVE, hash)) && self.access() & AGENT_NEEDS == AGENT_NEEDS
    }

    fn text(&self, key: &str) -> &str {
        self.privileges.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Plugin and what it checks against, in the order in which the server tries them. An empty object in `auth_or` stands
    /// for the one at the top.
    fn methods(&self) -> Vec<(&str, &str)> {
        let top = || (self.text("plugin"), self.text("authentication_string"));
        match self.privileges.get("auth_or").and_then(Value::as_array) {
            Some(methods) => methods
                .iter()
                .map(|method| match method.get("plugin").and_then(Value::as_str) {
                    Some(plugin) => (plugin, string(method, "authentication_string")),
                    None => top(),
                })
                .collect(),
            None => vec![top()],
        }
    }

    /// The row as it must be; `None` where it is.
    fn set_right(&self, gateway_hash: &str) -> Option<Map<String, Value>> {
        if !self.is_of_tenant() || self.host != "%" || self.user.is_empty() {
            return None;
        }
        let mut right = self.privileges.clone();
        let provable = self
            .methods()
            .iter()
            .any(|(plugin, data)| native(plugin, data).is_some() || ed25519(plugin, data).is_some());
        if provable {
            add_gateway(&mut right, gateway_hash);
        }
        set_wishes_aside(&mut right);
        (right != self.privileges).then_some(right)
    }

    /// What a key says: the row's own, since a statement has written it after what was set aside.
    fn wish(&self, key: &str) -> Option<&Value> {
        let aside = || self.privileges.get(WISH_KEY).and_then(|wish| wish.get(key));
        self.privileges.get(key).or_else(aside)
    }

    fn number(&self, key: &str) -> i64 {
        self.wish(key).and_then(Value::as_i64).unwrap_or_default()
    }

    fn words(&self, key: &str) -> String {
        let said = self.wish(key).and_then(Value::as_str);
        said.unwrap_or_default().to_owned()
    }

    /// As MariaDB's `check_password_lifetime`, for an account that has a lifetime of its own.
    fn password_expires_s(&self) -> Option<u64> {
        let days = u64::try_from(self.number(PASSWORD_LIFETIME_KEY))
            .ok()
            .filter(|days| *days > 0)?;
        let changed = self.privileges.get(PASSWORD_CHANGED_KEY)?.as_u64()?;
        Some(changed.saturating_add(days.saturating_mul(DAY_S)))
    }

    fn access(&self) -> u64 {
        self.privileges
            .get("access")
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    fn seen(&self, gateway_hash: &str, database_patterns: Vec<String>) -> SeenAccount {
        let stale = self.text(GATEWAY_KEY);
        let own: Vec<_> = self
            .methods()
            .into_iter()
            .filter(|(plugin, data)| {
                *plugin != NATIVE || (*data != gateway_hash && *data != stale && !sql::is_gateways(data))
            })
            .collect();
        let known = |plugin: &str| matches!(plugin, NATIVE | "mysql_old_password" | "");
        SeenAccount {
            user: self.user.clone(),
            host: self.host.clone(),
            native_sha1: own.iter().filter_map(|(plugin, data)| native(plugin, data)).collect(),
            other_plugins: own
                .iter()
                .filter(|(plugin, _)| !known(plugin))
                .map(|(plugin, _)| (*plugin).to_owned())
                .collect(),
            locked: self.wish(LOCK_KEY).is_some_and(is_on),
            require: match self.number("ssl_type") {
                1 => Require::Ssl,
                2 => Require::X509,
                3 => Require::Specified,
                _ => Require::None,
            }
            .into(),
            require_cipher: self.words("ssl_cipher"),
            require_issuer: self.words("x509_issuer"),
            require_subject: self.words("x509_subject"),
            limits: Some(AccountLimits {
                queries_per_hour: self.number("max_questions"),
                updates_per_hour: self.number("max_updates"),
                connections_per_hour: self.number("max_connections"),
                user_connections: self.number("max_user_connections"),
            }),
            admin: self.access() & CREATE_USER != 0,
            password_expired: self.wish(PASSWORD_CHANGED_KEY).and_then(Value::as_u64) == Some(0),
            password_expires_s: self.password_expires_s().unwrap_or_default(),
            ed25519_keys: own.iter().filter_map(|(plugin, data)| ed25519(plugin, data)).collect(),
            database_patterns,
        }
    }
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_on(value: &Value) -> bool {
    value.as_bool().unwrap_or_default() || value.as_i64().is_some_and(|number| number != 0)
}

/// The 20 bytes of `*HEX`; no password and `invalid` have none.
fn native(plugin: &str, data: &str) -> Option<Vec<u8>> {
    let hash = data.strip_prefix('*').filter(|_| matches!(plugin, NATIVE | ""))?;
    sql::bytes(hash).filter(|bytes| bytes.len() == 20)
}

/// The 32 bytes of a public key: 43 characters of base64, whose padding MariaDB leaves out.
fn ed25519(plugin: &str, data: &str) -> Option<Vec<u8>> {
    if plugin != "ed25519" {
        return None;
    }
    STANDARD_NO_PAD.decode(data).ok().filter(|key| key.len() == 32)
}

/// Puts the gateway's method behind the others. What is there of an earlier incarnation's, or of another project's that came
/// with a dump, goes: its secret must open nothing here.
fn add_gateway(row: &mut Map<String, Value>, hash: &str) {
    let kept = row.insert(GATEWAY_KEY.into(), json!(hash));
    let kept = kept.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_stale = |data: &str| data != hash && (sql::is_gateways(data) || (!kept.is_empty() && data == kept));
    if let Some(methods) = row.get_mut("auth_or").and_then(Value::as_array_mut) {
        methods.retain(|method| !is_stale(string(method, "authentication_string")));
    }
    // The server itself writes a native method at the top where a tenant's own is another.
    let top = row
        .get("authentication_string")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if is_stale(top) {
        row.insert("authentication_string".into(), json!(hash));
        return;
    }
    if top == hash {
        return;
    }
    let methods = row.entry("auth_or").or_insert_with(|| json!([{}]));
    let Some(methods) = methods.as_array_mut() else {
        return;
    };
    let is_ours = |method: &Value| string(method, "authentication_string") == hash;
    if !methods.iter().any(is_ours) {
        methods.push(json!({"plugin": NATIVE, "authentication_string": hash}));
    }
}

/// Moves what would refuse the gateway under our own key, and takes back what a later statement says otherwise.
fn set_wishes_aside(row: &mut Map<String, Value>) {
    let passwords = [&[PASSWORD_CHANGED_KEY][..], &[PASSWORD_LIFETIME_KEY]];
    let limits = LIMIT_KEYS.iter().map(std::slice::from_ref);
    let groups = [&REQUIRE_KEYS[..], &[LOCK_KEY]]
        .into_iter()
        .chain(passwords)
        .chain(limits);
    for keys in groups {
        let Some(said) = row.get(keys[0]) else { continue };
        let wished = match keys[0] {
            PASSWORD_CHANGED_KEY => said.as_i64() == Some(0),
            PASSWORD_LIFETIME_KEY => said.as_i64().is_some_and(|days| days > 0),
            _ => is_on(said),
        };
        let set_aside = row.get(WISH_KEY).and_then(|wish| wish.get(keys[0])).is_some();
        if !wished && !set_aside {
            continue;
        }
        let moved: Vec<_> = match wished {
            true => keys.iter().filter_map(|key| row.remove_entry(*key)).collect(),
            false => Vec::new(),
        };
        let wish = row.entry(WISH_KEY).or_insert_with(|| json!({}));
        let Some(wish) = wish.as_object_mut() else { continue };
        for key in keys {
            wish.remove(*key);
        }
        wish.extend(moved);
    }
    if row.get(WISH_KEY).and_then(Value::as_object).is_some_and(Map::is_empty) {
        row.remove(WISH_KEY);
    }
}

#[cfg(test)]
mod tests;
