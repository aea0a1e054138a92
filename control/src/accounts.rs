//! What a server's accounts mean: who of them can log in through the gateway, why the others cannot, and what a gateway is
//! told of them. A user made by API counts as REST made it until a server has had it so; from then on what the server says
//! is the truth, also that the account is gone.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use control_api::control as proto;
use serde::{Deserialize, Serialize};

use crate::{
    name::{DatabaseName, UserName, database_pattern},
    secret::hex,
    store::{Access, Observed, UserRecord},
};

/// An account as the agent saw it last.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ObservedAccount {
    pub(crate) user: String,
    pub(crate) host: String,
    /// SHA1(SHA1(password)) in hex; one of them suffices.
    pub(crate) native_sha1: Vec<String>,
    /// Plugins other than that of `native_sha1`; of them the gateway checks ed25519, by its keys.
    pub(crate) other_plugins: Vec<String>,
    pub(crate) locked: bool,
    pub(crate) require: Require,
    pub(crate) limits: Limits,
    pub(crate) admin: bool,
    pub(crate) patterns: Vec<String>,
    pub(crate) password_expired: bool,
    /// Seconds since 1970; 0: it does not expire by itself.
    pub(crate) password_expires_s: u64,
    /// Public keys in hex.
    pub(crate) ed25519_keys: Vec<String>,
    /// With [`Require::Specified`]; empty: not said.
    pub(crate) require_cipher: String,
    pub(crate) require_issuer: String,
    pub(crate) require_subject: String,
}

/// What an account requires of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Require {
    #[default]
    None,
    Ssl,
    /// As it was written before it was kept which one. No certificate will do until the agent has looked again.
    Certificate,
    X509,
    Specified,
}

/// 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) queries_per_hour: i64,
    pub(crate) updates_per_hour: i64,
    pub(crate) connections_per_hour: i64,
    pub(crate) user_connections: i64,
}

impl ObservedAccount {
    /// As it stands behind REQUIRE in SQL; none where nothing is required.
    pub(crate) fn require_text(&self) -> Option<String> {
        let specified = || {
            let parts = [
                ("ISSUER", &self.require_issuer),
                ("SUBJECT", &self.require_subject),
                ("CIPHER", &self.require_cipher),
            ];
            let said = parts.into_iter().filter(|(_, value)| !value.is_empty());
            let texts: Vec<_> = said
                .map(|(what, value)| format!("{what} '{}'", value.replace('\'', "''")))
                .collect();
            texts.join(" AND ")
        };
        match self.require {
            Require::None => None,
            Require::Ssl => Some("SSL".into()),
            Require::Certificate | Require::X509 => Some("X509".into()),
            Require::Specified => Some(specified()),
        }
    }
}

impl fmt::Debug for ObservedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedAccount")
            .field("user", &self.user)
            .field("host", &self.host)
            .field("locked", &self.locked)
            .field("require", &self.require)
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

impl ObservedAccount {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.host == "%" && self.user == name
    }

    pub(crate) fn has(&self, native_sha1: &[u8; 20]) -> bool {
        self.native_sha1.contains(&hex(native_sha1))
    }
}

/// What a server says of a user that was made by API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has it as it is here, for the first time.
    Arrived,
    /// It was dropped or renamed in SQL.
    Gone,
    Unchanged,
}

/// The accounts of host `%` by their names: there may be thousands, and as many users to be looked up among them.
pub(crate) struct Anywhere<'a>(HashMap<&'a str, &'a ObservedAccount>);

impl<'a> Anywhere<'a> {
    pub(crate) fn of(accounts: &'a [ObservedAccount]) -> Self {
        let mut anywhere = HashMap::new();
        for account in accounts.iter().filter(|account| account.host == "%") {
            anywhere.entry(account.user.as_str()).or_insert(account);
        }
        Self(anywhere)
    }

    fn find(&self, name: &str) -> Option<&'a ObservedAccount> {
        self.0.get(name).copied()
    }

    pub(crate) fn fate(&self, user: &UserRecord) -> Fate {
        match self.find(user.name.as_str()) {
            Some(account) if !user.known && account.has(&user.verifiers.native_sha1) => Fate::Arrived,
            None if user.known || user.had => Fate::Gone,
            _ => Fate::Unchanged,
        }
    }
}

/// Why nobody can log in through the gateway as this account, whatever the password; fit for people to read.
pub(crate) fn reason(account: &ObservedAccount, standing: &Standing<'_>) -> Option<String> {
    if let Some(reason) = out_of_reach(account, standing) {
        return Some(reason);
    }
    if account.native_sha1.is_empty() && account.ed25519_keys.is_empty() {
        return Some(match account.other_plugins.first() {
            Some(plugin) => format!("it is proven by {plugin}, which the gateway does not check"),
            None => "it has no password".into(),
        });
    }
    account.locked.then(|| "it is locked".into())
}

/// Which accounts stand before others of their name. The gateway comes to the server as localhost, and MariaDB takes the
/// account with the more exact host. Found once for all accounts, because there may be thousands.
pub(crate) struct Standing<'a> {
    /// Where there are several, the first.
    nameless: Option<(usize, &'a ObservedAccount)>,
    named: HashMap<&'a str, (usize, &'a ObservedAccount)>,
}

impl<'a> Standing<'a> {
    pub(crate) fn of(all: &'a [ObservedAccount]) -> Self {
        let mut standing = Self {
            nameless: None,
            named: HashMap::new(),
        };
        for (at, account) in all.iter().enumerate() {
            if !matches!(
                account.host.as_str(),
                "localhost" | "localhos_" | "local%" | "localhost%"
            ) {
                continue;
            }
            if account.user.is_empty() {
                standing.nameless.get_or_insert((at, account));
            } else {
                standing.named.entry(&account.user).or_insert((at, account));
            }
        }
        standing
    }

    fn before(&self, account: &ObservedAccount) -> Option<&'a ObservedAccount> {
        let named = self.named.get(account.user.as_str()).copied();
        let first = named.into_iter().chain(self.nameless).min_by_key(|(at, _)| *at);
        first.map(|(_, other)| other)
    }
}

/// Why no login through the gateway comes to this account.
fn out_of_reach(account: &ObservedAccount, standing: &Standing<'_>) -> Option<String> {
    if account.user.is_empty() {
        return Some("it has no name".into());
    }
    if account.host != "%" {
        return Some(format!(
            "its host is '{}'; the gateway lets in accounts of host '%'",
            account.host
        ));
    }
    if account.require == Require::Certificate {
        return Some("it requires a client certificate; which one is known once its database has run".into());
    }
    let before = standing.before(account);
    before.map(|other| format!("'{}'@'{}' stands before it", other.user, other.host))
}

/// Everybody whom a gateway may let in.
pub(crate) fn users(access: &Access, observed: Option<&Observed>) -> Vec<proto::User> {
    let accounts = observed.map_or(&[][..], |observed| &observed.accounts);
    let standing = Standing::of(accounts);
    let anywhere = Anywhere::of(accounts);
    let by_api = access
        .users
        .iter()
        .filter_map(|user| match (user.known, anywhere.find(user.name.as_str())) {
            (true, Some(account)) => usable(account, &standing).then(|| seen_user(user, account, access)),
            // Dropped in SQL; the store is about to forget it.
            (true, None) => None,
            (false, None) if user.had => None,
            (false, Some(account)) if user.had => Some(with_new_password(user, account, access)),
            (false, account) => Some(made_user(user, account, access)),
        });
    let names = access.users.iter().map(|user| user.name.as_str());
    let elsewhere: HashSet<&str> = names.chain(access.removed_users.iter().map(UserName::as_str)).collect();
    let others = accounts
        .iter()
        .filter(|account| !elsewhere.contains(account.user.as_str()) && usable(account, &standing));
    let mut users: Vec<_> = by_api.chain(others.map(sql_user)).collect();
    users.sort_by(|one, other| one.name.cmp(&other.name));
    users
}

/// Every database that a client may name.
pub(crate) fn databases(access: &Access, observed: Option<&Observed>) -> Vec<String> {
    let mut databases: Vec<String> = access.databases.iter().map(ToString::to_string).collect();
    if let Some(observed) = observed {
        let removed: HashSet<&str> = access.removed_databases.iter().map(DatabaseName::as_str).collect();
        let there = observed
            .databases
            .iter()
            .filter(|name| !removed.contains(name.as_str()));
        databases.extend(there.cloned());
    }
    databases.sort_unstable();
    databases.dedup();
    databases
}

/// Those who cannot log in although their password is right are told why, so the gateway must know them.
fn usable(account: &ObservedAccount, standing: &Standing<'_>) -> bool {
    let provable = !account.native_sha1.is_empty() || !account.ed25519_keys.is_empty();
    provable && out_of_reach(account, standing).is_none()
}

fn on_databases<'a>(names: impl IntoIterator<Item = &'a DatabaseName>) -> Vec<String> {
    names.into_iter().map(|name| database_pattern(name.as_str())).collect()
}

/// As REST made it: all rights on all databases.
fn made_user(user: &UserRecord, account: Option<&ObservedAccount>, access: &Access) -> proto::User {
    proto::User {
        name: user.name.to_string(),
        native_sha1: user.verifiers.native_sha1.to_vec(),
        caching_sha2: user.verifiers.caching_sha2.to_vec(),
        admin: user.admin,
        granted_databases: merged(account, on_databases(&access.databases)),
        created_ms: user.created,
        ..proto::User::default()
    }
}

/// As the server says, but for the password that it is about to be given; that one has not expired.
fn with_new_password(user: &UserRecord, account: &ObservedAccount, access: &Access) -> proto::User {
    proto::User {
        native_sha1: user.verifiers.native_sha1.to_vec(),
        more_native_sha1: Vec::new(),
        caching_sha2: user.verifiers.caching_sha2.to_vec(),
        password_expired: false,
        password_expires_s: 0,
        ed25519_keys: Vec::new(),
        ..seen_user(user, account, access)
    }
}

/// As the server says, and with the databases that it is about to be given.
fn seen_user(user: &UserRecord, account: &ObservedAccount, access: &Access) -> proto::User {
    let as_made = account.has(&user.verifiers.native_sha1);
    proto::User {
        caching_sha2: if as_made {
            user.verifiers.caching_sha2.to_vec()
        } else {
            Vec::new()
        },
        granted_databases: match user.by_sql {
            true => account.patterns.clone(),
            false => merged(Some(account), on_databases(&access.new_databases)),
        },
        created_ms: user.created,
        ..sql_user(account)
    }
}

fn sql_user(account: &ObservedAccount) -> proto::User {
    let mut verifiers = account.native_sha1.iter().filter_map(|text| crate::secret::unhex(text));
    let limits = account.limits;
    proto::User {
        name: account.user.clone(),
        native_sha1: verifiers.next().unwrap_or_default(),
        more_native_sha1: verifiers.collect(),
        caching_sha2: Vec::new(),
        admin: account.admin,
        granted_databases: account.patterns.clone(),
        locked: account.locked,
        require: match account.require {
            Require::None => proto::Require::None,
            Require::Ssl => proto::Require::Ssl,
            Require::X509 => proto::Require::Certificate,
            Require::Certificate | Require::Specified => proto::Require::Specified,
        }
        .into(),
        require_cipher: account.require_cipher.clone(),
        require_issuer: account.require_issuer.clone(),
        require_subject: account.require_subject.clone(),
        limits: (limits != Limits::default()).then_some(proto::AccountLimits {
            queries_per_hour: limits.queries_per_hour,
            updates_per_hour: limits.updates_per_hour,
            connections_per_hour: limits.connections_per_hour,
            user_connections: limits.user_connections,
        }),
        password_expired: account.password_expired,
        password_expires_s: account.password_expires_s,
        ed25519_keys: account
            .ed25519_keys
            .iter()
            .filter_map(|text| crate::secret::unhex(text))
            .collect(),
        created_ms: 0,
    }
}

fn merged(account: Option<&ObservedAccount>, mut patterns: Vec<String>) -> Vec<String> {
    patterns.extend(account.into_iter().flat_map(|account| account.patterns.iter().cloned()));
    patterns.sort_unstable();
    patterns.dedup();
    patterns
}

#[cfg(test)]
mod tests;
