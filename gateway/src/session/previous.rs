//! What a client may ask of its last statement (counts, warnings, errors) once its connection does not know it any more:
//! the gateway's own statements have taken its place there, or the compute is gone. And how a question for it is known.

use crate::error::Told;
use crate::text::{Words, first_statement, is_one_of};

/// Who knows the client's last statement.
#[derive(Debug, Default)]
pub(crate) enum Previous {
    /// The connection it has or will have.
    #[default]
    There,
    /// The gateway, which has read it before the session left its connection.
    Read(Diagnostics),
    /// Nobody: the compute died, or what it answered could not be read. Whoever asks is told this.
    Lost(Told),
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Diagnostics {
    pub(crate) row_count: Box<str>,
    pub(crate) found_rows: Box<str>,
    pub(crate) warning_count: Box<str>,
    pub(crate) error_count: Box<str>,
    pub(crate) last_insert_id: Box<str>,
    /// The answer to SHOW WARNINGS as the compute gave it.
    pub(crate) show_warnings: Option<Box<[u8]>>,
}

impl Previous {
    /// The client's next statement takes its place.
    pub(crate) fn is_over(&mut self) {
        *self = Self::There;
    }

    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Self::There)
    }

    /// How much of it is of no fixed size.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Read(known) => known.show_warnings.as_deref().map_or(0, <[u8]>::len),
            Self::There | Self::Lost(_) => 0,
        }
    }
}

/// Does the statement ask for the one before it? Of several in one text only the first can: the others ask for those in
/// front of them. What a program asks that it calls is not seen. Where the statement ends can hang on whether backslashes
/// escape, which is not known here: the longer reading counts, as a statement too many is refused and one too few is answered
/// wrongly.
pub(crate) fn asks(text: &[u8]) -> bool {
    let [first, other] = [true, false].map(|escapes| first_statement(text, escapes).0);
    let first = if first.len() < other.len() { other } else { first };
    let mut words = Words(first);
    let verb = words.next();
    if is_one_of(verb, &[b"get"]) {
        return true;
    }
    if is_one_of(verb, &[b"show"]) {
        return words.next_is_one_of(&[b"warnings", b"errors", b"count"]);
    }
    memchr::memchr_iter(b'_', first).any(|at| names_a_count(&first[..at], &first[at + 1..]))
}

/// `ROW_COUNT(`, `FOUND_ROWS(`, `@@warning_count`, `@@error_count`, cut at the underscore.
fn names_a_count(before: &[u8], after: &[u8]) -> bool {
    let is_function = |head: &[u8], tail: &[u8]| {
        let named = strip_end(before, head).is_some_and(|before| !before.last().is_some_and(|byte| in_a_name(*byte)));
        let rest = after
            .get(tail.len()..)
            .filter(|_| after[..tail.len()].eq_ignore_ascii_case(tail));
        named && rest.is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b'('))
    };
    let is_variable = |head: &[u8]| {
        let scope = strip_end(before, head);
        let scope = scope.map(|scope| {
            [&b"session."[..], b"local."]
                .iter()
                .find_map(|named| strip_end(scope, named))
                .unwrap_or(scope)
        });
        let counts = after.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"count"));
        counts && scope.is_some_and(|scope| scope.ends_with(b"@@"))
    };
    is_function(b"row", b"count") || is_function(b"found", b"rows") || is_variable(b"warning") || is_variable(b"error")
}

fn in_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.' | b'`' | 0x80..)
}

fn strip_end<'a>(text: &'a [u8], lower: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = text.split_at_checked(text.len().checked_sub(lower.len())?)?;
    tail.eq_ignore_ascii_case(lower).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_ask_for_the_statement_before() {
        for text in [
            "SHOW WARNINGS",
            "show errors limit 1",
            " SHOW COUNT(*) WARNINGS;",
            "GET DIAGNOSTICS @n = NUMBER",
            "/* x */ get current diagnostics condition 1 @m = MESSAGE_TEXT",
            "SELECT ROW_COUNT()",
            "INSERT INTO t VALUES (found_rows ())",
            "SET @n = @@warning_count",
            "SELECT @@session.error_count + 1",
            "SELECT ';', ROW_COUNT()",
            r"SELECT '\';', ROW_COUNT()",
            r"SELECT '\', ';', ROW_COUNT()",
            "SELECT /* ; */ ROW_COUNT()",
        ] {
            assert!(asks(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn texts_that_ask_for_something_else() {
        for text in [
            "SHOW TABLES",
            "SELECT row_count, error_count, warning_count FROM jobs",
            "SELECT j.error_count, my_row_count(1), x.row_count(2) FROM jobs AS j",
            "INSERT INTO t VALUES (1); SELECT ROW_COUNT()",
            "SELECT LAST_INSERT_ID()",
            "",
            "_",
            "row_",
            "@@warning_",
        ] {
            assert!(!asks(text.as_bytes()), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>) {
            asks(&text);
        }
    }
}
