//! What a client asks of the statement before: ROW_COUNT(), FOUND_ROWS(), warnings, errors. The gateway's own statements
//! have taken the place of the client's on the connection, or there is none; what they would have answered was read first.
//!
//! Whole texts of a few fixed shapes are answered. Whatever else asks (a part of a larger statement, GET DIAGNOSTICS)
//! would be answered from the gateway's statements, so it is refused, with a word on what can be asked.

use mysql_wire::column::{ColumnDefinition, text_result_set};
use mysql_wire::frame::{FrameHeader, write_packet};

use crate::error::Told;
use crate::session::Session;
use crate::session::previous::{Diagnostics, Previous, asks};

/// The longest text of those below: a few functions with names for their columns.
const TEXT_BYTES_MAX: usize = 256;

/// None: nothing is asked here that the connection would not know.
pub(crate) fn answer(text: &[u8], session: &mut Session) -> Option<Vec<u8>> {
    let known = match &session.previous {
        Previous::There => return None,
        Previous::Lost(told) if asks(text) => {
            let frame = told.frame(1);
            session.previous.is_over();
            return Some(frame);
        }
        Previous::Lost(_) => return None,
        Previous::Read(known) => known,
    };
    let Some(answer) = answer_from(text, known, session) else {
        return asks(text).then(|| not_kept().frame(1));
    };
    // Such a question has a result of its own and leaves the warnings as they are.
    if let Previous::Read(known) = &mut session.previous {
        known.row_count = "-1".into();
        if !answer.is_list {
            known.found_rows = "1".into();
        }
    }
    Some(answer.packets)
}

/// A statement was answered here that affected so many rows, or failed so. Its diagnostics are kept as a compute would show them.
pub(crate) fn keep(session: &mut Session, row_count: &str, error: Option<&Told>) {
    let count = if error.is_some() { "1" } else { "0" };
    let (found_rows, last_insert_id) = match &session.previous {
        Previous::Read(known) => (known.found_rows.clone(), known.last_insert_id.clone()),
        Previous::There | Previous::Lost(_) => ("0".into(), "0".into()),
    };
    let kept = Diagnostics {
        row_count: row_count.into(),
        found_rows,
        warning_count: count.into(),
        error_count: count.into(),
        last_insert_id,
        show_warnings: warnings(session, error).map(Vec::into_boxed_slice),
    };
    session.previous = Previous::Read(kept);
}

/// A statement was answered here that left nothing to look at: where what came before is known here, it is that no more.
pub(crate) fn nothing_left(session: &mut Session, row_count: &str, found_rows: &str) {
    session.answered_here(row_count, found_rows);
    let list = warnings(session, None).map(Vec::into_boxed_slice);
    if let Previous::Read(known) = &mut session.previous {
        known.show_warnings = list;
    }
}

/// The answer to SHOW WARNINGS, as MariaDB 10.11 gives it. None: the character set is not known here.
fn warnings(session: &Session, error: Option<&Told>) -> Option<Vec<u8>> {
    let charset = session.results_charset()?;
    let text = |name: &str, chars: u32| ColumnDefinition {
        name: name.as_bytes().to_vec(),
        charset: charset.collation,
        column_length: chars * charset.bytes_max,
        column_type: 0xfd,
        flags: 0x0001,
        decimals: 39,
        ..ColumnDefinition::default()
    };
    let code = ColumnDefinition {
        name: b"Code".to_vec(),
        charset: 63,
        column_length: 4,
        column_type: 3,
        flags: 0x00a1,
        ..ColumnDefinition::default()
    };
    let columns = [text("Level", 7), code, text("Message", 512)];
    let number = error.map(|told| told.code.to_string()).unwrap_or_default();
    let row = error.map(|told| {
        vec![
            Some(&b"Error"[..]),
            Some(number.as_bytes()),
            Some(told.message.as_bytes()),
        ]
    });
    let mut packets = Vec::new();
    let rows: Vec<_> = row.into_iter().collect();
    text_result_set(&mut packets, 1, &columns, &rows, session.capabilities, session.status());
    Some(packets)
}

/// A question that is not answered here, and that nobody else could answer any more.
pub(crate) fn not_kept() -> Told {
    Told::new(
        1105,
        "HY000",
        "What the statement before left was not kept in this form; ask with SHOW WARNINGS, SHOW ERRORS, or a SELECT of \
         nothing but ROW_COUNT(), FOUND_ROWS(), @@warning_count and @@error_count",
    )
}

struct Answer {
    packets: Vec<u8>,
    /// Of warnings: no SELECT, whose rows would be counted.
    is_list: bool,
}

fn answer_from(text: &[u8], known: &Diagnostics, session: &Session) -> Option<Answer> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let text = text.trim().trim_end_matches(';').trim_end();
    let (verb, asked) = text.split_once(|c: char| c.is_ascii_whitespace())?;
    let asked = asked.trim_start();
    let row = |columns: Vec<(String, &str, Kind)>| {
        let definitions: Vec<_> = columns.iter().map(|(name, _, kind)| kind.column(name)).collect();
        let row = columns.iter().map(|(_, value, _)| Some(value.as_bytes())).collect();
        let mut packets = Vec::new();
        text_result_set(
            &mut packets,
            1,
            &definitions,
            &[row],
            session.capabilities,
            session.status(),
        );
        packets
    };
    if verb.eq_ignore_ascii_case("SELECT") {
        let columns: Vec<_> = asked
            .split(',')
            .map(|item| column(item, known))
            .collect::<Option<_>>()?;
        // The id alone is the connection's to tell: it was set there.
        return columns.iter().any(|(_, _, kind)| *kind != Kind::Id).then(|| Answer {
            packets: row(columns),
            is_list: false,
        });
    }
    if !verb.eq_ignore_ascii_case("SHOW") {
        return None;
    }
    let words: Vec<_> = asked.split_ascii_whitespace().collect();
    let is = |at: usize, word: &str| words.get(at).is_some_and(|said| said.eq_ignore_ascii_case(word));
    let errors_only = match () {
        () if is(0, "WARNINGS") => false,
        () if is(0, "ERRORS") => true,
        () if is(0, "COUNT(*)") && words.len() == 2 => {
            let (name, value) = match () {
                () if is(1, "WARNINGS") => ("@@session.warning_count", &known.warning_count),
                () if is(1, "ERRORS") => ("@@session.error_count", &known.error_count),
                () => return None,
            };
            let column = (name.to_owned(), &**value, Kind::Variable);
            return Some(Answer {
                packets: row(vec![column]),
                is_list: false,
            });
        }
        () => return None,
    };
    let (skipped, count) = limit(&words[1..].join(" "))?;
    Some(Answer {
        packets: some_rows(known.show_warnings.as_deref()?, errors_only, skipped, count)?,
        is_list: true,
    })
}

/// What follows SHOW WARNINGS: how many rows are left out, how many are shown.
fn limit(text: &str) -> Option<(usize, usize)> {
    if text.is_empty() {
        return Some((0, usize::MAX));
    }
    let (word, numbers) = text.split_once(' ')?;
    if !word.eq_ignore_ascii_case("LIMIT") {
        return None;
    }
    let number = |text: &str| text.trim().parse::<usize>().ok();
    if let Some((skipped, count)) = numbers.split_once(',') {
        return Some((number(skipped)?, number(count)?));
    }
    let mut words = numbers.split(' ');
    let count = number(words.next()?)?;
    match (words.next(), words.next(), words.next()) {
        (None, ..) => Some((0, count)),
        (Some(offset), Some(skipped), None) if offset.eq_ignore_ascii_case("OFFSET") => Some((number(skipped)?, count)),
        _ => None,
    }
}

/// The answer to SHOW WARNINGS with some of its rows.
fn some_rows(answer: &[u8], errors_only: bool, skipped: usize, count: usize) -> Option<Vec<u8>> {
    // Level, code, message.
    const COLUMNS: usize = 3;
    let mut out = Vec::new();
    let mut sequence = 1;
    let mut rows_of_errors = 0..usize::MAX;
    let mut rest = answer;
    let mut number = 0;
    while let Some(FrameHeader { payload_len, .. }) = FrameHeader::decode(rest) {
        let payload = rest.get(4..4 + payload_len)?;
        rest = &rest[4 + payload_len..];
        number += 1;
        // A header, definitions, and an EOF behind them where the client has not done away with it; rows begin with the
        // length of a level, which is no EOF's header.
        let is_row = number > 1 + COLUMNS && payload.first() != Some(&0xfe);
        if is_row {
            let is_error = payload.get(1..6) == Some(b"Error") && payload.first() == Some(&5);
            if errors_only && !is_error {
                continue;
            }
            let at = rows_of_errors.next()?;
            if at < skipped || at - skipped >= count {
                continue;
            }
        }
        write_packet(&mut out, &mut sequence, payload);
    }
    Some(out)
}

/// One item of a SELECT list: its column's name, its value, what it is.
fn column<'a>(item: &str, known: &'a Diagnostics) -> Option<(String, &'a str, Kind)> {
    let item = item.trim();
    let end = match item.starts_with("@@") {
        true => item.find(|c: char| c.is_ascii_whitespace()).unwrap_or(item.len()),
        false => item.find(')')? + 1,
    };
    let (asked, name) = item.split_at(end);
    let is = |known: &str| asked.eq_ignore_ascii_case(known);
    let (value, kind) = match () {
        () if is("ROW_COUNT()") => (&known.row_count, Kind::Function),
        () if is("FOUND_ROWS()") => (&known.found_rows, Kind::Function),
        () if is("LAST_INSERT_ID()") => (&known.last_insert_id, Kind::Id),
        () if is("@@warning_count") || is("@@session.warning_count") => (&known.warning_count, Kind::Variable),
        () if is("@@error_count") || is("@@session.error_count") => (&known.error_count, Kind::Variable),
        () => return None,
    };
    let name = match name.trim_start() {
        "" => asked,
        name => alias(name)?,
    };
    Some((name.to_owned(), value, kind))
}

/// `AS name`, or `name`.
fn alias(text: &str) -> Option<&str> {
    let name = match text.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((word, name)) if word.eq_ignore_ascii_case("AS") => name.trim_start(),
        Some(_) => return None,
        None => text,
    };
    let bare = ['`', '\'']
        .iter()
        .find_map(|quote| name.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(name);
    let plain = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (plain && bare.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).then_some(bare)
}

/// The kinds of bigint columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Function,
    Id,
    Variable,
}

impl Kind {
    /// As MariaDB 10.11 gives them.
    fn column(self, name: &str) -> ColumnDefinition {
        let flags = match self {
            Self::Function => 0x0081,
            Self::Id => 0x00a1,
            Self::Variable => 0x00a0,
        };
        ColumnDefinition {
            name: name.as_bytes().to_vec(),
            charset: 63,
            column_length: 21,
            column_type: 8,
            flags,
            ..ColumnDefinition::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use mysql_wire::capabilities::Capabilities;

    use super::super::answer_query;
    use super::*;
    use crate::session::Identity;

    fn asked(session: &mut Session, text: &str) -> Vec<u8> {
        answer(text.as_bytes(), session).expect("what is known here is answered here")
    }

    #[test]
    fn a_setting_that_is_answered_here_leaves_an_empty_list_of_warnings() {
        let identity = Identity {
            user: "u".into(),
            database: None,
            collation: 45,
            attributes: Vec::new(),
            program_name: String::new(),
        };
        let mut session = Session::new(Capabilities::PROTOCOL_41, 1 << 24, identity);
        // As an inventory leaves it, too.
        keep(&mut session, "-1", Some(&Told::new(1146, "42S02", "no such table")));
        let with_error = asked(&mut session, "SHOW WARNINGS");
        for setting in ["SET autocommit=1", "SET NAMES utf8mb4"] {
            let mut out = Vec::new();
            assert!(answer_query(
                &mut out,
                format!("\x03{setting}").as_bytes(),
                &mut session,
                None
            ));
            let empty = asked(&mut session, "SHOW WARNINGS");
            // A column count, not an ERR, and no row.
            assert_eq!(empty.get(4), Some(&3), "{setting}: {empty:02x?}");
            assert!(empty.len() < with_error.len(), "{setting}: {empty:02x?}");
        }
    }
}
