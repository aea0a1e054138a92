//! Names that people choose: of projects, users and databases. A value of these types has passed the rules; everything
//! behind REST takes them instead of text.

use std::{borrow::Borrow, fmt, sync::Arc};

use control_api::project_id;

/// Why a name was refused; fit to be shown to who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} {problem}")]
pub(crate) struct NameError {
    what: &'static str,
    name: String,
    problem: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $type(Arc<str>);

        impl $type {
            pub(crate) fn new(name: &str) -> Result<Self, NameError> {
                $check(name)?;
                Ok(Self(name.into()))
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// `[a-z][a-z0-9-]{2,39}`: it is the first part of login names, a directory and a label of metrics.
    ProjectId,
    check_project
);
name!(
    /// A MariaDB account's name; may hold dots, because only the first dot of a login name splits.
    UserName,
    check_user
);
name!(
    /// A MariaDB schema's name.
    DatabaseName,
    check_database
);

fn refuse(what: &'static str, name: &str, problem: &'static str) -> Result<(), NameError> {
    // Long enough to recognise, short enough for a log line.
    Err(NameError {
        what,
        name: name.chars().take(80).collect(),
        problem,
    })
}

fn check_project(name: &str) -> Result<(), NameError> {
    if !project_id::fits(name) {
        return refuse("project id", name, project_id::RULE);
    }
    Ok(())
}

/// Names that the server, Debian or Selkie use themselves; an API user of that name would take over theirs.
const RESERVED_USERS: [&str; 6] = [
    "root",
    "mysql",
    "mariadb.sys",
    "public",
    "debian-sys-maint",
    "event_scheduler",
];
/// MariaDB's limit is 128 since 10.11, but `mysql.user`-like views and old clients end at 80.
const USER_CHARS_MAX: usize = 80;

fn check_user(name: &str) -> Result<(), NameError> {
    let lower = name.to_lowercase();
    if name.is_empty() {
        return refuse("user name", name, "must not be empty");
    }
    if name.chars().count() > USER_CHARS_MAX {
        return refuse("user name", name, "is longer than 80 characters");
    }
    if has_control_or_edge_space(name) {
        return refuse(
            "user name",
            name,
            "must not hold control characters, nor begin or end with a space",
        );
    }
    if RESERVED_USERS.contains(&lower.as_str()) || lower.starts_with("selkie") {
        return refuse("user name", name, "is reserved for the server");
    }
    Ok(())
}

const RESERVED_DATABASES: [&str; 4] = ["mysql", "information_schema", "performance_schema", "sys"];
const DATABASE_CHARS_MAX: usize = 64;

fn check_database(name: &str) -> Result<(), NameError> {
    let lower = name.to_lowercase();
    if name.is_empty() {
        return refuse("database name", name, "must not be empty");
    }
    if name.chars().count() > DATABASE_CHARS_MAX {
        return refuse("database name", name, "is longer than 64 characters");
    }
    if has_control_or_edge_space(name) {
        return refuse(
            "database name",
            name,
            "must not hold control characters, nor begin or end with a space",
        );
    }
    if name.chars().any(|c| c as u32 > 0xffff) {
        return refuse(
            "database name",
            name,
            "must not hold characters above U+FFFF (MariaDB's identifiers cannot)",
        );
    }
    if name.contains(['/', '\\']) {
        return refuse(
            "database name",
            name,
            "must not hold / or \\, which stand in no path of REST",
        );
    }
    // `#mysql50#` makes MariaDB take the rest as a bare directory name.
    if RESERVED_DATABASES.contains(&lower.as_str()) || lower.starts_with("#mysql50#") {
        return refuse("database name", name, "is reserved for the server");
    }
    Ok(())
}

fn has_control_or_edge_space(name: &str) -> bool {
    name.chars().any(char::is_control) || name.trim() != name
}

/// The database-level pattern that matches exactly this name: `%`, `_` and `\` lose their meaning.
pub(crate) fn database_pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_ids_follow_the_rule() {
        for good in ["abc", "a-1", "demo", &"a".repeat(40)] {
            assert!(ProjectId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "Abc",
            "1abc",
            "-abc",
            "a_b",
            "a.b",
            "a b",
            "äbc",
            "a/../b",
            "a\0b",
            &"a".repeat(41),
        ] {
            let error = ProjectId::new(bad).unwrap_err().to_string();
            assert!(error.contains("must be 3 to 40"), "{error}");
        }
    }

    #[test]
    fn user_names_may_hold_dots_but_not_take_the_servers_accounts() {
        for good in ["app", "first.last", "Ünïcode", "a b", "o'brien"] {
            assert!(UserName::new(good).is_ok(), "{good}");
        }
        let long = "u".repeat(81);
        for bad in [
            "",
            "root",
            "ROOT",
            "mysql",
            "mariadb.sys",
            "selkie",
            "Selkie_agent",
            " a",
            "a ",
            "a\n",
            &long,
        ] {
            assert!(UserName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn database_names_may_not_be_the_servers() {
        for good in ["app", "my-db", "a.b", "50%", "Straße"] {
            assert!(DatabaseName::new(good).is_ok(), "{good}");
        }
        let long = "d".repeat(65);
        for bad in [
            "",
            "mysql",
            "MySQL",
            "sys",
            "information_schema",
            "#mysql50#x",
            "a ",
            "a\0",
            "a/b",
            "😀",
            &long,
        ] {
            assert!(DatabaseName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pattern_matches_only_the_name() {
        assert_eq!(database_pattern("my_db"), r"my\_db");
        assert_eq!(database_pattern(r"50%\x"), r"50\%\\x");
        assert_eq!(database_pattern("plain"), "plain");
    }
}
