//! The statements that an agent gives to its server: accounts, databases, rights. Pure text, so that all of it is seen in
//! tests. Names are quoted here and nowhere else.

use std::collections::BTreeMap;

use control_api::settings::{self, Applies};
use control_api::spec::Spec;
use sha1::{Digest, Sha1};

use crate::error::Error;

/// The agent's own account, with a password of its own at each start. The gateway refuses names that begin like this.
pub(crate) const AGENT_USER: &str = "selkie_agent";

/// An account as it must be.
pub(crate) struct Account<'a> {
    pub(crate) user: &'a str,
    pub(crate) native_sha1_hex: &'a str,
    pub(crate) admin: bool,
}

/// MariaDB's form of SHA1(SHA1(password)).
pub(crate) fn native_hash(password: &[u8]) -> String {
    native_hash_of(&hex(&Sha1::digest(Sha1::digest(password))))
}

fn native_hash_of(sha1_hex: &str) -> String {
    format!("*{}", sha1_hex.to_ascii_uppercase())
}

/// The hash of the gateway's method. Its letters alternate in case, from small to large: a server takes either, keeps them,
/// and shows them in SHOW CREATE USER and SHOW GRANTS; no tool makes such hashes. So a method that came with a dump from
/// another project, or from an earlier incarnation, is known for what it is.
pub(crate) fn gateway_hash(secret: &[u8]) -> String {
    in_turns(&native_hash(secret))
}

/// Whether a hash is of some gateway's method, whichever project's and however old.
pub(crate) fn is_gateways(hash: &str) -> bool {
    hash.len() == 41 && hash.bytes().any(|byte| byte.is_ascii_alphabetic()) && in_turns(hash) == hash
}

fn in_turns(hash: &str) -> String {
    let mut large = true;
    let turn = |letter: char| {
        if !letter.is_ascii_alphabetic() {
            return letter;
        }
        large = !large;
        if large {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        }
    };
    hash.chars().map(turn).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `'text'`. Statements run with NO_BACKSLASH_ESCAPES, so quotes are all that must be doubled.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A database's name as the pattern that grants use.
fn pattern(name: &str) -> String {
    identifier(&escaped(name))
}

/// A name as the pattern that matches nothing else.
pub(crate) fn escaped(name: &str) -> String {
    let escape = |c| matches!(c, '_' | '%' | '\\').then_some('\\').into_iter().chain([c]);
    name.chars().flat_map(escape).collect()
}

/// What every list of statements begins with: a project may have set both for its own sessions.
pub(crate) const PREAMBLE: &str =
    "SET SESSION sql_mode='NO_BACKSLASH_ESCAPES', SESSION max_statement_time=0, SESSION sql_log_bin=0";

/// Sets variables of the running server, for the sessions that begin after it. A character set comes before its
/// collation, because it brings another.
pub(crate) fn set_global(values: &BTreeMap<String, String>) -> Result<Vec<String>, Error> {
    let refuse = |problem: String| Error::Spec {
        field: "settings",
        problem,
    };
    let set = values.iter().map(|(name, value)| {
        let setting = settings::find(name).map_err(|error| refuse(error.to_string()))?;
        if setting.applies != Applies::Live {
            return Err(refuse(format!("`{name}` is not taken by a running server")));
        }
        Ok(format!("SET GLOBAL {}={}", setting.name, setting.literal(value)))
    });
    set.collect()
}

pub(crate) fn create_database(name: &str) -> String {
    format!("CREATE DATABASE IF NOT EXISTS {}", identifier(name))
}

pub(crate) fn drop_database(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {}", identifier(name))
}

pub(crate) fn drop_account(user: &str) -> String {
    format!("DROP USER IF EXISTS {}@'%'", quoted(user))
}

pub(crate) fn revoke_database(user: &str, database: &str) -> String {
    // Not REVOKE: that fails where nothing was granted.
    format!(
        "DELETE FROM mysql.db WHERE Host='%' AND User={} AND Db={}",
        quoted(user),
        quoted(pattern(database).trim_matches('`'))
    )
}

/// Makes the account where it is not, with the tenant's method first and the gateway's second, and makes the password be
/// as given where it is: one statement on one row. It comes last, since a GRANT writes back the methods that the server has
/// in memory.
pub(crate) fn account(account: &Account<'_>, gateway_hash: &str, databases: &[String]) -> Vec<String> {
    let user = quoted(account.user);
    let own = quoted(&native_hash_of(account.native_sha1_hex));
    let gateway = quoted(gateway_hash);
    let mut statements = vec![format!(
        "CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED VIA mysql_native_password USING {own} \
         OR mysql_native_password USING {gateway}"
    )];
    statements.extend(
        databases
            .iter()
            .map(|database| grant(account.user, account.admin, database)),
    );
    if account.admin {
        statements.push(format!("GRANT CREATE USER ON *.* TO {user}@'%'"));
    }
    statements.push(password(account.user, account.native_sha1_hex, gateway_hash));
    statements
}

/// Makes the password be as given where the account is.
pub(crate) fn password(user: &str, native_sha1_hex: &str, gateway_hash: &str) -> String {
    let (user, gateway) = (quoted(user), quoted(gateway_hash));
    let own = quoted(&native_hash_of(native_sha1_hex));
    // An empty object stands for the method at the top level, the tenant's. `selkie` marks accounts that REST set. A password
    // that is set has not expired.
    format!(
        "UPDATE mysql.global_priv SET Priv=JSON_SET(Priv, '$.selkie', 1, '$.password_last_changed', UNIX_TIMESTAMP(), \
          '$.selkie_gateway', {gateway}, \
         '$.plugin', 'mysql_native_password', '$.authentication_string', {own}, '$.auth_or', JSON_ARRAY(JSON_OBJECT(), \
         JSON_OBJECT('plugin', 'mysql_native_password', 'authentication_string', {gateway}))) \
         WHERE Host='%' AND User={user}"
    )
}

/// All rights on a database; who may make accounts may also give them rights.
pub(crate) fn grant(user: &str, admin: bool, database: &str) -> String {
    let option = if admin { " WITH GRANT OPTION" } else { "" };
    format!(
        "GRANT ALL PRIVILEGES ON {}.* TO {}@'%'{option}",
        pattern(database),
        quoted(user)
    )
}

/// Exchanges the gateway's hash of an earlier incarnation for this one's, wherever it stands in an account's row: a hash is
/// like nothing else in there.
fn exchange_gateway_hash(gateway_hash: &str) -> String {
    format!(
        "UPDATE mysql.global_priv SET Priv=REPLACE(Priv, JSON_VALUE(Priv, '$.selkie_gateway'), {}) \
         WHERE JSON_VALUE(Priv, '$.selkie_gateway') LIKE '*________________________________________'",
        quoted(gateway_hash)
    )
}

/// Makes the agent's own account, whatever is there of that name.
pub(crate) fn agent(hash: &str) -> [String; 2] {
    let agent = format!("{}@'localhost'", quoted(AGENT_USER));
    [
        format!("CREATE OR REPLACE USER {agent} IDENTIFIED BY PASSWORD {}", quoted(hash)),
        format!("GRANT ALL PRIVILEGES ON *.* TO {agent} WITH GRANT OPTION"),
    ]
}

/// Everything the server must do before it takes connections, one statement a line. No secret in the clear: hashes only.
pub(crate) fn init_file(spec: &Spec, agent_password: &str) -> Result<String, Error> {
    let secret = bytes(&spec.gateway_secret_hex).ok_or_else(|| Error::Spec {
        field: "gateway_secret_hex",
        problem: "is not hexadecimal".into(),
    })?;
    let gateway_hash = gateway_hash(&secret);
    let mut statements = vec![PREAMBLE.to_owned()];
    statements.extend(agent(&native_hash(agent_password.as_bytes())));
    statements.extend(spec.databases.iter().map(|name| create_database(name)));
    statements.extend(spec.removed_accounts.iter().map(|user| drop_account(user)));
    for new in spec.accounts.iter().filter(|account| !account.known) {
        if new.password_only {
            statements.push(password(&new.user, &new.native_sha1_hex, &gateway_hash));
            continue;
        }
        let wanted = Account {
            user: &new.user,
            native_sha1_hex: &new.native_sha1_hex,
            admin: new.admin,
        };
        statements.extend(account(&wanted, &gateway_hash, &spec.databases));
    }
    // After all GRANTs: they write back what the server has in memory.
    statements.push(exchange_gateway_hash(&gateway_hash));
    statements.push(
        "DELETE FROM mysql.db WHERE NOT EXISTS (SELECT 1 FROM mysql.global_priv g WHERE g.Host=mysql.db.Host AND g.User=mysql.db.User)"
            .into(),
    );
    statements.push("FLUSH PRIVILEGES".into());
    for statement in &statements {
        if statement.contains(['\n', '\r', '\0']) {
            return Err(Error::Spec {
                field: "accounts or databases",
                problem: "hold a line break in a name".into(),
            });
        }
    }
    Ok(statements.iter().map(|statement| format!("{statement};\n")).collect())
}

pub(crate) fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.is_empty() || !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("a'b\\"), "'a''b\\'");
        assert_eq!(pattern("a_b%c`d"), "`a\\_b\\%c``d`");
        let wanted = Account {
            user: "x'; DROP",
            native_sha1_hex: "ab",
            admin: true,
        };
        let statements = account(&wanted, "*GW", &["d".into()]);
        assert!(
            statements
                .iter()
                .all(|statement| statement.contains("'x''; DROP'@'%'") || statement.contains("User='x''; DROP'"))
        );
    }

    #[test]
    fn hash_is_mariadbs() {
        assert_eq!(native_hash(b"p"), "*7B9EBEED26AA52ED10C0F549FA863F13C39E0209");
    }

    #[test]
    fn a_gateways_hash_is_known_and_a_tenants_is_not_taken_for_one() {
        assert_eq!(gateway_hash(b"p"), "*7b9EbEeD26aA52eD10c0F549fA863f13C39e0209");
        assert!(is_gateways(&gateway_hash(b"p")));
        for tenants in [
            native_hash(b"p"),
            native_hash(b"p").to_lowercase(),
            format!("*{}", "0".repeat(40)),
            "*aB".into(),
            String::new(),
        ] {
            assert!(!is_gateways(&tenants), "{tenants}");
        }
    }

    #[test]
    fn a_start_makes_everything_be_as_the_spec_says() {
        let spec = crate::options::tests::spec();
        insta::assert_snapshot!(init_file(&spec, "agent password").unwrap());
    }

    #[test]
    fn settings_are_set_by_kind_and_only_those_that_a_running_server_takes() {
        let values = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let live = values(&[
            ("wait_timeout", "60"),
            ("collation_server", "latin1_bin"),
            ("character_set_server", "latin1"),
            ("time_zone", "o'clock"),
        ]);
        assert_eq!(
            set_global(&live).unwrap(),
            [
                "SET GLOBAL character_set_server='latin1'",
                "SET GLOBAL collation_server='latin1_bin'",
                "SET GLOBAL time_zone='o''clock'",
                "SET GLOBAL wait_timeout=60",
            ]
        );
        for refused in ["ft_min_word_len", "socket"] {
            let error = set_global(&values(&[(refused, "1")])).unwrap_err().to_string();
            assert!(error.contains(refused), "{error}");
        }
    }

    #[test]
    fn a_name_with_a_line_break_is_refused() {
        let mut spec = crate::options::tests::spec();
        spec.databases.push("a\nDROP USER x".into());
        let error = init_file(&spec, "agent password").unwrap_err().to_string();
        assert!(error.contains("line break"), "{error}");
    }
}
