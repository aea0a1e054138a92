//! The life of a compute as a table: a state and an event go in, the next state and what has to be done come out. Pure:
//! no clock, no I/O, no project. `compute.rs` obeys it and persists and publishes every change of the outward state.
//!
//! ```text
//!              wake            turn            started           suspend            acknowledged
//! suspended --------> queued --------> starting --------> ready ---------> draining -----------> stopping
//!     ^                 ^                 | start failed    | exited          | exited               | exited
//!     |                 | backed off      v                 v                 v                      v
//!     |             backing off <------ failed           suspended, or queued when somebody waits for it
//! ```

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
    /// Gateways are told to let go; at most a second.
    Draining,
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
    /// It shall stop.
    Suspend,
    /// Gateways have let go, or their second is over.
    Acknowledged,
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
    /// Wait until gateways have acknowledged, a second at most.
    AwaitAcknowledged,
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
        (S::Suspended, V::Suspend) => (S::Suspended, &[E::AnswerSuspenders]),

        (S::Queued, V::Wake | V::Doubt) => (S::Queued, &[]),
        (S::Queued, V::Abandoned) => (S::Suspended, &[]),
        (S::Queued, V::Turn) => (S::Starting, &[E::Start]),
        (S::Queued, V::Suspend) => (S::Suspended, &[E::RefuseWakers, E::AnswerSuspenders]),

        // Whoever comes during a start joins it; a start that has begun is finished even when all callers have gone.
        (S::Starting, V::Wake | V::Doubt) => (S::Starting, &[]),
        (S::Starting, V::Started) => (S::Ready, &[E::AnswerWakers]),
        (S::Starting, V::StartFailed) => (S::Failed, &[E::RefuseWakers, E::AnswerSuspenders]),
        (S::Starting, V::Suspend) => (S::Stopping, &[E::RefuseWakers, E::Stop]),

        (S::Ready, V::Wake) => (S::Ready, &[E::AnswerWakers]),
        (S::Ready, V::Doubt) => (S::Ready, &[E::Verify]),
        (S::Ready, V::Verified) => (S::Ready, &[E::AnswerWakers]),
        (S::Ready, V::Suspend) => (S::Draining, &[E::AwaitAcknowledged]),

        // A wake that comes while it goes down waits for the next incarnation.
        (S::Draining, V::Wake | V::Doubt | V::Suspend) => (S::Draining, &[]),
        (S::Draining, V::Acknowledged) => (S::Stopping, &[E::Stop]),
        (S::Stopping, V::Wake | V::Doubt | V::Suspend) => (S::Stopping, &[]),
        (S::Ready | S::Draining | S::Stopping, V::Exited) => match wanted {
            Wanted::Yes => (S::Queued, &[E::AnswerSuspenders, E::Enqueue]),
            Wanted::No => (S::Suspended, &[E::AnswerSuspenders]),
        },

        (S::Failed, V::Wake | V::Doubt) => (S::BackingOff, &[E::BackOff]),
        (S::Failed, V::Suspend) => (S::Suspended, &[E::AnswerSuspenders]),
        (S::BackingOff, V::Wake | V::Doubt) => (S::BackingOff, &[]),
        (S::BackingOff, V::Abandoned) => (S::Failed, &[]),
        (S::BackingOff, V::BackedOff) => (S::Queued, &[E::Enqueue]),
        (S::BackingOff, V::Suspend) => (S::Suspended, &[E::RefuseWakers, E::AnswerSuspenders]),

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
            Self::Draining | Self::Stopping => ComputeState::Draining,
            Self::Failed | Self::BackingOff => ComputeState::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const STATES: [State; 8] = [
        State::Suspended,
        State::Queued,
        State::Starting,
        State::Ready,
        State::Draining,
        State::Stopping,
        State::Failed,
        State::BackingOff,
    ];
    const EVENTS: [Event; 11] = [
        Event::Wake,
        Event::Doubt,
        Event::Verified,
        Event::Abandoned,
        Event::Turn,
        Event::Started,
        Event::StartFailed,
        Event::Suspend,
        Event::Acknowledged,
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

    /// Nobody may wait for an answer that no event can bring: from every state that holds wakers, some event answers or
    /// refuses them, or leads to such a state.
    #[test]
    fn every_suspend_is_answered_at_once_or_leads_to_a_stop() {
        for state in STATES {
            let (next, effects) = step(state, Event::Suspend, Wanted::Yes).expect("suspend means something everywhere");
            let answered = effects.contains(&Effect::AnswerSuspenders);
            assert!(
                answered || matches!(next, State::Draining | State::Stopping),
                "{state:?}"
            );
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
