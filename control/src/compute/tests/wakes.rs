//! Wakes: who waits, what they wait for, and starts that fail.

use super::*;

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
