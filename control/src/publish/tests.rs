use control_api::networks::Networks;

use super::*;
use crate::{
    accounts::ObservedAccount,
    name::{DatabaseName, UserName},
    secret::{Password, Verifiers},
    store::{ProjectRecord, Sleep, UserRecord},
    testing::observed,
};

fn id(name: &str) -> ProjectId {
    ProjectId::new(name).unwrap()
}

fn access(revision: i64, databases: &[&str]) -> Access {
    let user = UserRecord {
        name: UserName::new("app").unwrap(),
        verifiers: Verifiers::of(&Password::new("p".into()).unwrap()),
        admin: false,
        created: 0,
        known: false,
        had: false,
        by_sql: false,
    };
    let databases = databases.iter().map(|name| DatabaseName::new(name).unwrap()).collect();
    Access {
        revision,
        users: vec![user],
        databases,
        ..Access::default()
    }
}

fn compute(state: ComputeState) -> ComputeRecord {
    ComputeRecord {
        state,
        round: 0,
        forced: false,
        incarnation: 1,
        since: 0,
        reason: None,
        size_ucu: 500_000,
    }
}

fn whole(name: &str) -> WholeProject {
    let record = ProjectRecord {
        id: id(name),
        size_cu: 0.5,
        wake_timeout_ms: None,
        sleep: Sleep::default(),
        allowed_networks: Networks::default(),
        uid: None,
        created: 0,
        compute: compute(ComputeState::Suspended),
    };
    WholeProject {
        record,
        access: access(1, &["my_db"]),
        observed: None,
    }
}

fn publisher() -> Arc<Publisher> {
    let publisher = Arc::new(Publisher::new());
    publisher.put(whole("demo"));
    publisher
}

fn next(subscription: &mut Subscription) -> proto::WatchEvent {
    subscription.changes.as_mut().unwrap().try_recv().unwrap().event
}

#[test]
fn snapshot_and_changes_have_no_gap_and_versions_grow() {
    let publisher = publisher();
    let mut watch = publisher.subscribe();
    assert_eq!(watch.snapshot.len(), 1);
    publisher.put(whole("other"));
    publisher.set_compute(&id("demo"), compute(ComputeState::Starting), Passage::Shut);
    publisher.remove(&id("other"));
    let events = [next(&mut watch), next(&mut watch), next(&mut watch)];
    let versions = events.clone().map(|event| event.version);
    assert_eq!(versions, [1, 2, 3].map(|step| watch.version + step));
    assert_eq!(
        events[2].event,
        Some(watch_event::Event::RemovedProject("other".into()))
    );
    assert_eq!(publisher.subscribe().snapshot.len(), 1);
}

#[test]
fn what_changes_nothing_is_not_sent() {
    let publisher = publisher();
    let mut watch = publisher.subscribe();
    publisher.set_compute(&id("demo"), compute(ComputeState::Suspended), Passage::Shut);
    publisher.set_access(&id("demo"), access(1, &["my_db"]));
    publisher.set_access(&id("unknown"), access(1, &[]));
    assert!(watch.changes.as_mut().unwrap().try_recv().is_err());
}

#[test]
fn older_reading_of_the_access_does_not_win() {
    let publisher = publisher();
    publisher.set_access(&id("demo"), access(5, &["five"]));
    publisher.set_access(&id("demo"), access(4, &["four"]));
    assert_eq!(publisher.message(&id("demo")).unwrap().databases, ["five"]);
}

#[test]
fn gateway_that_falls_behind_is_disconnected_and_blocks_nobody() {
    let publisher = publisher();
    let (mut slow, mut quick) = (publisher.subscribe(), publisher.subscribe());
    for step in 0..=WATCHER_QUEUE {
        let state = if step % 2 == 0 {
            ComputeState::Starting
        } else {
            ComputeState::Ready
        };
        publisher.set_compute(&id("demo"), compute(state), Passage::Shut);
        next(&mut quick);
    }
    assert_eq!(publisher.watchers(), 1);
    let queue = slow.changes.as_mut().unwrap();
    let mut left = 0;
    while queue.try_recv().is_ok() {
        left += 1;
    }
    assert_eq!(left, WATCHER_QUEUE);
    assert!(queue.is_closed());
}

#[test]
fn changes_of_a_large_project_that_a_gateway_does_not_read_are_held_only_up_to_a_bound() {
    let publisher = publisher();
    let (mut slow, mut quick) = (publisher.subscribe(), publisher.subscribe());
    let large = ObservedAccount {
        user: "large".into(),
        host: "%".into(),
        native_sha1: vec!["11".repeat(20)],
        patterns: vec!["d".repeat(PROJECT_BYTES_MAX - 1000)],
        ..ObservedAccount::default()
    };
    let mut seen = observed(&[]);
    seen.accounts = vec![large];
    publisher.set_observed(&id("demo"), seen);
    next(&mut quick);
    for step in 0..40 {
        let state = if step % 2 == 0 {
            ComputeState::Starting
        } else {
            ComputeState::Ready
        };
        publisher.set_compute(&id("demo"), compute(state), Passage::Shut);
        next(&mut quick);
    }
    assert_eq!(publisher.watchers(), 1, "who reads stays");
    let queue = slow.changes.as_mut().unwrap();
    let mut bytes = 0;
    while let Ok(queued) = queue.try_recv() {
        bytes += queued.event.encoded_len();
    }
    assert!((32 << 20..=64 << 20).contains(&bytes), "{bytes}");
    assert!(queue.is_closed());
}

#[test]
fn users_have_the_projects_databases_as_patterns_and_what_the_server_grants() {
    let publisher = publisher();
    let mut seen = observed(&["my_db", "by_sql"]);
    let grants = |user: &str, host: &str, pattern: &str| ObservedAccount {
        user: user.into(),
        host: host.into(),
        patterns: vec![pattern.into()],
        ..ObservedAccount::default()
    };
    seen.accounts = vec![
        grants("app", "%", r"by\_sql"),
        grants("app", "10.%", "no"),
        grants("eve", "%", "no"),
    ];
    publisher.set_observed(&id("demo"), seen);
    let message = publisher.message(&id("demo")).unwrap();
    assert_eq!(message.databases, ["by_sql", "my_db"]);
    assert_eq!(message.users[0].granted_databases, [r"by\_sql", r"my\_db"]);
    assert_eq!(message.users[0].native_sha1.len(), 20);
}

#[test]
fn secret_is_only_in_a_ready_compute() {
    let publisher = publisher();
    let address = || Address {
        socket: "/run/m.sock".into(),
        secret: GatewaySecret::generate(),
    };
    for (state, shown) in [(ComputeState::Ready, true), (ComputeState::Draining, false)] {
        publisher.set_compute(&id("demo"), compute(state), Passage::Open(address()));
        let told = publisher.message(&id("demo")).unwrap().compute.clone().unwrap();
        assert_eq!(
            (told.gateway_secret.len(), told.socket_path.is_empty()),
            if shown { (32, false) } else { (0, true) }
        );
    }
}

#[test]
fn projects_that_never_ran_show_the_fresh_server() {
    let publisher = publisher();
    let mut watch = publisher.subscribe();
    publisher.set_fresh_server(&observed(&[]), Arc::default());
    let Some(watch_event::Event::Project(project)) = next(&mut watch).event else {
        panic!("not a project")
    };
    assert_eq!(project.server.unwrap().version, "10.11.19-MariaDB");
    publisher.put(whole("other"));
    assert!(publisher.message(&id("other")).unwrap().server.is_some());
}

#[tokio::test(start_paused = true)]
async fn waits_for_all_connected_gateways_and_no_longer_than_it_wants() {
    let publisher = publisher();
    let second = Duration::from_secs(1);
    let version = publisher.set_compute(&id("demo"), compute(ComputeState::Starting), Passage::Shut);
    assert!(publisher.acknowledged(version, second).await, "nobody to wait for");
    let (one, two) = (publisher.subscribe(), publisher.subscribe());
    one.acknowledger().acknowledge(version);
    assert!(!publisher.acknowledged(version, second).await, "one is silent");
    let leave = async { drop(two) };
    assert!(
        tokio::join!(publisher.acknowledged(version, second), leave).0,
        "the silent one left"
    );
}

fn drained(watch: &Subscription, round: u32, refused: &str) {
    watch.acknowledger().drained(proto::Drained {
        project: "demo".into(),
        incarnation: 1,
        round,
        refused: refused.into(),
    });
}

fn draining(publisher: &Publisher, round: u32) {
    let compute = ComputeRecord {
        round,
        ..compute(ComputeState::Draining)
    };
    publisher.set_compute(&id("demo"), compute, Passage::Shut);
}

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_drain_is_over_when_every_connected_watcher_has_let_go() {
    let publisher = publisher();
    let (one, other) = (publisher.subscribe(), publisher.subscribe());
    draining(&publisher, 1);
    drained(&one, 1, "");
    let id = id("demo");
    let waits = publisher.drained(&id, true, PATIENCE);
    tokio::pin!(waits);
    assert!(futures::poll!(&mut waits).is_pending());
    drained(&other, 0, "");
    assert!(futures::poll!(&mut waits).is_pending(), "the answer to another round");
    // It comes back as a new one, which has to answer for itself.
    drop(other);
    let again = publisher.subscribe();
    assert!(futures::poll!(&mut waits).is_pending());
    drained(&again, 1, "");
    assert_eq!(waits.await, Drain::Emptied);

    draining(&publisher, 2);
    drained(&one, 2, "");
    assert_eq!(publisher.drained(&id, true, PATIENCE).await, Drain::Silent(1));
    drop(again);
    assert_eq!(publisher.drained(&id, true, PATIENCE).await, Drain::Emptied);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_heard_at_once_unless_it_does_not_count() {
    let publisher = publisher();
    let (one, _silent) = (publisher.subscribe(), publisher.subscribe());
    draining(&publisher, 0);
    drained(&one, 0, "a session holds a lock");
    let (id, began) = (id("demo"), tokio::time::Instant::now());
    let refused = Drain::Refused("a session holds a lock".into());
    assert_eq!(publisher.drained(&id, true, PATIENCE).await, refused);
    assert_eq!(began.elapsed(), Duration::ZERO);
    publisher.drained(&id, false, PATIENCE).await;
    assert_eq!(began.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_silent_for_as_long_as_it_owes_an_answer_and_says_nothing() {
    let second = Duration::from_secs(1);
    let publisher = Arc::new(Publisher::new());
    assert_eq!(publisher.longest_silence(), Duration::ZERO, "nobody is there");
    let subscription = publisher.subscribe();
    let says = subscription.acknowledger();
    tokio::time::advance(3 * second).await;
    assert_eq!(publisher.longest_silence(), 3 * second, "it owes its snapshot");
    says.acknowledge(subscription.version);
    tokio::time::advance(100 * second).await;
    assert_eq!(publisher.longest_silence(), Duration::ZERO, "it owes nothing");
    let first = publisher.put(whole("one"));
    tokio::time::advance(2 * second).await;
    let second_version = publisher.put(whole("two"));
    tokio::time::advance(second).await;
    assert_eq!(publisher.longest_silence(), 3 * second, "since the first that it owes");
    says.acknowledge(first);
    tokio::time::advance(second).await;
    assert_eq!(
        publisher.longest_silence(),
        second,
        "it is slow, and has just said something"
    );
    says.acknowledge(second_version);
    assert_eq!(publisher.longest_silence(), Duration::ZERO);
    publisher.put(whole("three"));
    tokio::time::advance(second).await;
    drop(subscription);
    assert_eq!(publisher.longest_silence(), Duration::ZERO, "it is gone");
}

#[test]
fn the_compute_that_is_in_a_state_for_the_longest_time_is_known() {
    let publisher = Publisher::new();
    for (name, since) in [("one", 7_000), ("two", 5_000)] {
        let mut project = whole(name);
        project.record.compute = ComputeRecord {
            since,
            ..compute(ComputeState::Starting)
        };
        publisher.put(project);
    }
    publisher.put(whole("asleep"));
    assert_eq!(publisher.longest_in(ComputeState::Starting), Some(5_000));
    assert_eq!(publisher.longest_in(ComputeState::Draining), None);
}

#[test]
fn a_project_too_large_to_be_told_is_told_without_its_users_until_it_fits_and_the_others_as_they_are() {
    let publisher = Publisher::new();
    // As an earlier version let it grow: each user is given every database.
    let names: Vec<String> = (0..400).map(|n| format!("{n:064}")).collect();
    let mut large = access(1, &names.iter().map(String::as_str).collect::<Vec<_>>());
    large.users = (0..400)
        .map(|n| UserRecord {
            name: UserName::new(&format!("user{n}")).unwrap(),
            ..large.users[0].clone()
        })
        .collect();
    publisher.put(WholeProject {
        access: large,
        ..whole("large")
    });
    publisher.put(whole("small"));
    let told = publisher.message(&id("large")).unwrap();
    assert_eq!((told.users.len(), told.databases.len()), (0, 0));
    assert!(told.encoded_len() < 1000, "{}", told.encoded_len());
    assert_eq!(publisher.message(&id("small")).unwrap().users.len(), 1);

    publisher.set_access(&id("large"), access(2, &["app"]));
    assert_eq!(publisher.message(&id("large")).unwrap().users.len(), 1);
}
