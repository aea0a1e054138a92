//! The life of computes under a scripted driver and a paused clock.

use std::time::Duration;

use control_api::rest::{ComputeState, OperationKind};
use tokio::time::Instant;

use super::*;
use crate::{
    accounts::ObservedAccount,
    driver::{Ended, Quiet, Report},
    name::DatabaseName,
    store::{Accesses, ComputeStates, Observed, Store, operations::Operations, suite::new_user},
    testing::{Plane, Start, observed},
    weight::PROJECT_BYTES_MAX,
};

mod adoption;
mod changes;
mod suspends;
mod wakes;

const MINUTE: Duration = Duration::from_secs(60);
const KILLED: Start = Start::Killed(Duration::from_millis(10), "signal: 9 (SIGKILL)");

fn state(plane: &Plane, id: &ProjectId) -> (ComputeState, u64) {
    let compute = plane.publisher().compute(id).unwrap();
    (compute.state, compute.incarnation)
}

fn reason(plane: &Plane, id: &ProjectId) -> String {
    plane.publisher().compute(id).unwrap().reason.unwrap_or_default()
}

/// The next states that a watching gateway is told, which it acknowledges, and lets go when it is told to, at once.
async fn next_states(watch: &mut crate::publish::Subscription, count: usize) -> Vec<(i32, u64, bool)> {
    let acknowledger = watch.acknowledger();
    let mut told = Vec::new();
    while told.len() < count {
        let event = watch.changes.as_mut().unwrap().recv().await.unwrap().event;
        acknowledger.acknowledge(event.version);
        let Some(proto::watch_event::Event::Project(project)) = event.event else {
            continue;
        };
        let compute = project.compute.unwrap();
        if compute.state() == proto::ComputeState::Draining {
            acknowledger.drained(answer(&project.id, &compute, ""));
        }
        let state = (compute.state, compute.incarnation, compute.gateway_secret.len() == 32);
        if told.last() != Some(&state) {
            told.push(state);
        }
    }
    told
}

fn answer(project: &str, compute: &proto::Compute, refused: &str) -> proto::Drained {
    proto::Drained {
        project: project.into(),
        incarnation: compute.incarnation,
        round: compute.round,
        refused: refused.into(),
    }
}

/// Until the compute is in that state; the deadline only guards against hanging.
async fn reaches(plane: &Plane, id: &ProjectId, wanted: ComputeState) {
    let look = async {
        while state(plane, id).0 != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(MINUTE, look)
        .await
        .unwrap_or_else(|_| panic!("never {wanted}: {:?}", state(plane, id)));
}
