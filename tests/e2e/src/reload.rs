//! Other settings for a Selkie that runs: by SIGHUP and by REST, with nobody dropped.

use std::path::PathBuf;

use harness::client::value;
use harness::http::{self, Response};
use harness::wait::guarded;
use harness::{Selkie, eventually};
use mysql_async::prelude::Queryable;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

fn file(selkie: &Selkie) -> PathBuf {
    selkie.dir().join("selkie.toml")
}

fn written(selkie: &Selkie) -> String {
    std::fs::read_to_string(file(selkie)).expect("the settings")
}

fn write(selkie: &Selkie, settings: &str) {
    std::fs::write(file(selkie), settings).expect("the settings");
}

async fn reload(selkie: &Selkie, token: Option<&str>) -> Response {
    http::request("POST", &format!("{}/reload", selkie.gateway_http()), token, None).await
}

fn token(selkie: &Selkie) -> String {
    let file = selkie.data_dir().join("control/gateway.token");
    std::fs::read_to_string(file)
        .expect("the gateways' token")
        .trim()
        .to_owned()
}

/// The error that a client is met with before it has said anything; 0: it is greeted.
async fn met_with(selkie: &Selkie) -> u16 {
    let mysql = &selkie.up().mysql;
    let mut tcp = TcpStream::connect((mysql.host.as_str(), mysql.port))
        .await
        .expect("a connection");
    let mut packet = [0; 7];
    guarded("the first packet", tcp.read_exact(&mut packet))
        .await
        .expect("a first packet");
    match packet {
        [_, _, _, _, 0xff, low, high] => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}

#[tokio::test]
async fn sighup_takes_other_settings_with_nobody_dropped_and_refuses_bad_ones() {
    let selkie = Selkie::start().await;
    let at_first = written(&selkie);
    let mut session = selkie.demo().connect().await;
    session
        .query_drop("SET @kept = 42")
        .await
        .expect("a session with something to lose");
    assert_eq!(met_with(&selkie).await, 0);

    write(&selkie, &format!("{at_first}gateway.max_clients = 1\n"));
    selkie.signal(Signal::HUP);
    eventually("one client is the bound", async || {
        (met_with(&selkie).await == 1040).then_some(())
    })
    .await;
    assert_eq!(value(&mut session, "SELECT @kept").await.as_deref(), Some("42"));

    // A key that is none: nothing of the file is taken, and the log says which it is.
    selkie
        .logs
        .allow("the gateway's settings cannot be used; the old ones stay");
    write(
        &selkie,
        &format!("{at_first}gateway.max_clients = 9\ngateway.max_client = 9\n"),
    );
    selkie.signal(Signal::HUP);
    let line = eventually("word of it", async || {
        let log = selkie.logs.text();
        log.lines()
            .find(|line| line.contains("the old ones stay"))
            .map(str::to_owned)
    })
    .await;
    assert!(line.contains("max_client") && line.contains("selkie.toml"), "{line}");
    assert_eq!(met_with(&selkie).await, 1040, "the old bound");
    assert_eq!(value(&mut session, "SELECT @kept").await.as_deref(), Some("42"));
}

#[tokio::test]
async fn rest_tells_what_is_taken_what_waits_for_a_restart_and_what_is_wrong() {
    let selkie = Selkie::start().await;
    let at_first = written(&selkie);
    assert_eq!(reload(&selkie, None).await.status, 401);
    assert_eq!(reload(&selkie, Some("wrong")).await.status, 401);
    let key = selkie.up().rest.api_key.clone();
    assert_eq!(
        reload(&selkie, Some(&key)).await.status,
        401,
        "a key of control's is no gateway's token"
    );
    let token = token(&selkie);
    let unchanged = reload(&selkie, Some(&token)).await;
    assert_eq!(unchanged.status, 200, "{unchanged:?}");
    assert_eq!(unchanged.json(), serde_json::json!({"taken": [], "needs_restart": []}));

    let more = "gateway.drain_timeout = \"3s\"\ngateway.threads = 1\ncontrol.suspend.after = \"7m\"\n";
    write(&selkie, &format!("{at_first}{more}"));
    let expected = serde_json::json!({
        "taken": ["gateway.drain_timeout"],
        "needs_restart": ["gateway.threads", "control.suspend.after"],
    });
    assert_eq!(reload(&selkie, Some(&token)).await.json(), expected);

    selkie
        .logs
        .allow("the gateway's settings cannot be used; the old ones stay");
    for (line, told) in [
        ("gateway.drain_timeout = \"soon\"", "gateway.drain_timeout"),
        (
            "gateway.tls.cert = \"/nowhere.pem\"\ngateway.tls.key = \"/nowhere.key\"",
            "/nowhere",
        ),
        ("control.suspend.after = \"soon\"", "suspend.after"),
        ("gateway.listen", "selkie.toml"),
    ] {
        write(&selkie, &format!("{at_first}{line}\n"));
        let refused = reload(&selkie, Some(&token)).await;
        assert_eq!(refused.status, 422, "{line}: {refused:?}");
        assert!(refused.body.contains(told), "{line}: {}", refused.body);
    }
    let mut session = selkie.demo().connect().await;
    assert_eq!(value(&mut session, "SELECT 1").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn what_clients_are_told_follows_the_certificate() {
    let selkie = Selkie::start().await;
    let at_first = written(&selkie);
    let made = tempfile::tempdir().expect("a directory");
    // Any that is for this machine does.
    crate::services_tls::certificates(made.path());
    let token = token(&selkie);
    let told = || {
        let read = |name: &str| std::fs::read_to_string(selkie.data_dir().join(name)).expect("a file");
        let up: serde_json::Value = serde_json::from_str(&read("up.json")).expect("JSON");
        (up["mysql"]["ca"].is_string(), read("demo.cnf").contains("ssl-ca="))
    };
    let query = async || {
        let mut command = tokio::process::Command::new("mariadb");
        let file = selkie.data_dir().join("demo.cnf");
        command.arg(format!("--defaults-extra-file={}", file.display()));
        command.args(["-A", "-N", "-e", "SELECT 41 + 1"]);
        assert_eq!(harness::cli::run(&mut command).await.ok().trim(), "42");
    };
    assert_eq!(told(), (true, true));
    query().await;
    let [cert, key] = ["control.pem", "control.key"].map(|name| made.path().join(name).display().to_string());
    write(
        &selkie,
        &format!("{at_first}gateway.tls.cert = \"{cert}\"\ngateway.tls.key = \"{key}\"\n"),
    );
    assert_eq!(reload(&selkie, Some(&token)).await.status, 200);
    assert_eq!(
        told(),
        (false, false),
        "nobody knows who signs an operator's certificates"
    );
    query().await;
    write(&selkie, &at_first);
    assert_eq!(reload(&selkie, Some(&token)).await.status, 200);
    assert_eq!(told(), (true, true));
    query().await;
}
