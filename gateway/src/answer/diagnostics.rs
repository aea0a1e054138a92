//! What a client asks of the statement before: ROW_COUNT(), FOUND_ROWS(), warnings. The gateway's own statements have
//! taken the place of the client's on the connection, or there is none; what they would have answered was read first.
//!
//! Whole texts of a few fixed shapes; whatever else reads the diagnostics (as a part of a larger statement, or GET
//! DIAGNOSTICS) reads those of the gateway's statements.

use mysql_wire::capabilities::Capabilities;
use mysql_wire::column::{ColumnDefinition, text_result_set};

use crate::session::Session;
use crate::session::inventory::Diagnostics;

/// The longest text of those below, with room for spaces.
const TEXT_BYTES_MAX: usize = 64;

/// None: nothing is asked here that is known.
pub(crate) fn answer(text: &[u8], session: &mut Session) -> Option<Vec<u8>> {
    let known = session.diagnostics.as_ref()?;
    let answer = answer_from(text, known, session)?;
    // Such a question has a result of its own and leaves the warnings as they are.
    if let Some(diagnostics) = &mut session.diagnostics {
        diagnostics.row_count = "-1".into();
        diagnostics.found_rows = "1".into();
    }
    Some(answer)
}

fn answer_from(text: &[u8], known: &Diagnostics, session: &Session) -> Option<Vec<u8>> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?.trim().trim_end_matches(';').trim_end();
    if is(text, "SHOW WARNINGS") {
        return known.show_warnings.as_deref().map(<[u8]>::to_vec);
    }
    let (name, value, column) = match () {
        () if is(text, "SHOW COUNT(*) WARNINGS") => ("@@session.warning_count", &known.warning_count, UNSIGNED),
        () if is(text, "SHOW COUNT(*) ERRORS") => ("@@session.error_count", &known.error_count, UNSIGNED),
        () => {
            let (verb, asked) = text.split_at_checked(7)?;
            if !verb.eq_ignore_ascii_case("SELECT ") {
                return None;
            }
            let asked = asked.trim_start();
            match () {
                () if is(asked, "ROW_COUNT()") => (asked, &known.row_count, SIGNED_FUNCTION),
                () if is(asked, "FOUND_ROWS()") => (asked, &known.found_rows, SIGNED_FUNCTION),
                () if is(asked, "@@warning_count") => (asked, &known.warning_count, UNSIGNED),
                () if is(asked, "@@error_count") => (asked, &known.error_count, UNSIGNED),
                () => return None,
            }
        }
    };
    let (column_length, flags) = column;
    let definition = ColumnDefinition {
        name: name.as_bytes().to_vec(),
        charset: 63,
        column_length,
        column_type: 8,
        flags,
        ..ColumnDefinition::default()
    };
    let mut out = Vec::new();
    let row = [vec![Some(value.as_bytes())]];
    let capabilities: Capabilities = session.capabilities;
    text_result_set(&mut out, 1, &[definition], &row, capabilities, session.status());
    Some(out)
}

fn is(text: &str, known: &str) -> bool {
    text.eq_ignore_ascii_case(known)
}

/// Length and flags of a bigint column, as MariaDB 10.11 gives them: of a function, of a system variable.
const SIGNED_FUNCTION: (u32, u16) = (21, 0x0081);
const UNSIGNED: (u32, u16) = (21, 0x00a0);
