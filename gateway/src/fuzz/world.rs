//! One gateway for all runs of a thread, on a clock that stands still while anybody has something to do.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use control_api::control as proto;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use tokio::runtime::Runtime;

use crate::accept::Seats;
use crate::accept::turnstile::Turnstile;
use crate::accounts::{AccountSource, Accounts};
use crate::activity::Clock;
use crate::auth::Decoy;
use crate::auth::throttle::Throttle;
use crate::config::{Config, RawConfig, RawProxyProtocol, RawThrottle};
use crate::context::Gateway;
use crate::drain::Drain;
use crate::meter::{self, Meter};
use crate::metrics::{Metrics, Throttled};
use crate::route::Routes;
use crate::tls::Certificates;
use crate::wake::{Ask, AskError, ComputeSource, Wakes};

/// The project that there is; its users are in [`users`].
pub(super) const PROJECT: &str = "demo";
/// What computes are logged in to with.
pub(super) const SECRET: [u8; 32] = [0x5e; 32];
/// Where the trusted proxy is.
pub(super) const PROXY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Computes in a row that a session may find unreachable before there are no more.
const COMPUTES_MAX: u64 = 4;

/// See the head of this file.
pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) gateway: Arc<Gateway>,
    pub(super) source: Arc<Source>,
    pub(super) tls: Arc<ClientConfig>,
    /// Of `u` and all others; of this process alone, so that no input can hold it.
    pub(super) password: String,
    dir: PathBuf,
    runs: u64,
}

/// Control, which says that the compute is where the run has put it.
#[derive(Default)]
pub(super) struct Source {
    /// Wakes asked for in this run.
    pub(super) asked: AtomicUsize,
    compute: Mutex<Option<proto::Compute>>,
}

#[async_trait::async_trait]
impl ComputeSource for Source {
    async fn wake(&self, ask: Ask) -> Result<proto::WakeReply, AskError> {
        self.asked.fetch_add(1, Relaxed);
        let compute = self.compute.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut compute = compute.ok_or_else(|| AskError::Refused("there is none".into()))?;
        if let Some(unreachable) = ask.unreachable {
            if unreachable >= compute.incarnation + COMPUTES_MAX {
                return Err(AskError::Refused("they do not stay".into()));
            }
            compute.incarnation = unreachable + 1;
        }
        Ok(proto::WakeReply {
            compute: Some(compute),
            ..proto::WakeReply::default()
        })
    }
}

/// Nobody knows of accounts.
struct Nobody;

#[async_trait::async_trait]
impl AccountSource for Nobody {
    async fn accounts_changed(&self, _: &str, _: u64) {}
}

impl World {
    /// A gateway whose files lie in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let config = RawConfig {
            threads: 1,
            throttle: RawThrottle {
                failures_per_minute: 0,
                address_failures_per_second: 0,
                max_half_open: 0,
                max_half_open_per_address: 0,
            },
            sni_domains: vec!["db.example.org".into()],
            proxy_protocol: RawProxyProtocol {
                trusted: vec![PROXY.to_string()],
            },
            ..RawConfig::default()
        };
        let config = config.check(dir).expect("settings");
        let password = format!("{:032x}", rand::random::<u128>());
        let source = Arc::new(Source::default());
        let gateway = {
            let _runtime = runtime.enter();
            gateway(config, &source, &runtime)
        };
        gateway.routes.apply(&project(&password));
        let tls = tls(&dir.join("tls/ca.pem"));
        Self {
            runtime,
            gateway: Arc::new(gateway),
            source,
            tls: Arc::new(tls),
            password,
            dir: dir.to_owned(),
            runs: 0,
        }
    }

    /// Begins a run: the project sleeps, and its compute will be at the answered path.
    pub(super) fn begin(&mut self) -> PathBuf {
        self.runs += 1;
        let socket = self.dir.join(format!("c{}", self.runs));
        let asleep = proto::Compute {
            state: proto::ComputeState::Suspended.into(),
            // Above all that the run before has tried.
            incarnation: self.runs * (COMPUTES_MAX + 2),
            ..proto::Compute::default()
        };
        let compute = proto::Compute {
            state: proto::ComputeState::Ready.into(),
            incarnation: asleep.incarnation + 1,
            socket_path: socket.display().to_string(),
            gateway_secret: SECRET.to_vec(),
            ..proto::Compute::default()
        };
        let project = self.gateway.routes.project(PROJECT).expect("the project");
        project.apply_compute(&asleep);
        *self.source.compute.lock().unwrap_or_else(PoisonError::into_inner) = Some(compute);
        self.source.asked.store(0, Relaxed);
        socket
    }
}

fn gateway(config: Config, source: &Arc<Source>, runtime: &Runtime) -> Gateway {
    let routes = Arc::new(Routes::default());
    let metrics = Metrics::new(config.threads).expect("metrics");
    let turned_away = [Throttled::HalfOpen, Throttled::Address].map(|by| metrics.throttled(by));
    Gateway {
        tls: Arc::new(Certificates::load(&config.tls).expect("certificates")),
        wakes: Wakes::new(
            config.wake.clone(),
            Arc::clone(source) as Arc<dyn ComputeSource>,
            Arc::clone(&routes),
            runtime.handle().clone(),
        ),
        routes,
        accounts: Accounts::new(Nobody),
        decoy: Decoy::random(),
        turnstile: Turnstile::new(&config.turnstile, turned_away),
        throttle: Throttle::new(&config.throttle, metrics.throttled(Throttled::Password)),
        drain: Drain::default(),
        metrics,
        meter: Arc::new(Meter::open(&config.usage, meter::wall_ms()).expect("usage")),
        clock: Clock::start(),
        sessions: Arc::default(),
        seats: Seats::new(config.threads, config.accept.max_clients),
        settings: ArcSwap::from_pointee(config),
    }
}

fn project(password: &str) -> proto::Project {
    let variables = [
        ("version_comment", "Debian 12"),
        ("max_allowed_packet", "16777216"),
        ("wait_timeout", "600"),
        ("interactive_timeout", "600"),
        ("time_zone", "SYSTEM"),
    ];
    proto::Project {
        id: PROJECT.into(),
        users: users(password),
        databases: vec!["demo".into()],
        server: Some(proto::ServerInfo {
            version: "10.11.19-MariaDB".into(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }),
        ..proto::Project::default()
    }
}

/// `u` may log in; `l` is locked, and `x` must show a certificate, which nobody here has.
fn users(password: &str) -> Vec<proto::User> {
    let user = |name: &str| proto::User {
        name: name.into(),
        native_sha1: Sha1::digest(Sha1::digest(password)).to_vec(),
        caching_sha2: Sha256::digest(Sha256::digest(password)).to_vec(),
        granted_databases: vec!["demo".into(), "x\\_%".into()],
        ..proto::User::default()
    };
    vec![
        user("u"),
        proto::User {
            locked: true,
            ..user("l")
        },
        proto::User {
            require: proto::Require::Certificate.into(),
            ..user("x")
        },
    ]
}

fn tls(ca: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("the authority") {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
