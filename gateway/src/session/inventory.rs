//! What a compute is asked before a session gives up its connection, and what the answers mean: either everything needed
//! to make another connection the same ([`Inventory`]'s reading), or what ties the session to this one ([`Pin`]).
//!
//! The session itself is asked, because no tracker tells of user variables set inside a SELECT, of locks, of temporary
//! tables made by a SELECT, of HANDLERs. All questions go in one write; a second one follows only where there are user
//! variables, whose bytes the first cannot show. None of them changes what it asks for: what reads the diagnostics of the
//! statement before comes first.

use std::fmt::Write;
use std::sync::Arc;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::ok::OkPacket;
use mysql_wire::session_track::{Change, changes};
use mysql_wire::status::StatusFlags;
use mysql_wire::text_rows::{self, Row, TextRows};

use super::life::Pin;
use super::previous::{Diagnostics, Previous};
use super::statements::Modes;
use super::{Replay, Session};
use crate::answer::diagnostics::not_kept;

/// Answers to all questions together; a session with more state than this stays where it is.
pub(crate) const ANSWERS_BYTES_MAX: usize = 256 << 10;
/// User variables that are carried along; an application has a handful.
const USER_VARIABLES_MAX: usize = 64;
/// Values longer than any sensible setting are not set again.
const VALUE_BYTES_MAX: usize = 4096;

/// Everything that has one value. Column names do not matter; the order does.
const SCALARS: &str = "SELECT ROW_COUNT(),FOUND_ROWS(),@@warning_count,@@error_count,LAST_INSERT_ID(),@@timestamp,\
    DATABASE(),CURRENT_ROLE(),@@character_set_client,@@character_set_results,@@collation_connection,@@in_transaction,\
    @@insert_id,@@rand_seed1,@@rand_seed2,@@sql_mode,@@autocommit LIMIT 1";
const SCALARS_LEN: usize = 17;
/// Among them, one that is text whatever it holds.
const SQL_MODE: usize = 15;
const WARNINGS: &str = "SHOW WARNINGS";
/// Session variables that are not as a new session has them. Those left out are read elsewhere, cannot be set, or follow
/// from others.
const VARIABLES: &str = "SELECT LOWER(VARIABLE_NAME),SESSION_VALUE FROM information_schema.SYSTEM_VARIABLES \
    WHERE SESSION_VALUE IS NOT NULL AND NOT SESSION_VALUE<=>GLOBAL_VALUE AND VARIABLE_NAME NOT IN (\
    'PROXY_USER','EXTERNAL_USER','TIMESTAMP','LAST_INSERT_ID','IDENTITY','INSERT_ID','RAND_SEED1','RAND_SEED2',\
    'PSEUDO_THREAD_ID','ERROR_COUNT','WARNING_COUNT','IN_TRANSACTION','LAST_GTID','WSREP_GTID_SEQ_NO',\
    'CHARACTER_SET_CLIENT','CHARACTER_SET_CONNECTION','CHARACTER_SET_RESULTS','COLLATION_CONNECTION',\
    'CHARACTER_SET_DATABASE','COLLATION_DATABASE','MAX_ALLOWED_PACKET','NET_BUFFER_LENGTH','MAX_USER_CONNECTIONS') \
    LIMIT 2000";
/// Only users with rights beyond a tenant's may set them; each with the value of a session that never did.
const NOT_FOR_TENANTS: [(&str, &str); 5] = [
    ("pseudo_slave_mode", "OFF"),
    ("skip_replication", "OFF"),
    ("skip_parallel_replication", "OFF"),
    ("gtid_seq_no", "0"),
    ("default_master_connection", ""),
];
const USER_VARIABLES: &str = "SELECT VARIABLE_NAME,VARIABLE_TYPE,VARIABLE_VALUE,CHARACTER_SET_NAME \
    FROM information_schema.USER_VARIABLES LIMIT 1000";
const COUNTERS: &str = "SELECT VARIABLE_NAME,VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN \
    ('COM_CREATE_TEMPORARY_TABLE','COM_HA_OPEN','COM_PREPARE_SQL','COM_STMT_PREPARE','COM_STMT_CLOSE','COM_SAVEPOINT') \
    LIMIT 100";
/// How many locks there are, and beside it the numbers of two collations: the connection's, and the usual one of results.
const LOCKS: &str = "SELECT COUNT(*),(SELECT MAX(ID) FROM information_schema.COLLATIONS \
    WHERE COLLATION_NAME=@@collation_connection),(SELECT MAX(ID) FROM information_schema.COLLATIONS \
    WHERE CHARACTER_SET_NAME=@@character_set_results AND IS_DEFAULT='Yes') \
    FROM information_schema.METADATA_LOCK_INFO WHERE THREAD_ID=CONNECTION_ID() LIMIT 1";
/// Makes the tracker tell under which modes statements are prepared now: a variable that is set to what it is is reported, and
/// nothing else that a client could ask for changes.
pub(crate) const MODES: &str = "SET sql_mode=@@sql_mode,character_set_client=@@character_set_client,\
    collation_connection=@@collation_connection";
/// Once more: a clock goes on, a timestamp that was set stands still.
const TIMESTAMP: &str = "SELECT @@timestamp LIMIT 1";

/// An inventory under way.
#[derive(Debug)]
pub(crate) struct Inventory {
    capabilities: Capabilities,
    answers: Vec<Vec<u8>>,
    bytes: usize,
    failed: bool,
    /// Those whose bytes are asked for in the second round; there where it has begun.
    user_variables: Option<Vec<UserVariable>>,
    /// Among the second round's answers.
    values_at: Option<usize>,
    collation_at: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UserVariable {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// As it is to be written.
    Literal(String),
    /// Its bytes are to be asked for.
    Text { charset: String },
    /// NULL, of the type that this value has.
    Null(String),
}

/// What an inventory came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// There is more to ask.
    Ask(Replay),
    /// The session has taken over what was read; nothing ties it.
    Free,
    Tied(Pin),
}

impl Inventory {
    /// The first round of questions.
    pub(crate) fn begin(capabilities: Capabilities) -> (Self, Replay) {
        let mut questions = Replay::default();
        for question in [SCALARS, WARNINGS, VARIABLES, USER_VARIABLES, COUNTERS, LOCKS, TIMESTAMP] {
            questions.query(question);
        }
        let inventory = Self {
            capabilities,
            answers: Vec::new(),
            bytes: 0,
            failed: false,
            user_variables: None,
            values_at: None,
            collation_at: None,
        };
        (inventory, questions)
    }

    /// One question's whole answer.
    pub(crate) fn answered(&mut self, answer: &[u8], in_error: bool) {
        self.bytes += answer.len();
        self.failed |= in_error || self.bytes > ANSWERS_BYTES_MAX;
        self.answers
            .push(if self.failed { Vec::new() } else { answer.to_vec() });
    }

    /// All questions of a round are answered.
    pub(crate) fn conclude(&mut self, session: &mut Session) -> Outcome {
        if self.user_variables.is_none() {
            // Whatever the answers come to, the questions have taken its place at the compute.
            session.previous = self.previous();
        }
        let read = match self.failed {
            true => Err(Pin::Unknown),
            false => self.read(session),
        };
        read.unwrap_or_else(|pin| {
            keep_previous(session);
            Outcome::Tied(pin)
        })
    }

    /// What the client's last statement left, as far as it was read.
    fn previous(&self) -> Previous {
        // An answer from which on there were too many bytes is empty.
        let show_warnings = self.answers.get(1).filter(|answer| !answer.is_empty());
        match self.scalars() {
            Ok((scalars, _)) => Previous::Read(scalars.diagnostics(show_warnings)),
            Err(_) => Previous::Lost(not_kept()),
        }
    }

    /// The first answer's row, and the number of the collation that its text came in.
    fn scalars(&self) -> Result<(Scalars, String), Pin> {
        let read = self.result(0)?;
        let results_collation = read.collations.get(SQL_MODE).map(u16::to_string).unwrap_or_default();
        let row = read
            .rows
            .first()
            .filter(|row| row.len() == SCALARS_LEN)
            .ok_or(Pin::Unknown)?;
        Ok((Scalars::read(row)?, results_collation))
    }

    fn rows(&self, at: usize) -> Result<Vec<Row<'_>>, Pin> {
        self.result(at).map(|result| result.rows)
    }

    fn result(&self, at: usize) -> Result<TextRows<'_>, Pin> {
        let answer = self.answers.get(at).ok_or(Pin::Unknown)?;
        let (result, rest) = text_rows::read(answer, self.capabilities).map_err(|_| Pin::Unknown)?;
        if rest.is_empty() { Ok(result) } else { Err(Pin::Unknown) }
    }

    fn read(&mut self, session: &mut Session) -> Result<Outcome, Pin> {
        let (variables, user_variables, counters, locks, timestamp, asked) = (2, 3, 4, 5, 6, 7);
        let (scalars, results_collation) = self.scalars()?;
        let counters = Counters::read(&self.rows(counters)?)?;
        if scalars.in_transaction || session.tracked.in_transaction {
            return Err(Pin::Transaction);
        }
        counters.check(&scalars, session.statements.prepared_here())?;
        let locks = self.rows(locks)?;
        if single(&locks)? != "0" {
            return Err(Pin::Lock);
        }
        // SET NAMES with a collation makes it that of results, too, which shows in their columns alone.
        let is_results = |at: usize| {
            let collation = locks.first().and_then(|row| row.get(at).copied().flatten());
            collation == Some(results_collation.as_bytes())
        };
        let (is_connections, is_usual) = (is_results(1), is_results(2) || scalars.character_set_results.is_none());
        let changed = read_variables(&self.rows(variables)?)?;
        if self.user_variables.is_none() {
            let found = read_user_variables(&self.rows(user_variables)?, scalars.speaks_utf8())?;
            let mut questions = Replay::default();
            if let Some(question) = question_for(&found) {
                self.values_at = Some(asked + questions.commands.len());
                questions.query(&question);
            }
            if !is_connections && !is_usual {
                self.collation_at = Some(asked + questions.commands.len());
                let collation = number(&results_collation)?;
                questions.query(&format!(
                    "SELECT COLLATION_NAME FROM information_schema.COLLATIONS WHERE ID={collation} LIMIT 1"
                ));
            }
            self.user_variables = Some(found);
            if !questions.commands.is_empty() {
                return Ok(Outcome::Ask(questions));
            }
        }
        let results_collation = match self.collation_at {
            Some(at) => Some(single(&self.rows(at)?)?),
            None => (!is_usual).then(|| scalars.collation_connection.clone()),
        };
        let mut statements = vec![scalars.restore(&changed, results_collation.as_deref())?];
        let row = match self.values_at {
            Some(at) => self.rows(at)?,
            None => Vec::new(),
        };
        let texts = row.first().map(Vec::as_slice).unwrap_or_default();
        statements.extend(restore_user_variables(
            self.user_variables.as_deref().unwrap_or_default(),
            texts,
        )?);
        if single(&self.rows(timestamp)?)? == scalars.timestamp {
            statements.push(format!("SET timestamp={}", number(&scalars.timestamp)?));
        }
        // Last: it is for the client's next statement.
        if scalars.last_insert_id != "0" {
            statements.push(format!("SET last_insert_id={}", number(&scalars.last_insert_id)?));
        }
        let modes = Arc::new(Modes {
            sql_mode: scalars.sql_mode.clone(),
            character_set_client: scalars.character_set_client.clone(),
            collation_connection: scalars.collation_connection.clone(),
        });
        session.statements.read_modes(session.tracked.modes_version, &modes);
        if session.statements.lacks_modes() {
            return Err(Pin::Statement);
        }
        match session.take_over(scalars, statements, modes, &changed) {
            true => Ok(Outcome::Free),
            false => Err(Pin::Room),
        }
    }
}

/// What the last statement of a session that stays tied left is kept here from here on. A list of warnings that finds no room
/// is not: whoever asks for it is told so.
fn keep_previous(session: &mut Session) {
    let bytes = session.bytes(session.carried.iter().flatten().chain(&session.settings));
    if !session.kept.resize(bytes)
        && let Previous::Read(known) = &mut session.previous
    {
        known.show_warnings = None;
    }
}

/// The answer to [`MODES`].
pub(super) fn read_modes(answer: &[u8]) -> Option<Modes> {
    let ok = OkPacket::decode(answer.get(4..)?, Capabilities::SESSION_TRACK).ok()?;
    let (mut sql_mode, mut client, mut collation) = (None, None, None);
    for change in changes(ok.session_track?) {
        let Change::SystemVariable { name, value } = change.ok()? else {
            continue;
        };
        let value = String::from_utf8(value.to_vec()).ok();
        match name {
            b"sql_mode" => sql_mode = value,
            b"character_set_client" => client = value,
            b"collation_connection" => collation = value,
            _ => {}
        }
    }
    Some(Modes {
        sql_mode: sql_mode?,
        character_set_client: client?,
        collation_connection: collation?,
    })
}

/// The row of [`SCALARS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalars {
    row_count: String,
    found_rows: String,
    warning_count: String,
    error_count: String,
    last_insert_id: String,
    timestamp: String,
    pub(super) database: Option<String>,
    pub(super) role: Option<String>,
    pub(super) character_set_client: String,
    pub(super) character_set_results: Option<String>,
    pub(super) collation_connection: String,
    in_transaction: bool,
    insert_id: String,
    rand_seeds: [String; 2],
    pub(super) sql_mode: String,
    pub(super) autocommit: bool,
}

impl Scalars {
    fn read(row: &[Option<&[u8]>]) -> Result<Self, Pin> {
        let may_be_null = |at: usize| match row.get(at) {
            Some(Some(value)) => String::from_utf8(value.to_vec()).map(Some).map_err(|_| Pin::Unknown),
            _ => Ok(None),
        };
        let text = |at: usize| may_be_null(at)?.ok_or(Pin::Unknown);
        Ok(Self {
            row_count: text(0)?,
            found_rows: text(1)?,
            warning_count: text(2)?,
            error_count: text(3)?,
            last_insert_id: text(4)?,
            timestamp: text(5)?,
            database: may_be_null(6)?,
            // Sent as the login's character set has it, where another would be another name.
            role: may_be_null(7)?.map_or(Ok(None), |role| match role.is_ascii() {
                true => Ok(Some(role)),
                false => Err(Pin::Variable),
            })?,
            character_set_client: text(8)?,
            character_set_results: may_be_null(9)?,
            collation_connection: text(10)?,
            in_transaction: text(11)? != "0",
            insert_id: text(12)?,
            rand_seeds: [text(13)?, text(14)?],
            sql_mode: text(15)?,
            autocommit: text(16)? == "1",
        })
    }

    /// Names come and go as UTF-8.
    fn speaks_utf8(&self) -> bool {
        let is_utf8 = |charset: &str| matches!(charset, "utf8mb4" | "utf8mb3");
        is_utf8(&self.character_set_client) && self.character_set_results.as_deref().is_some_and(is_utf8)
    }

    fn diagnostics(&self, show_warnings: Option<&Vec<u8>>) -> Diagnostics {
        Diagnostics {
            row_count: self.row_count.as_str().into(),
            found_rows: self.found_rows.as_str().into(),
            warning_count: self.warning_count.as_str().into(),
            error_count: self.error_count.as_str().into(),
            last_insert_id: self.last_insert_id.as_str().into(),
            show_warnings: show_warnings.map(|answer| answer.as_slice().into()),
        }
    }

    /// The statement that sets everything which has a name, in one go: each value is read under the modes of the login.
    /// `results_collation` is that of results where it is not the usual one of their character set.
    fn restore(&self, variables: &[(String, String)], results_collation: Option<&str>) -> Result<String, Pin> {
        let results = match &self.character_set_results {
            Some(charset) => quoted(charset)?,
            None => "NULL".into(),
        };
        let client = quoted(&self.character_set_client)?;
        let collation = quoted(&self.collation_connection)?;
        let mut set = match (results_collation, &self.character_set_results) {
            // Only SET NAMES sets it.
            (Some(named), Some(_)) => format!(
                "SET NAMES {results} COLLATE {},character_set_client={client},collation_connection={collation}",
                quoted(named)?
            ),
            _ => format!(
                "SET character_set_client={client},character_set_results={results},collation_connection={collation}"
            ),
        };
        let [first, second] = &self.rand_seeds;
        let _ = write!(set, ",rand_seed1={},rand_seed2={}", number(first)?, number(second)?);
        if self.insert_id != "0" {
            let _ = write!(set, ",insert_id={}", number(&self.insert_id)?);
        }
        for (name, value) in variables {
            let _ = write!(set, ",{name}={}", written(value)?);
        }
        Ok(set)
    }
}

#[derive(Debug, Default)]
struct Counters {
    temporary_tables: u64,
    handlers: u64,
    text_prepares: u64,
    prepares: u64,
    closes: u64,
    savepoints: u64,
}

impl Counters {
    fn read(rows: &[Row<'_>]) -> Result<Self, Pin> {
        let mut counters = Self::default();
        let mut found = 0;
        for row in rows {
            let [Some(name), Some(value)] = row.as_slice() else {
                return Err(Pin::Unknown);
            };
            let value = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            let value = value.ok_or(Pin::Unknown)?;
            let counter = match *name {
                b"COM_CREATE_TEMPORARY_TABLE" => &mut counters.temporary_tables,
                b"COM_HA_OPEN" => &mut counters.handlers,
                b"COM_PREPARE_SQL" => &mut counters.text_prepares,
                b"COM_STMT_PREPARE" => &mut counters.prepares,
                b"COM_STMT_CLOSE" => &mut counters.closes,
                b"COM_SAVEPOINT" => &mut counters.savepoints,
                _ => return Err(Pin::Unknown),
            };
            *counter = value;
            found += 1;
        }
        if found == 6 { Ok(counters) } else { Err(Pin::Unknown) }
    }

    /// They count attempts, not what is left of them, so this errs towards a pin.
    fn check(&self, scalars: &Scalars, binary_statements: u64) -> Result<(), Pin> {
        if self.temporary_tables > 0 {
            return Err(Pin::TemporaryTable);
        }
        if self.handlers > 0 {
            return Err(Pin::Handler);
        }
        if self.text_prepares > 0 && self.prepares.saturating_sub(self.closes) > binary_statements {
            return Err(Pin::TextPrepare);
        }
        if self.savepoints > 0 && !scalars.autocommit {
            return Err(Pin::Savepoint);
        }
        Ok(())
    }
}

fn read_variables(rows: &[Row<'_>]) -> Result<Vec<(String, String)>, Pin> {
    let mut variables = Vec::new();
    for row in rows {
        let [Some(name), Some(value)] = row.as_slice() else {
            return Err(Pin::Unknown);
        };
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return Err(Pin::Variable);
        };
        if name.starts_with("session_track_") {
            return Err(Pin::Tracker);
        }
        match NOT_FOR_TENANTS.iter().find(|(known, _)| *known == name) {
            Some((_, usual)) if *usual == value => {}
            Some(_) => return Err(Pin::Variable),
            None if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                variables.push((name.to_owned(), value.to_owned()));
            }
            None => return Err(Pin::Variable),
        }
    }
    Ok(variables)
}

fn read_user_variables(rows: &[Row<'_>], utf8: bool) -> Result<Vec<UserVariable>, Pin> {
    if rows.len() > USER_VARIABLES_MAX {
        return Err(Pin::UserVariables);
    }
    rows.iter()
        .map(|row| read_user_variable(row, utf8).ok_or(Pin::UserVariables))
        .collect()
}

fn read_user_variable(row: &[Option<&[u8]>], utf8: bool) -> Option<UserVariable> {
    let [Some(name), Some(kind), value, charset] = row else {
        return None;
    };
    let ascii = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.is_ascii())
            .map(str::to_owned)
    };
    // Another character set would have to be translated both ways, and what it lacks came as a question mark.
    let name = String::from_utf8(name.to_vec())
        .ok()
        .filter(|name| utf8 || name.is_ascii() && !name.contains('?'))?;
    let charset = || ascii((*charset)?);
    let Some(value) = value else {
        let kind = match *kind {
            b"INT" => Kind::Null("0".into()),
            b"INT UNSIGNED" => Kind::Null("CAST(0 AS UNSIGNED)".into()),
            b"DECIMAL" => Kind::Null("0.0".into()),
            b"DOUBLE" => Kind::Null("0e0".into()),
            b"VARCHAR" => Kind::Text { charset: charset()? },
            _ => return None,
        };
        return Some(UserVariable { name, kind });
    };
    let literal = || ascii(value).filter(|value| value.len() <= 100);
    let kind = match *kind {
        b"INT" => Kind::Literal(number(&literal()?).ok()?.to_owned()),
        b"INT UNSIGNED" => Kind::Literal(format!("CAST({} AS UNSIGNED)", number(&literal()?).ok()?)),
        b"DECIMAL" => {
            // Written out as it was, so that columns made of it are as wide; a point makes a whole number a decimal.
            let value = literal()?;
            let point = if number(&value).ok()?.contains('.') { "" } else { "." };
            Kind::Literal(format!("{value}{point}"))
        }
        b"DOUBLE" => {
            let value = literal()?;
            let exponent = if value.contains('e') { "" } else { "e0" };
            value.parse::<f64>().ok().filter(|value| value.is_finite())?;
            Kind::Literal(format!("{value}{exponent}"))
        }
        b"VARCHAR" => Kind::Text { charset: charset()? },
        _ => return None,
    };
    Some(UserVariable { name, kind })
}

/// Asks for the bytes and collations of those that are text. None: there are none.
fn question_for(variables: &[UserVariable]) -> Option<String> {
    let mut question = String::from("SELECT ");
    for variable in variables {
        if let Kind::Text { .. } = variable.kind {
            let name = variable.name.replace('`', "``");
            let comma = if question.len() > 7 { "," } else { "" };
            let _ = write!(question, "{comma}HEX(@`{name}`),COLLATION(@`{name}`)");
        }
    }
    (question.len() > 7).then(|| question + " LIMIT 1")
}

fn restore_user_variables(variables: &[UserVariable], texts: &[Option<&[u8]>]) -> Result<Option<String>, Pin> {
    let mut texts = texts.iter();
    let mut set = String::from("SET ");
    for variable in variables {
        let (value, is_null) = match &variable.kind {
            Kind::Literal(value) => (value.clone(), false),
            Kind::Null(value) => (value.clone(), true),
            Kind::Text { charset } => {
                let (Some(hex), Some(Some(collation))) = (texts.next(), texts.next()) else {
                    return Err(Pin::UserVariables);
                };
                let bytes = String::from_utf8_lossy(hex.unwrap_or_default());
                let collation = String::from_utf8_lossy(collation);
                let value = match charset.as_str() {
                    "binary" => format!("_binary X'{bytes}'"),
                    _ => format!("_{charset} X'{bytes}' COLLATE {collation}"),
                };
                (value, hex.is_none())
            }
        };
        let comma = if set.len() > 4 { "," } else { "" };
        let name = variable.name.replace('`', "``");
        let _ = write!(set, "{comma}@`{name}`={value}");
        if is_null {
            // A NULL written out leaves a variable the type and character set it had.
            let _ = write!(set, ",@`{name}`=NULL");
        }
    }
    Ok((set.len() > 4).then_some(set))
}

fn single(rows: &[Row<'_>]) -> Result<String, Pin> {
    let value = rows.first().and_then(|row| row.first().copied().flatten());
    let value = value.and_then(|value| std::str::from_utf8(value).ok());
    value.map(str::to_owned).ok_or(Pin::Unknown)
}

/// A number as MariaDB prints it.
fn number(text: &str) -> Result<&str, Pin> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain && digits.starts_with(|c: char| c.is_ascii_digit()) && digits.matches('.').count() <= 1 {
        Ok(text)
    } else {
        Err(Pin::Variable)
    }
}

/// A variable's value as it is to be written: numbers bare, because MariaDB refuses them in quotes.
pub(super) fn written(value: &str) -> Result<String, Pin> {
    match number(value) {
        Ok(number) => Ok(number.to_owned()),
        Err(_) => quoted(value),
    }
}

/// In single quotes, which mean the same under every sql_mode where there is no backslash.
fn quoted(value: &str) -> Result<String, Pin> {
    let unsafe_byte = |byte: u8| byte == b'\\' || !(b' '..0x7f).contains(&byte);
    if value.len() > VALUE_BYTES_MAX || value.bytes().any(unsafe_byte) {
        return Err(Pin::Variable);
    }
    Ok(format!("'{}'", value.replace('\'', "''")))
}

/// Status flags that follow from modes.
pub(super) fn status_of(sql_mode: &str, autocommit: bool) -> StatusFlags {
    let mut status = StatusFlags::EMPTY;
    for (mode, flag) in [
        ("ANSI_QUOTES", StatusFlags::ANSI_QUOTES),
        ("NO_BACKSLASH_ESCAPES", StatusFlags::NO_BACKSLASH_ESCAPES),
    ] {
        if sql_mode.split(',').any(|set| set == mode) {
            status = status | flag;
        }
    }
    if autocommit {
        status = status | StatusFlags::AUTOCOMMIT;
    }
    status
}

#[cfg(test)]
mod tests;
