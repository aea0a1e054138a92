//! When a session leaves its compute connection: after a while of nothing, when its place or its compute is wanted, or
//! because the connection broke. The table in `session/life.rs` decides; here it is fed and obeyed.

use std::time::Duration;

use tokio::time::Instant;

use super::{Due, Ended, Hold, Own, Relay, RelayError};
use crate::buffer::Buffer;
use crate::error::{ClientFacing, Told};
use crate::route::Asked;
use crate::session::inventory::{Inventory, Outcome};
use crate::session::life::{self, Effect, Event, Pin, State};
use crate::stream::Readable;

/// A compute that does not answer an inventory in this time does not answer at all.
const INVENTORY_PATIENCE: Duration = Duration::from_secs(30);

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// A session without a command for so long gives its compute connection up.
    pub(crate) after: Duration,
    /// One that cannot is ended after so long, where the project says nothing else.
    pub(crate) pinned_idle_timeout: Duration,
}

impl<C: Readable, F: FnOnce()> Relay<'_, C, F> {
    /// Called when nothing moves in either direction. True: there is something new to send.
    pub(super) fn live(&mut self) -> Result<bool, RelayError> {
        let quiet = self.is_quiet();
        if self.stirred {
            // One command may begin and end without this being called in between.
            if self.life != State::Asking {
                self.happens(Event::Command);
            }
            if quiet {
                self.stirred = false;
                self.since_quiet = Instant::now();
                // The clock may stand at a later moment than this session now waits for.
                let was_patient = std::mem::replace(&mut self.is_patient, self.around.session.has_conditions());
                self.clock_changed |= was_patient && !self.is_patient;
            }
        }
        if self.stirred {
            self.around.in_flight.begun();
        } else {
            self.around.in_flight.ended(self.since_quiet);
        }
        if quiet && self.life == State::Busy {
            self.happens(Event::Answered);
        }
        match self.life {
            State::Busy => {
                if self.around.running.draining() == Some(Asked::Drain) && self.stirred {
                    self.around.running.refuse("a command is in flight");
                }
                Ok(false)
            }
            State::Idle if quiet && !self.interrupts.are_running() => self.idle(),
            State::Pinned => self.pinned(),
            State::Asking if self.asking_since.elapsed() >= INVENTORY_PATIENCE => {
                self.compute_said = Some("it does not answer".into());
                self.compute_closed = true;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn happens(&mut self, event: Event) -> Effect {
        match life::step(self.life, event) {
            Some((next, effect)) => {
                if next != State::Pinned {
                    self.pinned = None;
                }
                // Between these two the clock only runs out too early.
                let shortest = |state| matches!(state, State::Busy | State::Idle);
                self.clock_changed |= next != self.life && !(shortest(next) && shortest(self.life));
                self.life = next;
                effect
            }
            None => Effect::Nothing,
        }
    }

    fn idle(&mut self) -> Result<bool, RelayError> {
        let long = self.since_quiet.elapsed() >= self.patience();
        let drained = self.around.running.draining();
        if !long && !self.around.running.is_wanted() {
            return Ok(false);
        }
        if let Some(pin) = self.around.session.known_pin() {
            if !long && drained.is_none() {
                // Somebody wants a place: not this one.
                return Ok(false);
            }
            self.tied(pin);
            return self.pinned();
        }
        let event = match self.around.running.asked() {
            Some(_) => Event::Wanted,
            None if long => Event::IdleLong,
            None => return Ok(false),
        };
        match self.happens(event) {
            Effect::Ask => {
                let (inventory, questions) = Inventory::begin(self.around.capabilities);
                self.inventory = Some(inventory);
                self.hold = Some(Hold::Inventory);
                self.asking_since = Instant::now();
                self.inject(questions, Own::Inventory);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// How long the session may idle before it is asked what ties it. Warnings and errors can be looked at on this connection in
    /// more ways than on another, so a session that has some stays for as long as one that is tied, unless its place is wanted.
    fn patience(&self) -> Duration {
        let session = &*self.around.session;
        if session.has_conditions() && session.known_pin().is_none() {
            self.around.park.after.max(self.around.pinned_idle_timeout)
        } else {
            self.around.park.after
        }
    }

    fn tied(&mut self, pin: Pin) {
        self.happens(Event::Tied);
        self.around.metrics.pinned(pin);
        self.pinned = Some(self.around.pins.pinned(pin, self.since_quiet));
        self.around.session.pinned(pin);
    }

    fn pinned(&mut self) -> Result<bool, RelayError> {
        let Some(pin) = self.pinned.as_ref().map(|pinned| pinned.pin) else {
            return Ok(false);
        };
        match self.around.running.draining() {
            Some(Asked::Forced) => {
                let because = self.around.running.draining_reason();
                return Err(RelayError::Evicted { pin, because });
            }
            Some(_) => self.around.running.refuse(&format!("a session holds {pin}")),
            None => {}
        }
        if self.since_quiet.elapsed() >= self.around.pinned_idle_timeout {
            let because = format!("it was idle for more than {:?}", self.around.pinned_idle_timeout);
            return Err(RelayError::Evicted { pin, because });
        }
        Ok(false)
    }

    /// When the clock is next to be looked at.
    pub(super) fn idle_for_long(&self) -> Instant {
        let now = Instant::now();
        let at = match self.life {
            State::Pinned => self.since_quiet + self.around.pinned_idle_timeout,
            State::Asking => self.asking_since + INVENTORY_PATIENCE,
            State::Idle => self.since_quiet + self.patience(),
            State::Busy | State::Detached => now + self.around.park.after,
        };
        // A moment that has passed was seen already.
        at.max(now + Duration::from_millis(1))
    }

    /// All questions of a round are answered.
    pub(super) fn conclude_inventory(&mut self) {
        let Some(mut inventory) = self.inventory.take() else {
            return;
        };
        match inventory.conclude(self.around.session) {
            Outcome::Ask(questions) => {
                self.inventory = Some(inventory);
                self.inject(questions, Own::Inventory);
            }
            Outcome::Free => {
                // The hold stays: what the client sends from here on is not for this connection.
                if self.happens(Event::Free) == Effect::Park {
                    self.around.session.parked();
                }
            }
            Outcome::Tied(pin) => {
                self.hold = Some(Hold::Look);
                self.tied(pin);
            }
        }
    }

    /// The compute connection is gone; the session is not, if the client can be told of all that is lost.
    pub(super) fn compute_gone(&mut self) -> Result<Ended, RelayError> {
        let reason = self.around.running.closing().reason().map(str::to_owned);
        let reason = reason
            .or_else(|| self.compute_said.clone())
            .unwrap_or_else(|| "it stopped unexpectedly".into());
        let Some(sequence) = self.boundary_sequence() else {
            return Err(RelayError::ComputeCut { reason });
        };
        let waiting: Vec<Due> = self
            .answering
            .iter()
            .chain(&self.due)
            .filter(|due| due.own.is_none())
            .copied()
            .collect();
        let error = RelayError::ComputeGone { reason, sequence };
        if self.released {
            // As it asked for; what it has sent since, there or still here, nobody answers on a connection of its own either.
            return Ok(Ended::ClientQuit);
        }
        let whole = self.commands.is_at_boundary() && !self.skipping;
        if self.on_first_byte.is_some() && self.untouched {
            // It went away before anything but our own was sent: as if it had not been reached.
            self.around.session.statements.detached();
            self.around.session.counted_ahead(true);
            self.happens(Event::Lost);
            return Ok(Ended::Lost {
                bytes: self.up.take(),
                answers: Vec::new(),
                owed: None,
            });
        }
        let taken_back = self.untouched && !waiting.is_empty();
        if !whole && !taken_back {
            return Err(error);
        }
        if self.killed && self.around.running.draining().is_none() {
            // By the compute's own id of it; in MariaDB's words.
            return Err(RelayError::Killed {
                sequence: Some(sequence),
            });
        }
        self.around.session.counted_ahead(taken_back);
        let told = error.told();
        let mut answers = Vec::new();
        if !taken_back {
            if let Some(buffer) = &mut self.up {
                buffer.consume(self.to_send);
            }
            for (n, due) in waiting.iter().enumerate() {
                // The first may stand in the middle of a result.
                let sequence = if n == 0 { sequence } else { due.sequence };
                answers.extend(told.iter().flat_map(|told| told.frame(sequence)));
            }
        }
        self.happens(Event::Lost);
        // Where a command is answered with the error, that is its last statement.
        let told = told.filter(|_| answers.is_empty()).map(|told| lost_text(&told));
        let everything = self.around.session.lost(told.clone());
        Ok(Ended::Lost {
            bytes: self.up.take().filter(|buffer| !buffer.is_empty()),
            answers,
            owed: told.filter(|_| !everything),
        })
    }
}

/// The compute is gone and something of the session with it.
fn lost_text(told: &Told) -> Told {
    Told {
        message: format!(
            "{}; what the session held there is lost, it can be used again",
            told.message
        ),
        ..told.clone()
    }
}

/// For buffers that may hold nothing.
pub(super) fn or_empty(bytes: Option<Buffer>) -> Buffer {
    bytes.unwrap_or_else(Buffer::small)
}
