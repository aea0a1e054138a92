//! What the next control plane finds, and what becomes of projects that end.

use super::*;

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
