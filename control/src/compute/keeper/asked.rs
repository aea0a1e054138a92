//! Who waits for something of a compute, and what they are told: wakes, suspends, changes and looks.

use control_api::rest::{ComputeState, OperationKind};
use tokio::sync::oneshot;

use super::{Done, Keeper};
use crate::{
    clock,
    compute::{CalledOff, Parts, WakeError, Woken},
    driver::DriverError,
    lifecycle::State,
    name::ProjectId,
    store::{ComputeRecord, Observed},
};

/// Who waits for a change to be applied.
pub(super) type Applier = oneshot::Sender<Result<(), DriverError>>;

/// What a server has been given; `None`: nothing was pending.
pub(super) type Applied = Option<(i64, Observed)>;

impl Keeper {
    pub(super) fn tell_suspenders(&mut self, answer: &Result<(), CalledOff>) {
        for suspender in self.suspenders.drain(..) {
            // Whoever has gone away does not need the answer; so with all answers here.
            let _ = suspender.send(answer.clone());
        }
    }

    pub(super) fn answer_wakers(&mut self) {
        let Some(project) = self.parts.publisher.message(&self.id) else {
            // Deleted in this very moment.
            return self.wakers.clear();
        };
        let outcome = if self.phases.is_some() {
            "started"
        } else {
            "already_ready"
        };
        let phases = self.phases.take().unwrap_or_default();
        for waker in self.wakers.drain(..) {
            self.parts.metrics.wake(outcome);
            let woken = Woken {
                project: project.clone(),
                executed_ms: phases.executed_ms,
                ready_ms: phases.ready_ms,
            };
            drop(waker.send(Ok(woken)));
        }
    }

    pub(super) fn refuse_wakers(&mut self) {
        let error = match &self.record {
            _ if self.is_deleted => WakeError::NotFound,
            ComputeRecord {
                state: ComputeState::Failed,
                reason,
                ..
            } => {
                tracing::warn!(reason, "the compute did not start");
                WakeError::CannotStart(reason.clone().unwrap_or_default())
            }
            _ => WakeError::Unavailable("the compute was suspended before it was ready"),
        };
        for waker in self.wakers.drain(..) {
            self.parts.metrics.wake("refused");
            drop(waker.send(Err(error.clone())));
        }
    }

    /// Changes go to a ready compute, all that wait together; a starting one gets them when it is ready, because it may
    /// have been given an older reading, and one whose suspend may be called off when that is decided; one that is not
    /// there has nothing to be changed.
    pub(super) fn apply_next(&mut self) {
        match self.state {
            State::Ready if !self.applying && (self.apply_due || !self.appliers.is_empty()) => {
                self.applying = true;
                self.apply_due = false;
                let appliers = std::mem::take(&mut self.appliers);
                let (parts, id) = (self.parts.clone(), self.id.clone());
                self.tasks
                    .spawn(async move { Done::Applied(appliers, apply_pending(&parts, &id).await) });
            }
            State::Ready | State::Starting => {}
            state if state.may_be_called_off() => {}
            _ => {
                for applier in self.appliers.drain(..) {
                    drop(applier.send(Ok(())));
                }
            }
        }
    }

    /// One look serves all who asked before it began.
    pub(super) fn look_next(&mut self) {
        match self.state {
            State::Ready if self.looking || self.lookers.is_empty() => {}
            State::Ready => {
                self.looking = true;
                let lookers = std::mem::take(&mut self.lookers);
                let (driver, id) = (self.parts.driver.clone(), self.id.clone());
                self.tasks
                    .spawn(async move { Done::Looked(lookers, driver.look(&id).await) });
            }
            // What does not run changes nothing; its last look was taken in, or its first will be.
            _ => {
                for looker in self.lookers.drain(..) {
                    let _ = looker.send(self.version);
                }
            }
        }
    }

    /// A server has been given what was pending, or not.
    pub(super) async fn applied(&mut self, appliers: Vec<Applier>, result: Result<Applied, DriverError>) {
        self.applying = false;
        let result = match result {
            Ok(Some((revision, observed))) => {
                // In this order: from here on what the server says of these accounts counts.
                let applied = self.parts.store.applied(&self.id, revision).await;
                self.observed(observed).await;
                applied.map_err(|error| DriverError(error.to_string()))
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        // Where the compute went away meanwhile, its next start brings the change.
        let stays = self.state == State::Ready || self.state.may_be_called_off();
        let result = if stays { result } else { Ok(()) };
        if let Err(error) = &result {
            tracing::warn!(%error, "changes were not applied to the running compute");
        }
        for applier in appliers {
            drop(applier.send(result.clone()));
        }
        self.apply_next();
    }

    /// A look has ended.
    pub(super) async fn looked(&mut self, lookers: Vec<oneshot::Sender<u64>>, result: Result<Observed, DriverError>) {
        self.looking = false;
        let version = match result {
            Ok(observed) => self.observed(observed).await,
            Err(error) => {
                tracing::info!(%error, "the compute's accounts could not be looked at");
                self.version
            }
        };
        for looker in lookers {
            let _ = looker.send(version);
        }
        self.look_next();
    }
}

async fn apply_pending(parts: &Parts, id: &ProjectId) -> Result<Applied, DriverError> {
    let pending = parts.store.pending(id).await;
    let (access, touched) = pending.map_err(|error| DriverError(error.to_string()))?;
    if touched.is_empty() {
        return Ok(None);
    }
    match parts.driver.apply(id, &access, &touched).await {
        Ok(observed) => Ok(Some((access.revision, observed))),
        Err(error) => {
            let (step, reason) = ("applying", error.to_string());
            let noted = parts
                .store
                .step_operation(id, OperationKind::Apply, step, Some(&reason), clock::now());
            noted.await.map_err(|error| DriverError(error.to_string()))?;
            Err(error)
        }
    }
}
