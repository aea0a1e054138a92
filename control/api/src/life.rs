//! What an agent leaves on disk of its server's life, for a control plane that was away when it ended: a file beside the
//! server's log, where a project's own user cannot write. It is made when the server is executed and touched every
//! [`BEAT_EVERY`]; its end is written into it. An agent that is killed takes its server with it and writes nothing: then
//! the last touch says until when both were there.

use std::{
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// The name of the file inside [`crate::spec::Spec::log_dir`].
pub const LIFE: &str = "life.json";
/// An end that nobody wrote down is known to within this; a touch is one change of an inode, which no disk has to wait for.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The life of one server, from its execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// Whose.
    pub incarnation: u64,
    /// Absent while it lives, and where its agent was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// How a server's life ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// As in `AgentStatus.exit`.
    pub how: String,
    /// The signal that ended it; absent: it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl Life {
    /// Where it is kept.
    pub fn path(log_dir: &Path) -> PathBuf {
        log_dir.join(LIFE)
    }

    /// Replaces what is there whole, so that no reader finds a part of it.
    pub fn write(&self, log_dir: &Path) -> io::Result<()> {
        let (path, new) = (Self::path(log_dir), log_dir.join(format!("{LIFE}.new")));
        // Other projects' users pass through the directory, and how a server ended is none of theirs.
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        std::fs::rename(new, path)
    }

    /// What was left there, and when it was touched last, in milliseconds since 1970. `None`: nothing that can be read.
    pub fn read(log_dir: &Path) -> Option<(Self, i64)> {
        let path = Self::path(log_dir);
        let life = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let touched = std::fs::metadata(&path).and_then(|file| file.modified()).ok()?;
        Some((life, epoch_ms(touched)))
    }
}

/// Milliseconds since 1970, UTC.
pub fn epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
