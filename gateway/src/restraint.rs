//! What stands between a command and its run, for the few sessions that are restrained: those of an account with limits
//! ([`crate::quota`]), and those whose password had expired when they logged in. The latter may do what MariaDB lets them
//! do: SET, so that they set another password.
//!
//! In: a command, before anything of it is sent on. Out: nothing, or the refusal that answers it; no refused command wakes a
//! compute, keeps it awake, or reaches it.

use mysql_wire::command::Command;
use mysql_wire::response::Expect;
use mysql_wire::status::StatusFlags;
use tokio::time::Instant;

use crate::error::Told;
use crate::quota::Statements;
use crate::route::Project;
use crate::session::Session;
use crate::text::{Words, first_statement};

/// So much of a text is waited for before its command is judged, command byte included: whoever is restrained sends it
/// whole, or as much of it. A SET PASSWORD is shorter; of longer texts the beginning tells the kind.
pub(crate) const JUDGED_BYTES_MAX: usize = 512;

/// ER_MUST_CHANGE_PASSWORD.
fn must_change() -> Told {
    Told::new(1820, "HY000", "You must SET PASSWORD before executing this statement")
}

/// None: it may go on. Some: the frame that answers it, empty where the command has no answer. `text` is what follows the
/// command byte, as far as it is here; `is_whole` says whether that is all of it.
pub(crate) fn refusal(
    session: &mut Session,
    project: &Project,
    command: Command,
    text: &[u8],
    is_whole: bool,
) -> Option<Vec<u8>> {
    let escapes = !session.status().contains(StatusFlags::NO_BACKSLASH_ESCAPES);
    let multi = session.multi_statements();
    if let (Command::Query, Some(quota)) = (command, &mut session.quota)
        && !quota.counted_ahead
    {
        if let Err(exceeded) = quota.spend(Statements::of(text, multi, escapes), Instant::now()) {
            return Some(exceeded.told().frame(1));
        }
        quota.counted_ahead = true;
    }
    if !session.must_change_password || is_allowed(command, text, is_whole, escapes) {
        return None;
    }
    // It has set another in a way that its text did not show.
    if session.may_have_changed_password {
        session.may_have_changed_password = false;
        session.must_change_password = project.access().password_has_expired(&session.identity.user);
        if !session.must_change_password {
            return None;
        }
    }
    Some(match Expect::of(command) {
        Some(_) => must_change().frame(1),
        None => Vec::new(),
    })
}

/// As MariaDB 10.11: nothing but COM_PING, COM_QUIT and SET. Commands for prepared statements pass, because none but a SET
/// could be prepared.
fn is_allowed(command: Command, text: &[u8], is_whole: bool, escapes: bool) -> bool {
    match command {
        Command::Query | Command::StmtPrepare => is_whole && is_set(text, escapes),
        Command::Ping
        | Command::Quit
        | Command::StmtExecute
        | Command::StmtBulkExecute
        | Command::StmtSendLongData
        | Command::StmtReset
        | Command::StmtFetch
        | Command::StmtClose => true,
        _ => false,
    }
}

/// One SET statement, nothing behind it. A comment that is executed may hide anything, so it is none.
fn is_set(text: &[u8], escapes: bool) -> bool {
    let (statement, mut rest) = first_statement(text, escapes);
    while let (more, after) = first_statement(rest, escapes)
        && !rest.is_empty()
    {
        if more.iter().any(|byte| !byte.is_ascii_whitespace()) {
            return false;
        }
        rest = after;
    }
    let mut words = Words(statement);
    let hides = memchr::memmem::find(text, b"/*").is_some();
    !hides && words.next_is_one_of(&[b"set"]) && !words.next_is_one_of(&[b"statement"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_password_allows_to_set_and_nothing_else() {
        let allows = |text: &str| is_allowed(Command::Query, text.as_bytes(), true, true);
        for text in [
            "SET PASSWORD = PASSWORD('a;b')",
            "set password for current_user() = password('x')",
            " SET NAMES utf8mb4 ;\n",
            "SET @a = (SELECT 1)",
            "SET ROLE NONE",
            "-- x\nSET @a=1;;",
        ] {
            assert!(allows(text), "{text}");
        }
        for text in [
            "",
            "SELECT 1",
            "SET @a=1; SELECT 1",
            "SET @a='\\'; SELECT 1; -- ';SELECT 2",
            "SET STATEMENT max_statement_time=1 FOR SELECT 1",
            "/*! SELECT */ 1",
            "SET @a=1 /*! ; SELECT 1 */",
            "ALTER USER CURRENT_USER IDENTIFIED BY 'x'",
            "PREPARE s FROM 'SELECT 1'",
            "BEGIN",
        ] {
            assert!(!allows(text), "{text}");
        }
        assert!(!is_allowed(Command::Query, b"SET @a=1", false, true), "more follows");
        for command in Command::ALL {
            let allowed = is_allowed(*command, b"", true, true);
            let about_statements = command.name().starts_with("COM_STMT_") && *command != Command::StmtPrepare;
            let expected = about_statements || matches!(command, Command::Ping | Command::Quit);
            assert_eq!(allowed, expected, "{}", command.name());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>, escapes: bool) {
            is_set(&text, escapes);
        }
    }
}
