//! The command phase of an attached session: bytes go through as they are, and the gateway knows where each command and
//! each response ends.
//!
//! In: a client, a compute connection, the commands to replay first, what the client has already sent. Out: why it ended
//! ([`Ended`]). Promises: no allocation per packet, every byte copied once from socket to buffer and once to socket;
//! nothing of a row, a blob or a file is kept beyond one buffer; a side that does not read stops the other; commands may
//! be pipelined; buffers are held only while bytes are on their way.
//!
//! Not cancel-safe: the pump is one task's, for as long as the session is attached.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use mysql_wire::capabilities::Capabilities;
use mysql_wire::client_stream::{ClientScan, ClientScanner, CommandHead};
use mysql_wire::command::Command;
use mysql_wire::err::ErrPacket;
use mysql_wire::response::{Expect, ResponseEvent, ResponseScanner};
use tokio::io::{AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::activity::InFlight;
use crate::answer::{is_refused, unknown_command};
use crate::buffer::Buffer;
use crate::drain::{Drain, SHUTDOWN_TEXT};
use crate::error::{ClientFacing, ErrorKind, Told};
use crate::metrics::CoreMetrics;
use crate::route::Running;
use crate::session::{Replay, Session};
use crate::stream::Readable;

/// Commands sent on and not yet answered. More stay in the socket: the client's pipelining goes on, a batch at a time.
const PIPELINED_MAX: usize = 256;

/// Why the relay ended.
pub(crate) enum Ended {
    /// COM_QUIT, or the client closed between commands.
    ClientQuit,
    /// COM_CHANGE_USER: all earlier commands are answered, nothing of this one was sent on.
    ChangeUser {
        bytes: Buffer,
    },
    Failed(RelayError),
}

/// What broke a relay, and what the client can still be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the client left in the middle of a command")]
    ClientCut,
    #[error("client: {0}")]
    Client(io::Error),
    #[error("a command is out of order")]
    OutOfOrder,
    #[error("malformed command: {0}")]
    MalformedCommand(String),
    /// At a packet boundary: the client can be told, with this sequence id.
    #[error("compute: {reason}")]
    ComputeGone { reason: String, sequence: u8 },
    #[error("compute, in the middle of a packet: {reason}")]
    ComputeCut { reason: String },
    #[error("the compute refuses a setting of the session: {0}")]
    Replay(String),
    #[error("{SHUTDOWN_TEXT}")]
    Draining { sequence: u8 },
}

impl RelayError {
    /// Of the ERR packet that tells the client.
    pub(crate) fn sequence(&self) -> u8 {
        match self {
            Self::ComputeGone { sequence, .. } | Self::Draining { sequence } => *sequence,
            _ => 1,
        }
    }
}

impl ClientFacing for RelayError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ClientCut | Self::Client(_) => ErrorKind::Client,
            Self::OutOfOrder | Self::MalformedCommand(_) => ErrorKind::Malformed,
            Self::ComputeGone { .. } | Self::ComputeCut { .. } | Self::Replay(_) => ErrorKind::Compute,
            Self::Draining { .. } => ErrorKind::Ours,
        }
    }

    fn told(&self) -> Option<Told> {
        match self {
            Self::ClientCut | Self::Client(_) | Self::ComputeCut { .. } => None,
            Self::OutOfOrder => Some(Told::out_of_order()),
            Self::MalformedCommand(_) => Some(Told::new(1835, "HY000", "Malformed communication packet")),
            Self::ComputeGone { reason, .. } => Some(Told::shutdown(format!(
                "The connection to the database was closed: {reason}"
            ))),
            Self::Replay(reason) => Some(Told::new(
                1105,
                "HY000",
                format!("The database refused a setting made while it slept: {reason}"),
            )),
            Self::Draining { .. } => Some(Told::shutdown(SHUTDOWN_TEXT)),
        }
    }
}

/// What the relay works with besides the two streams.
pub(crate) struct Surroundings<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) running: &'a Running,
    pub(crate) drain: &'a Drain,
    pub(crate) in_flight: InFlight,
    pub(crate) metrics: &'a CoreMetrics,
}

/// Relays until one side ends. `first` begins with a command of the client's; `replay` goes before it.
/// `on_first_byte` is called once, when the first answer to the client's own commands is there.
pub(crate) async fn run<C: Readable>(
    client: &mut C,
    compute: &mut UnixStream,
    replay: Replay,
    first: Buffer,
    surroundings: Surroundings<'_>,
    on_first_byte: impl FnOnce(),
) -> Ended {
    // Polled once each, so that this task is woken; afterwards the flags tell, at the price of a load.
    let mut closing = pin!(surroundings.running.closing().raised());
    let mut draining = pin!(surroundings.drain.begun.raised());
    let mut over = pin!(surroundings.drain.over.raised());
    let mut relay = Relay::new(client, compute, replay, first, surroundings, on_first_byte);
    let mut registered = false;
    poll_fn(|cx| {
        if !registered {
            registered = true;
            let _ = closing.as_mut().poll(cx);
            let _ = draining.as_mut().poll(cx);
            let _ = over.as_mut().poll(cx);
        }
        match relay.turn(cx) {
            Ok(None) => Poll::Pending,
            Ok(Some(ended)) => Poll::Ready(ended),
            Err(error) => Poll::Ready(Ended::Failed(error)),
        }
    })
    .await
}

/// An answer that is still to come.
#[derive(Debug, Clone, Copy)]
struct Due {
    expect: Expect,
    /// Number of its first frame: the command's frames are counted on.
    sequence: u8,
    /// Of a command of the gateway's own: the client does not see it.
    ours: bool,
}

/// What stops the client's bytes until everything sent on is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Quit,
    ChangeUser,
    /// A command that is answered here.
    Refuse,
}

struct Relay<'a, C, F> {
    client: &'a mut C,
    compute: &'a mut UnixStream,
    around: Surroundings<'a>,
    /// Client to compute: what was read, of which `to_send` bytes may be sent on.
    up: Option<Buffer>,
    to_send: usize,
    /// The gateway's own commands, sent when `to_send` has come down to zero.
    inject: Vec<u8>,
    injected: usize,
    commands: ClientScanner,
    hold: Option<Hold>,
    /// Bytes of the command under way are dropped, not sent on.
    skipping: bool,
    client_closed: bool,
    /// Compute to client: everything in it is for the client.
    down: Option<Buffer>,
    responses: ResponseScanner,
    due: VecDeque<Due>,
    /// The answer under way is one of ours.
    hiding: bool,
    compute_closed: bool,
    flush_client: bool,
    down_is_long: bool,
    up_is_long: bool,
    /// The command under way is COM_RESET_CONNECTION.
    resetting: bool,
    /// The command under way has an answer, the last one due.
    awaits_answer: bool,
    /// What the compute said before it went away.
    compute_said: Option<String>,
    on_first_byte: Option<F>,
}

impl<'a, C: Readable, F: FnOnce()> Relay<'a, C, F> {
    fn new(
        client: &'a mut C,
        compute: &'a mut UnixStream,
        replay: Replay,
        first: Buffer,
        around: Surroundings<'a>,
        on_first_byte: F,
    ) -> Self {
        let capabilities = around.session.capabilities;
        let mut relay = Self {
            client,
            compute,
            around,
            up: Some(first),
            to_send: 0,
            inject: Vec::new(),
            injected: 0,
            commands: ClientScanner::new(),
            hold: None,
            skipping: false,
            client_closed: false,
            down: None,
            responses: ResponseScanner::new(capabilities),
            due: VecDeque::new(),
            hiding: false,
            compute_closed: false,
            flush_client: false,
            down_is_long: false,
            up_is_long: false,
            resetting: false,
            awaits_answer: false,
            compute_said: None,
            on_first_byte: Some(on_first_byte),
        };
        relay.inject(replay);
        relay
    }

    /// One turn of the pump: moves what can be moved in both directions.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Option<Ended>, RelayError> {
        self.scan_commands()?;
        loop {
            let down = self.pump_down(cx)?;
            let up = self.pump_up(cx)?;
            if let Some(ended) = self.settle()? {
                return Ok(Some(ended));
            }
            if !down && !up {
                break;
            }
        }
        self.around.in_flight.set(!self.is_quiet());
        Ok(None)
    }

    /// Nothing is on its way in either direction and no answer is due.
    fn is_quiet(&self) -> bool {
        self.is_answered() && self.up.is_none() && self.inject.is_empty() && self.commands.is_at_boundary()
    }

    fn is_answered(&self) -> bool {
        self.due.is_empty() && self.responses.is_idle() && self.down.is_none()
    }

    // Compute to client.

    /// True: something moved, so another turn may move more.
    fn pump_down(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayError> {
        let mut moved = false;
        loop {
            moved |= self.write_down(cx)?;
            // Read on only when the client has taken everything: what it does not take stays with the compute.
            if self.compute_closed || self.down.is_some() {
                return Ok(moved);
            }
            match poll_read(self.compute, &mut self.down, self.down_is_long, cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(1..)) => self.scan_responses()?,
                // A reset is a close whose reason went missing.
                Poll::Ready(Ok(0) | Err(_)) => self.compute_closed = true,
            }
            moved = true;
        }
    }

    fn write_down(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayError> {
        let mut moved = false;
        if let Some(buffer) = &mut self.down {
            while !buffer.is_empty() {
                match Pin::new(&mut *self.client).poll_write(cx, buffer.filled()) {
                    Poll::Pending => return Ok(moved),
                    Poll::Ready(Ok(0)) => return Err(RelayError::Client(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => buffer.consume(n),
                    Poll::Ready(Err(e)) => return Err(RelayError::Client(e)),
                }
                moved = true;
            }
            self.down = None;
            self.flush_client = true;
        }
        if self.flush_client {
            match Pin::new(&mut *self.client).poll_flush(cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(())) => self.flush_client = false,
                Poll::Ready(Err(e)) => return Err(RelayError::Client(e)),
            }
        }
        Ok(moved)
    }

    /// Finds where responses end in what was just read, and takes out those that are not the client's.
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
            if self.hiding {
                if let Some(ResponseEvent::End(end)) = &scanned.event
                    && end.error.is_some()
                {
                    return Err(self.replay_refused(&buffer.filled()[at..at + scanned.consumed]));
                }
                buffer.cut(at, scanned.consumed);
            } else {
                at += scanned.consumed;
                if let Some(on_first_byte) = self.on_first_byte.take() {
                    on_first_byte();
                }
            }
            match scanned.event {
                Some(ResponseEvent::FileWanted) => self.begin_file()?,
                Some(ResponseEvent::End(end)) => self.around.metrics.response_ended(end.error.is_some()),
                None if scanned.consumed == 0 => return Err(self.compute_cut("a response that cannot be followed")),
                None => {}
            }
        }
        self.around.metrics.bytes_to_client(at);
        self.down = (!buffer.is_empty()).then_some(buffer);
        Ok(())
    }

    /// False: nothing is due.
    fn expect_next(&mut self) -> bool {
        let Some(Due { expect, sequence, ours }) = self.due.pop_front() else {
            return false;
        };
        self.responses.expect(expect, sequence);
        self.hiding = ours;
        true
    }

    /// Bytes that answer nothing: a server that goes away says so in an ERR. It is no answer to the next command.
    fn unsolicited(&mut self, buffer: &mut Buffer, at: usize) {
        let capabilities = self.around.session.capabilities;
        let said = buffer
            .filled()
            .get(at + 4..)
            .and_then(|payload| ErrPacket::decode(payload, capabilities).ok());
        self.compute_said = said.map(|err| String::from_utf8_lossy(err.message).into_owned());
        self.compute_closed = true;
        let rest = buffer.filled().len() - at;
        buffer.cut(at, rest);
    }

    fn replay_refused(&self, response: &[u8]) -> RelayError {
        let err = response
            .get(4..)
            .and_then(|payload| ErrPacket::decode(payload, self.around.session.capabilities).ok());
        RelayError::Replay(
            err.map(|err| String::from_utf8_lossy(err.message).into_owned())
                .unwrap_or_default(),
        )
    }

    fn begin_file(&mut self) -> Result<(), RelayError> {
        let asked_for = self.around.session.capabilities.contains(Capabilities::LOCAL_FILES);
        if self.hiding || !asked_for {
            return Err(self.compute_cut("it asked for a file that the client never offered"));
        }
        self.commands.begin_file().map_err(command_error)
    }

    fn compute_cut(&self, reason: &str) -> RelayError {
        RelayError::ComputeCut {
            reason: reason.to_owned(),
        }
    }

    // Client to compute.

    fn pump_up(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayError> {
        let mut moved = false;
        loop {
            moved |= self.write_up(cx)?;
            let full = self.up.as_mut().is_some_and(|buffer| buffer.free().is_empty());
            if full || self.client_closed || self.hold.is_some() || !self.inject.is_empty() {
                return Ok(moved);
            }
            // As many answers as may be due are due: the rest stays with the client.
            if self.due.len() >= PIPELINED_MAX {
                return Ok(moved);
            }
            match poll_read(self.client, &mut self.up, self.up_is_long, cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(0)) => self.client_closed = true,
                Poll::Ready(Ok(_)) => self.scan_commands()?,
                Poll::Ready(Err(e)) => return Err(RelayError::Client(e)),
            }
            moved = true;
        }
    }

    /// Sends on what may be sent: the client's bytes first, then what was injected after them.
    fn write_up(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayError> {
        let mut moved = false;
        loop {
            let source = match &self.up {
                Some(buffer) if self.to_send > 0 => &buffer.filled()[..self.to_send],
                _ => &self.inject[self.injected..],
            };
            if source.is_empty() {
                break;
            }
            let n = match Pin::new(&mut *self.compute).poll_write(cx, source) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(_broken)) => {
                    // What it said before it went is still to be read.
                    self.stop_sending();
                    return Ok(true);
                }
            };
            moved = true;
            match &mut self.up {
                Some(buffer) if self.to_send > 0 => {
                    buffer.consume(n);
                    self.to_send -= n;
                    self.around.metrics.bytes_to_compute(n);
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
        Ok(moved)
    }

    /// The compute takes nothing any more: drop what was for it, and read what it has to say.
    fn stop_sending(&mut self) {
        self.up = None;
        self.to_send = 0;
        self.inject.clear();
        self.injected = 0;
        self.skipping = true;
    }

    /// Finds the commands in what was read and decides what may be sent on.
    fn scan_commands(&mut self) -> Result<(), RelayError> {
        while self.hold.is_none() && self.inject.is_empty() {
            let Some(buffer) = &mut self.up else { break };
            self.up_is_long = buffer.is_full();
            let bytes = &buffer.filled()[self.to_send..];
            if bytes.is_empty() {
                break;
            }
            match self.commands.scan(bytes).map_err(command_error)? {
                ClientScan::NeedMore => break,
                ClientScan::Command(_) if self.due.len() >= PIPELINED_MAX => break,
                ClientScan::Command(head) => self.begin_command(head),
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

    fn take(&mut self, n: usize) {
        if self.skipping {
            if let Some(buffer) = &mut self.up {
                buffer.cut(self.to_send, n);
            }
        } else {
            self.to_send += n;
        }
    }

    fn begin_command(&mut self, head: CommandHead) {
        let command = match Command::from_code(head.code) {
            Some(Command::Quit) => return self.hold = Some(Hold::Quit),
            Some(Command::ChangeUser) => return self.hold = Some(Hold::ChangeUser),
            Some(command) if !is_refused(command) => command,
            _ => return self.hold = Some(Hold::Refuse),
        };
        self.commands.begin_command();
        self.around.metrics.command_begun();
        self.resetting = command == Command::ResetConnection;
        let expect = Expect::of(command);
        self.awaits_answer = expect.is_some();
        if let Some(expect) = expect {
            self.due.push_back(Due {
                expect,
                sequence: 1,
                ours: false,
            });
        }
    }

    fn end_command(&mut self) {
        if std::mem::take(&mut self.skipping) {
            return;
        }
        if let Some(due) = self.due.back_mut().filter(|_| self.awaits_answer) {
            due.sequence = self.commands.answer_sequence();
        }
        if std::mem::take(&mut self.resetting) {
            self.around.session.reset();
            self.inject(self.around.session.replay_after_reset());
        }
    }

    fn inject(&mut self, replay: Replay) {
        self.inject.extend_from_slice(&replay.frames);
        let due = replay.commands.into_iter().filter_map(Expect::of);
        self.due.extend(due.map(|expect| Due {
            expect,
            sequence: 1,
            ours: true,
        }));
    }

    // Ends.

    /// What follows from where both directions stand now.
    fn settle(&mut self) -> Result<Option<Ended>, RelayError> {
        let answered = self.is_answered() && self.inject.is_empty() && self.to_send == 0;
        match self.hold {
            Some(Hold::Quit) if answered || self.compute_closed => return Ok(Some(Ended::ClientQuit)),
            Some(Hold::ChangeUser) if answered => {
                return Ok(Some(Ended::ChangeUser {
                    bytes: self.up.take().unwrap_or_else(Buffer::small),
                }));
            }
            Some(Hold::Refuse) if answered => self.refuse()?,
            _ => {}
        }
        if self.client_closed {
            let between = self.commands.is_at_boundary() && self.up.is_none();
            return if between {
                Ok(Some(Ended::ClientQuit))
            } else {
                Err(RelayError::ClientCut)
            };
        }
        if self.compute_closed && self.down.is_none() {
            return Err(self.compute_gone());
        }
        if self.around.running.closing().is_raised() && answered {
            return Err(self.compute_gone());
        }
        if self.around.drain.over.is_raised() || (self.around.drain.begun.is_raised() && answered) {
            return Err(match self.boundary_sequence() {
                Some(sequence) => RelayError::Draining { sequence },
                None => self.compute_cut(SHUTDOWN_TEXT),
            });
        }
        Ok(None)
    }

    /// Answers a command that is not sent on, and drops its bytes as they come.
    fn refuse(&mut self) -> Result<(), RelayError> {
        self.hold = None;
        self.skipping = true;
        self.commands.begin_command();
        let mut buffer = Buffer::small();
        buffer.append(&unknown_command().frame(1));
        self.down = Some(buffer);
        self.scan_commands()
    }

    /// The sequence id with which an ERR may stand here; None in the middle of a packet.
    fn boundary_sequence(&self) -> Option<u8> {
        match (
            self.responses.is_idle(),
            self.down.is_none(),
            self.responses.at_packet_boundary(),
        ) {
            (true, true, _) => Some(self.due.front().map_or(1, |due| due.sequence)),
            (false, true, true) => Some(self.responses.next_sequence()),
            _ => None,
        }
    }

    fn compute_gone(&self) -> RelayError {
        let reason = self.around.running.closing().reason().map(str::to_owned);
        let reason = reason
            .or_else(|| self.compute_said.clone())
            .unwrap_or_else(|| "it stopped unexpectedly".into());
        match self.boundary_sequence() {
            Some(sequence) => RelayError::ComputeGone { reason, sequence },
            None => RelayError::ComputeCut { reason },
        }
    }
}

fn command_error(error: mysql_wire::client_stream::ScanError) -> RelayError {
    match error {
        mysql_wire::client_stream::ScanError::OutOfOrder { .. } => RelayError::OutOfOrder,
        other => RelayError::MalformedCommand(other.to_string()),
    }
}

/// Reads into the buffer, taking one only when there is something to read; an empty one goes back at once.
fn poll_read<S: Readable>(
    stream: &mut S,
    slot: &mut Option<Buffer>,
    long: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if slot.is_none() {
        if !stream.may_hold_bytes() {
            ready!(stream.poll_readable(cx))?;
        }
        *slot = Some(if long { Buffer::large() } else { Buffer::small() });
    }
    let Some(buffer) = slot else { return Poll::Pending };
    let mut space = ReadBuf::new(buffer.free());
    let read = Pin::new(stream).poll_read(cx, &mut space);
    let n = space.filled().len();
    buffer.extend(n);
    if buffer.is_empty() {
        *slot = None;
    }
    ready!(read)?;
    Poll::Ready(Ok(n))
}
