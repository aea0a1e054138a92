//! Who may log in to a project, and to which of its databases: what control has pushed of its accounts.

use std::time::SystemTime;

use control_api::control as proto;

use crate::quota::Limits;

/// Passwords of one account that a login is checked against, and as many keys; the first of them. A tenant can write as many into
/// its own tables as it likes, and whoever names the account makes the gateway try them, on a thread that others use, too:
/// these take a millisecond. Nobody has more than a few.
const PROOFS_MAX: usize = 16;
/// A name of 64 characters, the longest that a database can have, takes no more.
const DATABASE_BYTES_MAX: usize = 256;
/// Of an account's patterns that are no plain names: each is compared with the name that a client asks for, and together they
/// take a millisecond at worst.
const PATTERNS_BYTES_MAX: usize = 4096;
/// Any database.
const ANY: &str = "%";

/// Who may log in to a project, and to which of its databases.
#[derive(Default)]
pub(crate) struct Access {
    // Sorted, and no larger than they must be: there may be 100,000 projects with one user and one database each, and a
    // table of hashes has room for three more of each.
    users: Box<[(Box<str>, User)]>,
    databases: Box<[Box<str>]>,
    /// As many users were there by now, those that are gone included.
    lives: u64,
}

/// A user's verifiers and rights; never a password.
pub(crate) struct User {
    /// SHA1(SHA1(password)).
    pub(crate) native: Option<[u8; 20]>,
    /// SHA256(SHA256(password)).
    pub(crate) caching_sha2: Option<[u8; 32]>,
    /// Further passwords of the account, as `native`.
    pub(crate) more_native: Vec<[u8; 20]>,
    /// Public keys; any of them proves it, too.
    pub(crate) ed25519: Box<[[u8; 32]]>,
    granted: Granted,
    pub(crate) locked: bool,
    pub(crate) require: Require,
    limits: Option<Box<Limits>>,
    /// Seconds since 1970, from when on the password must be replaced. 0: never.
    password_expires_s: u64,
    /// Milliseconds since 1970; 0: it was made in SQL.
    created_ms: i64,
    /// Tells it from others that had its name in this project before.
    life: u64,
}

/// The databases of an account.
#[derive(Default)]
struct Granted {
    /// Those named as they are, sorted.
    names: Box<[Box<str>]>,
    /// MariaDB's patterns. Of too many only [`ANY`] is left: the session is let in, and the server, which decides in any case,
    /// refuses it what is not its own.
    patterns: Box<[Box<str>]>,
}

/// What an account requires of a connection, besides the password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Require {
    #[default]
    Nothing,
    Tls,
    /// A client certificate that somebody vouches for whom the gateway trusts.
    Certificate,
    /// What is said of these; at least TLS.
    Specified(Box<Specified>),
}

/// In OpenSSL's words, as MariaDB compares them; None: whatever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Specified {
    pub(crate) cipher: Option<Box<str>>,
    pub(crate) issuer: Option<Box<str>>,
    pub(crate) subject: Option<Box<str>>,
}

/// May this user use this database?
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum DatabaseAccess {
    Granted,
    /// MariaDB's 1044.
    Denied,
    /// MariaDB's 1049: the right is there, the database is not.
    Unknown,
}

impl From<&proto::Project> for Access {
    fn from(said: &proto::Project) -> Self {
        let mut users: Vec<(Box<str>, User)> = Vec::with_capacity(said.users.len());
        users.extend(
            said.users
                .iter()
                .map(|user| (user.name.as_str().into(), User::from(user))),
        );
        users.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut databases: Vec<Box<str>> = said.databases.iter().map(|name| name.as_str().into()).collect();
        databases.sort_unstable();
        Self {
            users: users.into(),
            databases: databases.into(),
            lives: 0,
        }
    }
}

impl Access {
    /// What control says now, where it has said this before. A user who was gone in between, or was made at another time, is
    /// another one.
    pub(crate) fn following(before: &Self, said: &proto::Project) -> Self {
        let mut now = Self::from(said);
        let mut lives = before.lives;
        for (name, user) in &mut now.users {
            // One that was made in SQL is given its time when it is first changed by API.
            let is_same = |known: &&User| known.created_ms == 0 || known.created_ms == user.created_ms;
            user.life = before.user(name).filter(is_same).map_or_else(
                || {
                    lives += 1;
                    lives
                },
                |known| known.life,
            );
        }
        now.lives = lives;
        now
    }

    /// Whether a user is still the one that it was in that life.
    pub(crate) fn lives(&self, name: &str, life: u64) -> bool {
        self.user(name).is_some_and(|user| user.life == life)
    }

    /// Whether all who were there before are there still.
    pub(crate) fn has_all_of(&self, before: &Self) -> bool {
        before.users.iter().all(|(name, user)| self.lives(name, user.life))
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        let at = self.users.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.users[at].1)
    }

    /// None at all for a name that is not there.
    pub(crate) fn limits(&self, name: &str) -> Limits {
        let limits = self.user(name).and_then(|user| user.limits.as_deref());
        limits.copied().unwrap_or_default()
    }

    /// By this machine's clock.
    pub(crate) fn password_has_expired(&self, name: &str) -> bool {
        let Some(expires_s) = self.user(name).map(|user| user.password_expires_s) else {
            return false;
        };
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        expires_s != 0 && since_1970.is_ok_and(|now| now.as_secs() >= expires_s)
    }

    /// As MariaDB answers for a user who has rights on databases only.
    pub(crate) fn database(&self, user: &User, database: &str) -> DatabaseAccess {
        if database.eq_ignore_ascii_case("information_schema") {
            return DatabaseAccess::Granted;
        }
        if database.len() > DATABASE_BYTES_MAX {
            return DatabaseAccess::Unknown;
        }
        let granted = user.granted.has(database);
        let exists = self.databases.binary_search_by(|known| (**known).cmp(database)).is_ok();
        match (granted, exists) {
            (true, true) => DatabaseAccess::Granted,
            (true, false) => DatabaseAccess::Unknown,
            (false, _) => DatabaseAccess::Denied,
        }
    }
}

impl Granted {
    fn of(said: &[String]) -> Self {
        let (mut names, mut patterns): (Vec<Box<str>>, Vec<Box<str>>) = Default::default();
        for pattern in said {
            match plain(pattern) {
                Some(name) => names.push(name.into()),
                None => patterns.push(pattern.as_str().into()),
            }
        }
        if patterns.iter().map(|pattern| pattern.len()).sum::<usize>() > PATTERNS_BYTES_MAX {
            patterns = vec![ANY.into()];
        }
        names.sort_unstable();
        Self {
            names: names.into(),
            patterns: patterns.into(),
        }
    }

    fn has(&self, database: &str) -> bool {
        let named = self.names.binary_search_by(|name| (**name).cmp(database)).is_ok();
        let mut patterns = self.patterns.iter();
        named || patterns.any(|pattern| matches_pattern(pattern.as_bytes(), database.as_bytes()))
    }
}

/// The only name that the pattern matches; None: there are others.
fn plain(pattern: &str) -> Option<String> {
    let mut name = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(char) = rest.next() {
        match char {
            '%' | '_' => return None,
            // At the end it means itself.
            '\\' => name.push(rest.next().unwrap_or(char)),
            _ => name.push(char),
        }
    }
    Some(name)
}

/// MariaDB's pattern of a database-level grant: `%` any bytes, `_` one byte, `\` takes the next literally. Takes at most the
/// product of both lengths: the pattern is a tenant's, and so is the name.
fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Behind the last `%`, and what of the name it has not taken: what stands before it matches already, and another
    // choice there could win nothing.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern, name) {
            ([b'%', rest @ ..], _) => {
                retry = Some((rest, name));
                pattern = rest;
                continue;
            }
            ([], []) => return true,
            ([b'_', rest @ ..], [_, after @ ..]) => Some((rest, after)),
            ([b'\\', literal, rest @ ..], [byte, after @ ..]) if literal == byte => Some((rest, after)),
            // A backslash at the end means itself.
            ([b'\\', _, ..], _) => None,
            ([literal, rest @ ..], [byte, after @ ..]) if literal == byte => Some((rest, after)),
            _ => None,
        };
        (pattern, name) = match (step, retry) {
            (Some(step), _) => step,
            (None, Some((rest, [_, after @ ..]))) => {
                retry = Some((rest, after));
                (rest, after)
            }
            (None, _) => return false,
        };
    }
}

impl User {
    /// Differs from that of another who had its name in this project before.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }
}

impl From<&proto::User> for User {
    fn from(said: &proto::User) -> Self {
        let require = proto::Require::try_from(said.require);
        if require.is_err() {
            // It was meant to keep somebody out.
            tracing::error!(
                user = said.name,
                "what the account requires only a later version knows: nobody is let in"
            );
        }
        Self {
            // A verifier of another length verifies nothing: the account then has none.
            native: said.native_sha1.as_slice().try_into().ok(),
            caching_sha2: said.caching_sha2.as_slice().try_into().ok(),
            more_native: said
                .more_native_sha1
                .iter()
                .take(PROOFS_MAX)
                .filter_map(|verifier| verifier.as_slice().try_into().ok())
                .collect(),
            ed25519: said
                .ed25519_keys
                .iter()
                .take(PROOFS_MAX)
                .filter_map(|key| key.as_slice().try_into().ok())
                .collect(),
            locked: said.locked || require.is_err(),
            require: match require.unwrap_or_default() {
                proto::Require::None => Require::Nothing,
                proto::Require::Ssl => Require::Tls,
                proto::Require::Certificate => Require::Certificate,
                proto::Require::Specified => {
                    let given = |text: &str| (!text.is_empty()).then(|| text.into());
                    Require::Specified(Box::new(Specified {
                        cipher: given(&said.require_cipher),
                        issuer: given(&said.require_issuer),
                        subject: given(&said.require_subject),
                    }))
                }
            },
            limits: said.limits.as_ref().map(|limits| {
                Box::new(Limits {
                    queries_per_hour: limits.queries_per_hour,
                    updates_per_hour: limits.updates_per_hour,
                    connections_per_hour: limits.connections_per_hour,
                    user_connections: limits.user_connections,
                })
            }),
            password_expires_s: if said.password_expired {
                1
            } else {
                said.password_expires_s
            },
            created_ms: said.created_ms,
            life: 0,
            granted: Granted::of(&said.granted_databases),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn database_rights_answer_as_mariadb_does() {
        let access = Access {
            users: Box::default(),
            databases: ["demo".into(), "other".into()].into(),
            lives: 0,
        };
        let user = User {
            native: None,
            caching_sha2: None,
            more_native: Vec::new(),
            ed25519: Box::default(),
            locked: false,
            require: Require::Nothing,
            limits: None,
            password_expires_s: 0,
            created_ms: 0,
            life: 0,
            granted: Granted::of(&["demo".into(), r"my\_db".into()]),
        };
        assert_eq!(access.database(&user, "demo"), DatabaseAccess::Granted);
        assert_eq!(access.database(&user, "other"), DatabaseAccess::Denied);
        assert_eq!(access.database(&user, "nosuch"), DatabaseAccess::Denied);
        assert_eq!(access.database(&user, "my_db"), DatabaseAccess::Unknown);
        assert_eq!(access.database(&user, "myxdb"), DatabaseAccess::Denied);
        assert_eq!(access.database(&user, "INFORMATION_SCHEMA"), DatabaseAccess::Granted);
    }

    #[test]
    fn a_user_is_another_after_it_was_gone_or_when_it_was_made_at_another_time() {
        let said = |users: &[(&str, i64)]| proto::Project {
            users: users
                .iter()
                .map(|&(name, created_ms)| proto::User {
                    name: name.into(),
                    created_ms,
                    ..proto::User::default()
                })
                .collect(),
            ..proto::Project::default()
        };
        let mut access = Access::default();
        let mut then = |users: &[(&str, i64)]| {
            access = Access::following(&access, &said(users));
            let life = |name: &str| access.user(name).map(|user| user.life);
            (life("a"), life("b"))
        };
        let first = then(&[("a", 5), ("b", 0)]);
        assert!(first.0.is_some() && first.1.is_some() && first.0 != first.1);
        assert_eq!(then(&[("b", 0), ("a", 5)]), first);
        // Given a password by API.
        assert_eq!(then(&[("b", 7), ("a", 5)]), first);
        let made_again = then(&[("b", 7), ("a", 6)]);
        assert!(made_again.0 != first.0 && made_again.1 == first.1);
        assert_eq!(then(&[("b", 7)]), (None, first.1));
        let back = then(&[("b", 7), ("a", 6)]);
        assert!(back.0 != made_again.0 && back.0 != first.0 && back.1 == first.1);
        assert_ne!(then(&[("b", 0), ("a", 6)]).1, first.1, "dropped, and made in SQL");
    }

    /// As it is defined; takes as long as there are ways.
    fn matches_somehow(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'%', rest @ ..] => (0..=name.len()).any(|skip| matches_somehow(rest, &name[skip..])),
            [b'_', rest @ ..] => !name.is_empty() && matches_somehow(rest, &name[1..]),
            [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
                name.first() == Some(literal) && matches_somehow(rest, &name[1..])
            }
        }
    }

    /// All that a tenant may be told with is one account's, and its users log in again and again.
    #[test]
    fn however_much_an_account_has_a_login_looks_at_a_few_keys_passwords_and_patterns() {
        let key = |n: u32| [&[0; 28][..], &n.to_be_bytes()].concat();
        let hash = |n: u32| [&[0; 16][..], &n.to_be_bytes()].concat();
        let said = |databases: Vec<String>| proto::User {
            ed25519_keys: (0..40_000).map(key).collect(),
            more_native_sha1: (0..40_000).map(hash).collect(),
            granted_databases: databases,
            ..proto::User::default()
        };
        let names = (0..20_000).map(|n| format!(r"shop\_{n}"));
        let many_names = User::from(&said(names.chain(["shop%x".into()]).collect()));
        let first = many_names.ed25519.first().map(|key| key.to_vec());
        assert_eq!((many_names.ed25519.len(), first), (PROOFS_MAX, Some(key(0))));
        assert_eq!(many_names.more_native.len(), PROOFS_MAX);
        assert!(many_names.granted.has("shop_19999") && many_names.granted.has("shop 1x"));
        assert!(!many_names.granted.has("shop_20000") && !many_names.granted.has(r"shop\_1"));
        assert_eq!(
            many_names.granted.patterns.len(),
            1,
            "names are found without looking at each"
        );

        let many_patterns = User::from(&said((0..20_000).map(|n| format!("{}{n}", "%a".repeat(28))).collect()));
        let bytes: usize = many_patterns.granted.patterns.iter().map(|pattern| pattern.len()).sum();
        assert!(bytes <= PATTERNS_BYTES_MAX, "{bytes}");
        assert!(
            many_patterns.granted.has("other"),
            "which of them are its own the server says"
        );
        let access = Access {
            databases: ["other".into()].into(),
            ..Access::default()
        };
        assert_eq!(access.database(&many_patterns, "other"), DatabaseAccess::Granted);
        // Compared with a pattern, it would be one that is denied.
        let too_long = "a".repeat(DATABASE_BYTES_MAX + 1);
        assert_eq!(access.database(&many_names, &too_long), DatabaseAccess::Unknown);
    }

    proptest! {
        #[test]
        fn what_is_plain_matches_one_name_and_no_other(pattern in r"[ab%_\\]{0,8}", name in r"[ab%_\\]{0,8}") {
            let granted = Granted::of(std::slice::from_ref(&pattern));
            prop_assert_eq!(granted.has(&name), matches_somehow(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn a_pattern_matches_what_it_says(pattern in r"[ab%_\\]{0,8}", name in r"[ab%_\\]{0,8}") {
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches_pattern(pattern, name), matches_somehow(pattern, name));
        }
    }

    /// A tenant grants what it likes, and its users name databases of 128 KiB: other tenants share the thread.
    #[test]
    fn no_pattern_takes_long_over_a_long_name() {
        let pattern = format!("{}b", "%a".repeat(30));
        assert!(!matches_pattern(pattern.as_bytes(), &[b'a'; 128 * 1024]));
    }
}
