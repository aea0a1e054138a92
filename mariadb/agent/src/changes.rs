//! Tells when the privilege tables may have changed, without asking the server: they are Aria tables, whose every change
//! is in Aria's redo log when its statement is done, and hardly anything else is. So a look at a file's times four times a
//! second takes the place of queries, and a database that nobody uses is left alone.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// With [`APART`] and the look itself well below the second within which a change holds everywhere.
const EVERY: Duration = Duration::from_millis(250);
/// Whoever writes Aria tables of their own all day is not looked at more often than this.
const APART: Duration = Duration::from_millis(500);
/// File systems keep times in steps of a few milliseconds: within so many, a later write may show none.
const STEP: Duration = Duration::from_millis(50);

/// Of one running server.
pub(crate) struct Changes {
    dir: PathBuf,
    /// The log's last file is `aria_log.` and this number in eight digits; 0: none was seen yet.
    number: u32,
    /// As it was at the last look. `None`: it may have been written since.
    seen: Option<(SystemTime, u64)>,
    looks: Interval,
    /// A change that was not told yet.
    pending: bool,
    told: Option<Instant>,
}

impl Changes {
    pub(crate) fn of(data_dir: &Path) -> Self {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = Self {
            dir: data_dir.to_owned(),
            number: 0,
            seen: None,
            looks,
            pending: false,
            told: None,
        };
        changes.find_last();
        changes
    }

    /// Resolves when something has changed since it resolved last. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        loop {
            self.looks.tick().await;
            self.pending |= self.has_changed();
            let is_apart = self.told.is_none_or(|told| told.elapsed() >= APART);
            if self.pending && is_apart {
                self.pending = false;
                self.told = Some(Instant::now());
                return;
            }
        }
    }

    fn file(&self, number: u32) -> PathBuf {
        self.dir.join(format!("aria_log.{number:08}"))
    }

    /// The log has files one after the other, and begins anew where the server was stopped in between.
    fn find_last(&mut self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let numbers = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_prefix("aria_log.")?.parse().ok()
        });
        self.number = numbers.max().unwrap_or_default();
    }

    fn has_changed(&mut self) -> bool {
        let mut moved_on = false;
        while self.file(self.number + 1).exists() {
            self.number += 1;
            moved_on = true;
        }
        let now = match std::fs::metadata(self.file(self.number)) {
            Ok(metadata) => stamp(&metadata),
            Err(_) => {
                self.find_last();
                None
            }
        };
        let same = !moved_on && now.is_some() && now == self.seen;
        let fresh = |(written, _): &(SystemTime, u64)| {
            let age = SystemTime::now().duration_since(*written);
            age.is_ok_and(|age| age < STEP)
        };
        self.seen = now.filter(|now| !fresh(now));
        !same
    }
}

fn stamp(metadata: &Metadata) -> Option<(SystemTime, u64)> {
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use tokio::time::{sleep, timeout};

    use super::*;

    /// Writes as the server does, in place, at a time of the file's own.
    fn write(dir: &Path, number: u32, seconds: u64) {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(format!("aria_log.{number:08}")))
            .unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_times(FileTimes::new().set_modified(at)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_is_told_once_and_within_three_quarters_of_a_second() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 7, 1);
        let mut changes = Changes::of(dir.path());
        changes.next().await;
        let nothing = timeout(Duration::from_secs(60), changes.next()).await;
        assert!(nothing.is_err(), "nobody has written");
        for (number, seconds) in [(7, 2), (7, 3), (8, 3), (8, 4), (10, 4)] {
            if number == 10 {
                std::fs::remove_file(dir.path().join("aria_log.00000008")).unwrap();
            }
            write(dir.path(), number, seconds);
            let began = Instant::now();
            timeout(EVERY + APART, changes.next()).await.expect("told in time");
            assert!(began.elapsed() <= EVERY + APART);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_written_all_the_time_is_told_twice_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = Changes::of(dir.path());
        let mut told = 0;
        let end = Instant::now() + Duration::from_secs(10);
        let mut seconds = 1;
        while Instant::now() < end {
            seconds += 1;
            write(dir.path(), 1, seconds);
            tokio::select! {
                () = changes.next() => told += 1,
                () = sleep(Duration::from_millis(10)) => {}
            }
        }
        assert!((15..=21).contains(&told), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_its_time_does_not_show_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("aria_log.00000001"), "").unwrap();
        let mut changes = Changes::of(dir.path());
        // The file's time is that of this moment: another write within it would look the same.
        changes.next().await;
        let again = timeout(EVERY + APART, changes.next()).await;
        assert!(again.is_ok());
    }
}
