//! What drivers send on their own while connecting, recognised by its whole text: settings that can wait, and questions
//! whose answers are known. Everything else needs the database.
//!
//! Not a SQL parser: short ASCII texts of a few fixed shapes. A value that MariaDB could refuse is not recognised, so
//! that the real server says so.

use std::time::Duration;

use crate::session::{ResultsCharset, SettingEffect, hears};
use crate::text::first_statement;

/// Longer texts are no connect-time chatter.
pub(crate) const TEXT_BYTES_MAX: usize = 512;

/// What a recognised text is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recognised<'a> {
    /// A setting to acknowledge now and replay later.
    Setting {
        effect: SettingEffect,
        tracked: Vec<(&'static str, String)>,
    },
    /// What the client wants to hear of: the gateway's to do, never replayed.
    Tracker(hears::Asked),
    /// A question for variables: `SELECT @@a, @@b`.
    Variables(Vec<Asked<'a>>),
}

/// The statements of a text that are all settings: drivers send several in one. None: there are others among them, or there
/// is nothing.
pub(crate) fn recognise_settings(text: &[u8], several: bool) -> Option<Vec<(&[u8], Recognised<'_>)>> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut settings = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // No text of ours has a backslash in it.
        let (first, more) = match several {
            true => first_statement(rest, false),
            false => (rest, &[][..]),
        };
        // To the server it ends the text.
        if first.contains(&0) && !more.is_empty() {
            return None;
        }
        match recognise(first)? {
            Recognised::Variables(_) => return None,
            setting => settings.push((first, setting)),
        }
        rest = more.trim_ascii();
    }
    (!settings.is_empty()).then_some(settings)
}

/// Of a text that does nothing but set up the tracker, what each statement asks for.
pub(crate) fn recognise_tracker(text: &[u8], several: bool) -> Option<Vec<hears::Asked>> {
    let settings = recognise_settings(text, several)?.into_iter();
    let asked = settings.map(|(_, setting)| match setting {
        Recognised::Tracker(asked) => Some(asked),
        _ => None,
    });
    asked.collect()
}

/// One variable asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// The column's name: the expression as written.
    pub(crate) expression: &'a str,
    /// The variable, in lower case.
    pub(crate) variable: String,
}

/// Character sets a client may name, with what results in them look like: default collation and longest character.
const CHARSETS: [(&str, u16, u32); 6] = [
    ("utf8mb4", 45, 4),
    ("utf8mb3", 33, 3),
    ("utf8", 33, 3),
    ("latin1", 8, 1),
    ("ascii", 11, 1),
    ("binary", 63, 1),
];

/// Collations that every MariaDB since 10.3 has, by the character set they need.
const COLLATIONS: [(&str, &str); 14] = [
    ("utf8mb4_general_ci", "utf8mb4"),
    ("utf8mb4_unicode_ci", "utf8mb4"),
    ("utf8mb4_unicode_520_ci", "utf8mb4"),
    ("utf8mb4_bin", "utf8mb4"),
    ("utf8mb3_general_ci", "utf8mb3"),
    ("utf8mb3_unicode_ci", "utf8mb3"),
    ("utf8mb3_bin", "utf8mb3"),
    ("utf8_general_ci", "utf8mb3"),
    ("utf8_unicode_ci", "utf8mb3"),
    ("utf8_bin", "utf8mb3"),
    ("latin1_swedish_ci", "latin1"),
    ("latin1_general_ci", "latin1"),
    ("latin1_bin", "latin1"),
    ("binary", "binary"),
];

/// Modes that stand for themselves and show in no status flag.
const SQL_MODES: [&str; 10] = [
    "STRICT_TRANS_TABLES",
    "STRICT_ALL_TABLES",
    "NO_ZERO_IN_DATE",
    "NO_ZERO_DATE",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "NO_AUTO_CREATE_USER",
    "NO_ENGINE_SUBSTITUTION",
    "ONLY_FULL_GROUP_BY",
    "PIPES_AS_CONCAT",
    "NO_AUTO_VALUE_ON_ZERO",
];

const ISOLATION_LEVELS: [&[&str]; 4] = [
    &["READ", "COMMITTED"],
    &["READ", "UNCOMMITTED"],
    &["REPEATABLE", "READ"],
    &["SERIALIZABLE"],
];

/// What sqlx and MariaDB Connector/J send: values that are computed from the old one, so only these texts are known to be
/// sound.
const COMPUTED_MODES: [&str; 2] = [
    "(SELECT CONCAT(@@sql_mode, ',PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION'))",
    "concat(@@sql_mode,',STRICT_TRANS_TABLES')",
];

/// Recognises a statement, or does not.
pub(crate) fn recognise(text: &[u8]) -> Option<Recognised<'_>> {
    if text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let text = text.trim_end_matches(|c: char| c.is_ascii_whitespace() || c == ';' || c == '\0');
    let mut words = Words { rest: text };
    match words.next()? {
        Word::Name(verb) if verb.eq_ignore_ascii_case("SET") => setting(words),
        Word::Name(verb) if verb.eq_ignore_ascii_case("SELECT") => variables(words),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word<'a> {
    /// A bare word, with dots and `@@` in it: `utf8mb4`, `@@session.autocommit`, `600`.
    Name(&'a str),
    /// Inside single or double quotes; without escapes.
    Quoted(&'a str),
    Symbol(char),
}

impl<'a> Word<'a> {
    fn is(self, name: &str) -> bool {
        matches!(self, Word::Name(word) if word.eq_ignore_ascii_case(name))
    }

    /// A value that may stand bare or in quotes.
    fn text(self) -> Option<&'a str> {
        match self {
            Word::Name(text) | Word::Quoted(text) => Some(text),
            Word::Symbol(_) => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        if first == '\'' || first == '"' {
            let inside = &self.rest[1..];
            let end = inside.find(first)?;
            // A doubled quote or a backslash means escapes: no text of ours.
            if inside[..end].contains('\\') || inside[end + 1..].starts_with(first) {
                return None;
            }
            self.rest = &inside[end + 1..];
            return Some(Word::Quoted(&inside[..end]));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '.' | '$');
        let len = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(len.max(1));
        self.rest = rest;
        Some(if len == 0 {
            Word::Symbol(first)
        } else {
            Word::Name(word)
        })
    }

    fn peek(&self) -> Option<Word<'a>> {
        Words { ..*self }.next()
    }

    fn is_at_end(&self) -> bool {
        self.rest.trim_start().is_empty()
    }

    /// Takes the text if it stands here, whatever the case of its letters.
    fn take(&mut self, text: &str) -> Option<()> {
        let rest = self.rest.trim_start();
        let head = rest.get(..text.len())?;
        head.eq_ignore_ascii_case(text).then(|| self.rest = &rest[text.len()..])
    }
}

fn setting(mut words: Words<'_>) -> Option<Recognised<'_>> {
    if let Some(level) = isolation_level(words) {
        return Some(Recognised::Setting {
            effect: SettingEffect::default(),
            tracked: vec![("tx_isolation", level.join("-"))],
        });
    }
    if let Some(asked) = tracker(words) {
        return Some(Recognised::Tracker(asked));
    }
    let mut effect = SettingEffect::default();
    let mut tracked = Vec::new();
    loop {
        assignment(&mut words, &mut effect, &mut tracked)?;
        match words.next() {
            None => break,
            Some(Word::Symbol(',')) => {}
            Some(_) => return None,
        }
    }
    words.is_at_end().then_some(Recognised::Setting { effect, tracked })
}

/// `[SESSION] TRANSACTION ISOLATION LEVEL ...`. Without SESSION it is for the next transaction only: not ours.
fn isolation_level(mut words: Words<'_>) -> Option<&'static [&'static str]> {
    for expected in ["SESSION", "TRANSACTION", "ISOLATION", "LEVEL"] {
        words.next().filter(|word| word.is(expected))?;
    }
    let mut level = Vec::new();
    while let Some(word) = words.next() {
        level.push(word);
    }
    let known =
        |names: &&&[&str]| names.len() == level.len() && names.iter().zip(&level).all(|(name, word)| word.is(name));
    words
        .is_at_end()
        .then(|| ISOLATION_LEVELS.iter().find(known).copied())?
}

/// Nothing but variables of the tracker, with values that are answered for here.
fn tracker(mut words: Words<'_>) -> Option<hears::Asked> {
    let mut asked = hears::Asked::default();
    loop {
        let (name, value) = named_value(&mut words)?;
        match name.as_str() {
            "session_track_schema" => asked.schema = Some(switch(value)?),
            "session_track_system_variables" => {
                let Word::Quoted(list) = value else { return None };
                asked.variables = Some(hears::Variables::read(list)?);
            }
            _ => return None,
        }
        match words.next() {
            None => break,
            Some(Word::Symbol(',')) => {}
            Some(_) => return None,
        }
    }
    words.is_at_end().then_some(asked)
}

/// `[SESSION] name = value`, where the value is one word.
fn named_value<'a>(words: &mut Words<'a>) -> Option<(String, Word<'a>)> {
    let name = variable_to_set(words)?;
    let value = words.next()?;
    ends_here(words)?;
    Some((name, value))
}

/// `[SESSION] name =`.
fn variable_to_set(words: &mut Words<'_>) -> Option<String> {
    let mut first = words.next()?;
    let scoped = first.is("SESSION") || first.is("LOCAL");
    if scoped {
        first = words.next()?;
    }
    let Word::Name(name) = first else { return None };
    // One scope, said in one way.
    let name = session_variable(name).filter(|_| !scoped || !name.starts_with('@'))?;
    (words.next()? == Word::Symbol('=')).then_some(name)
}

fn assignment(
    words: &mut Words<'_>,
    effect: &mut SettingEffect,
    tracked: &mut Vec<(&'static str, String)>,
) -> Option<()> {
    if words.peek().is_some_and(|word| word.is("NAMES")) {
        words.next();
        return names(words, effect, tracked);
    }
    // What is set as `@@name`, MariaDB's tracker does not report by itself.
    let untold = words
        .peek()
        .is_some_and(|word| matches!(word, Word::Name(name) if is_unscoped(name)));
    let name = variable_to_set(words)?;
    let computed = name == "sql_mode" && COMPUTED_MODES.iter().any(|mode| words.take(mode).is_some());
    if computed {
        return ends_here(words);
    }
    let value = words.next()?;
    ends_here(words)?;
    let mut told = Vec::new();
    known_value(&name, value, effect, &mut told)?;
    for (name, value) in told {
        tell(tracked, name, value, untold);
    }
    if name == "collation_connection"
        && let Some((_, charset)) = value.text().and_then(known_collation)
    {
        // It brings its character set along.
        tell(tracked, "character_set_connection", (*charset).to_owned(), true);
    }
    Some(())
}

/// Each variable once, with its last value; where the last is not told, only if one before it was.
fn tell(tracked: &mut Vec<(&'static str, String)>, name: &'static str, value: String, untold: bool) {
    match tracked.iter_mut().find(|(known, _)| *known == name) {
        Some(known) => known.1 = value,
        None if untold => {}
        None => tracked.push((name, value)),
    }
}

/// `@@name`.
fn is_unscoped(name: &str) -> bool {
    name.starts_with("@@") && !name.contains('.')
}

/// A value such as `a.b` or an expression would go on here.
fn ends_here(words: &Words<'_>) -> Option<()> {
    let ends = match words.peek() {
        None => words.is_at_end(),
        next => next == Some(Word::Symbol(',')),
    };
    ends.then_some(())
}

/// `SET NAMES charset [COLLATE collation]`.
fn names(words: &mut Words<'_>, effect: &mut SettingEffect, tracked: &mut Vec<(&'static str, String)>) -> Option<()> {
    let (charset, results) = charset(words.next()?.text()?)?;
    if words.peek().is_some_and(|word| word.is("COLLATE")) {
        words.next();
        let collation = words.next()?.text()?.to_ascii_lowercase();
        COLLATIONS
            .iter()
            .find(|(name, needs)| *name == collation && *needs == charset)?;
    }
    effect.results = Some(Some(results));
    for variable in [
        "character_set_client",
        "character_set_connection",
        "character_set_results",
    ] {
        tell(tracked, variable, charset.to_owned(), false);
    }
    Some(())
}

fn known_collation(name: &str) -> Option<&'static (&'static str, &'static str)> {
    COLLATIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// The canonical name of a character set, and what results in it look like.
fn charset(name: &str) -> Option<(&'static str, ResultsCharset)> {
    let (known, collation, bytes_max) = CHARSETS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
    let canonical = if *known == "utf8" { "utf8mb3" } else { known };
    Some((
        canonical,
        ResultsCharset {
            collation: *collation,
            bytes_max: *bytes_max,
        },
    ))
}

/// The bare name of a session variable: `autocommit` of `@@session.autocommit`. None for global and user variables.
fn session_variable(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let bare = match lower.strip_prefix("@@") {
        Some(rest) => rest
            .strip_prefix("session.")
            .or_else(|| rest.strip_prefix("local."))
            .unwrap_or(rest),
        None => lower.as_str(),
    };
    let plain = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain.then(|| bare.to_owned())
}

fn known_value(
    name: &str,
    value: Word<'_>,
    effect: &mut SettingEffect,
    tracked: &mut Vec<(&'static str, String)>,
) -> Option<()> {
    match name {
        "autocommit" => {
            let on = switch(value)?;
            effect.autocommit = Some(on);
            tracked.push(("autocommit", if on { "ON" } else { "OFF" }.to_owned()));
        }
        "sql_mode" => {
            let Word::Quoted(modes) = value else { return None };
            let known = |mode: &str| SQL_MODES.iter().any(|m| m.eq_ignore_ascii_case(mode));
            (modes.is_empty() || modes.split(',').all(known)).then_some(())?;
        }
        "time_zone" => {
            let Word::Quoted(zone) = value else { return None };
            is_offset(zone).then_some(())?;
            let shown = if zone == "-00:00" { "+00:00" } else { zone };
            tracked.push(("time_zone", shown.to_owned()));
        }
        // For databases made by this session, and for literals: nothing of what results look like.
        "character_set_server" => drop(charset(value.text()?)?),
        "collation_server" | "collation_connection" => {
            known_collation(value.text()?)?;
        }
        "foreign_key_checks" | "unique_checks" | "sql_safe_updates" | "sql_auto_is_null" => {
            switch(value)?;
        }
        "wait_timeout" | "interactive_timeout" | "net_read_timeout" | "net_write_timeout" => {
            let Word::Name(number) = value else { return None };
            // One year, where MariaDB would warn and cut.
            let seconds = number
                .parse::<u32>()
                .ok()
                .filter(|seconds| (1..=31_536_000).contains(seconds))?;
            if name == "wait_timeout" {
                effect.wait_timeout = Some(Duration::from_secs(seconds.into()));
            }
        }
        _ => return None,
    }
    Some(())
}

fn switch(value: Word<'_>) -> Option<bool> {
    match value {
        Word::Name("1") => Some(true),
        Word::Name("0") => Some(false),
        Word::Name(word) | Word::Quoted(word) if word.eq_ignore_ascii_case("ON") => Some(true),
        Word::Name(word) | Word::Quoted(word) if word.eq_ignore_ascii_case("OFF") => Some(false),
        Word::Name(word) if word.eq_ignore_ascii_case("TRUE") => Some(true),
        Word::Name(word) if word.eq_ignore_ascii_case("FALSE") => Some(false),
        _ => None,
    }
}

/// `+05:30`; named zones are the server's to know.
fn is_offset(zone: &str) -> bool {
    let [sign, h1, h2, b':', m1, m2] = zone.as_bytes() else {
        return false;
    };
    let digit = |b: &u8| b.is_ascii_digit().then(|| b - b'0');
    let number = |a, b| Some(digit(a)? * 10 + digit(b)?);
    matches!(sign, b'+' | b'-') && number(h1, h2).is_some_and(|h| h < 12) && number(m1, m2).is_some_and(|m| m < 60)
}

/// `@@a, @@session.b [LIMIT 1]`.
fn variables(mut words: Words<'_>) -> Option<Recognised<'_>> {
    let mut asked = Vec::new();
    loop {
        let Word::Name(expression) = words.next()? else {
            return None;
        };
        let bare = expression.strip_prefix("@@")?.to_ascii_lowercase();
        let bare = ["session.", "local.", "global."]
            .iter()
            .find_map(|scope| bare.strip_prefix(scope))
            .unwrap_or(&bare);
        asked.push(Asked {
            expression,
            variable: bare.to_owned(),
        });
        match words.next() {
            None => break,
            Some(Word::Symbol(',')) => {}
            Some(word) if word.is("LIMIT") => {
                words.next().filter(|word| *word == Word::Name("1"))?;
                words.is_at_end().then_some(())?;
                break;
            }
            Some(_) => return None,
        }
    }
    words.is_at_end().then_some(Recognised::Variables(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_setting(text: &str) -> bool {
        matches!(recognise(text.as_bytes()), Some(Recognised::Setting { .. }))
    }

    #[test]
    fn what_drivers_send_is_recognised() {
        for text in [
            "SET NAMES utf8mb4",
            "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_general_ci'",
            "set names utf8mb4 collate utf8mb4_unicode_ci;",
            "SET AUTOCOMMIT = 0",
            "SET autocommit=1",
            "SET @@session.autocommit = OFF",
            "SET SESSION autocommit=1, sql_mode='STRICT_TRANS_TABLES,NO_ZERO_DATE'",
            "SET sql_mode=''",
            "SET time_zone='+00:00'",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET sql_mode=(SELECT CONCAT(@@sql_mode, ',PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION')),time_zone='+00:00',NAMES utf8mb4 COLLATE utf8mb4_unicode_ci;",
            "SET wait_timeout=28800",
            "SET character_set_server = 'utf8mb4'",
            "SET collation_connection = 'utf8mb4_unicode_ci'",
            "SET collation_server = 'utf8mb4_unicode_ci'",
            "set autocommit=1, sql_mode = concat(@@sql_mode,',STRICT_TRANS_TABLES')",
        ] {
            assert!(is_setting(text), "{text}");
        }
    }

    #[test]
    fn what_the_server_may_refuse_or_what_does_more_is_not() {
        for text in [
            "SET NAMES nosuch",
            "SET NAMES utf8mb4 COLLATE latin1_bin",
            "SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci",
            "SET GLOBAL autocommit=0",
            "SET @@global.autocommit=0",
            "SET @a=1",
            "SET autocommit=2",
            "SET autocommit=0; DROP TABLE t",
            "SET autocommit=0+1",
            "SET sql_mode='ANSI'",
            "SET sql_mode = concat(@@sql_mode,',STRICT_TRANS_TABLES'), sql_mode = concat(@@sql_mode,',ANSI')",
            "SET sql_mode = concat(@@sql_mode,',STRICT_TRANS_TABLES') COLLATE utf8mb4_bin",
            "SET character_set_server = 'nosuch'",
            "SET character_set_server = NULL",
            "SET collation_server = 'utf8mb4_0900_ai_ci'",
            "SET collation_connection = DEFAULT",
            "SET sql_mode='NO_SUCH_MODE'",
            "SET time_zone='Europe/Berlin'",
            "SET time_zone='+15:00'",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ",
            "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE 'x",
            "SET max_execution_time=1",
            "SET wait_timeout=0",
            "SET",
            "SET NAMES",
            "SET autocommit=1,",
            "SET autocommit='1",
            "/* c */ SET autocommit=1",
            "SET PASSWORD='x'",
        ] {
            assert_eq!(recognise(text.as_bytes()), None, "{text}");
        }
        let long = format!("SET NAMES utf8mb4{}", " ".repeat(TEXT_BYTES_MAX));
        assert_eq!(recognise(long.as_bytes()), None);
    }

    #[test]
    fn what_mariadb_s_odbc_driver_sends() {
        let several = |text: &'static str| recognise_settings(text.as_bytes(), true);
        let settings = several("SET SESSION SQL_AUTO_IS_NULL=0;SET autocommit=1").unwrap();
        let texts: Vec<_> = settings.iter().map(|(text, _)| *text).collect();
        assert_eq!(texts, [&b"SET SESSION SQL_AUTO_IS_NULL=0"[..], b"SET autocommit=1"]);
        let tracker = "SET session_track_schema= ON;SET session_track_system_variables='autocommit,tx_isolation'";
        let asked = recognise_tracker(tracker.as_bytes(), true).unwrap();
        assert_eq!((asked[0].schema, asked[0].variables), (Some(true), None));
        assert_eq!(
            (asked[1].schema, asked[1].variables),
            (None, hears::Variables::read("autocommit,tx_isolation"))
        );
        assert_eq!(
            recognise_tracker(tracker.as_bytes(), false),
            None,
            "the server refuses it"
        );
        for other in [
            "SET autocommit=1;DROP TABLE t",
            "SET autocommit=1;;",
            "SET time_zone='+00:00\\';SET autocommit=1';SET autocommit=0",
            "SET autocommit=1, session_track_schema=ON",
            "SET session_track_schema=ON, session_track_state_change=ON",
            "SET session_track_system_variables='*'",
            "SET GLOBAL session_track_schema=ON",
            "",
        ] {
            assert_eq!(recognise_settings(other.as_bytes(), true), None, "{other}");
        }
        assert_eq!(
            recognise_tracker(b"SET session_track_schema=ON;SET autocommit=1", true),
            None
        );
    }

    #[test]
    fn effects_and_what_is_tracked() {
        let Some(Recognised::Setting { effect, tracked }) = recognise(b"SET NAMES latin1, autocommit=0") else {
            panic!()
        };
        assert_eq!(effect.autocommit, Some(false));
        assert_eq!(
            effect.results,
            Some(Some(ResultsCharset {
                collation: 8,
                bytes_max: 1
            }))
        );
        assert_eq!(tracked[0], ("character_set_client", "latin1".to_owned()));
        assert_eq!(tracked[3], ("autocommit", "OFF".to_owned()));
    }

    #[test]
    fn questions_keep_their_spelling() {
        let Some(Recognised::Variables(asked)) = recognise(b"select @@Version_Comment, @@session.wait_timeout LIMIT 1")
        else {
            panic!()
        };
        assert_eq!(asked[0].expression, "@@Version_Comment");
        assert_eq!(asked[1].variable, "wait_timeout");
        for text in [
            "SELECT 1",
            "SELECT @@a AS b",
            "SELECT @@a LIMIT 2",
            "SELECT @a",
            "SELECT @@a FROM t",
            "SELECT",
        ] {
            assert_eq!(recognise(text.as_bytes()), None, "{text}");
        }
    }
}
