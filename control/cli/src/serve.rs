//! Running services in this process: the runtime, signals, the order of starting and stopping.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::arguments::Common;
use crate::failure::{Failure, Kind};
use crate::logs;
use crate::reload::{Source, asked_by_signal};
use crate::settings::Settings;

/// Control and gRPC work is light; the gateway brings threads of its own.
const WORKERS: usize = 2;

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|e| Failure::of("starting a runtime", e))
}

/// What whoever starts a service that runs databases should know of this machine.
pub(crate) fn say_what_is_not_kept_apart() {
    if let Some(gaps) = agent::not_kept_apart() {
        tracing::warn!("{gaps}; docs/security.md, \"Between tenants\"");
    }
}

/// `selkie gateway`.
pub(crate) fn gateway(common: &Common) -> Result<(), Failure> {
    let settings = prepare(common)?;
    let config = settings.gateway.check(&settings.data_dir)?;
    runtime()?.block_on(async {
        let shutdown = shutdown_on_signals()?;
        let reloading = gateway::Reloading {
            source: Arc::new(Source::of_gateway(common)),
            asked: asked_by_signal(&shutdown)?,
        };
        let (ready, _listening) = oneshot::channel();
        drained(gateway::run(config, reloading, shutdown, ready).await)
    })
}

/// What the exit code tells of a gateway's end.
pub(crate) fn drained(ended: Result<gateway::Drained, gateway::Error>) -> Result<(), Failure> {
    match ended? {
        gateway::Drained { cut: 0 } => Ok(()),
        gateway::Drained { cut } => Err(Failure::of_kind(
            Kind::Cut,
            format!("stopped; {cut} sessions were ended in the middle of a command or a transaction"),
        )),
    }
}

/// `selkie control`.
pub(crate) fn control(common: &Common) -> Result<(), Failure> {
    let settings = prepare(common)?;
    say_what_is_not_kept_apart();
    let source = Source::of_control(common, &settings);
    let config = control::Config::check(settings.data_dir, settings.control)?;
    runtime()?.block_on(async {
        let shutdown = shutdown_on_signals()?;
        let asked = asked_by_signal(&shutdown)?;
        bootstrap(&config).await?;
        let (ready, _listening) = oneshot::channel();
        tokio::select! {
            ended = control::run(config, shutdown, ready) => Ok(ended?),
            () = source.follow(asked) => Err(Failure::new("signals can no longer be heard")),
        }
    })
}

/// The API key of `selkie control` stands in a file of its own: `control/api.key` of the data directory.
async fn bootstrap(config: &control::Config) -> Result<(), Failure> {
    let file = config.data_dir.join("control/api.key");
    let known = std::fs::read_to_string(&file).ok();
    let known = known.as_deref().map(str::trim).filter(|key| !key.is_empty());
    let bootstrap = control::bootstrap(config, "control", known).await?;
    if bootstrap.api_key_is_new {
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut file| writeln!(file, "{}", bootstrap.api_key));
        written.map_err(|e| Failure::of(file.display(), e))?;
    }
    Ok(())
}

/// Settings, data directory, log, limits: what every service needs first.
pub(crate) fn prepare(common: &Common) -> Result<Settings, Failure> {
    let settings = Settings::load(common)?;
    make_data_dir(&settings.data_dir)?;
    logs::for_service(common, &settings.data_dir)?;
    raise_file_limit();
    Ok(settings)
}

/// Others may pass through, since computes run as users of their own, but not look.
fn make_data_dir(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .map_err(|e| {
            Failure::new(format!(
                "data directory {}: {e} (choose another with `--data-dir`)",
                dir.display()
            ))
        })
}

/// Every client is a descriptor or two; the soft limit is often 1024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    // What cannot be raised stays; running out is reported when it happens.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: now.maximum,
            maximum: now.maximum,
        },
    );
}

/// Cancelled by the first SIGINT or SIGTERM; the second ends the process at once.
pub(crate) fn shutdown_on_signals() -> Result<CancellationToken, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let shutdown = CancellationToken::new();
    let begins = shutdown.clone();
    #[allow(clippy::disallowed_methods, reason = "lives as long as the process")]
    tokio::spawn(async move {
        let mut asked = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        asked().await;
        begins.cancel();
        asked().await;
        tracing::warn!("asked twice: ending at once, computes go on");
        std::process::exit(130);
    });
    Ok(shutdown)
}

/// Waits until a service says where it listens, or for its end when it fails before.
pub(crate) async fn until_ready<T, E: Into<Failure>>(
    running: &mut (impl Future<Output = Result<(), E>> + Unpin),
    ready: oneshot::Receiver<T>,
) -> Result<Option<T>, Failure> {
    tokio::select! {
        biased;
        ended = running => match ended {
            Ok(()) => Ok(None),
            Err(error) => Err(error.into()),
        },
        listening = ready => Ok(listening.ok()),
    }
}

/// The address for this machine's own use of a socket that listens on any.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, address.port())
}
