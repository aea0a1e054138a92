//! `sql_mode` as the server reports it: its modes in the order of their bits, and with a mode that stands for several,
//! those too. The tests of the agent compare this with a real server.

/// MariaDB 10.11's `sql_mode_names`, in the order of their bits.
pub(super) const ALL: [&str; 35] = [
    "REAL_AS_FLOAT",
    "PIPES_AS_CONCAT",
    "ANSI_QUOTES",
    "IGNORE_SPACE",
    "IGNORE_BAD_TABLE_OPTIONS",
    "ONLY_FULL_GROUP_BY",
    "NO_UNSIGNED_SUBTRACTION",
    "NO_DIR_IN_CREATE",
    "POSTGRESQL",
    "ORACLE",
    "MSSQL",
    "DB2",
    "MAXDB",
    "NO_KEY_OPTIONS",
    "NO_TABLE_OPTIONS",
    "NO_FIELD_OPTIONS",
    "MYSQL323",
    "MYSQL40",
    "ANSI",
    "NO_AUTO_VALUE_ON_ZERO",
    "NO_BACKSLASH_ESCAPES",
    "STRICT_TRANS_TABLES",
    "STRICT_ALL_TABLES",
    "NO_ZERO_IN_DATE",
    "NO_ZERO_DATE",
    "ALLOW_INVALID_DATES",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "TRADITIONAL",
    "NO_AUTO_CREATE_USER",
    "HIGH_NOT_PRECEDENCE",
    "NO_ENGINE_SUBSTITUTION",
    "PAD_CHAR_TO_FULL_LENGTH",
    "EMPTY_STRING_IS_NULL",
    "SIMULTANEOUS_ASSIGNMENT",
    "TIME_ROUND_FRACTIONAL",
];

const QUOTES: [&str; 3] = ["PIPES_AS_CONCAT", "ANSI_QUOTES", "IGNORE_SPACE"];
const NO_OPTIONS: [&str; 3] = ["NO_KEY_OPTIONS", "NO_TABLE_OPTIONS", "NO_FIELD_OPTIONS"];

/// What a mode brings besides itself.
fn brings(mode: &str) -> Vec<&'static str> {
    match mode {
        "ANSI" => [&QUOTES[..], &["REAL_AS_FLOAT"]].concat(),
        "POSTGRESQL" | "MSSQL" | "DB2" => [QUOTES, NO_OPTIONS].concat(),
        "MAXDB" => [&QUOTES[..], &NO_OPTIONS, &["NO_AUTO_CREATE_USER"]].concat(),
        "ORACLE" => [
            &QUOTES[..],
            &NO_OPTIONS,
            &["NO_AUTO_CREATE_USER", "SIMULTANEOUS_ASSIGNMENT"],
        ]
        .concat(),
        "MYSQL323" | "MYSQL40" => vec!["HIGH_NOT_PRECEDENCE"],
        "TRADITIONAL" => vec![
            "STRICT_TRANS_TABLES",
            "STRICT_ALL_TABLES",
            "NO_ZERO_IN_DATE",
            "NO_ZERO_DATE",
            "ERROR_FOR_DIVISION_BY_ZERO",
            "NO_AUTO_CREATE_USER",
            "NO_ENGINE_SUBSTITUTION",
        ],
        _ => Vec::new(),
    }
}

pub(super) fn canonical(text: &str) -> Result<String, String> {
    let mut on = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let mode = ALL.into_iter().find(|mode| mode.eq_ignore_ascii_case(word));
        let mode = mode.ok_or_else(|| format!("{word:?} is not a mode of the server"))?;
        on.push(mode);
        on.extend(brings(mode));
    }
    let modes: Vec<_> = ALL.into_iter().filter(|mode| on.contains(mode)).collect();
    Ok(modes.join(","))
}
