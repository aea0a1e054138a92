//! The command phase of an attached session: bytes go through as they are, and the gateway knows where each command and
//! each response ends.
//!
//! In: a client, a compute connection, the commands to replay first, what the client has already sent. Out: why it ended
//! ([`Ended`]). Promises: no allocation per packet, every byte copied once from socket to buffer and once to socket;
//! nothing of a row, a blob or a file is kept beyond one buffer; a side that does not read stops the other; commands may
//! be pipelined; buffers are held only while bytes are on their way.
//!
//! [`up`] carries the client's commands to the compute, [`down`] the answers back, [`statement`] gives prepared statements
//! their ids, [`park`] decides when the session leaves the connection, [`kill`] ends what others
//! and this client want ended. Only what changes is touched on the way: ids of statements, and the reports of the session tracker, which are the gateway's own wish.
//!
//! Not cancel-safe: the pump is one task's, for as long as the session is attached.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::client_stream::ClientScanner;
use mysql_wire::response::{Expect, ResponseScanner};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::accounts::{Accounts, Change};
use crate::activity::{InFlight, Pinned, Pins};
use crate::answer::set_tracker;
use crate::buffer::Buffer;
use crate::cancel::{Kill, Killed, Killer, Outcome};
use crate::drain::{Drain, SHUTDOWN_TEXT};
use crate::error::{ClientFacing, ErrorKind, Told};
use crate::meter::{Class, Tally};
use crate::metrics::CoreMetrics;
use crate::route::Running;
use crate::session::inventory::Inventory;
use crate::session::life;
use crate::session::tracked::Pieces;
use crate::session::{Replay, Session, hears};
use crate::stream::Readable;

mod down;
mod kill;
mod park;
mod statement;
mod up;

use kill::{Elsewhere, Interrupts};
pub(crate) use park::Config;
use statement::{Capture, Reprepare};

/// Commands sent on and not yet answered. More stay in the socket: the client's pipelining goes on, a batch at a time.
const PIPELINED_MAX: usize = 256;

/// How often a client whose bytes stay in the socket is looked after: whoever leaves has its statement ended within a second.
const GLANCE: Duration = Duration::from_millis(250);
/// A whole COM_QUIT.
const QUIT_PACKET: [u8; 5] = [1, 0, 0, 0, 1];

/// Why the relay ended.
pub(crate) enum Ended {
    /// COM_QUIT, or the client closed between commands.
    ClientQuit,
    /// COM_CHANGE_USER: all earlier commands are answered, nothing of this one was sent on.
    ChangeUser { bytes: Buffer },
    /// The session needs this connection no more; everything of it is kept. What the client has sent since is in `bytes`.
    Parked { bytes: Option<Buffer> },
    /// The compute is gone, the session is not.
    Lost {
        /// What the client has sent and no compute has seen.
        bytes: Option<Buffer>,
        /// ERR frames that answer what was under way.
        answers: Vec<u8>,
        /// What the next command is to be answered with: something of the session was lost while nothing was under way.
        owed: Option<Told>,
    },
    Failed {
        error: RelayError,
        /// A command of the client's is not answered: the compute may still be at it.
        under_way: bool,
    },
}

/// What broke a relay, and what the client can still be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the client left while a command was under way")]
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
    /// The session is idle and cannot leave its connection, and may not keep it.
    #[error("{because}: the session held {pin}")]
    Evicted { pin: life::Pin, because: String },
    #[error("{SHUTDOWN_TEXT}")]
    Draining { sequence: u8 },
    /// None: in the middle of a packet.
    #[error("{Killed}")]
    Killed { sequence: Option<u8> },
    #[error("{from} is in none of the project's allowed networks")]
    ShutOut { from: IpAddr, sequence: u8 },
    #[error("its user was deleted")]
    UserGone { sequence: u8 },
}

impl RelayError {
    /// Of the ERR packet that tells the client.
    pub(crate) fn sequence(&self) -> u8 {
        match self {
            Self::ComputeGone { sequence, .. }
            | Self::Draining { sequence }
            | Self::ShutOut { sequence, .. }
            | Self::UserGone { sequence } => *sequence,
            Self::Killed { sequence } => sequence.unwrap_or(1),
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
            Self::Evicted { .. } => ErrorKind::Limited,
            Self::Draining { .. } => ErrorKind::Ours,
            Self::Killed { .. } => Killed.kind(),
            Self::ShutOut { .. } | Self::UserGone { .. } => ErrorKind::Denied,
        }
    }

    fn told(&self) -> Option<Told> {
        match self {
            Self::ClientCut | Self::Client(_) | Self::ComputeCut { .. } => None,
            Self::OutOfOrder => Some(Told::out_of_order()),
            Self::MalformedCommand(_) => Some(Told::new(1835, "HY000", "Malformed communication packet")),
            Self::ComputeGone { reason, .. } => Some(gone(reason)),
            Self::Replay(reason) => Some(Told::new(
                1105,
                "HY000",
                format!("The database refused to restore the session: {reason}"),
            )),
            Self::Evicted { pin, because } => Some(gone(&format!("{because}, and the session held {pin}"))),
            Self::Draining { .. } => Some(Told::shutdown(SHUTDOWN_TEXT)),
            Self::Killed { sequence } => sequence.and_then(|_| Killed.told()),
            Self::ShutOut { from, .. } => Some(Told::shut_out(*from)),
            Self::UserGone { .. } => Some(Told::user_gone()),
        }
    }
}

/// The last that the client has sent is a COM_QUIT.
pub(crate) fn ends_in_goodbye(bytes: &Buffer) -> bool {
    bytes.filled().ends_with(&QUIT_PACKET)
}

fn gone(reason: &str) -> Told {
    Told::shutdown(format!("The connection to the database was closed: {reason}"))
}

/// What the relay works with besides the two streams.
pub(crate) struct Surroundings<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) running: &'a Running,
    /// The compute's id of the connection.
    pub(crate) thread_id: u32,
    pub(crate) killer: Killer<'a>,
    pub(crate) drain: &'a Drain,
    pub(crate) in_flight: InFlight,
    pub(crate) metrics: &'a CoreMetrics,
    /// What is on the bill.
    pub(crate) tally: &'a Tally,
    pub(crate) park: &'a Config,
    /// What was agreed with the compute.
    pub(crate) capabilities: Capabilities,
    pub(crate) pinned_idle_timeout: Duration,
    /// For the command in flight of a session whose user is deleted.
    pub(crate) last_command: Duration,
    /// Where sessions that cannot park are named.
    pub(crate) pins: Pins,
    /// Whom to ask about statements that change accounts.
    pub(crate) accounts: &'a Accounts,
    /// The client's address.
    pub(crate) from: IpAddr,
}

/// Relays until one side ends or the session parks. `first` begins with a command of the client's; `replay` goes before it.
/// `on_first_byte` is called once, when the first answer to the client's own commands is there.
pub(crate) async fn run<C: Readable>(
    client: &mut C,
    compute: &mut UnixStream,
    replay: Replay,
    first: Buffer,
    surroundings: Surroundings<'_>,
    on_first_byte: impl FnOnce(),
) -> Ended {
    let running = surroundings.running;
    // Polled once each, so that this task is woken; afterwards the flags tell, at the price of a load.
    let mut closing = pin!(running.closing().raised());
    let drain = surroundings.drain;
    let mut leaves = pin!(drain.turn());
    let mut over = pin!(surroundings.drain.over.raised());
    let mut nudges = running.nudges();
    let mut nudged = pin!(running.nudged());
    let own = surroundings.killer.own;
    let mut asked = pin!(own.asked());
    let mut asks = own.asks();
    let mut idle = pin!(sleep_until(Instant::now() + surroundings.park.after));
    let mut glance = pin!(sleep_until(Instant::now() + GLANCE));
    let mut glancing = false;
    let last_command = surroundings.last_command;
    let mut overdue = pin!(None::<Sleep>);
    let mut relay = Relay::new(client, compute, replay, first, surroundings, on_first_byte);
    let mut registered = false;
    poll_fn(|cx| {
        if !registered {
            registered = true;
            let _ = closing.as_mut().poll(cx);
            relay.leaves |= leaves.as_mut().poll(cx).is_ready();
            let _ = over.as_mut().poll(cx);
            let _ = nudged.as_mut().poll(cx);
            let _ = asked.as_mut().poll(cx);
            let _ = idle.as_mut().poll(cx);
        }
        loop {
            match relay.turn(cx) {
                Ok(None) => {}
                Ok(Some(ended)) => return Poll::Ready(ended),
                Err(error) => return Poll::Ready(relay.failed(error)),
            }
            if relay.is_blind() {
                if relay.client.is_closed_by_peer() {
                    return Poll::Ready(relay.failed(RelayError::ClientCut));
                }
                if glance.is_elapsed() || !glancing {
                    glancing = true;
                    glance.as_mut().reset(Instant::now() + GLANCE);
                    // Woken for what has happened meanwhile, a moment is never missed.
                    let _ = glance.as_mut().poll(cx);
                }
            }
            // Between its begin and this session's turn there is a timer to be woken by.
            if drain.begun.is_raised() && !relay.leaves && leaves.as_mut().poll(cx).is_ready() {
                relay.leaves = true;
                continue;
            }
            if relay.user_is_gone && !relay.is_overdue {
                if overdue.is_none() {
                    overdue.set(Some(sleep_until(Instant::now() + last_command)));
                }
                let elapsed = overdue.as_mut().as_pin_mut().map(|timer| timer.poll(cx));
                if elapsed.is_some_and(|elapsed| elapsed.is_ready()) {
                    relay.is_overdue = true;
                    continue;
                }
            }
            // Whoever waits for something must be woken by it the next time, too: polled anew when it has happened, not at
            // every turn.
            let mut again = false;
            let nudges_now = running.nudges();
            if nudges_now != nudges {
                nudges = nudges_now;
                nudged.set(running.nudged());
                let _ = nudged.as_mut().poll(cx);
                relay.look_at_doors();
                again = true;
            }
            let asks_now = own.asks();
            if asks_now != asks {
                asks = asks_now;
                asked.set(own.asked());
                let _ = asked.as_mut().poll(cx);
                again = true;
            }
            // It is set anew only when it has run out, not at every command, or when it would run out too late.
            let clock_changed = std::mem::take(&mut relay.clock_changed);
            if idle.is_elapsed() || clock_changed && idle.deadline() > relay.idle_for_long() {
                idle.as_mut().reset(relay.idle_for_long());
                let _ = idle.as_mut().poll(cx);
                again = true;
            }
            if !again {
                return Poll::Pending;
            }
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
    own: Option<Own>,
    kind: Kind,
    /// Where it may change accounts, its OK waits until this gateway knows how.
    change: Change,
    /// It may be an INSERT or a REPLACE.
    may_insert: bool,
    /// What its statements begin with.
    pieces: Pieces,
    /// As what it is counted once it is answered.
    class: Option<Class>,
}

/// What its answer changes of the session, besides what the answer itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Prepare,
    /// The statement that the client executes or fetches from.
    Statement(u32),
    Reset,
}

/// Why the gateway sent a command of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Replay,
    Inventory,
    /// To learn under which modes statements are prepared now.
    Modes,
    Reprepare,
}

/// What followed from where both directions stood.
enum Settled {
    Ended(Ended),
    /// There is something new to move.
    Acted,
    Rests,
}

/// What stops the client's bytes until everything sent on is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hold {
    Quit,
    ChangeUser,
    /// A command that is answered here, with this frame or with nothing.
    Answer(Vec<u8>),
    /// What is to be done with the command depends on the answers that are due.
    Look,
    Inventory,
    /// This statement must be prepared on the present connection first.
    Reprepare(u32),
    /// What the client wants to hear of from here on.
    Tracker(Vec<hears::Asked>),
    /// A KILL of what no compute knows.
    Kill(Kill),
    /// It is under way.
    Killing,
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
    /// The client's address is in none of the project's networks any more.
    shut_out: bool,
    /// The client's user was deleted, or made again since: the command in flight is its last.
    user_is_gone: bool,
    /// That took too long.
    is_overdue: bool,
    client_closed: bool,
    /// Compute to client: what was read, of which `to_pass` bytes are for the client; the rest is the beginning of a
    /// packet that must be seen further.
    down: Option<Buffer>,
    to_pass: usize,
    /// They go when this is done.
    withheld: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    /// Behind what was withheld stand bytes that were not looked at.
    rest_unseen: bool,
    responses: ResponseScanner,
    due: VecDeque<Due>,
    /// The answer under way.
    answering: Option<Due>,
    /// Of an answer to a command of ours.
    own_answer: Vec<u8>,
    compute_closed: bool,
    /// It takes nothing any more; what it said before is still to be read.
    compute_deaf: bool,
    flush_client: bool,
    down_is_long: bool,
    up_is_long: bool,
    /// The command under way has an answer, the last one due.
    awaits_answer: bool,
    /// Not a byte of what the client has under way was sent, nor was any changed.
    untouched: bool,
    /// Bytes of the command that is about to begin were changed.
    changed: bool,
    /// The text of the PREPARE under way.
    capture: Option<Capture>,
    /// Those that are not answered yet.
    prepares_sent: VecDeque<Capture>,
    reprepare: Option<Reprepare>,
    /// What the client's own KILL comes to.
    killing: Option<Elsewhere<'a, Outcome>>,
    interrupts: Interrupts<'a>,
    /// [`Handle::asks`](crate::cancel::Handle::asks) when it was last looked at.
    asks: u32,
    /// The command at hand has had the question for modes sent before it.
    modes_asked: bool,
    life: life::State,
    inventory: Option<Inventory>,
    /// A command that counts has come since it was quiet last.
    stirred: bool,
    since_quiet: Instant,
    asking_since: Instant,
    /// `life` is another, so another moment is waited for.
    clock_changed: bool,
    /// The gateway goes down, and this session has to go once nothing of it is under way.
    leaves: bool,
    /// It waits longer than others before it leaves ([`Relay::patience`]).
    is_patient: bool,
    pinned: Option<Pinned>,
    /// What the compute said before it went away.
    compute_said: Option<String>,
    /// It ended this connection alone, because it was told to.
    killed: bool,
    /// The last command asked for that, or was killed: the client knows.
    released: bool,
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
        let capabilities = around.capabilities;
        if !capabilities.contains(Capabilities::SESSION_TRACK) {
            // A server that reports nothing may change anything.
            around.session.tracked.hidden();
        }
        let now = Instant::now();
        let around_asks = around.killer.own.asks();
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
            shut_out: false,
            user_is_gone: false,
            is_overdue: false,
            client_closed: false,
            down: None,
            to_pass: 0,
            withheld: None,
            rest_unseen: false,
            responses: ResponseScanner::new(capabilities),
            due: VecDeque::new(),
            answering: None,
            own_answer: Vec::new(),
            compute_closed: false,
            compute_deaf: false,
            flush_client: false,
            down_is_long: false,
            up_is_long: false,
            awaits_answer: false,
            untouched: true,
            changed: false,
            capture: None,
            prepares_sent: VecDeque::new(),
            reprepare: None,
            killing: None,
            interrupts: Interrupts::default(),
            // Something may have been asked before this was made.
            asks: around_asks.wrapping_sub(1),
            modes_asked: false,
            life: life::step(life::State::Detached, life::Event::Attached)
                .map_or(life::State::Busy, |(state, _)| state),
            inventory: None,
            stirred: true,
            since_quiet: now,
            asking_since: now,
            clock_changed: false,
            leaves: false,
            is_patient: false,
            pinned: None,
            compute_said: None,
            killed: false,
            released: false,
            on_first_byte: Some(on_first_byte),
        };
        relay.look_at_doors();
        relay.inject(replay, Own::Replay);
        relay
    }

    /// One turn of the pump: moves what can be moved in both directions.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Option<Ended>, RelayError> {
        self.scan_commands()?;
        loop {
            // What the first frees the second takes up; the other way round only by what `settle` or `live` does.
            self.pump_down(cx)?;
            self.pump_up(cx)?;
            match self.settle()? {
                Settled::Ended(ended) => return Ok(Some(ended)),
                Settled::Acted => {}
                Settled::Rests if self.live()? => {}
                Settled::Rests if self.kills(cx)? => {}
                Settled::Rests => return Ok(None),
            }
        }
    }

    /// Nothing is on its way in either direction and no answer is due.
    fn is_quiet(&self) -> bool {
        self.is_answered() && self.up.is_none() && self.inject.is_empty() && self.commands.is_at_boundary()
    }

    fn is_answered(&self) -> bool {
        self.due.is_empty() && self.responses.is_idle() && self.down.is_none()
    }

    /// A command of the client's, sent on whole or in part, is not answered.
    fn works_for_client(&self) -> bool {
        self.answering.iter().chain(&self.due).any(|due| due.own.is_none())
    }

    /// The client is not read from while the compute works for it: that it is gone would not be seen. One that has said
    /// goodbye leaves rightly.
    fn is_blind(&mut self) -> bool {
        let stopped = self.hold.is_some()
            || !self.inject.is_empty()
            || self.due.len() >= PIPELINED_MAX
            || self.up.as_mut().is_some_and(|buffer| buffer.free().is_empty());
        let goodbye = || self.hold == Some(Hold::Quit) || self.up.as_ref().is_some_and(ends_in_goodbye);
        stopped && !goodbye() && self.works_for_client()
    }

    fn failed(&self, error: RelayError) -> Ended {
        Ended::Failed {
            error,
            under_way: self.works_for_client() && !self.compute_closed,
        }
    }

    fn inject(&mut self, replay: Replay, own: Own) {
        self.inject.extend_from_slice(&replay.frames);
        let due = replay.commands.into_iter().filter_map(Expect::of);
        self.due.extend(due.map(|expect| Due {
            expect,
            sequence: 1,
            own: Some(own),
            kind: Kind::Plain,
            change: Change::Nothing,
            may_insert: false,
            pieces: Pieces::default(),
            class: None,
        }));
    }

    /// What follows from where both directions stand now.
    fn settle(&mut self) -> Result<Settled, RelayError> {
        let answered = self.is_answered() && self.inject.is_empty() && self.to_send == 0;
        if self.life == life::State::Detached {
            return Ok(Settled::Ended(Ended::Parked { bytes: self.up.take() }));
        }
        let held = self.hold.take();
        let mut acted = held.is_some() && answered;
        match held {
            Some(Hold::Quit) if answered || self.compute_closed => return Ok(Settled::Ended(Ended::ClientQuit)),
            Some(Hold::ChangeUser) if answered => {
                return Ok(Settled::Ended(Ended::ChangeUser {
                    bytes: park::or_empty(self.up.take()),
                }));
            }
            Some(Hold::Answer(answer)) if answered => self.answer_here(&answer)?,
            Some(Hold::Tracker(asked)) if answered => {
                let answer = set_tracker(self.around.session, &asked);
                self.answer_here(&answer)?;
            }
            Some(Hold::Kill(kill)) if answered => {
                self.hold = Some(Hold::Killing);
                self.begin_kill(kill);
            }
            Some(Hold::Look) if answered => {
                self.scan_commands()?;
                acted = self.hold != Some(Hold::Look);
            }
            Some(Hold::Reprepare(id)) if answered && self.reprepare.is_none() && !self.compute_closed => {
                self.hold = Some(Hold::Reprepare(id));
                self.begin_reprepare(id);
            }
            held => {
                self.hold = held;
                acted = false;
            }
        }
        // What was just answered here is on its way, and its client is told what ends its session after it.
        let told_all = answered && self.to_pass == 0;
        if self.client_closed {
            let between = self.commands.is_at_boundary() && self.up.is_none();
            return if between && !self.works_for_client() {
                Ok(Settled::Ended(Ended::ClientQuit))
            } else {
                Err(RelayError::ClientCut)
            };
        }
        if self.compute_closed && self.to_pass == 0 {
            return self.compute_gone().map(Settled::Ended);
        }
        if self.around.running.closing().is_raised() && answered {
            return self.compute_gone().map(Settled::Ended);
        }
        if self.shut_out {
            let from = self.around.from;
            return Err(match self.boundary_sequence() {
                Some(sequence) => RelayError::ShutOut { from, sequence },
                None => self.compute_cut("the project's allowed networks have changed"),
            });
        }
        if self.user_is_gone && (told_all || self.is_overdue) {
            return Err(match self.boundary_sequence() {
                Some(sequence) => RelayError::UserGone { sequence },
                None => self.compute_cut("the user was deleted"),
            });
        }
        let over = self.around.drain.over.is_raised();
        let in_transaction = self.around.session.in_transaction();
        if over || (self.leaves && told_all && !in_transaction) {
            if self.works_for_client() || in_transaction {
                self.around.drain.cuts();
            }
            return Err(match self.boundary_sequence() {
                Some(sequence) => RelayError::Draining { sequence },
                None => self.compute_cut(SHUTDOWN_TEXT),
            });
        }
        Ok(if acted { Settled::Acted } else { Settled::Rests })
    }

    /// The sequence id with which an ERR may stand here; None in the middle of a packet.
    fn boundary_sequence(&self) -> Option<u8> {
        if self.to_pass > 0 {
            return None;
        }
        let ours = |due: &Due| due.own.is_some();
        let first = |due: Option<&Due>| due.map_or(1, |due| due.sequence);
        match (self.responses.is_idle(), self.answering.as_ref().is_some_and(ours)) {
            // What a client waits for stands behind what we wait for.
            (true, _) | (false, true) => Some(first(self.due.iter().find(|due| !ours(due)))),
            (false, false) if self.responses.at_packet_boundary() => Some(self.responses.next_sequence()),
            _ => None,
        }
    }

    /// Whether the client may still be here.
    fn look_at_doors(&mut self) {
        let Surroundings {
            pins, from, session, ..
        } = &self.around;
        self.shut_out |= !pins.project.admits(*from);
        self.user_is_gone |= !pins.project.knows(&session.identity.user, session.life);
    }

    fn compute_cut(&self, reason: &str) -> RelayError {
        RelayError::ComputeCut {
            reason: reason.to_owned(),
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
    let read = AsyncRead::poll_read(Pin::new(stream), cx, &mut space);
    let n = space.filled().len();
    buffer.extend(n);
    if buffer.is_empty() {
        *slot = None;
    }
    ready!(read)?;
    Poll::Ready(Ok(n))
}
