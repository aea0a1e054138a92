//! No secret stands in a log, a command line, an environment or a copy of the state, also where everything is logged. What runs at the default
//! filter is looked through by each test's `logs.check()`; here it is the whole life of a user, at `trace`.

use harness::client::{error_code, run, value};
use harness::raw::{Login, Plugin};
use harness::{Raw, Selkie, eventually, secrets};
use serde_json::json;

#[tokio::test]
async fn nothing_is_told_of_a_secret_when_everything_is_logged() {
    let selkie = Selkie::start_logging("", Some("trace")).await;
    let project = selkie.project("traced").await;
    let admin = project.admin("boss", "a boss's \"secret\" word").await;

    // Refused, and let in by each exchange, asleep and awake.
    assert_eq!(
        error_code(admin.with_password("a wrong guess").try_connect().await),
        1045
    );
    secrets::password("a stranger", "a wrong guess");
    for plugin in [Plugin::Native, Plugin::CachingSha2, Plugin::CachingSha2Empty] {
        let login = Login {
            plugin,
            ..Login::default()
        };
        Raw::login_with(&admin, login).await;
    }
    let mut conn = admin.connect().await;
    assert_eq!(value(&mut conn, "SELECT 1").await.as_deref(), Some("1"));

    // Made and changed in SQL, by the API, and by the command line, which makes a password up.
    secrets::password("ann", "word of ann's choice");
    secrets::password("ann", "another of her words");
    run(&mut conn, "CREATE USER ann IDENTIFIED BY 'word of ann''s choice'").await;
    run(&mut conn, "ALTER USER ann IDENTIFIED BY 'another of her words'").await;
    let path = format!("/projects/{}/users/boss", project.id);
    let changed = selkie
        .rest("PATCH", &path, Some(&json!({"password": "the boss's next word"})))
        .await;
    assert_eq!(changed.status, 200, "{changed:?}");
    selkie
        .cli(&["user", "create", &project.id, "made-up", "--json"])
        .await
        .json();
    selkie
        .cli(&["key", "create", "for-reading", "--scope", "read-only", "--json"])
        .await
        .json();

    // KILL, and the sleep and the wake that give the gateway another secret.
    let admin = admin.with_password("the boss's next word");
    let (mut killer, mut target) = (admin.connect().await, Raw::login(&admin).await);
    target.command(0x03, b"DO SLEEP(1000)").await;
    let sleeping = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'DO SLEEP(1000)'";
    eventually("the statement runs", async || {
        let seen = value(&mut killer, sleeping).await;
        (seen.as_deref() == Some("1")).then_some(())
    })
    .await;
    run(&mut killer, &format!("KILL QUERY {}", target.greeting.thread_id)).await;
    target.packet().await;
    secrets::of_data_dir(&selkie.data_dir());
    project.suspend().await;
    assert_eq!(value(&mut killer, "SELECT 2").await.as_deref(), Some("2"));

    // Who has a copy of the state and not its keys: the database, and the log of what was written to it.
    let state = selkie.data_dir().join("control/control.sqlite");
    for kind in ["", "-wal"] {
        let mut file = state.clone().into_os_string();
        file.push(kind);
        let copy = std::fs::read(&file).expect("a file of the state");
        assert!(!copy.is_empty(), "{file:?}");
        assert_eq!(secrets::found_in(&copy), [""; 0], "in {file:?}");
    }

    let log = selkie.logs.text();
    assert!(
        log.contains("TRACE") && log.contains("DEBUG"),
        "not everything is logged"
    );
    selkie.logs.check();
}
