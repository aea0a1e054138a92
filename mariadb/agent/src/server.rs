//! The server binary of this machine and what it says of itself.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::error::Error;

/// Where Debian puts it, besides the PATH.
const USUAL: [&str; 2] = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"];

/// A mariadbd that is there.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) program: PathBuf,
}

impl Server {
    /// The given one, or the first found.
    pub(crate) fn find(given: Option<&Path>) -> Result<Self, Error> {
        let looked_for: Vec<PathBuf> = match given {
            Some(path) => vec![path.to_owned()],
            None => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let on_path = std::env::split_paths(&path).map(|dir| dir.join("mariadbd"));
                USUAL.iter().map(PathBuf::from).chain(on_path).collect()
            }
        };
        match looked_for.iter().find(|path| path.is_file()) {
            Some(program) => Ok(Self {
                program: program.clone(),
            }),
            None => Err(Error::NoServer { looked_for }),
        }
    }

    /// `10.11.19-MariaDB-0+deb12u1`, without starting it.
    pub(crate) async fn version(&self) -> Result<String, Error> {
        let output = Command::new(&self.program)
            .args(["--no-defaults", "--version"])
            .output()
            .await
            .map_err(Error::system("cannot run", &self.program))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.split_whitespace().skip_while(|word| *word != "Ver").skip(1);
        match words.next() {
            Some(version) => Ok(version.to_owned()),
            None => Err(Error::Tool {
                tool: format!("{} --version", self.program.display()),
                status: output.status.to_string(),
                said: text.into_owned(),
            }),
        }
    }

    /// A tool of the same installation: `mariadb-install-db`.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        let beside = self
            .program
            .parent()
            .and_then(Path::parent)
            .map(|prefix| prefix.join("bin").join(name));
        beside
            .filter(|path| path.is_file())
            .unwrap_or_else(|| PathBuf::from(name))
    }
}
