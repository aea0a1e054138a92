//! What a session's state is, as far as computes have told: session variables, schema, transaction. Filled by the session
//! tracker's reports in OK packets while attached, replaced by the inventory's exact reading before a park, and the
//! source of what is restored at the next attach.

use std::collections::BTreeMap;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::ok::OkPacket;
use mysql_wire::session_track::{Change, changes};
use mysql_wire::status::StatusFlags;

use super::hears::Hears;
use crate::meter::Class;
use crate::text::contains;

/// Reported, and not to be set again: they follow the schema, or belong to the connection.
const NOT_KEPT: [&str; 3] = ["character_set_database", "collation_database", "pseudo_thread_id"];
/// Two names of one variable, which statements change as well.
const INSERT_IDS: [&str; 2] = ["last_insert_id", "identity"];
/// Reported when they are set, not when a statement uses them up or the clock takes over again.
const USED_UP: [&str; 4] = ["timestamp", "insert_id", "rand_seed1", "rand_seed2"];
/// What a statement's meaning depends on when it is prepared.
const MODES: [&str; 4] = [
    "sql_mode",
    "character_set_client",
    "character_set_connection",
    "collation_connection",
];

/// See the head of this file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// Session variables that are not as a new session has them.
    pub(super) variables: BTreeMap<String, String>,
    /// LAST_INSERT_ID(), where it was set or an OK told of an id since it was last read.
    pub(super) insert_id: Option<u64>,
    /// Statements that make the next transaction what was asked for (SET TRANSACTION).
    pub(super) characteristics: String,
    pub(super) in_transaction: bool,
    /// Something has changed that no report explains.
    pub(super) unexplained: bool,
    /// Grows when a report changes one of the modes a statement is prepared under.
    pub(super) modes_version: u32,
    /// `modes_version` when an inventory last read them.
    modes_version_read: u32,
    /// The client has set up the tracker itself: reports are its own and say nothing reliable.
    pub(crate) opaque: bool,
    /// Of reports to the gateway's tracker.
    pub(crate) hears: Hears,
}

impl Tracked {
    /// Takes over the report of a SET STATEMENT: its variables are put back when it is over, of which no report tells.
    pub(crate) fn report_of_set_statement(&mut self, ok: &OkPacket<'_>) -> Option<Option<String>> {
        let before = (self.variables.clone(), self.insert_id);
        let schema = self.report(ok);
        (self.variables, self.insert_id) = before;
        self.unexplained = true;
        schema
    }

    /// Takes over an OK's report. Returns the new schema, where there is one.
    pub(crate) fn report(&mut self, ok: &OkPacket<'_>) -> Option<Option<String>> {
        self.status(ok.status);
        let Some(block) = ok.session_track else {
            // The flag without a payload: something has changed, nobody knows what.
            self.unexplained = true;
            return None;
        };
        let mut schema = None;
        let (mut changed, mut explained) = (false, false);
        for change in changes(block) {
            match change {
                Ok(Change::SystemVariable { name, value }) => {
                    explained = true;
                    self.variable(name, value);
                }
                Ok(Change::Schema(name)) => {
                    explained = true;
                    let name = String::from_utf8_lossy(name).into_owned();
                    schema = Some((!name.is_empty()).then_some(name));
                }
                Ok(Change::StateChange(_)) => changed = true,
                Ok(Change::TransactionCharacteristics(text)) => {
                    self.characteristics = String::from_utf8_lossy(text).into_owned();
                }
                Ok(Change::TransactionState(letters)) => {
                    self.in_transaction = letters.iter().any(|letter| *letter != b'_');
                }
                Ok(Change::Gtids(_) | Change::Unknown { .. }) => {}
                Err(_) => self.unexplained = true,
            }
        }
        self.unexplained |= changed && !explained;
        schema
    }

    fn variable(&mut self, name: &[u8], value: &[u8]) {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            self.unexplained = true;
            return;
        };
        if INSERT_IDS.contains(&name) {
            self.insert_id = value.parse().ok();
            return;
        }
        if USED_UP.contains(&name) {
            self.unexplained = true;
            return;
        }
        if MODES.contains(&name) {
            self.modes_version += 1;
        }
        if !NOT_KEPT.contains(&name) {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
    }

    /// An OK told of a new AUTO_INCREMENT value.
    pub(crate) fn made_id(&mut self, id: u64) {
        self.insert_id = Some(id);
    }

    /// The status of any OK or EOF that was looked at.
    pub(crate) fn status(&mut self, status: StatusFlags) {
        if status.contains(StatusFlags::IN_TRANS) {
            self.in_transaction = true;
        }
    }

    /// A statement that may change what no report tells of: user variables, locks, temporary tables.
    pub(crate) fn hidden(&mut self) {
        self.unexplained = true;
    }

    /// A statement that may change modes without a report. They must have been read for what was prepared before it.
    pub(crate) fn modes_may_change(&mut self) {
        self.modes_version += 1;
    }

    /// The modes have been read as they are now.
    pub(super) fn modes_read(&mut self) {
        self.modes_version_read = self.modes_version;
    }

    /// May the session go on elsewhere with what is known, its compute having died?
    pub(crate) fn is_plain(&self) -> bool {
        !self.in_transaction && !self.unexplained && !self.opaque
    }

    /// Everything has been read, or is known to be lost: what was reported before is of no more use.
    pub(super) fn inventoried(&mut self) {
        if self.in_transaction {
            self.characteristics.clear();
        }
        self.variables.clear();
        self.insert_id = None;
        self.in_transaction = false;
        self.unexplained = false;
        self.opaque = false;
        self.modes_version_read = self.modes_version;
    }

    pub(super) fn modes_untouched(&self) -> bool {
        self.modes_version == self.modes_version_read
    }

    pub(crate) fn modes_version(&self) -> u32 {
        self.modes_version
    }

    /// Statements that set the reported variables again. Those that cannot be written are left out.
    pub(super) fn restore(&self) -> Vec<String> {
        let written = self.variables.iter().filter_map(|(name, value)| {
            let value = match (name.as_str(), value.as_str()) {
                ("character_set_results", "") => "NULL".into(),
                _ => super::inventory::written(value).ok()?,
            };
            Some(format!("{name}={value}"))
        });
        let written: Vec<_> = written.collect();
        let variables = (!written.is_empty()).then(|| format!("SET {}", written.join(",")));
        let insert_id = self.insert_id.map(|id| format!("SET last_insert_id={id}"));
        variables.into_iter().chain(insert_id).collect()
    }

    /// The statements of a SET TRANSACTION that no transaction has used yet.
    pub(super) fn next_transaction(&self) -> impl Iterator<Item = &str> {
        let statements = self.characteristics.split(';').map(str::trim);
        statements.filter(|statement| statement.starts_with("SET TRANSACTION"))
    }

    /// The OK or EOF frame that a client with these capabilities is to see instead. None: as it stands.
    pub(crate) fn for_client(&self, frame: &[u8], client: Capabilities) -> Option<Vec<u8>> {
        let (header, payload) = frame.split_at_checked(4)?;
        if self.opaque && client.contains(Capabilities::SESSION_TRACK) {
            return None;
        }
        let sequence = header[3];
        let mut out = Vec::with_capacity(frame.len());
        let payload = match OkPacket::decode(payload, Capabilities::SESSION_TRACK) {
            Ok(ok) if payload.len() > 5 || payload.first() == Some(&0) => {
                let block = ok
                    .session_track
                    .filter(|_| client.contains(Capabilities::SESSION_TRACK))
                    .map(|block| self.hears.of_report(block))
                    .filter(|block| !block.is_empty());
                let status = match block {
                    Some(_) => ok.status,
                    None => ok.status & !StatusFlags::SESSION_STATE_CHANGED,
                };
                let ok = OkPacket {
                    status,
                    session_track: block.as_deref(),
                    ..ok
                };
                ok.encode(client)
            }
            // An EOF of five bytes, whose report is lost: the flag goes, too.
            _ => {
                let mut eof = payload.to_vec();
                if let Some(high) = eof.get_mut(4) {
                    *high &= !(StatusFlags::SESSION_STATE_CHANGED.0 >> 8) as u8;
                }
                eof
            }
        };
        mysql_wire::frame::write_packet(&mut out, &mut { sequence }, &payload);
        Some(out)
    }
}

/// What a statement's text is looked through for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// It may leave something behind that the tracker does not tell of. Errs towards yes; what a stored function does out
    /// of sight is not seen.
    pub(crate) may_hide: bool,
    /// It may set up the session tracker.
    pub(crate) sets_tracker: bool,
    /// It may be an INSERT or a REPLACE.
    pub(crate) may_insert: bool,
}

/// What the statements of a text are looked through for, by their first words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pieces {
    /// One may ask the server to close the connection after its OK. Errs towards yes; it counts only where the server does.
    pub(crate) releases: bool,
    /// One is a COMMIT or a ROLLBACK.
    pub(crate) ends_transaction: bool,
    /// One is a SET STATEMENT.
    pub(crate) sets_for_statement: bool,
    /// One may set another role.
    pub(crate) sets_role: bool,
    /// What the first one is counted as.
    pub(crate) class: Class,
}

/// Looks at what a text begins with and at what follows each semicolon in it, also inside of strings.
pub(crate) fn read_pieces(text: &[u8]) -> Pieces {
    // Where the first of each kind begins: what a later one holds, it holds, too, and each is searched once, however many
    // semicolons there are.
    let (mut ends, mut sets, mut names_role) = (None, None, None);
    let mut read = |at: usize| {
        let word = first_word(&text[at..]);
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        if is(b"COMMIT") || is(b"ROLLBACK") {
            ends.get_or_insert(at);
        } else if is(b"SET") {
            sets.get_or_insert(at);
            names_role.get_or_insert(at);
        } else if word.is_empty() || is(b"EXECUTE") || is(b"PREPARE") || is(b"BEGIN") {
            names_role.get_or_insert(at);
        }
    };
    read(0);
    memchr::memchr_iter(b';', text).for_each(|at| read(at + 1));
    let holds = |from: Option<usize>, word| from.is_some_and(|at| contains(&text[at..], word));
    Pieces {
        ends_transaction: ends.is_some(),
        releases: holds(ends, b"release"),
        sets_for_statement: holds(sets, b"statement"),
        sets_role: holds(names_role, b"role"),
        class: Class::of(text),
    }
}

/// Looks at the first word and at what follows each `@` and `_`; one pass, nothing is parsed.
pub(crate) fn read_text(text: &[u8]) -> Read {
    let word = first_word(text);
    let mut read = Read {
        may_hide: hides(word, text),
        sets_tracker: false,
        may_insert: matches!(word.first(), Some(b'I' | b'i' | b'R' | b'r')),
    };
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'@', b'_', rest)) {
        at += found + 1;
        let (before, after) = (&text[..at - 1], &text[at..]);
        if text[at - 1] == b'@' {
            // @@name is a system variable.
            match after.first() {
                Some(b'@') => {
                    read.may_hide |= is_set_untold(&after[1..]);
                    at += 1;
                }
                _ => read.may_hide = true,
            }
        } else if ends_with(before, b"get") && starts_with(after, b"lock") {
            read.may_hide = true;
        } else if ends_with(before, b"last_insert") && starts_with(after, b"id") && has_argument(&after[2..]) {
            // It becomes the argument; of an OK that carries the id no more is known than that.
            read.may_hide = true;
        } else if ends_with(before, b"session") && starts_with(after, b"track_") {
            read.sets_tracker = !only_reads(text);
        }
    }
    read
}

/// What follows an `@@` may be set there, and MariaDB's tracker not tell of it: it tells of `@@session.name = 1` and of `name =
/// 1`, and nothing of `@@name = 1`.
fn is_set_untold(after: &[u8]) -> bool {
    let in_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = after.iter().position(|byte| !in_a_name(byte)).unwrap_or(after.len());
    if end == 0 {
        // Quoted.
        return true;
    }
    // Comments may stand before the sign.
    let next = after[end..].trim_ascii_start().first();
    matches!(next, Some(b'=' | b':' | b'/' | b'#' | b'-'))
}

/// One statement that asks for something.
fn only_reads(text: &[u8]) -> bool {
    let begins = text.trim_ascii_start();
    let asks = starts_with(begins, b"select") || starts_with(begins, b"show");
    asks && memchr::memchr(b';', text).is_none()
}

/// A call with something between its parentheses.
fn has_argument(text: &[u8]) -> bool {
    let argument = text.trim_ascii_start().strip_prefix(b"(");
    argument.is_some_and(|argument| !argument.trim_ascii_start().starts_with(b")"))
}

/// Empty before anything that is no word, such as a comment.
fn first_word(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic());
    &text[..end.unwrap_or(text.len())]
}

fn hides(word: &[u8], text: &[u8]) -> bool {
    let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
    // By far the most common, and none of the others.
    match word.first().map(u8::to_ascii_uppercase) {
        None => true,
        // The tracker reports the character sets of SET NAMES, not the collation.
        Some(b'S') => is(b"SET") && contains(text, b"collat"),
        Some(b'I' | b'U' | b'D' | b'R') => false,
        // A compound statement; transactions show by themselves.
        Some(b'B') => (is(b"BEGIN") && text.len() >= 16) || is(b"BACKUP"),
        Some(b'C') => is(b"CALL") || (is(b"CREATE") && contains(text, b"temporary")),
        // The OK of a LOAD tells of no id that it made.
        Some(_) => [
            &b"HANDLER"[..],
            b"FLUSH",
            b"LOCK",
            b"LOAD",
            b"EXECUTE",
            b"PREPARE",
            b"XA",
        ]
        .into_iter()
        .any(is),
    }
}

/// May it change what a statement's text means when it is prepared? Errs towards yes.
pub(crate) fn may_set_modes(text: &[u8]) -> bool {
    [&b"mode"[..], b"names", b"char", b"collat", b"call", b"execute"]
        .iter()
        .any(|word| contains(text, word))
}

fn ends_with(text: &[u8], lower: &[u8]) -> bool {
    text.len() >= lower.len() && text[text.len() - lower.len()..].eq_ignore_ascii_case(lower)
}

fn starts_with(text: &[u8], lower: &[u8]) -> bool {
    text.get(..lower.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(lower))
}

#[cfg(test)]
mod tests {
    use mysql_wire::session_track::encode_system_variables;

    use super::*;

    fn reported(tracked: &mut Tracked, block: &[u8]) -> Option<Option<String>> {
        tracked.report(&OkPacket {
            status: StatusFlags::SESSION_STATE_CHANGED,
            session_track: Some(block),
            ..OkPacket::default()
        })
    }

    fn block(changes: &[Change<'_>]) -> Vec<u8> {
        let mut block = Vec::new();
        changes.iter().for_each(|change| change.encode(&mut block));
        block
    }

    #[test]
    fn variables_and_schema_explain_a_change_and_nothing_else_does() {
        let mut tracked = Tracked::default();
        let variable = Change::SystemVariable {
            name: b"sql_mode",
            value: b"ANSI",
        };
        assert_eq!(
            reported(&mut tracked, &block(&[variable, Change::StateChange(true)])),
            None
        );
        let schema = reported(&mut tracked, &block(&[Change::Schema(b"d"), Change::StateChange(true)]));
        assert_eq!(schema, Some(Some("d".into())));
        assert!(tracked.is_plain());
        assert_eq!(
            (tracked.variables["sql_mode"].as_str(), tracked.modes_version),
            ("ANSI", 1)
        );
        reported(&mut tracked, &block(&[Change::StateChange(true)]));
        assert!(!tracked.is_plain(), "SET @a=1 looks like this");
    }

    #[test]
    fn a_report_that_went_missing_explains_nothing() {
        let mut tracked = Tracked::default();
        tracked.report(&OkPacket {
            status: StatusFlags::SESSION_STATE_CHANGED,
            ..OkPacket::default()
        });
        assert!(!tracked.is_plain());
    }

    #[test]
    fn a_transaction_is_not_plain_and_the_characteristics_of_the_next_one_are_kept() {
        let mut tracked = Tracked::default();
        reported(&mut tracked, &block(&[Change::TransactionState(b"T_______")]));
        assert!(!tracked.is_plain());
        reported(&mut tracked, &block(&[Change::TransactionState(b"________")]));
        assert!(tracked.is_plain());
        let next = Change::TransactionCharacteristics(b"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;");
        reported(&mut tracked, &block(&[next]));
        assert!(tracked.is_plain());
        assert_eq!(tracked.next_transaction().count(), 1);
    }

    #[test]
    fn clients_hear_what_a_direct_connection_would_tell() {
        let variables = encode_system_variables([("sql_mode", "ANSI"), ("autocommit", "OFF")]);
        let report = [&variables[..], &block(&[Change::StateChange(true)])].concat();
        let ok = OkPacket {
            status: StatusFlags::SESSION_STATE_CHANGED,
            session_track: Some(&report),
            info: b"info",
            ..OkPacket::default()
        };
        let mut frame = Vec::new();
        mysql_wire::frame::write_packet(&mut frame, &mut 5, &ok.encode(Capabilities::SESSION_TRACK));
        let tracked = Tracked::default();
        let seen = tracked.for_client(&frame, Capabilities::SESSION_TRACK).unwrap();
        let told = OkPacket::decode(&seen[4..], Capabilities::SESSION_TRACK).unwrap();
        assert_eq!(seen[3], 5);
        assert_eq!(
            told.session_track,
            Some(&encode_system_variables([("autocommit", "OFF")])[..])
        );
        let seen = tracked.for_client(&frame, Capabilities::EMPTY).unwrap();
        let told = OkPacket::decode(&seen[4..], Capabilities::EMPTY).unwrap();
        assert_eq!((told.status, told.info), (StatusFlags::EMPTY, &b"info"[..]));
        let eof = [5, 0, 0, 9, 0xfe, 0, 0, 0x02, 0x40];
        assert_eq!(
            tracked.for_client(&eof, Capabilities::EMPTY).unwrap(),
            [5, 0, 0, 9, 0xfe, 0, 0, 0x02, 0]
        );
    }

    #[test]
    fn texts_that_set_up_the_tracker() {
        for text in [
            "SET session_track_schema=OFF",
            "set @@SESSION.Session_Track_state_change = 1",
        ] {
            assert!(read_text(text.as_bytes()).sets_tracker, "{text}");
        }
        for text in [
            "SELECT session_tracker, mysession_trac FROM t",
            "SELECT session_",
            "_track_",
        ] {
            assert!(!read_text(text.as_bytes()).sets_tracker, "{text}");
        }
    }

    #[test]
    fn what_the_statements_of_a_text_begin_with() {
        let pieces = |text: &str| read_pieces(text.as_bytes());
        for text in [
            "COMMIT RELEASE",
            "rollback and no chain release",
            "SELECT 1; COMMIT RELEASE",
        ] {
            assert!(pieces(text).releases && pieces(text).ends_transaction, "{text}");
        }
        for text in ["COMMIT", "RELEASE SAVEPOINT a", "SELECT 'release'", ""] {
            assert!(!pieces(text).releases, "{text}");
        }
        assert!(pieces("commit").ends_transaction);
        for text in ["SET STATEMENT a=1 FOR SELECT 1", "DO 1; set statement a=1 for do 2"] {
            assert!(pieces(text).sets_for_statement, "{text}");
        }
        for text in [
            "SET ROLE a",
            "DO 1;set role none",
            "EXECUTE IMMEDIATE 'SET ROLE a'",
            "/* x */ SET ROLE a",
        ] {
            assert!(pieces(text).sets_role, "{text}");
        }
        for text in ["SET a = 1", "SELECT role, statement FROM t", "CREATE ROLE a", ";", "x;"] {
            let none = Pieces {
                class: Class::of(text.as_bytes()),
                ..Pieces::default()
            };
            assert_eq!(pieces(text), none, "{text}");
        }
    }

    #[test]
    fn what_a_set_statement_reports_is_put_back_and_not_kept() {
        let mut tracked = Tracked::default();
        let variable = Change::SystemVariable {
            name: b"max_statement_time",
            value: b"9.000000",
        };
        let block = block(&[variable, Change::StateChange(true)]);
        let ok = OkPacket {
            status: StatusFlags::SESSION_STATE_CHANGED,
            session_track: Some(&block),
            ..OkPacket::default()
        };
        tracked.report_of_set_statement(&ok);
        assert!(tracked.restore().is_empty());
        assert!(!tracked.is_plain(), "what it ran may have changed the session");
    }

    #[test]
    fn texts_that_may_hide_something() {
        for text in [
            "SELECT @a := 1",
            "select 1 into @b",
            "SELECT GET_LOCK('x', 1)",
            " do get_lock('x',1)",
            "CREATE TEMPORARY TABLE t SELECT 1",
            "create or replace temporary table t(a int)",
            "CALL p()",
            "HANDLER t OPEN",
            "FLUSH TABLES WITH READ LOCK",
            "/* x */ select 1",
            "BEGIN NOT ATOMIC SET @a = 1; END",
            "SET NAMES latin1 COLLATE latin1_bin",
            "UPDATE s SET id = LAST_INSERT_ID(id + 1)",
            "select last_insert_id ( 7)",
            "LOAD DATA LOCAL INFILE 'x' INTO TABLE t",
            "SET @@time_zone = '+01:00'",
            "SET autocommit=1, @@sql_mode:=''",
            "set @@`sql_mode`/**/=''",
        ] {
            assert!(read_text(text.as_bytes()).may_hide, "{text}");
        }
        for text in [
            "SELECT a_b FROM t_c WHERE d = 'x'",
            "SELECT @@version_comment",
            "INSERT INTO t VALUES (1)",
            "BEGIN",
            "COMMIT",
            "SET autocommit=0",
            "CREATE TABLE t (a INT)",
            "get_loc",
            "x_lock",
            "SELECT LAST_INSERT_ID( ), @@last_insert_id",
            "SELECT _",
            "SELECT last_insert_",
            "SELECT last_insert_id",
        ] {
            assert!(!read_text(text.as_bytes()).may_hide, "{text}");
        }
    }
}
