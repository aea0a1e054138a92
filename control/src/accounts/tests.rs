use super::*;
use crate::{
    name::UserName,
    secret::{Password, Verifiers},
};

fn account(user: &str, host: &str) -> ObservedAccount {
    ObservedAccount {
        user: user.into(),
        host: host.into(),
        native_sha1: vec!["ab".repeat(20)],
        ..ObservedAccount::default()
    }
}

fn made(name: &str, known: bool) -> UserRecord {
    UserRecord {
        name: UserName::new(name).unwrap(),
        verifiers: Verifiers::of(&Password::new("p".into()).unwrap()),
        admin: false,
        created: 0,
        known,
        had: known,
        by_sql: false,
    }
}

fn told(users: Vec<UserRecord>, accounts: Vec<ObservedAccount>) -> Vec<proto::User> {
    let access = Access {
        users,
        databases: vec![DatabaseName::new("a_b").unwrap()],
        removed_users: vec![UserName::new("removed").unwrap()],
        ..Access::default()
    };
    let observed = Observed {
        accounts,
        ..Observed::default()
    };
    super::users(&access, Some(&observed))
}

#[test]
fn what_is_required_is_told_as_sql_has_it() {
    let told = |change: fn(&mut ObservedAccount)| {
        let mut account = account("u", "%");
        change(&mut account);
        account.require_text()
    };
    assert_eq!(told(|_| ()), None);
    assert_eq!(told(|account| account.require = Require::Ssl).as_deref(), Some("SSL"));
    assert_eq!(told(|account| account.require = Require::X509).as_deref(), Some("X509"));
    let specified = told(|account| {
        account.require = Require::Specified;
        account.require_issuer = "/CN=it's".into();
        account.require_cipher = "C".into();
    });
    assert_eq!(specified.as_deref(), Some("ISSUER '/CN=it''s' AND CIPHER 'C'"));
}

#[test]
fn every_reason_is_told() {
    let with = |change: fn(&mut ObservedAccount)| {
        let mut account = account("u", "%");
        change(&mut account);
        reason(&account, &Standing::of(&[account.clone()])).unwrap_or_default()
    };
    assert_eq!(with(|_| ()), "");
    assert!(with(|account| account.user.clear()).contains("no name"));
    assert!(with(|account| account.host = "10.%".into()).contains("10.%"));
    assert!(with(|account| account.native_sha1.clear()).contains("no password"));
    let socket = with(|account| {
        account.native_sha1.clear();
        account.other_plugins = vec!["unix_socket".into()];
    });
    assert!(socket.contains("unix_socket"));
    let key = with(|account| {
        account.native_sha1.clear();
        account.other_plugins = vec!["ed25519".into()];
        account.ed25519_keys = vec!["12".repeat(32)];
    });
    assert_eq!(key, "");
    assert!(with(|account| account.locked = true).contains("locked"));
    assert!(with(|account| account.require = Require::Certificate).contains("certificate"));
    for require in [Require::Ssl, Require::X509, Require::Specified] {
        let account = ObservedAccount {
            require,
            ..account("u", "%")
        };
        assert_eq!(reason(&account, &Standing::of(&[])), None, "{require:?}");
    }
    for before in [account("u", "localhost"), account("", "localhost")] {
        assert!(reason(&account("u", "%"), &Standing::of(&[before])).is_some());
    }
    assert!(reason(&account("u", "%"), &Standing::of(&[account("other", "localhost")])).is_none());
}

#[test]
fn a_user_of_the_api_carries_when_it_was_made_whatever_a_server_says_of_it() {
    for (known, had) in [(false, false), (false, true), (true, true)] {
        let user = UserRecord {
            created: 7,
            had,
            ..made("app", known)
        };
        let users = told(vec![user], vec![account("app", "%"), account("eve", "%")]);
        let created: Vec<_> = users.iter().map(|user| (&*user.name, user.created_ms)).collect();
        assert_eq!(created, [("app", 7), ("eve", 0)], "{known} {had}");
    }
}

#[test]
fn a_user_of_the_api_is_as_rest_made_it_until_a_server_has_had_it_so() {
    let mut seen = account("app", "%");
    seen.patterns = vec!["x".into()];
    let new = told(vec![made("app", false)], vec![seen.clone()]);
    assert_eq!(new[0].native_sha1, made("app", false).verifiers.native_sha1);
    assert_eq!(new[0].granted_databases, [r"a\_b", "x"]);
    // Its password was changed in SQL: the other verifier is of the old one.
    let changed = told(vec![made("app", true)], vec![seen.clone()]);
    assert_eq!(changed[0].native_sha1, [0xab; 20]);
    assert!(changed[0].caching_sha2.is_empty());
    assert_eq!(
        changed[0].granted_databases,
        ["x"],
        "what was revoked in SQL stays revoked"
    );
    seen.native_sha1 = vec![hex(&made("app", true).verifiers.native_sha1)];
    assert_eq!(told(vec![made("app", true)], vec![seen])[0].caching_sha2.len(), 32);
    assert!(told(vec![made("app", true)], vec![]).is_empty(), "dropped in SQL");
}

#[test]
fn a_user_that_a_server_has_had_gets_another_password_and_nothing_else() {
    let mut seen = account("app", "%");
    seen.patterns = vec!["x".into()];
    seen.locked = true;
    seen.password_expired = true;
    for by_sql in [false, true] {
        let changed = UserRecord {
            had: true,
            by_sql,
            ..made("app", false)
        };
        let told = told(vec![changed.clone()], vec![seen.clone()]).remove(0);
        assert_eq!(told.native_sha1, changed.verifiers.native_sha1);
        assert_eq!((told.granted_databases, told.locked), (vec!["x".to_owned()], true));
        assert!(!told.password_expired, "it is a new one");
        assert!(
            super::users(
                &Access {
                    users: vec![changed],
                    ..Access::default()
                },
                None
            )
            .is_empty()
        );
    }
}

#[test]
fn gateways_know_whom_they_can_let_in_or_tell_why_not() {
    let locked = ObservedAccount {
        locked: true,
        require: Require::Specified,
        require_issuer: "/CN=ca".into(),
        require_subject: "/CN=app".into(),
        require_cipher: "C".into(),
        limits: Limits {
            user_connections: 1,
            ..Limits::default()
        },
        native_sha1: vec!["ab".repeat(20), "cd".repeat(20)],
        ..account("locked", "%")
    };
    let empty = ObservedAccount {
        native_sha1: vec![],
        ..account("empty", "%")
    };
    let key = ObservedAccount {
        native_sha1: vec![],
        ed25519_keys: vec!["12".repeat(32)],
        other_plugins: vec!["ed25519".into()],
        ..account("key", "%")
    };
    let others = [
        key,
        account("removed", "%"),
        account("", "%"),
        account("far", "10.%"),
        empty,
        locked,
    ];
    let told = told(vec![], others.to_vec());
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        (&told[0].ed25519_keys, told[0].native_sha1.len()),
        (&vec![vec![0x12; 32]], 0)
    );
    let told = &told[1..];
    assert!(told[0].locked && told[0].require() == proto::Require::Specified);
    let words = (
        &*told[0].require_issuer,
        &*told[0].require_subject,
        &*told[0].require_cipher,
    );
    assert_eq!(words, ("/CN=ca", "/CN=app", "C"));
    assert_eq!(told[0].more_native_sha1, [vec![0xcd; 20]]);
    assert_eq!(told[0].limits.unwrap().user_connections, 1);
}
