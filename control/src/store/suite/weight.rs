//! What one project may weigh.

use futures::future::join_all;

use super::*;
use crate::weight::{DATABASES_MAX, PROJECT_BYTES_MAX, TooLarge, USERS_MAX, weigh};

fn account(user: &str, patterns_bytes: usize) -> ObservedAccount {
    ObservedAccount {
        user: user.into(),
        host: "%".into(),
        native_sha1: vec!["11".repeat(20)],
        patterns: vec!["d".repeat(patterns_bytes)],
        ..ObservedAccount::default()
    }
}

fn seen(accounts: Vec<ObservedAccount>) -> Observed {
    Observed {
        accounts,
        ..Observed::default()
    }
}

/// Room for a handful more.
fn nearly_full() -> Observed {
    seen(vec![account("big", PROJECT_BYTES_MAX - 500)])
}

async fn nearly_full_project(store: &impl Store) {
    let new = NewProject {
        user: Some(new_user("app")),
        database: Some(database("app")),
        ..new_project("demo")
    };
    store.create_project(new).await.unwrap();
    store.set_observed(&id("demo"), &nearly_full()).await.unwrap();
}

pub(super) async fn what_would_make_a_project_too_large_is_refused_and_changes_nothing(store: &impl Store) {
    nearly_full_project(store).await;
    let demo = id("demo");
    for made in 0.. {
        let before = store.whole_project(&demo).await.unwrap();
        let Err(error) = store.add_user(&demo, new_user(&format!("user{made}")), 1).await else {
            assert!(made < 10, "never full");
            continue;
        };
        assert!(matches!(error, StoreError::TooLarge(TooLarge::Bytes(_))), "{error}");
        assert_eq!(store.whole_project(&demo).await.unwrap(), before);
        break;
    }
    let before = store.whole_project(&demo).await.unwrap();
    // Once for itself and once for each user made here.
    let long = database(&"d".repeat(64));
    let refused = store.add_database(&demo, &long).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge(TooLarge::Bytes(_))), "{refused}");
    let many = |n: usize| (0..n).map(|n| account(&format!("a{n}"), 1)).collect();
    let databases = Observed {
        databases: (0..DATABASES_MAX).map(|n| format!("d{n}")).collect(),
        ..Observed::default()
    };
    for (too_many, why) in [
        (seen(vec![account("big", PROJECT_BYTES_MAX)]), "bytes"),
        (seen(many(USERS_MAX)), "users"),
        (databases, "databases"),
    ] {
        let refused = store.set_observed(&demo, &too_many).await.unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge(_)), "{refused}");
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert_eq!(
        store.whole_project(&demo).await.unwrap(),
        before,
        "nothing of it is kept"
    );

    store.remove_user(&demo, &new_user("user0").name, None).await.unwrap();
    store.set_observed(&demo, &seen(vec![account("big", 9)])).await.unwrap();
    store.add_database(&demo, &long).await.unwrap();
}

pub(super) async fn of_many_who_add_at_once_only_so_many_are_let_as_fit(store: &impl Store) {
    nearly_full_project(store).await;
    let demo = id("demo");
    let adding = (0..12).map(|n| {
        let demo = demo.clone();
        async move { store.add_user(&demo, new_user(&format!("user{n}")), 1).await }
    });
    let answers = join_all(adding).await;
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!((1..12).contains(&refused), "{refused} of 12 were refused");
    let whole = store.whole_project(&demo).await.unwrap();
    assert_eq!(whole.access.users.len(), 1 + 12 - refused);
    assert_eq!(weigh(&whole.access, whole.observed.as_ref()), Ok(()));
}
