//! What clients did, counted for the bill: by project, in windows of a minute, each told to control until it has it.
//!
//! In: what sessions do, an addition each on a counter of their project and thread. Out: windows in the spool, sent by
//! [`send`]. Promises: what was counted is told exactly once, whenever the process is killed: counters lie in a mapped file
//! ([`rows`]) that the next start makes a window of; a window is in the spool ([`spool`]) before anybody else sees it; a
//! window has one name, by which control takes it once. What a power cut takes is the open window at most.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control_api::control as proto;
use tokio::time::Instant;

use crate::text::Words;

mod rows;
mod send;
mod spool;
#[cfg(test)]
mod tests;

pub(crate) use rows::Counter;
use rows::{COUNTERS, Cells, Counts, ROWS, Slot, left};
pub(crate) use send::{UsageSink, finish, run};
use spool::{Spool, write_whole};

/// Windows begin and end at whole minutes, so that each lies in one hour of the bill.
const WINDOW_MS: i64 = 60_000;
/// Gateways on one data directory: each takes a place of its own.
const PLACES: u32 = 16;

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where counters and spool lie.
    pub(crate) dir: PathBuf,
    /// How much may wait for control.
    pub(crate) spool_bytes_max: u64,
}

/// Usage cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// Its files.
    #[error("usage in {dir}: {source}", dir = dir.display())]
    File {
        /// Where.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other gateways have every place.
    #[error("usage in {dir}: {PLACES} other gateways run on this data directory", dir = dir.display())]
    Full {
        /// Where.
        dir: PathBuf,
    },
}

/// What a statement is counted as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Class {
    Select,
    Insert,
    Update,
    Delete,
    Ddl,
    #[default]
    Other,
}

impl Class {
    /// By its first word; a text of several statements counts as one.
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut words = Words(text);
        let word = words.next().unwrap_or_default();
        let is = |keywords: &[&[u8]]| keywords.iter().any(|keyword| word.eq_ignore_ascii_case(keyword));
        match word.len() {
            // Behind comments, too.
            0 if words.0.first() == Some(&b'(') => Self::Select,
            4 if is(&[b"WITH"]) => Self::Select,
            4 if is(&[b"LOAD"]) => Self::Insert,
            4 if is(&[b"DROP"]) => Self::Ddl,
            5 if is(&[b"ALTER"]) => Self::Ddl,
            6 if is(&[b"SELECT", b"VALUES"]) => Self::Select,
            6 if is(&[b"INSERT"]) => Self::Insert,
            6 if is(&[b"UPDATE"]) => Self::Update,
            6 if is(&[b"DELETE"]) => Self::Delete,
            6 if is(&[b"CREATE", b"RENAME"]) => Self::Ddl,
            7 if is(&[b"REPLACE"]) => Self::Insert,
            8 if is(&[b"TRUNCATE"]) => Self::Ddl,
            _ => Self::Other,
        }
    }

    fn counter(self) -> Counter {
        match self {
            Self::Select => Counter::Select,
            Self::Insert => Counter::Insert,
            Self::Update => Counter::Update,
            Self::Delete => Counter::Delete,
            Self::Ddl => Counter::Ddl,
            Self::Other => Counter::Other,
        }
    }
}

/// A project's counters on one thread, shared by its sessions there.
pub(crate) struct Tally {
    slot: Slot,
    /// Of the file; None: in memory.
    row: Option<usize>,
    attached: Mutex<AttachedTime>,
}

/// The time that sessions are attached, summed up when their number changes.
struct AttachedTime {
    sessions: u32,
    since: Instant,
}

impl Tally {
    fn new(slot: Slot, row: Option<usize>) -> Self {
        let attached = Mutex::new(AttachedTime {
            sessions: 0,
            since: Instant::now(),
        });
        Self { slot, row, attached }
    }

    pub(crate) fn add(&self, counter: Counter, n: u64) {
        self.slot.add(counter, n);
    }

    /// A statement was answered with so many rows.
    pub(crate) fn statement(&self, class: Class) {
        self.slot.add(class.counter(), 1);
    }

    /// Counts one attached session's time while the guard lives.
    pub(crate) fn attached(self: &Arc<Self>) -> AttachedHere {
        self.accrue(1);
        AttachedHere(Arc::clone(self))
    }

    fn accrue(&self, change: i32) {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let us = now.saturating_duration_since(attached.since).as_micros();
        let us = u64::try_from(us)
            .unwrap_or(u64::MAX)
            .saturating_mul(attached.sessions.into());
        if us > 0 {
            self.slot.add(Counter::AttachedUs, us);
        }
        attached.since = now;
        attached.sessions = attached.sessions.saturating_add_signed(change);
    }
}

/// See [`Tally::attached`].
pub(crate) struct AttachedHere(Arc<Tally>);

impl Drop for AttachedHere {
    fn drop(&mut self) {
        self.0.accrue(-1);
    }
}

/// Told of a step; an error ends it there.
type Step<'a> = &'a mut dyn FnMut(&'static str) -> io::Result<()>;

/// All tallies.
struct Tallies {
    /// By project, when it was made, and thread.
    by_key: HashMap<(Box<str>, i64, usize), Arc<Tally>>,
    /// Rows of the file that are nobody's; the one that was never used comes last.
    free: Vec<usize>,
    overflowed: bool,
}

/// See the head of this file.
pub(crate) struct Meter {
    pub(crate) gateway_id: Box<str>,
    cells: Arc<Cells>,
    tallies: Mutex<Tallies>,
    spool: Mutex<Spool>,
    /// Held by whoever closes a window.
    closing: Mutex<()>,
    /// Times that a window could not be written down.
    unwritten: AtomicU64,
    /// Its place; those of others are beside it.
    dir: PathBuf,
    spool_bytes_max: u64,
    /// Its lock says that this place is taken.
    _place: Place,
}

impl Meter {
    /// Takes a place in the directory, and makes a window of what a gateway that was killed has counted there.
    pub(crate) fn open(config: &Config, now_ms: i64) -> Result<Self, MeterError> {
        let failed = |source| MeterError::File {
            dir: config.dir.clone(),
            source,
        };
        let (dir, place) = place(&config.dir).map_err(failed)?.ok_or_else(|| MeterError::Full {
            dir: config.dir.clone(),
        })?;
        Self::begin(&dir, config.spool_bytes_max, place, now_ms, &mut |_| Ok(())).map_err(failed)
    }

    /// `before` is told of each step before it is done, for tests that end there.
    fn begin(dir: &Path, spool_bytes_max: u64, place: Place, now_ms: i64, before: Step<'_>) -> io::Result<Self> {
        let gateway_id = gateway_id(&dir.join("id"))?;
        let waiting = dir.join("spool");
        make_dir(&waiting)?;
        let mut spool = Spool::open(waiting, spool_bytes_max)?;
        let counters = dir.join("counters");
        let mut closed = spool.last().unwrap_or_default();
        if let Some(left) = left(&counters)? {
            closed = closed.max(left.closed);
            if let Some(window) = last_window(left, &spool, now_ms)? {
                tracing::info!(
                    sequence = window.sequence,
                    "usage: counted by a gateway that was killed"
                );
                closed = window.sequence;
                before("append")?;
                spool.append(&window)?;
            }
        }
        before("counters")?;
        let cells = Arc::new(Cells::create(&counters, closed, now_ms)?);
        Ok(Self {
            gateway_id,
            cells,
            tallies: Mutex::new(Tallies {
                by_key: HashMap::new(),
                free: (1..ROWS).rev().collect(),
                overflowed: false,
            }),
            spool: Mutex::new(spool),
            closing: Mutex::new(()),
            unwritten: AtomicU64::new(0),
            dir: dir.to_owned(),
            spool_bytes_max,
            _place: place,
        })
    }

    /// What a gateway that is gone has left in its place, where that is nobody's: held until it is dropped, under the name it
    /// was counted by. None: nothing waits anywhere.
    fn orphan(&self, now_ms: i64) -> io::Result<Option<Self>> {
        let places = self.dir.parent().unwrap_or(&self.dir);
        for number in 1..=PLACES {
            let dir = places.join(number.to_string());
            if !dir.join("spool").is_dir() {
                continue;
            }
            // Ours is locked, too.
            let Some(place) = lock(&dir)? else { continue };
            let spool = Spool::open(dir.join("spool"), self.spool_bytes_max)?;
            let uncounted = match left(&dir.join("counters"))? {
                Some(left) => last_window(left, &spool, now_ms)?.is_some(),
                None => false,
            };
            if uncounted || spool.len() > 0 {
                return Self::begin(&dir, self.spool_bytes_max, place, now_ms, &mut |_| Ok(())).map(Some);
            }
        }
        Ok(None)
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a project is counted on this thread; one that is made again under its name is another. Takes a lock: once a
    /// login, not once a command.
    pub(crate) fn tally(&self, project: &str, created_ms: i64, thread: usize) -> Arc<Tally> {
        let mut tallies = self.tallies();
        let key = (project.into(), created_ms, thread);
        if let Some(tally) = tallies.by_key.get(&key) {
            return Arc::clone(tally);
        }
        let tally = match tallies.free.pop() {
            Some(row) => Tally::new(Slot::take(&self.cells, row, project, created_ms), Some(row)),
            None => {
                if !std::mem::replace(&mut tallies.overflowed, true) {
                    tracing::warn!(
                        rows = ROWS - 1,
                        "usage: more projects at once than counters that outlive a kill; some are counted in memory alone"
                    );
                }
                Tally::new(Slot::in_memory(), None)
            }
        };
        let tally = Arc::new(tally);
        tallies.by_key.insert(key, Arc::clone(&tally));
        tally
    }

    /// What every tally holds beyond the closed windows.
    fn collect(&self) -> Vec<Collected> {
        let closed = self.cells.closed();
        let tallies = self.tallies();
        let collected = tallies.by_key.iter().map(|((project, created_ms, _), tally)| {
            tally.accrue(0);
            let (counted, told) = (tally.slot.counted(), tally.slot.told(closed));
            Collected {
                project: project.clone(),
                created_ms: *created_ms,
                tally: Arc::clone(tally),
                new: std::array::from_fn(|counter| counted[counter].saturating_sub(told[counter])),
                counted,
            }
        });
        collected.collect()
    }

    /// What the open window holds by now; None: nothing.
    pub(crate) fn open_window(&self, now_ms: i64) -> Option<proto::UsageWindow> {
        let _closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        self.window(&self.collect(), now_ms)
    }

    fn window(&self, collected: &[Collected], end_ms: i64) -> Option<proto::UsageWindow> {
        let start_ms = self.cells.began_ms();
        let new = collected.iter().map(|one| ((&*one.project, one.created_ms), &one.new));
        window(self.cells.closed() + 1, start_ms, end_ms, new)
    }

    /// Whether the open window's minute is over; or begins in the future, as the clock was set back: it would last till then.
    pub(crate) fn is_due(&self, now_ms: i64) -> bool {
        let began_ms = self.cells.began_ms();
        now_ms >= window_end(began_ms) || now_ms < began_ms
    }

    /// Ends the open window and puts what it holds into the spool. Blocks on the disk; when it fails the window stays open.
    pub(crate) fn close_window(&self, now_ms: i64) -> io::Result<()> {
        let _closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = self.close_steps(now_ms, &mut |_| Ok(()));
        if closed.is_err() {
            self.unwritten.fetch_add(1, Relaxed);
        }
        closed
    }

    /// `before` is told of each step before it is done, for tests that end there.
    fn close_steps(&self, now_ms: i64, before: Step<'_>) -> io::Result<()> {
        let collected = self.collect();
        let sequence = self.cells.closed() + 1;
        // Of a clock that was set back the window has no length.
        let end_ms = now_ms.max(self.cells.began_ms());
        if let Some(window) = self.window(&collected, end_ms) {
            before("append")?;
            self.spool().append(&window)?;
            before("banks")?;
            for one in &collected {
                one.tally.slot.tell(sequence, &one.counted);
                before("next bank")?;
            }
            // In this order also for a disk that loses its power.
            self.cells.sync()?;
            before("count")?;
            self.cells.set_closed(sequence);
            before("begin")?;
            // Not where the last one ended: the clock may have been set back.
            self.cells.set_began_ms(now_ms);
            self.cells.sync()?;
        } else {
            self.cells.set_began_ms(now_ms);
        }
        drop(collected);
        self.release_idle();
        Ok(())
    }

    /// Rows of projects that nobody is logged in to any more, and that have nothing new, are free for others.
    fn release_idle(&self) {
        let closed = self.cells.closed();
        let mut tallies = self.tallies();
        let Tallies { by_key, free, .. } = &mut *tallies;
        by_key.retain(|_, tally| {
            // Nobody gets another without this lock.
            if Arc::strong_count(tally) > 1 || tally.slot.counted() != tally.slot.told(closed) {
                return true;
            }
            tally.slot.release();
            free.extend(tally.row);
            false
        });
    }

    /// For the metrics' page.
    pub(crate) fn text(&self) -> String {
        let (waiting, bytes, dropped) = {
            let spool = self.spool();
            (spool.len() as u64, spool.bytes(), spool.dropped)
        };
        let mut text = String::new();
        for (name, kind, help, value) in [
            (
                "selkie_gateway_usage_windows_waiting",
                "gauge",
                "Windows of usage that control has not taken yet",
                waiting,
            ),
            ("selkie_gateway_usage_spool_bytes", "gauge", "Their size on disk", bytes),
            (
                "selkie_gateway_usage_windows_dropped_total",
                "counter",
                "Windows of usage that were thrown away",
                dropped,
            ),
            (
                "selkie_gateway_usage_write_errors_total",
                "counter",
                "Tries to write a window of usage down that failed; it stays open and is counted all the same",
                self.unwritten.load(Relaxed),
            ),
        ] {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
        }
        text
    }
}

/// One tally, read once.
struct Collected {
    project: Box<str>,
    created_ms: i64,
    tally: Arc<Tally>,
    counted: Counts,
    new: Counts,
}

fn window_end(start_ms: i64) -> i64 {
    (start_ms.div_euclid(WINDOW_MS) + 1) * WINDOW_MS
}

/// None: nothing happened in it.
fn window<'a>(
    sequence: u64,
    start_ms: i64,
    end_ms: i64,
    counts: impl Iterator<Item = ((&'a str, i64), &'a Counts)>,
) -> Option<proto::UsageWindow> {
    let mut by_project: BTreeMap<(&str, i64), Counts> = BTreeMap::new();
    for (project, new) in counts.filter(|(_, new)| **new != [0; COUNTERS]) {
        let sum = by_project.entry(project).or_default();
        sum.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
    }
    (!by_project.is_empty()).then(|| proto::UsageWindow {
        sequence,
        start_ms,
        end_ms,
        projects: by_project
            .into_iter()
            .map(|((project, created_ms), counts)| usage(project, created_ms, &counts))
            .collect(),
    })
}

/// The window that a killed gateway had open: what it counted, less what it had put into the spool and not yet ticked off.
fn last_window(left: rows::Left, spool: &Spool, now_ms: i64) -> io::Result<Option<proto::UsageWindow>> {
    let mut counts: BTreeMap<(String, i64), Counts> = BTreeMap::new();
    for (project, new) in left.counts {
        let sum = counts.entry(project).or_default();
        sum.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
    }
    let (mut sequence, mut start_ms) = (left.closed, left.began_ms);
    for window in spool.after(left.closed)? {
        (sequence, start_ms) = (window.sequence, window.end_ms);
        for project in &window.projects {
            if let Some(counts) = counts.get_mut(&(project.project.clone(), project.created_ms)) {
                let told = counts_of(project);
                counts
                    .iter_mut()
                    .zip(told)
                    .for_each(|(count, told)| *count = count.saturating_sub(told));
            }
        }
    }
    let end_ms = now_ms.clamp(start_ms, window_end(start_ms).max(start_ms));
    let counts = counts
        .iter()
        .map(|((project, created_ms), counts)| ((project.as_str(), *created_ms), counts));
    Ok(window(sequence + 1, start_ms, end_ms, counts))
}

fn usage(project: &str, created_ms: i64, counts: &Counts) -> proto::ProjectUsage {
    let of = |counter: Counter| counts[counter as usize];
    proto::ProjectUsage {
        project: project.to_owned(),
        created_ms,
        selects: of(Counter::Select),
        inserts: of(Counter::Insert),
        updates: of(Counter::Update),
        deletes: of(Counter::Delete),
        ddl: of(Counter::Ddl),
        others: of(Counter::Other),
        rows: of(Counter::Rows),
        bytes_out: of(Counter::BytesOut),
        bytes_in: of(Counter::BytesIn),
        logins: of(Counter::Logins),
        logins_failed: of(Counter::LoginsFailed),
        attached_us: of(Counter::AttachedUs),
        wakes_query: of(Counter::WakesQuery),
        wakes_prepare: of(Counter::WakesPrepare),
        wakes_execute: of(Counter::WakesExecute),
        wakes_other: of(Counter::WakesOther),
    }
}

fn counts_of(usage: &proto::ProjectUsage) -> Counts {
    // In the order of `Counter`.
    [
        usage.selects,
        usage.inserts,
        usage.updates,
        usage.deletes,
        usage.ddl,
        usage.others,
        usage.rows,
        usage.bytes_out,
        usage.bytes_in,
        usage.logins,
        usage.logins_failed,
        usage.attached_us,
        usage.wakes_query,
        usage.wakes_prepare,
        usage.wakes_execute,
        usage.wakes_other,
    ]
}

/// What a wake is counted as, by the command that needed it.
pub(crate) fn wake_counter(command: &str) -> Counter {
    match command {
        "COM_QUERY" => Counter::WakesQuery,
        "COM_STMT_PREPARE" => Counter::WakesPrepare,
        "COM_STMT_EXECUTE" | "COM_STMT_BULK_EXECUTE" => Counter::WakesExecute,
        _ => Counter::WakesOther,
    }
}

/// The first place that no other gateway has, and what holds it.
fn place(dir: &Path) -> io::Result<Option<(PathBuf, Place)>> {
    for number in 1..=PLACES {
        let dir = dir.join(number.to_string());
        make_dir(&dir)?;
        if let Some(lock) = lock(&dir)? {
            return Ok(Some((dir, lock)));
        }
    }
    Ok(None)
}

/// A directory that no other gateway counts in while this lives.
struct Place(File);

impl Drop for Place {
    /// A process that is being started shares the lock until it runs its own program: to close the file here is not enough.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "usage: this gateway's place is still locked");
        }
    }
}

/// None: another gateway has this place.
fn lock(dir: &Path) -> io::Result<Option<Place>> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Place(lock))),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Names of projects are nobody else's business.
fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The gateway's name for control, the same at every start.
fn gateway_id(file: &Path) -> io::Result<Box<str>> {
    match std::fs::read_to_string(file) {
        Ok(id) => Ok(id.trim().into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = format!("{:032x}", rand::random::<u128>());
            write_whole(file, id.as_bytes())?;
            Ok(id.into())
        }
        Err(error) => Err(error),
    }
}

/// Milliseconds since 1970. A clock before that counts as 1970.
pub(crate) fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
