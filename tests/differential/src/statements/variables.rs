//! User variables, and a look at all variables there are.

use super::Writer;
use crate::step::Act;

pub(super) fn user_variable(w: &mut Writer<'_>) {
    let name = w.one(&["a", "b", "`odd ``name`", "\u{fc}n\u{ef}"]);
    let value = w.one(&[
        "1",
        "-9223372036854775808",
        "18446744073709551615",
        "1.50",
        "123456789012345678901234567890.123456789",
        "1e-300",
        "NULL",
        "'text'",
        "''",
        "'it''s \\\\ quoted'",
        "x'00ff27'",
        "b'101'",
        "_latin1 x'e4'",
        "'\u{1f9ad}' COLLATE utf8mb4_bin",
        "CAST('2024-01-02 03:04:05.6' AS DATETIME(1))",
        "CAST('12:30' AS TIME)",
        "REPEAT('ab', 2000)",
        "TRUE",
        "1/3",
        "CAST(5 AS UNSIGNED)",
    ]);
    let sql = match w.below(5) {
        0 => format!("SELECT @{name} := {value}"),
        1 => format!("SELECT {value}, 2 INTO @{name}, @second"),
        2 => format!("SET @{name} = {value}, @other = @{name}"),
        _ => format!("SET @{name} = {value}"),
    };
    w.sql(sql);
    if w.chance(70) {
        w.sql(format!(
            "SELECT @{name}, HEX(@{name}), COLLATION(@{name}), COERCIBILITY(@{name})"
        ));
    }
    if w.chance(15) {
        w.sql(format!(
            "SELECT @{name} := CONCAT(@{name}, id) FROM {{h}}.t ORDER BY id"
        ));
    }
    if w.chance(30) {
        w.acts.push(Act::UserVariables);
    }
}

pub(super) fn look(w: &mut Writer<'_>) {
    w.acts.push(Act::Variables);
    w.acts.push(Act::UserVariables);
}
