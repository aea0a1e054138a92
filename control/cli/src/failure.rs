//! What a person is told when something did not work: one line, what and where, and what to do; and what a script is told,
//! by the exit code.

use std::{fmt::Display, io::Write, process::ExitCode};

/// An error on its way to the terminal.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    kind: Kind,
}

/// The exit code; 2 is a wrong command line, which clap tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Refused, or not done.
    Failed = 1,
    /// The control plane is not there or cannot do it now: trying again later may help.
    Unavailable = 3,
    /// There is no such thing.
    NotFound = 4,
    /// A service was stopped as asked, and ended sessions of clients in the middle of a command or a transaction.
    Cut = 5,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::of_kind(Kind::Failed, text)
    }

    pub(crate) fn of_kind(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            kind,
        }
    }

    pub(crate) fn of(what: impl Display, error: impl Display) -> Self {
        Self::new(format!("{what}: {error}"))
    }

    /// A line for each.
    pub(crate) fn of_all(texts: &[String]) -> Self {
        Self::new(texts.join("\nselkie: "))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn say(&self) {
        // Where nobody is there to read it, the exit code still tells.
        let _ = writeln!(std::io::stderr(), "selkie: {}", self.text);
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}
