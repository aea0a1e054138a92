//! Runs a program to its end and keeps what it said.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::secrets;
use crate::wait::guarded;

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Fails unless the program succeeded; its standard output.
    pub fn ok(self) -> String {
        assert!(
            self.code == Some(0),
            "exit code {:?}\n{}\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// Standard output as JSON, of a program that succeeded.
    pub fn json(self) -> Value {
        let text = self.ok();
        let value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("not JSON ({why}): {text}"));
        secrets::of_json("the command line", &value);
        value
    }
}

/// Runs `command` with nothing on its standard input.
pub async fn run(command: &mut Command) -> Output {
    let what = format!("{command:?}");
    let done = guarded(&what, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let done = done.unwrap_or_else(|why| panic!("{what}: {why}"));
    Output {
        code: done.status.code(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}
