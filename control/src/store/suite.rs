//! What every store must do, written once and run by each of them on a fresh, empty store per fact.

use std::collections::BTreeMap;

use control_api::rest::ComputeState;

mod rest;
mod usage;
mod weight;

use operations::{
    change_of_a_sleeping_project_is_no_operation, old_operations_are_forgotten,
    operations_follow_a_compute_through_its_life, operations_say_their_steps_and_outlive_the_project,
};

use super::*;
use crate::{
    accounts::{Limits, ObservedAccount},
    name::UserName,
    secret::{Password, Verifiers, hex},
};

mod operations;

pub(crate) fn new_project(id: &str) -> NewProject {
    NewProject {
        id: ProjectId::new(id).unwrap(),
        size_cu: 0.25,
        wake_timeout_ms: None,
        allowed_networks: Networks::default(),
        uids: None,
        user: None,
        database: None,
        now: 1_000,
    }
}

pub(crate) fn new_user(name: &str) -> NewUser {
    let verifiers = Verifiers::of(&Password::new("secret".into()).unwrap());
    NewUser {
        name: UserName::new(name).unwrap(),
        verifiers,
        admin: false,
    }
}

fn id(name: &str) -> ProjectId {
    ProjectId::new(name).unwrap()
}

fn database(name: &str) -> DatabaseName {
    DatabaseName::new(name).unwrap()
}

/// Runs each fact on its own store; `G` keeps alive what the store stands on.
pub(crate) async fn run_all<G, S: Store>(open: impl AsyncFn() -> (G, S)) {
    macro_rules! each {
        ($($fact:path),* $(,)?) => {$({
            let (_guard, store) = open().await;
            $fact(&store).await;
        })*};
    }
    each!(
        creates_all_or_nothing,
        pages_in_the_order_of_ids,
        gives_each_project_a_uid_of_its_own,
        projects_made_at_once_have_different_uids,
        sorts_names_by_their_bytes,
        deleting_hides_then_frees,
        users_and_databases_belong_to_a_project,
        incarnations_only_grow,
        every_change_of_state_is_in_the_log_once_and_outlives_the_project,
        old_transitions_are_forgotten_but_for_the_last_of_each_project,
        keeps_when_a_project_sleeps,
        keeps_where_clients_may_come_from,
        changes_are_pending_until_a_server_has_them,
        forgets_databases_dropped_in_sql,
        a_user_is_the_servers_once_a_server_has_had_it,
        weight::what_would_make_a_project_too_large_is_refused_and_changes_nothing,
        weight::of_many_who_add_at_once_only_so_many_are_let_as_fit,
        a_user_made_in_sql_is_kept_once_it_was_given_a_password_here,
        finds_a_key_by_its_hash_until_it_is_replaced,
        operations_follow_a_compute_through_its_life,
        operations_say_their_steps_and_outlive_the_project,
        operations::what_was_done_with_an_earlier_project_of_the_name_is_told_apart,
        change_of_a_sleeping_project_is_no_operation,
        old_operations_are_forgotten,
        lease_has_one_holder_and_its_term_only_grows,
        writes_of_a_term_that_is_over_are_refused,
        rest::settings_are_set_unset_and_pending_until_a_server_has_them,
        rest::changes_hold_only_for_the_revision_that_was_seen,
        rest::of_many_who_change_what_they_have_read_one_does,
        rest::keys_are_kept_and_go_with_their_project,
        rest::audit_is_read_from_its_end_and_ends_with_the_project,
        rest::who_changes_one_project_a_lot_forgets_nothing_of_others,
        rest::an_answer_is_given_again_until_it_expires,
        rest::of_many_that_ask_at_once_one_begins,
        usage::a_window_counts_once_however_often_and_in_whatever_order_it_comes,
        usage::of_many_that_bring_a_window_at_once_one_counts,
        usage::usage_outlives_its_project_and_is_not_of_the_next_of_that_name,
        usage::a_project_of_which_nothing_was_counted_yet_has_what_comes_after_its_end,
        usage::a_window_counts_for_the_project_that_it_says,
        usage::projects_that_are_gone_are_known_until_they_are_forgotten,
        usage::a_compute_that_ran_until_its_project_went_keeps_its_beginning_until_that_is_forgotten,
        usage::old_usage_is_forgotten,
        usage::transitions_of_a_time_begin_with_the_state_it_began_in,
        usage::a_transition_has_the_size_that_the_compute_was_started_with,
        usage::who_woke_a_compute_is_kept_with_its_incarnation,
    );
}

async fn creates_all_or_nothing(store: &impl Store) {
    let new = NewProject {
        user: Some(new_user("app")),
        database: Some(database("app")),
        ..new_project("demo")
    };
    let whole = store.create_project(new).await.unwrap();
    assert_eq!(whole.record.compute.state, ComputeState::Suspended);
    assert_eq!(whole.record.compute.incarnation, 0);
    assert_eq!(whole.access.users[0].verifiers, new_user("app").verifiers);
    assert_eq!(store.whole_project(&id("demo")).await.unwrap(), whole);

    let again = NewProject {
        user: Some(new_user("other")),
        ..new_project("demo")
    };
    assert!(matches!(
        store.create_project(again).await,
        Err(StoreError::Exists("project"))
    ));
    assert_eq!(store.whole_project(&id("demo")).await.unwrap().access.users.len(), 1);
    assert!(matches!(
        store.project(&id("none")).await,
        Err(StoreError::NotFound("project"))
    ));
}

async fn pages_in_the_order_of_ids(store: &impl Store) {
    for name in ["ccc", "aaa", "bbb"] {
        store.create_project(new_project(name)).await.unwrap();
    }
    let ids = |page: Vec<ProjectRecord>| {
        page.into_iter()
            .map(|project| project.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(store.projects(None, 2).await.unwrap()), ["aaa", "bbb"]);
    assert_eq!(ids(store.projects(Some("bbb"), 2).await.unwrap()), ["ccc"]);
    for (project, users) in [("aaa", &["x", "y"][..]), ("ccc", &["z"])] {
        for user in users {
            store.add_user(&id(project), new_user(user), 1).await.unwrap();
            store.add_database(&id(project), &database(user)).await.unwrap();
        }
    }
    store.remove_database(&id("aaa"), &database("x"), None).await.unwrap();
    let seen = Observed {
        version: "10.11".into(),
        databases: vec!["z".into()],
        ..Observed::default()
    };
    store.set_observed(&id("ccc"), &seen).await.unwrap();
    store.begin_delete(&id("bbb"), None).await.unwrap();
    let whole = store.whole_projects(None, 9).await.unwrap();
    assert_eq!(whole.len(), 2, "one is being deleted");
    for project in whole {
        let alone = store.whole_project(&project.record.id).await.unwrap();
        assert_eq!(project, alone, "read together or alone");
    }
    assert_eq!(store.whole_projects(Some("aaa"), 9).await.unwrap().len(), 1);
}

async fn gives_each_project_a_uid_of_its_own(store: &impl Store) {
    let uids = Some(UidRange {
        first: 200_000,
        last: 200_002,
    });
    let create = async |name| {
        store
            .create_project(NewProject {
                uids,
                ..new_project(name)
            })
            .await
    };
    for (name, uid) in [("aaa", 200_000), ("bbb", 200_001), ("ccc", 200_002)] {
        assert_eq!(create(name).await.unwrap().record.uid, Some(uid));
    }
    assert!(matches!(create("ddd").await, Err(StoreError::NoFreeUid)));
    for gone in ["aaa", "bbb"] {
        store.begin_delete(&id(gone), None).await.unwrap();
        assert!(
            matches!(create("ddd").await, Err(StoreError::NoFreeUid)),
            "not free before its files are gone"
        );
        store.finish_delete(&id(gone)).await.unwrap();
        assert!(create("ddd").await.unwrap().record.uid.is_some());
        store.begin_delete(&id("ddd"), None).await.unwrap();
        store.finish_delete(&id("ddd")).await.unwrap();
        store
            .create_project(NewProject {
                uids,
                ..new_project(gone)
            })
            .await
            .unwrap();
    }
}

async fn projects_made_at_once_have_different_uids(store: &impl Store) {
    let uids = Some(UidRange {
        first: 200_000,
        last: 200_999,
    });
    let names: Vec<String> = (100..116).map(|number| format!("p{number}")).collect();
    let creates = names.iter().map(|name| {
        store.create_project(NewProject {
            uids,
            ..new_project(name)
        })
    });
    let made = futures::future::join_all(creates).await;
    let mut given: Vec<_> = made.into_iter().map(|whole| whole.unwrap().record.uid).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), names.len());
}

async fn sorts_names_by_their_bytes(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    for name in ["amy", "Zoe", "_x"] {
        store.add_user(&id("demo"), new_user(name), 1).await.unwrap();
    }
    let access = store.whole_project(&id("demo")).await.unwrap().access;
    let names: Vec<_> = access.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["Zoe", "_x", "amy"]);
}

async fn deleting_hides_then_frees(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    store.begin_delete(&id("demo"), None).await.unwrap();
    assert!(matches!(store.project(&id("demo")).await, Err(StoreError::NotFound(_))));
    assert!(matches!(
        store.begin_delete(&id("demo"), None).await,
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        store.begin_start(&id("demo"), 1).await,
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        store.create_project(new_project("demo")).await,
        Err(StoreError::Exists(_))
    ));
    assert!(store.projects(None, 9).await.unwrap().is_empty());
    assert_eq!(store.deleting().await.unwrap().len(), 1);
    store.finish_delete(&id("demo")).await.unwrap();
    assert!(store.deleting().await.unwrap().is_empty());
    store.create_project(new_project("demo")).await.unwrap();
    store.finish_delete(&id("demo")).await.unwrap();
    assert!(store.project(&id("demo")).await.is_ok(), "finishes only what was begun");
}

async fn users_and_databases_belong_to_a_project(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    store.create_project(new_project("other")).await.unwrap();
    store.add_user(&id("demo"), new_user("app"), 5).await.unwrap();
    store.add_user(&id("other"), new_user("app"), 5).await.unwrap();
    assert!(matches!(
        store.add_user(&id("demo"), new_user("app"), 6).await,
        Err(StoreError::Exists("user"))
    ));
    assert!(matches!(
        store.add_user(&id("none"), new_user("app"), 6).await,
        Err(StoreError::NotFound("project"))
    ));
    store.add_database(&id("demo"), &database("app")).await.unwrap();
    assert!(matches!(
        store.add_database(&id("demo"), &database("app")).await,
        Err(StoreError::Exists("database"))
    ));

    let access = store.whole_project(&id("demo")).await.unwrap().access;
    assert_eq!((access.users.len(), access.databases.len()), (1, 1));
    let without_user = store
        .remove_user(&id("demo"), &new_user("app").name, None)
        .await
        .unwrap();
    assert!(without_user.users.is_empty() && without_user.revision > access.revision);
    let gone = store.remove_user(&id("demo"), &new_user("app").name, None).await;
    assert!(matches!(gone, Err(StoreError::NotFound("user"))));
    store
        .remove_database(&id("demo"), &database("app"), None)
        .await
        .unwrap();
    let gone = store.remove_database(&id("demo"), &database("app"), None).await;
    assert!(matches!(gone, Err(StoreError::NotFound("database"))));
    let left = store.whole_project(&id("demo")).await.unwrap().access;
    assert!(left.users.is_empty() && left.databases.is_empty());
    assert_eq!(store.whole_project(&id("other")).await.unwrap().access.users.len(), 1);
}

async fn incarnations_only_grow(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    let first = store.begin_start(&id("demo"), 10).await.unwrap().record.compute;
    assert_eq!(
        (first.state, first.incarnation, first.since),
        (ComputeState::Starting, 1, 10)
    );
    let failed = ComputeRecord {
        state: ComputeState::Failed,
        incarnation: 1,
        round: 2,
        forced: false,
        since: 20,
        reason: Some("no space left".into()),
        size_ucu: 250_000,
    };
    store.set_compute(&id("demo"), &failed).await.unwrap();
    assert_eq!(store.project(&id("demo")).await.unwrap().compute, failed);
    let second = store.begin_start(&id("demo"), 30).await.unwrap().record.compute;
    assert_eq!((second.incarnation, second.reason.as_deref()), (2, None));
    store.set_compute(&id("demo"), &failed).await.unwrap();
    assert_eq!(
        store.project(&id("demo")).await.unwrap().compute,
        second,
        "a late report changes nothing"
    );
}

async fn every_change_of_state_is_in_the_log_once_and_outlives_the_project(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    let mut compute = store.begin_start(&id("demo"), 10).await.unwrap().record.compute;
    for (state, since) in [
        (ComputeState::Ready, 20),
        (ComputeState::Draining, 30),
        (ComputeState::Draining, 31),
        (ComputeState::Ready, 40),
    ] {
        (compute.state, compute.since) = (state, since);
        store.set_compute(&id("demo"), &compute).await.unwrap();
    }
    let late = ComputeRecord {
        incarnation: 0,
        state: ComputeState::Failed,
        ..compute.clone()
    };
    store.set_compute(&id("demo"), &late).await.unwrap();
    store.begin_delete(&id("demo"), None).await.unwrap();
    (compute.state, compute.since, compute.reason) = (ComputeState::Suspended, 50, Some("deleted".into()));
    store.set_compute(&id("demo"), &compute).await.unwrap();
    store.finish_delete(&id("demo")).await.unwrap();
    let log = store.transitions(&id("demo"), None, None, 10).await.unwrap();
    let told: Vec<_> = log.iter().rev().map(|made| (made.from, made.to, made.at)).collect();
    use ComputeState::{Draining, Ready, Starting, Suspended};
    let expected = [
        (Suspended, Starting, 10),
        (Starting, Ready, 20),
        (Ready, Draining, 30),
        (Draining, Ready, 40),
        (Ready, Suspended, 50),
    ];
    assert_eq!(told, expected);
    assert!(log.iter().all(|made| made.incarnation == 1));
    assert_eq!(log[0].reason.as_deref(), Some("deleted"));
    assert_eq!(store.transitions(&id("demo"), None, None, 2).await.unwrap(), log[..2]);
    let next = store.transitions(&id("demo"), None, Some(log[1].id), 2).await.unwrap();
    assert_eq!(next, log[2..4], "the next page");
    assert!(
        store
            .transitions(&id("other"), None, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn old_transitions_are_forgotten_but_for_the_last_of_each_project(store: &impl Store) {
    let made_at = |now| NewProject {
        now,
        ..new_project("demo")
    };
    let ready_and_asleep = async |ready: i64, asleep: i64| {
        let mut compute = store.begin_start(&id("demo"), ready - 1).await.unwrap().record.compute;
        for (state, since) in [(ComputeState::Ready, ready), (ComputeState::Suspended, asleep)] {
            (compute.state, compute.since) = (state, since);
            store.set_compute(&id("demo"), &compute).await.unwrap();
        }
    };
    let left = async || {
        let log = store.transitions(&id("demo"), None, None, 100).await.unwrap();
        log.iter().rev().map(|made| made.at).collect::<Vec<_>>()
    };
    store.create_project(made_at(1)).await.unwrap();
    ready_and_asleep(11, 20).await;
    ready_and_asleep(31, 40).await;
    assert_eq!(
        store.prune_transitions(11).await.unwrap(),
        0,
        "the last that is old stays"
    );
    assert_eq!(store.prune_transitions(32).await.unwrap(), 4);
    assert_eq!(left().await, [31, 40], "what was ready then keeps its beginning");
    assert_eq!(store.prune_transitions(100).await.unwrap(), 1);
    assert_eq!(left().await, [40]);
    store.begin_delete(&id("demo"), None).await.unwrap();
    store.finish_delete(&id("demo")).await.unwrap();
    store.create_project(made_at(50)).await.unwrap();
    ready_and_asleep(61, 70).await;
    assert_eq!(store.prune_transitions(65).await.unwrap(), 1);
    assert_eq!(left().await, [40, 61, 70], "its bill may still be drawn up");
    store.prune_usage(0, i64::MAX / 2).await.unwrap();
    assert_eq!(
        store.prune_transitions(65).await.unwrap(),
        1,
        "of the one that is forgotten all"
    );
    assert_eq!(left().await, [61, 70]);
}

async fn keeps_when_a_project_sleeps(store: &impl Store) {
    let made = store.create_project(new_project("demo")).await.unwrap();
    assert_eq!(made.record.sleep, Sleep::default());
    for suspend_after in [
        Some(SuspendAfter::Never),
        Some(SuspendAfter::Idle(std::time::Duration::from_secs(30))),
        None,
    ] {
        let sleep = Sleep {
            suspend_after,
            pinned_idle_timeout_ms: suspend_after.map(|_| 10_000),
        };
        let read = store.project(&id("demo")).await.unwrap();
        let options = Options {
            sleep,
            ..read.options()
        };
        store.set_options(&read, &options).await.unwrap();
        assert_eq!(store.project(&id("demo")).await.unwrap().sleep, sleep);
    }
    let read = store.project(&id("demo")).await.unwrap();
    let options = Options {
        wake_timeout_ms: Some(7_000),
        ..read.options()
    };
    store.set_options(&read, &options).await.unwrap();
    assert_eq!(store.project(&id("demo")).await.unwrap().options(), options);
    let none = ProjectRecord {
        id: id("none"),
        ..made.record
    };
    let gone = store.set_options(&none, &none.options()).await;
    assert!(matches!(gone, Err(StoreError::NotFound("project"))));
}

async fn keeps_where_clients_may_come_from(store: &impl Store) {
    let made = store.create_project(new_project("demo")).await.unwrap().record;
    assert!(made.allowed_networks.is_empty(), "from anywhere");
    let allowed = Networks::parse(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]).unwrap();
    let within = |allowed_networks: &Networks| Options {
        allowed_networks: allowed_networks.clone(),
        ..made.options()
    };
    store.set_options(&made, &within(&allowed)).await.unwrap();
    let read = store.project(&id("demo")).await.unwrap();
    assert_eq!(read.allowed_networks.texts(), allowed.texts());
    let outdated = store.set_options(&made, &made.options()).await;
    assert!(matches!(outdated, Err(StoreError::Changed)), "{outdated:?}");
    let whole = store.whole_projects(None, 10).await.unwrap();
    assert_eq!(whole[0].record, read, "a control plane that starts has it, too");
    store.set_options(&read, &within(&Networks::default())).await.unwrap();
    assert!(store.project(&id("demo")).await.unwrap().allowed_networks.is_empty());
    let closed = NewProject {
        allowed_networks: allowed.clone(),
        ..new_project("closed")
    };
    let made = store.create_project(closed).await.unwrap().record;
    assert_eq!(made.allowed_networks.texts(), allowed.texts());
    assert_eq!(store.project(&id("closed")).await.unwrap(), made);
}

async fn forgets_databases_dropped_in_sql(store: &impl Store) {
    store
        .create_project(NewProject {
            database: Some(database("app")),
            ..new_project("demo")
        })
        .await
        .unwrap();
    let seen = |names: &[&str]| Observed {
        version: "10.11.19-MariaDB".into(),
        databases: names.iter().map(ToString::to_string).collect(),
        accounts: vec![ObservedAccount {
            user: "app".into(),
            host: "%".into(),
            native_sha1: vec!["ab".into()],
            limits: Limits {
                queries_per_hour: -1,
                ..Limits::default()
            },
            patterns: vec![r"a\_b".into()],
            ..ObservedAccount::default()
        }],
        ..Observed::default()
    };
    let before = store.set_observed(&id("demo"), &seen(&[])).await.unwrap();
    assert_eq!(before.databases, [database("app")], "not made yet is not dropped");
    let with_other = store
        .set_observed(&id("demo"), &seen(&["app", "by_sql"]))
        .await
        .unwrap();
    assert_eq!(with_other.databases, [database("app")]);
    assert_eq!(
        store.whole_project(&id("demo")).await.unwrap().observed,
        Some(seen(&["app", "by_sql"]))
    );
    let dropped = store.set_observed(&id("demo"), &seen(&["by_sql"])).await.unwrap();
    assert!(dropped.databases.is_empty());
    let gone = store.set_observed(&id("none"), &seen(&[])).await;
    assert!(matches!(gone, Err(StoreError::NotFound("project"))));
}

async fn a_user_made_in_sql_is_kept_once_it_was_given_a_password_here(store: &impl Store) {
    let access = store.create_project(new_project("demo")).await.unwrap().access;
    let demo = id("demo");
    let expected = Some(access.revision);
    let adopted = store.adopt_user(&demo, new_user("ann"), 1, expected).await.unwrap();
    let [ann] = &adopted.users[..] else {
        panic!("{adopted:?}")
    };
    assert!(ann.by_sql && ann.had && !ann.known && ann.verifiers == new_user("ann").verifiers);
    assert_eq!(store.access(&demo).await.unwrap(), adopted);
    assert_eq!(
        store.pending(&demo).await.unwrap().1.users,
        [UserName::new("ann").unwrap()]
    );
    let again = store.adopt_user(&demo, new_user("bob"), 1, expected).await;
    assert!(matches!(again, Err(StoreError::Changed)));
    let again = store.adopt_user(&demo, new_user("ann"), 1, None).await;
    assert!(matches!(again, Err(StoreError::Exists("user"))));
    store.applied(&demo, adopted.revision).await.unwrap();
    assert!(store.access(&demo).await.unwrap().users[0].known);
    let other = Verifiers::of(&Password::new("by API".into()).unwrap());
    let ann = UserName::new("ann").unwrap();
    store.set_verifiers(&demo, &ann, &other, None).await.unwrap();
    // Dropped in SQL before a server had this password: there is nobody to give it to.
    let dropped = store.set_observed(&demo, &Observed::default()).await.unwrap();
    assert!(dropped.users.is_empty());

    let bob = UserName::new("bob").unwrap();
    let stale = store.remove_sql_user(&demo, &bob, expected).await;
    assert!(matches!(stale, Err(StoreError::Changed)));
    let removed = store.remove_sql_user(&demo, &bob, None).await.unwrap();
    assert!(removed.removed_users.contains(&bob), "the server still has it");
    store.applied(&demo, removed.revision).await.unwrap();
    assert!(store.access(&demo).await.unwrap().removed_users.is_empty());
}

async fn a_user_is_the_servers_once_a_server_has_had_it(store: &impl Store) {
    let new = NewProject {
        user: Some(new_user("app")),
        ..new_project("demo")
    };
    let first = store.create_project(new).await.unwrap().access;
    let account = |hash: String| ObservedAccount {
        user: "app".into(),
        host: "%".into(),
        native_sha1: vec![hash],
        ..ObservedAccount::default()
    };
    let seen = |accounts: Vec<ObservedAccount>| Observed {
        accounts,
        ..Observed::default()
    };
    let known = |access: &Access| access.users.iter().map(|user| user.known).collect::<Vec<_>>();
    let other = store
        .set_observed(&id("demo"), &seen(vec![account("00".repeat(20))]))
        .await
        .unwrap();
    assert_eq!(known(&other), [false], "another password: not told of this one yet");
    let none = store.set_observed(&id("demo"), &seen(vec![])).await.unwrap();
    assert_eq!(known(&none), [false], "not made yet is not dropped");
    let own = account(hex(&first.users[0].verifiers.native_sha1));
    let arrived = store.set_observed(&id("demo"), &seen(vec![own])).await.unwrap();
    assert_eq!(known(&arrived), [true]);
    assert!(arrived.revision > first.revision);
    let changed = store
        .set_observed(&id("demo"), &seen(vec![account("00".repeat(20))]))
        .await
        .unwrap();
    assert_eq!(known(&changed), [true]);
    let dropped = store.set_observed(&id("demo"), &seen(vec![])).await.unwrap();
    assert!(dropped.users.is_empty());
    let again = store.add_user(&id("demo"), new_user("app"), 1).await.unwrap();
    assert_eq!(known(&again), [false], "made anew");
    store.applied(&id("demo"), again.revision).await.unwrap();
    let applied = store.whole_project(&id("demo")).await.unwrap().access;
    assert_eq!(known(&applied), [true]);
    assert!(applied.revision > again.revision, "the later reading is known");

    let other = Verifiers::of(&Password::new("by API".into()).unwrap());
    let app = UserName::new("app").unwrap();
    let by_api = store.set_verifiers(&id("demo"), &app, &other, None).await.unwrap();
    assert_eq!(known(&by_api), [false], "REST's password wins until a server has it");
    let before = seen(vec![account("00".repeat(20))]);
    let before = store.set_observed(&id("demo"), &before).await.unwrap();
    assert_eq!((known(&before), &before.users[0].verifiers), (vec![false], &other));
    store.applied(&id("demo"), by_api.revision).await.unwrap();
    let applied = store.access(&id("demo")).await.unwrap();
    assert_eq!(known(&applied), [true]);

    let removed = store.remove_user(&id("demo"), &app, None).await.unwrap();
    assert_eq!(removed.removed_users.len(), 1, "a server may still have it");
}

async fn finds_a_key_by_its_hash_until_it_is_replaced(store: &impl Store) {
    let name = async |hash| store.key(hash).await.unwrap().map(|key| key.name);
    store.put_key("up", [1; 32], 1).await.unwrap();
    store.put_key("other", [2; 32], 1).await.unwrap();
    assert_eq!(name([1; 32]).await.as_deref(), Some("up"));
    store.put_key("up", [3; 32], 2).await.unwrap();
    assert_eq!(name([1; 32]).await, None);
    assert_eq!(name([3; 32]).await.as_deref(), Some("up"));
    assert_eq!(name([2; 32]).await.as_deref(), Some("other"));
}

async fn changes_are_pending_until_a_server_has_them(store: &impl Store) {
    let new = NewProject {
        user: Some(new_user("first")),
        database: Some(database("first")),
        ..new_project("demo")
    };
    store.create_project(new).await.unwrap();
    let touched = async || store.pending(&id("demo")).await.unwrap().1;
    assert!(
        touched().await.is_empty(),
        "the first start brings what the project was made with"
    );

    store.add_user(&id("demo"), new_user("app"), 1).await.unwrap();
    let removed = store
        .remove_database(&id("demo"), &database("first"), None)
        .await
        .unwrap();
    assert_eq!(removed.removed_databases, [database("first")]);
    assert_eq!((touched().await.users.len(), touched().await.databases.len()), (1, 1));

    store.begin_start(&id("demo"), 2).await.unwrap();
    let left = Touched {
        databases: vec![database("first")],
        ..Touched::default()
    };
    assert_eq!(
        touched().await,
        left,
        "a start brings what was added and cannot know what was removed"
    );

    let (access, _) = store.pending(&id("demo")).await.unwrap();
    store.add_database(&id("demo"), &database("later")).await.unwrap();
    store.applied(&id("demo"), access.revision).await.unwrap();
    assert_eq!(
        touched().await.databases,
        [database("later")],
        "what came meanwhile stays"
    );
    assert!(
        store
            .whole_project(&id("demo"))
            .await
            .unwrap()
            .access
            .removed_databases
            .is_empty()
    );
}

fn holder(name: &str) -> Holder {
    Holder {
        id: name.into(),
        http: format!("{name}:1"),
        grpc: format!("{name}:2"),
    }
}

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(600);

async fn lease_has_one_holder_and_its_term_only_grows(store: &impl Store) {
    let take = async |name: &str| store.take_lease(LEADER, &holder(name), LONG).await.unwrap();
    let (one, other) = tokio::join!(take("one"), take("other"));
    assert!(one.is_none() != other.is_none(), "{one:?} {other:?}");
    assert_eq!(one.or(other), Some(1));
    let leader = &store.leases().await.unwrap()[0];
    assert_eq!((leader.name.as_str(), leader.term), (LEADER, 1));
    assert_eq!(leader.holder, holder(if one.is_some() { "one" } else { "other" }));
    assert!(store.renew_lease(LEADER, 1, LONG).await.unwrap());
    assert!(!store.renew_lease(LEADER, 2, LONG).await.unwrap());

    store.release_lease(LEADER, 1).await.unwrap();
    assert!(store.leases().await.unwrap().is_empty());
    assert_eq!(take("third").await, Some(2));
    assert!(!store.renew_lease(LEADER, 1, LONG).await.unwrap(), "of an earlier term");
    store.release_lease(LEADER, 1).await.unwrap();
    assert_eq!(take("fourth").await, None);

    assert_eq!(
        store.take_lease("standby", &holder("fourth"), LONG).await.unwrap(),
        Some(1)
    );
    assert_eq!(store.leases().await.unwrap().len(), 2);
    store.renew_lease(LEADER, 2, Duration::ZERO).await.unwrap();
    assert_eq!(take("fourth").await, Some(3), "it ran out");
}

async fn writes_of_a_term_that_is_over_are_refused(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    let mut terms = Vec::new();
    for name in ["one", "other"] {
        let term = store.take_lease(LEADER, &holder(name), LONG).await.unwrap().unwrap();
        let leader = store.for_term(term);
        leader.begin_start(&id("demo"), 1).await.unwrap();
        store.release_lease(LEADER, term).await.unwrap();
        leader.begin_start(&id("demo"), 1).await.unwrap();
        terms.push(leader);
    }
    let (old, new) = (&terms[0], &terms[1]);
    let read = new.project(&id("demo")).await.unwrap();
    let compute = read.compute.clone();
    assert_eq!(compute.incarnation, 4);
    macro_rules! refused {
        ($($write:expr),* $(,)?) => {$(
            assert!(matches!($write.await, Err(StoreError::NotLeader)), stringify!($write));
        )*};
    }
    let (demo, user, app) = (id("demo"), new_user("app"), database("app"));
    refused!(
        old.create_project(new_project("other")),
        old.begin_delete(&demo, None),
        old.finish_delete(&demo),
        old.add_user(&demo, user.clone(), 1),
        old.remove_user(&demo, &user.name, None),
        old.add_database(&demo, &app),
        old.remove_database(&demo, &app, None),
        old.applied(&demo, 1),
        old.begin_start(&demo, 1),
        old.set_compute(&demo, &compute),
        old.set_observed(&demo, &Observed::default()),
        old.set_verifiers(&demo, &user.name, &user.verifiers, None),
        old.set_settings(&demo, &BTreeMap::new(), None),
        old.put_key("up", [1; 32], 1),
        old.set_options(&read, &read.options()),
        old.prune_transitions(1),
        old.remove_key(&rest::key("up", None)),
        old.begin_audit(&rest::attempt(1, None, "POST")),
        old.prune_audit(1, 1, 1),
        old.begin_replay(&rest::replay("a", 1, 1)),
    );
    assert_eq!(old.project(&demo).await.unwrap().compute, compute, "it may still read");
    new.begin_delete(&demo, None).await.unwrap();
}
