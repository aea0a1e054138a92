//! What must exist before anyone can speak to a control plane: the data directory, the store with its tables, an API key
//! for the person who started it, and the token with which gateways on this machine prove themselves. Calling it again
//! changes nothing that still works.

use std::{
    fmt, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use control_api::rest::Scope;

use crate::{
    Config, Error, clock,
    config::StoreConfig,
    secret::{key_hash, random_token},
    store::{self, Store, StoreError, keys::KeyRecord},
};

/// What a first start made, or a later one found.
pub struct Bootstrap {
    /// A key that this control plane accepts: the one that was handed in where it is still good, else a new one.
    pub api_key: String,
    /// It is new: keep it, it cannot be asked for again.
    pub api_key_is_new: bool,
    /// Mode 0600; its whole text, without the newline, is the token of `authorization: Bearer <token>` on gRPC.
    pub gateway_token_file: PathBuf,
    /// What stands in that file.
    pub gateway_token: String,
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bootstrap")
            .field("api_key_is_new", &self.api_key_is_new)
            .field("gateway_token_file", &self.gateway_token_file)
            .finish_non_exhaustive()
    }
}

/// Makes what is missing. `known_api_key` is the key that the caller kept from an earlier start; where it is absent or not
/// accepted any more, the key named `key_name` is replaced by a new one. Call it before [`run`](crate::run()).
pub async fn bootstrap(config: &Config, key_name: &str, known_api_key: Option<&str>) -> Result<Bootstrap, Error> {
    let home = Home::open(config)?;
    let gateway_token = home.gateway_token()?;
    home.refuse_without_state(config)?;
    let store = home.open_store(config).await?;
    let known = match known_api_key {
        Some(key) if may_do_everything(store.key(key_hash(key)).await?) => Some(key.to_owned()),
        _ => None,
    };
    let api_key_is_new = known.is_none();
    let api_key = match known {
        Some(key) => key,
        None => {
            let key = random_token("key");
            store.put_key(key_name, key_hash(&key), clock::now()).await?;
            key
        }
    };
    store.close().await;
    Ok(Bootstrap {
        api_key,
        api_key_is_new,
        gateway_token_file: home.token_file(),
        gateway_token,
    })
}

/// The control plane's own directory, `{data_dir}/control`, locked against another control plane while this is held.
pub(crate) struct Home {
    dir: PathBuf,
    lock: std::fs::File,
}

impl Drop for Home {
    /// A process that is being started shares the lock until it runs its own program: to close the file here is not enough.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, dir = %self.dir.display(), "the control plane's directory is still locked");
        }
    }
}

impl Home {
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let data_dir = &config.data_dir;
        std::fs::create_dir_all(data_dir).map_err(Error::file(data_dir))?;
        allow_passing(data_dir).map_err(Error::file(data_dir))?;
        let dir = data_dir.join("control");
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(Error::file(&dir)(error)),
            _ => {}
        }
        let path = dir.join("lock");
        let lock = private().truncate(false).open(&path).map_err(Error::file(&path))?;
        // A file of SQLite is one control plane's; those who share a PostgreSQL may share the directory.
        let locked = match config.store {
            StoreConfig::Sqlite => lock.try_lock(),
            StoreConfig::Postgres(_) => lock.try_lock_shared(),
        };
        match locked {
            Ok(()) => Ok(Self { dir, lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked { path }),
            Err(std::fs::TryLockError::Error(error)) => Err(Error::file(path)(error)),
        }
    }

    /// A state that is gone must not be made anew where its projects' files still are: the next project of a name would have the
    /// files, and the OS user, of the one before.
    pub(crate) fn refuse_without_state(&self, config: &Config) -> Result<(), Error> {
        let path = self.dir.join("control.sqlite");
        let (StoreConfig::Sqlite, Some(data_dir)) = (&config.store, self.dir.parent()) else {
            return Ok(());
        };
        if path.try_exists().map_err(Error::file(&path))? {
            return Ok(());
        }
        let dir = data_dir.join("projects");
        let projects = match std::fs::read_dir(&dir) {
            Ok(entries) => entries.count(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Error::file(&dir)(error)),
        };
        match projects {
            0 => Ok(()),
            projects => Err(Error::StateGone { path, dir, projects }),
        }
    }

    pub(crate) async fn open_store(&self, config: &Config) -> Result<Arc<dyn Store>, StoreError> {
        let keys = config.store_keys.clone().unwrap_or_else(|| self.dir.join("store.keys"));
        store::open(&config.store, &self.dir.join("control.sqlite"), &keys).await
    }

    fn token_file(&self) -> PathBuf {
        self.dir.join("gateway.token")
    }

    /// Made at the first call, the same ever after.
    pub(crate) fn gateway_token(&self) -> Result<String, Error> {
        let path = self.token_file();
        if let Some(token) = read_token(&path)? {
            return Ok(token);
        }
        // Written elsewhere first: another control plane that shares the directory must not read half of it.
        let (token, fresh) = (random_token("gateway"), self.dir.join(random_token("new")));
        let written = private()
            .truncate(true)
            .open(&fresh)
            .and_then(|mut file| writeln!(file, "{token}"));
        written.map_err(Error::file(&fresh))?;
        let linked = std::fs::hard_link(&fresh, &path);
        std::fs::remove_file(&fresh).map_err(Error::file(&fresh))?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let other = read_token(&path)?;
                return other.ok_or_else(|| Error::file(&path)(io::Error::other("is empty")));
            }
            linked => linked.map_err(Error::file(&path))?,
        }
        Ok(token)
    }
}

fn read_token(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(token) if token.trim().is_empty() => Err(Error::file(path)(io::Error::other(
            "is empty: remove it and a new token is made",
        ))),
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path)(error)),
    }
}

/// Another key than the one made here may stand in `up.json`; people and scripts rely on its working for all.
fn may_do_everything(key: Option<KeyRecord>) -> bool {
    key.is_some_and(|key| key.scope == Scope::Admin && key.expires.is_none())
}

fn private() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).write(true).mode(0o600);
    options
}

/// Projects have OS users of their own when control runs as root; they must be able to get to their directories, which
/// protect themselves. A data directory that was made private is opened for passing through, not for looking in.
fn allow_passing(data_dir: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mode = std::fs::metadata(data_dir)?.permissions().mode();
    if mode & 0o001 == 0 {
        std::fs::set_permissions(data_dir, std::fs::Permissions::from_mode(mode & 0o777 | 0o011))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RawConfig;

    fn config(dir: &tempfile::TempDir) -> Config {
        Config::check(dir.path().join("data"), RawConfig::default()).unwrap()
    }

    #[tokio::test]
    async fn second_start_finds_key_and_token() {
        let dir = tempfile::tempdir().unwrap();
        let first = bootstrap(&config(&dir), "up", None).await.unwrap();
        assert!(first.api_key_is_new);
        let second = bootstrap(&config(&dir), "up", Some(&first.api_key)).await.unwrap();
        assert!(!second.api_key_is_new);
        assert_eq!(
            (second.api_key, second.gateway_token),
            (first.api_key, first.gateway_token)
        );
        let mode = std::fs::metadata(&second.gateway_token_file)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_state_that_is_gone_is_not_made_anew_beside_its_projects() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        bootstrap(&config, "up", None).await.unwrap();
        let (state, project) = (
            config.data_dir.join("control/control.sqlite"),
            config.data_dir.join("projects/shop"),
        );
        std::fs::create_dir_all(&project).unwrap();
        bootstrap(&config, "up", None).await.unwrap();
        std::fs::remove_file(&state).unwrap();
        let refused = bootstrap(&config, "up", None).await.unwrap_err().to_string();
        assert!(
            refused.contains("control.sqlite: is gone") && refused.contains("1 project"),
            "{refused}"
        );
        assert!(!state.exists(), "nothing was made");
        std::fs::remove_dir(&project).unwrap();
        bootstrap(&config, "up", None).await.unwrap();
    }

    #[tokio::test]
    async fn lost_key_is_replaced_and_no_longer_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let first = bootstrap(&config(&dir), "up", None).await.unwrap();
        let second = bootstrap(&config(&dir), "up", None).await.unwrap();
        assert!(second.api_key_is_new);
        let third = bootstrap(&config(&dir), "up", Some(&first.api_key)).await.unwrap();
        assert!(third.api_key_is_new, "the first key was replaced");
    }

    #[tokio::test]
    async fn two_control_planes_never_share_a_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _held = Home::open(&config(&dir)).unwrap();
        assert!(matches!(
            bootstrap(&config(&dir), "up", None).await,
            Err(Error::Locked { .. })
        ));
    }

    #[test]
    fn debug_shows_no_secret() {
        let bootstrap = Bootstrap {
            api_key: "sesame".into(),
            api_key_is_new: true,
            gateway_token_file: "/x".into(),
            gateway_token: "sesame".into(),
        };
        assert!(!format!("{bootstrap:?}").contains("sesame"));
    }
}
