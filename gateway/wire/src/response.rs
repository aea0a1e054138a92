//! The direction compute to client: where each response ends, in chunks cut anywhere.
//!
//! A pure machine: (state x class of packet) -> state, its whole table snapshotted in the tests. Of a row only the frame
//! header and the first byte are looked at; what an OK, an EOF or a header of a result set must be read for is at most
//! [`PREFIX_MAX`] bytes. A head that a chunk's end cuts is not consumed: the caller keeps it and shows it again with what
//! follows, so that a packet can still be changed before any of it goes on. Nothing is allocated.

use crate::capabilities::Capabilities;
use crate::command::Command;
use crate::frame::{FRAME_PAYLOAD_MAX, FrameHeader};
use crate::lenenc::{Malformed, Reader};
use crate::status::StatusFlags;

/// An OK packet up to its warnings: header, two length-encoded integers, status, warnings.
const PREFIX_MAX: usize = 1 + 9 + 9 + 2 + 2;

/// How the response to a command is shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expect {
    /// Results: OK, ERR, a file request, or a result set; any number of them.
    Results,
    /// A prepared statement: OK with counts, definitions of parameters, of columns.
    Prepared,
    /// Rows without a header, as COM_STMT_FETCH sends them.
    Rows,
    /// Column definitions up to an EOF: COM_FIELD_LIST.
    Fields,
    /// One packet: OK, ERR or EOF.
    One,
    /// One packet without a header byte: COM_STATISTICS.
    Text,
}

impl Expect {
    /// None: the command has no response.
    #[must_use]
    pub fn of(command: Command) -> Option<Self> {
        Some(match command {
            Command::Quit | Command::StmtClose | Command::StmtSendLongData => return None,
            Command::Query | Command::StmtExecute | Command::StmtBulkExecute | Command::ProcessInfo => Self::Results,
            Command::StmtPrepare => Self::Prepared,
            Command::StmtFetch => Self::Rows,
            Command::FieldList => Self::Fields,
            Command::Statistics => Self::Text,
            _ => Self::One,
        })
    }
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Of the last OK or EOF; None where the end carries none (ERR, PREPARE, STATISTICS).
    pub status: Option<StatusFlags>,
    /// The code of the ERR that ended it.
    pub error: Option<u16>,
    /// The last AUTO_INCREMENT value that an OK of it told of; 0: none did.
    pub insert_id: u64,
    /// How many warnings its last OK or EOF told of.
    pub warnings: u16,
    /// One of its results had rows, or might have had.
    pub has_rows: bool,
    /// How many rows it had.
    pub rows: u64,
}

/// What a scan came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseEvent {
    /// The response is complete.
    End(End),
    /// The compute asked for a file: the client's next frames are it; then the response goes on.
    FileWanted,
    /// A packet begins here that the caller may have to change before it goes on: of `len` bytes, header included. Nothing
    /// of it is consumed, and the scan stands still until [`ResponseScanner::pass`] is called.
    Marked {
        /// Why.
        mark: Mark,
        /// Bytes of its frame with the header; such packets are never split.
        len: usize,
    },
}

/// Packets that a gateway reads and changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// An OK or EOF whose status says that session state has changed.
    StateChanged,
    /// The head of the answer to a PREPARE, with the statement's id.
    Prepared,
}

/// How far a scan came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// So many bytes belong to the response.
    pub consumed: usize,
    /// What the last of them completed.
    pub event: Option<ResponseEvent>,
}

/// Bytes that are no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packet that does not belong here")]
pub struct ScanError;

impl From<Malformed> for ScanError {
    fn from(_: Malformed) -> Self {
        Self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Header,
    Definitions { left: u64 },
    DefinitionsEof,
    Rows,
    Prepare,
    Parameters { left: u16, columns: u16 },
    ParametersEof { columns: u16 },
    Columns { left: u16 },
    ColumnsEof,
    Fetched,
    Fields,
    One,
    Text,
}

/// What a packet is, in the state it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Ok(StatusFlags),
    Eof(StatusFlags),
    Err(u16),
    Progress,
    File,
    Count { columns: u64, definitions: bool },
    Prepared { parameters: u16, columns: u16 },
    Other,
}

/// Follows one compute's bytes.
#[derive(Debug)]
pub struct ResponseScanner {
    capabilities: Capabilities,
    state: State,
    /// Bytes left of the frame under way.
    left: usize,
    /// Inside a packet: its frame's end is not yet its own.
    in_packet: bool,
    /// The frame under way is full, so the packet goes on in the next.
    more: bool,
    /// What the packet under way will complete.
    completes: Option<ResponseEvent>,
    /// What the response under way has told so far.
    told: Told,
    /// The next packet has been marked, and may pass.
    pass: bool,
    sequence: u8,
}

impl ResponseScanner {
    /// For a connection on which this was agreed.
    #[must_use]
    pub fn new(capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            state: State::Idle,
            left: 0,
            in_packet: false,
            more: false,
            completes: None,
            told: Told::default(),
            pass: false,
            sequence: 0,
        }
    }

    /// The next bytes answer a command with a response of this shape, which begins with frame number `sequence` (1 for a
    /// command of one frame). The response before must be complete.
    pub fn expect(&mut self, expect: Expect, sequence: u8) {
        debug_assert!(self.is_idle());
        self.sequence = sequence;
        self.told = Told::default();
        self.state = match expect {
            Expect::Results => State::Header,
            Expect::Prepared => State::Prepare,
            Expect::Rows => State::Fetched,
            Expect::Fields => State::Fields,
            Expect::One => State::One,
            Expect::Text => State::Text,
        };
    }

    /// No response is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle && self.at_packet_boundary()
    }

    /// Between two packets: another may be written here.
    #[must_use]
    pub fn at_packet_boundary(&self) -> bool {
        !self.in_packet
    }

    /// The packet that was marked may pass, as it stands now.
    pub fn pass(&mut self) {
        self.pass = true;
    }

    /// The number that the next frame towards the client carries.
    #[must_use]
    pub fn next_sequence(&self) -> u8 {
        self.sequence
    }

    /// The client's file has ended; the response goes on with frame number `sequence`.
    pub fn file_ended(&mut self, sequence: u8) {
        self.sequence = sequence;
    }

    /// Looks at the bytes that follow those consumed so far; stops after whatever completes something.
    ///
    /// # Errors
    /// A packet that cannot stand here; where the response ends cannot be told any more.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, ScanError> {
        let mut at = 0;
        loop {
            let n = self.left.min(bytes.len() - at);
            at += n;
            self.left -= n;
            if self.left > 0 {
                return Ok(Scanned {
                    consumed: at,
                    event: None,
                });
            }
            if self.in_packet && !self.more {
                self.in_packet = false;
                if let Some(event) = self.completes.take() {
                    return Ok(Scanned {
                        consumed: at,
                        event: Some(event),
                    });
                }
            }
            if self.state == State::Idle {
                return Ok(Scanned {
                    consumed: at,
                    event: None,
                });
            }
            match self.begin_frame(bytes.get(at..).unwrap_or_default())? {
                Begun::Frame { looked_at } => at += looked_at,
                Begun::Cut => {
                    return Ok(Scanned {
                        consumed: at,
                        event: None,
                    });
                }
                Begun::Marked(event) => {
                    return Ok(Scanned {
                        consumed: at,
                        event: Some(event),
                    });
                }
            }
        }
    }

    /// Reads a frame's header and as much of its payload as must be looked at.
    fn begin_frame(&mut self, bytes: &[u8]) -> Result<Begun, ScanError> {
        let Some(FrameHeader { payload_len, sequence }) = FrameHeader::decode(bytes) else {
            return Ok(Begun::Cut);
        };
        let payload = bytes.get(4..).unwrap_or_default();
        let mut looked_at = 0;
        if !self.in_packet {
            // The first byte tells how much more must be seen.
            let first = payload.first().copied();
            if first.is_none() && payload_len > 0 {
                return Ok(Begun::Cut);
            }
            looked_at = payload_len.min(self.prefix(payload_len, first));
            let Some(prefix) = payload.get(..looked_at) else {
                return Ok(Begun::Cut);
            };
            let class = classify(self.state, self.capabilities, payload_len, prefix)?;
            let after = next(self.state, class, self.capabilities)?;
            if let Some(mark) = mark(class)
                && !self.pass
            {
                let len = 4 + payload_len;
                return Ok(Begun::Marked(ResponseEvent::Marked { mark, len }));
            }
            self.pass = false;
            self.told.take(class, prefix)?;
            let is_row = matches!(self.state, State::Rows | State::Fetched) && class == Class::Other;
            self.told.rows += u64::from(is_row);
            (self.state, self.completes) = after;
            if let Some(ResponseEvent::End(end)) = &mut self.completes {
                (end.insert_id, end.has_rows) = (self.told.insert_id, self.told.has_rows);
                (end.warnings, end.rows) = (self.told.warnings, self.told.rows);
            }
        }
        self.left = payload_len - looked_at;
        self.in_packet = true;
        self.more = payload_len == FRAME_PAYLOAD_MAX;
        self.sequence = sequence.wrapping_add(1);
        Ok(Begun::Frame {
            looked_at: 4 + looked_at,
        })
    }

    /// How many bytes of a packet's payload must be seen to know what it is.
    fn prefix(&self, payload_len: usize, first: Option<u8>) -> usize {
        match (self.state, first) {
            (
                State::Definitions { .. } | State::Parameters { .. } | State::Columns { .. } | State::Text,
                Some(0xff),
            ) => 3,
            (State::Definitions { .. } | State::Parameters { .. } | State::Columns { .. } | State::Text, _) => 1,
            (State::Rows | State::Fetched | State::Fields, Some(0xfe)) if payload_len < FRAME_PAYLOAD_MAX => PREFIX_MAX,
            (State::Rows | State::Fetched | State::Fields, Some(0xff)) => 3,
            (State::Rows | State::Fetched | State::Fields, _) => 1,
            _ => PREFIX_MAX,
        }
    }
}

/// Numbers of a response, as its packets tell them.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    insert_id: u64,
    warnings: u16,
    has_rows: bool,
    rows: u64,
}

impl Told {
    /// `prefix` is the beginning of a packet of this class.
    fn take(&mut self, class: Class, prefix: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(prefix.get(1..).unwrap_or_default());
        match class {
            Class::Ok(_) => {
                reader.lenenc_int()?;
                let insert_id = reader.lenenc_int()?;
                if insert_id != 0 {
                    self.insert_id = insert_id;
                }
                reader.u16()?;
                self.warnings = reader.u16().unwrap_or_default();
            }
            Class::Eof(_) => self.warnings = reader.u16()?,
            Class::Count { .. } => self.has_rows = true,
            _ => {}
        }
        Ok(())
    }
}

/// What a look at a frame's head came to.
enum Begun {
    Frame {
        /// So many bytes of it were seen, header included.
        looked_at: usize,
    },
    /// The chunk ends before enough of it was seen.
    Cut,
    Marked(ResponseEvent),
}

fn mark(class: Class) -> Option<Mark> {
    match class {
        Class::Ok(status) | Class::Eof(status) if status.contains(StatusFlags::SESSION_STATE_CHANGED) => {
            Some(Mark::StateChanged)
        }
        Class::Prepared { .. } => Some(Mark::Prepared),
        _ => None,
    }
}

/// What a packet is. `prefix` is its beginning, as much as [`ResponseScanner::prefix`] asked for.
fn classify(state: State, capabilities: Capabilities, len: usize, prefix: &[u8]) -> Result<Class, ScanError> {
    let deprecate_eof = capabilities.contains(Capabilities::DEPRECATE_EOF);
    let first = prefix.first().copied();
    // The text of COM_STATISTICS is ASCII, so it does not look like an ERR.
    if first == Some(0xff) {
        let mut reader = Reader::new(prefix.get(1..).unwrap_or_default());
        return Ok(match reader.u16()? {
            0xffff => Class::Progress,
            code => Class::Err(code),
        });
    }
    Ok(match (state, first) {
        (State::Text, _) => Class::Other,
        (State::Header, Some(0x00)) | (State::One, Some(0x00)) => ok(prefix)?,
        (State::Header, Some(0xfb)) => Class::File,
        (State::Header, Some(_)) => count(prefix, capabilities)?,
        (State::One, Some(0xfe)) if len < 9 && !deprecate_eof => eof(prefix)?,
        (State::One, Some(0xfe)) => ok(prefix)?,
        (State::Prepare, Some(0x00)) => {
            let mut reader = Reader::new(prefix);
            reader.bytes(5)?;
            let columns = reader.u16()?;
            Class::Prepared {
                parameters: reader.u16()?,
                columns,
            }
        }
        (State::DefinitionsEof | State::ParametersEof { .. } | State::ColumnsEof, Some(0xfe)) => eof(prefix)?,
        (State::Rows | State::Fetched | State::Fields, Some(0xfe)) if deprecate_eof && len < FRAME_PAYLOAD_MAX => {
            ok(prefix)?
        }
        (State::Rows | State::Fetched | State::Fields, Some(0xfe)) if !deprecate_eof && len < 9 => eof(prefix)?,
        _ => Class::Other,
    })
}

fn ok(prefix: &[u8]) -> Result<Class, ScanError> {
    let mut reader = Reader::new(prefix);
    reader.u8()?;
    reader.lenenc_int()?;
    reader.lenenc_int()?;
    Ok(Class::Ok(StatusFlags(reader.u16()?)))
}

fn eof(prefix: &[u8]) -> Result<Class, ScanError> {
    let mut reader = Reader::new(prefix);
    reader.bytes(3)?;
    Ok(Class::Eof(StatusFlags(reader.u16()?)))
}

/// The header of a result set: the number of columns, and with CACHE_METADATA whether their definitions follow.
fn count(prefix: &[u8], capabilities: Capabilities) -> Result<Class, ScanError> {
    let mut reader = Reader::new(prefix);
    let columns = reader.lenenc_int()?;
    let cached = capabilities.contains(Capabilities::MARIADB_CACHE_METADATA);
    Ok(Class::Count {
        columns,
        definitions: !cached || reader.u8()? != 0,
    })
}

type Next = (State, Option<ResponseEvent>);

/// The table.
fn next(state: State, class: Class, capabilities: Capabilities) -> Result<Next, ScanError> {
    let deprecate_eof = capabilities.contains(Capabilities::DEPRECATE_EOF);
    let ended = |status| {
        (
            State::Idle,
            Some(ResponseEvent::End(End {
                status,
                ..End::default()
            })),
        )
    };
    let result_ended = |status: StatusFlags| match status.contains(StatusFlags::MORE_RESULTS) {
        true => (State::Header, None),
        false => ended(Some(status)),
    };
    let rows = |columns_follow_eof: bool| {
        if columns_follow_eof {
            State::DefinitionsEof
        } else {
            State::Rows
        }
    };
    Ok(match (state, class) {
        (State::Idle, _) => return Err(ScanError),
        (state, Class::Progress) => (state, None),
        (_, Class::Err(code)) => (
            State::Idle,
            Some(ResponseEvent::End(End {
                error: Some(code),
                ..End::default()
            })),
        ),

        (State::Header, Class::Ok(status)) => result_ended(status),
        (State::Header, Class::File) => (State::Header, Some(ResponseEvent::FileWanted)),
        (
            State::Header,
            Class::Count {
                columns,
                definitions: true,
            },
        ) if columns > 0 => (State::Definitions { left: columns }, None),
        (State::Header, Class::Count { definitions: false, .. }) => (rows(!deprecate_eof), None),
        (State::Definitions { left }, Class::Other) if left > 1 => (State::Definitions { left: left - 1 }, None),
        (State::Definitions { .. }, Class::Other) => (rows(!deprecate_eof), None),
        // A cursor was opened: the rows come by COM_STMT_FETCH.
        (State::DefinitionsEof, Class::Eof(status)) if status.contains(StatusFlags::CURSOR_EXISTS) => {
            ended(Some(status))
        }
        (State::DefinitionsEof, Class::Eof(_)) => (State::Rows, None),
        (State::Rows, Class::Ok(status) | Class::Eof(status)) => result_ended(status),
        (State::Rows | State::Fetched | State::Fields, Class::Other) => (state, None),
        (State::Fetched | State::Fields, Class::Ok(status) | Class::Eof(status)) => ended(Some(status)),

        (State::Prepare, Class::Prepared { parameters, columns }) => parameters_of(parameters, columns),
        (State::Parameters { left, columns }, Class::Other) if left > 1 => (
            State::Parameters {
                left: left - 1,
                columns,
            },
            None,
        ),
        (State::Parameters { columns, .. }, Class::Other) if deprecate_eof => columns_of(columns),
        (State::Parameters { columns, .. }, Class::Other) => (State::ParametersEof { columns }, None),
        (State::ParametersEof { columns }, Class::Eof(_)) => columns_of(columns),
        (State::Columns { left }, Class::Other) if left > 1 => (State::Columns { left: left - 1 }, None),
        (State::Columns { .. }, Class::Other) if deprecate_eof => ended(None),
        (State::Columns { .. }, Class::Other) => (State::ColumnsEof, None),
        (State::ColumnsEof, Class::Eof(_)) => ended(None),

        (State::One, Class::Ok(status) | Class::Eof(status)) => ended(Some(status)),
        (State::Text, _) => ended(None),
        _ => return Err(ScanError),
    })
}

fn parameters_of(parameters: u16, columns: u16) -> Next {
    match parameters {
        0 => columns_of(columns),
        left => (State::Parameters { left, columns }, None),
    }
}

fn columns_of(columns: u16) -> Next {
    match columns {
        0 => (State::Idle, Some(ResponseEvent::End(End::default()))),
        left => (State::Columns { left }, None),
    }
}

#[cfg(test)]
mod tests;
