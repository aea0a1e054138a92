//! One client's session, command by command: attached, relayed, parked, pinned and recovered as `connection.rs`,
//! `relay.rs` and `relay/park.rs` do it with bytes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::{Connection, Ran, Shared, Statement};
use crate::activity::{Counting, InFlight, Pinned, Pins, Who};
use crate::compute::DialError;
use crate::connection::attach::{Attach, Attached, Dial};
use crate::route::{Asked, Project, Running, Seat};
use crate::session::life::{self, Effect, Event, Pin, State};
use crate::wake::Cause;

/// As in `connection.rs`.
const FRUITLESS_MAX: u32 = 3;

/// A command of a client's.
pub struct Command {
    /// No two have the same.
    pub id: u64,
    /// What it does.
    pub statement: Statement,
    /// Dropped without an answer: the connection was cut.
    pub answer: oneshot::Sender<Answer>,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// OK.
    Done,
    /// An error after which it is not known whether it ran.
    Unknown(String),
    /// An error of a command that was not run; the connection ends with it.
    NotRun(String),
}

/// A client that is logged in.
pub struct Session {
    shared: Arc<Shared>,
    project: Arc<Project>,
    user: String,
    id: u32,
    _counted: Counting,
}

/// A stretch with a compute is over.
enum After {
    /// Without a compute; with a command that no compute has seen.
    Detached(Option<Command>),
    Closed,
}

struct Dialler<'a>(&'a Shared);

impl Dial for Dialler<'_> {
    type Connection = Box<dyn Connection>;

    async fn dial(&mut self, running: &Running) -> Result<Self::Connection, DialError> {
        let dialled = self.0.network.dial(&running.socket, running.incarnation).await;
        dialled.map_err(DialError::from)
    }

    fn go_on_without_database(&mut self) -> bool {
        false
    }
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, project: Arc<Project>, user: &str, id: u32, counted: Counting) -> Self {
        Self {
            shared,
            project,
            user: user.to_owned(),
            id,
            _counted: counted,
        }
    }

    /// Serves the client until it leaves (`commands` ends) or is closed (it finds `commands` closed).
    pub async fn serve(self, mut commands: mpsc::Receiver<Command>) {
        let mut fruitless = 0;
        let mut waiting = None;
        loop {
            let command = match waiting.take() {
                Some(command) => command,
                None => match commands.recv().await {
                    Some(command) => command,
                    None => return,
                },
            };
            let Some((attached, command)) = self.attach(command, &mut commands).await else {
                return;
            };
            match self.relay(attached, command, &mut commands).await {
                After::Closed => return,
                After::Detached(command) => {
                    fruitless = if command.is_some() { fruitless + 1 } else { 0 };
                    waiting = command;
                }
            }
            if fruitless > FRUITLESS_MAX
                && let Some(command) = waiting.take()
            {
                let _ = command
                    .answer
                    .send(Answer::NotRun("the database is not reachable".into()));
                return;
            }
        }
    }

    async fn attach(
        &self,
        command: Command,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Option<(Attached<Box<dyn Connection>>, Command)> {
        let mut dial = Dialler(&self.shared);
        let attach = Attach {
            wakes: &self.shared.wakes,
            accounts: &self.shared.accounts,
            project: &self.project,
            dial: &mut dial,
            cause: Cause {
                user: self.user.clone(),
                command: "COM_QUERY",
                ..Cause::default()
            },
            deadline: self.shared.wakes.deadline(&self.project),
        };
        tokio::select! {
            attached = attach.run() => match attached {
                Ok(attached) => Some((attached, command)),
                Err(error) => {
                    let _ = command.answer.send(Answer::NotRun(error.to_string()));
                    None
                }
            },
            // Clients here wait for each answer: whatever comes is their end.
            _ = commands.recv() => None,
        }
    }

    async fn relay(
        &self,
        attached: Attached<Box<dyn Connection>>,
        command: Command,
        commands: &mut mpsc::Receiver<Command>,
    ) -> After {
        let Attached {
            running,
            seat,
            connection,
            ..
        } = attached;
        let _counted = Counting::attached(&self.project);
        let who = Who {
            connection_id: self.id,
            user: self.user.as_str().into(),
            client_address: "".into(),
            program_name: "".into(),
        };
        let mut relay = Relay {
            session: self,
            connection,
            running,
            _seat: seat,
            in_flight: InFlight::new(&self.project, self.shared.clock),
            pins: Pins {
                project: Arc::clone(&self.project),
                who,
            },
            pinned: None,
            in_transaction: false,
            since_quiet: Instant::now(),
            life: State::Detached,
        };
        relay.happens(Event::Attached);
        let mut next = Some(command);
        loop {
            let turn = match next.take() {
                Some(command) => relay.command(command, commands).await,
                None => relay.quiet(commands).await,
            };
            match turn {
                Turn::Goes(command) => next = command,
                Turn::Ends(after) => return after,
            }
        }
    }
}

enum Turn {
    /// On, with the client's next command where it has sent one.
    Goes(Option<Command>),
    Ends(After),
}

/// A session with a compute connection.
struct Relay<'a> {
    session: &'a Session,
    connection: Box<dyn Connection>,
    running: Arc<Running>,
    /// Freed after the connection is closed: the order of the fields.
    _seat: Seat,
    in_flight: InFlight,
    pins: Pins,
    pinned: Option<Pinned>,
    in_transaction: bool,
    since_quiet: Instant,
    life: State,
}

impl Relay<'_> {
    fn happens(&mut self, event: Event) -> Effect {
        let Some((next, effect)) = life::step(self.life, event) else {
            return Effect::Nothing;
        };
        if next != State::Pinned {
            self.pinned = None;
        }
        self.life = next;
        effect
    }

    /// One command, from the moment it is read to its answer.
    async fn command(&mut self, command: Command, commands: &mut mpsc::Receiver<Command>) -> Turn {
        self.happens(Event::Command);
        self.in_flight.begun();
        let running = Arc::clone(&self.running);
        let ran = {
            let mut run = pin!(self.connection.run(command.id, command.statement));
            loop {
                let mut nudged = pin!(running.nudged());
                nudged.as_mut().enable();
                if running.draining() == Some(Asked::Drain) {
                    running.refuse("a command is in flight");
                }
                tokio::select! {
                    biased;
                    ran = &mut run => break ran,
                    () = &mut nudged => {}
                    // It left in the middle: its connection to the compute is cut with the command under way.
                    _ = commands.recv() => return Turn::Ends(After::Closed),
                }
            }
        };
        match ran {
            Ran::Answered { in_transaction } => {
                self.in_transaction = in_transaction;
                self.in_flight.ended(Instant::now());
                self.since_quiet = Instant::now();
                self.happens(Event::Answered);
                let _ = command.answer.send(Answer::Done);
                Turn::Goes(None)
            }
            // A transaction that was open is lost with it, and only an error can say so.
            Ran::Unsent if !self.in_transaction => {
                self.happens(Event::Lost);
                Turn::Ends(After::Detached(Some(command)))
            }
            Ran::Unsent | Ran::Broken => {
                self.happens(Event::Lost);
                let _ = command.answer.send(Answer::Unknown("the compute is gone".into()));
                Turn::Ends(After::Detached(None))
            }
        }
    }

    /// Nothing is under way: waits for what happens next.
    async fn quiet(&mut self, commands: &mut mpsc::Receiver<Command>) -> Turn {
        let running = Arc::clone(&self.running);
        let mut nudged = pin!(running.nudged());
        nudged.as_mut().enable();
        if running.closing().is_raised() {
            self.happens(Event::Lost);
            return Turn::Ends(After::Detached(None));
        }
        if let Some(ended) = self.look().await {
            return Turn::Ends(ended);
        }
        let looks_again = match self.life {
            State::Pinned => self.since_quiet + self.pinned_idle_timeout(),
            _ => self.since_quiet + self.session.shared.park.after,
        };
        let again = sleep_until(looks_again.max(Instant::now() + Duration::from_millis(1)));
        let mut closing = pin!(running.closing().raised());
        tokio::select! {
            () = &mut closing => Turn::Goes(None),
            () = self.connection.gone() => {
                self.happens(Event::Lost);
                Turn::Ends(After::Detached(None))
            }
            command = commands.recv() => match command {
                Some(command) => Turn::Goes(Some(command)),
                None => Turn::Ends(After::Closed),
            },
            () = &mut nudged => Turn::Goes(None),
            () = again => Turn::Goes(None),
        }
    }

    fn pinned_idle_timeout(&self) -> Duration {
        let own = self.session.project.pinned_idle_timeout();
        own.unwrap_or(self.session.shared.park.pinned_idle_timeout)
    }

    /// `idle` and `pinned` of `relay/park.rs`.
    async fn look(&mut self) -> Option<After> {
        if self.life == State::Idle {
            let long = self.since_quiet.elapsed() >= self.session.shared.park.after;
            if !long && !self.running.is_wanted() {
                return None;
            }
            let event = match (self.in_transaction, self.running.asked()) {
                (true, _) => Event::Tied,
                (false, Some(_)) => Event::Wanted,
                (false, None) if long => Event::IdleLong,
                (false, None) => return None,
            };
            match self.happens(event) {
                Effect::Ask => return self.ask().await,
                _ => self.tied(),
            }
        }
        (self.life == State::Pinned).then(|| self.pinned()).flatten()
    }

    /// What the client sends meanwhile waits.
    async fn ask(&mut self) -> Option<After> {
        match self.connection.inventory().await {
            None => {
                self.happens(Event::Lost);
                Some(After::Detached(None))
            }
            Some(false) => (self.happens(Event::Free) == Effect::Park).then_some(After::Detached(None)),
            Some(true) => {
                self.happens(Event::Tied);
                self.tied();
                self.pinned()
            }
        }
    }

    fn tied(&mut self) {
        self.pinned = Some(self.pins.pinned(Pin::Transaction, self.since_quiet));
    }

    fn pinned(&self) -> Option<After> {
        match self.running.draining() {
            Some(Asked::Forced) => return Some(After::Closed),
            Some(_) => self.running.refuse("a session holds an open transaction"),
            None => {}
        }
        (self.since_quiet.elapsed() >= self.pinned_idle_timeout()).then_some(After::Closed)
    }
}
