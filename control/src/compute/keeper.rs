//! One project's keeper: takes requests, the driver's results and the compute's reports one at a time, asks the table of
//! `lifecycle.rs` what each means, publishes, does and persists it. Slow things run in tasks of its own, so that it can
//! always hear the next event; the result of a task that an event has overtaken is recognised by its epoch and ignored.

mod asked;
mod kept;

use std::{collections::VecDeque, time::Duration};

use control_api::rest::{ComputeState, WokenBy};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::{AbortHandle, JoinError, JoinSet},
    time::Instant,
};
use tracing::Instrument;

use asked::{Applied, Applier};

use super::{CalledOff, Computes, Parts, Request, WakeError, Woken};
use crate::{
    clock,
    driver::{DriverError, Quiesce, Quiet, Report, Running, StartError},
    lifecycle::{Effect, Event, State, Wanted, step},
    metrics::WakePhases,
    name::ProjectId,
    publish::{Drain, Passage},
    store::{ComputeRecord, Observed, StoreError},
};

/// After the first failed start in a row; doubles with each.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
/// Low enough that whoever repairs the cause is not kept waiting.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// Starts in a row that a signal ended: two kills may be chance, three are a rule (too little memory, an assertion that
/// fails each time), and whoever waits is told so.
const KILLED_MAX: u32 = 3;
/// From a killed start to the next; doubles. What killed it has passed by then, where it passes at all, and nobody notices
/// the pause beside the start itself.
const AFTER_KILLED: Duration = Duration::from_millis(200);

/// Gateways need milliseconds to let go of what is idle. One that is silent for this long is cut off or hangs; then the
/// compute's own look decides.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Statements that run when a suspend is forced may end within this time: longer than nearly all of them take, shorter than
/// whoever asked for the suspend will wait.
const FORCED_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Keeper {
    id: ProjectId,
    parts: Parts,
    state: State,
    /// As it was published last.
    record: ComputeRecord,
    running: Option<Running>,
    /// The version that told gateways of the present state.
    version: u64,
    wakers: Vec<oneshot::Sender<Result<Woken, WakeError>>>,
    /// The first of those who waited last.
    woken_by: WokenBy,
    suspenders: Vec<oneshot::Sender<Result<(), CalledOff>>>,
    /// Why the suspend that is on its way is not to be: for its suspenders.
    called_off: Option<String>,
    /// Who waits for changes to be applied.
    appliers: Vec<Applier>,
    /// Changes may be pending although nobody waits.
    apply_due: bool,
    applying: bool,
    /// Who waits for a look that begins after they asked.
    lookers: Vec<oneshot::Sender<u64>>,
    looking: bool,
    /// The number of the last look that was taken in, of this incarnation's agent.
    look: u64,
    /// It was said that the agent's words are not taken over.
    left_behind: bool,
    /// When the wake began that leads or led to this incarnation.
    woken_at: Instant,
    /// From the beginning of the wake to its turn.
    queued_ms: u32,
    /// Of the start that has just ended, while those who waited for it are told.
    phases: Option<WakePhases>,
    failures: u32,
    /// Starts in a row that were killed.
    killed: u32,
    /// Starts in a row that the store did not take down.
    unwritten: u32,
    /// A start found its project gone.
    is_deleted: bool,
    back_off_until: Option<Instant>,
    /// The permit to start, held while starting.
    turn: Option<OwnedSemaphorePermit>,
    tasks: JoinSet<Done>,
    /// The task that belongs to the present state.
    task_of_state: Option<AbortHandle>,
    epoch: u64,
    /// Happened while an event was handled; next in line.
    next: VecDeque<(Event, Option<String>)>,
    /// What the store has not taken yet, oldest first, and what the agent said last.
    unsaved: VecDeque<ComputeRecord>,
    unsaved_look: Option<Observed>,
    save_at: Option<Instant>,
}

/// What a task brings back.
enum Done {
    /// Counts only in the epoch that it was begun in.
    InState(u64, Outcome),
    Applied(Vec<Applier>, Result<Applied, DriverError>),
    Looked(Vec<oneshot::Sender<u64>>, Result<Observed, DriverError>),
}

enum Outcome {
    Turn(Option<OwnedSemaphorePermit>),
    Started(Box<Result<Running, StartError>>),
    Verified(Result<(), String>),
    Drained(Drain),
    Quiesced(Result<Quiet, DriverError>),
    Resumed(Result<(), DriverError>),
    Stopped(Result<Option<Observed>, DriverError>),
    BackedOff,
}

impl Keeper {
    pub(super) fn new(id: ProjectId, parts: Parts, record: ComputeRecord, running: Option<Running>) -> Self {
        let state = match (&running, record.state) {
            (Some(_), _) => State::Ready,
            (None, ComputeState::Failed) => State::Failed,
            (None, _) => State::Suspended,
        };
        let mut keeper = Self {
            id,
            parts,
            state,
            record,
            running,
            version: 0,
            wakers: Vec::new(),
            woken_by: WokenBy::default(),
            suspenders: Vec::new(),
            called_off: None,
            appliers: Vec::new(),
            apply_due: false,
            applying: false,
            lookers: Vec::new(),
            looking: false,
            look: 0,
            left_behind: false,
            woken_at: Instant::now(),
            queued_ms: 0,
            phases: None,
            failures: 0,
            killed: 0,
            unwritten: 0,
            is_deleted: false,
            back_off_until: None,
            turn: None,
            tasks: JoinSet::new(),
            task_of_state: None,
            epoch: 0,
            next: VecDeque::new(),
            unsaved: VecDeque::new(),
            unsaved_look: None,
            save_at: None,
        };
        if let Some(running) = &keeper.running {
            // Adopted: what SQL changed while no control plane was there, first of all whom it took the access from.
            let observed = running.observed.clone();
            keeper.parts.publisher.set_observed(&keeper.id, observed);
            keeper.publish();
            keeper.parts.activity.ready(&keeper.id, keeper.record.incarnation);
            // An earlier control plane may have ended before it told the compute.
            keeper.apply_due = true;
            keeper.apply_next();
        }
        keeper
    }

    /// Runs until the compute is at rest and nobody wants anything, or until control ends.
    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Request>, computes: &Computes) {
        let span = tracing::info_span!("compute", project = %self.id);
        async {
            if let Some(running) = &self.running {
                // Gateways know it already; now it is written down.
                let observed = running.observed.clone();
                self.observed(observed).await;
            }
            loop {
                while let Some((event, reason)) = self.next.pop_front() {
                    self.handle(event, reason).await;
                }
                if self.at_rest() && computes.retire(&self.id, &mailbox) {
                    return;
                }
                let end = self.parts.end.clone();
                tokio::select! {
                    () = end.cancelled() => return,
                    Some(done) = self.tasks.join_next() => self.done(done).await,
                    report = next_report(&mut self.running) => self.reported(report).await,
                    Some(request) = mailbox.recv() => self.requested(request),
                    () = until(self.save_at) => self.save().await,
                    () = all_gone(&mut self.wakers), if may_be_dropped(self.state) => {
                        self.wakers.clear();
                        self.parts.metrics.wake("abandoned");
                        self.next.push_back((Event::Abandoned, None));
                    }
                }
            }
        }
        .instrument(span)
        .await;
    }

    fn at_rest(&self) -> bool {
        let resting = match self.state {
            State::Suspended => true,
            // The back-off must outlive the callers.
            State::Failed => self.back_off_until.is_none_or(|until| Instant::now() >= until),
            _ => false,
        };
        resting && self.tasks.is_empty() && self.appliers.is_empty() && self.save_at.is_none()
    }

    fn requested(&mut self, request: Request) {
        match request {
            Request::Wake { unreachable, by, reply } => {
                // Who has given up meanwhile is not the one that a start is for.
                if self.wakers.iter().all(oneshot::Sender::is_closed) {
                    self.woken_by = by;
                }
                self.wakers.push(reply);
                let serves = matches!(self.state, State::Ready | State::Draining);
                let doubted = serves && unreachable == Some(self.record.incarnation);
                self.next
                    .push_back((if doubted { Event::Doubt } else { Event::Wake }, None));
            }
            Request::Suspend { forced, reason, reply } => {
                self.suspenders.push(reply);
                let event = if forced { Event::Force } else { Event::Suspend };
                self.next.push_back((event, Some(reason)));
            }
            Request::Apply { reply } => {
                self.appliers.push(reply);
                self.apply_next();
            }
            Request::Look { reply } => {
                self.lookers.push(reply);
                self.look_next();
            }
        }
    }

    async fn reported(&mut self, report: Option<Report>) {
        match report {
            Some(Report::Observed(observed)) => {
                self.observed(observed).await;
            }
            Some(Report::Doing(doing)) => self.parts.activity.doing(&self.id, doing),
            // As it was asked to; the driver says when nothing of it is left.
            Some(Report::Exited(_)) | None if self.state == State::Stopping => self.running = None,
            Some(Report::Exited(how)) => {
                tracing::warn!(
                    incarnation = self.record.incarnation,
                    how,
                    "the compute ended without being asked"
                );
                self.next
                    .push_back((Event::Exited, Some(format!("the compute ended unexpectedly: {how}"))));
                self.running = None;
            }
            None => {
                self.next
                    .push_back((Event::Exited, Some("the compute's agent is gone".into())));
                self.running = None;
            }
        }
    }

    async fn done(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::InState(epoch, outcome)) if epoch == self.epoch => self.came_out(outcome).await,
            Ok(Done::InState(..)) => {}
            Ok(Done::Applied(appliers, result)) => self.applied(appliers, result).await,
            Ok(Done::Looked(lookers, result)) => self.looked(lookers, result).await,
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                tracing::error!(%error, state = ?self.state, "a task of the compute panicked");
                let event = if self.state == State::Starting {
                    Event::StartFailed
                } else {
                    Event::Exited
                };
                self.next.push_back((event, Some("internal error".into())));
            }
        }
    }

    async fn came_out(&mut self, outcome: Outcome) {
        let (event, reason) = match outcome {
            Outcome::Turn(Some(permit)) => {
                self.turn = Some(permit);
                (Event::Turn, None)
            }
            // There are no turns any more: control goes.
            Outcome::Turn(None) => (Event::Force, None),
            Outcome::Started(result) => match *result {
                Ok(running) => return self.started(running).await,
                Err(error) => self.not_started(&error),
            },
            Outcome::Verified(Ok(())) => (Event::Verified, None),
            Outcome::Verified(Err(reason)) => (Event::Exited, Some(reason)),
            Outcome::Drained(drain) => drained(drain),
            Outcome::Quiesced(quiesced) => self.quiesced(quiesced),
            Outcome::Resumed(Ok(())) => (Event::Resumed, None),
            Outcome::Resumed(Err(error)) => {
                tracing::warn!(%error, "the compute cannot be opened again and is stopped");
                (Event::NotResumed, Some(error.to_string()))
            }
            Outcome::Stopped(Ok(last)) => {
                if let Some(observed) = last {
                    self.observed(observed).await;
                }
                (Event::Exited, None)
            }
            Outcome::Stopped(Err(error)) => {
                tracing::error!(%error, "the compute was not stopped cleanly");
                (Event::Exited, Some(error.to_string()))
            }
            Outcome::BackedOff => (Event::BackedOff, None),
        };
        self.handle(event, reason).await;
    }

    fn not_started(&mut self, error: &StartError) -> (Event, Option<String>) {
        let reason = error.to_string();
        if let StartError::Failed(_) = error {
            return (Event::StartFailed, Some(reason));
        }
        tracing::warn!(incarnation = self.record.incarnation, reason, "a start was killed");
        self.killed += 1;
        if self.killed < KILLED_MAX {
            return (Event::StartKilled, Some(reason));
        }
        let reason = format!("{reason} ({KILLED_MAX} times in a row)");
        (Event::StartFailed, Some(reason))
    }

    fn quiesced(&self, quiesced: Result<Quiet, DriverError>) -> (Event, Option<String>) {
        match quiesced {
            Ok(Quiet::Idle) => (Event::Confirmed, None),
            Ok(Quiet::Busy(what)) => {
                if self.state.is_forced() {
                    tracing::warn!(what, "the compute is stopped while it works");
                }
                (Event::Refused, Some(what))
            }
            Err(error) => {
                tracing::warn!(%error, "the compute does not say whether it works");
                (Event::Unsure, Some(error.to_string()))
            }
        }
    }

    /// Tells everybody first and writes it down after: those who wait have waited long enough.
    async fn started(&mut self, running: Running) {
        let observed = running.observed.clone();
        // Another agent, which counts anew.
        self.look = 0;
        self.parts.publisher.set_observed(&self.id, observed.clone());
        let phases = WakePhases {
            queued_ms: self.queued_ms,
            executed_ms: self.queued_ms.saturating_add(running.executed_ms),
            ready_ms: self.queued_ms.saturating_add(running.ready_ms),
        };
        tracing::info!(incarnation = running.incarnation, ?phases, "the compute is ready");
        self.parts.metrics.wake_phases(phases);
        self.phases = Some(phases);
        self.running = Some(running);
        self.handle(Event::Started, None).await;
        self.phases = None;
        self.observed(observed).await;
    }

    async fn handle(&mut self, event: Event, reason: Option<String>) {
        let wanted = self.wanted();
        let Some((next, effects)) = step(self.state, event, wanted) else {
            return tracing::debug!(state = ?self.state, ?event, "came too late");
        };
        let before = self.record.clone();
        self.note_why(event, reason.as_deref(), effects);
        if next != self.state {
            self.enter(next, event, reason);
        }
        if effects.contains(&Effect::Start) {
            return self.start().await;
        }
        self.publish();
        for effect in effects {
            self.perform(*effect);
        }
        self.apply_next();
        self.look_next();
        if self.record != before {
            self.persist().await;
        }
    }

    /// Keeps what calls a suspend off, until its suspenders are told.
    fn note_why(&mut self, event: Event, reason: Option<&str>, effects: &[Effect]) {
        let why = match event {
            Event::Refused | Event::Unsure => reason,
            Event::Wake | Event::Doubt if self.state.may_be_called_off() => Some("a client needs it"),
            Event::Suspend if effects.contains(&Effect::RefuseSuspenders) => Some("somebody waits for it"),
            _ => None,
        };
        if let Some(why) = why {
            self.called_off.get_or_insert_with(|| why.to_owned());
        }
    }

    fn enter(&mut self, next: State, event: Event, reason: Option<String>) {
        tracing::debug!(from = ?self.state, to = ?next, ?event, "the compute changes state");
        if let Some(task) = self.task_of_state.take() {
            task.abort();
        }
        self.epoch += 1;
        if next == State::Queued && event != Event::StartKilled {
            self.woken_at = Instant::now();
        }
        if next != State::Starting {
            self.turn = None;
        }
        if !(next == State::Ready || next.may_be_called_off() || next.is_forced()) {
            self.running = None;
            self.parts.activity.ended(&self.id);
        }
        // Gateways order what they hear of one incarnation by it.
        if self.state.may_be_called_off() && matches!(next, State::Ready | State::Evicting) {
            self.record.round = self.record.round.saturating_add(1);
        }
        if matches!(next, State::Ready | State::Failed | State::Suspended) {
            (self.killed, self.unwritten) = (0, 0);
        }
        match event {
            Event::Started => {
                self.failures = 0;
                self.apply_due = true;
                self.parts.activity.ready(&self.id, self.record.incarnation);
            }
            Event::StartFailed | Event::StartKilled if next == State::Failed => {
                self.failures += 1;
                let exponent = self.failures.saturating_sub(1).min(16);
                let back_off = BACK_OFF_FIRST.saturating_mul(1 << exponent).min(BACK_OFF_MAX);
                self.back_off_until = Some(Instant::now() + back_off);
                // Only to come back here when it is over: the keeper stays until then.
                self.spawn_in_state(async move {
                    tokio::time::sleep(back_off).await;
                    Outcome::BackedOff
                });
            }
            _ => {}
        }
        let outward = next.outward();
        // Draining keeps its reason until it is over; what failed keeps it until the next try.
        let kept = outward == self.state.outward();
        let called_off = self.state.may_be_called_off() && next == State::Ready;
        self.record.forced = next.is_forced() || next == State::Stopping && self.state != State::Confirming;
        self.state = next;
        if !kept {
            self.record.state = outward;
            self.record.since = clock::now();
            self.record.reason = reason;
        } else if event == Event::Force && reason.is_some() {
            self.record.reason = reason;
        }
        if called_off {
            let why = self.called_off.clone().unwrap_or_default();
            tracing::info!(incarnation = self.record.incarnation, why, "the suspend was called off");
            self.record.reason = Some(format!("its suspend was called off: {why}"));
        }
    }

    fn publish(&mut self) {
        let passage = match &self.running {
            Some(running) if self.state == State::Ready => Passage::Open(running.address()),
            _ => Passage::Shut,
        };
        self.version = self.parts.publisher.set_compute(&self.id, self.record.clone(), passage);
    }

    /// Takes the next incarnation before anything of it exists, and only then lets the driver go.
    async fn start(&mut self) {
        self.queued_ms = millis(self.woken_at.elapsed());
        match self
            .parts
            .store
            .begin_start_for(&self.id, clock::now(), &self.woken_by)
            .await
        {
            Ok(whole) => {
                self.is_deleted = false;
                self.record = whole.record.compute.clone();
                self.publish();
                let driver = self.parts.driver.clone();
                self.spawn_in_state(async move { Outcome::Started(Box::new(driver.start(&whole).await)) });
            }
            Err(StoreError::NotFound(_)) => {
                // Deleted while somebody waited.
                self.is_deleted = true;
                self.next
                    .push_back((Event::StartFailed, Some("the project was deleted".into())));
            }
            Err(error) => {
                tracing::error!(%error, "cannot begin a start");
                let reason = "the control plane cannot write down its beginning".to_owned();
                // Nothing has begun, and a store that is away comes back: who waits is served then, where there is time left.
                self.unwritten = self.unwritten.saturating_add(1);
                self.next.push_back((Event::StartKilled, Some(reason)));
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            // `handle` sees to it: it has to wait for the store.
            Effect::Start => {}
            Effect::Enqueue => {
                let (turns, pause) = (self.parts.turns.clone(), self.pause());
                self.spawn_in_state(async move {
                    // Not even a timer's tick, where nothing is waited for.
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    Outcome::Turn(turns.acquire_owned().await.ok())
                });
            }
            Effect::Verify => self.verify(),
            Effect::AwaitDrained => {
                let (publisher, id) = (self.parts.publisher.clone(), self.id.clone());
                let refusals = !self.state.is_forced();
                self.spawn_in_state(
                    async move { Outcome::Drained(publisher.drained(&id, refusals, DRAIN_PATIENCE).await) },
                );
            }
            Effect::Quiesce => {
                let (driver, id) = (self.parts.driver.clone(), self.id.clone());
                let how = if self.state.is_forced() {
                    Quiesce::Forced(FORCED_PATIENCE)
                } else {
                    Quiesce::IfIdle
                };
                self.spawn_in_state(async move { Outcome::Quiesced(driver.quiesce(&id, how).await) });
            }
            Effect::Resume => {
                let (driver, id) = (self.parts.driver.clone(), self.id.clone());
                self.spawn_in_state(async move { Outcome::Resumed(driver.resume(&id).await) });
            }
            Effect::Stop => {
                let (driver, id) = (self.parts.driver.clone(), self.id.clone());
                self.spawn_in_state(async move { Outcome::Stopped(driver.stop(&id).await) });
            }
            Effect::BackOff => {
                let until = self.back_off_until.unwrap_or_else(Instant::now);
                self.spawn_in_state(async move {
                    tokio::time::sleep_until(until).await;
                    Outcome::BackedOff
                });
            }
            Effect::AnswerWakers => self.answer_wakers(),
            Effect::RefuseWakers => self.refuse_wakers(),
            Effect::AnswerSuspenders => {
                self.called_off = None;
                self.tell_suspenders(&Ok(()));
            }
            Effect::RefuseSuspenders => {
                let why = self.called_off.take().unwrap_or_default();
                self.tell_suspenders(&Err(CalledOff(why)));
            }
        }
    }

    /// Before the next try of a start that was killed, or could not be written down.
    fn pause(&self) -> Duration {
        match self.killed.max(self.unwritten) {
            0 => Duration::ZERO,
            killed => AFTER_KILLED * (1 << (killed - 1).min(KILLED_MAX)),
        }
    }

    fn verify(&mut self) {
        let (driver, id, incarnation) = (self.parts.driver.clone(), self.id.clone(), self.record.incarnation);
        self.spawn_in_state(async move {
            if driver.is_well(&id, incarnation).await {
                return Outcome::Verified(Ok(()));
            }
            // Whatever is left of it must not meet the next incarnation.
            let reason = match driver.stop(&id).await {
                Ok(_) => "the compute did not answer and was stopped".to_owned(),
                Err(error) => format!("the compute did not answer: {error}"),
            };
            Outcome::Verified(Err(reason))
        });
    }

    fn wanted(&mut self) -> Wanted {
        self.wakers.retain(|waker| !waker.is_closed());
        if self.wakers.is_empty() {
            Wanted::No
        } else {
            Wanted::Yes
        }
    }

    fn spawn_in_state(&mut self, task: impl Future<Output = Outcome> + Send + 'static) {
        let epoch = self.epoch;
        let task = async move { Done::InState(epoch, task.await) };
        self.task_of_state = Some(self.tasks.spawn(task.in_current_span()));
    }
}

/// Whether gateways stand in the way of a suspend.
fn drained(drain: Drain) -> (Event, Option<String>) {
    match drain {
        Drain::Emptied => (Event::Emptied, None),
        Drain::Refused(why) => (Event::Refused, Some(why)),
        Drain::Silent(gateways) => {
            tracing::warn!(
                gateways,
                "not every gateway has let go in time; the compute's own look decides"
            );
            (Event::Emptied, None)
        }
    }
}

/// Nothing has begun yet, so the last caller's leaving ends it.
fn may_be_dropped(state: State) -> bool {
    matches!(state, State::Queued | State::BackingOff)
}

/// Never, where no time is set. Cancel-safe.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The compute's next report; never, where none runs. Cancel-safe.
async fn next_report(running: &mut Option<Running>) -> Option<Report> {
    match running {
        Some(running) => running.reports.recv().await,
        None => std::future::pending().await,
    }
}

/// Until no waker's caller is there any more. Cancel-safe.
async fn all_gone(wakers: &mut [oneshot::Sender<Result<Woken, WakeError>>]) {
    for waker in wakers {
        waker.closed().await;
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
