//! SIGTERM and Ctrl-C stop everything cleanly; the next start finds the data and the password.

use std::process::{Child, Command, Stdio};

use harness::client::{run, value};
use harness::selkie::up_command;
use harness::wait::GUARD;
use harness::{Selkie, eventually, http, process};
use rustix::process::Signal;

#[tokio::test]
async fn a_stop_is_clean_and_the_next_start_has_the_same_data_and_password() {
    let mut selkie = Selkie::start().await;
    let password = selkie.up().password.clone();
    let key = selkie.up().rest.api_key.clone();
    let mut conn = selkie.demo().connect().await;
    run(&mut conn, "CREATE TABLE kept (a INT)").await;
    run(&mut conn, "INSERT INTO kept VALUES (42)").await;
    assert_eq!(selkie.servers().len(), 1);
    let waiting = selkie.demo().connect().await;

    assert_eq!(selkie.stop(), (true, Some(0)));
    assert!(selkie.servers().is_empty(), "computes stop with it");
    let left = harness::process::of_directory(&selkie.data_dir());
    assert!(left.is_empty(), "still running: {left:?}");
    drop((conn, waiting));

    selkie.restart().await;
    assert_eq!(selkie.up().password, password);
    assert_eq!(selkie.up().rest.api_key, key);
    assert!(selkie.servers().is_empty(), "nothing wakes by itself");
    let mut conn = selkie.demo().connect().await;
    assert_eq!(value(&mut conn, "SELECT a FROM kept").await.as_deref(), Some("42"));
    drop(conn);

    selkie.signal(Signal::INT);
    assert!(
        harness::process::wait_for_exit(selkie.pid(), std::time::Duration::from_secs(40)),
        "Ctrl-C ends it"
    );
    let log = selkie.logs.text();
    assert!(
        !log.contains("[Note] InnoDB: Starting crash recovery"),
        "mariadbd was not stopped cleanly:\n{log}"
    );
}

#[tokio::test]
async fn the_exit_code_tells_of_transactions_that_were_cut() {
    let selkie = Selkie::start_with("gateway.drain_timeout = \"200ms\"\n").await;
    let mut raw = harness::Raw::login(&selkie.demo()).await;
    raw.query("CREATE TABLE kept (a INT)").await.ok();
    raw.query("BEGIN").await.ok();
    raw.query("INSERT INTO kept VALUES (1)").await.ok();
    assert_eq!(selkie.stop(), (true, Some(5)));
    let left = raw.ends().await;
    assert_eq!(left.last().and_then(|packet| packet.error()), Some(1053), "{left:?}");
    assert!(selkie.servers().is_empty(), "computes stop with it");
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_query_gets_its_answer_or_a_reason() {
    let selkie = Selkie::start().await;
    let endpoint = selkie.demo();
    let mut raw = harness::Raw::login(&endpoint).await;
    raw.query("SELECT 1").await.ok();
    raw.command(0x03, b"SELECT SLEEP(1), 'answered'").await;
    let mut other = harness::Raw::login(&endpoint).await;
    let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'";
    harness::eventually("the query runs", async || {
        (other.query(running).await.ok().text() == "1").then_some(())
    })
    .await;
    selkie.signal(Signal::TERM);
    let seen = raw.ends().await;
    let answered = seen.iter().any(|packet| packet.payload.ends_with(b"answered"));
    let told = seen.last().is_some_and(|packet| packet.error().is_some());
    assert!(answered || told, "{seen:?}");
    assert!(harness::process::wait_for_exit(
        selkie.pid(),
        std::time::Duration::from_secs(40)
    ));
}

/// `selkie up` in a terminal of its own, by an `env` that says what SIGHUP is to it, whatever it is to these tests; its process
/// id, and who holds the terminal. It says all that it has to say there, too.
async fn up_in_terminal(selkie: &Selkie, env: &str) -> (u32, Child) {
    let up = up_command(selkie.dir());
    let words: Vec<_> = std::iter::once(up.get_program()).chain(up.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let terminal = Command::new("script")
        .args(["-q", "-c"])
        .arg(format!("exec env {env} {} --log info", words.join(" ")))
        .arg("/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script, of bsdutils");
    eventually("it is ready", async || {
        (http::status(&format!("{}/readyz", selkie.gateway_http())).await == Some(200)).then_some(())
    })
    .await;
    let all = process::of_directory(&selkie.data_dir());
    let is_up =
        |pid: &&u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"\0info\0"));
    let pid = process::running(&all, "selkie").iter().find(is_up).copied();
    (pid.expect("it runs"), terminal)
}

/// As its window does; the kernel tells who ran in there.
fn close(mut terminal: Child) {
    terminal.kill().expect("it held the terminal");
    terminal.wait().expect("it held the terminal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_is_closed_ends_it_cleanly_and_with_nohup_it_serves_on() {
    let selkie = Selkie::start().await;
    let mut conn = selkie.demo().connect().await;
    run(&mut conn, "CREATE TABLE kept (a INT)").await;
    run(&mut conn, "INSERT INTO kept VALUES (42)").await;
    drop(conn);
    selkie.stop();

    let (pid, terminal) = up_in_terminal(&selkie, "--default-signal=HUP").await;
    let mut conn = selkie.demo().connect().await;
    assert_eq!(value(&mut conn, "SELECT a FROM kept").await.as_deref(), Some("42"));
    close(terminal);
    assert!(process::wait_for_exit(pid, GUARD), "it ends");
    let left = process::of_directory(&selkie.data_dir());
    assert!(left.is_empty(), "still running: {left:?}");
    let said = selkie.logs.text();
    assert!(said.contains("the terminal was closed: ending"), "{said}");

    let (pid, terminal) = up_in_terminal(&selkie, "--ignore-signal=HUP").await;
    close(terminal);
    eventually("it has noticed", async || {
        selkie
            .logs
            .text()
            .contains("the terminal was closed: going on")
            .then_some(())
    })
    .await;
    process::signal(pid, Signal::HUP);
    eventually("from then on a hangup asks for a reload", async || {
        selkie.logs.text().contains("settings were read anew").then_some(())
    })
    .await;
    // A wake is said by all of its parts.
    let mut conn = selkie.demo().connect().await;
    assert_eq!(value(&mut conn, "SELECT a FROM kept").await.as_deref(), Some("42"));
    drop(conn);
    process::signal(pid, Signal::TERM);
    assert!(process::wait_for_exit(pid, GUARD), "SIGTERM ends it");
    let left = process::of_directory(&selkie.data_dir());
    assert!(left.is_empty(), "still running: {left:?}");
    let log = selkie.logs.text();
    assert!(
        !log.contains("[Note] InnoDB: Starting crash recovery"),
        "mariadbd was not stopped cleanly:\n{log}"
    );
}
