//! The lease under a paused clock, on the store in memory.

use std::sync::atomic::Ordering;

use super::*;
use crate::{
    store::{Leases, memory::MemoryStore, suite::new_project},
    testing::FakeDriver,
};

fn candidate(store: &MemoryStore, name: &str) -> Candidate {
    let holder = Holder {
        id: name.into(),
        http: format!("{name}:1"),
        grpc: format!("{name}:2"),
    };
    Candidate::new(Arc::new(store.clone()), holder)
}

struct Stage {
    store: MemoryStore,
    one: Candidate,
    other: Candidate,
    leader: watch::Sender<Option<Holder>>,
    stop: CancellationToken,
}

impl Stage {
    fn new() -> Self {
        let store = MemoryStore::default();
        Self {
            one: candidate(&store, "one"),
            other: candidate(&store, "other"),
            store,
            leader: watch::Sender::new(None),
            stop: CancellationToken::new(),
        }
    }

    async fn leads(&self, candidate: &Candidate) -> Leadership {
        candidate.lead(&self.leader, &self.stop).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn silent_leader_is_followed_within_six_seconds() {
    let stage = Stage::new();
    let first = stage.leads(&stage.one).await;
    let next = async {
        let began = Instant::now();
        (stage.leads(&stage.other).await, began.elapsed())
    };
    let dies = async {
        let mut seen = stage.leader.subscribe();
        let leader = seen.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!(leader.http, "one:1", "who stands by knows who leads");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!first.over.is_cancelled(), "renewed all the time");
        drop(first);
    };
    let ((second, took), ()) = tokio::join!(next, dies);
    assert_eq!(second.term, 2);
    let after = took - Duration::from_secs(60);
    assert!(after <= LASTS + LOOK_EVERY, "{after:?} on the paused clock");
    assert_eq!(*stage.leader.borrow(), None, "it leads itself");
}

#[tokio::test(start_paused = true)]
async fn resigning_hands_over_at_the_next_look() {
    let stage = Stage::new();
    let first = stage.leads(&stage.one).await;
    assert!(!stage.one.is_followed().await);
    let next = async {
        let second = stage.leads(&stage.other).await;
        (second, Instant::now())
    };
    let resigns = async {
        let mut seen = stage.leader.subscribe();
        seen.wait_for(Option::is_some).await.unwrap();
        assert!(stage.one.is_followed().await);
        stage.one.resign(first).await;
        Instant::now()
    };
    let ((second, took_over), resigned) = tokio::join!(next, resigns);
    assert!(took_over - resigned <= LOOK_EVERY);
    assert!(
        !stage.other.is_followed().await,
        "it no longer stands by, and the first has gone"
    );
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn leader_that_cannot_reach_the_store_stops_before_another_can_lead() {
    let stage = Stage::new();
    let first = stage.leads(&stage.one).await;
    let hold = first.hold.clone();
    tokio::time::sleep(Duration::from_secs(30)).await;
    stage.store.leases_hang.store(true, Ordering::Relaxed);
    let began = Instant::now();
    first.over.cancelled().await;
    assert!(!hold.is_held());
    assert!(began.elapsed() <= LASTS - MARGIN);
    stage.store.leases_hang.store(false, Ordering::Relaxed);
    assert_eq!(
        stage
            .store
            .take_lease(LEADER, &stage.other.holder, LASTS)
            .await
            .unwrap(),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn short_absence_of_the_store_costs_nothing() {
    let stage = Stage::new();
    let first = stage.leads(&stage.one).await;
    stage.store.leases_hang.store(true, Ordering::Relaxed);
    tokio::time::sleep(RENEW_EVERY * 2).await;
    stage.store.leases_hang.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!first.over.is_cancelled() && first.hold.is_held());
}

#[tokio::test(start_paused = true)]
async fn leader_that_slept_through_its_lease_acts_no_more() {
    let stage = Stage::new();
    let first = stage.leads(&stage.one).await;
    let driver = Arc::new(FakeDriver::default());
    let led = LedDriver {
        driver: driver.clone(),
        hold: first.hold.clone(),
    };
    let project = stage.store.create_project(new_project("demo")).await.unwrap();
    led.prepare(&project.record).await.unwrap();
    // As a frozen process: no task of it runs while the clock goes on.
    tokio::time::advance(LASTS).await;
    assert!(!first.hold.is_held());
    assert!(led.start(&project).await.is_err());
    assert!(led.stop(&project.record.id).await.is_err());
    assert!(led.remove(&project.record).await.is_err());
    assert_eq!(driver.log(), ["prepare demo"]);
}

#[tokio::test(start_paused = true)]
async fn who_stops_standing_by_is_not_counted_upon() {
    let stage = Stage::new();
    let first = stage.leads(&stage.one).await;
    let stands_by = stage.other.lead(&stage.leader, &stage.stop);
    let stops = async {
        let mut seen = stage.leader.subscribe();
        seen.wait_for(Option::is_some).await.unwrap();
        stage.stop.cancel();
    };
    let (led, ()) = tokio::join!(stands_by, stops);
    assert!(led.is_none());
    assert!(!stage.one.is_followed().await);
    stage.one.resign(first).await;
    let late = stage.other.lead(&stage.leader, &stage.stop).await;
    assert!(late.is_none(), "even where the lease is free");
}
