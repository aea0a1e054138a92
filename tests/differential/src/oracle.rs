//! When a session may legitimately lose its connection: what it may hold that cannot follow it, and what happened to its
//! compute. Cautious in one direction only: a session that is said to hold nothing holds nothing.

use crate::step::Act;

/// What a session may hold since its login or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holds {
    /// What every response told the gateway: it survives whatever happens to the compute, so do prepared statements.
    Told,
    /// What must be asked for before the compute goes: it survives parks, and a suspend unless the inventory names it.
    Hidden,
    /// What cannot leave the compute connection.
    Pinned,
}

/// What happened between two commands of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exposure {
    Parked,
    Suspended,
    Crashed,
}

/// What the act may leave behind; none: it leaves the session as a login does.
pub(crate) fn left_by(act: &Act) -> Option<Holds> {
    match act {
        Act::ResetConnection | Act::ChangeUser { .. } => None,
        Act::Query(sql) => Some(left_by_sql(sql)),
        Act::Ping
        | Act::InitDb(_)
        | Act::FieldList { .. }
        | Act::SetOption { .. }
        | Act::Variables
        | Act::UserVariables => Some(Holds::Told),
        // The statement itself is the gateway's to keep.
        Act::Prepare { .. } => Some(Holds::Told),
        Act::CloseStatement { .. } | Act::ResetStatement { .. } => Some(Holds::Told),
        Act::Execute { cursor, .. } => Some(if *cursor { Holds::Pinned } else { Holds::Hidden }),
        Act::LongData { .. } | Act::Fetch { .. } => Some(Holds::Pinned),
        Act::Load { .. } | Act::Sabotage(_) => Some(Holds::Hidden),
        Act::Large { .. } => Some(Holds::Told),
        Act::Disturb(_) => Some(Holds::Told),
    }
}

fn left_by_sql(sql: &str) -> Holds {
    const PINS: &[&str] = &[
        "temporary",
        "get_lock",
        "handler ",
        "lock tables",
        "begin",
        "start transaction",
        "xa ",
        "autocommit = 0",
        "prepare",
        "execute",
        "savepoint",
        "rand_seed",
        "set role",
        "call ",
        "set transaction",
        "read only",
        "and chain",
        "flush",
        "insert_id",
        "nextval",
        "next value",
        "setval",
        "for update",
        "handles",
        "session_track",
        "read write",
    ];
    let lower = sql.to_lowercase();
    if PINS.iter().any(|mark| lower.contains(mark)) {
        return Holds::Pinned;
    }
    let plain = [
        "select 1",
        "select database()",
        "set time_zone",
        "set names",
        "set sql_mode",
        "do 1",
    ];
    if plain.iter().any(|known| lower.starts_with(known)) && !lower.contains('@') && !lower.contains(';') {
        return Holds::Told;
    }
    Holds::Hidden
}

/// Whether the session may act in another role after it.
pub(crate) fn touches_role(act: &Act) -> bool {
    matches!(act, Act::Query(sql) if sql.starts_with("SET ROLE"))
}

/// Whether a session with this may be ended.
pub(crate) fn may_end(exposure: Option<Exposure>, holds: Holds) -> bool {
    match exposure {
        None | Some(Exposure::Parked) => false,
        // A session that the inventory finds tied is ended by a suspend on request, and told what it held.
        Some(Exposure::Suspended | Exposure::Crashed) => holds != Holds::Told,
    }
}

/// Whether the act asks for the statement before it in a form that the gateway may refuse when the session has had another
/// connection since (docs/wire.md); the whole texts that it answers are no such form.
pub(crate) fn asks_in_vain(act: &Act) -> bool {
    match act {
        Act::Query(sql) => asks(sql) && !is_answered(sql),
        _ => false,
    }
}

/// Whether the act asks for the statement before it at all: after a crash nobody can tell, and the client is told that.
pub(crate) fn asks_before(act: &Act) -> bool {
    matches!(act, Act::Query(sql) if asks(sql))
}

/// Whether nothing that the act leaves depends on what its session did before: a single statement that uses a table clears
/// the warnings, and that finds rows sets FOUND_ROWS(). Others leave both as they were, on a connection that knows them.
pub(crate) fn begins_anew(act: &Act) -> bool {
    match act {
        Act::Query(sql) => {
            !sql.contains(';')
                && ["FROM {h}.", "INTO {h}.", "UPDATE {h}."]
                    .iter()
                    .any(|uses| sql.contains(uses))
        }
        _ => false,
    }
}

/// Whether the statement before it is of no more interest after the act. Errs towards no: what the gateway itself answers
/// changes nothing of what a compute connection knows.
pub(crate) fn takes_its_place(act: &Act) -> bool {
    match act {
        Act::Query(sql) => !asks(sql) && !sql.starts_with("SET ") && !sql.starts_with("SELECT @@"),
        Act::Ping | Act::SetOption { .. } | Act::CloseStatement { .. } | Act::ResetStatement { .. } => false,
        _ => true,
    }
}

fn asks(sql: &str) -> bool {
    const FORMS: &[&str] = &[
        "SHOW WARNINGS",
        "SHOW ERRORS",
        "SHOW COUNT(*)",
        "GET DIAGNOSTICS",
        "ROW_COUNT()",
        "FOUND_ROWS()",
        "warning_count",
        "error_count",
    ];
    let first = sql.split(';').next().unwrap_or_default();
    FORMS.iter().any(|form| first.contains(form))
}

fn is_answered(sql: &str) -> bool {
    let functions = ["ROW_COUNT()", "FOUND_ROWS()", "LAST_INSERT_ID()"];
    match sql.strip_prefix("SELECT ") {
        Some(list) => list.split(", ").all(|item| {
            let asked = item.split(" AS ").next().unwrap_or_default();
            functions.contains(&asked) || asked.starts_with("@@")
        }),
        None => sql.starts_with("SHOW "),
    }
}

#[test]
fn only_what_happened_excuses_an_end() {
    assert!(!may_end(None, Holds::Pinned));
    assert!(!may_end(Some(Exposure::Parked), Holds::Pinned));
    assert!(may_end(Some(Exposure::Suspended), Holds::Pinned));
    assert!(!may_end(Some(Exposure::Suspended), Holds::Told));
    assert!(!may_end(Some(Exposure::Crashed), Holds::Told));
}
