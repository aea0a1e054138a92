use control_api::{control::ProjectActivity, rest::ComputeState};

use super::*;
use crate::{
    activity::Use,
    driver::{Doing, Quiet},
    store::{Options, ProjectRecord, Store},
    testing::Plane,
};

const MINUTE: Duration = Duration::from_secs(60);
const AFTER: Duration = Duration::from_secs(300);

fn sight(idle_s: u64) -> Sight {
    Sight {
        incarnation: 1,
        users: Vec::new(),
        idle: Duration::from_secs(idle_s),
        called_off: None,
    }
}

#[test]
fn only_what_was_idle_for_long_enough_is_due() {
    assert_eq!(due(&sight(299), Some(AFTER)), Due::In(Duration::from_secs(1)));
    assert_eq!(due(&sight(300), Some(AFTER)), Due::Now);
    assert_eq!(due(&sight(100_000), None), Due::Never);
    let used = Sight {
        users: vec![Use::Replication],
        ..sight(1000)
    };
    assert_eq!(due(&used, Some(AFTER)), Due::InUse);
    let tried = |left_s| Sight {
        called_off: Some(("a lock".into(), Duration::from_secs(left_s))),
        ..sight(1000)
    };
    assert_eq!(due(&tried(0), Some(AFTER)), Due::Now);
    let again = due(&tried(7), Some(AFTER));
    assert_eq!(again.to_string(), "its suspend was called off: a lock; next try in 7 s");
    let waits = due(&sight(1), Some(Duration::from_millis(2500)));
    assert_eq!(waits.to_string(), "not idle for long enough: 2 s left");
}

#[test]
fn a_project_may_say_otherwise() {
    let says = |suspend_after| Sleep {
        suspend_after,
        ..Sleep::default()
    };
    assert_eq!(idle_allowed(says(None), Some(AFTER)), Some(AFTER));
    assert_eq!(idle_allowed(says(Some(SuspendAfter::Never)), Some(AFTER)), None);
    assert_eq!(idle_allowed(says(Some(SuspendAfter::Idle(MINUTE))), None), Some(MINUTE));
}

/// A demo that is ready, and a scheduler beside it for as long as `work` takes.
async fn beside<T>(plane: &Plane, work: impl Future<Output = T>) -> T {
    let scheduler = Scheduler::new(plane.projects.clone(), Some(AFTER));
    tokio::select! {
        () = scheduler.run(CancellationToken::new()) => panic!("it ended"),
        done = work => done,
    }
}

async fn ready() -> (Plane, ProjectId) {
    let (plane, id) = Plane::with_demo().await;
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    (plane, id)
}

fn state(plane: &Plane, id: &ProjectId) -> ComputeState {
    plane.publisher().compute(id).unwrap().state
}

async fn asleep(plane: &Plane, id: &ProjectId) {
    while state(plane, id) != ComputeState::Suspended {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn idle_compute_falls_asleep_by_itself_and_not_before_its_time() {
    let (plane, id) = ready().await;
    let began = tokio::time::Instant::now();
    beside(&plane, asleep(&plane, &id)).await;
    assert!(
        (AFTER..AFTER + Duration::from_secs(2)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(plane.driver.log(), ["start demo 1", "quiesce demo", "stop demo"]);
}

#[tokio::test(start_paused = true)]
async fn compute_in_use_stays_awake_and_its_idle_time_counts_from_the_end() {
    let (plane, id) = ready().await;
    let activity = |commands_in_flight| ProjectActivity {
        project: "demo".into(),
        incarnation: 1,
        attached: 5,
        commands_in_flight,
        ..ProjectActivity::default()
    };
    beside(&plane, async {
        for _ in 0..60 {
            plane.projects.activity.report("one", vec![activity(1)]);
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        plane.projects.activity.report("one", vec![activity(0)]);
        plane.projects.activity.doing(
            &id,
            Doing {
                replication_threads: 2,
                ..Doing::default()
            },
        );
        tokio::time::sleep(2 * AFTER).await;
        assert_eq!(state(&plane, &id), ComputeState::Ready);
        plane.projects.activity.doing(&id, Doing::default());
        let ended = tokio::time::Instant::now();
        asleep(&plane, &id).await;
        assert!(ended.elapsed() >= AFTER);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn called_off_suspend_is_tried_again_after_longer_and_longer() {
    let (plane, id) = ready().await;
    let busy = || Ok(Quiet::Busy("connection 9 of app is idle".into()));
    plane.driver.looks.lock().unwrap().extend((0..4).map(|_| busy()));
    let tries = || plane.driver.log().iter().filter(|line| *line == "quiesce demo").count();
    beside(&plane, async {
        let mut pauses = Vec::new();
        let mut last = None;
        for tried in 1..=5 {
            while tries() < tried {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            pauses.extend(
                last.replace(tokio::time::Instant::now())
                    .map(|last| last.elapsed().as_secs()),
            );
        }
        for (pause, at_least) in pauses.iter().zip([10, 20, 40, 80]) {
            assert!((at_least..at_least + 3).contains(pause), "{pauses:?}");
        }
        asleep(&plane, &id).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn project_that_never_sleeps_stays_awake_until_it_may() {
    let (plane, id) = ready().await;
    let with = |read: &ProjectRecord, suspend_after| Options {
        sleep: Sleep {
            suspend_after: Some(suspend_after),
            ..Sleep::default()
        },
        ..read.options()
    };
    beside(&plane, async {
        let read = plane.read(&id).await;
        plane
            .projects
            .set_options(&read, &with(&read, SuspendAfter::Never))
            .await
            .unwrap();
        tokio::time::sleep(10 * AFTER).await;
        assert_eq!(state(&plane, &id), ComputeState::Ready);
        let read = plane.read(&id).await;
        plane
            .projects
            .set_options(&read, &with(&read, SuspendAfter::Idle(MINUTE)))
            .await
            .unwrap();
        let began = tokio::time::Instant::now();
        asleep(&plane, &id).await;
        assert!(began.elapsed() < MINUTE, "it was idle all the time");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn adopted_compute_is_given_its_whole_idle_time() {
    let (plane, id) = ready().await;
    tokio::time::sleep(AFTER).await;
    *plane.driver.adopts.lock().unwrap() = true;
    let next = Plane::on(plane.driver.clone(), plane.store.clone());
    next.load().await;
    next.computes().adopt().await;
    let began = tokio::time::Instant::now();
    beside(&next, asleep(&next, &id)).await;
    assert!(began.elapsed() >= AFTER);
}

/// `cargo test --release -p control tick_with_500_awake -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "it is what the measurement is for")]
async fn tick_with_500_awake_of_100_000_projects() {
    let (plane, _) = ready().await;
    let whole = plane.store.whole_projects(None, 1).await.unwrap().remove(0);
    for number in 0..100_000 {
        let mut whole = whole.clone();
        whole.record.id = ProjectId::new(&format!("p{}", 1_000_000 + number)).unwrap();
        plane.publisher().put(whole);
    }
    for number in 0..500 {
        let id = ProjectId::new(&format!("p{}", 1_000_000 + number * 200)).unwrap();
        plane.projects.activity.ready(&id, 1);
    }
    let scheduler = Scheduler::new(plane.projects.clone(), Some(AFTER));
    let mut took: Vec<_> = (0..1000)
        .map(|_| {
            let began = std::time::SystemTime::now();
            assert!(scheduler.due().is_empty());
            began.elapsed().unwrap()
        })
        .collect();
    took.sort_unstable();
    println!(
        "tick: median {:?}, 99th percentile {:?}, longest {:?}",
        took[500], took[990], took[999]
    );
}
