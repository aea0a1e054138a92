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

const MINUTE: Duration = Duration::from_secs(60);

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

#[tokio::test(start_paused = true)]
async fn wakes_once_for_many_waiters() {
    let (plane, id) = Plane::with_demo().await;
    let wakes = (0..500).map(|_| plane.computes().wake(&id, None, MINUTE));
    let woken = futures::future::join_all(wakes).await;
    assert!(woken.iter().all(|woken| woken.as_ref().unwrap().ready_ms == 100));
    assert_eq!(plane.driver.log(), ["start demo 1"]);
    assert_eq!(state(&plane, &id), (ComputeState::Ready, 1));

    let again = plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert_eq!(again.ready_ms, 0, "it was ready already");
    assert_eq!(again.project.compute.as_ref().unwrap().socket_path, "/run/demo/m.sock");
}

#[tokio::test(start_paused = true)]
async fn gateways_are_told_every_state_in_order_and_the_secret_only_when_ready() {
    use proto::ComputeState::{Draining, Ready, Starting, Suspended};
    let (plane, id) = Plane::with_demo().await;
    let mut watch = plane.publisher().subscribe();
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let (told, suspended) = tokio::join!(next_states(&mut watch, 4), plane.computes().suspend(&id, "asked"));
    suspended.unwrap();
    let expected = [(Starting, false), (Ready, true), (Draining, false), (Suspended, false)];
    assert_eq!(told, expected.map(|(state, secret)| (i32::from(state), 1, secret)));
    let kept = plane.store.project(&id).await.unwrap().compute;
    assert_eq!((kept.state, kept.incarnation), (ComputeState::Suspended, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_full_store_did_not_take_is_kept_in_its_order_once_it_has_space() {
    let (plane, id) = Plane::with_demo().await;
    let full = |is_full: bool| plane.store.is_full.store(is_full, std::sync::atomic::Ordering::Relaxed);
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    full(true);
    // What runs goes on, and may be stopped; nothing starts of which the store does not know.
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    *plane.driver.held_at_end.lock().unwrap() = Some(observed(&["made_at_last"]));
    plane.computes().suspend(&id, "asked").await.unwrap();
    let waited = plane.computes().wake(&id, None, 10 * MINUTE).await.unwrap_err();
    assert_eq!(waited, WakeError::Deadline);
    assert_eq!(
        plane.driver.log().iter().filter(|did| did.starts_with("start")).count(),
        1
    );
    let kept = plane.store.project(&id).await.unwrap().compute;
    assert_eq!((kept.state, kept.incarnation), (ComputeState::Ready, 1), "half of it");

    full(false);
    let written = async {
        while plane.store.project(&id).await.unwrap().compute.state != ComputeState::Suspended {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), written).await.unwrap();
    let made = plane.store.transitions(&id, None, None, 10).await.unwrap();
    let states: Vec<_> = made.iter().rev().map(|made| (made.to, made.incarnation)).collect();
    let (starting, ready) = (ComputeState::Starting, ComputeState::Ready);
    let (draining, suspended) = (ComputeState::Draining, ComputeState::Suspended);
    assert_eq!(states, [starting, ready, draining, suspended].map(|state| (state, 1)));
    assert!(
        plane.store.open_operations().await.unwrap().is_empty(),
        "and what it ends has ended"
    );
    let whole = &plane.store.whole_projects(None, 1).await.unwrap()[0];
    assert_eq!(whole.observed.as_ref().unwrap().databases, ["made_at_last"]);
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert_eq!(state(&plane, &id), (ComputeState::Ready, 2));
}

#[tokio::test(start_paused = true)]
async fn what_the_server_held_at_its_end_is_what_logins_are_checked_against_in_its_sleep() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    *plane.driver.held_at_end.lock().unwrap() = Some(observed(&["made_at_last"]));
    plane.computes().suspend(&id, "asked").await.unwrap();
    let whole = &plane.store.whole_projects(None, 1).await.unwrap()[0];
    assert_eq!(whole.observed.as_ref().unwrap().databases, ["made_at_last"]);
}

#[tokio::test(start_paused = true)]
async fn wake_while_draining_waits_and_starts_the_next_incarnation() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let suspend = plane.computes().suspend(&id, "asked");
    let wake = async {
        reaches(&plane, &id, ComputeState::Draining).await;
        plane.computes().wake(&id, None, MINUTE).await
    };
    let (suspended, woken) = tokio::join!(suspend, wake);
    suspended.unwrap();
    assert_eq!(woken.unwrap().project.compute.as_ref().unwrap().incarnation, 2);
    assert_eq!(
        plane.driver.log(),
        ["start demo 1", "quiesce demo within 10 s", "stop demo", "start demo 2"]
    );
}

#[tokio::test(start_paused = true)]
async fn failed_start_says_why_and_the_next_wake_waits_for_the_back_off() {
    let (plane, id) = Plane::with_demo().await;
    let fails = Start::Fails(Duration::from_millis(10), "the disk is full");
    plane.driver.starts.lock().unwrap().extend([fails.clone(), fails]);
    let began = Instant::now();
    for waited_ms in [10, 10 + 500 + 10] {
        let error = plane.computes().wake(&id, None, MINUTE).await.unwrap_err();
        assert_eq!(error, WakeError::CannotStart("the disk is full".into()));
        assert_eq!(began.elapsed().as_millis(), waited_ms);
        assert_eq!(state(&plane, &id).0, ComputeState::Failed);
        assert_eq!(reason(&plane, &id), "the disk is full");
    }
    let woken = plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert_eq!(
        began.elapsed().as_millis(),
        520 + 1000 + 100,
        "the back-off has doubled"
    );
    assert_eq!(woken.project.compute.as_ref().unwrap().incarnation, 3);
    assert_eq!(reason(&plane, &id), "");
}

const KILLED: Start = Start::Killed(Duration::from_millis(10), "signal: 9 (SIGKILL)");

#[tokio::test(start_paused = true)]
async fn killed_start_is_begun_again_for_who_waits_under_the_next_incarnation() {
    let (plane, id) = Plane::with_demo().await;
    plane.driver.starts.lock().unwrap().extend([KILLED, KILLED]);
    let wakes = (0..3).map(|_| plane.computes().wake(&id, None, MINUTE));
    for woken in futures::future::join_all(wakes).await {
        let woken = woken.unwrap();
        assert_eq!(woken.project.compute.as_ref().unwrap().incarnation, 3);
        assert_eq!(woken.ready_ms, 10 + 200 + 10 + 400 + 100, "the pauses double");
    }
    assert_eq!(plane.driver.log(), ["start demo 1", "start demo 2", "start demo 3"]);
    let told = "it was killed while it started: signal: 9 (SIGKILL)";
    let made = plane.store.transitions(&id, None, None, 10).await.unwrap();
    let made: Vec<_> = made
        .iter()
        .rev()
        .map(|made| (made.incarnation, made.to, made.reason.as_deref()))
        .collect();
    use ComputeState::{Ready, Starting, Suspended};
    let expected = [
        (1, Starting, None),
        (1, Suspended, Some(told)),
        (2, Starting, None),
        (2, Suspended, Some(told)),
        (3, Starting, None),
        (3, Ready, None),
    ];
    assert_eq!(made, expected);
    while !plane.store.open_operations().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let starts = plane.store.operations(&id, 0, None, 10).await.unwrap();
    let starts: Vec<_> = starts
        .iter()
        .filter(|operation| operation.kind == OperationKind::Start)
        .map(|operation| (operation.incarnation, operation.error.as_deref()))
        .collect();
    assert_eq!(starts, [(Some(3), None), (Some(2), Some(told)), (Some(1), Some(told))]);
}

#[tokio::test(start_paused = true)]
async fn start_that_is_killed_three_times_in_a_row_has_failed_and_the_next_wake_counts_anew() {
    let (plane, id) = Plane::with_demo().await;
    plane.driver.starts.lock().unwrap().extend([KILLED; 5]);
    let began = Instant::now();
    let error = plane.computes().wake(&id, None, MINUTE).await.unwrap_err();
    let told = "it was killed while it started: signal: 9 (SIGKILL) (3 times in a row)";
    assert_eq!(error, WakeError::CannotStart(told.into()));
    assert_eq!(
        (state(&plane, &id), reason(&plane, &id)),
        ((ComputeState::Failed, 3), told.into())
    );
    let woken = plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert_eq!(woken.project.compute.as_ref().unwrap().incarnation, 6);
    let (row, back_off) = (10 + 200 + 10 + 400 + 10, 500);
    assert_eq!(began.elapsed().as_millis(), row + back_off + row - 10 + 100);
}

#[tokio::test(start_paused = true)]
async fn killed_start_that_nobody_waits_for_is_not_begun_again_before_the_next_need() {
    let (plane, id) = Plane::with_demo().await;
    plane.driver.starts.lock().unwrap().push_back(KILLED);
    let left = plane.computes().wake(&id, None, Duration::from_millis(5)).await;
    assert_eq!(left.unwrap_err(), WakeError::Deadline);
    reaches(&plane, &id, ComputeState::Failed).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(plane.driver.log(), ["start demo 1"]);
    let woken = plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert_eq!(woken.project.compute.as_ref().unwrap().incarnation, 2);
}

#[tokio::test(start_paused = true)]
async fn wait_for_the_next_try_of_a_killed_start_ends_with_the_wakes_deadline() {
    let (plane, id) = Plane::with_demo().await;
    plane.driver.starts.lock().unwrap().push_back(KILLED);
    let left = plane.computes().wake(&id, None, Duration::from_millis(100)).await;
    assert_eq!(left.unwrap_err(), WakeError::Deadline);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(plane.driver.log(), ["start demo 1"], "nobody waits any more");
    assert_eq!(state(&plane, &id), (ComputeState::Suspended, 1));
}

#[tokio::test(start_paused = true)]
async fn crash_while_ready_is_told_with_its_reason_and_the_next_wake_starts_anew() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    plane
        .driver
        .report(&id, Report::Exited("signal: 9 (SIGKILL)".into()))
        .await;
    reaches(&plane, &id, ComputeState::Suspended).await;
    assert_eq!(
        reason(&plane, &id),
        "the compute ended unexpectedly: signal: 9 (SIGKILL)"
    );
    let message = plane.publisher().message(&id).unwrap();
    assert!(message.compute.as_ref().unwrap().gateway_secret.is_empty());
    let woken = plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert_eq!(woken.project.compute.as_ref().unwrap().incarnation, 2);
    assert_eq!(plane.driver.log(), ["start demo 1", "start demo 2"]);
}

#[tokio::test(start_paused = true)]
async fn queued_wake_is_dropped_with_its_last_caller() {
    let (plane, id) = Plane::with_demo().await;
    let turns = plane.computes().parts.turns.clone();
    let held = turns.acquire_many(u32::try_from(STARTS_MAX).unwrap()).await.unwrap();
    let (one, two) = tokio::join!(
        plane.computes().wake(&id, None, Duration::from_millis(10)),
        plane.computes().wake(&id, None, Duration::from_millis(20)),
    );
    assert_eq!(
        (one.unwrap_err(), two.unwrap_err()),
        (WakeError::Deadline, WakeError::Deadline)
    );
    while !plane.computes().busy().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(held);
    tokio::time::sleep(MINUTE).await;
    assert!(plane.driver.log().is_empty(), "nobody waits, nothing starts");
    assert_eq!(state(&plane, &id), (ComputeState::Suspended, 0));
}

#[tokio::test(start_paused = true)]
async fn queued_wake_stays_while_one_caller_is_left() {
    let (plane, id) = Plane::with_demo().await;
    let turns = plane.computes().parts.turns.clone();
    let held = turns.acquire_many(u32::try_from(STARTS_MAX).unwrap()).await.unwrap();
    let leaves = plane.computes().wake(&id, None, Duration::from_millis(10));
    let stays = plane.computes().wake(&id, None, MINUTE);
    let release = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(held);
    };
    let (left, woken, ()) = tokio::join!(leaves, stays, release);
    assert_eq!(left.unwrap_err(), WakeError::Deadline);
    assert_eq!(woken.unwrap().ready_ms, 1000 + 100, "the time in the queue counts");
}

#[tokio::test(start_paused = true)]
async fn begun_start_is_finished_without_callers() {
    let (plane, id) = Plane::with_demo().await;
    let left = plane.computes().wake(&id, None, Duration::from_millis(50)).await;
    assert_eq!(left.unwrap_err(), WakeError::Deadline);
    reaches(&plane, &id, ComputeState::Ready).await;
    assert_eq!(plane.driver.log(), ["start demo 1"]);
}

#[tokio::test(start_paused = true)]
async fn silent_gateway_delays_a_suspend_for_so_long_and_then_the_compute_decides() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let silent = plane.publisher().subscribe();
    let began = Instant::now();
    plane.computes().suspend(&id, "asked").await.unwrap();
    assert_eq!(
        began.elapsed().as_millis(),
        5000 + 50 + 200,
        "the patience, the look and the stop itself"
    );
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let gone = Instant::now();
    let leaves = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(silent);
    };
    let (suspended, ()) = tokio::join!(plane.computes().suspend(&id, "asked"), leaves);
    suspended.unwrap();
    assert_eq!(
        gone.elapsed().as_millis(),
        300 + 50 + 200,
        "nobody waits for one that left"
    );

    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let mut quick = plane.publisher().subscribe();
    let began = Instant::now();
    let (suspended, _) = tokio::join!(plane.computes().suspend(&id, "asked"), next_states(&mut quick, 2));
    suspended.unwrap();
    assert_eq!(
        began.elapsed().as_millis(),
        50 + 200,
        "only the look and the stop itself"
    );
}

#[tokio::test(start_paused = true)]
async fn suspend_during_a_start_stops_it_and_tells_the_waiting() {
    let (plane, id) = Plane::with_demo().await;
    plane.driver.starts.lock().unwrap().push_back(Start::Ready(MINUTE));
    let wake = plane.computes().wake(&id, None, MINUTE);
    let suspend = async {
        reaches(&plane, &id, ComputeState::Starting).await;
        plane.computes().suspend(&id, "asked").await
    };
    let (woken, suspended) = tokio::join!(wake, suspend);
    assert!(matches!(woken.unwrap_err(), WakeError::Unavailable(_)));
    suspended.unwrap();
    assert_eq!(plane.driver.log(), ["start demo 1", "stop demo"]);
    assert_eq!(state(&plane, &id), (ComputeState::Suspended, 1));
}

#[tokio::test(start_paused = true)]
async fn suspend_of_a_sleeping_compute_does_nothing() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().suspend(&id, "asked").await.unwrap();
    assert!(plane.driver.log().is_empty());
    assert_eq!(state(&plane, &id), (ComputeState::Suspended, 0));
}

#[tokio::test(start_paused = true)]
async fn unreachable_compute_is_verified_before_another_is_started() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let doubted = plane.computes().wake(&id, Some(1), MINUTE).await.unwrap();
    assert_eq!(
        doubted.project.compute.as_ref().unwrap().incarnation,
        1,
        "it is well: the same again"
    );

    *plane.driver.is_unwell.lock().unwrap() = true;
    let replaced = plane.computes().wake(&id, Some(1), MINUTE).await.unwrap();
    assert_eq!(replaced.project.compute.as_ref().unwrap().incarnation, 2);
    assert_eq!(plane.driver.log(), ["start demo 1", "stop demo", "start demo 2"]);

    let stale = plane.computes().wake(&id, Some(1), MINUTE).await.unwrap();
    assert_eq!(
        stale.project.compute.as_ref().unwrap().incarnation,
        2,
        "a doubt about an older one is answered"
    );
    assert_eq!(plane.driver.log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn changes_reach_a_running_compute_before_they_are_answered() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    plane.projects.add_user(&id, new_user("app"), 1).await.unwrap();
    assert_eq!(plane.driver.log(), ["start demo 1", "apply demo +app"]);
    plane
        .projects
        .remove_user(&id, &new_user("app").name, None)
        .await
        .unwrap();
    assert_eq!(plane.driver.log()[2], "apply demo -app");
    assert!(plane.publisher().message(&id).unwrap().users.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_in_its_sleep_is_removed_after_the_next_start() {
    let (plane, id) = Plane::with_demo().await;
    let app = DatabaseName::new("app").unwrap();
    plane.projects.add_database(&id, &app).await.unwrap();
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    plane.driver.report(&id, Report::Observed(observed(&["app"]))).await;
    plane.computes().suspend(&id, "asked").await.unwrap();
    plane.projects.remove_database(&id, &app, None).await.unwrap();
    assert_eq!(
        plane.driver.log(),
        ["start demo 1", "quiesce demo within 10 s", "stop demo"]
    );
    assert!(
        plane.publisher().message(&id).unwrap().databases.is_empty(),
        "gone for gateways at once"
    );
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(plane.driver.log()[3..], ["start demo 2", "apply demo -app"]);
}

#[tokio::test(start_paused = true)]
async fn change_during_a_start_is_applied_after_it() {
    let (plane, id) = Plane::with_demo().await;
    let wake = plane.computes().wake(&id, None, MINUTE);
    let change = async {
        reaches(&plane, &id, ComputeState::Starting).await;
        plane.projects.add_user(&id, new_user("app"), 1).await
    };
    let (woken, changed) = tokio::join!(wake, change);
    woken.unwrap();
    changed.unwrap();
    assert_eq!(plane.driver.log(), ["start demo 1", "apply demo +app"]);
}

#[tokio::test(start_paused = true)]
async fn change_that_the_compute_refuses_is_kept_for_its_next_start() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    *plane.driver.apply_fails.lock().unwrap() = true;
    let error = plane.projects.add_user(&id, new_user("app"), 1).await.unwrap_err();
    assert!(error.to_string().contains("lock wait"), "{error}");
    assert_eq!(plane.store.pending(&id).await.unwrap().1.users.len(), 1);
    plane.computes().suspend(&id, "asked").await.unwrap();
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert!(
        plane.store.pending(&id).await.unwrap().1.is_empty(),
        "the start brought it"
    );
}

#[tokio::test(start_paused = true)]
async fn next_control_plane_adopts_what_runs() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    *plane.driver.adopts.lock().unwrap() = true;
    let next = Plane::on(plane.driver.clone(), plane.store.clone());
    next.load().await;
    next.computes().adopt().await;
    assert_eq!(state(&next, &id), (ComputeState::Ready, 1));
    assert_eq!(next.computes().wake(&id, None, MINUTE).await.unwrap().ready_ms, 0);
    next.driver.report(&id, Report::Exited("signal: 6".into())).await;
    reaches(&next, &id, ComputeState::Suspended).await;
    assert_eq!(plane.driver.log(), ["start demo 1"]);
}

#[tokio::test(start_paused = true)]
async fn wake_outlives_a_store_that_is_away_for_a_while() {
    let (plane, id) = Plane::with_demo().await;
    plane.store.starts_fail.store(5, Ordering::Relaxed);
    let woken = plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert_eq!(woken.project.compute.as_ref().unwrap().incarnation, 1);
    assert_eq!(plane.driver.log(), ["start demo 1"]);

    plane.computes().suspend(&id, "asked").await.unwrap();
    plane.store.starts_fail.store(u32::MAX, Ordering::Relaxed);
    let began = Instant::now();
    let late = plane.computes().wake(&id, None, MINUTE).await.unwrap_err();
    assert_eq!(
        (late, began.elapsed()),
        (WakeError::Deadline, MINUTE),
        "it waits to its deadline"
    );
    plane.store.starts_fail.store(0, Ordering::Relaxed);
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
}

/// A password that was changed, an account that was dropped: without this the old ones would go on letting people in.
#[tokio::test(start_paused = true)]
async fn next_control_plane_tells_gateways_what_sql_changed_while_there_was_none() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let account = |user: &str| ObservedAccount {
        user: user.into(),
        host: "%".into(),
        native_sha1: vec!["11".repeat(20)],
        ..ObservedAccount::default()
    };
    let held = |names: &[&str]| Observed {
        look: 2,
        accounts: names.iter().map(|name| account(name)).collect(),
        ..observed(&[])
    };
    let users = |plane: &Plane| -> Vec<String> {
        let message = plane.publisher().message(&id).unwrap();
        message.users.iter().map(|user| user.name.clone()).collect()
    };
    plane.driver.report(&id, Report::Observed(held(&["dropped"]))).await;
    plane.computes().look(&id).await.unwrap();
    *plane.driver.adopts.lock().unwrap() = true;
    *plane.driver.held.lock().unwrap() = Some(held(&["made"]));
    let next = Plane::on(plane.driver.clone(), plane.store.clone());
    next.load().await;
    next.computes().adopt().await;
    assert_eq!(users(&next), ["made"], "with the first snapshot");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let third = Plane::on(plane.driver.clone(), plane.store.clone());
    third.load().await;
    assert_eq!(users(&third), ["made"], "it is written down");
}

#[tokio::test(start_paused = true)]
async fn what_a_server_has_too_much_of_is_not_taken_over_and_its_project_goes_on() {
    let (plane, id) = Plane::with_demo().await;
    let held = |look, names: &[&str], patterns_bytes: usize| Observed {
        look,
        accounts: names
            .iter()
            .map(|name| ObservedAccount {
                user: (*name).into(),
                host: "%".into(),
                native_sha1: vec!["11".repeat(20)],
                patterns: vec!["d".repeat(patterns_bytes)],
                ..ObservedAccount::default()
            })
            .collect(),
        ..observed(&[])
    };
    let users = |plane: &Plane| -> Vec<String> {
        let message = plane.publisher().message(&id).unwrap();
        message.users.iter().map(|user| user.name.clone()).collect()
    };
    let too_much = PROJECT_BYTES_MAX;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    for (report, then) in [
        (held(2, &["fits"], 9), "fits"),
        (held(3, &["large"], too_much), "fits"),
        (
            Observed {
                left_out: Some("10001 accounts".into()),
                ..held(4, &[], 9)
            },
            "fits",
        ),
        (held(5, &["fits_again"], 9), "fits_again"),
    ] {
        plane.driver.report(&id, Report::Observed(report)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(users(&plane), [then]);
        let kept = plane.store.whole_project(&id).await.unwrap().observed.unwrap();
        assert_eq!(kept.accounts[0].user, then, "the next control plane has it, too");
    }
    *plane.driver.adopts.lock().unwrap() = true;
    *plane.driver.held.lock().unwrap() = Some(held(6, &["large"], too_much));
    let next = Plane::on(plane.driver.clone(), plane.store.clone());
    next.load().await;
    next.computes().adopt().await;
    assert_eq!(users(&next), ["fits_again"]);
}

#[tokio::test(start_paused = true)]
async fn next_control_plane_notices_what_is_gone_and_never_reuses_a_number() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let next = Plane::on(plane.driver.clone(), plane.store.clone());
    next.load().await;
    next.computes().adopt().await;
    assert_eq!(state(&next, &id), (ComputeState::Suspended, 1));
    assert_eq!(reason(&next, &id), "the compute ended while the control plane was away");
    let woken = next.computes().wake(&id, None, MINUTE).await.unwrap();
    assert_eq!(woken.project.compute.as_ref().unwrap().incarnation, 2);
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_control_was_away_is_billed_to_its_end_and_no_clock_bends_that() {
    let now = crate::clock::now();
    let hour = 3_600_000;
    for (says, billed_to) in [
        (now - hour / 2, Some(now - hour / 2)),
        (now - 2 * hour, Some(now - hour)),
        (now + hour, None),
    ] {
        let (plane, id) = Plane::with_demo().await;
        plane.computes().wake(&id, None, MINUTE).await.unwrap();
        let mut ready = plane.store.project(&id).await.unwrap().compute;
        // Ready for an hour by the clock of the day, which is not paused.
        ready.state = ComputeState::Starting;
        plane.store.set_compute(&id, &ready).await.unwrap();
        (ready.state, ready.since) = (ComputeState::Ready, now - hour);
        plane.store.set_compute(&id, &ready).await.unwrap();
        let how = Some("signal: 9 (SIGKILL)".into());
        *plane.driver.ended.lock().unwrap() = Some(Ended { at: says, how });
        let next = Plane::on(plane.driver.clone(), plane.store.clone());
        next.load().await;
        next.computes().adopt().await;
        let told = "the compute ended while the control plane was away: signal: 9 (SIGKILL)";
        assert_eq!(reason(&next, &id), told);
        let last = plane.store.transitions(&id, None, None, 1).await.unwrap().remove(0);
        let until = crate::clock::now();
        match billed_to {
            Some(at) => assert_eq!(last.at, at),
            None => assert!((now..=until).contains(&last.at), "not in the future"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn closing_suspends_all_at_once_and_lets_nothing_start() {
    let plane = Plane::new();
    let ids = [
        plane.create("aaa").await,
        plane.create("bbb").await,
        plane.create("ccc").await,
    ];
    for id in &ids {
        plane.computes().wake(id, None, MINUTE).await.unwrap();
    }
    plane.driver.starts.lock().unwrap().push_back(Start::Ready(MINUTE));
    let starting = plane.create("ddd").await;
    let wake = plane.computes().wake(&starting, None, MINUTE);
    let close = async {
        reaches(&plane, &starting, ComputeState::Starting).await;
        let began = Instant::now();
        plane.computes().close().await;
        began.elapsed()
    };
    let (woken, took) = tokio::join!(wake, close);
    assert!(matches!(woken.unwrap_err(), WakeError::Unavailable(_)));
    assert_eq!(took.as_millis(), 50 + 200, "in parallel");
    for id in ids.iter().chain([&starting]) {
        assert_eq!(state(&plane, id).0, ComputeState::Suspended);
    }
    let late = plane.computes().wake(&ids[0], None, MINUTE).await;
    assert!(matches!(late.unwrap_err(), WakeError::Unavailable(_)));
}

#[tokio::test(start_paused = true)]
async fn deleted_project_is_stopped_removed_and_unknown() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    plane.projects.delete(&plane.read(&id).await).await.unwrap();
    assert_eq!(
        plane.driver.log(),
        ["start demo 1", "quiesce demo within 10 s", "stop demo", "remove demo"]
    );
    assert_eq!(
        plane.computes().wake(&id, None, MINUTE).await.unwrap_err(),
        WakeError::NotFound
    );
    assert_eq!(plane.create("demo").await, id, "the name is free again");
}

#[tokio::test(start_paused = true)]
async fn project_that_cannot_be_prepared_is_taken_back() {
    let plane = Plane::new();
    *plane.driver.prepare_fails.lock().unwrap() = true;
    let refused = plane.projects.create(crate::store::suite::new_project("demo")).await;
    assert!(refused.unwrap_err().to_string().contains("no space left"));
    *plane.driver.prepare_fails.lock().unwrap() = false;
    plane.create("demo").await;
}

fn databases(plane: &Plane, id: &ProjectId) -> Vec<String> {
    plane.publisher().message(id).unwrap().databases.clone()
}

#[tokio::test(start_paused = true)]
async fn a_look_answers_when_gateways_have_what_was_seen() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    *plane.driver.held.lock().unwrap() = Some(Observed {
        look: 2,
        ..observed(&["made_in_sql"])
    });
    let mut watch = plane.publisher().subscribe();
    let acknowledged = async {
        let event = watch.changes.as_mut().unwrap().recv().await.unwrap().event;
        tokio::time::sleep(Duration::from_millis(300)).await;
        watch.acknowledger().acknowledge(event.version);
        event.version
    };
    let began = Instant::now();
    let (looked, version) = tokio::join!(plane.computes().look(&id), acknowledged);
    assert_eq!(looked, Ok(version));
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "before the gateway had it"
    );
    assert!(databases(&plane, &id).contains(&"made_in_sql".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_for_a_look_share_the_next_one() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    *plane.driver.held.lock().unwrap() = Some(observed(&[]));
    let looks = (0..100).map(|_| plane.computes().look(&id));
    let looked = futures::future::join_all(looks).await;
    assert!(looked.iter().all(Result::is_ok));
    let log = plane.driver.log();
    // The first begins at once; the others begin together when it has ended.
    assert_eq!(log.iter().filter(|line| *line == "look demo").count(), 2, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_look_at_a_compute_that_sleeps_or_is_silent_answers_and_wakes_nothing() {
    let (plane, id) = Plane::with_demo().await;
    assert!(plane.computes().look(&id).await.is_ok());
    assert_eq!(plane.driver.log(), Vec::<String>::new());
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    assert!(plane.computes().look(&id).await.is_ok(), "its agent does not answer");
    assert_eq!(plane.driver.log(), ["start demo 1", "look demo"]);
}

#[tokio::test(start_paused = true)]
async fn an_older_report_does_not_undo_a_later_look() {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let seen = |look, names: &[&str]| Observed {
        look,
        ..observed(names)
    };
    *plane.driver.held.lock().unwrap() = Some(seen(3, &["later"]));
    plane.computes().look(&id).await.unwrap();
    plane.driver.report(&id, Report::Observed(seen(2, &["older"]))).await;
    plane.driver.report(&id, Report::Observed(seen(3, &["later"]))).await;
    // Behind the reports in the keeper's line.
    plane.computes().look(&id).await.unwrap();
    assert!(databases(&plane, &id).contains(&"later".to_owned()));
    assert!(!databases(&plane, &id).contains(&"older".to_owned()));
}

/// A gateway that answers every drain as it is told to.
async fn gateway(plane: &Plane, refused: &str) {
    let mut watch = plane.publisher().subscribe();
    let acknowledger = watch.acknowledger();
    while let Some(crate::publish::Queued { event, .. }) = watch.changes.as_mut().unwrap().recv().await {
        acknowledger.acknowledge(event.version);
        if let Some(proto::watch_event::Event::Project(project)) = event.event
            && let Some(compute) = &project.compute
            && compute.state() == proto::ComputeState::Draining
        {
            acknowledger.drained(answer(&project.id, compute, refused));
        }
    }
}

/// With a demo that is ready.
async fn ready() -> (Plane, ProjectId) {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    (plane, id)
}

fn round(plane: &Plane, id: &ProjectId) -> u32 {
    plane.publisher().message(id).unwrap().compute.as_ref().unwrap().round
}

#[tokio::test(start_paused = true)]
async fn idle_compute_is_suspended_after_gateways_have_let_go_and_the_agent_has_looked() {
    let (plane, id) = ready().await;
    let suspended = tokio::select! {
        suspended = plane.computes().suspend_if_idle(&id, "idle") => suspended,
        () = gateway(&plane, "") => panic!("the gateway ended"),
    };
    assert_eq!(suspended, Ok(Ok(())));
    assert_eq!(plane.driver.log(), ["start demo 1", "quiesce demo", "stop demo"]);
    assert_eq!(state(&plane, &id), (ComputeState::Suspended, 1));
    let log = plane.store.transitions(&id, None, None, 10).await.unwrap();
    let told: Vec<_> = log.iter().rev().map(|made| made.to).collect();
    use ComputeState::{Draining, Ready, Starting, Suspended};
    assert_eq!(told, [Starting, Ready, Draining, Suspended]);
}

#[tokio::test(start_paused = true)]
async fn refusal_of_a_gateway_calls_the_suspend_off_before_the_compute_is_touched() {
    let (plane, id) = ready().await;
    let suspended = tokio::select! {
        suspended = plane.computes().suspend_if_idle(&id, "idle") => suspended,
        () = gateway(&plane, "session 7 holds a lock") => panic!("the gateway ended"),
    };
    assert_eq!(suspended, Ok(Err(CalledOff("session 7 holds a lock".into()))));
    assert_eq!(plane.driver.log(), ["start demo 1"]);
    assert_eq!((state(&plane, &id), round(&plane, &id)), ((ComputeState::Ready, 1), 1));
    assert_eq!(
        reason(&plane, &id),
        "its suspend was called off: session 7 holds a lock"
    );
    let told = plane.publisher().message(&id).unwrap().compute.clone().unwrap();
    assert!(told.reason.is_empty() && told.gateway_secret.len() == 32, "{told:?}");
    assert_eq!(plane.store.project(&id).await.unwrap().compute.round, 1);
    // It still runs, and its end is noticed.
    plane.driver.report(&id, Report::Exited("signal: 6".into())).await;
    reaches(&plane, &id, ComputeState::Suspended).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_agent_finds_calls_the_suspend_off_although_gateways_are_silent() {
    let (plane, id) = ready().await;
    let _silent = plane.publisher().subscribe();
    let busy = Quiet::Busy("connection 5 of app runs a statement".into());
    plane.driver.looks.lock().unwrap().push_back(Ok(busy));
    let suspended = plane.computes().suspend_if_idle(&id, "idle").await.unwrap();
    assert_eq!(suspended.unwrap_err().0, "connection 5 of app runs a statement");
    assert_eq!(plane.driver.log(), ["start demo 1", "quiesce demo"]);
    assert_eq!((state(&plane, &id), round(&plane, &id)), ((ComputeState::Ready, 1), 1));
}

#[tokio::test(start_paused = true)]
async fn agent_that_does_not_answer_is_asked_to_open_the_door_and_stopped_if_it_cannot() {
    let (plane, id) = ready().await;
    let silent = || Err(DriverError("no answer".into()));
    plane.driver.looks.lock().unwrap().extend([silent(), silent()]);
    let suspended = plane.computes().suspend_if_idle(&id, "idle").await.unwrap();
    assert_eq!(suspended.unwrap_err().0, "no answer");
    assert_eq!(plane.driver.log(), ["start demo 1", "quiesce demo", "resume demo"]);
    assert_eq!(state(&plane, &id), (ComputeState::Ready, 1));
    *plane.driver.resume_fails.lock().unwrap() = true;
    assert_eq!(plane.computes().suspend_if_idle(&id, "idle").await, Ok(Ok(())));
    assert_eq!(plane.driver.log()[3..], ["quiesce demo", "resume demo", "stop demo"]);
}

#[tokio::test(start_paused = true)]
async fn wake_during_an_unforced_drain_calls_it_off_and_is_answered_at_once() {
    let (plane, id) = ready().await;
    let _silent = plane.publisher().subscribe();
    let began = Instant::now();
    let wake = async {
        reaches(&plane, &id, ComputeState::Draining).await;
        let asked = Instant::now();
        let woken = plane.computes().wake(&id, None, MINUTE).await.unwrap();
        (woken, asked.elapsed())
    };
    let (suspended, (woken, waited)) = tokio::join!(plane.computes().suspend_if_idle(&id, "idle"), wake);
    let compute = woken.project.compute.clone().unwrap();
    assert_eq!(
        (compute.state(), compute.incarnation, compute.round),
        (proto::ComputeState::Ready, 1, 1)
    );
    assert_eq!(compute.gateway_secret.len(), 32);
    assert_eq!((waited, woken.ready_ms), (Duration::ZERO, 0));
    assert_eq!(suspended.unwrap().unwrap_err().0, "a client needs it");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "the silent gateway is not waited for"
    );
    assert_eq!(plane.driver.log(), ["start demo 1"]);
}

#[tokio::test(start_paused = true)]
async fn wake_while_the_agent_looks_has_the_door_opened_again_and_is_answered_with_the_same_compute() {
    let (plane, id) = ready().await;
    let wake = async {
        while plane.driver.log().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        plane.computes().wake(&id, None, MINUTE).await.unwrap()
    };
    let (suspended, woken) = tokio::join!(plane.computes().suspend_if_idle(&id, "idle"), wake);
    let compute = woken.project.compute.clone().unwrap();
    assert_eq!((compute.incarnation, compute.round), (1, 1));
    assert_eq!(suspended.unwrap().unwrap_err().0, "a client needs it");
    assert_eq!(plane.driver.log(), ["start demo 1", "quiesce demo", "resume demo"]);
}

#[tokio::test(start_paused = true)]
async fn forced_suspend_is_refused_by_nobody() {
    let (plane, id) = ready().await;
    plane
        .driver
        .looks
        .lock()
        .unwrap()
        .push_back(Ok(Quiet::Busy("a statement".into())));
    tokio::select! {
        suspended = plane.computes().suspend(&id, "asked") => suspended.unwrap(),
        () = gateway(&plane, "a session holds a lock") => panic!("the gateway ended"),
    }
    assert_eq!(
        plane.driver.log(),
        ["start demo 1", "quiesce demo within 10 s", "stop demo"]
    );
}

#[tokio::test(start_paused = true)]
async fn force_overtakes_a_drain_in_a_round_of_its_own_and_both_are_answered() {
    let (plane, id) = ready().await;
    let watch = plane.publisher().subscribe();
    let force = async {
        reaches(&plane, &id, ComputeState::Draining).await;
        let forced = plane.computes().suspend(&id, "the project is being deleted");
        let look = async {
            loop {
                let told = plane.publisher().message(&id).unwrap().compute.clone().unwrap();
                if told.forced {
                    return watch.acknowledger().drained(answer("demo", &told, ""));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (forced, ()) = tokio::join!(forced, look);
        forced.unwrap();
    };
    let (idle, ()) = tokio::join!(plane.computes().suspend_if_idle(&id, "idle"), force);
    assert_eq!(idle, Ok(Ok(())));
    assert_eq!(
        (state(&plane, &id), round(&plane, &id)),
        ((ComputeState::Suspended, 1), 1)
    );
    assert_eq!(
        plane.driver.log(),
        ["start demo 1", "quiesce demo within 10 s", "stop demo"]
    );
}

#[tokio::test(start_paused = true)]
async fn change_during_a_drain_that_is_called_off_reaches_the_compute() {
    let (plane, id) = ready().await;
    let _silent = plane.publisher().subscribe();
    plane
        .driver
        .looks
        .lock()
        .unwrap()
        .push_back(Ok(Quiet::Busy("a statement".into())));
    let change = async {
        reaches(&plane, &id, ComputeState::Draining).await;
        plane.projects.add_user(&id, new_user("app"), 1).await
    };
    let (suspended, changed) = tokio::join!(plane.computes().suspend_if_idle(&id, "idle"), change);
    changed.unwrap();
    assert!(suspended.unwrap().is_err());
    assert_eq!(plane.driver.log(), ["start demo 1", "quiesce demo", "apply demo +app"]);
}

#[tokio::test(start_paused = true)]
async fn compute_that_dies_while_draining_is_started_for_who_waits_and_is_asleep_for_who_asked() {
    let (plane, id) = ready().await;
    let _silent = plane.publisher().subscribe();
    let dies = async {
        reaches(&plane, &id, ComputeState::Draining).await;
        plane.driver.report(&id, Report::Exited("signal: 9".into())).await;
    };
    let (suspended, ()) = tokio::join!(plane.computes().suspend_if_idle(&id, "idle"), dies);
    assert_eq!(suspended, Ok(Ok(())));
    assert_eq!(state(&plane, &id), (ComputeState::Suspended, 1));
}

#[tokio::test(start_paused = true)]
async fn idle_suspend_never_stops_what_is_being_started() {
    let (plane, id) = Plane::with_demo().await;
    let suspend = async {
        reaches(&plane, &id, ComputeState::Starting).await;
        plane.computes().suspend_if_idle(&id, "idle").await
    };
    let (woken, suspended) = tokio::join!(plane.computes().wake(&id, None, MINUTE), suspend);
    woken.unwrap();
    assert_eq!(suspended.unwrap().unwrap_err().0, "somebody waits for it");
    assert_eq!(plane.driver.log(), ["start demo 1"]);
}

#[tokio::test(start_paused = true)]
async fn next_control_plane_goes_on_in_a_later_round() {
    let (plane, id) = ready().await;
    for _ in 0..3 {
        plane
            .driver
            .looks
            .lock()
            .unwrap()
            .push_back(Ok(Quiet::Busy("a statement".into())));
        plane
            .computes()
            .suspend_if_idle(&id, "idle")
            .await
            .unwrap()
            .unwrap_err();
    }
    assert_eq!(round(&plane, &id), 3);
    *plane.driver.adopts.lock().unwrap() = true;
    let next = Plane::on(plane.driver.clone(), plane.store.clone());
    next.load().await;
    next.computes().adopt().await;
    assert_eq!((state(&next, &id), round(&next, &id)), ((ComputeState::Ready, 1), 5));
}
