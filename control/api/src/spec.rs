//! What control tells an agent to run: one compute of one project at one incarnation. Written by control as a JSON file
//! (mode 0600) and named on the agent's command line, so that no secret ever stands there. The agent removes nothing
//! from it and asks control nothing: it must be able to run with control gone.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::settings::Offer;

/// The name of mariadbd's unix socket inside [`Spec::run_dir`].
pub const SERVER_SOCKET: &str = "m.sock";
/// The name of the agent's unix socket inside [`Spec::run_dir`].
pub const AGENT_SOCKET: &str = "a.sock";
/// Statements that a server executes before it greets, inside [`Spec::run_dir`]. The agent takes the file away at the greeting: as
/// long as it is there the server is starting, and has told nobody anything.
pub const INIT_FILE: &str = "init.sql";
/// The longest socket path that control hands out; Linux ends at 107 bytes, the rest is for suffixes that servers add.
pub const SOCKET_PATH_BYTES_MAX: usize = 100;

/// One start of one compute. `selkie agent run --spec FILE` obeys all of it; `selkie agent prepare --spec FILE` uses the
/// directories, the uid and the template, and does nothing where the data directory is there already.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Whose compute this is.
    pub project: String,
    /// Grows with every start; 0 for `prepare`, which starts nothing.
    pub incarnation: u64,
    /// mariadbd's data directory: mode 0700, owned by `uid`. Made by `prepare`.
    pub data_dir: PathBuf,
    /// Short; holds [`SERVER_SOCKET`] and [`AGENT_SOCKET`] and what else lives as long as the compute.
    pub run_dir: PathBuf,
    /// Where the agent and mariadbd write their logs.
    pub log_dir: PathBuf,
    /// A prepared data directory of the same server version, to clone from.
    pub template_dir: PathBuf,
    /// The server binary; found on the PATH where absent.
    #[serde(default)]
    pub mariadbd: Option<PathBuf>,
    /// Run mariadbd as this user, one per project; absent when control is not root.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Goes with `uid`.
    #[serde(default)]
    pub gid: Option<u32>,
    /// 1 CU is 1 vCPU and 4 GiB; sets buffer pool and connections.
    pub size_cu: f64,
    /// The password, as 64 hex digits of 32 random bytes, of the gateway's method on every account; new at each
    /// incarnation, empty for `prepare`.
    #[serde(default)]
    pub gateway_secret_hex: String,
    /// Accounts that must exist when the compute is ready.
    #[serde(default)]
    pub accounts: Vec<SpecAccount>,
    /// Accounts that must not exist when the compute is ready.
    #[serde(default)]
    pub removed_accounts: Vec<String>,
    /// Databases that must exist when the compute is ready.
    #[serde(default)]
    pub databases: Vec<String>,
    /// Those of `databases` that no server has been told of: every account of `accounts` that is there gets rights on them.
    #[serde(default)]
    pub new_databases: Vec<String>,
    /// Server settings of the project ([`crate::settings::ALL`]), over the agent's own.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// From exec to the first greeting; then the start has failed.
    pub start_timeout_ms: u64,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout_ms: u64,
}

/// An account of a project, as the compute needs it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecAccount {
    /// The account's name; its host is `%`.
    pub user: String,
    /// SHA1(SHA1(password)) as 40 hex digits.
    pub native_sha1_hex: String,
    /// SHA256(SHA256(password)) as 64 hex digits, where known.
    #[serde(default)]
    pub caching_sha2_hex: Option<String>,
    /// May also CREATE USER.
    pub admin: bool,
    /// The server has had it as it should be: what was done to it in SQL since is the truth, also that it is gone.
    #[serde(default)]
    pub known: bool,
    /// A server has had it: where it is not known, another password is all that it needs, and where it is gone nothing.
    #[serde(default)]
    pub password_only: bool,
}

impl Spec {
    /// Where mariadbd listens.
    pub fn server_socket(&self) -> PathBuf {
        self.run_dir.join(SERVER_SOCKET)
    }

    /// What a starting server executes; see [`INIT_FILE`].
    pub fn init_file(&self) -> PathBuf {
        self.run_dir.join(INIT_FILE)
    }

    /// Where the agent listens.
    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join(AGENT_SOCKET)
    }

    /// [`Spec::start_timeout_ms`] as a duration.
    pub fn start_timeout(&self) -> Duration {
        Duration::from_millis(self.start_timeout_ms)
    }

    /// [`Spec::stop_timeout_ms`] as a duration.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_millis(self.stop_timeout_ms)
    }

    /// Reads a spec file.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = std::fs::read(path).map_err(|source| SpecError::Read {
            path: path.into(),
            source,
        })?;
        // serde's message names the field and the line, never a value that it could parse.
        serde_json::from_slice(&text).map_err(|source| SpecError::Parse {
            path: path.into(),
            source,
        })
    }

    /// Writes the spec to a file that only its owner can read, replacing what was there.
    pub fn write(&self, path: &Path) -> Result<(), SpecError> {
        use std::{io::Write, os::unix::fs::OpenOptionsExt};
        let text = serde_json::to_vec(self).map_err(|source| SpecError::Parse {
            path: path.into(),
            source,
        })?;
        let written = (|| {
            // Removed first, so that the mode is right from the first byte even where an older file had another.
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(&text)
        })();
        written.map_err(|source| SpecError::Write {
            path: path.into(),
            source,
        })
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("project", &self.project)
            .field("incarnation", &self.incarnation)
            .field("data_dir", &self.data_dir)
            .field("run_dir", &self.run_dir)
            .field("uid", &self.uid)
            .field("size_cu", &self.size_cu)
            .field("accounts", &self.accounts)
            .field("databases", &self.databases)
            .field("gateway_secret_hex", &"redacted")
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SpecAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpecAccount")
            .field("user", &self.user)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// What `selkie agent template --templates-dir DIR [--mariadbd PATH]` prints, as one line of JSON, on stdout: the prepared
/// template of the installed server version, made below DIR when it was not there yet. Anything else goes to stderr; an
/// exit status other than 0 means the last lines of stderr say why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Goes into [`Spec::template_dir`].
    pub template_dir: PathBuf,
    /// `@@version` of the server that made it.
    pub version: String,
    /// The global variables that drivers ask for while connecting, in lower case, as a fresh compute answers them.
    pub variables: BTreeMap<String, String>,
    /// What projects may set, as this server has it.
    pub offer: Offer,
}

/// Why a spec file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file is not there or cannot be read.
    #[error("cannot read the spec {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a spec.
    #[error("{} is not a spec: {source}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the spec {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn spec() -> Spec {
        Spec {
            project: "demo".into(),
            incarnation: 3,
            data_dir: "/data".into(),
            run_dir: "/run/x".into(),
            log_dir: "/log".into(),
            template_dir: "/template".into(),
            mariadbd: None,
            uid: Some(200_000),
            gid: Some(200_000),
            size_cu: 0.25,
            gateway_secret_hex: "ab".repeat(32),
            accounts: vec![SpecAccount {
                user: "app".into(),
                native_sha1_hex: "cd".repeat(20),
                caching_sha2_hex: None,
                admin: false,
                known: false,
                password_only: false,
            }],
            removed_accounts: Vec::new(),
            new_databases: Vec::new(),
            databases: vec!["app".into()],
            settings: BTreeMap::new(),
            start_timeout_ms: 60_000,
            stop_timeout_ms: 60_000,
        }
    }

    #[test]
    fn file_is_read_back_and_private() {
        let path = std::env::temp_dir().join(format!("selkie-spec-{}.json", std::process::id()));
        std::fs::write(&path, "older, readable by all").unwrap();
        spec().write(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        let read = Spec::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(read.accounts, spec().accounts);
        assert_eq!(read.server_socket(), Path::new("/run/x/m.sock"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", spec());
        assert!(!shown.contains("abab"), "{shown}");
        assert!(!shown.contains("cdcd"), "{shown}");
    }
}
