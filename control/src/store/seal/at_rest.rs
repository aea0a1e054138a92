//! What somebody finds who has the database's files or a dump of it and not the keys, on both databases; and what happens
//! where keys and database do not belong together.

use std::{fs, path::PathBuf, str::FromStr};

use harness::Postgres;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use super::*;
use crate::{
    accounts::ObservedAccount,
    name::{ProjectId, UserName},
    secret::{Password, Verifiers},
    store::{
        NewProject, NewUser, Observed, Sealed, Store, StoreError, WholeProject, postgres, sqlite,
        suite::{new_project, new_user},
    },
};

/// A state and its keys.
struct Kept {
    dir: TempDir,
    /// In PostgreSQL; else it is a file.
    database: Option<(&'static Postgres, String)>,
}

enum Opened {
    Sqlite(sqlite::SqliteStore),
    Postgres(postgres::PostgresStore),
}

impl Opened {
    fn store(&self) -> &dyn Store {
        match self {
            Self::Sqlite(store) => store,
            Self::Postgres(store) => store,
        }
    }

    /// No more than so many steps, of two rows each.
    async fn seal_in(&self, steps_max: u64) -> Result<Option<Sealed>, StoreError> {
        match self {
            Self::Sqlite(store) => store.seal_in(steps_max, 2).await,
            Self::Postgres(store) => store.seal_in(steps_max, 2).await,
        }
    }
}

impl Kept {
    fn in_sqlite() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            database: None,
        }
    }

    async fn in_postgres() -> Self {
        let made = tokio::task::spawn_blocking(|| {
            let server = Postgres::shared();
            (server, server.database())
        });
        Self {
            database: Some(made.await.unwrap()),
            ..Self::in_sqlite()
        }
    }

    async fn of_both() -> [Self; 2] {
        [Self::in_sqlite(), Self::in_postgres().await]
    }

    /// A state of its own that begins as this one is; its keys are still to be made.
    async fn copy(&self) -> Self {
        let copy = Self::in_sqlite();
        let Some((server, url)) = &self.database else {
            fs::copy(self.file(), copy.file()).unwrap();
            return copy;
        };
        let (server, name) = (*server, url.rsplit('/').next().unwrap().to_owned());
        let url = tokio::task::spawn_blocking(move || server.copy(&name)).await.unwrap();
        Self {
            database: Some((server, url)),
            ..copy
        }
    }

    fn keys(&self) -> PathBuf {
        self.dir.path().join("store.keys")
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("control.sqlite")
    }

    async fn open_by(&self, keys: &Path) -> Result<Opened, StoreError> {
        Ok(match &self.database {
            None => Opened::Sqlite(sqlite::open(&self.file(), keys).await?),
            Some((_, url)) => {
                let options = PgConnectOptions::from_str(url).unwrap();
                Opened::Postgres(postgres::open(options, "the database", keys).await?)
            }
        })
    }

    async fn open(&self) -> Opened {
        self.open_by(&self.keys()).await.unwrap()
    }

    /// One line, of what is refused.
    async fn refusal(&self) -> String {
        let refused = self.open_by(&self.keys()).await.map(drop).unwrap_err().to_string();
        assert_eq!(refused.lines().count(), 1, "{refused}");
        refused
    }

    /// Runs a statement beside the store; `X'..'` becomes whatever bytes are called there.
    async fn sql(&self, statement: &str) {
        match &self.database {
            None => {
                let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", self.file().display()))
                    .await
                    .unwrap();
                sqlx::query(sqlx::AssertSqlSafe(statement))
                    .execute(&pool)
                    .await
                    .unwrap();
                pool.close().await;
            }
            Some((server, url)) => {
                let statement = statement.replace("X'", "'\\x");
                server.sql(url.rsplit('/').next().unwrap(), &statement);
            }
        }
    }

    /// Every byte of a copy of it.
    fn everything(&self) -> Vec<u8> {
        match &self.database {
            None => {
                let files = fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap().path());
                // The third is an index of the second.
                let of_the_state = files.filter(|file| *file != self.keys() && !file.ends_with("control.sqlite-shm"));
                of_the_state.flat_map(|file| fs::read(file).unwrap()).collect()
            }
            Some((server, url)) => server.dump(url.rsplit('/').next().unwrap()).into_bytes(),
        }
    }

    fn write_keys(&self, seeds: &[u8]) {
        let lines: Vec<_> = seeds.iter().map(|seed| hex(&[*seed; 32])).collect();
        fs::write(self.keys(), lines.join("\n")).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(self.keys(), private).unwrap();
    }
}

fn id(name: &str) -> ProjectId {
    ProjectId::new(name).unwrap()
}

fn verifiers(password: &str) -> Verifiers {
    Verifiers::of(&Password::new(password.into()).unwrap())
}

const ED25519: [u8; 32] = *b"the public key of a made-up user";

/// Users by API, one of whom has another password since, and one made in SQL.
async fn fill(store: &dyn Store) -> Vec<WholeProject> {
    for name in ["aaa", "bbb"] {
        let new = NewProject {
            user: Some(NewUser {
                verifiers: verifiers("first word"),
                ..new_user("app")
            }),
            ..new_project(name)
        };
        store.create_project(new).await.unwrap();
        let more = NewUser {
            verifiers: verifiers("second word"),
            ..new_user("more")
        };
        store.add_user(&id(name), more, 1).await.unwrap();
        let app = UserName::new("app").unwrap();
        store
            .set_verifiers(&id(name), &app, &verifiers("third word"), None)
            .await
            .unwrap();
        let account = ObservedAccount {
            user: "ann".into(),
            host: "%".into(),
            native_sha1: vec![hex(&verifiers("word of sql").native_sha1)],
            ed25519_keys: vec![hex(&ED25519)],
            ..ObservedAccount::default()
        };
        let observed = Observed {
            version: "10.11".into(),
            accounts: vec![account],
            ..Observed::default()
        };
        store.set_observed(&id(name), &observed).await.unwrap();
    }
    store.whole_projects(None, 10).await.unwrap()
}

/// A character a byte: the search in texts is a fast one.
fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// What of `everything` opens an account, or helps to guess a password.
fn found(everything: &[u8]) -> Vec<String> {
    let everything = text(everything);
    let mut found = Vec::new();
    for password in ["first word", "second word", "third word", "word of sql"] {
        let Verifiers {
            native_sha1,
            caching_sha2,
        } = verifiers(password);
        for bytes in [&native_sha1[..], &caching_sha2[..], &ED25519] {
            let forms = [text(bytes), hex(bytes), hex(bytes).to_uppercase()];
            if forms.iter().any(|form| everything.contains(form)) {
                found.push(format!("{} bytes of {password:?}", bytes.len()));
            }
        }
    }
    found
}

/// As the last version has left it that sealed nothing, with all its rows in the clear.
async fn of_an_earlier_version(kept: &Kept) -> Vec<WholeProject> {
    let opened = kept.open().await;
    let whole = fill(opened.store()).await;
    opened.store().close().await;
    for (user, password) in [("app", "third word"), ("more", "second word")] {
        let Verifiers {
            native_sha1,
            caching_sha2,
        } = verifiers(password);
        kept.sql(&format!(
            "UPDATE users SET verifiers = NULL, native_sha1 = X'{}', caching_sha2 = X'{}' WHERE name = '{user}'",
            hex(&native_sha1),
            hex(&caching_sha2)
        ))
        .await;
    }
    let accounts = serde_json::to_string(&whole[0].observed.as_ref().unwrap().accounts).unwrap();
    kept.sql(&format!(
        "UPDATE servers SET sealed_accounts = NULL, accounts = '{accounts}'"
    ))
    .await;
    kept.sql("DELETE FROM sealing_keys").await;
    fs::remove_file(kept.keys()).unwrap();
    whole
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verifier_of_a_user_is_in_what_is_kept() {
    for kept in Kept::of_both().await {
        let opened = kept.open().await;
        let whole = fill(opened.store()).await;
        assert_eq!(whole[0].access.users[0].verifiers, verifiers("third word"));
        let while_it_runs = kept.everything();
        assert!(text(&while_it_runs).contains("more"), "it reads nothing");
        assert_eq!(found(&while_it_runs), [""; 0]);
        opened.store().close().await;
        assert_eq!(found(&kept.everything()), [""; 0]);
        let again = kept.open().await;
        assert_eq!(again.store().whole_projects(None, 10).await.unwrap(), whole);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_in_sqlite_is_sealed_however_often_it_is_killed() {
    is_sealed_however_often_it_is_killed(Kept::in_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_in_postgres_is_sealed_however_often_it_is_killed() {
    is_sealed_however_often_it_is_killed(Kept::in_postgres().await).await;
}

/// A step is a transaction, so that to be killed anywhere is to be killed between two.
async fn is_sealed_however_often_it_is_killed(earlier: Kept) {
    let whole = of_an_earlier_version(&earlier).await;
    let mut steps = 0;
    loop {
        let kept = earlier.copy().await;
        assert!(found(&kept.everything()).len() >= 5, "in the clear as it was");
        let killed = kept.open().await;
        let ended = killed.seal_in(steps).await.unwrap();
        drop(killed);
        let opened = kept.open().await;
        let sealed = opened.store().seal().await.unwrap();
        let after = opened.store().whole_projects(None, 10).await.unwrap();
        assert_eq!(after, whole, "killed at {steps}");
        assert_eq!(
            opened.store().seal().await.unwrap(),
            Sealed::default(),
            "killed at {steps}"
        );
        assert_eq!(found(&kept.everything()), [""; 0], "killed at {steps}");
        opened.store().close().await;
        if let Some(ended) = ended {
            assert_eq!((ended.values, sealed.values), (6, 0));
            break;
        }
        steps += 1;
    }
    // Before the key is written down, after it, after each two rows of two tables, before the end.
    assert_eq!(steps, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_go_once_all_is_sealed_by_the_next_and_not_before() {
    for kept in Kept::of_both().await {
        kept.write_keys(&[1]);
        let opened = kept.open().await;
        let whole = fill(opened.store()).await;
        opened.store().seal().await.unwrap();
        opened.store().close().await;
        let old = Keyring::of_test(1).sealing().to_string();

        kept.write_keys(&[2]);
        let early = kept.refusal().await;
        assert!(early.contains("store.keys") && early.contains(&old), "{early}");

        // Killed in the middle: both are needed.
        kept.write_keys(&[2, 1]);
        let killed = kept.open().await;
        assert_eq!(killed.seal_in(3).await.unwrap(), None);
        drop(killed);
        for one in [1, 2] {
            kept.write_keys(&[one]);
            kept.refusal().await;
        }

        kept.write_keys(&[2, 1]);
        let opened = kept.open().await;
        assert_eq!(
            opened.store().whole_projects(None, 10).await.unwrap(),
            whole,
            "both open"
        );
        let sealed = opened.store().seal().await.unwrap();
        assert_eq!(sealed.retired, [old]);
        assert!(sealed.values > 0);
        opened.store().close().await;
        kept.write_keys(&[2]);
        let opened = kept.open().await;
        assert_eq!(opened.store().whole_projects(None, 10).await.unwrap(), whole);
        opened.store().close().await;
        kept.write_keys(&[1]);
        let late = kept.refusal().await;
        assert!(late.contains(&Keyring::of_test(2).sealing().to_string()), "{late}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_missing_or_of_another_state_change_nothing_and_are_told() {
    for kept in Kept::of_both().await {
        kept.write_keys(&[1]);
        let opened = kept.open().await;
        fill(opened.store()).await;
        opened.store().close().await;
        let before = kept.everything();
        let needed = Keyring::of_test(1).sealing().to_string();

        fs::remove_file(kept.keys()).unwrap();
        let missing = kept.refusal().await;
        for told in [
            "store.keys: is missing",
            &needed,
            "put the file back",
            "control.store.key_file",
        ] {
            assert!(missing.contains(told), "{missing}");
        }
        assert!(!kept.keys().exists(), "none is made in its place");

        kept.write_keys(&[3, 4]);
        let wrong = kept.refusal().await;
        let (third, fourth) = (Keyring::of_test(3).sealing(), Keyring::of_test(4).sealing());
        assert!(
            wrong.contains(&format!("has the key {third} and {fourth}")) && wrong.contains(&needed),
            "{wrong}"
        );
        assert!(kept.everything() == before, "it is another now");

        // The file's name is right, the state is not: a byte of what tells whether the key fits is another.
        kept.write_keys(&[1]);
        kept.sql(&format!("UPDATE sealing_keys SET probe = X'{}'", "01".repeat(60)))
            .await;
        let damaged = kept.refusal().await;
        assert!(damaged.contains("one of the two is damaged"), "{damaged}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_moved_or_changed_is_no_ones_password() {
    for kept in Kept::of_both().await {
        let opened = kept.open().await;
        fill(opened.store()).await;
        for (change, told) in [
            (
                "UPDATE users SET verifiers = NULL WHERE project_id = 'aaa' AND name = 'more'",
                "users.verifiers of aaa.more: it is not sealed",
            ),
            (
                "UPDATE users SET verifiers = (SELECT o.verifiers FROM users o WHERE o.project_id = 'bbb' AND o.name = 'app') \
                 WHERE project_id = 'aaa' AND name = 'app'",
                "users.verifiers of aaa.app: it is damaged, or was put there from elsewhere",
            ),
            (
                "UPDATE servers SET sealed_accounts = (SELECT o.sealed_accounts FROM servers o WHERE o.project_id = 'aaa') \
                 WHERE project_id = 'bbb'",
                "servers.sealed_accounts of bbb: it is damaged",
            ),
        ] {
            kept.sql(change).await;
            let name = told.split([' ', '.', ':']).nth(3).unwrap();
            let refused = opened.store().whole_project(&id(name)).await.unwrap_err();
            assert!(refused.to_string().contains(told), "{refused}");
        }
        opened.store().close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_control_planes_of_one_state_have_the_same_key_or_the_second_is_refused() {
    let kept = Kept::in_postgres().await;
    let (here, there) = (kept.keys(), kept.dir.path().join("there.keys"));
    let (first, second) = tokio::join!(kept.open_by(&here), kept.open_by(&there));
    // Both begin with nothing and make a key; the state has one of them.
    let refused = match (first, second) {
        (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused.to_string(),
        (first, second) => panic!("{:?} and {:?}", first.err(), second.err()),
    };
    assert!(refused.contains("is sealed by"), "{refused}");

    let kept = Kept::in_postgres().await;
    let (first, second) = tokio::join!(kept.open(), kept.open());
    let whole = fill(first.store()).await;
    assert_eq!(
        second.store().whole_projects(None, 10).await.unwrap(),
        whole,
        "they share the file that one has made"
    );

    // A leader seals by a key that the one who stands by has not: it cannot take over, and says what it lacks.
    let both = kept.dir.path().join("both.keys");
    let own = fs::read_to_string(kept.keys()).unwrap();
    fs::write(&both, format!("{}\n{own}", hex(&[9; 32]))).unwrap();
    fs::set_permissions(&both, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let leader = kept.open_by(&both).await.unwrap();
    leader.store().seal().await.unwrap();
    let refused = second.store().seal().await.unwrap_err().to_string();
    assert!(
        refused.contains(&Keyring::of_test(9).sealing().to_string()),
        "{refused}"
    );
    assert_eq!(leader.store().whole_projects(None, 10).await.unwrap(), whole);
}
