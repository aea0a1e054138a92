//! KILL through the gateway: by the ids of greetings, over other connections, as drivers and people do it.

use std::process::{Command, Stdio};

use harness::client::{Endpoint, run, value};
use harness::raw::{Kind, Packet, caps};
use harness::{Raw, Selkie, eventually, process};
use mysql_async::Conn;
use rustix::process::Signal;

use crate::oracle::same_on_both;

/// Waits for a lock of the witness's for longer than any guard.
const LONG: &str = "SET STATEMENT innodb_lock_wait_timeout=1000 FOR UPDATE locked SET a = 2";

/// A connection that holds the lock, and sees what the same user is at.
async fn witness(endpoint: &Endpoint) -> Conn {
    let mut witness = endpoint.connect().await;
    run(&mut witness, "CREATE TABLE locked (a INT)").await;
    run(&mut witness, "INSERT INTO locked VALUES (1)").await;
    run(&mut witness, "BEGIN").await;
    run(&mut witness, "DO (SELECT a FROM locked FOR UPDATE)").await;
    witness
}

/// Waits until so many of the user's threads are at the long statement.
async fn at_work(witness: &mut Conn, expected: &str) {
    let count = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = '{LONG}'");
    eventually(format_args!("{expected} at {LONG}"), async || {
        let seen = value(witness, &count).await;
        (seen.as_deref() == Some(expected)).then_some(())
    })
    .await;
}

/// The code of the one packet that answers `sql`; 0: OK.
async fn said(raw: &mut Raw, sql: &str) -> u16 {
    raw.command(0x03, sql.as_bytes()).await;
    code(&raw.packet().await)
}

fn code(packet: &Packet) -> u16 {
    packet.error().unwrap_or_default()
}

#[tokio::test]
async fn kill_query_ends_the_statement_and_nothing_else() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("kill-query").await;
    let mut witness = witness(&project.endpoint).await;
    let mut target = Raw::login(&project.endpoint).await;
    let mut killer = Raw::login(&project.endpoint).await;
    for kill in ["KILL QUERY", "kill soft query", "/* a driver's */ KILL HARD QUERY"] {
        target.query("SET @mine = 'here'").await.ok();
        target.command(0x03, LONG.as_bytes()).await;
        at_work(&mut witness, "1").await;
        let kill = format!("{kill} {}", target.greeting.thread_id);
        assert_eq!(said(&mut killer, &kill).await, 0, "{kill}");
        assert_eq!(code(&target.packet().await), 1317, "{kill}");
        assert_eq!(target.query("SELECT @mine").await.ok().text(), "here");
        // It has nothing under way now, so nothing is ended.
        assert_eq!(said(&mut killer, &kill).await, 0);
        assert_eq!(target.query("SELECT 1").await.ok().text(), "1");
        // The next one is said on a connection of the killer's own, too.
        killer.query("DO 1").await.ok();
    }
    selkie.logs.check();
}

#[tokio::test]
async fn kill_connection_ends_it_whatever_it_is_at() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("kill-connection").await;
    let mut witness = witness(&project.endpoint).await;
    let mut killer = Raw::login(&project.endpoint).await;

    let mut busy = Raw::login(&project.endpoint).await;
    busy.command(0x03, LONG.as_bytes()).await;
    at_work(&mut witness, "1").await;
    killer.command(0x0c, &busy.greeting.thread_id.to_le_bytes()).await;
    killer.response(Kind::Single).await.ok();
    assert_eq!(code(&busy.packet().await), 1927);
    assert!(busy.ends().await.is_empty());
    at_work(&mut witness, "0").await;

    let mut attached = Raw::login(&project.endpoint).await;
    attached.query("DO 1").await.ok();
    let mut detached = Raw::login(&project.endpoint).await;
    for target in [&mut attached, &mut detached] {
        assert_eq!(
            said(&mut killer, &format!("KILL {}", target.greeting.thread_id)).await,
            0
        );
        assert_eq!(code(&target.packet().await), 1927);
        assert!(target.ends().await.is_empty());
        // It is no more.
        assert_eq!(
            said(&mut killer, &format!("KILL {}", target.greeting.thread_id)).await,
            1094
        );
    }
    let own = killer.greeting.thread_id;
    assert_eq!(said(&mut killer, &format!("KILL QUERY {own}")).await, 1317);
    assert_eq!(said(&mut killer, &format!("KILL {own}")).await, 1927);
    assert!(killer.ends().await.is_empty());
    selkie.logs.check();
}

#[tokio::test]
async fn a_kill_wakes_nothing_and_reaches_no_other_project_and_no_other_user() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("kill-mine").await;
    let other = selkie.project("kill-theirs").await;
    let colleague = project.user("colleague", "a password of hers").await;
    let mut killer = Raw::login(&project.endpoint).await;
    let mut theirs = Raw::login(&other.endpoint).await;
    let mut hers = Raw::login(&colleague).await;
    let there_is_none = u32::MAX.wrapping_sub(theirs.greeting.thread_id) | 1 << 31;
    for (id, expected) in [
        (theirs.greeting.thread_id, 1094),
        (there_is_none, 1094),
        (hers.greeting.thread_id, 1095),
        (17, 1094),
    ] {
        for kill in ["KILL", "KILL QUERY"] {
            killer.command(0x03, format!("{kill} {id}").as_bytes()).await;
            let answer = killer.packet().await;
            assert_eq!(code(&answer), expected, "{kill} {id}: {answer:?}");
            let text = answer.error_text();
            assert_eq!(text.contains("Unknown thread id"), expected == 1094, "{text}");
        }
    }
    assert_eq!(said(&mut killer, "KILL QUERY ID 5").await, 1957);
    assert_eq!(said(&mut killer, "KILL USER colleague").await, 1095);
    assert_eq!(said(&mut killer, "KILL USER nobody").await, 0);
    for bystander in [&mut theirs, &mut hers] {
        bystander.command(0x0e, b"").await;
        bystander.response(Kind::Single).await.ok();
    }
    assert_eq!(project.compute().await.state, "suspended");
    assert_eq!(other.compute().await.state, "suspended");
    selkie.logs.check();
}

#[tokio::test]
async fn kill_user_ends_all_of_the_own_connections() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("kill-user").await;
    let colleague = project.user("colleague", "a password of hers").await;
    let mut witness = witness(&project.endpoint).await;
    let mut mine = Raw::login(&colleague).await;
    mine.command(0x03, LONG.as_bytes()).await;
    let mut idle = Raw::login(&colleague).await;
    let mut killer = Raw::login(&colleague).await;
    eventually("hers waits for the lock", async || {
        let count = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = '{LONG}'");
        let seen = killer.query(&count).await;
        (seen.ok().text() == "1").then_some(())
    })
    .await;
    assert_eq!(said(&mut killer, "KILL USER colleague").await, 1927);
    for ended in [&mut mine, &mut idle, &mut killer] {
        let left = ended.ends().await;
        assert!(left.iter().all(|packet| code(packet) == 1927), "{left:?}");
    }
    run(&mut witness, "COMMIT").await;
    selkie.logs.check();
}

#[tokio::test]
async fn what_the_compute_gave_out_is_the_computes_to_kill() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("kill-thread").await;
    let mut witness = witness(&project.endpoint).await;
    let mut target = Raw::login(&project.endpoint).await;
    let thread = target.query("SELECT CONNECTION_ID()").await.ok().text();
    target.command(0x03, LONG.as_bytes()).await;
    at_work(&mut witness, "1").await;
    // Once without a connection to the database, once with one.
    let mut killer = Raw::login(&project.endpoint).await;
    assert_eq!(said(&mut killer, &format!("KILL QUERY {thread}")).await, 0);
    assert_eq!(code(&target.packet().await), 1317);
    target.command(0x03, LONG.as_bytes()).await;
    at_work(&mut witness, "1").await;
    killer.query("DO 1").await.ok();
    assert_eq!(said(&mut killer, &format!("KILL QUERY {thread}")).await, 0);
    assert_eq!(code(&target.packet().await), 1317);
    selkie.logs.check();
}

#[tokio::test]
async fn a_kill_that_is_refused_leaves_what_mariadb_leaves() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("kill-refused").await;
    same_on_both(&project, caps::USUAL, async |raw| {
        let mut seen = Vec::new();
        for sql in [
            "KILL 1000000",
            "SHOW WARNINGS",
            "SELECT @@warning_count, @@error_count",
            "KILL QUERY 1000001",
            "SHOW COUNT(*) ERRORS",
            "SHOW ERRORS",
        ] {
            seen.push(raw.query(sql).await);
        }
        seen
    })
    .await;
    assert_eq!(project.compute().await.state, "suspended");
    selkie.logs.check();
}

/// The mariadb client logs in once more and says KILL QUERY with the id of the greeting.
#[tokio::test]
async fn ctrl_c_in_the_mariadb_client_ends_the_query() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("ctrl-c").await;
    let mut witness = witness(&project.endpoint).await;
    let options = selkie.dir().join("ctrl-c.cnf");
    let Endpoint {
        host,
        port,
        user,
        password,
        ..
    } = &project.endpoint;
    let text = format!("[client]\nhost={host}\nport={port}\nuser={user}\npassword=\"{password}\"\n");
    std::fs::write(&options, text).unwrap();
    let client = Command::new("mariadb")
        .arg(format!("--defaults-extra-file={}", options.display()))
        .args(["--no-auto-rehash", "--execute", LONG, &project.endpoint.database])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the mariadb client");
    at_work(&mut witness, "1").await;
    process::signal(client.id(), Signal::INT);
    at_work(&mut witness, "0").await;
    let output = tokio::task::spawn_blocking(|| client.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("1317") && said.contains("interrupted"), "{output:?}");
    selkie.logs.check();
}
