//! Starts everything in order, says when it can be reached, and takes it down in order again.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Error,
    bootstrap::Home,
    compute::{Computes, Parts},
    driver::{Driver, process::ProcessDriver},
    grpc::GatewayService,
    metrics::Metrics,
    projects::Projects,
    publish::Publisher,
    rest::{self, Rest},
    store::{self, Store},
};

/// Where it can be reached; differs from the settings where these say port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// REST, metrics and health.
    pub http: SocketAddr,
    /// Gateways.
    pub grpc: SocketAddr,
}

/// Requests and calls that are under way at the end have this long.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Projects that are read at once when control starts.
const LOAD_PAGE: u32 = 1000;

/// Runs the control plane until `shutdown` fires; then stops accepting, suspends every compute cleanly and returns.
/// `ready` is told once both ports answer. Needs a multi-thread runtime with time and I/O. Not cancel-safe: dropping the
/// future leaves computes running (the next start adopts them).
pub async fn run(config: Config, shutdown: CancellationToken, ready: oneshot::Sender<Listening>) -> Result<(), Error> {
    let http = bind("control.http.listen", config.http_listen).await?;
    let grpc = bind("control.grpc.listen", config.grpc_listen).await?;
    let home = Home::open(&config)?;
    let token = home.gateway_token()?;
    let tasks = TaskTracker::new();
    let driver = Arc::new(ProcessDriver::new(&config, tasks.clone())?);
    let uids = driver.uids();
    let store = store::open(&config.store, &home.store_file()).await?;
    let projects = assemble(store.clone(), driver, Metrics::new()?).await?;
    let metrics = projects.computes.metrics();
    projects.computes.adopt().await;
    tasks.spawn(prepare(projects.clone(), shutdown.clone()));

    let rest = Rest {
        projects: projects.clone(),
        metrics,
        default_size_cu: config.default_size_cu,
        uids,
        tasks: tasks.clone(),
    };
    let listening = Listening {
        http: local(&http, config.http_listen),
        grpc: local(&grpc, config.grpc_listen),
    };
    let end_of_grpc = CancellationToken::new();
    let gateways = GatewayService {
        publisher: projects.publisher.clone(),
        computes: projects.computes.clone(),
        activity: projects.activity.clone(),
        tasks: tasks.clone(),
    };
    let serve_rest = axum::serve(http, rest::router(rest)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let mut serve_rest = tasks.spawn(serve_rest.into_future());
    let grpc_end = end_of_grpc.clone();
    let mut serve_grpc = tasks.spawn(async move { gateways.serve(grpc, &token, grpc_end).await });
    tracing::info!(http = %listening.http, grpc = %listening.grpc, "control plane ready");
    // Nobody waits for it: fine.
    let _ = ready.send(listening);

    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = &mut serve_rest => Some(ended_early("REST", ended.map_err(io::Error::other).flatten())),
        ended = &mut serve_grpc => {
            let ended = ended.map_err(io::Error::other).and_then(|ended| ended.map_err(io::Error::other));
            Some(ended_early("gRPC", ended))
        }
    };
    tracing::info!("control plane stopping");
    // Gateways stay connected until the last compute is down: they are told to let go of each.
    projects.computes.close().await;
    end_of_grpc.cancel();
    projects.publisher.disconnect_all();
    tasks.close();
    if tokio::time::timeout(CLOSE_PATIENCE, tasks.wait()).await.is_err() {
        tracing::warn!("requests were still under way at the end");
        serve_rest.abort();
        serve_grpc.abort();
    }
    store.close().await;
    drop(home);
    failed.map_or(Ok(()), Err)
}

/// Puts the parts together and reads what there is.
async fn assemble(store: Arc<dyn Store>, driver: Arc<dyn Driver>, metrics: Metrics) -> Result<Arc<Projects>, Error> {
    let publisher = Arc::new(Publisher::new());
    let mut after = None;
    loop {
        let page = store.whole_projects(after.as_deref(), LOAD_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.record.id.to_string());
        for whole in page {
            publisher.put(whole);
        }
    }
    let computes = Computes::new(Parts::new(store.clone(), driver.clone(), publisher.clone(), metrics));
    Ok(Arc::new(Projects {
        store,
        driver,
        publisher,
        computes,
        activity: Arc::default(),
    }))
}

/// What takes a while and nobody has to wait for: the template of the first start, deletions that were interrupted.
async fn prepare(projects: Arc<Projects>, shutdown: CancellationToken) {
    let work = async {
        match projects.driver.server().await {
            Ok(server) => projects.publisher.set_fresh_server(&server),
            Err(error) => tracing::error!(%error, "computes cannot start"),
        }
        if let Err(error) = projects.resume_deletes().await {
            tracing::error!(%error, "cannot read which projects were being deleted");
        }
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken { setting, address },
        _ => Error::Listen {
            setting,
            address,
            source,
        },
    })
}

fn local(listener: &TcpListener, configured: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(configured)
}

fn ended_early(what: &'static str, result: io::Result<()>) -> Error {
    let source = result.err().unwrap_or_else(|| io::Error::other("it stopped by itself"));
    Error::Serve { what, source }
}
