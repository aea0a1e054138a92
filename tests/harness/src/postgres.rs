//! A PostgreSQL of the test process's own: one per process, on a free loopback port, with a fresh database for whoever
//! asks. It keeps nothing safe (no fsync) and ends with the process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::geteuid;

use crate::keeper::Keeper;
use crate::ports::free_port;

/// Of the server's superuser.
const PASSWORD: &str = "harness";
/// Starting includes nothing but reading a fresh directory; this only guards against hanging.
const START_SECONDS: &str = "60";

const CERTIFICATE: &str = "server.crt";
const CERTIFICATE_KEY: &str = "server.key";

/// See the head of this file.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    /// Whom it runs as, if not as the tests do.
    user: Option<(u32, u32)>,
    port: u16,
    databases: AtomicU32,
    keeper: Keeper,
}

impl Postgres {
    /// The one of this process, started at the first call. Blocks while it starts, a second or two.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(false));
        &SHARED
    }

    /// One more, with TLS: its certificate is for `127.0.0.1` and no other name, and [`Postgres::ca`] is its own.
    pub fn with_tls() -> Self {
        Self::start(true)
    }

    /// One of the caller's own, who may stop and change it.
    pub fn alone() -> Self {
        Self::start(false)
    }

    /// What a client must trust.
    pub fn ca(&self) -> PathBuf {
        self.keeper.dir().join(CERTIFICATE)
    }

    /// The URL of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url_of("postgres", PASSWORD, &name)
    }

    /// The URL of a new database whose tables are in that directory; the log of their changes stays where it is.
    pub fn database_in(&self, dir: &Path) -> String {
        if let Some((uid, gid)) = self.user {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).expect("a directory of postgres's own");
        }
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(
            "postgres",
            &format!("CREATE TABLESPACE {name} LOCATION '{}'", dir.display()),
        );
        self.sql("postgres", &format!("CREATE DATABASE {name} TABLESPACE {name}"));
        self.url_of("postgres", PASSWORD, &name)
    }

    /// Starts it again as a standby that hears of no primary: it is read from, and takes no changes.
    pub fn becomes_standby(&self) {
        let signal = self.data().join("standby.signal");
        fs::write(&signal, "").expect("a file that says so");
        if let Some((uid, gid)) = self.user {
            std::os::unix::fs::chown(&signal, Some(uid), Some(gid)).expect("a file of postgres's own");
        }
        self.control(&[
            "restart",
            "-m",
            "fast",
            "-l",
            &self.data().join("log").display().to_string(),
        ]);
    }

    /// Ends that: it takes changes.
    pub fn is_promoted(&self) {
        self.control(&["promote"]);
    }

    fn data(&self) -> PathBuf {
        self.keeper.dir().join("data")
    }

    /// Waits until it is done.
    fn control(&self, what: &[&str]) {
        let mut pg_ctl = command(&self.programs.join("pg_ctl"), self.user);
        pg_ctl
            .args(what)
            .args(["-w", "-s", "-t", START_SECONDS])
            .arg("-D")
            .arg(self.data());
        let status = pg_ctl.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let done = status.expect("pg_ctl runs").success();
        assert!(done, "pg_ctl {what:?}: {}", log(&self.data()));
    }

    /// A URL with whatever login.
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements as superuser; answers what they print, unaligned.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-qAtX",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
        ])
        .args(["-p", &self.port.to_string(), "-c", statements])
        .env("PGPASSWORD", PASSWORD);
        finished("psql", &psql.stdin(Stdio::null()).output().expect("psql runs"))
    }

    /// All that is in a database, as its backup has it.
    pub fn dump(&self, database: &str) -> String {
        let mut pg_dump = Command::new(self.programs.join("pg_dump"));
        pg_dump
            .args(["-h", "127.0.0.1", "-U", "postgres", "-d", database])
            .args(["-p", &self.port.to_string()])
            .env("PGPASSWORD", PASSWORD);
        let dumped = finished("pg_dump", &pg_dump.stdin(Stdio::null()).output().expect("pg_dump runs"));
        // Recent ones frame a dump with a random word.
        let framing = |line: &&str| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ");
        dumped.lines().filter(framing).collect::<Vec<_>>().join("\n")
    }

    /// The URL of a new database that begins as another one is, which nobody may be connected to.
    pub fn copy(&self, database: &str) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {database}"));
        self.url_of("postgres", PASSWORD, &name)
    }

    fn start(tls: bool) -> Self {
        let programs = programs();
        let keeper = Keeper::new("selkie-pg-");
        let (data, password_file) = (keeper.dir().join("data"), keeper.dir().join("password"));
        fs::create_dir(&data).expect("a data directory");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("its mode");
        fs::write(&password_file, PASSWORD).expect("a password file");
        let user = user();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&data, Some(uid), Some(gid)).expect("a data directory of postgres's own");
        }
        let mut initdb = command(&programs.join("initdb"), user);
        // A language with an order of its own, so that whoever relies on the order of bytes must say so.
        initdb.args([
            "--no-sync",
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        initdb.args(["--locale-provider=icu", "--icu-locale=en-US"]);
        initdb.arg("--pwfile").arg(&password_file).arg("-D").arg(&data);
        finished("initdb", &initdb.output().expect("initdb runs"));
        if tls {
            make_certificate(keeper.dir(), user);
        }
        let port = free_port();
        let mut settings = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c full_page_writes=off \
             -c max_connections=200"
        );
        if tls {
            let file = |name| keeper.dir().join(name).display().to_string();
            let (certificate, key) = (file(CERTIFICATE), file(CERTIFICATE_KEY));
            settings += &format!(" -c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}");
        }
        let mut pg_ctl = command(&programs.join("pg_ctl"), user);
        pg_ctl.args(["start", "-w", "-s", "-t", START_SECONDS, "-o", &settings]);
        pg_ctl.arg("-D").arg(&data).arg("-l").arg(data.join("log"));
        let status = pg_ctl
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("pg_ctl runs");
        assert!(status.success(), "PostgreSQL does not start: {}", log(&data));
        Self {
            programs,
            user,
            port,
            databases: AtomicU32::new(0),
            keeper,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        let file = fs::read_to_string(self.keeper.dir().join("data/postmaster.pid")).unwrap_or_default();
        let pid = file.lines().next().and_then(|pid| pid.parse().ok());
        pid.expect("the process id of a running PostgreSQL")
    }
}

impl Drop for Postgres {
    /// The keeper would give it time to end by itself first.
    fn drop(&mut self) {
        let mut pg_ctl = command(&self.programs.join("pg_ctl"), self.user);
        pg_ctl
            .args(["stop", "-m", "immediate", "-s"])
            .arg("-D")
            .arg(self.data());
        // Where it does not end, the keeper sees to it.
        let _ = pg_ctl.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A program of the server's, as the user that it runs as.
fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).current_dir("/").env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// For the address that it listens on, signed by itself.
fn make_certificate(dir: &Path, user: Option<(u32, u32)>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    fs::write(dir.join(CERTIFICATE), made.cert.pem()).expect("a certificate file");
    let key = dir.join(CERTIFICATE_KEY);
    fs::write(&key, made.signing_key.serialize_pem()).expect("a key file");
    // PostgreSQL takes no key that others may read.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("its mode");
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(&key, Some(uid), Some(gid)).expect("a key of postgres's own");
    }
}

fn log(data: &Path) -> String {
    fs::read_to_string(data.join("log")).unwrap_or_default()
}

fn finished(program: &str, output: &Output) -> String {
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{program}: {said}{complained}");
    said.trim_end().to_owned()
}

/// Debian keeps them beside the PATH, by version; the newest.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |dir: &PathBuf| dir.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let debian = versions
        .map(|entry| entry.path().join("bin"))
        .filter(|dir| dir.join("initdb").exists())
        .max_by_key(version);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|dir| dir.join("initdb").exists())
    };
    debian
        .or_else(on_path)
        .expect("PostgreSQL is not installed: run `tests/install packages`")
}

/// PostgreSQL does not run as root; then as the user that its package makes.
fn user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut ids = line.expect("an OS user `postgres`").split(':').skip(2);
    let mut id = || ids.next()?.parse().ok();
    id().zip(id())
}
