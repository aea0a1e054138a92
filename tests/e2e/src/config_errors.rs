//! Settings and surroundings that cannot work: `selkie up` says which and why, and ends.

use std::net::TcpListener;

use harness::keeper::Keeper;
use harness::selkie::{up_command, write_settings};
use harness::{Selkie, cli};

/// What `selkie up` says when it ends by itself.
async fn refusal(keeper: &Keeper) -> String {
    let mut command = tokio::process::Command::from(up_command(keeper.dir()));
    let output = cli::run(&mut command).await;
    assert!(output.code.is_some_and(|code| code != 0), "it must fail: {output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    output.stderr
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    for (settings, told) in [
        ("gateway.no_such_setting = 1", &["no_such_setting"][..]),
        ("no_such_section.a = 1", &["no_such_section"]),
        ("gateway.login_timeout = \"soon\"", &["login_timeout", "soon"]),
        ("control.process.start_timeout = \"-5s\"", &["start_timeout", "-5s"]),
        ("control.process.uid_range = \"9-1\"", &["uid_range", "9-1"]),
        ("control.prices.cu_hour = \"0,16\"", &["control.prices.cu_hour", "0,16"]),
        ("control.default_size_cu = 1000000.0", &["default_size_cu", "1000000"]),
        ("gateway.max_clients = \"many\"", &["max_clients"]),
        ("this is not TOML", &["selkie.toml"]),
    ] {
        let keeper = Keeper::new("selkie-t-");
        write_settings(keeper.dir(), settings);
        let said = refusal(&keeper).await;
        for part in told {
            assert!(said.contains(part), "{settings}: {part:?} is not in\n{said}");
        }
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_before_anything_is_started() {
    for (settings, told) in [
        (
            "gateway.login_timeout = \"soon\"\ncontrol.prices.cu_hour = \"0,16\"",
            &["gateway.login_timeout", "control.prices.cu_hour"][..],
        ),
        (
            "gateway.tls.cert = \"none.pem\"\ngateway.tls.key = \"none.key\"\ncontrol.suspend.after = \"soon\"",
            &["none.pem", "control.suspend.after"],
        ),
        (
            "gateway.tls.cert = \"none.pem\"\ngateway.tls.key = \"none.key\"",
            &["none.pem"],
        ),
    ] {
        let keeper = Keeper::new("selkie-t-");
        write_settings(keeper.dir(), settings);
        let said = refusal(&keeper).await;
        let lines: Vec<_> = said.lines().filter(|line| line.starts_with("selkie: ")).collect();
        assert_eq!(lines.len(), told.len(), "{said}");
        for part in told {
            assert!(lines.iter().any(|line| line.contains(part)), "{part}: {said}");
        }
        assert_nothing_was_started(&keeper);
    }
}

fn assert_nothing_was_started(keeper: &Keeper) {
    let control = keeper.dir().join("data/control");
    assert!(
        keeper.dir().join("data").is_dir() && !control.exists(),
        "{}",
        control.display()
    );
}

#[tokio::test]
async fn a_port_that_is_given_twice_is_named() {
    let keeper = Keeper::new("selkie-t-");
    let http = format!("127.0.0.1:{}", write_settings(keeper.dir(), ""));
    let path = keeper.dir().join("selkie.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let twice: Vec<String> = text
        .lines()
        .map(|line| match line.starts_with("control.http.listen") {
            true => format!("control.http.listen = \"{http}\""),
            false => line.to_owned(),
        })
        .collect();
    std::fs::write(&path, twice.join("\n")).unwrap();
    let said = refusal(&keeper).await;
    for part in ["gateway.http.listen", "control.http.listen", http.as_str()] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_nothing_was_started(&keeper);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    for setting in [
        "gateway.listen",
        "gateway.http.listen",
        "control.http.listen",
        "control.grpc.listen",
    ] {
        let keeper = Keeper::new("selkie-t-");
        write_settings(keeper.dir(), "");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let path = keeper.dir().join("selkie.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let changed: Vec<String> = text
            .lines()
            .map(|line| {
                if line.starts_with(&format!("{setting} ")) {
                    format!("{setting} = \"{address}\"")
                } else {
                    line.into()
                }
            })
            .collect();
        std::fs::write(&path, changed.join("\n")).unwrap();
        let said = refusal(&keeper).await;
        assert!(
            said.contains(&address) && (said.contains("in use") || said.contains("listens there")),
            "{setting}:\n{said}"
        );
        if setting.starts_with("gateway.") {
            assert_nothing_was_started(&keeper);
        }
    }
}

#[tokio::test]
async fn a_second_selkie_on_the_same_data_is_refused() {
    let selkie = Selkie::shared().await;
    let keeper = Keeper::new("selkie-t-");
    write_settings(keeper.dir(), "");
    let mut command = tokio::process::Command::new(harness::selkie::binary());
    command
        .arg("up")
        .arg("--config")
        .arg(keeper.dir().join("selkie.toml"))
        .arg("--data-dir")
        .arg(selkie.data_dir());
    let output = cli::run(&mut command).await;
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(
        output.stderr.contains(&selkie.data_dir().display().to_string()),
        "{output:?}"
    );
    selkie.demo().connect().await;
}

#[tokio::test]
async fn a_missing_mariadbd_is_named() {
    let keeper = Keeper::new("selkie-t-");
    write_settings(keeper.dir(), "control.process.mariadbd = \"/no/such/mariadbd\"");
    let said = refusal(&keeper).await;
    assert!(said.contains("/no/such/mariadbd"), "{said}");
}

#[tokio::test]
async fn a_mariadbd_that_does_not_start_is_told_to_the_waiting_client() {
    let selkie = Selkie::start().await;
    let project = selkie.project("broken").await;
    let mut conn = project.endpoint.connect().await;
    harness::client::run(&mut conn, "CREATE TABLE t (a INT)").await;
    drop(conn);
    project.suspend().await;
    for file in harness::process::files_below(&selkie.data_dir(), "ibdata1") {
        if file.to_string_lossy().contains("/broken") {
            std::fs::write(file, b"not a tablespace").unwrap();
        }
    }
    for allowed in ["[ERROR]", "[Warning]", "broken"] {
        selkie.logs.allow(allowed);
    }
    let mut raw = harness::Raw::login(&project.endpoint).await;
    let answer = raw.query("SELECT 1").await;
    assert!(answer.error().is_some(), "{answer:?}");
    assert!(
        answer.error_text().to_lowercase().contains("start"),
        "the reason is told: {}",
        answer.error_text()
    );
    assert_eq!(project.compute().await.state, "failed");
    assert!(
        project.compute().await.whole["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    );
    let mut fine = selkie.demo().connect().await;
    harness::client::value(&mut fine, "SELECT 1").await;
}
