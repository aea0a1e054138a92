//! Statements that change accounts: which they are, and how this gateway comes to know what they did.
//!
//! In: the text of a statement that a compute is about to run; later, word that it ran. Out: the question to control that
//! makes it look at the compute's accounts now, so that what the statement did holds here before its OK reaches the
//! client, and at the other gateways at the same time. What changes accounts in a way that no text shows (a procedure, an
//! event, a restored dump of system tables) is seen by the agent itself, within a second.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use crate::text::{Words, contains, is_one_of};

/// For the agent's look and for every gateway to have it: milliseconds, and the client waits for its OK meanwhile. When
/// they are over it goes on: the change is made, and the watch brings it.
const CHANGED_PATIENCE: Duration = Duration::from_secs(1);

/// Where to ask: control, or a script in tests.
#[async_trait]
pub(crate) trait AccountSource: Send + Sync {
    /// Resolves when this gateway's routes hold the accounts that the compute has now, or when that cannot be had.
    async fn accounts_changed(&self, project: &str, incarnation: u64);
}

/// The way to ask; one for each gateway.
pub(crate) struct Accounts {
    source: Box<dyn AccountSource>,
}

impl Accounts {
    pub(crate) fn new(source: impl AccountSource + 'static) -> Self {
        Self {
            source: Box::new(source),
        }
    }

    /// A statement that changes accounts has just run at that incarnation: resolves when this gateway and, as far as they
    /// answer in time, the others know what it did; after [`CHANGED_PATIENCE`] at the latest. Cancel-safe.
    pub(crate) async fn changed(&self, project: &str, incarnation: u64) {
        let known = timeout(CHANGED_PATIENCE, self.source.accounts_changed(project, incarnation));
        if known.await.is_err() {
            tracing::info!(project, "control did not say in time what a statement did to accounts");
        }
    }
}

/// What a statement's OK means for accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Change {
    #[default]
    Nothing,
    /// They may be others.
    Accounts,
    /// The session's own password is another; nothing else has changed.
    OwnPassword,
    /// They may be others, and what is counted for their limits is counted anew.
    Counters,
}

/// Of a text that is about to run.
pub(crate) fn change(text: &[u8]) -> Change {
    if !changes_accounts(text) {
        Change::Nothing
    } else if Words(text).next_is_one_of(&[b"flush"]) {
        Change::Counters
    } else if sets_own_password(text) {
        Change::OwnPassword
    } else {
        Change::Accounts
    }
}

/// The session sets its own password: with the statement's OK it is an ordinary one. What sets it otherwise is found by
/// asking what control has pushed since.
fn sets_own_password(text: &[u8]) -> bool {
    let mut words = Words(text);
    if !words.next_is_one_of(&[b"set"]) || !words.next_is_one_of(&[b"password"]) {
        return false;
    }
    match words.next() {
        None => true,
        Some(word) => word.eq_ignore_ascii_case(b"for") && words.next_is_one_of(&[b"current_user"]),
    }
}

/// Might this statement change accounts? Errs towards yes, never towards no: a false yes costs a look of milliseconds. For
/// most statements the first byte decides, and one search for a semicolon.
pub(crate) fn changes_accounts(text: &[u8]) -> bool {
    // Also semicolons inside of strings begin a piece: a false yes at worst.
    let mut searches = SEARCHES_MAX;
    begins_with_change(text)
        || memchr::memchr_iter(b';', text).any(|at| {
            let piece = &text[at + 1..];
            if may_search(piece) {
                if searches == 0 {
                    return true;
                }
                searches -= 1;
            }
            begins_with_change(piece)
        })
}

/// Pieces of a text that are searched to their ends, which is the text's. More are not looked at, and a change is feared:
/// thousands of them in one text would hold up everybody on this core for seconds.
const SEARCHES_MAX: usize = 64;

/// Is more of the piece looked at than its first words?
fn may_search(piece: &[u8]) -> bool {
    match piece.trim_ascii_start() {
        // Comments are stepped over.
        [b'/' | b'#' | b'-' | b'*', ..] => true,
        piece => {
            let mut words = Words(piece);
            let word = words.next();
            let searched = is_one_of(word, &[b"begin", b"flush", b"prepare", b"set"]) || is_one_of(word, &COMPOUND);
            searched || words.0.first() == Some(&b':')
        }
    }
}

fn begins_with_change(piece: &[u8]) -> bool {
    let mut words = Words(piece);
    let Some(first) = words.next() else { return false };
    let is = |keyword: &[u8]| first.eq_ignore_ascii_case(keyword);
    match first[0].to_ascii_lowercase() {
        b'a' if is(b"alter") => words.next_is_one_of(&[b"user", b"role"]),
        b'b' if is(b"begin") => names_accounts(piece),
        b'c' if is(b"create") => {
            let mut next = words.next();
            if next.is_some_and(|word| word.eq_ignore_ascii_case(b"or")) {
                words.next();
                next = words.next();
            }
            is_one_of(next, &[b"user", b"role"])
        }
        b'd' if is(b"drop") => words.next_is_one_of(&[b"user", b"role"]),
        b'e' if is(b"execute") => true,
        b'f' if is(b"flush") => contains(words.0, b"privileges") || contains(words.0, b"user_resources"),
        b'g' if is(b"grant") => true,
        b'p' if is(b"prepare") => names_accounts(words.0),
        b'r' if is(b"rename") => words.next_is_one_of(&[b"user"]),
        b'r' if is(b"revoke") => true,
        b's' if is(b"set") => names_accounts(words.0),
        b'i' | b'w' | b'l' | b'r' | b'f' | b'c' | b't' | b'e' | b'u' if is_one_of(Some(first), &COMPOUND) => {
            names_accounts(piece)
        }
        _ => words.0.first() == Some(&b':') && names_accounts(words.0),
    }
}

/// What compound statements outside of a program begin with, and their parts.
const COMPOUND: [&[u8]; 10] = [
    b"if", b"while", b"loop", b"repeat", b"for", b"case", b"then", b"else", b"elseif", b"until",
];

/// Words without which no statement changes accounts.
fn names_accounts(text: &[u8]) -> bool {
    [&b"grant"[..], b"revoke", b"user", b"role", b"password", b"privileges"]
        .iter()
        .any(|word| contains(text, word))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn a_text_of_very_many_pieces_is_feared_where_each_would_be_searched() {
        for piece in [";set @a = 1", ";/* */ do 1", "; begin", ";\nx: loop", ";#"] {
            let pieces = |count| changes_accounts(format!("select 1{}", piece.repeat(count)).as_bytes());
            assert!(!pieces(SEARCHES_MAX), "{piece}");
            assert!(pieces(SEARCHES_MAX + 1), "{piece}");
        }
        assert!(!changes_accounts("&nbsp;';".repeat(10_000).as_bytes()));
    }

    #[test]
    fn every_form_of_a_change_is_known() {
        for text in [
            "CREATE USER a IDENTIFIED BY 'x'",
            "create user if not exists a",
            "CREATE OR REPLACE USER a",
            "CREATE ROLE r",
            "CREATE OR REPLACE ROLE r",
            "ALTER USER a ACCOUNT LOCK",
            "ALTER USER IF EXISTS a REQUIRE SSL",
            "DROP USER a",
            "DROP ROLE IF EXISTS r",
            "RENAME USER a TO b",
            "SET PASSWORD = PASSWORD('x')",
            "SET PASSWORD FOR a = PASSWORD('x')",
            "set @x = 1, password = 'x'",
            "SET DEFAULT ROLE r FOR a",
            "SET STATEMENT max_statement_time=1 FOR GRANT SELECT ON *.* TO a",
            "GRANT SELECT ON a.* TO b",
            "grant r to a",
            "REVOKE ALL PRIVILEGES, GRANT OPTION FROM a",
            "FLUSH PRIVILEGES",
            "FLUSH LOCAL HOSTS, PRIVILEGES",
            "  \t\r\n\x0b\x0cgrant select on a.* to b",
            "/* hello */ GRANT r TO a",
            "/**/-- x\n# y\nGRANT r TO a",
            "--\nGRANT r TO a",
            "/*! GRANT r TO a */",
            "/*!50003 GRANT r TO a */",
            "/*M!100100 GRANT r TO a */",
            "/*!50003 CREATE*/ /*!50020 USER*/ a",
            "CREATE/**/OR/**/REPLACE/**/USER a",
            "DROP-- x\nUSER a",
            "SELECT 1; GRANT r TO a",
            "SELECT ';';\n/* x */ drop user a",
            "INSERT INTO t VALUES (1);;CREATE USER a",
            "PREPARE s FROM 'GRANT r TO a'",
            "PREPARE s FROM \"drop user a\"",
            "EXECUTE IMMEDIATE 'CREATE USER a'",
            "EXECUTE IMMEDIATE @text",
            "EXECUTE s",
            "BEGIN NOT ATOMIC GRANT r TO a; END",
            "IF @x THEN GRANT r TO a; END IF",
            "IF @x THEN SELECT 1; ELSE DROP USER a; END IF",
            "outer_loop: LOOP GRANT r TO a; LEAVE outer_loop; END LOOP",
            "WHILE @x DO SET PASSWORD FOR a = ''; END WHILE",
        ] {
            assert!(changes_accounts(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_applications_send_all_day_is_none() {
        for text in [
            "",
            ";",
            "SELECT 1",
            "select user, password from users where role = 'grant'",
            "INSERT INTO user VALUES ('create user')",
            "UPDATE users SET password = 'x' WHERE id = 1",
            "DELETE FROM roles",
            "REPLACE INTO user VALUES (1)",
            "CREATE TABLE user (id INT)",
            "CREATE OR REPLACE TABLE user (id INT)",
            "CREATE TEMPORARY TABLE user (id INT)",
            "CREATE DATABASE role",
            "DROP TABLE user",
            "ALTER TABLE user ADD role INT",
            "RENAME TABLE user TO role",
            "SET NAMES utf8mb4",
            "SET autocommit=0",
            "SET SESSION sql_mode='ANSI'",
            "BEGIN",
            "COMMIT",
            "START TRANSACTION",
            "FLUSH TABLES",
            "PREPARE s FROM 'SELECT 1'",
            "SHOW GRANTS",
            "grants",
            "/* GRANT r TO a */ SELECT 1",
            "-- GRANT\nSELECT 1",
            "/* never ends GRANT",
            "# GRANT",
            "\u{e9}GRANT",
            "(SELECT 1)",
            "INSERT INTO t VALUES ('a;b')",
        ] {
            assert!(!changes_accounts(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn only_its_own_password_frees_a_session() {
        for (text, own) in [
            ("SET PASSWORD = PASSWORD('x')", true),
            ("SET PASSWORD='*AB'", true),
            ("set password for current_user = ''", true),
            ("SET PASSWORD FOR CURRENT_USER() = ''", true),
            ("SET PASSWORD FOR other = ''", false),
            ("SET PASSWORD FOR 'other'@'%' = ''", false),
            ("SET @password = 1", false),
            ("SELECT 1", false),
        ] {
            assert_eq!(sets_own_password(text.as_bytes()), own, "{text}");
        }
    }

    #[test]
    fn counters_begin_anew_with_the_statements_that_say_so() {
        for text in ["FLUSH USER_RESOURCES", "/* x */ flush local privileges"] {
            assert_eq!(change(text.as_bytes()), Change::Counters, "{text}");
        }
        assert_eq!(change(b"FLUSH TABLES"), Change::Nothing);
        assert_eq!(change(b"SET PASSWORD = ''"), Change::OwnPassword);
        assert_eq!(
            change(b"GRANT USAGE ON *.* TO a WITH MAX_QUERIES_PER_HOUR 1"),
            Change::Accounts
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>) {
            changes_accounts(&text);
        }
    }

    struct Silent;

    #[async_trait]
    impl AccountSource for Silent {
        async fn accounts_changed(&self, _: &str, _: u64) {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_plane_that_does_not_answer_holds_a_client_for_a_second() {
        let began = tokio::time::Instant::now();
        Accounts::new(Silent).changed("demo", 1).await;
        assert_eq!(began.elapsed(), CHANGED_PATIENCE);
    }
}
