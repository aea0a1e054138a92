use std::os::unix::fs::PermissionsExt;

use agent::Error;
use control_api::agent::{Phase, StatusRequest, StopRequest};
use control_api::life::Life;
use mysql_async::prelude::Queryable;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::stage::{Stage, account};

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

#[tokio::test]
async fn a_compute_says_when_it_is_ready_what_it_holds_and_how_busy_it_is() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "a", false)];
    stage.spec.databases = vec!["app".into()];
    let compute = stage.start();
    let status = compute.reaches(Phase::Ready).await;
    assert_eq!((status.project.as_str(), status.incarnation), ("demo", 1));
    assert!(test_kill_process(pid(status.server_pid)).is_ok());
    let server = status.server.unwrap();
    assert_eq!(server.databases, ["app"]);
    assert_eq!(
        server
            .accounts
            .iter()
            .map(|account| (account.user.as_str(), account.database_patterns.as_slice()))
            .collect::<Vec<_>>(),
        [("app", &["app".to_owned()][..])]
    );

    let mut app = compute.login("app", b"a").await.unwrap();
    app.query_drop("USE app; CREATE TABLE t (a INT) ENGINE=InnoDB; BEGIN; INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let mut statuses = compute
        .agent()
        .await
        .watch(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    loop {
        let status = statuses.message().await.unwrap().unwrap();
        if status
            .activity
            .is_some_and(|activity| (activity.connections, activity.open_transactions) == (1, 1))
        {
            break;
        }
    }
    drop(app);
    compute.stop().await;
}

#[tokio::test]
async fn a_stop_is_clean_and_its_caller_hears_of_the_end() {
    let stage = Stage::new().await;
    let compute = stage.ready().await;
    let server_pid = compute.reaches(Phase::Ready).await.server_pid;
    let said = compute
        .agent()
        .await
        .stop(StopRequest { timeout_ms: 0 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (said.phase(), said.exit_was_asked_for),
        (Phase::Exited, true),
        "{}",
        said.exit
    );
    assert!(test_kill_process(pid(server_pid)).is_err(), "mariadbd still runs");
    let agent_socket = compute.spec.agent_socket();
    let exit = compute.end().await.unwrap();
    assert_eq!((exit.status.as_str(), exit.was_asked_for), ("exit status: 0", true));
    assert!(!agent_socket.exists());
    let log = std::fs::read_to_string(stage.spec.log_dir.join("mariadbd.err")).unwrap();
    assert!(log.contains("Shutdown complete"), "{log}");
    // The next start has nothing to recover.
    let compute = stage.ready().await;
    compute.stop().await;
    let log = std::fs::read_to_string(stage.spec.log_dir.join("mariadbd.err")).unwrap();
    assert!(!log.contains("crash recovery"), "{log}");
}

#[tokio::test]
async fn a_crash_is_told_as_one_and_what_was_committed_is_there_after_it() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "a", false)];
    stage.spec.databases = vec!["app".into()];
    let compute = stage.ready().await;
    let mut app = compute.login("app", b"a").await.unwrap();
    app.query_drop("CREATE TABLE app.t (a INT) ENGINE=InnoDB")
        .await
        .unwrap();
    app.query_drop("INSERT INTO app.t VALUES (42)").await.unwrap();
    let server_pid = compute.reaches(Phase::Ready).await.server_pid;
    kill_process(pid(server_pid), Signal::KILL).unwrap();
    let exit = compute.end().await.unwrap();
    assert_eq!(
        (exit.status.as_str(), exit.was_asked_for),
        ("signal: 9 (SIGKILL)", false)
    );

    let compute = stage.ready().await;
    let mut app = compute.login("app", b"a").await.unwrap();
    assert_eq!(
        app.query_first::<i32, _>("SELECT a FROM app.t").await.unwrap(),
        Some(42)
    );
    drop(app);
    compute.stop().await;
}

/// Touched or ended, in milliseconds since 1970, and what is written.
fn left(stage: &Stage) -> (i64, Life) {
    let (life, touched) = Life::read(&stage.spec.log_dir).expect("a mark of the server's life");
    (touched, life)
}

fn now() -> i64 {
    control_api::life::epoch_ms(std::time::SystemTime::now())
}

#[tokio::test]
async fn what_is_left_on_disk_tells_until_when_the_server_lived() {
    let mut stage = Stage::new().await;
    stage.spec.incarnation = 7;
    let compute = stage.ready().await;
    let (first, life) = left(&stage);
    assert_eq!((life.incarnation, life.end), (7, None), "it lives");
    let beats = async {
        while left(&stage).0 == first {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let beats = tokio::time::timeout(std::time::Duration::from_secs(60), beats).await;
    beats.expect("it is touched while the server lives");

    let server_pid = compute.reaches(Phase::Ready).await.server_pid;
    let before = now();
    kill_process(pid(server_pid), Signal::KILL).unwrap();
    compute.end().await.unwrap();
    let end = left(&stage).1.end.expect("the end is written down");
    assert!((before..=now()).contains(&end.at_ms), "{end:?}");
    assert_eq!(end.signal, Some(9));
    assert!(end.how.starts_with("signal: 9 (SIGKILL)"), "{end:?}");

    stage.ready().await.stop().await;
    let end = left(&stage).1.end.expect("also the end of a clean stop");
    assert_eq!((end.how.as_str(), end.signal), ("exit status: 0", None));
}

#[tokio::test]
async fn a_server_killed_while_it_starts_did_not_fail_by_itself() {
    let mut stage = Stage::new().await;
    // It never greets, so it is starting whenever it is killed.
    let slow = stage.spec.run_dir.with_file_name("mariadbd");
    std::fs::write(&slow, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    stage.spec.mariadbd = Some(slow);
    let compute = stage.start();
    let mut statuses = compute
        .agent()
        .await
        .watch(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let server_pid = loop {
        let status = statuses.message().await.unwrap().unwrap();
        if status.server_pid != 0 {
            break status.server_pid;
        }
    };
    kill_process(pid(server_pid), Signal::KILL).unwrap();
    let last = loop {
        let status = statuses.message().await.unwrap().unwrap();
        if status.phase() == Phase::Exited {
            break status;
        }
    };
    assert_eq!(last.exit_signal, 9, "{}", last.exit);
    let error = compute.end().await.unwrap_err();
    assert!(matches!(error, Error::Start { signal: Some(9), .. }), "{error:?}");
    assert_eq!(left(&stage).1.end.unwrap().signal, Some(9));
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let mut stage = Stage::new().await;
    stage.spec.settings.insert("no_such_setting".into(), "1".into());
    let error = stage.start().end().await.unwrap_err();
    assert!(matches!(error, Error::Start { signal: None, .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-setting"), "{error}");

    stage.spec.settings.clear();
    std::fs::write(stage.spec.data_dir.join("ibdata1"), "not a tablespace").unwrap();
    let error = stage.start().end().await.unwrap_err();
    assert!(matches!(error, Error::Start { .. }), "{error:?}");
    assert!(error.to_string().contains("ibdata1"), "{error}");

    stage.spec.mariadbd = Some("/nowhere/mariadbd".into());
    let error = stage.start().end().await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/mariadbd"), "{error}");
}

#[tokio::test]
async fn a_stop_while_it_starts_ends_it() {
    let stage = Stage::new().await;
    let compute = stage.start();
    let started = compute.reaches(Phase::Starting).await;
    assert_eq!(started.phase(), Phase::Starting);
    let exit = compute.stop().await;
    assert!(exit.was_asked_for, "{exit:?}");
    // And it is as good as before.
    stage.ready().await.stop().await;
}

/// A SIGTERM in the middle of its start hangs mariadbd until it is killed, in two of three tries of these.
#[tokio::test]
async fn a_stop_at_any_moment_of_the_start_ends_it_soon_and_cleanly() {
    let stage = Stage::new().await;
    let log = stage.spec.log_dir.join("mariadbd.err");
    // What a start says one after the other; the last two before its main thread waits for others.
    for said in [
        "Completed initialization of buffer pool",
        "log sequence number",
        "Plugin 'FEEDBACK' is disabled",
        "log sequence number",
        "Plugin 'FEEDBACK' is disabled",
        "Plugin 'FEEDBACK' is disabled",
    ] {
        let _ = std::fs::remove_file(&log);
        let compute = stage.start();
        let says = async {
            while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains(said)) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), says)
            .await
            .expect("it starts");
        let exit = tokio::time::timeout(std::time::Duration::from_secs(20), compute.stop())
            .await
            .unwrap_or_else(|_| panic!("stopped after {said:?} it does not end"));
        assert_eq!((exit.status.as_str(), exit.was_asked_for), ("exit status: 0", true));
    }
}

#[tokio::test]
async fn a_stop_of_one_that_never_greets_kills_it_when_the_asker_s_time_is_over() {
    let mut stage = Stage::new().await;
    let slow = stage.spec.run_dir.with_file_name("mariadbd");
    std::fs::write(&slow, "#!/bin/sh\ntrap '' TERM\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    stage.spec.mariadbd = Some(slow);
    let compute = stage.start();
    compute.reaches(Phase::Starting).await;
    let asked = StopRequest { timeout_ms: 200 };
    let stopped = compute.agent().await.stop(asked).await.unwrap().into_inner();
    assert_eq!((stopped.exit_signal, stopped.exit_was_asked_for), (9, true));
    compute.end().await.unwrap();
}

#[tokio::test]
async fn no_secret_is_left_in_files() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "not-to-be-found", false)];
    let compute = stage.ready().await;
    let left = |dir: &std::path::Path| {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries
            .filter(|path| path.is_file())
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect::<String>()
    };
    let text = left(&stage.spec.run_dir) + &left(&stage.spec.log_dir);
    let hash = &stage.spec.accounts[0].native_sha1_hex;
    for secret in [
        "not-to-be-found",
        &hash.to_ascii_uppercase(),
        hash,
        &stage.spec.gateway_secret_hex,
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    compute.stop().await;
}
