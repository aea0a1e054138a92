//! Reads the logs of everything that ran and finds what somebody must look at.
//!
//! A line of level ERROR or WARN (of Selkie's services, its agents, or a mariadbd) that no test announced fails the test
//! that sees it. Announcements are parts of lines and hold until the process ends. A secret in any line, or in the command
//! line or environment of a process, fails it too, and cannot be announced.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::secrets;

/// The longest form of one: 256 bytes of password, escaped.
const SECRET_BYTES_MAX: usize = 2048;

/// Reads every log below a directory, each line once.
#[derive(Debug)]
pub struct Logs {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    read_bytes: HashMap<PathBuf, usize>,
    /// Up to where each was searched, and for how many secrets.
    searched: HashMap<PathBuf, (usize, usize)>,
    allowed: Vec<String>,
}

impl Logs {
    /// Of the `*.log` and `*.err` files below `dir`.
    pub fn of(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Announces lines that contain every one of `parts`.
    pub fn allow(&self, parts: &str) {
        self.state.lock().expect("the log state").allowed.push(parts.to_owned());
    }

    /// Lines since the last call that someone must look at and that nobody announced.
    pub fn unexpected(&self) -> Vec<String> {
        let mut state = self.state.lock().expect("the log state");
        let mut found = Vec::new();
        for file in log_files(&self.dir) {
            let Ok(bytes) = fs::read(&file) else { continue };
            let start = state.read_bytes.get(&file).copied().unwrap_or(0).min(bytes.len());
            // A line that is still being written is read next time.
            let end = bytes
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(start, |at| at + 1)
                .max(start);
            state.read_bytes.insert(file.clone(), end);
            let text = String::from_utf8_lossy(&bytes[start..end]).into_owned();
            let bad = text
                .lines()
                .filter(|line| is_bad(line) && !is_allowed(line, &state.allowed));
            found.extend(bad.map(|line| format!("{}: {line}", file.display())));
        }
        found
    }

    /// Secrets that stand in the logs or with the processes, each with where it is.
    pub fn secrets(&self) -> Vec<String> {
        secrets::of_data_dir(&self.dir.join("data"));
        let count = secrets::count();
        let mut state = self.state.lock().expect("the log state");
        let mut found = secrets::found_in_processes(&self.dir);
        for file in log_files(&self.dir) {
            let Ok(bytes) = fs::read(&file) else { continue };
            let before = state.searched.insert(file.clone(), (bytes.len(), count));
            // Whole when more are known by now; else what is new, and what a secret could have begun in.
            let start = match before {
                Some((end, known)) if known == count => end.saturating_sub(SECRET_BYTES_MAX).min(bytes.len()),
                _ => 0,
            };
            let names = secrets::found_in(&bytes[start..]);
            found.extend(names.into_iter().map(|name| format!("{}: {name}", file.display())));
        }
        found
    }

    /// Fails when [`Logs::unexpected`] or [`Logs::secrets`] finds anything.
    pub fn check(&self) {
        let secrets = self.secrets();
        assert!(secrets.is_empty(), "secrets can be read:\n{}", secrets.join("\n"));
        let lines = self.unexpected();
        assert!(lines.is_empty(), "unexpected lines in the logs:\n{}", lines.join("\n"));
    }

    /// All text of all logs, for messages and for tests that look for what must not be there.
    pub fn text(&self) -> String {
        log_files(&self.dir)
            .iter()
            .filter_map(|file| fs::read(file).ok())
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .collect()
    }
}

fn is_allowed(line: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|part| line.contains(part.as_str()))
}

/// Whether a line is of level WARN or ERROR, in the forms of tracing (text, JSON) and of mariadbd; a panic counts too.
fn is_bad(line: &str) -> bool {
    const BAD: [&str; 9] = [
        " WARN ",
        " ERROR ",
        "\"WARN\"",
        "\"ERROR\"",
        "[Warning]",
        "[ERROR]",
        "panicked at",
        "[Note] InnoDB: Assertion",
        "got signal",
    ];
    BAD.iter().any(|mark| line.contains(mark)) || line.starts_with("WARN ") || line.starts_with("ERROR ")
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(log_files(&path));
        } else if path.extension().is_some_and(|kind| kind == "log" || kind == "err") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_warnings_once_and_not_those_announced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b.log");
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(
            &file,
            "t INFO fine\nt  WARN gateway: odd\nt [Warning] slow\nt ERROR half a li",
        )
        .unwrap();
        let logs = Logs::of(dir.path());
        logs.allow("slow");
        assert_eq!(logs.unexpected(), [format!("{}: t  WARN gateway: odd", file.display())]);
        assert!(logs.unexpected().is_empty());
        fs::write(
            &file,
            "t INFO fine\nt  WARN gateway: odd\nt [Warning] slow\nt ERROR half a line\n",
        )
        .unwrap();
        assert_eq!(logs.unexpected(), [format!("{}: t ERROR half a line", file.display())]);
    }
}
