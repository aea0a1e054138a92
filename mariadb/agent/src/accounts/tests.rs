use super::*;

const HASH: &str = "*7B9EBEED26AA52ED10C0F549FA863F13C39E0209";
const OLD: &str = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";
const TENANT: &str = "*B69027D44F6E5EDC07F1AEAD1477967B16F28227";

fn row(privileges: Value) -> Row {
    Row {
        host: "%".into(),
        user: "t".into(),
        text: privileges.to_string(),
        privileges: privileges.as_object().unwrap().clone(),
    }
}

fn right(privileges: Value) -> Value {
    row(privileges.clone())
        .set_right(HASH)
        .map_or(privileges, Value::Object)
}

fn gateway() -> Value {
    json!({"plugin": NATIVE, "authentication_string": HASH})
}

fn tenant(more: Value) -> Value {
    let mut privileges = json!({
        "access": 0, "plugin": NATIVE, "authentication_string": TENANT, "auth_or": [{}, gateway()], GATEWAY_KEY: HASH
    });
    privileges
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    privileges
}

#[test]
fn the_gateways_method_comes_behind_whatever_the_tenant_has() {
    let made = json!({"access": 0, "plugin": NATIVE, "authentication_string": TENANT});
    assert_eq!(right(made), tenant(json!({})));
    // As ALTER USER leaves an account that had it.
    let altered = tenant(json!({"auth_or": [{}]}));
    assert_eq!(right(altered), tenant(json!({})));
    let two = right(json!({
        "plugin": NATIVE, "authentication_string": TENANT,
        "auth_or": [{"plugin": "ed25519", "authentication_string": "fNKnWYqDUKYh4hdC25kjP1ZSI2lya3rSkFCUQna2IkQ"}, {}]
    }));
    assert_eq!(two["auth_or"][2], gateway());
    assert_eq!(right(two.clone()), two, "once");
}

#[test]
fn an_earlier_incarnations_method_is_replaced_wherever_the_server_wrote_it() {
    let old = json!({"plugin": NATIVE, "authentication_string": OLD});
    let before = tenant(json!({"auth_or": [{}, old], GATEWAY_KEY: OLD}));
    assert_eq!(right(before), tenant(json!({})));
    let key = json!({"plugin": "ed25519", "authentication_string": "k"});
    let at_top = right(json!({
        "plugin": NATIVE, "authentication_string": OLD, "auth_or": [key, {}], GATEWAY_KEY: OLD
    }));
    assert_eq!(at_top["authentication_string"], HASH);
    assert_eq!(at_top["auth_or"], json!([key, {}]));
}

#[test]
fn a_method_that_came_from_another_project_opens_nothing() {
    let theirs = crate::sql::gateway_hash(b"another project's secret");
    let method = json!({"plugin": NATIVE, "authentication_string": theirs});
    let restored = |more: Value| {
        let mut privileges = json!({"access": 0, "plugin": NATIVE, "authentication_string": TENANT});
        privileges
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        privileges
    };
    let from_dump = restored(json!({"auth_or": [{}, method]}));
    let seen = row(from_dump.clone()).seen(HASH, Vec::new());
    assert_eq!(
        seen.native_sha1,
        [crate::sql::bytes(&TENANT[1..]).unwrap()],
        "also before it is set right"
    );
    assert_eq!(right(from_dump), tenant(json!({})));
    // The gateway's own stays where a dump brings it back into its own project.
    let both = restored(json!({"auth_or": [{}, method, gateway()]}));
    assert_eq!(right(both), tenant(json!({})));
    let key = json!({"plugin": "ed25519", "authentication_string": "k"});
    let at_top = right(restored(json!({"authentication_string": theirs, "auth_or": [key, {}]})));
    assert_eq!(
        (&at_top["authentication_string"], &at_top["auth_or"]),
        (&json!(HASH), &json!([key, {}]))
    );
    let alone = row(json!({"plugin": NATIVE, "authentication_string": theirs}));
    assert!(alone.seen(HASH, Vec::new()).native_sha1.is_empty());
    assert_eq!(alone.set_right(HASH).unwrap()["authentication_string"], HASH);
}

#[test]
fn the_agents_own_account_is_known_by_its_password_and_its_rights() {
    let agent = |hash: &str, access: u64| Row {
        host: "localhost".into(),
        user: crate::sql::AGENT_USER.into(),
        ..row(json!({"plugin": NATIVE, "authentication_string": hash, "access": access}))
    };
    assert!(agent(TENANT, AGENT_NEEDS | 1 << 20).is_agents(TENANT));
    assert!(!agent(OLD, AGENT_NEEDS).is_agents(TENANT));
    assert!(!agent(TENANT, CREATE_USER).is_agents(TENANT));
    assert!(!row(json!({"plugin": NATIVE, "authentication_string": TENANT, "access": AGENT_NEEDS})).is_agents(TENANT));
}

#[test]
fn what_would_refuse_the_gateway_is_set_aside_and_a_later_statement_wins() {
    let wished = json!({
        "ssl_type": 3, "ssl_cipher": "", "x509_issuer": "/CN=i", "x509_subject": "",
        "account_locked": true, "max_questions": 5, "max_user_connections": -1
    });
    let aside = right(tenant(wished.clone()));
    assert_eq!(aside, tenant(json!({WISH_KEY: wished})));
    assert_eq!(right(aside.clone()), aside);
    let said = |statement: Value| {
        let mut now = aside.clone();
        now.as_object_mut()
            .unwrap()
            .extend(statement.as_object().unwrap().clone());
        right(now)[WISH_KEY].clone()
    };
    let unlocked = said(json!({"account_locked": false}));
    assert!(unlocked.get(LOCK_KEY).is_none() && unlocked["ssl_type"] == 3);
    let plain = said(json!({"ssl_type": 0, "ssl_cipher": "", "x509_issuer": "", "x509_subject": ""}));
    assert!(REQUIRE_KEYS.iter().all(|key| plain.get(*key).is_none()) && plain[LOCK_KEY] == true);
    let ssl = said(json!({"ssl_type": 1, "ssl_cipher": "", "x509_issuer": "", "x509_subject": ""}));
    assert_eq!((&ssl["ssl_type"], &ssl["x509_issuer"]), (&json!(1), &json!("")));
    let other = said(json!({"max_questions": 0, "max_updates": 7}));
    assert!(other.get("max_questions").is_none() && other["max_updates"] == 7 && other["max_user_connections"] == -1);
    // What was never wished is no reason to write.
    let nothing = tenant(json!({"account_locked": false, "ssl_type": 0, "max_questions": 0}));
    assert_eq!(right(nothing.clone()), nothing);
}

#[test]
fn an_expired_password_is_set_aside_until_another_is_set() {
    let wish = json!({PASSWORD_CHANGED_KEY: 0, PASSWORD_LIFETIME_KEY: 3});
    let aside = right(tenant(wish.clone()));
    assert_eq!(aside, tenant(json!({WISH_KEY: wish})));
    let seen = |row: Value| {
        let seen = self::row(row).seen(HASH, Vec::new());
        (seen.password_expired, seen.password_expires_s)
    };
    assert_eq!(seen(aside.clone()), (true, 0));
    let mut set = aside;
    set[PASSWORD_CHANGED_KEY] = json!(1_000_000);
    let set = right(set);
    let expected = json!({PASSWORD_CHANGED_KEY: 1_000_000, WISH_KEY: {PASSWORD_LIFETIME_KEY: 3}});
    assert_eq!(set, tenant(expected));
    assert_eq!(seen(set.clone()), (false, 1_000_000 + 3 * 86_400));
    for no_lifetime in [0, -1] {
        let mut said = set.clone();
        said[PASSWORD_LIFETIME_KEY] = json!(no_lifetime);
        let right = right(said);
        assert_eq!(right[PASSWORD_LIFETIME_KEY], no_lifetime, "the server's own to keep");
        assert_eq!(seen(right), (false, 0));
    }
}

#[test]
fn what_is_seen_is_the_tenants_wish_before_and_after_it_is_set_aside() {
    let before = row(tenant(json!({
        "access": CREATE_USER, "account_locked": true, "ssl_type": 2, "max_questions": 5, "password_lifetime": 3,
        "password_last_changed": 1_000
    })));
    let after = row(Value::Object(before.set_right(HASH).unwrap()));
    let seen = |row: &Row| row.seen(HASH, Vec::new());
    assert_eq!(seen(&before), seen(&after));
    let seen = seen(&after);
    assert!(seen.locked && seen.admin && seen.require() == Require::X509);
    assert_eq!(seen.limits.unwrap().queries_per_hour, 5);
    assert_eq!(
        seen.native_sha1,
        [crate::sql::bytes(&TENANT[1..]).unwrap()],
        "without the gateway's"
    );
}

#[test]
fn methods_that_the_gateway_cannot_check_are_named() {
    let seen = |privileges: Value| row(privileges).seen(HASH, Vec::new());
    let socket = json!({"plugin": "unix_socket", "authentication_string": ""});
    assert_eq!(seen(socket.clone()).other_plugins, ["unix_socket"]);
    for nothing in [
        socket,
        json!({}),
        json!({"plugin": NATIVE, "authentication_string": ""}),
        json!({"plugin": NATIVE, "authentication_string": "invalid"}),
    ] {
        assert_eq!(
            right(nothing.clone()),
            nothing,
            "nobody could log in: no method of the gateway's either"
        );
        assert!(seen(nothing).native_sha1.is_empty());
    }
    let key = json!({"plugin": "ed25519", "authentication_string": "Gv2JI8Env2fd5YGonZ082tX3UAW+yJYldOlj4R1bfK4"});
    assert_eq!(seen(key.clone()).other_plugins, ["ed25519"]);
    assert_eq!(
        seen(key.clone()).ed25519_keys,
        [crate::sql::bytes("1afd8923c127bf67dde581a89d9d3cdad5f75005bec8962574e963e11d5b7cae").unwrap()]
    );
    assert_eq!(
        right(key)["auth_or"],
        json!([{}, gateway()]),
        "somebody can be proven by it"
    );
    for no_key in ["k", "", "Gv2JI8Env2fd5YGonZ082tX3UAW+yJYldOlj4R1bfK4="] {
        let row = json!({"plugin": "ed25519", "authentication_string": no_key});
        assert!(seen(row.clone()).ed25519_keys.is_empty(), "{no_key}");
        assert_eq!(right(row.clone()), row);
    }
}

#[test]
fn accounts_that_are_not_the_tenants_are_left_alone() {
    let privileges = json!({"plugin": NATIVE, "authentication_string": TENANT, "account_locked": true});
    for (user, host) in [
        ("root", "%"),
        ("Selkie_agent", "%"),
        ("mariadb.sys", "%"),
        ("", "%"),
        ("t", "localhost"),
        ("t", "10.%"),
    ] {
        let row = Row {
            user: user.into(),
            host: host.into(),
            ..row(privileges.clone())
        };
        assert!(row.set_right(HASH).is_none(), "{user}@{host}");
    }
    let role = json!({"plugin": NATIVE, "authentication_string": TENANT, "is_role": true});
    assert!(!row(role).is_of_tenant());
}
