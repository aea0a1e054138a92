//! What a store must remember of operations.

use control_api::rest::{OperationKind, OperationState};

use super::*;
use crate::store::operations::{KEPT_PER_PROJECT, OperationRecord};

async fn latest(store: &impl Store) -> OperationRecord {
    store.operations(&id("demo"), 0, None, 1).await.unwrap().remove(0)
}

fn compute(state: ComputeState, incarnation: u64, since: EpochMs) -> ComputeRecord {
    ComputeRecord {
        round: 0,
        forced: false,
        state,
        incarnation,
        since,
        reason: None,
        size_ucu: 250_000,
    }
}

pub(super) async fn operations_follow_a_compute_through_its_life(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    assert_eq!(latest(store).await.kind, OperationKind::Create);
    store
        .end_operation(&id("demo"), OperationKind::Create, None, 1_001)
        .await
        .unwrap();
    assert_eq!(latest(store).await.state, OperationState::Done);

    store.begin_start(&id("demo"), 2_000).await.unwrap();
    let start = latest(store).await;
    assert_eq!(
        (start.kind, start.incarnation, start.ended),
        (OperationKind::Start, Some(1), None)
    );
    assert_eq!(store.open_operations().await.unwrap(), std::slice::from_ref(&start));
    store
        .set_compute(&id("demo"), &compute(ComputeState::Ready, 1, 2_100))
        .await
        .unwrap();
    let started = store.operation(&start.id).await.unwrap();
    assert_eq!((started.state, started.ended), (OperationState::Done, Some(2_100)));

    store
        .set_compute(&id("demo"), &compute(ComputeState::Draining, 1, 3_000))
        .await
        .unwrap();
    store
        .set_compute(&id("demo"), &compute(ComputeState::Draining, 1, 3_000))
        .await
        .unwrap();
    assert_eq!(
        store.open_operations().await.unwrap().len(),
        1,
        "said twice, begun once"
    );
    store
        .set_compute(&id("demo"), &compute(ComputeState::Ready, 1, 3_001))
        .await
        .unwrap();
    let called_off = latest(store).await;
    assert_eq!(
        (called_off.kind, called_off.state),
        (OperationKind::Suspend, OperationState::Failed)
    );

    store
        .set_compute(&id("demo"), &compute(ComputeState::Draining, 1, 4_000))
        .await
        .unwrap();
    store
        .set_compute(&id("demo"), &compute(ComputeState::Suspended, 1, 4_001))
        .await
        .unwrap();
    assert_eq!(latest(store).await.state, OperationState::Done);

    store.begin_start(&id("demo"), 5_000).await.unwrap();
    let starts_failed = || {
        counted::operations_failed()
            .find_map(|(kind, count)| (kind == "start").then_some(count))
            .unwrap()
    };
    // Of the whole process: others fail as well, none is taken back.
    let before = starts_failed();
    let failed = ComputeRecord {
        reason: Some("no space left".into()),
        ..compute(ComputeState::Failed, 2, 5_001)
    };
    store.set_compute(&id("demo"), &failed).await.unwrap();
    assert!(starts_failed() > before);
    assert_eq!(latest(store).await.error.as_deref(), Some("no space left"));
    store
        .set_compute(&id("demo"), &compute(ComputeState::Draining, 1, 6_000))
        .await
        .unwrap();
    assert!(
        store.open_operations().await.unwrap().is_empty(),
        "an older incarnation's report"
    );
    assert_eq!(store.operations(&id("demo"), 0, None, 99).await.unwrap().len(), 5);
}

pub(super) async fn operations_say_their_steps_and_outlive_the_project(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    store
        .end_operation(&id("demo"), OperationKind::Create, None, 1_001)
        .await
        .unwrap();
    store.begin_start(&id("demo"), 2_000).await.unwrap();
    store
        .set_compute(&id("demo"), &compute(ComputeState::Ready, 1, 2_100))
        .await
        .unwrap();
    store.add_user(&id("demo"), new_user("app"), 3_000).await.unwrap();
    let apply = latest(store).await;
    assert_eq!((apply.kind, apply.ended), (OperationKind::Apply, None));
    store
        .step_operation(&id("demo"), OperationKind::Apply, "applying", Some("lock wait"), 3_001)
        .await
        .unwrap();
    assert_eq!(latest(store).await.error.as_deref(), Some("lock wait"));
    let revision = store.whole_project(&id("demo")).await.unwrap().access.revision;
    store.applied(&id("demo"), revision).await.unwrap();
    let applied = latest(store).await;
    assert_eq!((applied.state, applied.error), (OperationState::Done, None));

    store.begin_delete(&id("demo"), None).await.unwrap();
    let delete = latest(store).await;
    assert_eq!((delete.kind, delete.step.as_str()), (OperationKind::Delete, "stopping"));
    store.finish_delete(&id("demo")).await.unwrap();
    assert_eq!(store.operation(&delete.id).await.unwrap().state, OperationState::Done);
    assert!(store.open_operations().await.unwrap().is_empty());
    let unknown = store.operation("none").await;
    assert!(matches!(unknown, Err(StoreError::NotFound("operation"))));
}

pub(super) async fn what_was_done_with_an_earlier_project_of_the_name_is_told_apart(store: &impl Store) {
    let mut seen = Vec::new();
    // After the deletion of the first, whose time the store takes itself.
    let later = crate::clock::now() + 60_000;
    for (now, incarnations) in [(1_000, 2), (later, 1)] {
        let new = NewProject {
            now,
            ..new_project("demo")
        };
        store.create_project(new).await.unwrap();
        for n in 0..incarnations {
            store.begin_start(&id("demo"), now + 10 + n).await.unwrap();
            let failed = compute(ComputeState::Failed, u64::try_from(n).unwrap() + 1, now + 20 + n);
            store.set_compute(&id("demo"), &failed).await.unwrap();
        }
        let times = store.transitions(&id("demo"), Some(now), None, 99).await.unwrap();
        let done = store.operations(&id("demo"), now, None, 99).await.unwrap();
        seen.push((times.len(), done.len()));
        if now == 1_000 {
            store.begin_delete(&id("demo"), None).await.unwrap();
            store.finish_delete(&id("demo")).await.unwrap();
        }
    }
    let all = store.transitions(&id("demo"), None, None, 99).await.unwrap();
    // Two states and one operation for each start, and one operation that made the project.
    assert_eq!((seen, all.len()), (vec![(4, 3), (2, 2)], 6));
}

pub(super) async fn change_of_a_sleeping_project_is_no_operation(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    store
        .end_operation(&id("demo"), OperationKind::Create, None, 1_001)
        .await
        .unwrap();
    store.add_user(&id("demo"), new_user("app"), 3_000).await.unwrap();
    assert!(store.open_operations().await.unwrap().is_empty());
}

pub(super) async fn old_operations_are_forgotten(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    store
        .end_operation(&id("demo"), OperationKind::Create, None, 1_001)
        .await
        .unwrap();
    let first = latest(store).await.id;
    for round in 0..KEPT_PER_PROJECT {
        let now = 10_000 + round;
        store.begin_start(&id("demo"), now).await.unwrap();
        let incarnation = u64::try_from(round).unwrap() + 1;
        store
            .set_compute(&id("demo"), &compute(ComputeState::Suspended, incarnation, now))
            .await
            .unwrap();
    }
    let kept = store.operations(&id("demo"), 0, None, 999).await.unwrap();
    assert_eq!(kept.len(), usize::try_from(KEPT_PER_PROJECT).unwrap());
    assert!(kept.iter().all(|operation| operation.id != first));
    let page = store.operations(&id("demo"), 0, Some(&kept[1].id), 2).await.unwrap();
    assert_eq!(page, kept[2..4], "the latest first");

    store.begin_start(&id("demo"), 20_000).await.unwrap();
    store.prune_operations(10_050).await.unwrap();
    let kept = store.operations(&id("demo"), 0, None, 999).await.unwrap();
    assert_eq!(kept.len(), 51, "and what is open stays");
    assert!(kept.iter().skip(1).all(|operation| operation.created >= 10_050));
}
