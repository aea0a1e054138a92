use control_api::agent::{Account, ApplyRequest, Database, LookRequest, Require, SeenAccount, Server};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::stage::{Compute, Stage, account, native_sha1};

/// MariaDB's error number.
async fn refusal(conn: &mut Conn, statement: &str) -> u16 {
    match conn.query_drop(statement).await {
        Err(Error::Server(error)) => error.code,
        other => panic!("{statement}: {other:?}"),
    }
}

const ACCESS_DENIED: u16 = 1044;
const SPECIFIC_ACCESS_DENIED: u16 = 1227;

#[tokio::test]
async fn an_account_has_its_projects_databases_and_nothing_else() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "app pw", false), account("boss", "boss pw", true)];
    stage.spec.databases = vec!["a_b".into(), "quote`d%".into()];
    let compute = stage.ready().await;
    let mut app = compute.login("app", b"app pw").await.unwrap();
    let mut boss = compute.login("boss", b"boss pw").await.unwrap();
    app.query_drop("CREATE TABLE a_b.t (a INT); CREATE TABLE `quote``d%`.t (a INT); INSERT INTO a_b.t VALUES (1)")
        .await
        .unwrap();
    // `_` and `%` stand for themselves, not for any database.
    assert_eq!(refusal(&mut app, "CREATE DATABASE axb").await, ACCESS_DENIED);
    assert_eq!(refusal(&mut app, "CREATE DATABASE `quote``dxy`").await, ACCESS_DENIED);
    assert_eq!(refusal(&mut app, "CREATE USER mine").await, SPECIFIC_ACCESS_DENIED);
    assert_eq!(
        refusal(&mut app, "SET GLOBAL max_connections=1").await,
        SPECIFIC_ACCESS_DENIED
    );
    assert_eq!(refusal(&mut app, "SHUTDOWN").await, SPECIFIC_ACCESS_DENIED);
    let hashes = app.query_drop("SELECT * FROM mysql.global_priv").await;
    assert!(hashes.is_err(), "sees the hashes of passwords");
    boss.query_drop("CREATE USER theirs IDENTIFIED BY 'x'").await.unwrap();
    assert_eq!(
        refusal(&mut boss, "SET GLOBAL max_connections=1").await,
        SPECIFIC_ACCESS_DENIED
    );
    drop((app, boss));
    compute.stop().await;
}

#[tokio::test]
async fn a_password_the_tenant_sets_is_kept_and_the_gateway_still_gets_in() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "first", false)];
    let compute = stage.ready().await;
    // The gateway's secret is the password of the account's second method; as bytes, which this driver takes as text.
    let secret = |byte: u8| vec![byte; 32];
    let mut app = compute.login("app", b"first").await.unwrap();
    app.query_drop("SET PASSWORD = PASSWORD('second')").await.unwrap();
    drop(app);
    assert!(compute.login("app", b"first").await.is_err());
    assert!(compute.login("app", b"second").await.is_ok());
    compute.stop().await;

    stage.spec.accounts[0].known = true;
    stage.spec.incarnation = 2;
    stage.spec.gateway_secret_hex = "41".repeat(32);
    let compute = stage.ready().await;
    assert!(compute.login("app", b"second").await.is_ok());
    assert!(compute.login("app", b"first").await.is_err());
    assert!(
        compute.login("app", &secret(0x41)).await.is_ok(),
        "the gateway's method"
    );
    compute.stop().await;

    // A new incarnation has a new secret, and the old one opens nothing.
    stage.spec.incarnation = 3;
    stage.spec.gateway_secret_hex = "42".repeat(32);
    let compute = stage.ready().await;
    assert!(compute.login("app", &secret(0x41)).await.is_err());
    assert!(compute.login("app", &secret(0x42)).await.is_ok());
    compute.stop().await;
}

#[tokio::test]
async fn accounts_of_the_api_that_are_gone_are_gone_at_the_next_start() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "a", false), account("boss", "b", true)];
    let compute = stage.ready().await;
    let mut boss = compute.login("boss", b"b").await.unwrap();
    boss.query_drop("CREATE USER theirs IDENTIFIED BY 'x'").await.unwrap();
    drop(boss);
    compute.stop().await;

    stage.spec.accounts.remove(0);
    stage.spec.removed_accounts = vec!["app".into()];
    let compute = stage.ready().await;
    assert!(compute.login("app", b"a").await.is_err(), "an account that was deleted");
    assert!(
        compute.login("theirs", b"x").await.is_ok(),
        "an account made in SQL was removed"
    );
    compute.stop().await;
}

#[tokio::test]
async fn what_is_applied_to_a_running_compute_holds_at_once_and_twice() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "a", false)];
    stage.spec.databases = vec!["old".into()];
    let compute = stage.ready().await;
    let mut agent = compute.agent().await;
    let request = ApplyRequest {
        accounts: vec![
            Account {
                user: "new".into(),
                native_sha1: native_sha1(b"n"),
                ..Account::default()
            },
            Account {
                user: "app".into(),
                native_sha1: native_sha1(b"not touched"),
                known: true,
                ..Account::default()
            },
            Account {
                user: "dropped in SQL".into(),
                native_sha1: native_sha1(b"d"),
                known: true,
                ..Account::default()
            },
        ],
        databases: vec![
            Database {
                name: "fresh".into(),
                absent: false,
            },
            Database {
                name: "old".into(),
                absent: true,
            },
        ],
        ..ApplyRequest::default()
    };
    for _ in 0..2 {
        let server = agent.apply(request.clone()).await.unwrap().into_inner().server.unwrap();
        assert_eq!(server.databases, ["fresh"]);
    }
    for (user, password) in [("app", b"a"), ("new", b"n")] {
        let mut conn = compute.login(user, password).await.unwrap();
        conn.query_drop(format!("CREATE TABLE fresh.of_{user} (a INT)"))
            .await
            .unwrap();
    }
    assert!(compute.login("dropped in SQL", b"d").await.is_err(), "made again");
    let gone = ApplyRequest {
        accounts: vec![Account {
            user: "new".into(),
            absent: true,
            ..Account::default()
        }],
        ..ApplyRequest::default()
    };
    agent.apply(gone).await.unwrap();
    assert!(compute.login("new", b"n").await.is_err());
    assert!(compute.login("app", b"a").await.is_ok());
    compute.stop().await;
}

#[tokio::test]
async fn a_look_sees_what_was_there_when_it_was_asked_for() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "a", false)];
    stage.spec.databases = vec!["a%".into()];
    let compute = stage.ready().await;
    let (mut agent, mut app) = (compute.agent().await, compute.login("app", b"a").await.unwrap());
    let mut last = 0;
    for statement in ["DROP DATABASE `a%`", "CREATE DATABASE `a%`"] {
        app.query_drop(statement).await.unwrap();
        let server = agent.look(LookRequest {}).await.unwrap().into_inner().server.unwrap();
        assert_eq!(
            server.databases.len(),
            usize::from(statement.starts_with("CREATE")),
            "{statement}"
        );
        assert!(server.look > last, "numbered");
        last = server.look;
    }
    drop(app);
    compute.stop().await;
}

/// The gateway's secret as the password that it is.
fn gateway(byte: u8) -> Vec<u8> {
    vec![byte; 32]
}

async fn seen(compute: &Compute, user: &str) -> Option<SeenAccount> {
    let server = compute
        .agent()
        .await
        .look(LookRequest {})
        .await
        .unwrap()
        .into_inner()
        .server
        .unwrap();
    server
        .accounts
        .into_iter()
        .find(|account| account.user == user && account.host == "%")
}

async fn boss() -> (Stage, Compute, Conn) {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("boss", "b", true)];
    stage.spec.databases = vec!["app".into()];
    stage.spec.gateway_secret_hex = "41".repeat(32);
    let compute = stage.ready().await;
    let boss = compute.login("boss", b"b").await.unwrap();
    (stage, compute, boss)
}

/// Of an account after a statement.
type Holds = fn(&SeenAccount) -> bool;

#[tokio::test]
async fn after_every_statement_the_gateway_gets_in_and_the_wish_is_known() {
    let (mut stage, compute, mut boss) = boss().await;
    let locked = |seen: &SeenAccount| seen.locked;
    let open = |seen: &SeenAccount| !seen.locked && seen.require() == Require::None;
    let steps: &[(&str, Holds)] = &[
        ("CREATE USER t IDENTIFIED BY 'one'", open),
        ("ALTER USER t IDENTIFIED BY 'two'", |seen| {
            seen.native_sha1 == [native_sha1(b"two")]
        }),
        ("ALTER USER t ACCOUNT LOCK", locked),
        ("GRANT SELECT ON app.* TO t", |seen| {
            seen.locked && seen.database_patterns == ["app"]
        }),
        ("ALTER USER t ACCOUNT UNLOCK", open),
        ("ALTER USER t REQUIRE SSL", |seen| seen.require() == Require::Ssl),
        ("ALTER USER t REQUIRE SUBJECT '/CN=t' AND CIPHER 'C'", |seen| {
            (&*seen.require_subject, &*seen.require_issuer, &*seen.require_cipher) == ("/CN=t", "", "C")
        }),
        ("ALTER USER t REQUIRE ISSUER '/CN=x'", |seen| {
            seen.require() == Require::Specified
                && (&*seen.require_subject, &*seen.require_issuer, &*seen.require_cipher) == ("", "/CN=x", "")
        }),
        (
            "ALTER USER t WITH MAX_USER_CONNECTIONS 1 MAX_QUERIES_PER_HOUR 2",
            |seen| {
                let limits = seen.limits.unwrap();
                (limits.user_connections, limits.queries_per_hour) == (1, 2) && seen.require() == Require::Specified
            },
        ),
        ("ALTER USER t REQUIRE NONE WITH MAX_USER_CONNECTIONS 0", |seen| {
            seen.require() == Require::None && seen.limits.unwrap().user_connections == 0
        }),
        ("CREATE OR REPLACE USER t IDENTIFIED BY 'six'", |seen| {
            seen.native_sha1 == [native_sha1(b"six")] && seen.limits.unwrap().queries_per_hour == 0
        }),
    ];
    for (statement, holds) in steps {
        boss.query_drop(*statement)
            .await
            .unwrap_or_else(|why| panic!("{statement}: {why}"));
        let seen = seen(&compute, "t")
            .await
            .unwrap_or_else(|| panic!("{statement}: not seen"));
        assert!(holds(&seen), "{statement}: {seen:?}");
        let mut t = compute
            .login("t", &gateway(0x41))
            .await
            .unwrap_or_else(|why| panic!("{statement}: {why}"));
        let user: Option<String> = t.query_first("SELECT CURRENT_USER()").await.unwrap();
        assert_eq!(user.as_deref(), Some("t@%"));
    }
    let mut t = compute.login("t", b"six").await.unwrap();
    t.query_drop("SET PASSWORD = PASSWORD('seven')").await.unwrap();
    assert_eq!(seen(&compute, "t").await.unwrap().native_sha1, [native_sha1(b"seven")]);
    assert!(compute.login("t", &gateway(0x41)).await.is_ok());
    drop(t);
    boss.query_drop("ALTER USER t REQUIRE SSL ACCOUNT LOCK; RENAME USER t TO u")
        .await
        .unwrap();
    assert!(seen(&compute, "t").await.is_none());
    drop(boss);
    compute.stop().await;

    stage.spec.accounts[0].known = true;
    stage.spec.gateway_secret_hex = "42".repeat(32);
    let compute = stage.ready().await;
    let kept = seen(&compute, "u").await.unwrap();
    assert!(kept.locked && kept.require() == Require::Ssl, "over a sleep");
    assert!(compute.login("u", &gateway(0x42)).await.is_ok());
    assert!(compute.login("u", &gateway(0x41)).await.is_err(), "an old secret opens");
    compute.stop().await;
}

#[tokio::test]
async fn rights_come_by_roles_too_and_what_is_dropped_in_sql_stays_dropped() {
    let (mut stage, compute, mut boss) = boss().await;
    boss.query_drop(
        "CREATE ROLE reader; CREATE ROLE outer_role; GRANT SELECT ON app.* TO reader; GRANT reader TO outer_role; \
         CREATE USER t IDENTIFIED BY 'x'; GRANT outer_role TO t",
    )
    .await
    .unwrap();
    assert!(
        seen(&compute, "t").await.unwrap().database_patterns.is_empty(),
        "no role is on at login"
    );
    let mut t = compute.login("t", b"x").await.unwrap();
    t.query_drop("SET DEFAULT ROLE outer_role").await.unwrap();
    drop(t);
    assert_eq!(seen(&compute, "t").await.unwrap().database_patterns, ["app"]);
    boss.query_drop("DROP USER boss").await.unwrap();
    assert!(seen(&compute, "boss").await.is_none());
    drop(boss);
    compute.stop().await;
    stage.spec.accounts[0].known = true;
    let compute = stage.ready().await;
    assert!(seen(&compute, "boss").await.is_none(), "made again by the start");
    compute.stop().await;
}

/// What the agent says after another look.
async fn looked_at(compute: &Compute) -> Server {
    let mut agent = compute.agent().await.max_decoding_message_size(64 << 20);
    agent.look(LookRequest {}).await.unwrap().into_inner().server.unwrap()
}

#[tokio::test]
async fn rights_of_everybody_that_are_too_many_to_be_told_are_told_as_any_and_the_server_decides() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("boss", "b", true)];
    let databases: Vec<_> = (0..150).map(|n| format!("{n:0>60}")).collect();
    stage.spec.databases = [&["app".to_owned()][..], &databases[..]].concat();
    let compute = stage.ready().await;
    let mut boss = compute.login("boss", b"b").await.unwrap();
    let users: Vec<_> = (0..1000).map(|n| format!("u{n} IDENTIFIED BY 'u'")).collect();
    boss.query_drop(format!("CREATE USER {}", users.join(",")))
        .await
        .unwrap();
    let grant = |databases: &[String]| {
        let grants = databases
            .iter()
            .map(|name| format!("GRANT SELECT ON `{name}`.* TO PUBLIC"));
        grants.collect::<Vec<_>>().join(";")
    };
    boss.query_drop(grant(&databases[..100])).await.unwrap();
    let told = |server: &Server| -> Vec<usize> {
        let users = server.accounts.iter().filter(|seen| seen.user.starts_with('u'));
        users.map(|seen| seen.database_patterns.len()).collect()
    };
    let server = looked_at(&compute).await;
    assert_eq!(told(&server), [100; 1000]);
    boss.query_drop(grant(&databases[100..])).await.unwrap();
    let server = looked_at(&compute).await;
    assert_eq!(told(&server), [1; 1000]);
    assert_eq!(server.left_out, "");
    let mut one = compute.login("u1", b"u").await.unwrap();
    assert_eq!(refusal(&mut one, "USE app").await, ACCESS_DENIED);
    drop((boss, one));
    compute.stop().await;
}

#[tokio::test]
async fn of_too_many_accounts_none_are_told_and_it_is_said_until_there_are_fewer() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("boss", "b", true)];
    let compute = stage.ready().await;
    let mut boss = compute.login("boss", b"b").await.unwrap();
    let users = |with: &str| {
        let users: Vec<_> = (0..6_000).map(|n| format!("u{n}{with}")).collect();
        users.join(",")
    };
    // Kept with the account, whatever it is.
    let long = format!(" IDENTIFIED VIA unix_socket USING '{}'", "x".repeat(800));
    boss.query_drop(format!("CREATE USER {}", users(&long))).await.unwrap();
    let server = looked_at(&compute).await;
    assert!(server.left_out.contains("accounts"), "{:?}", server.left_out);
    assert!(server.accounts.is_empty() && server.databases.is_empty());
    assert!(!server.version.is_empty());
    boss.query_drop(format!("DROP USER {}", users(""))).await.unwrap();
    let server = looked_at(&compute).await;
    assert_eq!((server.left_out.as_str(), server.accounts.len()), ("", 1));
    drop(boss);
    compute.stop().await;
}
