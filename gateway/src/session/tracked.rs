//! What a session's state is, as far as computes have told: session variables, schema, transaction. Filled by the session
//! tracker's reports in OK packets while attached, replaced by the inventory's exact reading before a park, and the
//! source of what is restored at the next attach.

use std::collections::BTreeMap;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::ok::OkPacket;
use mysql_wire::session_track::{Change, changes};
use mysql_wire::status::StatusFlags;

/// Variables that a client with session tracking hears of unless it asks for others: MariaDB's own default.
const TOLD_BY_DEFAULT: [&[u8]; 5] = [
    b"autocommit",
    b"character_set_client",
    b"character_set_connection",
    b"character_set_results",
    b"time_zone",
];
/// Reported, and not to be set again: they follow the schema, belong to the connection, or are read otherwise.
const NOT_KEPT: [&str; 9] = [
    "character_set_database",
    "collation_database",
    "timestamp",
    "last_insert_id",
    "identity",
    "insert_id",
    "rand_seed1",
    "rand_seed2",
    "pseudo_thread_id",
];
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
}

impl Tracked {
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
        if name == "timestamp" {
            // Its report does not tell a set one from one that is the clock's again.
            self.unexplained = true;
        }
        if MODES.contains(&name) {
            self.modes_version += 1;
        }
        if !NOT_KEPT.contains(&name) {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
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

    /// One statement that sets the reported variables again. Those that cannot be written are left out.
    pub(super) fn restore(&self) -> Option<String> {
        let written = self.variables.iter().filter_map(|(name, value)| {
            let value = match (name.as_str(), value.as_str()) {
                ("character_set_results", "") => "NULL".into(),
                _ => super::inventory::written(value).ok()?,
            };
            Some(format!("{name}={value}"))
        });
        let written: Vec<_> = written.collect();
        (!written.is_empty()).then(|| format!("SET {}", written.join(",")))
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
                    .map(told)
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

/// Of a report, what a client hears that never asked for more.
fn told(block: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for change in changes(block).flatten() {
        let told = match change {
            Change::SystemVariable { name, .. } => TOLD_BY_DEFAULT.contains(&name),
            Change::Schema(_) => true,
            _ => false,
        };
        if told {
            change.encode(&mut kept);
        }
    }
    kept
}

/// What a statement's text is looked through for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// It may leave something behind that the tracker does not tell of. Errs towards yes; what a stored function does out
    /// of sight is not seen.
    pub(crate) may_hide: bool,
    /// It may set up the session tracker.
    pub(crate) sets_tracker: bool,
}

/// Looks at the first word and at what follows each `@` and `_`; one pass, nothing is parsed.
pub(crate) fn read_text(text: &[u8]) -> Read {
    let mut read = Read {
        may_hide: first_word_hides(text),
        sets_tracker: false,
    };
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'@', b'_', rest)) {
        at += found + 1;
        let (before, after) = (&text[..at - 1], &text[at..]);
        if text[at - 1] == b'@' {
            // @@name is a system variable, which is reported.
            match after.first() {
                Some(b'@') => at += 1,
                _ => read.may_hide = true,
            }
        } else if ends_with(before, b"get") && starts_with(after, b"lock") {
            read.may_hide = true;
        } else if ends_with(before, b"session") && starts_with(after, b"track_") {
            read.sets_tracker = !only_reads(text);
        }
    }
    read
}

/// One statement that asks for something.
fn only_reads(text: &[u8]) -> bool {
    let asks = starts_with(text, b"select") || starts_with(text, b"show");
    asks && memchr::memchr(b';', text).is_none()
}

fn first_word_hides(text: &[u8]) -> bool {
    let first = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let word = &text[first..];
    let word = &word[..word
        .iter()
        .position(|byte| !byte.is_ascii_alphabetic())
        .unwrap_or(word.len())];
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
        Some(_) => [&b"HANDLER"[..], b"FLUSH", b"LOCK", b"EXECUTE", b"PREPARE", b"XA"]
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

fn contains(text: &[u8], lower: &[u8]) -> bool {
    text.windows(lower.len())
        .any(|window| window.eq_ignore_ascii_case(lower))
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
        ] {
            assert_eq!(read_text(text.as_bytes()), Read::default(), "{text}");
        }
    }
}
