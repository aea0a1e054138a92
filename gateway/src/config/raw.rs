//! The settings as they stand in the file, with their defaults and the reasons for them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[gateway]` of the settings file, as written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Where MySQL clients connect.
    pub listen: String,
    /// Where else they do.
    pub listeners: Vec<RawListener>,
    /// Data-plane threads, each with a runtime and a listener of its own; 0: one per core.
    pub threads: usize,
    /// Clients at once. Each costs a file descriptor, and a second one while it holds a compute connection.
    pub max_clients: u32,
    /// Of these logged in to one project. By default half of them: as many as a project that is alone, or nearly, may need,
    /// while no single one keeps the others out.
    pub max_clients_per_project: Option<u32>,
    /// The whole login, from accept to OK: bounds half-open logins. MariaDB's own `connect_timeout` is 10 s.
    pub login_timeout: String,
    /// From a client's first command to a compute connection that can run it; a project may have its own.
    pub wake_timeout: String,
    /// How long `/readyz` fails after a shut-down was asked for, before new clients are refused: as long as a load balancer needs
    /// to see it. None by default: most gateways stand alone.
    pub drain_notice: String,
    /// How long commands in flight and transactions may go on then.
    pub drain_timeout: String,
    /// A session without a command for so long gives its compute connection up and is given another at its next command.
    /// Long enough that no busy application notices, short against any time to suspend.
    pub park_after: String,
    /// A session that cannot (an open transaction, a temporary table, a lock) is closed after so long without a command,
    /// for projects that say nothing else; it keeps its database awake until then.
    pub pinned_idle_timeout: String,
    /// The gateway's HTTP port (metrics, health).
    pub http: RawHttp,
    /// Where control is.
    pub control: RawControl,
    /// Domains below which a server name (SNI) names a project: with `db.example.org`, `shop.db.example.org` names `shop`.
    pub sni_domains: Vec<String>,
    /// Certificates for clients.
    pub tls: RawTls,
    /// What a source address may do before it has logged in.
    pub throttle: RawThrottle,
    /// Proxies in front that say who their clients are.
    pub proxy_protocol: RawProxyProtocol,
}

/// `[[gateway.listeners]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawListener {
    /// Address and port.
    pub listen: String,
    /// The one project that clients come here for; the login name is the user's alone. None: as at `gateway.listen`.
    #[serde(default)]
    pub project: Option<String>,
    /// What of `[gateway.tls]` is different here.
    #[serde(default)]
    pub tls: RawListenerTls,
    /// Other proxies than those of `[gateway.proxy_protocol]`.
    #[serde(default)]
    pub proxy_protocol: Option<RawProxyProtocol>,
}

/// `[gateway.listeners.tls]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawListenerTls {
    /// As `gateway.tls.mode`, which it is when not given.
    pub mode: Option<String>,
}

/// `[gateway.proxy_protocol]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawProxyProtocol {
    /// Networks of the proxies. From there a PROXY header (version 1 or 2) is required; from elsewhere none is read.
    pub trusted: Vec<String>,
}

/// `[gateway.throttle]`; 0: no bound. Why these: `docs/decisions/2026-11-25-throttles.md`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawThrottle {
    /// Wrong passwords for one project from one address, at once and per minute; five times as many from its network. More
    /// than a few clients with an old password need, far too few to guess any.
    pub failures_per_minute: u32,
    /// Logins of any kind that fail, of one address, per second; successful ones make up for them. A TLS handshake costs a
    /// millisecond or two of a core: an address gets at most a tenth of one.
    pub address_failures_per_second: u32,
    /// Logins under way at once; no more than half of `max_clients` where that is more than 256. Each costs up to 40 KiB inside
    /// TLS, and 4 KiB of a login packet: 352 MiB together; longer login packets 16 MiB more.
    pub max_half_open: u32,
    /// Of these from one address, and no more than half of them: more than an application that starts opens at once, while many
    /// addresses are needed to have them all.
    pub max_half_open_per_address: u32,
}

impl Default for RawThrottle {
    fn default() -> Self {
        Self {
            failures_per_minute: 30,
            address_failures_per_second: 50,
            max_half_open: 8192,
            max_half_open_per_address: 1024,
        }
    }
}

/// `[gateway.http]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHttp {
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: String,
}

/// `[gateway.control]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawControl {
    /// URL of control's gRPC.
    pub address: String,
    /// File with the token that control made for its gateways; by default `control/gateway.token` in the data directory.
    pub token_file: Option<PathBuf>,
    /// Certificates for an address of `https://`.
    pub tls: RawControlTls,
}

/// `[gateway.control.tls]`: PEM files. All of them, or none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawControlTls {
    /// Who signed control's certificate.
    pub ca: Option<PathBuf>,
    /// The certificate that this gateway shows.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// `[gateway.tls]`; without both, a development certificate is made in the data directory at the first start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    /// `required`: a client without TLS is refused unless it is on this machine. `optional`: nobody is, but for accounts
    /// that REQUIRE it. A password sent in the clear over a network is everybody's, hence the default.
    pub mode: String,
    /// PEM file with the certificate chain, leaf first.
    pub cert: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
    /// Further certificates, for clients that name a server (SNI) that they are for.
    pub certificates: Vec<RawNamed>,
    /// PEM file with the certificate authorities that vouch for clients. With it clients may show a certificate, and accounts
    /// that REQUIRE one can log in; without, nobody is asked for any.
    pub client_ca: Option<PathBuf>,
}

/// `[[gateway.tls.certificates]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNamed {
    /// PEM file with the certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// The server names it is for, `*.` for any one label in front; by default those in the certificate.
    #[serde(default)]
    pub names: Vec<String>,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:3307".into(),
            listeners: Vec::new(),
            threads: 0,
            max_clients: 50_000,
            max_clients_per_project: None,
            login_timeout: "10s".into(),
            wake_timeout: "60s".into(),
            drain_notice: "0s".into(),
            drain_timeout: "10s".into(),
            park_after: "5s".into(),
            pinned_idle_timeout: "10m".into(),
            http: RawHttp::default(),
            control: RawControl::default(),
            tls: RawTls::default(),
            sni_domains: Vec::new(),
            throttle: RawThrottle::default(),
            proxy_protocol: RawProxyProtocol::default(),
        }
    }
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7400".into(),
        }
    }
}

impl Default for RawTls {
    fn default() -> Self {
        Self {
            mode: "required".into(),
            cert: None,
            key: None,
            certificates: Vec::new(),
            client_ca: None,
        }
    }
}

impl Default for RawControl {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:7301".into(),
            token_file: None,
            tls: RawControlTls::default(),
        }
    }
}

impl RawConfig {
    /// Every setting that is a path and is set, under its name below `gateway`.
    pub fn paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        // Exhaustive: a new setting does not compile until it is known whether it is a path.
        let Self {
            listen: _,
            listeners: _,
            threads: _,
            max_clients: _,
            max_clients_per_project: _,
            login_timeout: _,
            wake_timeout: _,
            drain_notice: _,
            drain_timeout: _,
            park_after: _,
            pinned_idle_timeout: _,
            http: _,
            control:
                RawControl {
                    address: _,
                    token_file,
                    tls: control_tls,
                },
            sni_domains: _,
            tls,
            throttle: _,
            proxy_protocol: _,
        } = self;
        let RawTls {
            mode: _,
            cert,
            key,
            certificates,
            client_ca,
        } = tls;
        let RawControlTls {
            ca,
            cert: control_cert,
            key: control_key,
        } = control_tls;
        let single = [
            ("control.token_file", token_file),
            ("control.tls.ca", ca),
            ("control.tls.cert", control_cert),
            ("control.tls.key", control_key),
            ("tls.cert", cert),
            ("tls.key", key),
            ("tls.client_ca", client_ca),
        ];
        let single = single
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_mut()?)));
        // A list is written as a whole.
        let named = certificates
            .iter_mut()
            .flat_map(|RawNamed { cert, key, names: _ }| [cert, key])
            .map(|path| ("tls.certificates", path));
        single.chain(named).collect()
    }
}
