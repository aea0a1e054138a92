//! KILL while attached: what this client says of others goes to the table of sessions, and what others say of this one is
//! done here, where its connection is held.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Hold, Relay, RelayError};
use crate::answer::kill_answer;
use crate::cancel::{self, Ask, Kill, Outcome, end_thread};
use crate::error::Told;
use crate::stream::Readable;

/// Work at another connection, or another session's, that this one waits for. Each is bounded in time where it is made.
pub(super) type Elsewhere<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// KILLs of this session's statement.
#[derive(Default)]
pub(super) struct Interrupts<'a> {
    /// Not begun yet.
    asked: Vec<Ask>,
    /// Under way, for those who asked. Meanwhile nothing new is sent to the compute, so that it ends no other statement.
    running: Option<Ending<'a>>,
}

struct Ending<'a> {
    asked: Vec<Ask>,
    ended: Elsewhere<'a, Result<(), Told>>,
}

impl Interrupts<'_> {
    pub(super) fn are_running(&self) -> bool {
        self.running.is_some()
    }
}

impl<C: Readable, F: FnOnce()> Relay<'_, C, F> {
    /// Called when nothing moves in either direction. True: there is something new to do.
    pub(super) fn kills(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayError> {
        let own = self.around.killer.own;
        if own.is_killed() {
            return Err(RelayError::Killed {
                sequence: self.boundary_sequence(),
            });
        }
        let said = self.own_kill(cx)?;
        let asks = own.asks();
        if asks != self.asks {
            self.asks = asks;
            self.interrupts.asked.append(&mut own.take_asked());
        }
        Ok(said | self.interrupt(cx)?)
    }

    /// What this client has said.
    fn own_kill(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayError> {
        let Some(killing) = &mut self.killing else {
            return Ok(false);
        };
        let Poll::Ready(outcome) = killing.as_mut().poll(cx) else {
            return Ok(false);
        };
        self.killing = None;
        if matches!(outcome, Outcome::Own) {
            return Err(RelayError::Killed {
                sequence: self.boundary_sequence(),
            });
        }
        self.hold = Some(Hold::Answer(kill_answer(outcome, self.around.session)));
        Ok(true)
    }

    /// Everything before it is answered: it is asked of others.
    pub(super) fn begin_kill(&mut self, kill: Kill) {
        let killer = self.around.killer;
        let user = self.around.session.identity.user.clone();
        self.killing = Some(Box::pin(async move { killer.kill(&user, &kill).await }));
    }

    /// What others have said of this session's statement.
    fn interrupt(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayError> {
        if let Some(Ending { asked, ended }) = &mut self.interrupts.running {
            let Poll::Ready(ended) = ended.as_mut().poll(cx) else {
                return Ok(false);
            };
            if ended.is_ok() {
                self.around.metrics.killed_at_compute();
            }
            for ask in std::mem::take(asked) {
                // Whoever asked may have left.
                let _ = ask.done.send(ended.clone());
            }
            self.interrupts.running = None;
            self.scan_commands()?;
            return Ok(true);
        }
        let Some(ask) = self.interrupts.asked.first() else {
            return Ok(false);
        };
        match self.answering.as_ref().or(self.due.front()) {
            // The compute is at something of the gateway's, which must not be ended; the client's is behind it.
            Some(due) if due.own.is_some() => return Ok(false),
            Some(_) => {}
            None => {
                // Nothing is under way that could be ended.
                self.interrupts.asked.clear();
                return Ok(false);
            }
        }
        let kill = ask.kill.of_thread(self.around.thread_id);
        let running = self.around.running;
        let user = self.around.session.identity.user.clone();
        let ended = async move { end_thread(running, &user, &kill).await.map_err(|e| cancel::told(&e)) };
        let asked = std::mem::take(&mut self.interrupts.asked);
        self.interrupts.running = Some(Ending {
            asked,
            ended: Box::pin(ended),
        });
        Ok(true)
    }
}
