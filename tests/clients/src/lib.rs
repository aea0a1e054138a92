//! Runs the client programs of this directory, each a folder with a real driver, and holds them to one contract.
//!
//! A program takes HOST, PORT, USER, PASSWORD, DATABASE (and OTHER_USER, OTHER_PASSWORD, CA, OTHER_CA) from its environment, logs
//! in, prints `connected`, waits for a line, and then prints one line per check: `ok NAME` or `not ok NAME: why`. Between
//! `connected` and that line the database must still sleep.

pub mod contract;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use harness::wait::guarded;
use harness::{Direct, Endpoint, Project, Selkie};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// Every driver does these.
const EVERY_DRIVER: [&str; 4] = ["wake_by_first_query", "transaction", "errors", "blob_20mb"];

/// Where a driver's program logs in.
#[derive(Debug)]
pub enum Target {
    /// A project of the shared Selkie.
    Gateway {
        /// The project.
        project: Project<'static>,
        /// Its second user.
        other: Endpoint,
    },
    /// A `mariadbd` without a gateway, to prove the program itself: with `CLIENTS_DIRECT` set.
    Direct {
        /// The server.
        server: Direct,
        /// Its user.
        user: Endpoint,
        /// Its second user.
        other: Endpoint,
    },
}

impl Target {
    /// One for the driver `name`.
    pub async fn of(name: &str) -> Self {
        if std::env::var_os("CLIENTS_DIRECT").is_some() {
            let server = Direct::start().await;
            let (user, other) = (server.account("app"), server.account("other"));
            server.sql("GRANT ALL ON app.* TO other@`%`");
            return Self::Direct { server, user, other };
        }
        let project = Selkie::shared().await.project(name).await;
        let other = project.user("other", "another password").await;
        Self::Gateway { project, other }
    }

    /// How the first user logs in.
    pub fn user(&self) -> &Endpoint {
        match self {
            Self::Gateway { project, .. } => &project.endpoint,
            Self::Direct { user, .. } => user,
        }
    }

    /// How the second user logs in.
    pub fn other(&self) -> &Endpoint {
        match self {
            Self::Gateway { other, .. } | Self::Direct { other, .. } => other,
        }
    }

    /// Puts the database to sleep if it is awake.
    pub async fn sleep(&self) {
        if let Self::Gateway { project, .. } = self
            && project.compute().await.state != "suspended"
        {
            project.suspend().await;
        }
    }

    /// Fails unless the database sleeps.
    pub async fn assert_asleep(&self) {
        if let Self::Gateway { project, .. } = self {
            let compute = project.compute().await;
            assert_eq!(compute.state, "suspended", "logging in woke it: {}", compute.whole);
        }
    }

    /// Fails when anything unexpected stands in a log.
    pub async fn check_logs(&self) {
        if let Self::Gateway { .. } = self {
            Selkie::shared().await.logs.check();
        }
    }
}

/// This directory.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `tests/install what...` prints: the path of something installed.
pub fn installed(what: &[&str]) -> PathBuf {
    let done = std::process::Command::new(folder().join("../install"))
        .args(what)
        .output()
        .expect("tests/install");
    assert!(
        done.status.success(),
        "tests/install {what:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    PathBuf::from(String::from_utf8_lossy(&done.stdout).trim())
}

/// Runs the driver's program against a sleeping database; all of its checks, among them `names`, must be ok.
pub async fn holds_to_the_contract(driver: &str, mut program: Command, names: &[&str]) {
    let target = Target::of(driver).await;
    target.sleep().await;
    give(&mut program, target.user(), target.other());
    let lines = guarded(driver, conversation(&mut program, &target)).await;
    let bad: Vec<_> = lines.iter().filter(|line| !line.starts_with("ok ")).collect();
    assert!(bad.is_empty(), "{driver}: {bad:#?}");
    let has_tls = target.user().ca.is_some();
    let asked = EVERY_DRIVER.iter().chain(names);
    for name in asked.filter(|name| has_tls || !name.starts_with("tls")) {
        assert!(
            lines.iter().any(|line| line[3..] == **name),
            "{driver} did not do {name}: {lines:?}"
        );
    }
    target.check_logs().await;
}

/// Sets what a program takes from its environment.
pub fn give(program: &mut Command, user: &Endpoint, other: &Endpoint) {
    program
        .env("HOST", &user.host)
        .env("PORT", user.port.to_string())
        .env("USER", &user.user)
        .env("PASSWORD", &user.password)
        .env("DATABASE", &user.database)
        .env("OTHER_USER", &other.user)
        .env("OTHER_PASSWORD", &other.password);
    match &user.ca {
        Some(ca) => program.env("CA", ca).env("OTHER_CA", folder().join("other_ca.pem")),
        None => program.env_remove("CA").env_remove("OTHER_CA"),
    };
}

/// The program's lines after `connected`.
async fn conversation(program: &mut Command, target: &Target) -> Vec<String> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|why| panic!("{program:?}: {why}"));
    let mut input = child.stdin.take().expect("the program's input");
    let mut output = BufReader::new(child.stdout.take().expect("the program's output")).lines();
    let mut lines = Vec::new();
    while let Some(line) = output.next_line().await.expect("a line of the program") {
        if line == "connected" {
            target.assert_asleep().await;
            input.write_all(b"go\n").await.expect("telling the program to go on");
        } else {
            lines.push(line);
        }
    }
    let status = child.wait().await.expect("the program's end");
    let all_ok = lines.iter().all(|line| line.starts_with("ok "));
    assert!(
        status.success() || !all_ok,
        "the program ended with {status}; {lines:?}"
    );
    lines
}

/// A client option file for `endpoint`, readable by this user only and gone when dropped: no password on a command line.
pub fn option_file(endpoint: &Endpoint) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".cnf").expect("an option file");
    let Endpoint {
        host,
        port,
        user,
        password,
        ..
    } = endpoint;
    write!(
        file,
        "[client]\nhost={host}\nport={port}\nuser={user}\npassword=\"{password}\"\nprotocol=tcp\n"
    )
    .expect("writing an option file");
    file
}
