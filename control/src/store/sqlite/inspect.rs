//! A look at the files before anything is written to them. SQLite itself makes a new database where the file is empty or
//! missing, throws a log away whose head it cannot read, and finds a damaged page when it comes to it; here an operator is
//! told at the start, and what is there stays as it is for whoever wants to save it.
//!
//! What it cannot see: changed bytes inside of a value (sealed ones do not open), and a log that is missing, or cut off, since
//! the last run was killed: then the last changes are missing as well.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};

use super::{BUSY_TIMEOUT, StoreError, refused};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
pub(super) const RESTORE: &str = "restore it from a backup (docs/operations.md, Backup); nothing was changed";

/// Refuses by name what cannot be, or no longer be, the state.
pub(super) async fn inspect(file: &Path) -> Result<(), StoreError> {
    let is_there = look(file).map_err(|problem| StoreError::unusable(&file.display().to_string(), problem))?;
    can_be_written(file, is_there).map_err(|error| {
        let problem = format!("cannot be written ({error}): is it, its directory or its file system read-only?");
        StoreError::unusable(&file.display().to_string(), problem)
    })?;
    let log = log_of(file);
    look_at_log(&log, is_there).map_err(|problem| StoreError::unusable(&log.display().to_string(), problem))?;
    if is_there {
        let checked = check_pages(file).await.map_err(|error| refused(file, error.into()))?;
        checked.map_err(|found| {
            StoreError::unusable(&file.display().to_string(), format!("is damaged ({found}): {RESTORE}"))
        })?;
    }
    Ok(())
}

fn log_of(file: &Path) -> PathBuf {
    let mut name: OsString = file.into();
    name.push("-wal");
    name.into()
}

/// The first bytes, as many as there are; `None`: there is no such file.
fn head(path: &Path, bytes: u64) -> Result<Option<(u64, Vec<u8>)>, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(cannot)?,
    };
    let about = file.metadata().map_err(cannot)?;
    if !about.is_file() {
        return Err("is no file".into());
    }
    let mut head = Vec::new();
    file.take(bytes).read_to_end(&mut head).map_err(cannot)?;
    Ok(Some((about.len(), head)))
}

fn look(file: &Path) -> Result<bool, String> {
    match head(file, 16)? {
        None => Ok(false),
        Some((0, _)) => Err(format!(
            "is empty: {RESTORE}. To begin with no projects, remove it together with what begins with its name"
        )),
        Some((_, head)) if head != MAGIC => Err(format!("is no database of SQLite any more: {RESTORE}")),
        Some(_) => Ok(true),
    }
}

/// The file, and its directory for the log. SQLite would open it for reading and fail later, of one thing or another.
fn can_be_written(file: &Path, is_there: bool) -> io::Result<()> {
    use rustix::fs::{Access, access};
    let dir = file
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    access(dir, Access::WRITE_OK | Access::EXEC_OK)?;
    if is_there {
        access(file, Access::WRITE_OK)?;
    }
    Ok(())
}

/// The log of changes that are not in the file yet. An empty one is as good as none.
fn look_at_log(log: &Path, file_is_there: bool) -> Result<(), String> {
    const HEAD_BYTES: usize = 32;
    match head(log, HEAD_BYTES as u64)? {
        None | Some((0, _)) => Ok(()),
        Some(_) if !file_is_there => Err(format!(
            "is there, and the database that it belongs to is not: {RESTORE}. To begin with no projects, remove it"
        )),
        Some((_, head)) if head.len() == HEAD_BYTES && is_head_of_log(&head) => Ok(()),
        // Nothing behind it was ever confirmed: the head is on disk before anything else is.
        Some((length, _)) if length <= HEAD_BYTES as u64 => Ok(()),
        Some(_) => Err(format!(
            "is damaged, and the last changes stand in it: {RESTORE}. To go on without them, remove this file"
        )),
    }
}

/// <https://www.sqlite.org/fileformat2.html#wal_file_format>: the magic says in which order of bytes the sum is made.
fn is_head_of_log(head: &[u8]) -> bool {
    let word = |at: usize, big: bool| {
        let bytes: [u8; 4] = head[at..at + 4].try_into().unwrap_or_default();
        if big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let big = match word(0, true) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return false,
    };
    let (mut one, mut other) = (0_u32, 0_u32);
    for at in (0..24).step_by(8) {
        one = one.wrapping_add(word(at, big)).wrapping_add(other);
        other = other.wrapping_add(word(at + 4, big)).wrapping_add(one);
    }
    (one, other) == (word(24, true), word(28, true))
}

/// By a connection of its own that only reads: it writes nothing back, and the store's own cache begins empty. Half a second
/// for 100,000 projects.
async fn check_pages(file: &Path) -> Result<Result<(), String>, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT);
    let mut connection: SqliteConnection = options.connect().await?;
    let found: Result<String, _> = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await;
    connection.close().await?;
    Ok(match found?.as_str() {
        "ok" => Ok(()),
        found => Err(found.replace('\n', " ")),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use harness::SmallDisk;
    use sqlx::Row;

    use super::*;
    use crate::store::{
        Accesses, EpochMs, Fault, Store,
        keys::Keys,
        sqlite::{SqliteStore, open},
        suite::{new_project, new_user},
    };

    /// A state of some pages.
    struct Kept {
        dir: tempfile::TempDir,
    }

    impl Kept {
        async fn new() -> Self {
            let kept = Self {
                dir: tempfile::tempdir().unwrap(),
            };
            let store = kept.open().await.unwrap();
            for number in 0..60 {
                let id = store
                    .create_project(new_project(&format!("many-{number}")))
                    .await
                    .unwrap()
                    .record
                    .id;
                store.add_user(&id, new_user("app"), 1).await.unwrap();
            }
            store.close().await;
            kept
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("control.sqlite")
        }

        fn log(&self) -> PathBuf {
            log_of(&self.file())
        }

        async fn open(&self) -> Result<SqliteStore, StoreError> {
            open(&self.file(), &self.dir.path().join("store.keys")).await
        }

        /// What is refused, which is one line with the file's name, and everything as it was.
        async fn refusal(&self) -> String {
            // An empty log, as a reader leaves it, is as good as none.
            let all = || [self.file(), self.log()].map(|path| fs::read(path).ok().filter(|bytes| !bytes.is_empty()));
            let before = all();
            let refused = self.open().await.map(drop).unwrap_err().to_string();
            assert!(all() == before, "it is another now: {refused}");
            assert!(refused.contains("control.sqlite"), "{refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
            refused
        }

        /// The place of a table's first page, and the size of a page.
        async fn page_of(&self, table: &str) -> (usize, usize) {
            let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", self.file().display()))
                .await
                .unwrap();
            let row = sqlx::query(
                "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema WHERE name = $1",
            )
            .bind(table)
            .fetch_one(&pool)
            .await
            .unwrap();
            pool.close().await;
            let size = row.get::<i64, _>(1) as usize;
            ((row.get::<i64, _>(0) as usize - 1) * size, size)
        }
    }

    fn damage(file: &Path, at: usize, bytes: &[u8]) {
        let mut content = fs::read(file).unwrap();
        content[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(file, content).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_not_the_state_any_more_is_refused_by_name_and_left_as_it_is() {
        let kept = Kept::new().await;
        let whole = fs::read(kept.file()).unwrap();
        let (users, page) = kept.page_of("users").await;
        let garbage: Vec<u8> = (0..whole.len()).map(|at| (at * 7919 % 251) as u8).collect();
        for (what, content, told) in [
            ("garbage", garbage, "is no database of SQLite any more"),
            ("nothing", Vec::new(), "is empty"),
            ("a few bytes", whole[..10].to_vec(), "is no database of SQLite any more"),
            (
                "cut in the middle",
                whole[..whole.len() / 2 / page * page].to_vec(),
                "is damaged",
            ),
            (
                "cut inside of a page",
                whole[..whole.len() - page / 2].to_vec(),
                "is damaged",
            ),
        ] {
            fs::write(kept.file(), content).unwrap();
            let refused = kept.refusal().await;
            assert!(
                refused.contains(told) && refused.contains("restore it from a backup"),
                "{what}: {refused}"
            );
        }
        // Bits that flip in a page.
        fs::write(kept.file(), &whole).unwrap();
        damage(&kept.file(), users, &[0xff; 64]);
        let refused = kept.refusal().await;
        assert!(
            refused.contains("is damaged (") && refused.contains("restore it"),
            "{refused}"
        );

        fs::write(kept.file(), &whole).unwrap();
        let store = kept.open().await.unwrap();
        assert_eq!(store.projects(None, 100).await.unwrap().len(), 60);
        store.close().await;
    }

    #[tokio::test]
    async fn a_log_without_its_head_or_its_file_is_refused_and_a_whole_one_is_read() {
        let kept = Kept::new().await;
        let store = kept.open().await.unwrap();
        store.create_project(new_project("late")).await.unwrap();
        // As a kill leaves it.
        let killed = Kept {
            dir: tempfile::tempdir().unwrap(),
        };
        for (from, to) in [(kept.file(), killed.file()), (kept.log(), killed.log())] {
            fs::copy(from, to).unwrap();
        }
        fs::copy(kept.dir.path().join("store.keys"), killed.dir.path().join("store.keys")).unwrap();
        store.close().await;
        let (file, log) = (fs::read(killed.file()).unwrap(), fs::read(killed.log()).unwrap());

        for at in [0, 5, 20, 30] {
            damage(&killed.log(), at, &[log[at] ^ 0x10]);
            let refused = killed.refusal().await;
            assert!(
                refused.contains("control.sqlite-wal: is damaged"),
                "byte {at}: {refused}"
            );
            assert!(refused.contains("remove this file"), "{refused}");
            fs::write(killed.log(), &log).unwrap();
        }
        fs::remove_file(killed.file()).unwrap();
        let refused = killed.refusal().await;
        assert!(refused.contains("the database that it belongs to is not"), "{refused}");

        fs::write(killed.file(), &file).unwrap();
        let store = killed.open().await.unwrap();
        assert_eq!(
            store.projects(None, 100).await.unwrap().len(),
            61,
            "with the last change"
        );
        store.close().await;
    }

    #[tokio::test]
    async fn a_state_of_a_newer_version_is_left_as_it_is() {
        let kept = Kept::new().await;
        let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", kept.file().display()))
            .await
            .unwrap();
        sqlx::query("UPDATE _sqlx_migrations SET version = 9000 WHERE version = 1")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        let refused = kept.refusal().await;
        assert!(
            refused.contains("newer version") && refused.contains("copy from before"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_page_that_is_damaged_while_it_runs_fails_who_needs_it_and_nobody_else() {
        let kept = Kept::new().await;
        let store = kept.open().await.unwrap();
        let (users, _) = kept.page_of("users").await;
        // Through the file that the store has open.
        let file = fs::OpenOptions::new().write(true).open(kept.file()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 512], users as u64).unwrap();
        let refused = store.whole_projects(None, 100).await.unwrap_err();
        assert!(
            matches!(
                refused,
                StoreError::Faulty {
                    fault: Fault::Damaged,
                    ..
                }
            ),
            "{refused:?}"
        );
        assert_eq!(store.projects(None, 100).await.unwrap().len(), 60);
        store.put_key("up", [1; 32], 1).await.unwrap();
        assert!(store.key([1; 32]).await.unwrap().is_some());
        store.close().await;
    }

    #[tokio::test]
    async fn a_full_disk_refuses_changes_whole_and_takes_them_again_once_there_is_space() {
        let Some(disk) = SmallDisk::mount(4 << 20) else {
            println!("SKIPPED: this process may not mount a file system; run it as root");
            return;
        };
        let (file, keys) = (disk.path().join("control.sqlite"), disk.path().join("store.keys"));
        let store = open(&file, &keys).await.unwrap();
        store.create_project(new_project("early")).await.unwrap();
        disk.fill();
        let mut made = Vec::new();
        let refused = loop {
            // What is reserved for the log already is still taken.
            let name = format!("many-{}", made.len());
            match store.create_project(new_project(&name)).await {
                Ok(whole) => made.push(whole.record.id),
                Err(refused) => break refused,
            }
        };
        assert!(
            matches!(refused, StoreError::Faulty { fault: Fault::Full, .. }),
            "{refused:?}"
        );
        let all: Vec<_> = store
            .projects(None, 10_000)
            .await
            .unwrap()
            .into_iter()
            .map(|record| record.id)
            .collect();
        assert_eq!(
            all.len(),
            made.len() + 1,
            "what was refused is not there, what was taken is"
        );
        let id = &all[0];
        let refused = store.add_user(id, new_user("app"), 1 as EpochMs).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Faulty { fault: Fault::Full, .. }),
            "{refused:?}"
        );
        assert!(store.access(id).await.unwrap().users.is_empty());

        disk.free();
        store.create_project(new_project("late")).await.unwrap();
        assert_eq!(store.add_user(id, new_user("app"), 1).await.unwrap().users.len(), 1);
        store.close().await;
        let again = open(&file, &keys).await.unwrap();
        assert_eq!(again.projects(None, 10_000).await.unwrap().len(), all.len() + 1);
        again.close().await;
    }

    #[tokio::test]
    async fn a_file_system_that_is_read_only_is_told_as_such() {
        let Some(disk) = SmallDisk::mount(4 << 20) else {
            println!("SKIPPED: this process may not mount a file system; run it as root");
            return;
        };
        let (file, keys) = (disk.path().join("control.sqlite"), disk.path().join("store.keys"));
        open(&file, &keys).await.unwrap().close().await;
        disk.make_read_only();
        let refused = open(&file, &keys).await.map(drop).unwrap_err().to_string();
        assert!(
            refused.contains("control.sqlite: cannot be written") && refused.contains("read-only"),
            "{refused}"
        );
    }
}
