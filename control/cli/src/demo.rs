//! What `selkie up` leaves in the data directory for people and scripts: `up.json` and `demo.cnf`, both for their owner only.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

pub(crate) const UP_JSON: &str = "up.json";
pub(crate) const DEMO_CNF: &str = "demo.cnf";

/// `up.json`: where everything is, with the secrets to use it. Kept over stops, since it is the only place that holds the
/// demo user's password and the API key.
#[derive(Serialize, Deserialize)]
pub(crate) struct UpJson {
    pub(crate) mysql: Mysql,
    /// The SQL console comes with a later part; its place is kept.
    pub(crate) console: Option<Console>,
    pub(crate) rest: Rest,
    pub(crate) project: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Mysql {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) ca: Option<PathBuf>,
    /// `gateway.listeners`; an earlier version wrote none.
    #[serde(default)]
    pub(crate) listeners: Vec<Listener>,
}

/// Where MySQL clients connect besides.
#[derive(Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The one project that it is for; clients log in there by the user's name alone.
    pub(crate) project: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Console {
    pub(crate) port: u16,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Rest {
    pub(crate) url: String,
    pub(crate) api_key: String,
}

impl UpJson {
    /// None: this data directory was never up.
    pub(crate) fn read(data_dir: &Path) -> Result<Option<Self>, Failure> {
        let path = data_dir.join(UP_JSON);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|e| Failure::of(path.display(), e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Failure::of(path.display(), e)),
        }
    }

    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self)?;
        write_private(&data_dir.join(UP_JSON), &text)
    }

    /// A client option file for the demo user, TCP on purpose: `localhost` would mean a socket.
    pub(crate) fn write_option_file(&self, data_dir: &Path) -> Result<Option<PathBuf>, Failure> {
        let (Some(project), Some(user), Some(password)) = (&self.project, &self.user, &self.password) else {
            return Ok(None);
        };
        let mut text = format!(
            "[client]\nprotocol=tcp\nhost={}\nport={}\nuser={project}.{user}\npassword=\"{password}\"\n",
            self.mysql.host, self.mysql.port
        );
        if let Some(ca) = &self.mysql.ca {
            text.push_str(&format!("ssl-ca={}\n", ca.display()));
        }
        if let Some(database) = &self.database {
            text.push_str(&format!("\n[mysql]\ndatabase={database}\n"));
        }
        let path = data_dir.join(DEMO_CNF);
        write_private(&path, &text)?;
        Ok(Some(path))
    }
}

/// Whole or not at all, and never readable by others.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let unfinished = path.with_extension("unfinished");
    let written = || -> std::io::Result<()> {
        match std::fs::remove_file(&unfinished) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    };
    written().map_err(|e| Failure::of(path.display(), e))
}
