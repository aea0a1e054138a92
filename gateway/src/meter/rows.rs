//! Counters in a file that is mapped into memory: a process that is killed leaves them there, to the last increment.
//!
//! The file is an array of 64-bit words in rows of [`ROW_WORDS`]. The first row is the head. Every other belongs to one
//! project on one thread, or to nobody: its name and when it was made, its counters, which only grow, and two banks of what was already put into
//! windows. The head's count of closed windows tells which bank holds, so that one store closes a window for all rows.
//! What a power cut leaves is as old as the last [`Cells::sync`], and in order: banks first, then the count.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use memmap2::MmapRaw;

/// What is counted of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    Select,
    Insert,
    Update,
    Delete,
    Ddl,
    Other,
    Rows,
    BytesOut,
    BytesIn,
    Logins,
    LoginsFailed,
    AttachedUs,
    WakesQuery,
    WakesPrepare,
    WakesExecute,
    WakesOther,
}

/// How many there are.
pub(crate) const COUNTERS: usize = 16;
/// By [`Counter`].
pub(crate) type Counts = [u64; COUNTERS];

/// 512 bytes: counters of two threads never share a cache line, and a row never two sectors.
const ROW_WORDS: usize = 64;
/// 4 MiB. Projects that this many threads serve within one window; what comes above lives in memory only.
pub(super) const ROWS: usize = 8192;
/// A project's id is 40 bytes at most; the first byte is its length.
const NAME_WORDS: usize = 6;
const NAME_BYTES_MAX: usize = NAME_WORDS * 8 - 1;
/// When the project was made, milliseconds since 1970; 0: not known, as in files of gateways that did not ask.
const CREATED: usize = NAME_WORDS;
const LIVE: usize = 8;
const BANKS: [usize; 2] = [LIVE + COUNTERS, LIVE + 2 * COUNTERS];
/// "selkieU1"; another layout gets another.
const MAGIC: u64 = u64::from_be_bytes(*b"selkieU1");

/// Words of the head.
mod head {
    pub(super) const MAGIC: usize = 0;
    /// Windows that were closed: the sequence of the last one.
    pub(super) const CLOSED: usize = 1;
    /// Where the open window begins, milliseconds since 1970.
    pub(super) const BEGAN_MS: usize = 2;
}

enum Words {
    Mapped {
        map: MmapRaw,
        file: File,
    },
    /// For rows that the file has no place for.
    Memory(Box<[AtomicU64]>),
}

/// The array.
pub(super) struct Cells(Words);

impl Cells {
    /// A new file with nothing counted, in the place of whatever is there. `closed` windows were closed before.
    pub(super) fn create(path: &Path, closed: u64, began_ms: i64) -> io::Result<Self> {
        let new = with_suffix(path, "new");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        // Written, not only made long: a page that the disk has no place for when it is touched kills the process.
        for _ in 0..ROWS {
            file.write_all(&[0; ROW_WORDS * 8])?;
        }
        let cells = Self(Words::Mapped {
            map: MmapRaw::map_raw(&file)?,
            file,
        });
        cells.set_began_ms(began_ms);
        cells.words()[head::CLOSED].store(closed, Relaxed);
        cells.words()[head::MAGIC].store(MAGIC, Release);
        cells.sync()?;
        std::fs::rename(&new, path)?;
        sync_dir(path.parent().unwrap_or(path))?;
        Ok(cells)
    }

    /// A head and one row.
    fn in_memory() -> Self {
        Self(Words::Memory((0..2 * ROW_WORDS).map(|_| AtomicU64::new(0)).collect()))
    }

    #[allow(
        unsafe_code,
        reason = "words of a file shared with the kernel, reached as atomics and in no other way"
    )]
    fn words(&self) -> &[AtomicU64] {
        match &self.0 {
            Words::Memory(words) => words,
            Words::Mapped { map, .. } => {
                // SAFETY: the mapping is page-aligned, as long as it says, initialised (the file's bytes), writable, and
                // lives as long as `self`; all access to it goes through these atomics. The file lies in a directory of
                // the gateway's alone, under its lock, so nobody cuts it short.
                unsafe { std::slice::from_raw_parts(map.as_ptr().cast::<AtomicU64>(), map.len() / 8) }
            }
        }
    }

    /// The sequence of the last window that was closed.
    pub(super) fn closed(&self) -> u64 {
        self.words()[head::CLOSED].load(Acquire)
    }

    pub(super) fn set_closed(&self, closed: u64) {
        self.words()[head::CLOSED].store(closed, Release);
    }

    pub(super) fn began_ms(&self) -> i64 {
        self.words()[head::BEGAN_MS].load(Relaxed).cast_signed()
    }

    pub(super) fn set_began_ms(&self, began_ms: i64) {
        self.words()[head::BEGAN_MS].store(began_ms.cast_unsigned(), Relaxed);
    }

    /// To disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        match &self.0 {
            Words::Mapped { file, .. } => file.sync_all(),
            Words::Memory(_) => Ok(()),
        }
    }
}

/// A project's counters on one thread.
pub(super) struct Slot {
    cells: Arc<Cells>,
    /// Of its first word.
    at: usize,
}

impl Slot {
    /// Row `row` of the file becomes this project's; it must be nobody's.
    pub(super) fn take(cells: &Arc<Cells>, row: usize, project: &str, created_ms: i64) -> Self {
        let slot = Self {
            cells: Arc::clone(cells),
            at: row * ROW_WORDS,
        };
        let mut name = [0; NAME_WORDS * 8];
        let len = project.len().min(NAME_BYTES_MAX);
        name[0] = len as u8;
        name[1..=len].copy_from_slice(&project.as_bytes()[..len]);
        slot.word(CREATED).store(created_ms.cast_unsigned(), Release);
        // The length last: a row with one is a row with a name.
        for (word, bytes) in name.as_chunks::<8>().0.iter().enumerate().rev() {
            slot.word(word).store(u64::from_le_bytes(*bytes), Release);
        }
        slot
    }

    pub(super) fn in_memory() -> Self {
        Self {
            cells: Arc::new(Cells::in_memory()),
            at: ROW_WORDS,
        }
    }

    /// Nobody's again, and empty.
    pub(super) fn release(&self) {
        for word in 0..ROW_WORDS {
            self.word(word).store(0, Release);
        }
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        &self.cells.words()[self.at + word]
    }

    pub(super) fn add(&self, counter: Counter, n: u64) {
        self.word(LIVE + counter as usize).fetch_add(n, Relaxed);
    }

    /// All that was ever counted.
    pub(super) fn counted(&self) -> Counts {
        std::array::from_fn(|counter| self.word(LIVE + counter).load(Relaxed))
    }

    /// What of it is in the first `closed` windows.
    pub(super) fn told(&self, closed: u64) -> Counts {
        let bank = bank(closed);
        std::array::from_fn(|counter| self.word(bank + counter).load(Relaxed))
    }

    /// So much will be, once `closed` windows are closed.
    pub(super) fn tell(&self, closed: u64, counts: &Counts) {
        let bank = bank(closed);
        for (counter, count) in counts.iter().enumerate() {
            self.word(bank + counter).store(*count, Relaxed);
        }
    }
}

fn bank(closed: u64) -> usize {
    BANKS[usize::from(!closed.is_multiple_of(2))]
}

/// What a process that is gone has left in the file.
pub(super) struct Left {
    pub(super) closed: u64,
    pub(super) began_ms: i64,
    /// Counted and in none of the closed windows, by project and when it was made.
    pub(super) counts: Vec<((String, i64), Counts)>,
}

/// None: there is no file, or it is none of ours.
pub(super) fn left(path: &Path) -> io::Result<Option<Left>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let words: Vec<u64> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .collect();
    let (rows, _) = words.as_chunks::<ROW_WORDS>();
    let Some((head, rows)) = rows.split_first() else {
        return Ok(None);
    };
    if head[head::MAGIC] != MAGIC {
        return Ok(None);
    }
    let bank = bank(head[head::CLOSED]);
    let read = |row: &[u64; ROW_WORDS]| {
        let name: Vec<u8> = row[..NAME_WORDS].iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = name.get(1..=usize::from(name[0])).filter(|name| !name.is_empty())?;
        let counts = std::array::from_fn(|counter| row[LIVE + counter].saturating_sub(row[bank + counter]));
        let name = String::from_utf8_lossy(name).into_owned();
        Some(((name, row[CREATED].cast_signed()), counts))
    };
    Ok(Some(Left {
        closed: head[head::CLOSED],
        began_ms: head[head::BEGAN_MS].cast_signed(),
        counts: rows.iter().filter_map(read).collect(),
    }))
}

/// `path` with `.suffix`.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// A rename is on disk when its directory is.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
