//! Starts everything in order, says when it can be reached, and takes it down in order again.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Error,
    activity::Activity,
    bootstrap::Home,
    compute::{Computes, Parts},
    config::{StoreConfig, TlsConfig},
    driver::{Driver, DriverError, process::ProcessDriver},
    grpc::{self, GatewayService},
    lead::{Candidate, Hold, LedDriver},
    metrics::Metrics,
    projects::{Interrupted, Projects},
    prune,
    publish::Publisher,
    relay::{self, Desk, Led},
    rest::{self, Rest},
    scheduler::Scheduler,
    secret::random_token,
    store::{Holder, Store, StoreError},
    stuck,
    usage::Usage,
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
/// After a lease that could not be used: others may have more luck.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Projects that are read at once when control starts.
const LOAD_PAGE: u32 = 1000;

/// Runs the control plane until `shutdown` fires; then stops accepting, suspends every compute cleanly and returns. On a
/// shared store, where another control plane stands by, computes are left to that one. `ready` is told once both ports
/// answer. Needs a multi-thread runtime with time and I/O. Not cancel-safe: dropping the future leaves computes running
/// (the next start adopts them).
pub async fn run(config: Config, shutdown: CancellationToken, ready: oneshot::Sender<Listening>) -> Result<(), Error> {
    let http = bind("control.http.listen", config.http_listen).await?;
    let grpc = bind("control.grpc.listen", config.grpc_listen).await?;
    let home = Home::open(&config)?;
    let token = home.gateway_token()?;
    let store = home.open_store(&config).await?;
    let listening = Listening {
        http: local(&http, config.http_listen),
        grpc: local(&grpc, config.grpc_listen),
    };
    let plane = Plane {
        metrics: Metrics::new()?,
        tasks: TaskTracker::new(),
        config,
        store,
    };
    let own = plane.assemble(plane.store.clone(), Hold::alone(), shutdown.clone())?;
    let grpc_tls = plane.config.grpc_tls.as_ref();
    let to_leader = grpc_tls.map(TlsConfig::client).transpose()?;
    let for_gateways = grpc_tls.map(TlsConfig::server).transpose()?;
    for (setting, not_after) in grpc_tls.map(TlsConfig::ends).unwrap_or_default() {
        plane.metrics.certificate_ends(setting, not_after);
    }
    let desk = Desk::new(own.led.rest, &token, to_leader).map_err(|source| Error::Serve { what: "REST", source })?;
    let (desk, end_of_grpc) = (Arc::new(desk), CancellationToken::new());
    // Where nobody shares the store, the first answer comes from a control plane that has read everything.
    let alone = match plane.config.store {
        StoreConfig::Sqlite => {
            let reign = plane.assemble(plane.store.clone(), Hold::alone(), CancellationToken::new())?;
            let interrupted = plane.begin(&reign).await?;
            plane.metrics.leads(true);
            plane.prepare(&reign, interrupted, &shutdown);
            plane.schedule(&reign, &shutdown);
            desk.serve(Some(reign.led.clone()));
            Some(reign)
        }
        StoreConfig::Postgres(_) => None,
    };
    let router = relay::rest(desk.clone());
    let mut serve_rest = plane.tasks.spawn(crate::http::serve(http, router, shutdown.clone()));
    let (gateways, grpc_end) = (desk.clone(), end_of_grpc.clone());
    let mut serve_grpc = plane
        .tasks
        .spawn(async move { grpc::serve(gateways, grpc, for_gateways, &token, grpc_end).await });
    tracing::info!(http = %listening.http, grpc = %listening.grpc, "control plane ready");
    // Nobody waits for it: fine.
    let _ = ready.send(listening);

    let stop = shutdown.child_token();
    let reigned = async {
        let reigned = match alone {
            Some(reign) => {
                stop.cancelled().await;
                tracing::info!("control plane stopping");
                reign.close().await;
                Ok(())
            }
            None => plane.take_turns(&desk, listening, &stop).await,
        };
        stop.cancel();
        reigned
    };
    let served = async {
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = &mut serve_rest => Err(ended_early("REST", ended.map_err(io::Error::other))),
            ended = &mut serve_grpc => {
                let ended = ended.map_err(io::Error::other).and_then(|ended| ended.map_err(io::Error::other));
                Err(ended_early("gRPC", ended))
            }
        };
        stop.cancel();
        ended
    };
    // Gateways stay connected until the last compute is down: they are told to let go of each.
    let (served, reigned) = tokio::join!(served, reigned);
    end_of_grpc.cancel();
    plane.tasks.close();
    if tokio::time::timeout(CLOSE_PATIENCE, plane.tasks.wait()).await.is_err() {
        tracing::warn!("requests were still under way at the end");
        serve_rest.abort();
        serve_grpc.abort();
    }
    plane.store.close().await;
    drop(home);
    served.and(reigned)
}

/// What lasts as long as the process.
struct Plane {
    config: Config,
    store: Arc<dyn Store>,
    metrics: Metrics,
    tasks: TaskTracker,
}

/// What lasts as long as this control plane leads.
struct Reign {
    projects: Arc<Projects>,
    led: Led,
    over: CancellationToken,
}

impl Plane {
    /// Puts the parts together; nothing is read or done yet.
    fn assemble(&self, store: Arc<dyn Store>, hold: Hold, over: CancellationToken) -> Result<Reign, Error> {
        let driver = ProcessDriver::new(&self.config, self.tasks.clone())?;
        let uids = driver.uids();
        let driver: Arc<dyn Driver> = Arc::new(LedDriver {
            driver: Arc::new(driver),
            hold,
        });
        let publisher = Arc::new(Publisher::new());
        let activity: Arc<Activity> = Arc::default();
        let parts = Parts::new(
            store.clone(),
            driver.clone(),
            publisher.clone(),
            activity.clone(),
            self.metrics.clone(),
        );
        let usage = Arc::new(Usage::new(store.clone()));
        let projects = Arc::new(Projects {
            store,
            driver,
            publisher,
            computes: Computes::new(parts),
            activity,
            usage,
            changing_options: Default::default(),
        });
        let rest = Rest {
            projects: projects.clone(),
            metrics: self.metrics.clone(),
            default_size_cu: self.config.default_size_cu,
            suspend_after: self.config.suspend_after,
            prices: Arc::new(self.config.prices.clone()),
            uids,
            tasks: self.tasks.clone(),
            over: over.clone(),
            pace: Arc::default(),
            tag_secret: Arc::new(rand::random()),
        };
        let gateways = GatewayService {
            publisher: projects.publisher.clone(),
            computes: projects.computes.clone(),
            activity: projects.activity.clone(),
            usage: projects.usage.clone(),
            tasks: self.tasks.clone(),
        };
        let led = Led {
            rest: rest::router(rest),
            gateways,
        };
        Ok(Reign { projects, led, over })
    }

    async fn begin(&self, reign: &Reign) -> Result<Interrupted, StoreError> {
        begin(&reign.projects).await
    }

    /// What takes a while and nobody has to wait for.
    fn prepare(&self, reign: &Reign, interrupted: Interrupted, stop: &CancellationToken) {
        let (over, stop) = (reign.over.clone(), stop.clone());
        let projects = reign.projects.clone();
        let work = async move {
            prepare(&projects, interrupted).await;
            prune::prune(&*projects.store).await;
        };
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = over.cancelled() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Puts idle computes to sleep, and looks after what does not advance, for as long as this control plane leads.
    fn schedule(&self, reign: &Reign, stop: &CancellationToken) {
        let scheduler = Scheduler::new(reign.projects.clone(), self.config.suspend_after);
        let (over, stop) = (reign.over.clone(), stop.clone());
        let (led, stopped) = (over.clone(), stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = scheduler.run(led) => {}
                () = stopped.cancelled() => {}
            }
        });
        let (store, metrics) = (reign.projects.store.clone(), self.metrics.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stuck::watch(&*store, &metrics) => {}
                () = over.cancelled() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Leads whenever the lease can be had, until `stop` fires.
    async fn take_turns(&self, desk: &Desk, listening: Listening, stop: &CancellationToken) -> Result<(), Error> {
        let candidate = Candidate::new(self.store.clone(), self.holder(listening)).telling(desk.fault.clone());
        while let Some(leadership) = candidate.lead(&desk.leader, stop).await {
            let store = self.store.for_term(leadership.term);
            let reign = self.assemble(store, leadership.hold.clone(), leadership.over.clone())?;
            let begun = reign.over.run_until_cancelled(self.begin(&reign)).await;
            let interrupted = match begun {
                Some(Ok(interrupted)) => interrupted,
                Some(Err(error)) => {
                    tracing::error!(%error, "cannot begin to lead");
                    reign.leave().await;
                    candidate.resign(leadership).await;
                    tokio::time::sleep(BEGIN_AGAIN_AFTER).await;
                    continue;
                }
                None => {
                    if !stop.is_cancelled() {
                        self.metrics.lease_lost();
                    }
                    reign.leave().await;
                    continue;
                }
            };
            self.metrics.leads(true);
            self.prepare(&reign, interrupted, stop);
            self.schedule(&reign, stop);
            desk.serve(Some(reign.led.clone()));
            tracing::info!(term = leadership.term, "this control plane leads");
            tokio::select! {
                () = stop.cancelled() => {}
                () = reign.over.cancelled() => self.metrics.lease_lost(),
            }
            self.metrics.leads(false);
            if stop.is_cancelled() && !candidate.is_followed().await {
                reign.close().await;
            } else {
                desk.serve(None);
                reign.leave().await;
            }
            candidate.resign(leadership).await;
        }
        Ok(())
    }

    /// This one, as others see it. What listens on every address is told as loopback, for want of better.
    fn holder(&self, listening: Listening) -> Holder {
        let reachable = |mut address: SocketAddr| {
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            address.to_string()
        };
        let advertised = |setting: Option<SocketAddr>, listening| reachable(setting.unwrap_or(listening));
        Holder {
            id: random_token("control"),
            http: advertised(self.config.http_advertise, listening.http),
            grpc: advertised(self.config.grpc_advertise, listening.grpc),
        }
    }
}

impl Reign {
    /// Suspends everything.
    async fn close(&self) {
        self.projects.computes.close().await;
        self.projects.publisher.disconnect_all();
    }

    async fn leave(&self) {
        leave(&self.projects).await;
    }
}

/// Reads what there is and takes over what runs; what is left to [`prepare`].
pub(crate) async fn begin(projects: &Projects) -> Result<Interrupted, StoreError> {
    let Projects { store, publisher, .. } = projects;
    let sealed = store.seal().await?;
    if sealed.values > 0 {
        tracing::info!(
            values = sealed.values,
            "sealed what was in the clear, or sealed by another key"
        );
    }
    for key in sealed.retired {
        tracing::info!(key, "nothing in the state is sealed by this key any more");
    }
    let mut after = None;
    loop {
        let page = store.whole_projects(after.as_deref(), LOAD_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.record.id.to_string());
        for whole in page {
            publisher.put(whole);
        }
    }
    projects.computes.adopt().await;
    projects.interrupted().await
}

/// Stops acting and leaves everything as it is to the next control plane.
pub(crate) async fn leave(projects: &Projects) {
    // Before its keepers have ended: who asks again comes to the right one.
    projects.publisher.disconnect_all();
    if tokio::time::timeout(CLOSE_PATIENCE, projects.computes.leave())
        .await
        .is_err()
    {
        tracing::error!("keepers of computes were still busy when the lease was over");
    }
}

/// The template of the first start; what was interrupted.
pub(crate) async fn prepare(projects: &Projects, interrupted: Interrupted) {
    let fresh = async { Ok::<_, DriverError>((projects.driver.server().await?, projects.driver.offer().await?)) };
    match fresh.await {
        Ok((server, offer)) => projects.publisher.set_fresh_server(&server, offer),
        Err(error) => tracing::error!(%error, "computes cannot start"),
    }
    if let Err(error) = projects.resume(interrupted).await {
        tracing::error!(%error, "cannot go on with what the last control plane had begun");
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
