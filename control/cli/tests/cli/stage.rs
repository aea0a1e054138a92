//! Runs the binary with an environment of its own, and a control plane that answers by script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

/// The binary, with nothing of this process's environment but what it needs to run.
pub(crate) fn selkie(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selkie"));
    command
        .args(args)
        .env_clear()
        .env("HOME", "/nowhere")
        .stdin(Stdio::null());
    command
}

/// Standard output of a command that succeeds.
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that is refused or fails says: on standard error, in one line.
pub(crate) fn fails(command: &mut Command) -> String {
    fails_with(1, command)
}

/// The same with another exit code.
pub(crate) fn fails_with(code: i32, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {said}");
    assert!(stdout.is_empty(), "{command:?}: {}", String::from_utf8_lossy(&stdout));
    assert!(
        said.starts_with("selkie: ") && said.lines().count() == 1,
        "{command:?}: {said}"
    );
    said
}

/// What a command says at a terminal at which that is typed, where it succeeds.
pub(crate) fn succeeds_at_a_terminal(command: &Command, typed: &str) -> String {
    let (code, said) = at_a_terminal(command, typed);
    assert_eq!(code, Some(0), "{command:?}: {said}");
    said
}

/// The same where it is refused.
pub(crate) fn fails_at_a_terminal(command: &Command, typed: &str) -> String {
    let (code, said) = at_a_terminal(command, typed);
    assert_eq!(code, Some(1), "{command:?}: {said}");
    said
}

/// `script` gives it a terminal, and ends as it does.
fn at_a_terminal(command: &Command, typed: &str) -> (Option<i32>, String) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).env_clear();
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let script = script.env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = script.spawn().unwrap();
    running.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Answers one request after the other, each on a connection of its own, and keeps what was asked.
pub(crate) struct ControlPlane {
    pub(crate) url: String,
    serving: JoinHandle<Vec<Request>>,
}

#[derive(Debug)]
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

impl ControlPlane {
    /// `script`: status and body of each answer.
    pub(crate) fn start(script: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            script
                .into_iter()
                .map(|(status, body)| answer(&listener, status, &body))
                .collect()
        });
        Self { url, serving }
    }

    /// What was asked, once the script is through.
    pub(crate) fn asked(self) -> Vec<Request> {
        self.serving.join().unwrap()
    }
}

fn answer(listener: &TcpListener, status: &str, body: &str) -> Request {
    let (mut connection, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let found = head
            .iter()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let mut asked = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut asked).unwrap();
    let kind = if status.starts_with('2') {
        "application/json"
    } else {
        "application/problem+json"
    };
    write!(
        connection,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    Request {
        line: head.first().unwrap().trim_end_matches(" HTTP/1.1").to_owned(),
        authorization: header("authorization"),
        body: String::from_utf8(asked).unwrap(),
    }
}
