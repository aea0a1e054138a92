//! Prepared statements (binary protocol): the client's ids stand for the gateway's own, which outlive a compute
//! connection. A statement that the present connection does not know is prepared there again, under the schema and modes
//! it was prepared under first, before the client's command that needs it.

use mysql_wire::client_stream::CommandHead;
use mysql_wire::command::Command;
use mysql_wire::execute::{LAST_PREPARED, STATEMENT_ID, Types, statement_id};
use mysql_wire::frame::FRAME_PAYLOAD_MAX;
use mysql_wire::response::End;
use mysql_wire::status::StatusFlags;

use super::{Due, Hold, Kind, Own, Relay, RelayError};
use crate::answer::diagnostics::not_kept;
use crate::buffer::Buffer;
use crate::error::Told;
use crate::session::Replay;
use crate::session::previous::Previous;
use crate::session::statements::{COUNT_MAX, Prepared, TEXT_BYTES_MAX};
use crate::stream::Readable;

/// A statement with so many parameters that their types do not end within this much of the packet is not looked at: it
/// is never prepared again. Some 3,800 parameters.
const LOOK_BYTES_MAX: usize = 8 * 1024;
/// OK, the id, the number of columns, of parameters.
const PREPARED_ID: std::ops::Range<usize> = 5..9;

/// The text of a PREPARE on its way.
#[derive(Debug)]
pub(super) struct Capture {
    /// Frame header and command byte that are still to pass.
    head: usize,
    /// None: it is too long to keep.
    text: Option<Vec<u8>>,
}

impl Capture {
    pub(super) fn of(payload_len: usize) -> Self {
        Self {
            head: 5,
            text: (payload_len <= TEXT_BYTES_MAX).then(|| Vec::with_capacity(payload_len.saturating_sub(1))),
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        let skipped = self.head.min(bytes.len());
        self.head -= skipped;
        if let Some(text) = &mut self.text {
            text.extend_from_slice(&bytes[skipped..]);
        }
    }
}

/// What becomes of a command that may name a statement.
pub(super) enum Translated {
    /// It names none.
    AsItIs,
    /// It names this one, by the compute's id now.
    Statement(u32),
    /// More of it must be seen.
    More,
    Held(Hold),
}

/// A statement being prepared again.
#[derive(Debug)]
pub(super) struct Reprepare {
    id: u32,
    /// Answers that came, of those expected.
    step: usize,
    prepare: usize,
    steps: usize,
    /// The first ERR, whole, with the number that answers the client's command.
    refused: Option<Vec<u8>>,
    compute_id: Option<u32>,
}

impl<C: Readable, F: FnOnce()> Relay<'_, C, F> {
    pub(super) fn translate(&mut self, command: Command, head: CommandHead) -> Translated {
        let names_one = matches!(
            command,
            Command::StmtExecute
                | Command::StmtBulkExecute
                | Command::StmtFetch
                | Command::StmtReset
                | Command::StmtClose
                | Command::StmtSendLongData
        );
        // One that is too short to name a statement is the compute's to refuse.
        if !names_one || head.frame_payload_len < STATEMENT_ID.end {
            return Translated::AsItIs;
        }
        let Some(said) = self.at_hand().get(4..).and_then(statement_id) else {
            return Translated::More;
        };
        let id = match said {
            // What was prepared last is known when everything is answered.
            LAST_PREPARED if !self.prepares_sent.is_empty() || self.due.iter().any(|due| due.kind == Kind::Prepare) => {
                return Translated::Held(Hold::Look);
            }
            LAST_PREPARED => match self.around.session.statements.last_prepared() {
                Some(id) => id,
                // The compute may know another one for its last: it has seen nothing of those that were refused here.
                None => return Translated::Held(Hold::Answer(unknown_statement(command, said))),
            },
            id => id,
        };
        let known = self
            .around
            .session
            .statements
            .get(id)
            .map(|statement| (statement.compute_id, statement.text.is_some(), statement.parameters));
        let Some((compute_id, has_text, parameters)) = known else {
            if !self.around.session.statements.is_compute_id(said) {
                // The compute does not know it either, and says so in its own words.
                return Translated::AsItIs;
            }
            return Translated::Held(Hold::Answer(unknown_statement(command, said)));
        };
        let executes = matches!(command, Command::StmtExecute | Command::StmtBulkExecute);
        if executes
            && !self.around.session.previous.is_there()
            && let Some(told) = self.asks_in_vain(id)
        {
            return Translated::Held(Hold::Answer(told));
        }
        let Some(compute_id) = compute_id else {
            return Translated::Held(match command {
                Command::StmtClose => {
                    self.around.session.statements.close(id);
                    Hold::Answer(Vec::new())
                }
                Command::StmtReset => Hold::Answer(self.ok_frame()),
                Command::StmtFetch if !has_text => Hold::Answer(no_cursor(said)),
                _ if has_text => Hold::Reprepare(id),
                _ => Hold::Answer(unknown_statement(command, said)),
            });
        };
        if let Some(types) = Types::of(command, parameters) {
            if types.end() > LOOK_BYTES_MAX {
                self.around.session.statements.forget_text(id);
            } else if !self.see_types(types, id, head) {
                return Translated::More;
            }
        }
        let to_send = self.to_send + 4;
        if let Some(buffer) = &mut self.up {
            buffer.filled_mut()[to_send..][STATEMENT_ID].copy_from_slice(&compute_id.to_le_bytes());
        }
        self.changed = true;
        self.note(command, id);
        Translated::Statement(id)
    }

    /// A session with as many statements as it may have prepares no other; in MariaDB's words.
    pub(super) fn too_many(&self) -> Option<Vec<u8>> {
        let statements = &self.around.session.statements;
        statements.are_full(self.prepares_sent.len()).then(|| {
            let text =
                format!("Can't create more than max_prepared_stmt_count statements (current value: {COUNT_MAX})");
            Told::new(1461, "42000", text).frame(1)
        })
    }

    /// The statement asks for the one before it, which nobody can tell in the binary protocol any more.
    fn asks_in_vain(&mut self, id: u32) -> Option<Vec<u8>> {
        let session = &mut *self.around.session;
        session.statements.get(id).filter(|statement| statement.asks)?;
        let told = match &session.previous {
            Previous::There => return None,
            Previous::Read(_) => not_kept(),
            Previous::Lost(told) => told.clone(),
        };
        if let Previous::Lost(_) = session.previous {
            session.previous.is_over();
        }
        Some(told.frame(1))
    }

    /// Remembers the types that an execution carries, and puts them in where the compute would not know them. False: more
    /// of the packet must be seen.
    fn see_types(&mut self, types: Types, id: u32, head: CommandHead) -> bool {
        let wanted = types.end().min(head.frame_payload_len);
        let packet = self.up.as_ref().map(|buffer| &buffer.filled()[self.to_send..]);
        let Some(payload) = packet.and_then(|packet| packet.get(4..4 + wanted)) else {
            return false;
        };
        let Some(statement) = self.around.session.statements.get_mut(id) else {
            return true;
        };
        if let Some(sent) = types.sent(payload) {
            // Many drivers send the same types every time: kept once.
            if statement.types.as_deref() != Some(sent) {
                statement.types = Some(sent.into());
            }
            statement.types_there = true;
            return true;
        }
        let missing = match &statement.types {
            Some(known) if !statement.types_there => known.clone(),
            _ => return true,
        };
        let len = head.frame_payload_len + missing.len();
        if len >= FRAME_PAYLOAD_MAX {
            // It would have to be cut into other frames: the compute answers that it does not know the types.
            return true;
        }
        statement.types_there = true;
        let at = self.to_send;
        let Some(buffer) = &mut self.up else { return true };
        let Some(begin) = types.announce(&mut buffer.filled_mut()[at + 4..]) else {
            return true;
        };
        if !buffer.insert(at + 4 + begin, &missing) {
            let mut larger = Buffer::large();
            larger.append(buffer.filled());
            *buffer = larger;
            // A packet's beginning of at most a small buffer and LOOK_BYTES_MAX fit a large one.
            let fitted = buffer.insert(at + 4 + begin, &missing);
            debug_assert!(fitted);
        }
        buffer.filled_mut()[at..at + 3].copy_from_slice(&(len as u32).to_le_bytes()[..3]);
        // The scanner has seen the length that stood there before.
        let _ = self.commands.scan(&buffer.filled()[at..]);
        true
    }

    /// What the command does to the statement.
    fn note(&mut self, command: Command, id: u32) {
        let statements = &mut self.around.session.statements;
        if command == Command::StmtClose {
            statements.close(id);
            return;
        }
        let Some(statement) = statements.get_mut(id) else {
            return;
        };
        match command {
            Command::StmtSendLongData => statement.long_data = true,
            Command::StmtReset => (statement.long_data, statement.cursor) = (false, false),
            Command::StmtExecute | Command::StmtBulkExecute => {
                statement.long_data = false;
                if statement.hides {
                    self.around.session.tracked.hidden();
                }
            }
            _ => {}
        }
    }

    /// The head of an answer to a PREPARE of the client's: the id becomes one of ours.
    pub(super) fn prepared(&mut self, frame: &mut [u8]) {
        let text = self.prepares_sent.pop_front().and_then(|capture| capture.text);
        let number = |at: usize| {
            frame
                .get(at..at + 2)
                .map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
        };
        let compute_id = frame
            .get(PREPARED_ID)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes);
        let session = &mut *self.around.session;
        let id = session.statements.prepared(Prepared {
            text: text.map(Into::into),
            schema: session.identity.database.as_deref().map(Into::into),
            modes_version: session.tracked.modes_version(),
            parameters: number(PREPARED_ID.end + 2),
            has_rows: number(PREPARED_ID.end) > 0,
            compute_id: compute_id.unwrap_or_default(),
        });
        if let Some(place) = frame.get_mut(PREPARED_ID) {
            place.copy_from_slice(&id.to_le_bytes());
        }
    }

    /// An answer to a command of the client's is complete.
    pub(super) fn statement_answered(&mut self, due: &Due, end: End) {
        let session = &mut *self.around.session;
        match due.kind {
            Kind::Prepare if end.error.is_some() => {
                self.prepares_sent.pop_front();
                session.statements.prepare_failed();
            }
            Kind::Statement(id) => {
                if let (Some(statement), Some(status)) = (session.statements.get_mut(id), end.status) {
                    statement.cursor =
                        status.contains(StatusFlags::CURSOR_EXISTS) && !status.contains(StatusFlags::LAST_ROW_SENT);
                }
            }
            Kind::Reset if end.error.is_none() => session.reset(),
            _ => {}
        }
    }

    /// Everything before the command that needs the statement is answered.
    pub(super) fn begin_reprepare(&mut self, id: u32) {
        let session = &*self.around.session;
        let Some(present) = session.present_modes() else {
            // The client has changed modes since they were read.
            let mut question = Replay::default();
            question.query(crate::session::inventory::MODES);
            return self.inject(question, Own::Modes);
        };
        let Some((statement, text)) = session
            .statements
            .get(id)
            .and_then(|statement| Some((statement, statement.text.as_deref()?)))
        else {
            self.hold = Some(Hold::Answer(unknown_statement(Command::StmtExecute, id)));
            return;
        };
        let mut replay = Replay::default();
        let modes = statement.modes.as_ref().filter(|modes| *modes != present);
        let schema = statement.schema.as_deref();
        let schema = schema.filter(|schema| Some(*schema) != session.identity.database.as_deref());
        if let Some(schema) = schema {
            replay.command(Command::InitDb, schema.as_bytes());
        }
        if let Some(modes) = modes {
            replay.query(&modes.set());
        }
        let prepare = replay.commands.len();
        replay.command(Command::StmtPrepare, text);
        if modes.is_some() {
            replay.query(&present.set());
        }
        if let (Some(_), Some(present)) = (schema, session.identity.database.as_deref()) {
            replay.command(Command::InitDb, present.as_bytes());
        }
        self.reprepare = Some(Reprepare {
            id,
            step: 0,
            prepare,
            steps: replay.commands.len(),
            refused: None,
            compute_id: None,
        });
        self.inject(replay, Own::Reprepare);
    }

    pub(super) fn reprepare_answered(&mut self, answer: &[u8], end: End) -> Result<(), RelayError> {
        let Some(reprepare) = &mut self.reprepare else {
            return Ok(());
        };
        if end.error.is_some() {
            if reprepare.step > reprepare.prepare {
                // The session is not as the client left it.
                return Err(RelayError::Replay(self.message(answer)));
            }
            reprepare.refused.get_or_insert_with(|| answer.to_vec());
        } else if reprepare.step == reprepare.prepare {
            let id = answer.get(PREPARED_ID).and_then(|bytes| bytes.try_into().ok());
            reprepare.compute_id = id.map(u32::from_le_bytes);
        }
        reprepare.step += 1;
        if reprepare.step < reprepare.steps {
            return Ok(());
        }
        let done = self.reprepare.take();
        let Some(Reprepare {
            id,
            refused,
            compute_id,
            ..
        }) = done
        else {
            return Ok(());
        };
        // The client's command is what the ERR answers; where all went well it now finds its statement.
        self.hold = Some(match refused {
            Some(answer) => Hold::Answer(answer),
            None => Hold::Look,
        });
        if self.hold == Some(Hold::Look) {
            self.around.session.statements.prepared_again(id, compute_id);
        }
        Ok(())
    }

    /// An OK of ours.
    pub(super) fn ok_frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let session = &*self.around.session;
        mysql_wire::ok::ok_frame(&mut frame, 1, session.status(), session.capabilities);
        frame
    }
}

/// As MariaDB answers for an id that it does not know; nothing, where the command has no answer.
fn unknown_statement(command: Command, id: u32) -> Vec<u8> {
    let given_to = match command {
        Command::StmtExecute => "mysqld_stmt_execute",
        Command::StmtBulkExecute => "mysqld_stmt_bulk_execute",
        Command::StmtFetch => "mysqld_stmt_fetch",
        Command::StmtReset => "mysqld_stmt_reset",
        _ => return Vec::new(),
    };
    let text = format!("Unknown prepared statement handler ({id}) given to {given_to}");
    Told::new(1243, "HY000", text).frame(1)
}

/// As MariaDB answers a fetch without a cursor.
fn no_cursor(id: u32) -> Vec<u8> {
    Told::new(1421, "HY000", format!("The statement ({id}) has no open cursor")).frame(1)
}
