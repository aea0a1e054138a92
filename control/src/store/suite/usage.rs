//! What a store must do with what was used.

use super::*;
use crate::store::usage::{Counts, HOUR_MS, PastProject, Share, UsageWindow, WindowId};

const NOON: i64 = 1_700_000_000_000 / HOUR_MS * HOUR_MS;

fn window(sequence: i64, start: i64, projects: &[(&str, i64)]) -> UsageWindow {
    UsageWindow {
        id: WindowId {
            gateway_id: "g".into(),
            sequence,
            start,
        },
        end: start + 60_000,
        shares: projects
            .iter()
            .map(|(name, count)| Share {
                project: id(name),
                created: 0,
                counts: counts(*count),
            })
            .collect(),
    }
}

/// The same of a gateway that says when the projects were made.
fn window_of(sequence: i64, start: i64, created: i64, projects: &[(&str, i64)]) -> UsageWindow {
    let mut window = window(sequence, start, projects);
    window.shares.iter_mut().for_each(|share| share.created = created);
    window
}

async fn make(store: &impl Store, name: &str, now: i64) {
    let new = NewProject {
        now,
        ..new_project(name)
    };
    store.create_project(new).await.unwrap();
}

async fn delete(store: &impl Store, name: &str) {
    store.begin_delete(&id(name), None).await.unwrap();
    store.finish_delete(&id(name)).await.unwrap();
}

/// `count`, twice as much, and so on: every column another.
fn counts(count: i64) -> Counts {
    std::array::from_fn(|column| count * (column as i64 + 1))
}

async fn sums(store: &impl Store, project: &str, created: i64) -> Vec<(i64, Counts)> {
    let read = store.usage(&id(project), created, NOON..NOON + 24 * HOUR_MS, &[]).await;
    read.unwrap().into_iter().collect()
}

pub(super) async fn a_window_counts_once_however_often_and_in_whatever_order_it_comes(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    store.create_project(new_project("other")).await.unwrap();
    let windows = [
        window(1, NOON, &[("demo", 1), ("other", 100)]),
        window(2, NOON + 60_000, &[("demo", 10)]),
        window(3, NOON + HOUR_MS, &[("demo", 5)]),
        // After a power cut a gateway may give a number again, in another minute.
        window(3, NOON + HOUR_MS + 60_000, &[("demo", 2)]),
    ];
    for (at, new) in [
        (2, true),
        (0, true),
        (2, false),
        (3, true),
        (1, true),
        (0, false),
        (1, false),
        (3, false),
    ] {
        assert_eq!(store.add_usage(&windows[at]).await.unwrap(), new, "window {at}");
    }
    let hours = sums(store, "demo", 1_000).await;
    assert_eq!(hours, [(NOON, counts(11)), (NOON + HOUR_MS, counts(7))]);
    assert_eq!(sums(store, "other", 1_000).await, [(NOON, counts(100))]);
    let open = [
        windows[0].clone(),
        window(9, NOON + 5_000, &[("demo", 100), ("other", 1)]),
        window(10, NOON + HOUR_MS, &[("demo", 1_000)]),
    ];
    let read = store.usage(&id("demo"), 1_000, NOON..NOON + HOUR_MS, &open).await;
    assert_eq!(
        read.unwrap(),
        [(NOON, counts(11 + 100))].into(),
        "with the open window that is not counted; the end is not in it"
    );
}

pub(super) async fn of_many_that_bring_a_window_at_once_one_counts(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    let window = window(1, NOON, &[("demo", 1)]);
    let all = futures::future::join_all((0..8).map(|_| store.add_usage(&window))).await;
    assert_eq!(all.into_iter().filter(|added| *added.as_ref().unwrap()).count(), 1);
    assert_eq!(sums(store, "demo", 1_000).await, [(NOON, counts(1))]);
}

pub(super) async fn usage_outlives_its_project_and_is_not_of_the_next_of_that_name(store: &impl Store) {
    make(store, "demo", 1_000).await;
    store.add_usage(&window(1, NOON, &[("demo", 1)])).await.unwrap();
    delete(store, "demo").await;
    store.add_usage(&window(2, NOON, &[("demo", 2)])).await.unwrap();
    assert_eq!(
        sums(store, "demo", 1_000).await,
        [(NOON, counts(3))],
        "the last windows come later"
    );
    make(store, "demo", NOON + HOUR_MS).await;
    assert_eq!(sums(store, "demo", NOON + HOUR_MS).await, []);
    store.add_usage(&window(3, NOON, &[("demo", 4)])).await.unwrap();
    store
        .add_usage(&window(4, NOON + HOUR_MS, &[("demo", 8)]))
        .await
        .unwrap();
    assert_eq!(
        sums(store, "demo", 1_000).await,
        [(NOON, counts(7))],
        "of before it was made"
    );
    assert_eq!(sums(store, "demo", NOON + HOUR_MS).await, [(NOON + HOUR_MS, counts(8))]);
}

pub(super) async fn a_project_of_which_nothing_was_counted_yet_has_what_comes_after_its_end(store: &impl Store) {
    make(store, "demo", NOON).await;
    delete(store, "demo").await;
    store.add_usage(&window(1, NOON, &[("demo", 1)])).await.unwrap();
    make(store, "demo", NOON + HOUR_MS).await;
    // By a clock that is behind: nobody of that name was there.
    store
        .add_usage(&window(2, NOON - HOUR_MS, &[("demo", 2)]))
        .await
        .unwrap();
    let of_first = store.usage(&id("demo"), NOON, 0..NOON + HOUR_MS, &[]).await.unwrap();
    assert_eq!(of_first, [(NOON - HOUR_MS, counts(2)), (NOON, counts(1))].into());
    assert_eq!(sums(store, "demo", NOON + HOUR_MS).await, []);
}

pub(super) async fn a_window_counts_for_the_project_that_it_says(store: &impl Store) {
    let (first, second) = (NOON, NOON + 2_000);
    make(store, "demo", first).await;
    delete(store, "demo").await;
    make(store, "demo", second).await;
    // One minute had both, and the clock of the gateway does not matter.
    let mut both = window_of(1, NOON + 1_000, first, &[("demo", 1)]);
    both.shares.extend(window_of(1, NOON, second, &[("demo", 10)]).shares);
    store.add_usage(&both).await.unwrap();
    store
        .add_usage(&window_of(2, NOON - HOUR_MS, second, &[("demo", 100)]))
        .await
        .unwrap();
    // Of nobody that is known: by the time.
    store
        .add_usage(&window_of(3, NOON + HOUR_MS, 7, &[("demo", 1_000)]))
        .await
        .unwrap();
    let open = [window_of(4, NOON, first, &[("demo", 5)])];
    let of = async |created| {
        let read = store
            .usage(&id("demo"), created, NOON - HOUR_MS..NOON + 2 * HOUR_MS, &open)
            .await;
        read.unwrap()
    };
    assert_eq!(of(first).await, [(NOON, counts(1 + 5))].into());
    let expected = [
        (NOON - HOUR_MS, counts(100)),
        (NOON, counts(10)),
        (NOON + HOUR_MS, counts(1_000)),
    ];
    assert_eq!(of(second).await, expected.into());
}

pub(super) async fn projects_that_are_gone_are_known_until_they_are_forgotten(store: &impl Store) {
    let demo = id("demo");
    for (name, created, size_cu) in [("demo", 1_000, 0.5), ("other", 1_500, 0.25), ("demo", 2_000, 2.0)] {
        let new = NewProject {
            size_cu,
            now: created,
            ..new_project(name)
        };
        store.create_project(new).await.unwrap();
        assert!(store.finish_delete(&id(name)).await.is_ok(), "it is not being deleted");
        delete(store, name).await;
    }
    make(store, "demo", 3_000).await;
    let billed = async |created| {
        let billed = store.billed(&demo, created).await.unwrap();
        (billed.created, billed.deleted.is_some(), billed.size_cu)
    };
    assert_eq!(billed(None).await, (3_000, false, 0.25));
    assert_eq!(billed(Some(1_000)).await, (1_000, true, 0.5));
    store.begin_delete(&demo, None).await.unwrap();
    assert_eq!(
        billed(None).await,
        (3_000, false, 0.25),
        "it is there while it is being deleted"
    );
    store.finish_delete(&demo).await.unwrap();
    assert_eq!(billed(None).await, (3_000, true, 0.25), "the last one");
    for (name, created) in [("demo", Some(1_500)), ("none", None)] {
        let found = store.billed(&id(name), created).await;
        assert!(matches!(found, Err(StoreError::NotFound("project"))), "{name}");
    }
    let page = async |before, limit| store.past_projects(before, limit).await.unwrap();
    let first = page(None, 3).await;
    let which = |page: &[PastProject]| {
        page.iter()
            .map(|past| (past.billed.id.to_string(), past.billed.created))
            .collect::<Vec<_>>()
    };
    let named = |all: &[(&str, i64)]| {
        all.iter()
            .map(|(name, made)| (name.to_string(), *made))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        which(&first),
        named(&[("demo", 3_000), ("demo", 2_000), ("other", 1_500)])
    );
    let rest = page(Some(first[2].number), 3).await;
    assert_eq!(which(&rest), named(&[("demo", 1_000)]));
    let went = first[0].billed.deleted.unwrap();
    assert!(rest[0].billed.deleted.unwrap() <= went);
    assert_eq!(store.prune_usage(0, rest[0].billed.deleted.unwrap()).await.unwrap(), 0);
    assert_eq!(store.prune_usage(0, went + 1).await.unwrap(), 4);
    assert_eq!(page(None, 9).await, []);
}

pub(super) async fn a_compute_that_ran_until_its_project_went_keeps_its_beginning_until_that_is_forgotten(
    store: &impl Store,
) {
    let demo = id("demo");
    make(store, "demo", 1_000).await;
    let mut compute = store.begin_start(&demo, 2_000).await.unwrap().record.compute;
    (compute.state, compute.since) = (ComputeState::Ready, 3_000);
    store.set_compute(&demo, &compute).await.unwrap();
    delete(store, "demo").await;
    assert_eq!(store.prune_transitions(4_000).await.unwrap(), 1);
    let kept = store.transitions_within(&demo, 1_000, 5_000..9_000).await.unwrap();
    assert_eq!(
        kept.iter().map(|made| made.to).collect::<Vec<_>>(),
        [ComputeState::Ready]
    );
    let went = store.billed(&demo, None).await.unwrap().deleted.unwrap();
    assert_eq!(store.prune_transitions(went + 1).await.unwrap(), 1);
}

pub(super) async fn old_usage_is_forgotten(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    for (sequence, start) in [(1, NOON), (2, NOON + HOUR_MS)] {
        store.add_usage(&window(sequence, start, &[("demo", 1)])).await.unwrap();
    }
    assert_eq!(store.prune_usage(NOON, NOON + HOUR_MS - 1).await.unwrap(), 0);
    assert_eq!(store.prune_usage(NOON + 1, NOON + HOUR_MS + 1).await.unwrap(), 2);
    assert_eq!(sums(store, "demo", 1_000).await, [(NOON + HOUR_MS, counts(1))]);
}

pub(super) async fn transitions_of_a_time_begin_with_the_state_it_began_in(store: &impl Store) {
    let demo = id("demo");
    store.create_project(new_project("demo")).await.unwrap();
    let mut compute = store.begin_start(&demo, 2_000).await.unwrap().record.compute;
    for (state, at) in [
        (ComputeState::Ready, 3_000),
        (ComputeState::Draining, 8_000),
        (ComputeState::Suspended, 9_000),
    ] {
        (compute.state, compute.since) = (state, at);
        store.set_compute(&demo, &compute).await.unwrap();
    }
    let within = async |time| {
        let read = store.transitions_within(&demo, 1_000, time).await.unwrap();
        read.iter().map(|made| made.at).collect::<Vec<_>>()
    };
    assert_eq!(within(4_000..8_000).await, [3_000]);
    assert_eq!(within(3_000..9_000).await, [3_000, 8_000]);
    assert_eq!(within(0..2_500).await, [2_000]);
    assert_eq!(
        store.transitions_within(&demo, 1, 0..9_999).await.unwrap(),
        [],
        "of another project of that name"
    );
}

pub(super) async fn a_transition_has_the_size_that_the_compute_was_started_with(store: &impl Store) {
    let demo = id("demo");
    let new = NewProject {
        size_cu: 0.3,
        ..new_project("demo")
    };
    store.create_project(new).await.unwrap();
    for (at, next) in [(2_000, 1.5), (5_000, 0.05)] {
        let mut compute = store.begin_start(&demo, at).await.unwrap().record.compute;
        (compute.state, compute.since) = (ComputeState::Ready, at + 1_000);
        store.set_compute(&demo, &compute).await.unwrap();
        let read = store.project(&demo).await.unwrap();
        let resized = Options {
            size_cu: next,
            ..read.options()
        };
        store.set_options(&read, &resized).await.unwrap();
        let now = store.project(&demo).await.unwrap();
        assert_eq!(
            (now.size_cu, now.compute),
            (next, compute.clone()),
            "the compute keeps what it has"
        );
        (compute.state, compute.since) = (ComputeState::Suspended, at + 2_000);
        store.set_compute(&demo, &compute).await.unwrap();
    }
    let read = store.transitions_within(&demo, 1_000, 0..9_999).await.unwrap();
    let sizes: Vec<_> = read.iter().map(|made| (made.to, made.size_ucu)).collect();
    let life = |ucu| [ComputeState::Starting, ComputeState::Ready, ComputeState::Suspended].map(|to| (to, ucu));
    assert_eq!(sizes, [life(300_000), life(1_500_000)].concat());
}

pub(super) async fn who_woke_a_compute_is_kept_with_its_incarnation(store: &impl Store) {
    let demo = id("demo");
    store.create_project(new_project("demo")).await.unwrap();
    let by = control_api::rest::WokenBy {
        source: control_api::rest::WakeSource::Client,
        user: Some("a\0b".into()),
        ..Default::default()
    };
    for at in [2_000, 5_000] {
        let mut compute = store.begin_start_for(&demo, at, &by).await.unwrap().record.compute;
        (compute.state, compute.since) = (ComputeState::Suspended, at + 1_000);
        store.set_compute(&demo, &compute).await.unwrap();
    }
    let lives = async |created, incarnations| {
        let lives = store.lives(&demo, created, incarnations).await.unwrap();
        lives
            .into_iter()
            .map(|(made, by)| (made.incarnation, made.to, by))
            .collect::<Vec<_>>()
    };
    let second = [
        (2, ComputeState::Starting, Some(by)),
        (2, ComputeState::Suspended, None),
    ];
    assert_eq!(lives(1_000, 2..3).await, second);
    assert_eq!(lives(1_000, 1..3).await.len(), 4);
    assert_eq!(lives(1, 1..3).await, [], "of another project of that name");
}
