//! What a case consists of. It is written as JSON, a line for each step, so that a case that failed can be kept as a file
//! and outlives the generator that made it.
//!
//! Texts may hold `{h}` and `{o}`, the session's home database and another of its own, and `{w}`, a name that no other
//! lane uses: cases do not know where they are played.

use serde::{Deserialize, Serialize};

/// One or two sessions and what they do, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) sessions: Vec<Opening>,
    pub(crate) steps: Vec<Step>,
}

/// How a session logs in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// In addition to the usual capabilities.
    pub(crate) session_track: bool,
    pub(crate) deprecate_eof: bool,
    pub(crate) found_rows: bool,
    pub(crate) collation: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Whose it is, by its place in [`Case::sessions`].
    pub(crate) session: usize,
    pub(crate) act: Act,
}

/// The place of a prepared statement in a session; what the servers call it differs.
pub(crate) type Slot = u8;

/// Stands for id 0xFFFFFFFF, the statement prepared last.
pub(crate) const LAST_PREPARED: Slot = 255;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Act {
    Query(String),
    /// LOAD DATA LOCAL and the file it asks for.
    Load {
        sql: String,
        file: String,
    },
    /// A SELECT with so many bytes of text, and with so many in its answer.
    Large {
        asks: u32,
        answers: u32,
    },
    Prepare {
        slot: Slot,
        sql: String,
    },
    Execute {
        slot: Slot,
        types: bool,
        cursor: bool,
        values: Vec<Value>,
    },
    LongData {
        slot: Slot,
        parameter: u16,
        data: String,
    },
    Fetch {
        slot: Slot,
        rows: u32,
    },
    ResetStatement {
        slot: Slot,
    },
    CloseStatement {
        slot: Slot,
    },
    InitDb(String),
    FieldList {
        table: String,
        pattern: String,
    },
    SetOption {
        multi_statements: bool,
    },
    Ping,
    ResetConnection,
    /// To the same user.
    ChangeUser {
        database: String,
    },
    /// All session variables, with what `compare` leaves out.
    Variables,
    /// All user variables.
    UserVariables,
    /// Between commands of all sessions.
    Disturb(Disturbance),
    /// On the gateway's side only, to see that a difference is seen. Never generated.
    Sabotage(String),
}

/// What is done to the compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Disturbance {
    /// Nobody does anything for so long that sessions leave their compute connections, as far as nothing ties them.
    Park,
    /// Put to sleep over REST; it sleeps before the next step.
    Suspend,
    /// The same, but the next step does not wait for it.
    SuspendRacing,
    /// kill -9.
    Crash,
    /// kill -9 while a command of another connection runs: it is acknowledged and done, or refused and done at most once.
    CrashDuring,
}

/// A parameter of the binary protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Null,
    Tiny(i8),
    Long(i32),
    LongLong(i64),
    Unsigned(u64),
    Double(f64),
    Decimal(String),
    Text(String),
    Blob(Vec<u8>),
    DateTime(u16, u8, u8, u8, u8, u8, u32),
    Time {
        negative: bool,
        days: u32,
        hour: u8,
        minute: u8,
        second: u8,
    },
    /// Sent before by COM_STMT_SEND_LONG_DATA.
    Sent,
}

impl Value {
    /// The type as in COM_STMT_EXECUTE, with its flags.
    pub(crate) fn kind(&self) -> [u8; 2] {
        match self {
            Self::Null => [6, 0],
            Self::Tiny(_) => [1, 0],
            Self::Long(_) => [3, 0],
            Self::LongLong(_) => [8, 0],
            Self::Unsigned(_) => [8, 0x80],
            Self::Double(_) => [5, 0],
            Self::Decimal(_) => [246, 0],
            Self::Text(_) => [253, 0],
            Self::Blob(_) | Self::Sent => [252, 0],
            Self::DateTime(..) => [12, 0],
            Self::Time { .. } => [11, 0],
        }
    }

    pub(crate) fn write(&self, packet: &mut Vec<u8>) {
        match self {
            Self::Null | Self::Sent => {}
            Self::Tiny(value) => packet.extend(value.to_le_bytes()),
            Self::Long(value) => packet.extend(value.to_le_bytes()),
            Self::LongLong(value) => packet.extend(value.to_le_bytes()),
            Self::Unsigned(value) => packet.extend(value.to_le_bytes()),
            Self::Double(value) => packet.extend(value.to_le_bytes()),
            Self::Decimal(text) | Self::Text(text) => sized(packet, text.as_bytes()),
            Self::Blob(bytes) => sized(packet, bytes),
            Self::DateTime(year, month, day, hour, minute, second, micros) => {
                packet.push(11);
                packet.extend(year.to_le_bytes());
                packet.extend([*month, *day, *hour, *minute, *second]);
                packet.extend(micros.to_le_bytes());
            }
            Self::Time {
                negative,
                days,
                hour,
                minute,
                second,
            } => {
                packet.extend([8, u8::from(*negative)]);
                packet.extend(days.to_le_bytes());
                packet.extend([*hour, *minute, *second]);
            }
        }
    }
}

/// Values of cases are short: one or three bytes of length are enough.
fn sized(packet: &mut Vec<u8>, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) if length < 251 => packet.push(length),
        _ => {
            packet.push(0xfc);
            packet.extend(u16::try_from(bytes.len()).expect("a short value").to_le_bytes());
        }
    }
    packet.extend(bytes);
}

impl Case {
    /// In the form of the files in `cases/`.
    pub(crate) fn to_lines(&self) -> String {
        let mut lines = serde_json::to_string(&self.sessions).expect("openings as JSON") + "\n";
        for step in &self.steps {
            lines += &(serde_json::to_string(step).expect("a step as JSON") + "\n");
        }
        lines
    }

    /// Reads what [`Case::to_lines`] writes; lines that begin with `#` say what the case is about.
    pub(crate) fn from_lines(text: &str) -> Result<Self, String> {
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty());
        let read = |(number, line): (usize, &str)| (number + 1, line.to_owned());
        let (number, first) = lines.next().map(read).ok_or("an empty case")?;
        let sessions = serde_json::from_str(&first).map_err(|why| format!("line {number}: {why}"))?;
        let steps = lines
            .map(read)
            .map(|(number, line)| serde_json::from_str(&line).map_err(|why| format!("line {number}: {why}")))
            .collect::<Result<_, _>>()?;
        Ok(Self { sessions, steps })
    }
}

#[test]
fn a_case_is_read_as_written() {
    for seed in 0..50 {
        let case = crate::generate::case(seed);
        assert_eq!(Case::from_lines(&case.to_lines()), Ok(case));
    }
}
