//! Client to compute: commands are sent on as they come, but for those that the gateway answers, and for the ids of
//! statements.

use std::pin::Pin;
use std::task::{Context, Poll};

use mysql_wire::client_stream::{ClientScan, CommandHead};
use mysql_wire::command::Command;
use mysql_wire::response::Expect;
use tokio::io::AsyncWrite;

use super::statement::{Capture, Translated};
use super::{Due, Hold, Kind, Own, PIPELINED_MAX, Relay, RelayError, command_error, poll_read};
use crate::accounts::{self, Change};
use crate::answer::settings::{self, recognise_tracker};
use crate::answer::{diagnostics, is_refused, unknown_command};
use crate::buffer::Buffer;
use crate::cancel::{self, Kill};
use crate::meter::Counter;
use crate::restraint::{JUDGED_BYTES_MAX, refusal};
use crate::session::Replay;
use crate::session::inventory::MODES;
use crate::session::tracked::{Pieces, may_set_modes, read_pieces, read_text};
use crate::stream::Readable;

/// What matters of a command when it is answered.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    change: Change,
    may_insert: bool,
    pieces: Pieces,
}

/// What a look at the head of a command came to.
pub(super) enum Begun {
    /// It goes on its way.
    Sent,
    /// It stays where it is: something else comes first, or more of it must be seen.
    Waits,
}

impl<C: Readable, F: FnOnce()> Relay<'_, C, F> {
    /// Until neither side goes on: what the client sends is read, looked at and sent on.
    pub(super) fn pump_up(&mut self, cx: &mut Context<'_>) -> Result<(), RelayError> {
        loop {
            self.write_up(cx)?;
            let full = self.up.as_mut().is_some_and(|buffer| buffer.free().is_empty());
            if full || self.client_closed || self.hold.is_some() || !self.inject.is_empty() {
                return Ok(());
            }
            // As many answers as may be due are due: the rest stays with the client.
            if self.due.len() >= PIPELINED_MAX {
                return Ok(());
            }
            match poll_read(self.client, &mut self.up, self.up_is_long, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => self.client_closed = true,
                Poll::Ready(Ok(_)) => self.scan_commands()?,
                Poll::Ready(Err(e)) => return Err(RelayError::Client(e)),
            }
        }
    }

    /// Sends on what may be sent: the client's bytes first, then what was injected after them.
    fn write_up(&mut self, cx: &mut Context<'_>) -> Result<(), RelayError> {
        loop {
            let source = match &self.up {
                Some(buffer) if self.to_send > 0 => &buffer.filled()[..self.to_send],
                _ => &self.inject[self.injected..],
            };
            if source.is_empty() {
                break;
            }
            let n = match Pin::new(&mut *self.compute).poll_write(cx, source) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(_broken)) => {
                    // What it said before it went is still to be read; what was not sent may be sent to another.
                    self.compute_deaf = true;
                    return Ok(());
                }
            };
            match &mut self.up {
                Some(buffer) if self.to_send > 0 => {
                    buffer.consume(n);
                    self.to_send -= n;
                    self.untouched = false;
                    self.around.metrics.bytes_to_compute(n);
                    self.around.tally.add(Counter::BytesIn, n as u64);
                }
                _ => self.injected += n,
            }
            if self.injected == self.inject.len() && self.injected > 0 {
                self.inject.clear();
                self.injected = 0;
                self.scan_commands()?;
            }
        }
        if self.up.as_ref().is_some_and(Buffer::is_empty) {
            self.up = None;
        }
        Ok(())
    }

    /// Finds the commands in what was read and decides what may be sent on.
    pub(super) fn scan_commands(&mut self) -> Result<(), RelayError> {
        let stopped = self.compute_deaf || self.interrupts.are_running();
        while self.hold.is_none() && self.inject.is_empty() && !stopped {
            let Some(buffer) = &mut self.up else { break };
            self.up_is_long = buffer.is_full();
            let bytes = &buffer.filled()[self.to_send..];
            if bytes.is_empty() || self.user_is_gone && self.commands.is_at_boundary() {
                break;
            }
            match self.commands.scan(bytes).map_err(command_error)? {
                ClientScan::NeedMore => break,
                ClientScan::Command(_) if self.due.len() >= PIPELINED_MAX => break,
                ClientScan::Command(head) => match self.begin_command(head) {
                    Begun::Sent => {}
                    Begun::Waits => {
                        self.room_for_more();
                        break;
                    }
                },
                ClientScan::Body(n) => self.take(n),
                ClientScan::CommandEnd(n) => {
                    self.take(n);
                    self.end_command();
                }
                ClientScan::FileEnd(n) => {
                    self.take(n);
                    self.responses.file_ended(self.commands.answer_sequence());
                }
            }
        }
        Ok(())
    }

    /// A command whose head does not fit behind what is still to be sent moves to the front, once that is sent.
    fn room_for_more(&mut self) {
        if let Some(buffer) = &mut self.up
            && self.to_send == 0
            && self.hold.is_none()
            && buffer.free().is_empty()
        {
            buffer.make_room();
        }
    }

    fn take(&mut self, n: usize) {
        let Some(buffer) = &mut self.up else { return };
        if let Some(capture) = &mut self.capture {
            capture.take(&buffer.filled()[self.to_send..self.to_send + n]);
        }
        if self.skipping {
            buffer.cut(self.to_send, n);
        } else {
            self.to_send += n;
        }
    }

    /// The bytes of the command at hand that are here, header included.
    pub(super) fn at_hand(&self) -> &[u8] {
        self.up
            .as_ref()
            .map_or(&[][..], |buffer| &buffer.filled()[self.to_send..])
    }

    fn begin_command(&mut self, head: CommandHead) -> Begun {
        let command = match Command::from_code(head.code) {
            Some(Command::Quit) => return self.hold(Hold::Quit),
            Some(Command::ChangeUser) => return self.hold(Hold::ChangeUser),
            Some(command) if !is_refused(command) => command,
            _ => return self.hold(Hold::Answer(unknown_command().frame(1))),
        };
        if self.around.session.is_restrained() {
            match self.judge(command, head) {
                None => return Begun::Waits,
                Some(Some(refusal)) => return self.hold(Hold::Answer(refusal)),
                Some(None) => {}
            }
        }
        let mut look = Look::default();
        let kind = match command {
            Command::Query => match self.look_at_query(head) {
                None => return Begun::Waits,
                Some(looked) => {
                    look = looked;
                    Kind::Plain
                }
            },
            Command::ProcessKill if head.frame_payload_len == 5 => {
                let Some(&[a, b, c, d]) = self.at_hand().get(5..9) else {
                    return Begun::Waits;
                };
                let kill = Kill::connection(u32::from_le_bytes([a, b, c, d]));
                if kill.is_for_gateway() {
                    return self.hold(Hold::Kill(kill));
                }
                Kind::Plain
            }
            Command::StmtPrepare => {
                if let Some(refusal) = self.too_many() {
                    // Those under way may fail, and leave room.
                    if !self.due.is_empty() || self.answering.is_some() {
                        return self.hold(Hold::Look);
                    }
                    // Whoever executes what it has prepared last means this one.
                    self.around.session.statements.prepare_failed();
                    return self.hold(Hold::Answer(refusal));
                }
                self.capture = Some(Capture::of(head.frame_payload_len));
                Kind::Prepare
            }
            Command::ResetConnection => Kind::Reset,
            Command::SetOption => {
                match self.at_hand().get(5) {
                    Some(option @ (0 | 1)) => {
                        let on = *option == 0;
                        self.around.session.set_multi_statements(on);
                    }
                    None if head.frame_payload_len > 1 => return Begun::Waits,
                    // The compute refuses it.
                    _ => {}
                }
                Kind::Plain
            }
            _ => match self.translate(command, head) {
                Translated::Held(hold) => return self.hold(hold),
                Translated::More => return Begun::Waits,
                Translated::Statement(id) => {
                    look = self.look_at_statement(command, id);
                    Kind::Statement(id)
                }
                Translated::AsItIs => Kind::Plain,
            },
        };
        if !self.is_silent(command) {
            self.stirred = true;
            self.around.session.previous.is_over();
        }
        // Nothing of what is under way has been sent: it may still be taken back whole.
        if self.due.iter().all(|due| due.own.is_some()) && self.answering.is_none_or(|due| due.own.is_some()) {
            self.untouched = self.to_send == 0;
        }
        if look.pieces.sets_role {
            self.around.session.may_change_role();
        }
        self.untouched &= !std::mem::take(&mut self.changed);
        self.modes_asked = false;
        self.around.session.counted_ahead(false);
        self.commands.begin_command();
        self.around.metrics.command_begun();
        let expect = Expect::of(command);
        self.awaits_answer = expect.is_some();
        if let Some(expect) = expect {
            self.due.push_back(Due {
                expect,
                sequence: 1,
                own: None,
                kind,
                change: look.change,
                may_insert: look.may_insert,
                pieces: look.pieces,
                class: matches!(
                    command,
                    Command::Query | Command::StmtExecute | Command::StmtBulkExecute
                )
                .then_some(look.pieces.class),
            });
        }
        Begun::Sent
    }

    /// Whether a session's account lets it do this: None: more of it must be seen. Some(Some): what refuses it.
    fn judge(&mut self, command: Command, head: CommandHead) -> Option<Option<Vec<u8>>> {
        let packet = self.up.as_ref().map(|buffer| &buffer.filled()[self.to_send..]);
        let packet = packet.unwrap_or_default();
        let judged = match command {
            Command::Query | Command::StmtPrepare => head.frame_payload_len.min(JUDGED_BYTES_MAX),
            _ => 1,
        };
        let text = packet.get(5..4 + judged)?;
        let is_whole = judged == head.frame_payload_len;
        let project = &self.around.pins.project;
        Some(refusal(self.around.session, project, command, text, is_whole))
    }

    fn hold(&mut self, hold: Hold) -> Begun {
        self.hold = Some(hold);
        Begun::Waits
    }

    /// Commands that drivers and pools send to see whether a connection is alive: they keep nobody awake.
    fn is_silent(&self, command: Command) -> bool {
        matches!(command, Command::Ping | Command::Statistics | Command::ResetConnection)
    }

    /// What of a statement's text matters is looked for in as much of it as is here; of the rest the worst is believed.
    /// None: it stays where it is.
    fn look_at_query(&mut self, head: CommandHead) -> Option<Look> {
        let packet = self.at_hand();
        let text = packet
            .get(5..packet.len().min(4 + head.frame_payload_len))
            .unwrap_or_default();
        let is_whole = 1 + text.len() >= head.frame_payload_len;
        if Kill::may_begin(text) && head.frame_payload_len <= cancel::TEXT_BYTES_MAX {
            if !is_whole {
                return None;
            }
            let kill = Kill::read(text, &self.around.session.identity.user);
            if let Some(kill) = kill.filter(Kill::is_for_gateway) {
                self.hold = Some(Hold::Kill(kill));
                return None;
            }
        }
        let read = read_text(text);
        let look = Look {
            change: accounts::change(text),
            may_insert: read.may_insert,
            pieces: read_pieces(text),
        };
        if read.sets_tracker
            && !self.around.session.tracked.opaque
            && head.frame_payload_len <= settings::TEXT_BYTES_MAX
        {
            if !is_whole {
                return None;
            }
            if let Some(asked) = recognise_tracker(text, self.around.session.multi_statements()) {
                self.hold = Some(Hold::Tracker(asked));
                return None;
            }
        }
        // Before modes change under which statements were prepared that nobody has read. Of a session with a tracker of its
        // own they cannot be read, which keeps its connection.
        let session = &*self.around.session;
        let lacks = session.statements.lacks_modes() && !session.tracked.opaque;
        let asks = lacks && (may_set_modes(text) || read.sets_tracker);
        if asks && !self.modes_asked {
            let mut question = Replay::default();
            question.query(MODES);
            self.inject(question, Own::Modes);
            self.modes_asked = true;
            return None;
        }
        if read.sets_tracker && !self.around.session.tracked.opaque {
            let replay = self.around.session.tracker_is_the_clients();
            self.inject(replay, Own::Replay);
            return None;
        }
        let changes_modes = read.may_hide && may_set_modes(text);
        if !self.around.session.previous.is_there() && is_whole {
            let text = text.to_vec();
            if let Some(answer) = diagnostics::answer(&text, self.around.session) {
                self.hold = Some(Hold::Answer(answer));
                return None;
            }
        }
        if read.may_hide || !is_whole {
            let tracked = &mut self.around.session.tracked;
            tracked.hidden();
            if changes_modes {
                tracked.modes_may_change();
            }
        }
        Some(look)
    }

    fn look_at_statement(&self, command: Command, id: u32) -> Look {
        let statement = self.around.session.statements.get(id);
        let class = statement.map(|statement| statement.pieces.class).unwrap_or_default();
        let Some(statement) = statement.filter(|_| command == Command::StmtExecute) else {
            let pieces = Pieces {
                class,
                ..Pieces::default()
            };
            return Look {
                pieces,
                ..Look::default()
            };
        };
        Look {
            change: if statement.changes_accounts {
                Change::Accounts
            } else {
                Change::Nothing
            },
            // What such a statement hides is known since it was prepared.
            may_insert: false,
            pieces: statement.pieces,
        }
    }

    fn end_command(&mut self) {
        if let Some(capture) = self.capture.take() {
            self.prepares_sent.push_back(capture);
        }
        if std::mem::take(&mut self.skipping) {
            return;
        }
        if let Some(due) = self.due.back_mut().filter(|_| self.awaits_answer) {
            due.sequence = self.commands.answer_sequence();
        }
    }

    /// Answers a command that is not sent on, and drops its bytes as they come.
    pub(super) fn answer_here(&mut self, answer: &[u8]) -> Result<(), RelayError> {
        self.skipping = true;
        self.commands.begin_command();
        if !answer.is_empty() {
            self.pass_frame(answer);
        }
        self.scan_commands()
    }
}
