//! `selkie up` as a process of its own: a data directory, ports and settings that no other one has.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::cli::{self, Output};
use crate::client::Endpoint;
use crate::http::{self, Response};
use crate::keeper::Keeper;
use crate::logs::Logs;
use crate::ports::free_port;
use crate::process;
use crate::project::Project;
use crate::secrets;
use crate::wait::eventually;

/// How long a clean stop may take: commands in flight, then every compute's shut-down.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// The start information that `selkie up` writes when all is ready.
#[derive(Clone, Deserialize)]
#[allow(missing_docs, reason = "the file's own names; docs: DESIGN.md")]
pub struct Up {
    pub mysql: UpMysql,
    pub rest: UpRest,
    pub project: String,
    pub user: String,
    pub password: String,
    pub database: String,
}

/// `mysql` of [`Up`].
#[derive(Clone, Deserialize)]
#[allow(missing_docs, reason = "the file's own names")]
pub struct UpMysql {
    pub host: String,
    pub port: u16,
    pub ca: Option<PathBuf>,
    pub listeners: Vec<UpListener>,
}

/// One of `mysql.listeners` of [`Up`].
#[derive(Clone, Deserialize)]
#[allow(missing_docs, reason = "the file's own names")]
pub struct UpListener {
    pub host: String,
    pub port: u16,
    pub project: Option<String>,
}

/// `rest` of [`Up`].
#[derive(Clone, Deserialize)]
#[allow(missing_docs, reason = "the file's own names")]
pub struct UpRest {
    pub url: String,
    pub api_key: String,
}

/// A running Selkie; stops when dropped.
pub struct Selkie {
    /// Its logs.
    pub logs: Logs,
    up: Up,
    http_port: u16,
    filter: Option<&'static str>,
    process: Mutex<Child>,
    runs: AtomicU32,
    keeper: Keeper,
    /// Whom it runs as, if not as the tests do.
    user: Option<u32>,
}

impl std::fmt::Debug for Selkie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Selkie({})", self.keeper.dir().display())
    }
}

impl Selkie {
    /// The one that all tests of this process share.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Selkie> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Starts one with the defaults.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts one whose settings file ends in `settings`. Where somebody else was quicker to take one of its ports, again
    /// with others.
    pub async fn start_with(settings: &str) -> Self {
        Self::start_logging(settings, None).await
    }

    /// The same with another filter of what is logged; none: the default.
    pub async fn start_logging(settings: &str, filter: Option<&'static str>) -> Self {
        Self::start_in(Keeper::new("selkie-t-"), settings, filter, None).await
    }

    /// Starts one with the defaults that runs as another OS user than the tests, which only root can do.
    pub async fn start_as(user: u32) -> Self {
        let keeper = Keeper::new("selkie-t-");
        chown(keeper.dir(), Some(user), Some(user)).expect("a directory of its own");
        // Where the build is, other users may not be let through.
        std::fs::copy(binary(), keeper.dir().join("selkie")).expect("a copy of the program");
        Self::start_in(keeper, "", None, Some(user)).await
    }

    async fn start_in(keeper: Keeper, settings: &str, filter: Option<&'static str>, user: Option<u32>) -> Self {
        let mut run = 0;
        let (http_port, process, up) = loop {
            let http_port = write_settings(keeper.dir(), settings);
            let before = written(keeper.dir());
            let mut process = launch(keeper.dir(), run, filter, user);
            match ready(keeper.dir(), &mut process, run, before).await {
                Ok(up) => break (http_port, process, up),
                Err(said) => assert!(
                    (said.contains("in use") || said.contains("listens there")) && run < 5,
                    "selkie up ended: {said}"
                ),
            }
            run += 1;
        };
        let logs = Logs::of(keeper.dir());
        Self {
            logs,
            up,
            http_port,
            filter,
            process: Mutex::new(process),
            runs: AtomicU32::new(run + 1),
            keeper,
            user,
        }
    }

    /// What it wrote when it was ready.
    pub fn up(&self) -> &Up {
        &self.up
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.keeper.dir())
    }

    /// The directory that holds all of it: settings, logs, data.
    pub fn dir(&self) -> &Path {
        self.keeper.dir()
    }

    /// The gateway's HTTP address, for /metrics and /healthz.
    pub fn gateway_http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Where other gateways reach its control plane: a port of 127.0.0.1.
    pub fn control_port(&self) -> u16 {
        let settings = std::fs::read_to_string(self.keeper.dir().join("selkie.toml")).expect("the settings file");
        let address = settings
            .lines()
            .find_map(|line| line.strip_prefix("control.grpc.listen = \"127.0.0.1:"));
        let port = address.and_then(|rest| rest.trim_end_matches('"').parse().ok());
        port.expect("the control plane's address")
    }

    /// The sum of all series of one of the gateway's metrics.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = http::request("GET", &format!("{}/metrics", self.gateway_http()), None, None).await;
        let series = page.body.lines().filter_map(|line| line.rsplit_once(' '));
        let of_name = series.filter(|(series, _)| series.split('{').next() == Some(name));
        of_name.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }

    /// The process id of `selkie up`.
    pub fn pid(&self) -> u32 {
        self.process.lock().expect("the process").id()
    }

    /// How the user of the `demo` project logs in.
    pub fn demo(&self) -> Endpoint {
        Endpoint {
            host: self.up.mysql.host.clone(),
            port: self.up.mysql.port,
            user: format!("{}.{}", self.up.project, self.up.user),
            password: self.up.password.clone(),
            database: self.up.database.clone(),
            ca: self.up.mysql.ca.clone(),
        }
    }

    /// The `demo` project.
    pub fn demo_project(&self) -> Project<'_> {
        Project::new(self, self.up.project.clone(), self.demo())
    }

    /// Sends a REST request; `path` is below `/api/v1`.
    pub async fn rest(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let url = format!("{}{path}", self.api());
        http::request(method, &url, Some(&self.up.rest.api_key), body).await
    }

    /// The URL that all REST paths stand below.
    pub fn api(&self) -> String {
        format!(
            "{}/api/v1",
            self.up.rest.url.trim_end_matches('/').trim_end_matches("/api/v1")
        )
    }

    /// Makes a project with a user `app` and a database `app`. Its name begins with `name`.
    pub async fn project(&self, name: &str) -> Project<'_> {
        self.project_of_size(name, None).await
    }

    /// The same, of so many CU instead of the default.
    pub async fn project_of_size(&self, name: &str, size_cu: Option<f64>) -> Project<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let password = format!("pw of {id}");
        let body = json!({
            "id": id,
            "user": {"name": "app", "password": password},
            "database": "app",
            "size_cu": size_cu,
        });
        let made = self.rest("POST", "/projects", Some(&body)).await;
        assert_eq!(made.status, 201, "making project {id}: {made:?}");
        let endpoint = Endpoint {
            user: format!("{id}.app"),
            password,
            database: "app".into(),
            ..self.demo()
        };
        Project::new(self, id, endpoint)
    }

    /// Runs the command line `selkie args...` against this one.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(binary());
        command.args(args).arg("--data-dir").arg(self.data_dir());
        cli::run(&mut command).await
    }

    /// Sends a signal to `selkie up`.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Stops it with SIGTERM; whether it ended by itself, and with which exit code.
    pub fn stop(&self) -> (bool, Option<i32>) {
        let mut process = self.process.lock().expect("the process");
        let clean = process::stop(process.id(), STOP_LIMIT);
        (clean, process.wait().ok().and_then(|status| status.code()))
    }

    /// Kills it with SIGKILL, as a crash does; its agents and computes go on.
    pub fn crash(&self) {
        let mut process = self.process.lock().expect("the process");
        let _ = process.kill();
        let _ = process.wait();
    }

    /// Starts it again on the same data after [`Selkie::stop`] or [`Selkie::crash`], and reads what it wrote.
    pub async fn restart(&mut self) {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let before = written(self.keeper.dir());
        let mut process = launch(self.keeper.dir(), run, self.filter, self.user);
        self.up = ready(self.keeper.dir(), &mut process, run, before)
            .await
            .expect("a start on the same data");
        *self.process.lock().expect("the process") = process;
    }

    /// The same, as the user that the tests run as.
    pub async fn restart_as_root(&mut self) {
        self.user = None;
        self.restart().await;
    }

    /// Process ids of the `mariadbd` that run on its data.
    pub fn servers(&self) -> Vec<u32> {
        process::running(&process::of_directory(self.keeper.dir()), "mariadbd")
    }
}

impl Drop for Selkie {
    fn drop(&mut self) {
        self.stop();
        let left = self.servers();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "still running after the stop: {left:?}");
            self.logs.check();
        }
    }
}

/// The `selkie` binary of the same build.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    let mut dir = own.parent().expect("the target directory");
    // target/PROFILE/deps/test, or target/PROFILE/program.
    if dir.ends_with("deps") {
        dir = dir.parent().expect("the target directory");
    }
    let path = dir.join("selkie");
    assert!(
        path.exists(),
        "{} is missing: build it first, with `cargo build -p selkie` or `make test`",
        path.display()
    );
    path
}

/// `selkie up` with the settings file in `dir`; for tests of starts that fail.
pub fn up_command(dir: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        // The tests' own; Selkie would take it for a setting.
        .env_remove("SELKIE_SEED")
        .arg("up")
        .arg("--config")
        .arg(dir.join("selkie.toml"))
        .arg("--data-dir")
        .arg(data_dir(dir));
    command
}

/// Writes a settings file with free ports, ending in `settings`; the gateway's HTTP port.
pub fn write_settings(dir: &Path, settings: &str) -> u16 {
    let [mysql, gateway_http, rest, grpc] = [free_port(), free_port(), free_port(), free_port()];
    let text = format!(
        "gateway.listen = \"127.0.0.1:{mysql}\"\n\
         gateway.http.listen = \"127.0.0.1:{gateway_http}\"\n\
         gateway.control.address = \"http://127.0.0.1:{grpc}\"\n\
         control.http.listen = \"127.0.0.1:{rest}\"\n\
         control.grpc.listen = \"127.0.0.1:{grpc}\"\n\
         {settings}\n"
    );
    std::fs::write(dir.join("selkie.toml"), text).expect("the settings file");
    gateway_http
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn launch(dir: &Path, run: u32, filter: Option<&str>, user: Option<u32>) -> Child {
    let out = |kind: &str| File::create(dir.join(format!("selkie-{run}.{kind}"))).expect("a log file");
    let mut command = up_command(dir);
    if let Some(user) = user {
        let settings = command.get_args().map(ToOwned::to_owned).collect::<Vec<_>>();
        command = Command::new(dir.join("selkie"));
        command.args(settings).uid(user).gid(user).current_dir(dir);
        // Of the tests' user.
        command.env_remove("SELKIE_SEED").env("HOME", dir);
    }
    command
        .envs(filter.map(|filter| ("SELKIE_LOG", filter)))
        .stdin(Stdio::null())
        .stdout(out("out"))
        .stderr(out("log"))
        .spawn()
        .expect("starting selkie")
}

/// When `up.json` was written last, and which file that is.
fn written(dir: &Path) -> Option<(u64, SystemTime)> {
    let file = std::fs::metadata(data_dir(dir).join("up.json")).ok()?;
    Some((file.ino(), file.modified().ok()?))
}

/// Waits until it wrote `up.json` anew, and reads it; what it said, when it ended instead.
async fn ready(dir: &Path, process: &mut Child, run: u32, before: Option<(u64, SystemTime)>) -> Result<Up, String> {
    eventually(
        format_args!("`selkie up` is ready; see {}", dir.display()),
        async || {
            if let Some(status) = process.try_wait().expect("the state of selkie") {
                let said = std::fs::read_to_string(dir.join(format!("selkie-{run}.log"))).unwrap_or_default();
                return Some(Err(format!("{status}\n{said}")));
            }
            if written(dir) == before {
                return None;
            }
            let text = std::fs::read(data_dir(dir).join("up.json")).ok()?;
            let up: Option<Up> = serde_json::from_slice(&text).ok();
            if let Some(up) = &up {
                secrets::token("an API key", &up.rest.api_key);
                secrets::password("the first user", &up.password);
            }
            up.map(Ok)
        },
    )
    .await
}
