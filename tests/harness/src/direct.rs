//! A plain `mariadbd` of its own, with the settings that matter to clients as a compute has them: the oracle that the
//! gateway is compared with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use crate::client::Endpoint;
use crate::keeper::Keeper;
use crate::ports::free_port;
use crate::process;
use crate::wait::eventually;

/// Settings that a client can notice.
const SETTINGS: &[&str] = &[
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--max-allowed-packet=1G",
    "--local-infile=1",
    "--performance-schema=0",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--innodb-buffer-pool-size=256M",
    "--innodb-log-file-size=256M",
    "--innodb-flush-log-at-trx-commit=0",
    "--loose-feedback=0",
];

/// A running server without a gateway; stops when dropped.
#[derive(Debug)]
pub struct Direct {
    pid: u32,
    /// 0: no network, the unix socket only.
    port: u16,
    keeper: Keeper,
}

/// Options of a compute that say where it is and who uses it, not how it behaves; a server beside it has its own. The
/// session tracker is the gateway's need: clients are promised MariaDB's defaults.
const OF_A_COMPUTE: &[&str] = &[
    "socket",
    "pid-file",
    "log-error",
    "init-file",
    "tmpdir",
    "datadir",
    "secure-file-priv",
    "session-track-",
];

impl Direct {
    /// Makes a data directory and starts the server on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let keeper = Keeper::new("selkie-d-");
        install(&keeper.dir().join("data"));
        loop {
            let port = free_port();
            if let Some(pid) = launch(keeper.dir(), port).await {
                return Self { pid, port, keeper };
            }
        }
    }

    /// Starts a server with the option file of a project's compute (which must have run once) and a copy of the template
    /// that its data came from. It is reached over a unix socket only, as the compute is.
    pub async fn like_compute(data_dir: &Path, project: &str) -> Self {
        let keeper = Keeper::new("selkie-d-");
        let dir = keeper.dir();
        let theirs = data_dir.join("run").join(project).join("my.cnf");
        let theirs = fs::read_to_string(&theirs).unwrap_or_else(|why| panic!("{}: {why}", theirs.display()));
        let own = |name: &str| dir.join(name).display().to_string();
        let options: String = theirs
            .lines()
            .filter(|line| !OF_A_COMPUTE.iter().any(|name| line.starts_with(name)))
            .map(|line| format!("{line}\n"))
            .chain([
                "user=root\n".into(),
                format!("datadir={}\nsocket={}\ntmpdir={}\n", own("data"), own("s"), own("")),
                format!(
                    "pid-file={}\nlog-error={}\nsecure-file-priv={}\n",
                    own("pid"),
                    own("error.log"),
                    own("files")
                ),
            ])
            .collect();
        fs::write(dir.join("my.cnf"), options).expect("the option file");
        fs::create_dir(dir.join("files")).expect("the directory of files");
        copy_template(&data_dir.join("templates"), &dir.join("data"));
        let mut child = Command::new("mariadbd")
            .arg(format!("--defaults-file={}", own("my.cnf")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mariadbd");
        eventually("mariadbd listens", async || {
            let ended = child.try_wait().expect("the state of mariadbd");
            assert!(ended.is_none(), "mariadbd ended: see {}", dir.display());
            UnixStream::connect(dir.join("s")).await.ok()
        })
        .await;
        Self {
            pid: child.id(),
            port: 0,
            keeper,
        }
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.keeper.dir().join("s")
    }

    /// Runs SQL as the server's root, over the unix socket.
    pub fn sql(&self, sql: &str) {
        let done = Command::new("mariadb")
            .args(["--no-defaults", "-u", "root", "-e", sql, "-S"])
            .arg(self.keeper.dir().join("s"))
            .output()
            .expect("the mariadb client");
        assert!(
            done.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// A database and a user with all rights on it and no others, both called `name`.
    pub fn account(&self, name: &str) -> Endpoint {
        let password = format!("{name}-Pass'word");
        let quoted = password.replace('\'', "''");
        self.sql(&format!(
            "CREATE DATABASE `{name}`; CREATE USER `{name}`@`%` IDENTIFIED BY '{quoted}'; GRANT ALL ON `{name}`.* TO `{name}`@`%`"
        ));
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.port,
            user: name.into(),
            password,
            database: name.into(),
            ca: None,
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        process::stop(self.pid, Duration::from_secs(20));
    }
}

fn copy_template(templates: &Path, to: &Path) {
    let from = fs::read_dir(templates)
        .expect("the templates")
        .filter_map(|entry| Some(entry.ok()?.path().join("data")))
        .find(|data| data.is_dir())
        .expect("a template");
    let done = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .arg(from)
        .arg(to)
        .status();
    assert!(done.is_ok_and(|status| status.success()), "copying the template");
}

fn install(data: &Path) {
    let done = Command::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ])
        .args(["--innodb-log-file-size=256M", "--innodb-buffer-pool-size=64M"])
        .arg(format!("--datadir={}", data.display()))
        // A server that starts removes what looks like temporary tables in its temporary directory, also another's.
        .env("TMPDIR", data.parent().expect("the server's directory"))
        .output()
        .expect("mariadb-install-db");
    assert!(
        done.status.success(),
        "mariadb-install-db: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// The server's process id; none when it did not start, as somebody else took the port.
async fn launch(dir: &Path, port: u16) -> Option<u32> {
    let log = File::create(dir.join("error.log")).expect("the log file");
    let mut child = Command::new("mariadbd")
        .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1"])
        .args(SETTINGS)
        .arg(format!("--port={port}"))
        .arg(format!("--datadir={}", dir.join("data").display()))
        .arg(format!("--socket={}", dir.join("s").display()))
        .arg(format!("--pid-file={}", dir.join("pid").display()))
        .arg(format!("--tmpdir={}", dir.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("mariadbd");
    let started = eventually("mariadbd listens", async || {
        if child.try_wait().expect("the state of mariadbd").is_some() {
            return Some(false);
        }
        TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        // It is listened at after the port.
        UnixStream::connect(dir.join("s")).await.ok()?;
        Some(true)
    })
    .await;
    if started {
        return Some(child.id());
    }
    let log = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
    assert!(
        log.contains("Address already in use"),
        "mariadbd does not start:\n{log}"
    );
    None
}
