//! Suspends: who is asked, who calls them off, and what forces them.

use super::*;

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
