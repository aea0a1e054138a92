//! A listener of one project beside the one for all: where `selkie up` says that it is, and who gets in there.

use std::process::{Command, Stdio};

use harness::client::{Endpoint, value};
use harness::{Selkie, eventually};
use mysql_async::Error;
use mysql_async::prelude::Queryable;

const SETTINGS: &str = "[[gateway.listeners]]\nlisten = \"127.0.0.1:0\"\nproject = \"demo\"\n\
    [[gateway.listeners]]\nlisten = \"127.0.0.1:0\"\nproject = \"dmo\"\n";

/// The server's code and text, the name in it aside.
async fn refusal(endpoint: &Endpoint) -> (u16, String) {
    match endpoint.try_connect().await {
        Err(Error::Server(told)) => (told.code, told.message.replace(&endpoint.user, "NAME")),
        other => panic!("{endpoint:?} was not refused: {other:?}"),
    }
}

/// What the command-line client of MariaDB is answered.
fn mariadb(endpoint: &Endpoint, sql: &str) -> String {
    let output = Command::new("mariadb")
        .args([
            "--no-defaults",
            "--protocol=tcp",
            "--skip-column-names",
            "--batch",
            "-A",
        ])
        .args(["--host", &endpoint.host, "--port", &endpoint.port.to_string()])
        .args(["--user", &endpoint.user, "--execute", sql])
        .env("MYSQL_PWD", &endpoint.password)
        .stdin(Stdio::null())
        .output()
        .expect("the mariadb client");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn a_listener_of_one_project_takes_bare_user_names_of_that_project_only() {
    let selkie = Selkie::start_with(SETTINGS).await;
    // Of the one that was mistyped, once; the demo project is there from the first start on.
    let complaint = "there is no such project; nobody gets in there until it is made";
    selkie.logs.allow(complaint);
    let log = std::fs::read_to_string(selkie.data_dir().join("logs/selkie.log")).expect("its log");
    let told: Vec<_> = log.lines().filter(|line| line.contains(complaint)).collect();
    assert!(told.len() == 1 && told[0].contains("dmo"), "{told:?}");
    let [listener, _] = selkie.up().mysql.listeners.as_slice() else {
        panic!("up.json names {} listeners", selkie.up().mysql.listeners.len())
    };
    assert_eq!(listener.project.as_deref(), Some("demo"));
    let expected = format!("{}:{}  (project demo only", listener.host, listener.port);
    // It is said once up.json is there.
    eventually("the listener is named", async || {
        let said = std::fs::read_to_string(selkie.dir().join("selkie-0.out")).expect("what it said");
        said.contains(&expected).then_some(())
    })
    .await;

    let demo = selkie.demo();
    let here = Endpoint {
        host: listener.host.clone(),
        port: listener.port,
        ..demo.with_user("demo")
    };
    // From sleep.
    assert_eq!(mariadb(&here, "SELECT CURRENT_USER()"), "demo@%");
    let mut inside = here.connect().await;
    assert_eq!(value(&mut inside, "SELECT DATABASE()").await.as_deref(), Some("demo"));

    let other = selkie.project("other").await;
    other.endpoint.connect().await;
    let unknown = refusal(&here.with_user("nobody")).await;
    assert_eq!(unknown.0, 1045);
    for name in [other.endpoint.user.as_str(), "nowhere.demo"] {
        let strays = here.with_user(name).with_password(&other.endpoint.password);
        assert_eq!(refusal(&strays).await, unknown, "{name}");
    }
    assert_eq!(other.compute().await.incarnation, 0, "a refused login wakes nobody");
    assert_eq!(
        refusal(&demo.with_user("demo")).await,
        unknown,
        "elsewhere a name needs its project"
    );

    // One statement ends another that came through the other listener.
    let mut elsewhere = demo.connect().await;
    let id = elsewhere.id();
    harness::client::run(&mut inside, &format!("KILL {id}")).await;
    eventually("the killed session's end", async || {
        elsewhere.ping().await.is_err().then_some(())
    })
    .await;
    drop(inside);
    assert_eq!(selkie.stop(), (true, Some(0)));
}
