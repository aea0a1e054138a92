//! What every store must do with what REST keeps besides projects: settings, keys, the audit log, answers.

use std::collections::BTreeMap;

use control_api::rest::Scope;

use super::{id, new_project, new_user};
use crate::{
    secret::{Password, Verifiers},
    store::{
        NewProject, Options, Sleep, Store, StoreError,
        audit::{Attempt, AuditRecord, path_of},
        keys::KeyRecord,
        replays::{Answer, NewReplay, Replay, ReplayId},
    },
};

fn changes(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), value.map(ToOwned::to_owned)))
        .collect()
}

pub(super) async fn settings_are_set_unset_and_pending_until_a_server_has_them(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    let set = changes(&[("sql_mode", Some("ANSI")), ("wait_timeout", Some("60"))]);
    store.set_settings(&id("demo"), &set, None).await.unwrap();
    let more = changes(&[("sql_mode", None), ("wait_timeout", Some("61"))]);
    let access = store.set_settings(&id("demo"), &more, None).await.unwrap();
    assert_eq!(access.settings, BTreeMap::from([("wait_timeout".into(), "61".into())]));
    let whole = store.whole_project(&id("demo")).await.unwrap();
    assert_eq!(whole.access, access);
    let removed = (&access.removed_users[..], &access.removed_databases[..]);
    assert_eq!(removed, (&[][..], &[][..]), "a setting is neither");
    let (_, touched) = store.pending(&id("demo")).await.unwrap();
    assert_eq!(touched.settings, ["sql_mode", "wait_timeout"]);
    store.applied(&id("demo"), access.revision).await.unwrap();
    assert!(store.pending(&id("demo")).await.unwrap().1.is_empty());

    store.set_settings(&id("demo"), &set, None).await.unwrap();
    let started = store.begin_start(&id("demo"), 5).await.unwrap();
    assert_eq!(started.access.settings.len(), 2);
    assert!(
        store.pending(&id("demo")).await.unwrap().1.is_empty(),
        "the start brings them"
    );
    let none = store.set_settings(&id("none"), &set, None).await;
    assert!(matches!(none, Err(StoreError::NotFound("project"))));
}

pub(super) async fn changes_hold_only_for_the_revision_that_was_seen(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    let project = id("demo");
    let user = new_user("app");
    let seen = store.add_user(&project, user.clone(), 1).await.unwrap().revision;
    let other = Verifiers::of(&Password::new("other".into()).unwrap());
    let (stale, set) = (Some(seen - 1), changes(&[("wait_timeout", Some("60"))]));
    let refused = |result| matches!(result, Err(StoreError::Changed));
    assert!(refused(store.remove_user(&project, &user.name, stale).await));
    assert!(refused(store.set_verifiers(&project, &user.name, &other, stale).await));
    assert!(refused(store.set_settings(&project, &set, stale).await));
    let database = super::database("app");
    assert!(refused(store.remove_database(&project, &database, stale).await));
    assert_eq!(store.access(&project).await.unwrap().revision, seen);

    let access = store
        .set_verifiers(&project, &user.name, &other, Some(seen))
        .await
        .unwrap();
    assert_eq!(access.users[0].verifiers, other);
    let (_, touched) = store.pending(&project).await.unwrap();
    assert!(touched.users.iter().eq([&user.name]));
    assert!(refused(store.remove_user(&project, &user.name, Some(seen)).await));
    let revision = Some(access.revision);
    assert!(
        store
            .remove_user(&project, &user.name, revision)
            .await
            .unwrap()
            .users
            .is_empty()
    );
    let gone = store.set_verifiers(&project, &user.name, &other, None).await;
    assert!(matches!(gone, Err(StoreError::NotFound("user"))));
}

pub(super) fn key(name: &str, project: Option<&str>) -> KeyRecord {
    KeyRecord {
        name: name.into(),
        scope: Scope::ReadOnly,
        project: project.map(id),
        created: 1,
        expires: Some(9),
        last_used: None,
    }
}

pub(super) async fn keys_are_kept_and_go_with_their_project(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    let bound = key("bound", Some("demo"));
    store.add_key(&bound, [1; 32]).await.unwrap();
    store.add_key(&key("Free", None), [2; 32]).await.unwrap();
    let again = store.add_key(&key("bound", None), [3; 32]).await;
    assert!(matches!(again, Err(StoreError::Exists("key"))));
    let lost = store.add_key(&key("lost", Some("none")), [3; 32]).await;
    assert!(matches!(lost, Err(StoreError::NotFound("project"))));
    assert_eq!(store.key([1; 32]).await.unwrap(), Some(bound.clone()));
    assert_eq!(store.key([3; 32]).await.unwrap(), None);
    let names = |keys: Vec<KeyRecord>| keys.into_iter().map(|key| key.name).collect::<Vec<_>>();
    assert_eq!(names(store.keys(None, 9).await.unwrap()), ["Free", "bound"]);
    assert_eq!(names(store.keys(None, 1).await.unwrap()), ["Free"]);
    assert_eq!(names(store.keys(Some("Free"), 9).await.unwrap()), ["bound"]);
    store.key_used([1; 32], 5).await.unwrap();
    let bound_as_used = store.key_named("bound").await.unwrap();
    assert_ne!(bound_as_used, bound, "a use is no change");
    store.set_key_expiry(&bound, None).await.unwrap();
    let kept = store.key_named("bound").await.unwrap();
    assert_eq!((kept.last_used, kept.expires), (Some(5), None));
    let free = key("Free", None);
    store.remove_key(&free).await.unwrap();
    assert!(matches!(
        store.remove_key(&free).await,
        Err(StoreError::NotFound("key"))
    ));

    store.begin_delete(&id("demo"), None).await.unwrap();
    store.finish_delete(&id("demo")).await.unwrap();
    assert_eq!(
        store.key([1; 32]).await.unwrap(),
        None,
        "it must not open a later project of the id"
    );
    store.put_key("up", [4; 32], 7).await.unwrap();
    let up = store.key([4; 32]).await.unwrap().unwrap();
    assert_eq!((up.scope, up.project, up.expires), (Scope::Admin, None, None));
}

pub(super) async fn of_many_who_change_what_they_have_read_one_does(store: &impl Store) {
    store.create_project(new_project("demo")).await.unwrap();
    let read = store.project(&id("demo")).await.unwrap();
    let set = (1..=8).map(|pinned| {
        let sleep = Sleep {
            pinned_idle_timeout_ms: Some(pinned),
            ..Sleep::default()
        };
        let read = &read;
        let options = Options {
            sleep,
            ..read.options()
        };
        async move { (sleep, store.set_options(read, &options).await) }
    });
    let set = futures::future::join_all(set).await;
    let done: Vec<_> = set.iter().filter(|(_, set)| set.is_ok()).collect();
    assert_eq!(done.len(), 1, "{set:?}");
    let refused = |set: &Result<(), StoreError>| matches!(set, Err(StoreError::Changed));
    assert_eq!(set.iter().filter(|(_, set)| refused(set)).count(), 7);
    let now = store.project(&id("demo")).await.unwrap();
    assert_eq!(now.sleep, done[0].0);
    let deleted = store.begin_delete(&id("demo"), Some(&read)).await;
    assert!(matches!(deleted, Err(StoreError::Changed)));

    let read = key("ci", None);
    store.add_key(&read, [1; 32]).await.unwrap();
    let set = (10..18).map(|expires| store.set_key_expiry(&read, Some(expires)));
    let set = futures::future::join_all(set).await;
    assert_eq!(set.iter().filter(|set| set.is_ok()).count(), 1, "{set:?}");
    assert_eq!(set.iter().filter(|set| refused(set)).count(), 7);
    assert!(refused(&store.remove_key(&read).await));
    let now_read = store.key_named("ci").await.unwrap();
    store.remove_key(&now_read).await.unwrap();
    let later = KeyRecord {
        created: 2,
        ..now_read.clone()
    };
    store.add_key(&later, [2; 32]).await.unwrap();
    assert!(refused(&store.remove_key(&now_read).await), "a later key of the name");

    // A later project of the name is another one.
    store.begin_delete(&id("demo"), Some(&now)).await.unwrap();
    store.finish_delete(&id("demo")).await.unwrap();
    let again = NewProject {
        now: now.created + 1,
        ..new_project("demo")
    };
    store.create_project(again).await.unwrap();
    let later = store.project(&id("demo")).await.unwrap();
    store.set_options(&later, &now.options()).await.unwrap();
    let again = store.set_options(&now, &later.options()).await;
    assert!(refused(&again));
}

pub(super) fn attempt(at: i64, project: Option<&str>, method: &str) -> Attempt {
    Attempt {
        at,
        key_name: "k".into(),
        method: method.into(),
        path: project.map_or("/api/v1/keys".into(), |project| path_of(&id(project))),
        project: project.map(ToOwned::to_owned),
        changed: Some("{}".into()),
        request_id: format!("r{at}"),
    }
}

fn times(records: &[AuditRecord]) -> Vec<i64> {
    records.iter().map(|record| record.attempt.at).collect()
}

pub(super) async fn audit_is_read_from_its_end_and_ends_with_the_project(store: &impl Store) {
    let demo = id("demo");
    for at in 1..=3 {
        let row = store.begin_audit(&attempt(at, Some("demo"), "PATCH")).await.unwrap();
        store.finish_audit(row, 200, None).await.unwrap();
    }
    let made = store.begin_audit(&attempt(4, None, "POST")).await.unwrap();
    let page = store.audit(None, None, 2).await.unwrap();
    assert_eq!(times(&page), [4, 3]);
    assert_eq!((page[0].status, page[1].status), (None, Some(200)));
    assert_eq!(times(&store.audit(None, Some(page[1].id), 9).await.unwrap()), [2, 1]);
    assert_eq!(times(&store.audit(Some(&demo), None, 9).await.unwrap()), [3, 2, 1]);

    let refused = store.begin_audit(&attempt(5, Some("demo"), "DELETE")).await.unwrap();
    store.finish_audit(refused, 412, None).await.unwrap();
    assert_eq!(times(&store.audit(Some(&demo), None, 9).await.unwrap()), [5, 3, 2, 1]);
    let deleted = store.begin_audit(&attempt(6, Some("demo"), "DELETE")).await.unwrap();
    assert_eq!(times(&store.audit(Some(&demo), None, 9).await.unwrap()), [0; 0]);
    store.finish_audit(deleted, 204, None).await.unwrap();
    let again = store.begin_audit(&attempt(7, None, "POST")).await.unwrap();
    store.finish_audit(again, 201, Some(&demo)).await.unwrap();
    store.finish_audit(made, 409, None).await.unwrap();
    assert_eq!(times(&store.audit(Some(&demo), None, 9).await.unwrap()), [7]);

    assert_eq!(store.prune_audit(3, 100, 100).await.unwrap(), 2);
    assert_eq!(store.prune_audit(0, 100, 2).await.unwrap(), 3);
    assert_eq!(times(&store.audit(None, None, 9).await.unwrap()), [7, 6]);
}

pub(super) async fn who_changes_one_project_a_lot_forgets_nothing_of_others(store: &impl Store) {
    store.begin_audit(&attempt(1, Some("other"), "PATCH")).await.unwrap();
    store.begin_audit(&attempt(2, None, "POST")).await.unwrap();
    for at in 3..=9 {
        store.begin_audit(&attempt(at, Some("demo"), "PATCH")).await.unwrap();
    }
    assert_eq!(store.prune_audit(0, 3, 5).await.unwrap(), 4);
    assert_eq!(times(&store.audit(None, None, 99).await.unwrap()), [9, 8, 7, 2, 1]);
}

pub(super) fn replay(name: &str, request: u8, now: i64) -> NewReplay {
    NewReplay {
        id: ReplayId {
            key_hash: [1; 32],
            idempotency_key: name.into(),
        },
        request_hash: [request; 32],
        now,
        lease: now + 10,
        expired: now - 100,
        rows_max: 3,
    }
}

pub(super) async fn an_answer_is_given_again_until_it_expires(store: &impl Store) {
    let first = replay("a", 1, 1_000);
    assert_eq!(store.begin_replay(&first).await.unwrap(), Replay::Begun);
    assert_eq!(store.begin_replay(&first).await.unwrap(), Replay::InProgress);
    assert_eq!(store.begin_replay(&replay("a", 2, 1_000)).await.unwrap(), Replay::Other);
    let other_key = NewReplay {
        id: ReplayId {
            key_hash: [2; 32],
            ..first.id.clone()
        },
        ..first.clone()
    };
    assert_eq!(store.begin_replay(&other_key).await.unwrap(), Replay::Begun);

    store.extend_replay(&first.id, 1_020).await.unwrap();
    assert_eq!(
        store.begin_replay(&replay("a", 1, 1_015)).await.unwrap(),
        Replay::InProgress
    );
    assert_eq!(
        store.begin_replay(&replay("a", 1, 1_020)).await.unwrap(),
        Replay::Begun,
        "whoever did it is gone"
    );
    let answer = Answer {
        status: 201,
        content_type: Some("application/json".into()),
        etag: Some("\"x\"".into()),
        body: "{}".into(),
    };
    store.finish_replay(&first.id, &answer).await.unwrap();
    assert_eq!(
        store.begin_replay(&replay("a", 1, 1_050)).await.unwrap(),
        Replay::Done(answer)
    );
    assert_eq!(store.begin_replay(&replay("a", 2, 1_050)).await.unwrap(), Replay::Other);
    store.drop_replay(&first.id).await.unwrap();
    assert_eq!(
        store.begin_replay(&replay("a", 2, 1_050)).await.unwrap(),
        Replay::Other,
        "a given answer stays"
    );

    store.begin_replay(&replay("b", 1, 1_060)).await.unwrap();
    store.begin_replay(&replay("c", 1, 1_060)).await.unwrap();
    assert_eq!(store.begin_replay(&replay("d", 1, 1_060)).await.unwrap(), Replay::Full);
    store.drop_replay(&replay("c", 1, 0).id).await.unwrap();
    assert_eq!(store.begin_replay(&replay("d", 1, 1_060)).await.unwrap(), Replay::Begun);
    assert_eq!(
        store.begin_replay(&replay("a", 2, 1_101)).await.unwrap(),
        Replay::Begun,
        "expired"
    );
    assert_eq!(store.prune_replays(1_061).await.unwrap(), 3);
}

pub(super) async fn of_many_that_ask_at_once_one_begins(store: &impl Store) {
    let asked = (0..8).map(|_| async { store.begin_replay(&replay("a", 1, 1_000)).await.unwrap() });
    let answers = futures::future::join_all(asked).await;
    let begun = answers.iter().filter(|answer| **answer == Replay::Begun).count();
    let waiting = answers.iter().filter(|answer| **answer == Replay::InProgress).count();
    assert_eq!((begun, waiting), (1, 7));
}
