//! What can go wrong in an agent, one variant per cause; every text is fit for the person who looks after the machine
//! and holds no secret.

use std::io;
use std::path::{Path, PathBuf};

/// Why a template, a clone or a compute could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server binary.
    #[error(
        "mariadbd not found (looked for {}); install it with `apt-get install mariadb-server`",
        looked_for.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoServer {
        /// Where.
        looked_for: Vec<PathBuf>,
    },
    /// Something around the server (a file, a directory, a lock, a process) failed.
    #[error("{what} {}: {source}", path.display())]
    System {
        /// What was tried: "cannot write", "cannot start".
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A tool that makes the template failed.
    #[error("{tool} failed ({status}): {said}")]
    Tool {
        /// Which.
        tool: String,
        /// How it ended.
        status: String,
        /// Its last words.
        said: String,
    },
    /// mariadbd ended before it was ready.
    #[error("mariadbd did not start ({status}): {reason}")]
    Start {
        /// How it ended.
        status: String,
        /// The last errors of its log.
        reason: String,
        /// What ended it; `None`: it ended by itself.
        signal: Option<i32>,
    },
    /// mariadbd did not greet in time.
    #[error("mariadbd did not start within {} s: {reason}", seconds)]
    Late {
        /// The time it had.
        seconds: u64,
        /// The last errors of its log.
        reason: String,
    },
    /// mariadbd does not do what the agent asks of it.
    #[error("mariadbd refuses the agent: {0}")]
    Sql(#[from] mysql_async::Error),
    /// mariadbd does not answer the agent.
    #[error("mariadbd does not answer the agent in time")]
    Silent,
    /// What it answers is of another type than it should be.
    #[error("mariadbd answers the agent with a row that cannot be read")]
    Unreadable,
    /// A value of the spec is not usable.
    #[error("the spec's {field} {problem}")]
    Spec {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// What ended the server, where a signal did.
    pub(crate) fn signal(&self) -> Option<i32> {
        match self {
            Self::Start { signal, .. } => *signal,
            _ => None,
        }
    }

    pub(crate) fn system(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::System { what, path, source }
    }
}
