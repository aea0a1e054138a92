//! The life of a compute as a table: a state and an event go in, the next state and what has to be done come out. Pure:
//! no clock, no I/O, no project. `compute.rs` obeys it and persists and publishes every change of the outward state.
//!
//! ```text
//!              wake            turn            started          suspend, all let go, nothing runs
//! suspended --------> queued --------> starting --------> ready -----------> draining --> confirming --> stopping
//!     ^                 ^                 | start failed  | ^                   |             |             |
//!     |                 | backed off      v               | +---- called off ---+---- resuming              |
//!     |             backing off <------ failed            | force                                           |
//!     |                                                   +--------------> evicting --> settling --> stopping
//!     +--- exited, from any of them; queued instead when somebody waits for it ----------------------------+
//! ```
//!
//! A start that is killed goes back to queued while somebody waits; after some in a row it has failed.
//!
//! A suspend that is not forced is called off by whatever still needs the compute: a gateway that cannot let go, work that
//! the agent sees, a wake. A forced one goes through, and a wake waits for the next start.

use control_api::rest::ComputeState;

/// Where a compute is, finer than what is told outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing runs.
    Suspended,
    /// Somebody waits for it and it waits for its turn to start; nothing has begun, so it can still be dropped.
    Queued,
    /// The driver starts it.
    Starting,
    /// Clients are served.
    Ready,
    /// Gateways are told to let go, and may refuse.
    Draining,
    /// Gateways have let go; the agent looks whether anything runs, with the door shut.
    Confirming,
    /// It was called off after the door was shut, and the agent opens it again.
    Resuming,
    /// Gateways are told to let go, whatever it costs their sessions.
    Evicting,
    /// Statements that still run are given a last chance to end.
    Settling,
    /// The driver stops it.
    Stopping,
    /// The last start failed.
    Failed,
    /// The last start failed, and somebody waits until it may be tried again.
    BackingOff,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A caller wants it ready.
    Wake,
    /// A caller could not reach it although it was ready.
    Doubt,
    /// The driver asked it: it is well.
    Verified,
    /// The last caller that waited has gone away.
    Abandoned,
    /// It may start now.
    Turn,
    /// The driver says ready.
    Started,
    /// The driver could not.
    StartFailed,
    /// A signal ended it while it started, not often enough in a row to call that a failure.
    StartKilled,
    /// It shall stop, if nobody needs it.
    Suspend,
    /// It shall stop.
    Force,
    /// Gateways have let go, or do not answer; then the agent's look decides.
    Emptied,
    /// A gateway cannot let go, or the agent has found something that runs.
    Refused,
    /// Nothing runs, and nothing can begin.
    Confirmed,
    /// The agent did not say whether anything runs; the door may be open or shut.
    Unsure,
    /// The door is open again.
    Resumed,
    /// It could not be opened.
    NotResumed,
    /// Nothing of it runs any more.
    Exited,
    /// It may be tried again.
    BackedOff,
}

/// What has to be done on the way to the next state, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask for a turn to start.
    Enqueue,
    /// Take the next incarnation and let the driver start it.
    Start,
    /// Ask the driver whether it is well.
    Verify,
    /// Wait until gateways have let go.
    AwaitDrained,
    /// Let the agent shut the door and look whether anything runs.
    Quiesce,
    /// Let the agent open the door again.
    Resume,
    /// Let the driver stop it, or what has been started of it.
    Stop,
    /// Wait before the next try.
    BackOff,
    /// It is ready: tell those who wait for that.
    AnswerWakers,
    /// It will not be ready: tell them why.
    RefuseWakers,
    /// It does not run: tell those who wait for that.
    AnswerSuspenders,
    /// It stays: tell those who wanted it to stop why.
    RefuseSuspenders,
}

/// Whether any caller waits for it to be ready at the moment of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Yes,
    No,
}

/// The next state and what to do. `None`: the event comes too late to mean anything in this state, and changes nothing.
pub(crate) fn step(state: State, event: Event, wanted: Wanted) -> Option<(State, &'static [Effect])> {
    use Effect as E;
    use Event as V;
    use State as S;
    Some(match (state, event) {
        (S::Suspended, V::Wake | V::Doubt) => (S::Queued, &[E::Enqueue]),
        (S::Suspended, V::Suspend | V::Force) => (S::Suspended, &[E::AnswerSuspenders]),

        (S::Queued, V::Wake | V::Doubt) => (S::Queued, &[]),
        (S::Queued, V::Abandoned) => (S::Suspended, &[]),
        (S::Queued, V::Turn) => (S::Starting, &[E::Start]),
        (S::Queued, V::Suspend) => (S::Queued, &[E::RefuseSuspenders]),
        (S::Queued, V::Force) => (S::Suspended, &[E::RefuseWakers, E::AnswerSuspenders]),

        // Whoever comes during a start joins it; a start that has begun is finished even when all callers have gone.
        (S::Starting, V::Wake | V::Doubt) => (S::Starting, &[]),
        (S::Starting, V::Started) => (S::Ready, &[E::AnswerWakers]),
        (S::Starting, V::StartFailed) => (S::Failed, &[E::RefuseWakers, E::AnswerSuspenders]),
        // Who waits has lost nothing but time: the next start gets the next incarnation.
        (S::Starting, V::StartKilled) => match wanted {
            Wanted::Yes => (S::Queued, &[E::AnswerSuspenders, E::Enqueue]),
            Wanted::No => (S::Failed, &[E::AnswerSuspenders]),
        },
        (S::Starting, V::Suspend) => (S::Starting, &[E::RefuseSuspenders]),
        (S::Starting, V::Force) => (S::Stopping, &[E::RefuseWakers, E::Stop]),

        (S::Ready, V::Wake) => (S::Ready, &[E::AnswerWakers]),
        (S::Ready, V::Doubt) => (S::Ready, &[E::Verify]),
        (S::Ready, V::Verified) => (S::Ready, &[E::AnswerWakers]),
        (S::Ready, V::Suspend) => match wanted {
            // Somebody waits until it is verified.
            Wanted::Yes => (S::Ready, &[E::RefuseSuspenders]),
            Wanted::No => (S::Draining, &[E::AwaitDrained]),
        },
        (S::Ready, V::Force) => (S::Evicting, &[E::AwaitDrained]),

        // Until SIGTERM the running compute is quicker than the next one.
        (S::Draining, V::Wake) => (S::Ready, &[E::AnswerWakers, E::RefuseSuspenders]),
        (S::Draining, V::Doubt) => (S::Ready, &[E::Verify, E::RefuseSuspenders]),
        (S::Draining, V::Refused) => (S::Ready, &[E::RefuseSuspenders]),
        (S::Draining, V::Emptied) => (S::Confirming, &[E::Quiesce]),
        (S::Draining | S::Confirming | S::Resuming, V::Force) => (S::Evicting, &[E::AwaitDrained]),
        (S::Draining, V::Suspend) => (S::Draining, &[]),

        // The agent answers soon, and only then it is known whether the door is open.
        (S::Confirming, V::Wake | V::Doubt | V::Suspend) => (S::Confirming, &[]),
        (S::Confirming, V::Refused) => (S::Ready, &[E::AnswerWakers, E::RefuseSuspenders]),
        (S::Confirming, V::Unsure) => (S::Resuming, &[E::Resume]),
        (S::Confirming, V::Confirmed) => match wanted {
            Wanted::Yes => (S::Resuming, &[E::Resume]),
            Wanted::No => (S::Stopping, &[E::Stop]),
        },
        (S::Resuming, V::Wake | V::Doubt | V::Suspend) => (S::Resuming, &[]),
        (S::Resuming, V::Resumed) => (S::Ready, &[E::AnswerWakers, E::RefuseSuspenders]),
        (S::Resuming, V::NotResumed) => (S::Stopping, &[E::Stop]),

        // A wake that comes while it goes down for certain waits for the next incarnation.
        (S::Evicting | S::Settling | S::Stopping, V::Wake | V::Doubt | V::Suspend | V::Force) => (state, &[]),
        (S::Evicting, V::Emptied | V::Refused) => (S::Settling, &[E::Quiesce]),
        (S::Settling, V::Confirmed | V::Refused | V::Unsure) => (S::Stopping, &[E::Stop]),
        (S::Ready | S::Draining | S::Confirming | S::Resuming | S::Evicting | S::Settling | S::Stopping, V::Exited) => {
            match wanted {
                Wanted::Yes => (S::Queued, &[E::AnswerSuspenders, E::Enqueue]),
                Wanted::No => (S::Suspended, &[E::AnswerSuspenders]),
            }
        }

        (S::Failed, V::Wake | V::Doubt) => (S::BackingOff, &[E::BackOff]),
        (S::Failed, V::Suspend | V::Force) => (S::Suspended, &[E::AnswerSuspenders]),
        (S::BackingOff, V::Wake | V::Doubt) => (S::BackingOff, &[]),
        (S::BackingOff, V::Abandoned) => (S::Failed, &[]),
        (S::BackingOff, V::BackedOff) => (S::Queued, &[E::Enqueue]),
        (S::BackingOff, V::Suspend) => (S::BackingOff, &[E::RefuseSuspenders]),
        (S::BackingOff, V::Force) => (S::Suspended, &[E::RefuseWakers, E::AnswerSuspenders]),

        _ => return None,
    })
}

impl State {
    /// What REST, gateways and the store are told.
    pub(crate) fn outward(self) -> ComputeState {
        match self {
            Self::Suspended | Self::Queued => ComputeState::Suspended,
            Self::Starting => ComputeState::Starting,
            Self::Ready => ComputeState::Ready,
            Self::Draining | Self::Confirming | Self::Resuming | Self::Evicting | Self::Settling | Self::Stopping => {
                ComputeState::Draining
            }
            Self::Failed | Self::BackingOff => ComputeState::Failed,
        }
    }

    /// It is on its way down and may still come back as it is.
    pub(crate) fn may_be_called_off(self) -> bool {
        matches!(self, Self::Draining | Self::Confirming | Self::Resuming)
    }

    /// It is on its way down for certain.
    pub(crate) fn is_forced(self) -> bool {
        matches!(self, Self::Evicting | Self::Settling)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const STATES: [State; 12] = [
        State::Suspended,
        State::Queued,
        State::Starting,
        State::Ready,
        State::Draining,
        State::Confirming,
        State::Resuming,
        State::Evicting,
        State::Settling,
        State::Stopping,
        State::Failed,
        State::BackingOff,
    ];
    const EVENTS: [Event; 18] = [
        Event::Wake,
        Event::Doubt,
        Event::Verified,
        Event::Abandoned,
        Event::Turn,
        Event::Started,
        Event::StartFailed,
        Event::StartKilled,
        Event::Suspend,
        Event::Force,
        Event::Emptied,
        Event::Refused,
        Event::Confirmed,
        Event::Unsure,
        Event::Resumed,
        Event::NotResumed,
        Event::Exited,
        Event::BackedOff,
    ];

    #[test]
    fn whole_table_is_as_reviewed() {
        let mut table = String::new();
        for state in STATES {
            for event in EVENTS {
                let (yes, no) = (step(state, event, Wanted::Yes), step(state, event, Wanted::No));
                let rows = if yes == no {
                    vec![("", yes)]
                } else {
                    vec![(" wanted", yes), (" unwanted", no)]
                };
                for (note, row) in rows {
                    let next = row.map_or("-".into(), |(next, effects)| format!("{next:?} {effects:?}"));
                    writeln!(
                        table,
                        "{:<10} {:<21} -> {next}",
                        format!("{state:?}"),
                        format!("{event:?}{note}")
                    )
                    .unwrap();
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    /// Nobody may wait for an answer that no event can bring.
    #[test]
    fn every_suspend_is_answered_at_once_or_leads_to_an_answer() {
        for state in STATES {
            for event in [Event::Suspend, Event::Force] {
                let (next, effects) = step(state, event, Wanted::Yes).expect("it means something everywhere");
                let answered =
                    effects.contains(&Effect::AnswerSuspenders) || effects.contains(&Effect::RefuseSuspenders);
                let goes_down = next.outward() == ComputeState::Draining;
                assert!(answered || goes_down, "{state:?} {event:?}");
                assert!(
                    event == Event::Suspend || !effects.contains(&Effect::RefuseSuspenders),
                    "{state:?}"
                );
            }
        }
    }

    #[test]
    fn whoever_comes_back_to_ready_answers_everybody() {
        for state in STATES.into_iter().filter(|state| state.may_be_called_off()) {
            for event in EVENTS {
                if let Some((State::Ready, effects)) = step(state, event, Wanted::Yes) {
                    let wakers = effects.contains(&Effect::AnswerWakers) || effects.contains(&Effect::Verify);
                    // In Draining nobody waits: the first who does calls it off.
                    assert!(
                        wakers || (state, event) == (State::Draining, Event::Refused),
                        "{state:?} {event:?}"
                    );
                    assert!(effects.contains(&Effect::RefuseSuspenders), "{state:?} {event:?}");
                }
            }
        }
    }

    /// Only after the agent has said that nothing runs, or where nobody asks.
    #[test]
    fn nothing_is_stopped_unforced_that_somebody_waits_for() {
        for state in STATES.into_iter().filter(|state| state.may_be_called_off()) {
            for event in EVENTS {
                for wanted in [Wanted::Yes, Wanted::No] {
                    if let Some((State::Stopping, _)) = step(state, event, wanted) {
                        let confirmed = (state, event, wanted) == (State::Confirming, Event::Confirmed, Wanted::No);
                        assert!(
                            confirmed || event == Event::NotResumed,
                            "{state:?} {event:?} {wanted:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn only_a_turn_starts_and_only_from_the_queue() {
        for state in STATES {
            for event in EVENTS {
                if let Some((next, effects)) = step(state, event, Wanted::Yes) {
                    let starts = effects.contains(&Effect::Start);
                    assert_eq!(
                        starts,
                        (state, event) == (State::Queued, Event::Turn),
                        "{state:?} {event:?}"
                    );
                    assert_eq!(starts, next == State::Starting && state != State::Starting);
                }
            }
        }
    }
}
