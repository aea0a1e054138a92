//! Changes that reach computes, and looks at what was changed in SQL.

use super::*;

fn databases(plane: &Plane, id: &ProjectId) -> Vec<String> {
    plane.publisher().message(id).unwrap().databases.clone()
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
