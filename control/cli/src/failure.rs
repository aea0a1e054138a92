//! What a person is told when something did not work: one line, what and where, and what to do.

use std::fmt::Display;

/// An error on its way to the terminal.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn of(what: impl Display, error: impl Display) -> Self {
        Self(format!("{what}: {error}"))
    }

    pub(crate) fn say(&self) {
        #[allow(clippy::print_stderr, reason = "this is the command line")]
        {
            eprintln!("selkie: {}", self.0);
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
