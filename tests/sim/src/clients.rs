//! Clients: they log in at some gateway, rightly or not, send commands one after the other, think, hold transactions,
//! lose patience, leave and come back.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway::sim::{Answer, Command, Gateway, Statement};
use rand::random_range;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::machine::Machine;
use crate::oracle::{Oracle, Told};

pub(crate) const USER: &str = "app";
pub(crate) const PASSWORD: &str = "right";

/// A wake's deadline, a slow statement, and what a broken connection takes to be noticed: nobody waits for longer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(100);
/// Until a client finds a gateway that takes it, once all is well.
const LOGIN_PATIENCE: Duration = Duration::from_secs(60);

/// A gateway with the sessions in it.
pub(crate) struct House {
    pub(crate) gateway: Gateway,
    pub(crate) sessions: JoinSet<()>,
}

/// Gateways by number; `None`: it is down.
pub(crate) type Houses = Arc<Mutex<Vec<Option<House>>>>;

/// What all clients share.
pub(crate) struct Town {
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) houses: Houses,
    pub(crate) next_command: AtomicU64,
}

/// A connection of a client's, logged in.
struct Seat<'a> {
    town: &'a Town,
    project: &'a str,
    commands: mpsc::Sender<Command>,
    in_transaction: bool,
}

impl Town {
    /// Somebody who does not know the password, or asks for nothing that needs a database.
    pub(crate) async fn stranger(&self, project: &str) {
        loop {
            sleep(Duration::from_millis(random_range(0..4_000))).await;
            self.log_in(project, "wrong");
            // Logged in, it wakes nothing either.
            drop(self.log_in(project, PASSWORD));
        }
    }

    pub(crate) async fn client(&self, project: &str) {
        loop {
            if random_range(0..10) == 0 {
                self.log_in(project, "wrong");
            }
            match self.log_in(project, PASSWORD) {
                Some(commands) => self.seat(project, commands).works().await,
                None => sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// In the midst of a suspend of the project's, of one of four: what is rare by chance is what it has to withstand.
    async fn falls_asleep(&self, project: &str) {
        let mut asked = self.machine.asked_for_quiet.subscribe();
        // The machine lives as long as the town.
        while asked.changed().await.is_ok() {
            if *asked.borrow_and_update() == project && random_range(0..4) == 0 {
                return sleep(Duration::from_millis(random_range(0..40))).await;
            }
        }
    }

    fn seat<'a>(&'a self, project: &'a str, commands: mpsc::Sender<Command>) -> Seat<'a> {
        Seat {
            town: self,
            project,
            commands,
            in_transaction: false,
        }
    }

    /// At the first gateway from a random one on that is ready.
    fn log_in(&self, project: &str, password: &str) -> Option<mpsc::Sender<Command>> {
        let mut houses = self.houses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = houses.len();
        let first = random_range(0..count);
        let ready = |house: &&mut House| house.gateway.is_ready();
        let (before, from) = houses.split_at_mut(first);
        let house = from.iter_mut().chain(before).flatten().find(ready)?;
        let session = house.gateway.log_in(project, USER, password)?;
        if password != PASSWORD {
            self.oracle.breaks(&format!("{project}: a wrong password is let in"));
        }
        let (commands, heard) = mpsc::channel(1);
        house.sessions.spawn(session.serve(heard));
        Some(commands)
    }

    /// All is well by now: a client is let in and answered.
    pub(crate) async fn finds_all_well(self: Arc<Self>, project: &'static str) -> Option<Idle> {
        let arrives = async {
            loop {
                match self.log_in(project, PASSWORD) {
                    Some(commands) => break commands,
                    None => sleep(Duration::from_millis(200)).await,
                }
            }
        };
        let Ok(commands) = timeout(LOGIN_PATIENCE, arrives).await else {
            self.oracle
                .breaks(&format!("{project}: nobody can log in although all is well"));
            return None;
        };
        let mut seat = self.seat(project, commands.clone());
        if seat.asks(Statement::Write, None).await != Some(Told::Done) {
            self.oracle
                .breaks(&format!("{project}: a command is not done although all is well"));
        }
        let oracle = self.oracle.clone();
        Some(Idle {
            oracle,
            project,
            commands,
        })
    }
}

/// A client that is logged in and wants nothing.
pub(crate) struct Idle {
    oracle: Arc<Oracle>,
    project: &'static str,
    commands: mpsc::Sender<Command>,
}

impl Idle {
    pub(crate) fn has_stayed(self) {
        if self.commands.is_closed() {
            let rule = format!("{}: an idle client was cut off although all is well", self.project);
            self.oracle.breaks(&rule);
        }
    }
}

impl Seat<'_> {
    async fn works(mut self) {
        for _ in 0..random_range(1..12) {
            let think = match random_range(0..100) {
                0..60 => random_range(0..1_000),
                60..85 => random_range(1_000..8_000),
                _ => random_range(8_000..45_000),
            };
            let thinks = sleep(Duration::from_millis(think));
            tokio::select! {
                () = thinks => {}
                () = self.town.falls_asleep(self.project) => {}
                // It was closed.
                () = self.commands.closed() => return,
            }
            let statement = match (self.in_transaction, random_range(0..5)) {
                (false, 0) => Statement::Begin,
                (true, 0..2) => Statement::Commit,
                _ => Statement::Write,
            };
            let patience = (random_range(0..15) == 0).then(|| Duration::from_millis(random_range(0..3_000)));
            if self.asks(statement, patience).await.is_none() {
                return;
            }
        }
    }

    /// One command; `None`: the connection is over, for whatever reason.
    async fn asks(&mut self, statement: Statement, patience: Option<Duration>) -> Option<Told> {
        let id = self.town.next_command.fetch_add(1, Relaxed);
        let (answer, told) = oneshot::channel();
        self.town.oracle.sent(self.project, id);
        let command = Command { id, statement, answer };
        if self.commands.try_send(command).is_err() {
            self.town.oracle.answered(self.project, id, Told::NotRun, "closed");
            return None;
        }
        let heard = timeout(patience.unwrap_or(ANSWER_PATIENCE), told).await;
        let (fate, text, goes_on) = match heard {
            Ok(Ok(Answer::Done)) => (Told::Done, String::new(), true),
            Ok(Ok(Answer::Unknown(text))) => (Told::Unknown, text, true),
            Ok(Ok(Answer::NotRun(text))) => (Told::NotRun, text, false),
            Ok(Err(_)) => (Told::Unknown, "cut".into(), false),
            Err(_) => {
                if patience.is_none() {
                    self.town
                        .oracle
                        .breaks(&format!("{}: command {id} hangs", self.project));
                }
                (Told::Unknown, "leaves".into(), false)
            }
        };
        self.town.oracle.answered(self.project, id, fate, &text);
        match (fate, statement) {
            (Told::Done, Statement::Begin) => self.in_transaction = true,
            (Told::Done, Statement::Write) => {}
            _ => self.in_transaction = false,
        }
        goes_on.then_some(fate)
    }
}
