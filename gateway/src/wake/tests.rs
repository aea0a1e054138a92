//! A scripted control plane and a paused clock: what waiters see, and what control is asked.

use std::collections::VecDeque;
use tokio::time::sleep;

use super::*;

/// What control does with the next question.
enum Act {
    /// Answers READY with this incarnation, after a time.
    Ready(u64, Duration),
    Fail(AskError),
    /// Never answers.
    Hang,
}

struct Script {
    acts: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<Option<u64>>>,
    dropped: Arc<std::sync::atomic::AtomicUsize>,
}

/// Counts questions that were given up.
struct CountDrop(Arc<std::sync::atomic::AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl ComputeSource for Script {
    async fn wake(&self, ask: Ask) -> Result<proto::WakeReply, AskError> {
        self.asked.lock().unwrap().push(ask.unreachable);
        let act = self
            .acts
            .lock()
            .unwrap()
            .pop_front()
            .expect("asked more often than the script says");
        match act {
            Act::Ready(incarnation, after) => {
                sleep(after).await;
                Ok(reply(incarnation))
            }
            Act::Fail(error) => Err(error),
            Act::Hang => {
                let _given_up = CountDrop(Arc::clone(&self.dropped));
                std::future::pending().await
            }
        }
    }
}

fn reply(incarnation: u64) -> proto::WakeReply {
    proto::WakeReply {
        compute: Some(proto::Compute {
            state: proto::ComputeState::Ready.into(),
            incarnation,
            socket_path: "/s".into(),
            ..Default::default()
        }),
        ready_ms: 7,
        ..Default::default()
    }
}

struct World {
    wakes: Arc<Wakes>,
    project: Arc<Project>,
    script: Arc<Script>,
}

fn world(acts: impl IntoIterator<Item = Act>) -> World {
    let routes = Arc::new(Routes::default());
    routes.apply(&proto::Project {
        id: "demo".into(),
        ..Default::default()
    });
    let script = Arc::new(Script {
        acts: Mutex::new(acts.into_iter().collect()),
        asked: Mutex::default(),
        dropped: Arc::default(),
    });
    let config = Config {
        timeout: Duration::from_secs(60),
    };
    let source: Arc<dyn ComputeSource> = script.clone();
    let wakes = Arc::new(Wakes::new(config, source, Arc::clone(&routes), Handle::current()));
    World {
        wakes,
        project: routes.project("demo").unwrap(),
        script,
    }
}

impl World {
    async fn wake(&self) -> Result<Woken, WakeError> {
        self.wakes
            .running(
                &self.project,
                &Cause::default(),
                self.wakes.deadline(&self.project),
                None,
            )
            .await
    }
}

#[tokio::test(start_paused = true)]
async fn wakes_once_for_many_waiters() {
    let world = Arc::new(world([Act::Ready(1, Duration::from_secs(2))]));
    let waiters = (0..500).map(|_| {
        let world = Arc::clone(&world);
        async move { world.wake().await.unwrap().running.incarnation }
    });
    let incarnations = futures::future::join_all(waiters).await;
    assert_eq!(incarnations, vec![1; 500]);
    assert_eq!(world.script.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_running_compute_needs_no_question() {
    let world = world([]);
    world.project.apply_compute(reply(3).compute.as_ref().unwrap());
    let woken = world.wake().await.unwrap();
    assert_eq!(woken.running.incarnation, 3);
    assert!(woken.phases.is_none());
}

#[tokio::test(start_paused = true)]
async fn asks_again_while_control_is_away() {
    let away = || Act::Fail(AskError::Unavailable("away".into()));
    let world = world([away(), away(), away(), Act::Ready(1, Duration::ZERO)]);
    assert_eq!(world.wake().await.unwrap().running.incarnation, 1);
    assert_eq!(world.script.asked.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_deadline_bounds_all_retries() {
    let world = world((0..1000).map(|_| Act::Fail(AskError::Unavailable("control is away".into()))));
    let began = Instant::now();
    let error = world.wake().await.unwrap_err();
    assert!(matches!(error, WakeError::Deadline { .. }), "{error}");
    assert!(error.to_string().contains("control is away"), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_project_has_its_own_deadline() {
    let world = world([Act::Hang]);
    world.project.apply(&proto::Project {
        id: "demo".into(),
        wake_timeout_ms: 5_000,
        ..Default::default()
    });
    let began = Instant::now();
    assert!(matches!(world.wake().await, Err(WakeError::Deadline { .. })));
    assert_eq!(began.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_with_its_reason_to_all() {
    let world = world([Act::Fail(AskError::Refused("mariadbd is not installed".into()))]);
    let (first, second) = tokio::join!(world.wake(), world.wake());
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(error.to_string().contains("mariadbd is not installed"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_nobody_waits_for_is_dropped() {
    let world = world([Act::Hang, Act::Ready(1, Duration::ZERO)]);
    tokio::select! {
        _ = world.wake() => panic!("control never answered"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    world.wakes.flights.close();
    world.wakes.flights.wait().await;
    assert_eq!(world.script.dropped.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn one_of_two_waiters_leaving_drops_nothing() {
    let world = world([Act::Ready(1, Duration::from_secs(3))]);
    let leaves = async {
        tokio::select! {
            _ = world.wake() => panic!("too early"),
            () = sleep(Duration::from_secs(1)) => {}
        }
    };
    let (stays, ()) = tokio::join!(world.wake(), leaves);
    assert_eq!(stays.unwrap().running.incarnation, 1);
    assert_eq!(world.script.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_with_time_left_starts_another_flight() {
    let world = world([Act::Hang, Act::Ready(1, Duration::ZERO)]);
    world.project.apply(&proto::Project {
        id: "demo".into(),
        wake_timeout_ms: 5_000,
        ..Default::default()
    });
    let late = async {
        sleep(Duration::from_secs(3)).await;
        world.wake().await
    };
    let (first, second) = tokio::join!(world.wake(), late);
    assert!(matches!(first, Err(WakeError::Deadline { .. })));
    assert_eq!(second.unwrap().running.incarnation, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_incarnation_is_reported() {
    let world = world([Act::Ready(2, Duration::ZERO)]);
    world.project.apply_compute(reply(1).compute.as_ref().unwrap());
    let deadline = world.wakes.deadline(&world.project);
    let woken = world
        .wakes
        .running(&world.project, &Cause::default(), deadline, Some(1))
        .await
        .unwrap();
    assert_eq!(woken.running.incarnation, 2);
    assert_eq!(*world.script.asked.lock().unwrap(), [Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_project_wakes_nothing() {
    let world = world([Act::Fail(AskError::NoSuchProject)]);
    assert!(matches!(world.wake().await, Err(WakeError::Removed { .. })));
}
