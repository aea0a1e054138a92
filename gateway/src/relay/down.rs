//! Compute to client: answers are passed on as they come, but for those to commands of our own, and for the packets that
//! the scanner marks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use mysql_wire::capabilities::Capabilities;
use mysql_wire::err::ErrPacket;
use mysql_wire::ok::OkPacket;
use mysql_wire::response::{End, Expect, Mark, ResponseEvent};
use mysql_wire::status::StatusFlags;

use super::{Due, Own, Relay, RelayError, command_error, poll_read};
use crate::accounts::Change;
use crate::buffer::Buffer;
use crate::meter::Counter;
use crate::session::inventory::ANSWERS_BYTES_MAX;
use crate::stream::Readable;

/// What is kept of an answer to a command of ours: an inventory's is too long by one byte more than it may have, and of the others
/// the beginning says all.
const OWN_ANSWER_BYTES_MAX: usize = ANSWERS_BYTES_MAX + 1;

/// ER_PARSE_ERROR: the statement did nothing.
const PARSE_ERROR: u16 = 1064;
/// ER_CONNECTION_KILLED: somebody ended this connection and no other.
const CONNECTION_KILLED: u16 = 1927;

impl<C: Readable, F: FnOnce()> Relay<'_, C, F> {
    /// Until neither side goes on: what the compute sends is read, looked at and passed on.
    pub(super) fn pump_down(&mut self, cx: &mut Context<'_>) -> Result<(), RelayError> {
        loop {
            self.write_down(cx)?;
            if self.to_pass == 0 && std::mem::take(&mut self.rest_unseen) {
                self.scan_responses()?;
                continue;
            }
            // Read on only when the client has taken everything: what it does not take stays with the compute.
            if self.compute_closed || self.to_pass > 0 {
                return Ok(());
            }
            match poll_read(self.compute, &mut self.down, self.down_is_long, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(1..)) => self.scan_responses()?,
                // A reset is a close whose reason went missing.
                Poll::Ready(Ok(0) | Err(_)) => self.compute_closed = true,
            }
        }
    }

    fn write_down(&mut self, cx: &mut Context<'_>) -> Result<(), RelayError> {
        if let Some(withheld) = &mut self.withheld {
            if withheld.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.withheld = None;
        }
        if let Some(buffer) = &mut self.down {
            while self.to_pass > 0 {
                match Pin::new(&mut *self.client).poll_write(cx, &buffer.filled()[..self.to_pass]) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(0)) => return Err(RelayError::Client(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => {
                        buffer.consume(n);
                        self.to_pass -= n;
                    }
                    Poll::Ready(Err(e)) => return Err(RelayError::Client(e)),
                }
                self.flush_client = true;
            }
            if buffer.is_empty() {
                self.down = None;
            }
        }
        if self.flush_client {
            match Pin::new(&mut *self.client).poll_flush(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => self.flush_client = false,
                Poll::Ready(Err(e)) => return Err(RelayError::Client(e)),
            }
        }
        Ok(())
    }

    /// Finds where responses end in what was just read, takes out those that are not the client's, and changes what must
    /// be changed.
    fn scan_responses(&mut self) -> Result<(), RelayError> {
        let Some(mut buffer) = self.down.take() else {
            return Ok(());
        };
        // A read that filled the buffer is a part of something long: fewer, larger reads from here on.
        self.down_is_long = buffer.is_full();
        let mut at = 0;
        while at < buffer.filled().len() {
            if self.responses.is_idle() && !self.expect_next() {
                self.unsolicited(&mut buffer, at);
                break;
            }
            let scanned = self
                .responses
                .scan(&buffer.filled()[at..])
                .map_err(|e| self.compute_cut(&e.to_string()))?;
            let ours = self.answering.and_then(|due| due.own);
            if ours.is_some() {
                self.keep_own(&buffer.filled()[at..at + scanned.consumed]);
                buffer.cut(at, scanned.consumed);
            } else {
                at += scanned.consumed;
                if (at > 0 || matches!(scanned.event, Some(ResponseEvent::Marked { .. })))
                    && let Some(on_first_byte) = self.on_first_byte.take()
                {
                    on_first_byte();
                }
            }
            match scanned.event {
                Some(ResponseEvent::Marked { .. }) if ours.is_some() => self.responses.pass(),
                Some(ResponseEvent::Marked { mark, len }) => {
                    if buffer.filled().len() - at < len {
                        // The scan comes back to it when all of it is here.
                        self.await_whole(&mut buffer, at, len)?;
                        break;
                    }
                    self.marked(mark, &mut buffer, at, len);
                    self.responses.pass();
                }
                Some(ResponseEvent::FileWanted) => self.begin_file()?,
                Some(ResponseEvent::End(end)) => {
                    self.ended(end)?;
                    if self.withheld.is_some() {
                        // What follows stays behind it.
                        self.rest_unseen = true;
                        break;
                    }
                }
                // The rest is the beginning of a packet's head.
                None => break,
            }
        }
        self.around.metrics.bytes_to_client(at);
        self.around.tally.add(Counter::BytesOut, at as u64);
        self.to_pass = at;
        if !buffer.is_empty() {
            if at == 0 {
                buffer.make_room();
            }
            self.down = Some(buffer);
        }
        Ok(())
    }

    /// A packet that must be seen whole before it goes on needs a buffer that holds it.
    fn await_whole(&self, buffer: &mut Buffer, at: usize, len: usize) -> Result<(), RelayError> {
        if at > 0 {
            // What stands before it goes first.
            return Ok(());
        }
        buffer.make_room();
        if buffer.capacity() < len {
            let mut larger = Buffer::large();
            if larger.capacity() < len {
                return Err(self.compute_cut("a report of session state longer than any setting"));
            }
            larger.append(buffer.filled());
            *buffer = larger;
        }
        Ok(())
    }

    /// False: nothing is due.
    fn expect_next(&mut self) -> bool {
        let Some(due) = self.due.pop_front() else {
            return false;
        };
        self.responses.expect(due.expect, due.sequence);
        self.answering = Some(due);
        true
    }

    fn keep_own(&mut self, bytes: &[u8]) {
        let room = OWN_ANSWER_BYTES_MAX - self.own_answer.len();
        self.own_answer.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Bytes that answer nothing: a server that goes away says so in an ERR. It is no answer to the next command.
    fn unsolicited(&mut self, buffer: &mut Buffer, at: usize) {
        let capabilities = self.around.session.capabilities;
        let said = buffer
            .filled()
            .get(at + 4..)
            .and_then(|payload| ErrPacket::decode(payload, capabilities).ok());
        self.killed = said.as_ref().is_some_and(|err| err.code == CONNECTION_KILLED);
        self.compute_said = said.map(|err| String::from_utf8_lossy(err.message).into_owned());
        self.compute_closed = true;
        let rest = buffer.filled().len() - at;
        buffer.cut(at, rest);
    }

    /// Reads and changes a packet of the client's.
    fn marked(&mut self, mark: Mark, buffer: &mut Buffer, at: usize, len: usize) {
        let client = self.around.session.capabilities;
        match mark {
            Mark::Prepared => self.prepared(&mut buffer.filled_mut()[at..at + len]),
            Mark::StateChanged => {
                let frame = &buffer.filled()[at..at + len];
                let ok = OkPacket::decode(&frame[4..], Capabilities::SESSION_TRACK);
                let ok = ok.unwrap_or(OkPacket {
                    status: StatusFlags::SESSION_STATE_CHANGED,
                    ..OkPacket::default()
                });
                let of_set_statement = self.answering.is_some_and(|due| due.pieces.sets_for_statement);
                self.around.session.reported(&ok, of_set_statement);
                if let Some(changed) = self.around.session.tracked.for_client(frame, client) {
                    // It never grows: a report is taken out, or parts of it are.
                    let shorter = len.saturating_sub(changed.len());
                    buffer.cut(at, shorter);
                    buffer.filled_mut()[at..at + changed.len()].copy_from_slice(&changed);
                }
            }
        }
    }

    fn ended(&mut self, end: End) -> Result<(), RelayError> {
        let Some(due) = self.answering.take() else {
            return Ok(());
        };
        if let Some(own) = due.own {
            let answer = std::mem::take(&mut self.own_answer);
            return self.own_ended(own, &answer, end);
        }
        self.around.metrics.response_ended(end.error.is_some());
        if let Some(class) = due.class {
            self.around.tally.statement(class);
        }
        if end.rows > 0 {
            self.around.tally.add(Counter::Rows, end.rows);
        }
        match end.status {
            Some(status) => self.around.session.answered(status),
            // What a statement did before it failed is in no report.
            None if due.expect == Expect::Results && end.error.is_some_and(|code| code != PARSE_ERROR) => {
                self.around.session.tracked.hidden();
            }
            None => {}
        }
        if due.expect == Expect::Results {
            self.around
                .session
                .left_conditions(end.warnings > 0 || end.error.is_some());
        }
        if end.insert_id != 0 {
            self.around.session.tracked.made_id(end.insert_id);
        } else if due.may_insert && end.has_rows {
            // INSERT ... RETURNING has no OK that tells of the id it made.
            self.around.session.tracked.hidden();
        }
        self.released = match end.error {
            None => due.pieces.releases || due.pieces.ends_transaction && self.around.session.releases(),
            // A program that says so, or somebody else's KILL.
            Some(code) => code == CONNECTION_KILLED && self.around.running.draining().is_none(),
        };
        self.statement_answered(&due, end);
        if due.change != Change::Nothing && end.error.is_none() {
            self.accounts_changed(due.change);
        }
        Ok(())
    }

    /// A statement that may have changed accounts is done: its OK waits until this gateway knows what it did.
    fn accounts_changed(&mut self, change: Change) {
        let session = &mut *self.around.session;
        match change {
            Change::OwnPassword => session.must_change_password = false,
            Change::Counters => self.around.pins.project.quotas.flush(),
            Change::Accounts | Change::Nothing => {}
        }
        session.may_have_changed_password = session.must_change_password;
        let accounts = self.around.accounts;
        let (project, incarnation) = (self.around.pins.project.id.clone(), self.around.running.incarnation);
        self.withheld = Some(Box::pin(async move { accounts.changed(&project, incarnation).await }));
    }

    fn own_ended(&mut self, own: Own, answer: &[u8], end: End) -> Result<(), RelayError> {
        match own {
            Own::Replay if end.error.is_some() => Err(RelayError::Replay(self.message(answer))),
            Own::Replay => Ok(()),
            Own::Inventory => {
                if let Some(inventory) = &mut self.inventory {
                    inventory.answered(answer, end.error.is_some());
                }
                let more = self.due.iter().any(|due| due.own == Some(Own::Inventory));
                if !more {
                    self.conclude_inventory();
                }
                Ok(())
            }
            Own::Modes => match self.around.session.modes_answered(answer) {
                Some(()) => Ok(()),
                None => Err(self.compute_cut("it does not say under which modes statements are prepared")),
            },
            Own::Reprepare => self.reprepare_answered(answer, end),
        }
    }

    /// The text of an ERR of the compute's.
    pub(super) fn message(&self, answer: &[u8]) -> String {
        let payload = answer.get(4..).unwrap_or_default();
        let err = ErrPacket::decode(payload, self.around.session.capabilities);
        err.map(|err| String::from_utf8_lossy(err.message).into_owned())
            .unwrap_or_default()
    }

    fn begin_file(&mut self) -> Result<(), RelayError> {
        let asked_for = self.around.session.capabilities.contains(Capabilities::LOCAL_FILES);
        let ours = matches!(self.answering, Some(Due { own: Some(_), .. }));
        if ours || !asked_for {
            return Err(self.compute_cut("it asked for a file that the client never offered"));
        }
        self.commands.begin_file().map_err(command_error)
    }

    /// A frame of our own making for the client, where nothing else is on its way to it.
    pub(super) fn pass_frame(&mut self, frame: &[u8]) {
        let buffer = self.down.get_or_insert_with(Buffer::small);
        debug_assert!(buffer.is_empty());
        buffer.append(frame);
        self.to_pass = frame.len();
    }
}
