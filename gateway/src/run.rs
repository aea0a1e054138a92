//! Starts and stops a gateway: the data-plane threads, each with a runtime and a listener of its own, and on the
//! caller's runtime the talk with control and the HTTP port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::turnstile::Turnstile;
use crate::accept::{self, Arrival, Bound, ClosedDoor, Complaints, ListenError, Seats};
use crate::accounts::Accounts;
use crate::activity::Clock;
use crate::admin;
use crate::admin::visitors::Visitors;
use crate::auth::Decoy;
use crate::auth::throttle::Throttle;
use crate::config::Config;
use crate::connection;
use crate::context::Gateway;
use crate::control::{Control, certificates_end};
use crate::drain::{Drain, SHUTDOWN_TEXT};
use crate::error::{Error, Told};
use crate::meter::{self, Meter};
use crate::metrics::{CoreMetrics, Metrics, Throttled};
use crate::reload::{Reload, Reloading};
use crate::route::Routes;
use crate::tls::Certificates;
use crate::wake::Wakes;

/// After an accept that failed for want of descriptors or memory: the next one would fail too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After the drain's time is over, sessions only have to write an error: a client that does not read it is left.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Where a gateway listens; with port 0 in the settings, the ports that the system chose.
#[derive(Debug, Clone)]
pub struct Listening {
    /// MySQL clients (`gateway.listen`).
    pub mysql: SocketAddr,
    /// MySQL clients, too (`gateway.listeners`, in their order).
    pub listeners: Vec<Listener>,
    /// Metrics and health.
    pub http: SocketAddr,
}

/// One of `gateway.listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it is.
    pub address: SocketAddr,
    /// The project that it is bound to.
    pub project: Option<String>,
}

/// How a gateway has ended that was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that were ended in the middle of a command or a transaction, because the drain's time was over.
    pub cut: u32,
}

/// Runs a gateway until `shutdown`, then drains it. `ready` is told once clients are accepted, which is when control's
/// snapshot is here.
///
/// # Errors
/// What keeps it from starting: a taken port, an unusable certificate, no token for control.
pub async fn run(
    config: Config,
    reloading: Reloading,
    shutdown: CancellationToken,
    ready: oneshot::Sender<Listening>,
) -> Result<Drained, Error> {
    let tls = Arc::new(Certificates::load(&config.tls)?);
    let routes = Arc::new(Routes::default());
    let meter = Arc::new(Meter::open(&config.usage, meter::wall_ms())?);
    let metrics = Metrics::new(config.threads).map_err(|e| Error::Thread(std::io::Error::other(e)))?;
    let control = Control::new(&config.control, Arc::clone(&routes))?
        .counting(Arc::clone(&meter), config.threads)
        .seen_by(Arc::clone(&metrics.link));
    // Set nowhere else.
    let _ = metrics.control_certificates.set(certificates_end(&config.control)?);
    let Bound { addresses, by_thread } = accept::listeners(&config.accept, config.threads)?;
    let http = TcpListener::bind(config.http_listen)
        .await
        .map_err(|source| ListenError::new("http.listen", config.http_listen, source))?;
    let http_address = http.local_addr().map_err(Error::Thread)?;
    let wakes = Wakes::new(
        config.wake.clone(),
        Arc::new(control.clone()),
        Arc::clone(&routes),
        Handle::current(),
    );
    let seats = Seats::new(config.threads, config.accept.max_clients);
    let doors = accept::doors(&seats, by_thread);
    let turned_away = [Throttled::HalfOpen, Throttled::Address].map(|by| metrics.throttled(by));
    let gateway = Arc::new(Gateway {
        tls,
        routes: Arc::clone(&routes),
        wakes,
        accounts: Accounts::new(control.clone()),
        decoy: Decoy::random(),
        turnstile: Turnstile::new(&config.turnstile, turned_away),
        throttle: Throttle::new(&config.throttle, metrics.throttled(Throttled::Password)),
        drain: Drain::default(),
        metrics,
        meter: Arc::clone(&meter),
        clock: Clock::start(),
        sessions: Arc::default(),
        seats,
        settings: ArcSwap::from_pointee(config),
    });
    let (known_here, mut known) = watch::channel(false);
    let mut services = JoinSet::new();
    services.spawn(control.clone().watch(known_here));
    let certificates = Arc::clone(&gateway.tls);
    services.spawn(async move { certificates.follow().await });
    services.spawn(control.clone().report(routes, gateway.clock));
    let telling = services.spawn(meter::run(Arc::clone(&meter), control.clone()));
    let Reloading { source, asked } = reloading;
    let reload = Arc::new(Reload::new(Arc::clone(&gateway), source));
    let router = admin::router(Arc::clone(&gateway), known.clone(), Arc::clone(&reload));
    services.spawn(async move { reload.follow(asked).await });
    services.spawn(async move {
        if let Err(error) = axum::serve(Visitors::at(http), router).await {
            tracing::error!(%error, "the gateway's HTTP port stopped");
        }
    });
    tokio::select! {
        _ = known.wait_for(|known| *known) => {}
        () = shutdown.cancelled() => return Ok(Drained { cut: 0 }),
    }
    say_unknown(&gateway.config(), None, &gateway.routes);
    let threads = Threads::start(&gateway, doors)?;
    let listening = Listening::of(&gateway.config(), &addresses, http_address);
    tracing::info!(mysql = %listening.mysql, http = %http_address, threads = gateway.config().threads, "gateway is ready");
    for Listener { address, project } in &listening.listeners {
        let project = project.as_deref().unwrap_or_default();
        tracing::info!(mysql = %address, project, "and listens here");
    }
    // Whoever started us may have stopped waiting.
    let _ = ready.send(listening);
    let ended = threads.until(&gateway, shutdown).await;
    telling.abort();
    meter::finish(&meter, control).await;
    ended
}

impl Listening {
    /// `addresses`: as bound, that of `gateway.listen` first.
    fn of(config: &Config, addresses: &[SocketAddr], http: SocketAddr) -> Self {
        let mut all = addresses
            .iter()
            .zip(&config.listeners)
            .map(|(address, listener)| Listener {
                address: *address,
                project: listener.project.as_deref().map(str::to_owned),
            });
        Self {
            mysql: all.next().map_or(config.http_listen, |listener| listener.address),
            listeners: all.collect(),
            http,
        }
    }
}

/// Says of listeners that are for a project that control does not know of, but for those of `before`. A name that was mistyped
/// would be seen nowhere else: a client is told what it is told of a wrong password.
pub(crate) fn say_unknown(config: &Config, before: Option<&Config>, routes: &Routes) {
    let named = |config: &Config| {
        config
            .listeners
            .iter()
            .filter_map(|own| own.project.clone())
            .collect::<Vec<_>>()
    };
    let known = before.map(named).unwrap_or_default();
    for project in named(config) {
        if routes.project(&project).is_none() && !known.contains(&project) {
            tracing::warn!(%project, "gateway.listeners: there is no such project; nobody gets in there until it is made");
        }
    }
}

/// The data-plane threads.
struct Threads {
    /// Resolves when a thread has ended.
    ended: JoinSet<(usize, bool)>,
    stop: CancellationToken,
}

impl Threads {
    fn start(gateway: &Arc<Gateway>, doors: Vec<ClosedDoor>) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        let mut ended = JoinSet::new();
        for (thread, door) in doors.into_iter().enumerate() {
            let (gateway, stop) = (Arc::clone(gateway), stop.clone());
            let (over, is_over) = oneshot::channel();
            std::thread::Builder::new()
                .name(format!("data-{thread}"))
                .spawn(move || {
                    let result = data_plane(&gateway, door, gateway.metrics.core(thread), stop);
                    if let Err(error) = &result {
                        tracing::error!(thread, %error, "data-plane thread");
                    }
                    let _ = over.send(());
                })
                .map_err(Error::Thread)?;
            ended.spawn(async move { (thread, is_over.await.is_ok()) });
        }
        Ok(Self { ended, stop })
    }

    /// Serves until the shut-down, then drains: idle clients in their turn, busy ones after their command, their transaction or
    /// their time.
    async fn until(mut self, gateway: &Gateway, shutdown: CancellationToken) -> Result<Drained, Error> {
        tokio::select! {
            Some(ended) = self.ended.join_next() => {
                return Err(Error::ThreadStopped(ended.map_or(usize::MAX, |(thread, _)| thread)));
            }
            () = shutdown.cancelled() => {}
        }
        tracing::info!("draining");
        gateway.drain.announced.raise(SHUTDOWN_TEXT);
        sleep(gateway.config().drain.notice).await;
        let drain = gateway.config().drain.clone();
        gateway.drain.begin(gateway.sessions.count(), drain.timeout);
        self.stop.cancel();
        let all_ended = async { while self.ended.join_next().await.is_some() {} };
        let mut all_ended = std::pin::pin!(all_ended);
        if timeout(drain.timeout, &mut all_ended).await.is_err() {
            tracing::info!("the drain's time is over; closing what is left");
            gateway.drain.over.raise(SHUTDOWN_TEXT);
            let _ = timeout(CLOSE_TIME, all_ended).await;
        }
        // Who is still there does not read what it is told.
        let cut = gateway.drain.cut().max(gateway.sessions.count());
        if cut > 0 {
            tracing::info!(cut, "sessions were ended in the middle of something");
        }
        Ok(Drained { cut })
    }
}

/// One data-plane thread, from its first client to its last.
fn data_plane(
    gateway: &Arc<Gateway>,
    door: ClosedDoor,
    metrics: Arc<CoreMetrics>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let sessions = TaskTracker::new();
        let mut door = door.open()?;
        let mut complaints = Complaints::default();
        loop {
            let arrival = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                arrival = door.next() => arrival,
            };
            match arrival {
                Ok(Arrival::Client(accepted)) => {
                    let (gateway, metrics) = (Arc::clone(gateway), Arc::clone(&metrics));
                    sessions.spawn_local(async move {
                        metrics.session_begun();
                        connection::serve(gateway, Arc::clone(&metrics), accepted).await;
                        metrics.session_ended();
                    });
                }
                Ok(Arrival::Full(stream)) => {
                    metrics.client_refused();
                    accept::tell_at_the_door(&stream, &Told::new(1040, "08004", "Too many connections"));
                }
                Err(error) => {
                    metrics.accept_failed();
                    if complaints.is_due() {
                        tracing::error!(%error, "clients that connect are not accepted; trying again");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(door);
        sessions.close();
        sessions.wait().await;
        Ok(())
    })
}
