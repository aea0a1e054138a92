//! `selkie up`: control and gateway in one process, a demo project at the first start.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control_api::rest::{CreateProject, CreateUser, ProjectCreated};
use gateway::{ControlAt, Reloading};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::arguments::{Common, Up};
use crate::client::Rest as RestClient;
use crate::demo::{self, UpJson};
use crate::failure::Failure;
use crate::reload::{Source, asked_by_signal};
use crate::serve::{
    drained, prepare, reachable, runtime, say_what_is_not_kept_apart, shutdown_on_signals, until_ready,
};
use crate::settings::Settings;

const DEMO: &str = "demo";

pub(crate) fn up(common: &Common, up: &Up) -> Result<(), Failure> {
    let settings = prepare(common)?;
    let _lock = lock(&settings.data_dir)?;
    say_what_is_not_kept_apart();
    runtime()?.block_on(run(settings, common, up))
}

/// One `up` per data directory. The lock goes with the process, however it ends.
fn lock(data_dir: &Path) -> Result<std::fs::File, Failure> {
    let path = data_dir.join("up.lock");
    let file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(|e| Failure::of(path.display(), e))?;
    // Who can open it can hold the lock; an earlier version let everybody.
    let private = file.set_permissions(std::fs::Permissions::from_mode(0o600));
    private.map_err(|e| Failure::of(path.display(), e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_taken) => Err(Failure::new(format!(
            "another `selkie up` runs on {}: stop it, or choose another directory with `--data-dir`",
            data_dir.display()
        ))),
    }
}

async fn run(settings: Settings, common: &Common, up: &Up) -> Result<(), Failure> {
    let source = Source::of_control(common, &settings);
    let (control_config, mut gateway) = examined(&settings)?;
    let data_dir = settings.data_dir;
    let earlier = UpJson::read(&data_dir)?;
    let scheme = scheme(&control_config);
    let bootstrap = control::bootstrap(
        &control_config,
        "up",
        earlier.as_ref().map(|up| up.rest.api_key.as_str()),
    )
    .await?;

    // Stopped one after the other: clients first, then computes.
    let asked = shutdown_on_signals()?;
    let reload_asked = asked_by_signal(&asked)?;
    let (stop_gateway, stop_control) = (asked.clone(), CancellationToken::new());
    let (ready, listening) = oneshot::channel();
    let mut control = pin!(control::run(control_config, stop_control.clone(), ready));
    let Some(control_at) = until_ready(&mut control, listening).await? else {
        return Ok(());
    };
    let here = ControlAt {
        address: format!("{scheme}://{}", reachable(control_at.grpc)),
        token_file: bootstrap.gateway_token_file.clone(),
    };
    here.put(&mut gateway);
    let gateway_config = gateway.check(&data_dir)?;
    let told = Arc::new(Told::new(&data_dir, gateway_config.ca_file()));
    let on_reload = Arc::clone(&told);
    let reloading = Reloading {
        source: Arc::new(source.at(here).telling(move |config| on_reload.ca_is(config.ca_file()))),
        asked: reload_asked,
    };
    let (ready, listening) = oneshot::channel();
    let running = gateway::run(gateway_config, reloading, stop_gateway, ready);
    let mut gateway = pin!(async { drained(running.await) });
    let serving = async {
        let rest = RestClient::new(
            format!("http://{}", reachable(control_at.http)),
            bootstrap.api_key.clone(),
        )?;
        // Before a gateway knows projects: a listener that is the demo's finds it.
        let password = demo_password(&rest, earlier, up).await?;
        let Some(gateway_at) = until_ready(&mut gateway, listening).await? else {
            return Ok(());
        };
        let mysql = reachable(gateway_at.mysql);
        let mut up_json = UpJson {
            mysql: demo::Mysql {
                host: mysql.ip().to_string(),
                port: mysql.port(),
                ca: None,
                listeners: gateway_at.listeners.into_iter().map(told_of).collect(),
            },
            console: None,
            rest: demo::Rest {
                url: rest.url().to_owned(),
                api_key: bootstrap.api_key.clone(),
            },
            project: None,
            user: None,
            password: None,
            database: None,
        };
        if let Some(password) = password {
            let name = || Some(DEMO.to_owned());
            (up_json.project, up_json.user) = (name(), name());
            (up_json.password, up_json.database) = (Some(password), name());
        }
        told.tell(up_json)?;
        gateway.as_mut().await
    };
    let served = tokio::select! {
        served = serving => served,
        ended = &mut control => return ended.map_err(Failure::from),
    };
    stop_control.cancel();
    let stopped = control.await.map_err(Failure::from);
    served.and(stopped)
}

/// Both services' settings and all that a gateway needs, checked before anything starts: a typing error should not leave half
/// a system, nor stop one for the while. Of each service the first that is wrong is told.
fn examined(settings: &Settings) -> Result<(control::Config, gateway::RawConfig), Failure> {
    let data_dir = &settings.data_dir;
    let mut problems = Vec::new();
    let control = control::Config::check(data_dir.clone(), settings.control.clone());
    let control = control.map_err(|error| problems.push(error.to_string())).ok();
    let mut gateway = settings.gateway.clone();
    // Whatever is written: it is this process's own.
    gateway.control.address = match &control {
        Some(control) => format!("{}://{}", scheme(control), reachable(control.grpc_listen)),
        None => gateway::RawConfig::default().control.address,
    };
    match gateway.clone().check(data_dir) {
        Ok(config) => {
            let here = control.as_ref().map_or_else(Vec::new, |control| {
                vec![
                    ("control.http.listen", control.http_listen),
                    ("control.grpc.listen", control.grpc_listen),
                ]
            });
            problems.extend(gateway::examine(&config, &here).err().map(|error| error.to_string()));
        }
        Err(error) => problems.push(error.to_string()),
    }
    match control {
        Some(control) if problems.is_empty() => Ok((control, gateway)),
        _ => Err(Failure::of_all(&problems)),
    }
}

/// Of control's gRPC.
fn scheme(control: &control::Config) -> &'static str {
    if control.grpc_is_tls() { "https" } else { "http" }
}

/// What stands in `up.json` and `demo.cnf`, which follow a reload of the certificates.
struct Told {
    data_dir: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    ca: Option<PathBuf>,
    /// Once everything is up.
    told: Option<UpJson>,
}

impl Told {
    fn new(data_dir: &Path, ca: Option<PathBuf>) -> Self {
        let data_dir = data_dir.to_owned();
        let known = Mutex::new(Known { ca, told: None });
        Self { data_dir, known }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes both files, and says on standard output that everything is up.
    fn tell(&self, told: UpJson) -> Result<(), Failure> {
        let mut known = self.known();
        let told = UpJson {
            mysql: demo::Mysql {
                ca: known.ca.clone(),
                ..told.mysql
            },
            ..told
        };
        let option_file = self.write(&told)?;
        // Nobody may be there any more to read it; whoever needs it has `up.json`.
        let _ = announce(&told, option_file, &self.data_dir);
        known.told = Some(told);
        Ok(())
    }

    /// A gateway that now shows an operator's certificate is not to be verified by the development authority.
    fn ca_is(&self, ca: Option<PathBuf>) {
        let mut known = self.known();
        if known.ca == ca {
            return;
        }
        known.ca.clone_from(&ca);
        let Some(told) = &mut known.told else { return };
        told.mysql.ca = ca;
        if let Err(failure) = self.write(told) {
            tracing::error!(error = failure.text(), "clients are still told of another authority");
        }
    }

    fn write(&self, told: &UpJson) -> Result<Option<PathBuf>, Failure> {
        told.write(&self.data_dir)?;
        told.write_option_file(&self.data_dir)
    }
}

fn told_of(listener: gateway::Listener) -> demo::Listener {
    let at = reachable(listener.address);
    demo::Listener {
        host: at.ip().to_string(),
        port: at.port(),
        project: listener.project,
    }
}

/// The demo user's password: made with the project at the first start, known from `up.json` afterwards.
async fn demo_password(rest: &RestClient, earlier: Option<UpJson>, up: &Up) -> Result<Option<String>, Failure> {
    if let Some(password) = earlier.and_then(|earlier| earlier.password)
        && rest.exists(&format!("/projects/{DEMO}/users/{DEMO}")).await?
    {
        return Ok(Some(password));
    }
    if up.no_demo {
        return Ok(None);
    }
    let user = CreateUser {
        name: DEMO.into(),
        password: None,
        admin: false,
    };
    if !rest.exists(&format!("/projects/{DEMO}")).await? {
        let project = CreateProject {
            id: DEMO.into(),
            size_cu: None,
            wake_timeout: None,
            allowed_networks: None,
            user: Some(user),
            database: Some(DEMO.into()),
        };
        let made: ProjectCreated = rest.post("/projects", &project).await?;
        return Ok(made.user.and_then(|user| user.password));
    }
    // The project outlived `up.json`: its user's password is known to nobody, so the user is made anew.
    rest.delete_if_there(&format!("/projects/{DEMO}/users/{DEMO}")).await?;
    let made: control_api::rest::UserCreated = rest.post(&format!("/projects/{DEMO}/users"), &user).await?;
    Ok(made.password)
}

/// The short block that `up` ends with. No secret stands in it.
fn announce(told: &UpJson, option_file: Option<PathBuf>, data_dir: &Path) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nSelkie is up.\n")?;
    writeln!(out, "  MySQL    {}:{}", told.mysql.host, told.mysql.port)?;
    for listener in &told.mysql.listeners {
        write!(out, "           {}:{}", listener.host, listener.port)?;
        match &listener.project {
            Some(project) => writeln!(out, "  (project {project} only: log in by the user's name alone)")?,
            None => writeln!(out)?,
        }
    }
    if let Some(path) = option_file {
        writeln!(out, "  demo     mariadb --defaults-extra-file={} -A", path.display())?;
    }
    writeln!(
        out,
        "  REST     {}/api/v1 (described at {}/openapi.json)",
        told.rest.url, told.rest.url
    )?;
    writeln!(out, "  up.json  {}", data_dir.join(demo::UP_JSON).display())?;
    if let Some(dir) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        writeln!(
            out,
            "  PATH     export PATH=\"{}:$PATH\"    (then: selkie compute show demo)",
            dir.display()
        )?;
    }
    writeln!(
        out,
        "\nThe database is asleep: the first query wakes it. Ctrl-C stops everything cleanly."
    )?;
    out.flush()?;
    Ok(())
}
