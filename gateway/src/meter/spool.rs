//! Closed windows on disk, until control has them: a file each, written beside and renamed, so that it is whole or not
//! there. Bounded: when it is full the oldest goes, loudly.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use control_api::control::UsageWindow;
use prost::Message;

use super::rows::{sync_dir, with_suffix};

const SUFFIX: &str = "window";

/// See the head of this file.
pub(super) struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    /// Lengths by sequence.
    files: BTreeMap<u64, u64>,
    bytes: u64,
    /// Windows that were thrown away.
    pub(super) dropped: u64,
}

impl Spool {
    pub(super) fn open(dir: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let path = entry.path();
            let sequence = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let Some(sequence) = sequence
                && path.extension().is_some_and(|extension| extension == SUFFIX)
            {
                files.insert(sequence, entry.metadata()?.len());
            }
        }
        let bytes = files.values().sum();
        Ok(Self {
            dir,
            bytes_max,
            files,
            bytes,
            dropped: 0,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(format!("{sequence:020}.{SUFFIX}"))
    }

    /// The window is on disk when this returns.
    pub(super) fn append(&mut self, window: &UsageWindow) -> io::Result<()> {
        let path = self.path(window.sequence);
        let bytes = window.encode_to_vec();
        write_whole(&path, &bytes)?;
        self.files.insert(window.sequence, bytes.len() as u64);
        self.bytes += bytes.len() as u64;
        while self.bytes > self.bytes_max && self.files.len() > 1 {
            let Some((&oldest, _)) = self.files.first_key_value() else {
                break;
            };
            self.remove(oldest)?;
            self.dropped += 1;
            tracing::error!(
                sequence = oldest,
                "usage: the spool is full and control does not take it; the oldest window is thrown away"
            );
        }
        Ok(())
    }

    /// The oldest windows, up to `bytes_max` of them together, but one at least. What cannot be read is put aside.
    pub(super) fn oldest(&mut self, bytes_max: u64) -> Vec<UsageWindow> {
        let mut windows = Vec::new();
        let mut bytes = 0;
        for (sequence, len) in self.files.clone() {
            bytes += len;
            if bytes > bytes_max && !windows.is_empty() {
                break;
            }
            match self.read(sequence) {
                Ok(window) => windows.push(window),
                Err(error) => {
                    let path = self.path(sequence);
                    tracing::error!(path = %path.display(), %error, "usage: a window cannot be read; it is put aside");
                    // Where that fails, too, it is met again at the next start.
                    let _ = std::fs::rename(&path, with_suffix(&path, "unreadable"));
                    self.forget(sequence);
                    self.dropped += 1;
                }
            }
        }
        windows
    }

    /// Windows after that one.
    pub(super) fn after(&self, sequence: u64) -> io::Result<Vec<UsageWindow>> {
        let later = self.files.range(sequence.saturating_add(1)..);
        later.map(|(sequence, _)| self.read(*sequence)).collect()
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.files.last_key_value().map(|(sequence, _)| *sequence)
    }

    fn read(&self, sequence: u64) -> io::Result<UsageWindow> {
        let bytes = std::fs::read(self.path(sequence))?;
        UsageWindow::decode(bytes.as_slice()).map_err(io::Error::other)
    }

    /// Control has it.
    pub(super) fn remove(&mut self, sequence: u64) -> io::Result<()> {
        match std::fs::remove_file(self.path(sequence)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.forget(sequence);
        Ok(())
    }

    fn forget(&mut self, sequence: u64) {
        self.bytes -= self.files.remove(&sequence).unwrap_or_default();
    }
}

/// The file holds all of it, on disk, or is not there.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, "new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_dir(path.parent().unwrap_or(path))
}
