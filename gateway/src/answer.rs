//! Commands that need no database: answered here while the session holds no compute connection.
//!
//! In: a session without a compute. Out: what it wants next ([`Wanted`]), with every byte that the client sent and that
//! was not answered still in the buffer. An idle client costs no buffer: one is taken when bytes are there.

pub(crate) mod diagnostics;
pub(crate) mod settings;

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::column::{ColumnDefinition, text_result_set};
use mysql_wire::command::Command;
use mysql_wire::execute::{LAST_PREPARED, statement_id};
use mysql_wire::frame::{FRAME_PAYLOAD_MAX, FrameHeader};
use mysql_wire::ok::{OkPacket, eof_frame, ok_frame};
use mysql_wire::response::Expect;
use mysql_wire::status::StatusFlags;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::buffer::Buffer;
use crate::cancel::{Handle, Kill, Killed, Killer, Outcome};
use crate::drain::{Drain, SHUTDOWN_TEXT};
use crate::error::{ClientFacing, ErrorKind, Told};
use crate::restraint;
use crate::route::{ComputeView, Server, ShutOut};
use crate::session::{ResultsCharset, Session, hears};
use crate::stream::{ClientStream, Readable};
use settings::{Recognised, recognise, recognise_settings};

/// A COM_CHANGE_USER is a login packet in other clothes.
const CHANGE_USER_BYTES_MAX: usize = crate::handshake::LOGIN_PACKET_BYTES_MAX;
/// For the whole of its packet: what a whole login has, unless it is set otherwise (`login_timeout`).
const CHANGE_USER_TIME: Duration = Duration::from_secs(10);

/// What a session without a compute wants next.
pub(crate) enum Wanted {
    /// A compute: the buffer begins with a command for it.
    Compute { command: Command, bytes: Buffer },
    /// To be somebody else: the packet's payload, and what followed it.
    ChangeUser {
        packet: Vec<u8>,
        sequence: u8,
        bytes: Buffer,
    },
    /// The client said goodbye, or is gone between commands.
    Nothing,
}

/// Why the session cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the client left in the middle of a command")]
    Cut,
    #[error("a command is out of order")]
    OutOfOrder,
    #[error("a COM_CHANGE_USER of more than {CHANGE_USER_BYTES_MAX} bytes")]
    ChangeUserTooLarge,
    #[error("{SHUTDOWN_TEXT}")]
    Draining,
    #[error("project was deleted")]
    Removed,
    #[error("{0} is in none of the project's allowed networks")]
    ShutOut(IpAddr),
    #[error("its user was deleted")]
    UserGone,
    #[error("silent for longer than its wait_timeout")]
    Silent,
    /// A part of an answer is on its way: nothing can be said behind it.
    #[error("the client does not read its answers")]
    Unread,
    #[error(transparent)]
    Killed(Killed),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ClientFacing for AnswerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Killed(killed) => killed.kind(),
            Self::Cut | Self::Silent | Self::Unread | Self::Io(_) => ErrorKind::Client,
            Self::OutOfOrder | Self::ChangeUserTooLarge => ErrorKind::Malformed,
            Self::Draining => ErrorKind::Ours,
            Self::Removed | Self::ShutOut(_) | Self::UserGone => ErrorKind::Denied,
        }
    }

    fn told(&self) -> Option<Told> {
        match self {
            Self::Cut | Self::Unread | Self::Io(_) => None,
            Self::OutOfOrder => Some(Told::out_of_order()),
            Self::ChangeUserTooLarge => Some(Told::new(
                1153,
                "08S01",
                "Got a packet bigger than 'max_allowed_packet' bytes",
            )),
            Self::Draining => Some(Told::shutdown(SHUTDOWN_TEXT)),
            Self::Killed(killed) => killed.told(),
            Self::Removed => Some(Told::shutdown("The project was deleted")),
            Self::ShutOut(ip) => Some(Told::shut_out(*ip)),
            Self::UserGone => Some(Told::user_gone()),
            // MySQL's ER_CLIENT_INTERACTION_TIMEOUT; MariaDB closes without a word.
            Self::Silent => Some(Told::new(
                4031,
                "08S01",
                "The client was silent for longer than its wait_timeout",
            )),
        }
    }
}

/// Answers commands until one needs more than the gateway. `bytes` are what an earlier step read and did not use; `owed` is
/// what the next command is answered with, whatever it is: the session has lost something.
pub(crate) async fn until_more_is_wanted(
    stream: &mut ClientStream,
    session: &mut Session,
    killer: Killer<'_>,
    from: IpAddr,
    drain: &Drain,
    bytes: Option<Buffer>,
    mut owed: Option<Told>,
) -> Result<Wanted, AnswerError> {
    let project = killer.project;
    let user = session.identity.user.clone();
    let ends = Ends {
        own: killer.own,
        from,
        shut_out: pin!(project.shuts_out(from, &user, session.life)),
        drain,
        over: pin!(drain.over.raised()),
    };
    let mut reader = Reader {
        stream,
        bytes,
        ends,
        silence: Duration::ZERO,
    };
    let mut leaves = pin!(drain.turn());
    loop {
        reader.silence = session.wait_timeout(project.server().as_deref());
        let Some((header, code)) = reader.command_head(leaves.as_mut()).await? else {
            return Ok(Wanted::Nothing);
        };
        if header.sequence != 0 {
            return Err(AnswerError::OutOfOrder);
        }
        if matches!(project.compute(), ComputeView::Removed) {
            return Err(AnswerError::Removed);
        }
        let mut out = Vec::new();
        let command = code.and_then(Command::from_code);
        match command {
            Some(Command::Quit) => return Ok(Wanted::Nothing),
            // These begin anew: what was lost does not matter to them.
            Some(Command::ChangeUser | Command::ResetConnection) => owed = None,
            _ => {}
        }
        let refusal = match command {
            Some(command) if session.is_restrained() && owed.is_none() => {
                let payload = match command {
                    Command::Query | Command::StmtPrepare => reader.payload(header).await?,
                    _ => &[],
                };
                let is_whole = payload.len() == header.payload_len;
                let text = payload.get(1..).unwrap_or_default();
                restraint::refusal(session, project, command, text, is_whole)
            }
            _ => None,
        };
        match command {
            Some(_) if refusal.is_some() => out = refusal.unwrap_or_default(),
            Some(command) if owed.is_some() && Expect::of(command).is_some() => {
                out = owed.take().map(|told| told.frame(1)).unwrap_or_default();
                session.previous.is_over();
            }
            Some(Command::Ping) => ok_frame(&mut out, 1, session.status(), session.capabilities),
            Some(Command::ResetConnection) => {
                session.reset();
                ok_frame(&mut out, 1, session.status(), session.capabilities);
            }
            Some(Command::Statistics) => statistics(&mut out),
            Some(command @ (Command::StmtClose | Command::StmtReset | Command::StmtFetch)) => {
                if !statement(&mut out, command, reader.payload(header).await?, session) {
                    let bytes = reader.bytes.take().unwrap_or_else(Buffer::small);
                    return Ok(Wanted::Compute { command, bytes });
                }
            }
            Some(Command::SetOption) => set_option(&mut out, reader.payload(header).await?, session),
            Some(Command::ChangeUser) => return reader.change_user(header).await,
            Some(command) if !is_refused(command) => {
                let known = match command {
                    Command::Query if header.payload_len <= settings::TEXT_BYTES_MAX => {
                        let payload = reader.payload(header).await?;
                        match kill_of_query(payload, &session.identity.user) {
                            Some(kill) => {
                                out = answer_kill(killer, &kill, session).await;
                                true
                            }
                            None => answer_query(&mut out, payload, session, project.server().as_deref()),
                        }
                    }
                    Command::ProcessKill => match reader.payload(header).await? {
                        [_, a, b, c, d] => {
                            let kill = Kill::connection(u32::from_le_bytes([*a, *b, *c, *d]));
                            out = answer_kill(killer, &kill, session).await;
                            true
                        }
                        _ => false,
                    },
                    _ => false,
                };
                if !known {
                    // The head was read, so there is a buffer.
                    let bytes = reader.bytes.take().unwrap_or_else(Buffer::small);
                    return Ok(Wanted::Compute { command, bytes });
                }
            }
            _ => out = unknown_command().frame(1),
        }
        session.counted_ahead(false);
        reader.skip_packet(header).await?;
        if !out.is_empty() {
            reader.send(&out).await?;
        }
    }
}

/// Commands of replication and of the server's own making: never ended by a response this gateway could find the end of,
/// and beyond the rights of any tenant.
pub(crate) fn is_refused(command: Command) -> bool {
    matches!(
        command,
        Command::Sleep
            | Command::Connect
            | Command::Time
            | Command::DelayedInsert
            | Command::BinlogDump
            | Command::TableDump
            | Command::ConnectOut
            | Command::RegisterSlave
            | Command::Daemon
    )
}

/// As MariaDB answers what it does not know.
pub(crate) fn unknown_command() -> Told {
    Told::new(1047, "08S01", "Unknown command")
}

/// A session without a compute has no cursor and no parameter data. False: there is no such statement, which a compute says
/// in its own words.
fn statement(out: &mut Vec<u8>, command: Command, payload: &[u8], session: &mut Session) -> bool {
    let id = match statement_id(payload) {
        Some(LAST_PREPARED) => session.statements.last_prepared(),
        id => id,
    };
    let known = id.filter(|id| session.statements.get(*id).is_some());
    match (command, known) {
        (Command::StmtClose, id) => drop(id.and_then(|id| session.statements.close(id))),
        (Command::StmtReset, Some(_)) => ok_frame(out, 1, session.status(), session.capabilities),
        _ => return false,
    }
    true
}

/// The counters of a server that sleeps.
fn statistics(out: &mut Vec<u8>) {
    let text =
        "Uptime: 0  Threads: 0  Questions: 0  Slow queries: 0  Opens: 0  Open tables: 0  Queries per second avg: 0.000";
    mysql_wire::frame::write_packet(out, &mut 1, text.as_bytes());
}

fn set_option(out: &mut Vec<u8>, payload: &[u8], session: &mut Session) {
    match payload {
        [_, option @ (0 | 1), 0] => {
            session.set_multi_statements(*option == 0);
            eof_frame(out, 1, 0, session.status(), session.capabilities);
        }
        _ => *out = unknown_command().frame(1),
    }
}

/// `payload` begins with the command byte.
fn kill_of_query(payload: &[u8], user: &str) -> Option<Kill> {
    let text = payload.get(1..).unwrap_or_default();
    Kill::may_begin(text).then(|| Kill::read(text, user)).flatten()
}

/// Nothing where the connection is to end: that is found at the next command.
async fn answer_kill(killer: Killer<'_>, kill: &Kill, session: &mut Session) -> Vec<u8> {
    let outcome = killer.kill(&session.identity.user, kill).await;
    kill_answer(outcome, session)
}

/// The frame that answers a KILL, which is the session's last statement from here on.
pub(crate) fn kill_answer(outcome: Outcome, session: &mut Session) -> Vec<u8> {
    match outcome {
        Outcome::Own => Vec::new(),
        Outcome::Refused(told) => {
            diagnostics::keep(session, "-1", Some(&told));
            told.frame(1)
        }
        Outcome::Done(connections) => {
            diagnostics::keep(session, &connections.to_string(), None);
            let ok = OkPacket {
                affected_rows: connections,
                status: session.status(),
                ..OkPacket::default()
            };
            let mut out = Vec::new();
            mysql_wire::frame::write_packet(&mut out, &mut 1, &ok.encode(session.capabilities));
            out
        }
    }
}

/// True: the answer is in `out`. `payload` begins with the command byte.
fn answer_query(out: &mut Vec<u8>, payload: &[u8], session: &mut Session, server: Option<&Server>) -> bool {
    if let Some(answer) = diagnostics::answer(payload.get(1..).unwrap_or_default(), session) {
        *out = answer;
        return true;
    }
    let text = payload.get(1..).unwrap_or_default();
    if let Some(settings) = recognise_settings(text, session.multi_statements()) {
        return answer_settings(out, settings, session);
    }
    match recognise(text) {
        Some(Recognised::Variables(asked)) => {
            let (Some(server), Some(charset)) = (server, session.results_charset()) else {
                return false;
            };
            let columns = asked
                .iter()
                .map(|asked| column(asked, session, server, charset))
                .collect::<Option<Vec<_>>>();
            let Some(columns) = columns else { return false };
            let (definitions, row): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
            let row: Vec<_> = row.iter().map(|value| Some(value.as_bytes())).collect();
            text_result_set(out, 1, &definitions, &[row], session.capabilities, session.status());
            diagnostics::nothing_left(session, "-1", "1");
            true
        }
        _ => false,
    }
}

/// An OK for each. False: there is no room to remember them all.
fn answer_settings(out: &mut Vec<u8>, settings: Vec<(&[u8], Recognised<'_>)>, session: &mut Session) -> bool {
    let mut sequence = 1;
    let mut left = settings.len();
    for (statement, setting) in settings {
        let tracked = match setting {
            Recognised::Setting { effect, tracked } => {
                let remembered = std::str::from_utf8(statement).is_ok_and(|text| session.remember(text, effect));
                if !remembered {
                    out.clear();
                    return false;
                }
                tracked
            }
            Recognised::Tracker(asked) => {
                session.tracked.hears.apply(asked);
                Vec::new()
            }
            Recognised::Variables(_) => return false,
        };
        diagnostics::nothing_left(session, "0", "0");
        left -= 1;
        setting_ok(out, &mut sequence, session, &tracked, left > 0);
    }
    true
}

/// What an attached session's client wants to hear of: all of its last statements. Returns what it is answered with.
pub(crate) fn set_tracker(session: &mut Session, asked: &[hears::Asked]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sequence = 1;
    let mut left = asked.len();
    for asked in asked {
        session.tracked.hears.apply(*asked);
        left -= 1;
        setting_ok(&mut out, &mut sequence, session, &[], left > 0);
    }
    diagnostics::keep(session, "0", None);
    out
}

/// The OK of a SET, with the report that a client which asked for session tracking would have.
fn setting_ok(
    out: &mut Vec<u8>,
    sequence: &mut u8,
    session: &Session,
    tracked: &[(&'static str, String)],
    more_follow: bool,
) {
    let tells = session.capabilities.contains(Capabilities::SESSION_TRACK);
    let heard = tracked
        .iter()
        .filter(|(name, _)| tells && session.tracked.hears.of_variable(name));
    let block = mysql_wire::session_track::encode_system_variables(heard.map(|(n, v)| (*n, v.as_str())));
    let mut ok = OkPacket {
        status: session.status(),
        ..OkPacket::default()
    };
    if more_follow {
        ok.status = ok.status | StatusFlags::MORE_RESULTS;
    }
    if !block.is_empty() {
        ok.status = ok.status | StatusFlags::SESSION_STATE_CHANGED;
        ok.session_track = Some(&block);
    }
    mysql_wire::frame::write_packet(out, sequence, &ok.encode(session.capabilities));
}

/// What MariaDB 10.11 answers for `SELECT @@variable`, recorded. None: not known here.
fn column<'a>(
    asked: &settings::Asked<'_>,
    session: &Session,
    server: &'a Server,
    charset: ResultsCharset,
) -> Option<(ColumnDefinition, &'a str)> {
    let variable = match asked.variable.as_str() {
        // A session that was logged in as interactive waits by the other one.
        "wait_timeout" if session.capabilities.contains(Capabilities::INTERACTIVE) => "interactive_timeout",
        // The client set something, perhaps this.
        "wait_timeout" | "interactive_timeout" if session.has_settings() => return None,
        "time_zone" | "auto_increment_increment" if session.may_have_set(&asked.variable) => return None,
        name => name,
    };
    let value = server.variables.get(variable)?.as_str();
    let definition = match variable {
        "max_allowed_packet" | "wait_timeout" | "interactive_timeout" | "auto_increment_increment" => {
            ColumnDefinition {
                name: asked.expression.as_bytes().to_vec(),
                charset: 63,
                column_length: 21,
                column_type: 8,
                flags: 0x00a0,
                decimals: 0,
                ..ColumnDefinition::default()
            }
        }
        "version" | "version_comment" | "socket" | "system_time_zone" | "time_zone" if value.is_ascii() => {
            ColumnDefinition {
                name: asked.expression.as_bytes().to_vec(),
                charset: charset.collation,
                column_length: u32::try_from(value.len()).ok()? * charset.bytes_max,
                column_type: 0xfd,
                flags: 0,
                decimals: 39,
                ..ColumnDefinition::default()
            }
        }
        _ => return None,
    };
    Some((definition, value))
}

/// What ends a session whatever its client is at: one that stops in the middle of a command, or does not read, holds on to nothing
/// by that.
struct Ends<'a, S> {
    own: &'a Handle,
    from: IpAddr,
    shut_out: Pin<&'a mut S>,
    drain: &'a Drain,
    over: Pin<&'a mut WaitForCancellationFutureOwned>,
}

impl<S: Future<Output = ShutOut>> Ends<'_, S> {
    /// Completes when it is to end. Cancel-safe; not to be asked again.
    async fn come(&mut self) -> AnswerError {
        tokio::select! {
            biased;
            () = self.own.killed() => AnswerError::Killed(Killed),
            why = self.shut_out.as_mut() => match why {
                ShutOut::Network => AnswerError::ShutOut(self.from),
                ShutOut::User => AnswerError::UserGone,
                ShutOut::Project => AnswerError::Removed,
            },
            () = self.over.as_mut() => {
                self.drain.cuts();
                AnswerError::Draining
            }
        }
    }
}

/// The client's bytes, a command at a time.
struct Reader<'a, S> {
    stream: &'a mut ClientStream,
    bytes: Option<Buffer>,
    ends: Ends<'a, S>,
    /// How long the client may send nothing, or read nothing.
    silence: Duration,
}

impl<S: Future<Output = ShutOut>> Reader<'_, S> {
    /// The frame header and command byte of the next command, left in the buffer. None: the client closed between
    /// commands. The code is None for an empty packet.
    async fn command_head(
        &mut self,
        mut leaves: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<(FrameHeader, Option<u8>)>, AnswerError> {
        let silent_until = Instant::now() + self.silence;
        loop {
            // Before each command: one who always has the next one here is never waited for below.
            if let Poll::Ready(error) = futures::poll!(pin!(self.ends.come())) {
                return Err(error);
            }
            let filled = self.bytes.as_ref().map_or(&[][..], Buffer::filled);
            if let Some(header) = FrameHeader::decode(filled) {
                if header.payload_len == 0 {
                    return Ok(Some((header, None)));
                }
                if let Some(code) = filled.get(4) {
                    return Ok(Some((header, Some(*code))));
                }
            }
            let between_commands = filled.is_empty();
            if between_commands {
                self.bytes = None;
            }
            tokio::select! {
                biased;
                () = &mut leaves => return Err(AnswerError::Draining),
                error = self.ends.come() => return Err(error),
                () = sleep_until(silent_until) => return Err(AnswerError::Silent),
                read = read(self.stream, &mut self.bytes) => match read? {
                    0 if between_commands => return Ok(None),
                    0 => return Err(AnswerError::Cut),
                    _ => {}
                },
            }
        }
    }

    /// In the middle of a command.
    async fn more(&mut self) -> Result<(), AnswerError> {
        let read = tokio::select! {
            biased;
            error = self.ends.come() => return Err(error),
            read = read(self.stream, &mut self.bytes) => read?,
            () = sleep(self.silence) => return Err(AnswerError::Silent),
        };
        match read {
            0 => Err(AnswerError::Cut),
            _ => Ok(()),
        }
    }

    /// An answer.
    async fn send(&mut self, answer: &[u8]) -> Result<(), AnswerError> {
        let sent = async {
            self.stream.write_all(answer).await?;
            self.stream.flush().await
        };
        tokio::select! {
            biased;
            sent = sent => Ok(sent?),
            _ = self.ends.come() => Err(AnswerError::Unread),
            () = sleep(self.silence) => Err(AnswerError::Unread),
        }
    }

    /// The whole payload of a packet that fits the buffer, left in it.
    async fn payload(&mut self, header: FrameHeader) -> Result<&[u8], AnswerError> {
        let len = header.payload_len.min(settings::TEXT_BYTES_MAX) + 4;
        while self.bytes.as_ref().is_none_or(|bytes| bytes.filled().len() < len) {
            self.more().await?;
        }
        Ok(self.bytes.as_ref().map_or(&[][..], |bytes| &bytes.filled()[4..len]))
    }

    /// Takes a packet off the stream, with the frames that continue it.
    async fn skip_packet(&mut self, mut header: FrameHeader) -> Result<(), AnswerError> {
        loop {
            let mut left = header.payload_len + 4;
            loop {
                if let Some(bytes) = &mut self.bytes {
                    let n = bytes.filled().len().min(left);
                    bytes.consume(n);
                    left -= n;
                }
                if left == 0 {
                    break;
                }
                self.more().await?;
            }
            if header.payload_len < FRAME_PAYLOAD_MAX {
                return Ok(());
            }
            header = loop {
                match self
                    .bytes
                    .as_ref()
                    .and_then(|bytes| FrameHeader::decode(bytes.filled()))
                {
                    Some(header) => break header,
                    None => self.more().await?,
                }
            };
        }
    }

    async fn change_user(mut self, header: FrameHeader) -> Result<Wanted, AnswerError> {
        if header.payload_len > CHANGE_USER_BYTES_MAX {
            return Err(AnswerError::ChangeUserTooLarge);
        }
        // No session may keep this much for as long as it may be silent, and what is announced is not there yet.
        let until = Instant::now() + CHANGE_USER_TIME;
        let mut packet = Vec::new();
        let whole = header.payload_len + 4;
        loop {
            if let Some(bytes) = &mut self.bytes {
                let n = bytes.filled().len().min(whole - packet.len());
                packet.extend_from_slice(&bytes.filled()[..n]);
                bytes.consume(n);
            }
            if packet.len() == whole {
                break;
            }
            self.silence = self.silence.min(until.saturating_duration_since(Instant::now()));
            self.more().await?;
        }
        packet.drain(..4);
        let bytes = self.bytes.take().unwrap_or_else(Buffer::small);
        Ok(Wanted::ChangeUser {
            packet,
            sequence: header.sequence.wrapping_add(1),
            bytes,
        })
    }
}

/// Waits without a buffer, then reads into one. Cancel-safe.
async fn read(stream: &mut ClientStream, bytes: &mut Option<Buffer>) -> io::Result<usize> {
    poll_fn(|cx| {
        loop {
            if bytes.is_none() {
                // A TLS stream may hold bytes above the socket, so it is read first and waited for after.
                if !stream.is_tls() {
                    std::task::ready!(stream.poll_readable(cx))?;
                }
                *bytes = Some(Buffer::small());
            }
            let Some(buffer) = bytes else { continue };
            let mut space = ReadBuf::new(buffer.free());
            let read = Pin::new(&mut *stream).poll_read(cx, &mut space);
            let n = space.filled().len();
            return match read {
                Poll::Ready(Ok(())) => {
                    buffer.extend(n);
                    Poll::Ready(Ok(n))
                }
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                Poll::Pending => {
                    if buffer.is_empty() {
                        *bytes = None;
                    }
                    Poll::Pending
                }
            };
        }
    })
    .await
}
