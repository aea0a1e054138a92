//! The life of a session between its compute connections, as a table: where it stands and what happens go in, where it
//! stands then and what is to be done come out.
//!
//! ```text
//!           attached          answered          idle for long, or its place is wanted
//! Detached ---------> Busy <-----------> Idle ---------------------------------------> Asking
//!     ^                 ^     command     |                                          |       |
//!     |                 |                 | (known to be tied)                   free|       |tied
//!     |                 +--- Pinned <-----+-------------------------------------------|-------+
//!     +------------------------------------------------------------------------------+
//! ```

use std::fmt;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has no compute connection.
    Detached,
    /// A command is under way.
    Busy,
    /// Every command is answered.
    Idle,
    /// Its compute is being asked what ties the session to this connection.
    Asking,
    /// Idle, and tied to this connection.
    Pinned,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It has been given a compute connection.
    Attached,
    /// The client sends a command.
    Command,
    /// The last command is answered.
    Answered,
    /// Nothing has happened for as long as a session may keep a connection for nothing.
    IdleLong,
    /// Somebody else wants its connection, or its compute is to be suspended.
    Wanted,
    /// Nothing ties it to the connection.
    Free,
    /// Something does.
    Tied,
    /// The connection is gone.
    Lost,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    /// Ask the compute what ties the session.
    Ask,
    /// Give the connection up; the session goes on without.
    Park,
    /// Say that the connection cannot be given up.
    Refuse,
    /// Answer what is unanswered with an error; the session goes on with what is known of it.
    Recover,
}

/// None: it means nothing here.
pub(crate) fn step(state: State, event: Event) -> Option<(State, Effect)> {
    use Effect::{Ask, Nothing, Park, Recover, Refuse};
    use Event as E;
    use State as S;
    Some(match (state, event) {
        (S::Detached, E::Attached) => (S::Busy, Nothing),
        (S::Busy, E::Answered) => (S::Idle, Nothing),
        // Whoever wants the connection asks again when the command is answered.
        (S::Busy, E::Command | E::IdleLong | E::Wanted) => (S::Busy, Nothing),
        (S::Idle | S::Pinned, E::Command) => (S::Busy, Nothing),
        (S::Idle, E::Answered) => (S::Idle, Nothing),
        (S::Idle, E::IdleLong | E::Wanted) => (S::Asking, Ask),
        (S::Idle, E::Tied) => (S::Pinned, Refuse),
        // What the client sends meanwhile waits.
        (S::Asking, E::Command | E::Answered | E::IdleLong | E::Wanted) => (S::Asking, Nothing),
        (S::Asking, E::Free) => (S::Detached, Park),
        (S::Asking, E::Tied) => (S::Pinned, Refuse),
        (S::Pinned, E::Answered | E::IdleLong) => (S::Pinned, Nothing),
        (S::Pinned, E::Wanted) => (S::Pinned, Refuse),
        (S::Busy | S::Idle | S::Asking | S::Pinned, E::Lost) => (S::Detached, Recover),
        _ => return None,
    })
}

/// What ties a session to its compute connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Pin {
    Transaction,
    /// With autocommit off a savepoint may stand before any transaction shows.
    Savepoint,
    Cursor,
    LongData,
    /// One that cannot be prepared again.
    Statement,
    TemporaryTable,
    TextPrepare,
    Handler,
    Lock,
    UserVariables,
    Variable,
    /// The client set up the session tracker itself.
    Tracker,
    /// All sessions of its project together keep as much as they may.
    Room,
    /// The compute did not say.
    Unknown,
}

impl Pin {
    pub(crate) const ALL: [Self; 14] = [
        Self::Transaction,
        Self::Savepoint,
        Self::Cursor,
        Self::LongData,
        Self::Statement,
        Self::TemporaryTable,
        Self::TextPrepare,
        Self::Handler,
        Self::Lock,
        Self::UserVariables,
        Self::Variable,
        Self::Tracker,
        Self::Room,
        Self::Unknown,
    ];

    /// For metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Savepoint => "savepoint",
            Self::Cursor => "cursor",
            Self::LongData => "long_data",
            Self::Statement => "statement",
            Self::TemporaryTable => "temporary_table",
            Self::TextPrepare => "text_prepare",
            Self::Handler => "handler",
            Self::Lock => "lock",
            Self::UserVariables => "user_variables",
            Self::Variable => "variable",
            Self::Tracker => "tracker",
            Self::Room => "room",
            Self::Unknown => "unknown",
        }
    }

    /// Only a reset of the session ends it, as far as can be told.
    pub(crate) fn lasts_until_reset(self) -> bool {
        matches!(self, Self::TemporaryTable | Self::Handler | Self::Tracker)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "an open transaction",
            Self::Savepoint => "a savepoint",
            Self::Cursor => "an open cursor",
            Self::LongData => "parameter data sent ahead",
            Self::Statement => "a prepared statement that cannot be prepared again",
            Self::TemporaryTable => "a temporary table",
            Self::TextPrepare => "a statement prepared in SQL",
            Self::Handler => "an open HANDLER",
            Self::Lock => "a lock",
            Self::UserVariables => "user variables",
            Self::Variable => "a session variable that cannot be set again",
            Self::Tracker => "a session tracker of its own",
            Self::Room => "variables that there is no room for beside those of its project's other sessions",
            Self::Unknown => "state that could not be read",
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const STATES: [State; 5] = [State::Detached, State::Busy, State::Idle, State::Asking, State::Pinned];
    const EVENTS: [Event; 8] = [
        Event::Attached,
        Event::Command,
        Event::Answered,
        Event::IdleLong,
        Event::Wanted,
        Event::Free,
        Event::Tied,
        Event::Lost,
    ];

    #[test]
    fn whole_table_is_as_reviewed() {
        let mut table = String::new();
        for state in STATES {
            for event in EVENTS {
                let after = step(state, event).map_or("-".into(), |(state, effect)| format!("{state:?}, {effect:?}"));
                let (state, event) = (format!("{state:?}"), format!("{event:?}"));
                writeln!(table, "{state:<8} {event:<8} -> {after}").unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_connection_is_given_up_only_where_the_compute_said_that_nothing_ties_it() {
        for state in STATES {
            for event in EVENTS {
                if let Some((_, Effect::Park)) = step(state, event) {
                    assert_eq!((state, event), (State::Asking, Event::Free));
                }
            }
        }
    }
}
