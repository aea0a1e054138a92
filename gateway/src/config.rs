//! The gateway's settings: the raw form as it stands in the file, and the checked form that the steps take.
//!
//! Each step owns the settings it needs (`accept::Config`, `handshake::Config`, ...); here they are only put together
//! and their defaults and reasons written down.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control_api::networks::Networks;
use control_api::project_id;
use serde::{Deserialize, Serialize};

use crate::accept::{Listen, proxied, turnstile};
use crate::auth::throttle;
use crate::{accept, drain, handshake, meter, relay, tls, wake};

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
    /// Logins under way at once. Each may cost 40 KiB inside TLS: 320 MiB at most.
    pub max_half_open: u32,
    /// Of these from one address: more than an application that starts opens at once, while eight addresses are needed to
    /// fill the gateway.
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

/// Usage that waits for control: more than a day of 1,000 projects in use every minute, at some 100 bytes each.
const USAGE_SPOOL_BYTES_MAX: u64 = 256 << 20;

/// A setting that cannot be used: which, what it is, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("setting `gateway.{setting}`: {value:?} {problem}")]
pub struct ConfigError {
    setting: &'static str,
    value: String,
    problem: String,
}

/// Checked settings; immutable. A reload puts others in their place.
#[derive(Debug, Clone)]
pub struct Config {
    /// What they were checked of.
    pub(crate) written: Written,
    pub(crate) threads: usize,
    pub(crate) http_listen: SocketAddr,
    pub(crate) control: ControlConfig,
    pub(crate) accept: accept::Config,
    /// In the order of `accept.listen`: that of `gateway.listen` first, then `gateway.listeners`.
    pub(crate) listeners: Vec<Listener>,
    pub(crate) turnstile: turnstile::Config,
    pub(crate) throttle: throttle::Config,
    pub(crate) tls: tls::Config,
    pub(crate) sni_domains: Vec<String>,
    pub(crate) handshake: handshake::Config,
    pub(crate) wake: wake::Config,
    pub(crate) drain: drain::Config,
    pub(crate) park: relay::Config,
    pub(crate) usage: meter::Config,
}

/// What is a listener's own.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// The one project that clients come here for.
    pub(crate) project: Option<Box<str>>,
    pub(crate) proxied: proxied::Config,
    pub(crate) tls_mode: tls::Mode,
}

/// How to reach control.
#[derive(Debug, Clone)]
pub(crate) struct ControlConfig {
    pub(crate) address: String,
    pub(crate) token_file: PathBuf,
    pub(crate) tls: Option<ControlTls>,
}

/// What the connection to control is proven with.
#[derive(Debug, Clone)]
pub(crate) struct ControlTls {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Settings as they were written, nothing of them checked, and where files lie that they do not name.
#[derive(Debug, Clone)]
pub struct Written {
    /// `[gateway]`.
    pub gateway: RawConfig,
    /// The data directory, which is common to all services.
    pub data_dir: PathBuf,
}

impl Written {
    /// Checks every setting.
    pub fn check(&self) -> Result<Config, ConfigError> {
        self.gateway.clone().check(&self.data_dir)
    }
}

impl RawConfig {
    /// Checks every setting; paths not given lie in `data_dir`.
    pub fn check(self, data_dir: &Path) -> Result<Config, ConfigError> {
        let written = Written {
            gateway: self.clone(),
            data_dir: data_dir.to_owned(),
        };
        let Self {
            listen,
            listeners,
            threads,
            max_clients,
            max_clients_per_project,
            login_timeout,
            wake_timeout,
            drain_notice,
            drain_timeout,
            park_after,
            pinned_idle_timeout,
            http,
            control,
            tls,
            sni_domains,
            throttle,
            proxy_protocol,
        } = self;
        let RawHttp { listen: http_listen } = http;
        let RawThrottle {
            failures_per_minute,
            address_failures_per_second,
            max_half_open,
            max_half_open_per_address,
        } = throttle;
        let RawControl {
            address,
            token_file,
            tls: control_tls,
        } = control;
        if let Some(domain) = sni_domains.iter().find(|domain| !is_server_name(domain)) {
            return Err(refused(
                "sni_domains",
                domain,
                "is not a domain, such as \"db.example.org\"",
            ));
        }
        if max_clients == 0 {
            return Err(refused("max_clients", "0", "must be at least 1"));
        }
        if max_clients_per_project == Some(0) {
            return Err(refused("max_clients_per_project", "0", "must be at least 1"));
        }
        if threads > 1024 {
            return Err(refused("threads", &threads.to_string(), "is more than 1024"));
        }
        let tls = tls_of(tls, data_dir)?;
        let (listen, listeners) = listeners_of(&listen, listeners, &proxy_protocol, tls.mode)?;
        Ok(Config {
            written,
            threads: if threads == 0 { available_cores() } else { threads },
            http_listen: address_of("http.listen", &http_listen)?,
            control: ControlConfig {
                tls: control_tls_of(control_tls, &address)?,
                address: url_of("control.address", address)?,
                token_file: token_file.unwrap_or_else(|| data_dir.join("control/gateway.token")),
            },
            accept: accept::Config {
                listen,
                max_clients,
                max_clients_per_project: max_clients_per_project.unwrap_or(max_clients.div_ceil(2)),
            },
            listeners,
            turnstile: turnstile::Config {
                max_half_open,
                max_half_open_per_address,
                address_failures_per_second,
            },
            throttle: throttle::Config { failures_per_minute },
            tls,
            sni_domains,
            handshake: handshake::Config {
                timeout: duration_of("login_timeout", &login_timeout)?,
            },
            wake: wake::Config {
                timeout: duration_of("wake_timeout", &wake_timeout)?,
            },
            drain: drain::Config {
                notice: humantime::parse_duration(&drain_notice).map_err(|e| {
                    refused(
                        "drain_notice",
                        &drain_notice,
                        format!("is not a duration such as \"5s\": {e}"),
                    )
                })?,
                timeout: duration_of("drain_timeout", &drain_timeout)?,
            },
            park: relay::Config {
                after: duration_of("park_after", &park_after)?,
                pinned_idle_timeout: duration_of("pinned_idle_timeout", &pinned_idle_timeout)?,
            },
            usage: meter::Config {
                dir: data_dir.join("gateway/usage"),
                spool_bytes_max: USAGE_SPOOL_BYTES_MAX,
            },
        })
    }
}

impl Config {
    /// Settings of the listener that a client has come to. There are as many as there were at the start, whatever is reloaded.
    pub(crate) fn listener(&self, n: usize) -> &Listener {
        &self.listeners[n]
    }

    /// The certificate authority that a client may trust to verify this gateway, if there is one to give out: that of the
    /// development certificate. It exists once the gateway has started.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.tls.source.ca_file()
    }
}

fn refused(setting: &'static str, value: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError {
        setting,
        value: value.to_owned(),
        problem: problem.into(),
    }
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn address_of(setting: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
    value
        .parse()
        .map_err(|_| refused(setting, value, "is not an address and port, such as \"127.0.0.1:3307\""))
}

fn url_of(setting: &'static str, value: String) -> Result<String, ConfigError> {
    match tonic::transport::Endpoint::from_shared(value.clone()) {
        Ok(_) => Ok(value),
        Err(_) => Err(refused(
            setting,
            &value,
            "is not a URL, such as \"http://127.0.0.1:7301\"",
        )),
    }
}

fn networks_of(setting: &'static str, values: &[String]) -> Result<Networks, ConfigError> {
    Networks::parse(values).map_err(|e| ConfigError {
        setting,
        value: values.join(", "),
        problem: format!("cannot be used: {e}"),
    })
}

/// Verifiers and secrets pass here: over the network only with certificates on both sides.
fn control_tls_of(raw: RawControlTls, address: &str) -> Result<Option<ControlTls>, ConfigError> {
    let RawControlTls { ca, cert, key } = raw;
    let https = address.starts_with("https://");
    match (https, ca, cert, key) {
        (true, Some(ca), Some(cert), Some(key)) => Ok(Some(ControlTls { ca, cert, key })),
        (true, None, _, _) => Err(refused("control.tls.ca", "", "is needed for an address of https://")),
        (true, _, None, _) => Err(refused("control.tls.cert", "", "is needed for an address of https://")),
        (true, _, _, None) => Err(refused("control.tls.key", "", "is needed for an address of https://")),
        (false, None, None, None) if is_loopback(address) => Ok(None),
        (false, None, None, None) => Err(refused(
            "control.address",
            address,
            "is on another machine: verifiers and secrets pass there, so it must be https:// with `gateway.control.tls`",
        )),
        (false, ..) => Err(refused(
            "control.address",
            address,
            "must be https:// where `gateway.control.tls` is set",
        )),
    }
}

/// As written; a name is another machine's, whatever it resolves to, but `localhost`.
fn is_loopback(address: &str) -> bool {
    let Some(host) = address
        .parse::<tonic::transport::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned))
    else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn duration_of(setting: &'static str, value: &str) -> Result<Duration, ConfigError> {
    let duration = humantime::parse_duration(value)
        .map_err(|e| refused(setting, value, format!("is not a duration such as \"5s\": {e}")))?;
    if duration.is_zero() {
        return Err(refused(setting, value, "must be more than zero"));
    }
    Ok(duration)
}

/// Where to listen, and what is each listener's own: first that of `gateway.listen`, then the others.
fn listeners_of(
    listen: &str,
    others: Vec<RawListener>,
    proxy_protocol: &RawProxyProtocol,
    mode: tls::Mode,
) -> Result<(Vec<Listen>, Vec<Listener>), ConfigError> {
    let listen = Listen {
        setting: "listen",
        address: address_of("listen", listen)?,
    };
    let proxied = proxied_of("proxy_protocol.trusted", proxy_protocol)?;
    let mut all = (
        vec![listen],
        vec![Listener {
            project: None,
            proxied: proxied.clone(),
            tls_mode: mode,
        }],
    );
    for other in others {
        let RawListener {
            listen,
            project,
            tls: RawListenerTls { mode: own_mode },
            proxy_protocol: own_proxies,
        } = other;
        let setting = "listeners.listen";
        let address = address_of(setting, &listen)?;
        if let Some(taken) = all.0.iter().find(|before| overlap(before.address, address)) {
            let problem = format!("overlaps with gateway.{} {}", taken.setting, taken.address);
            return Err(refused(setting, &listen, problem));
        }
        if let Some(project) = project.as_deref().filter(|id| !project_id::fits(id)) {
            return Err(refused("listeners.project", project, project_id::RULE));
        }
        let own_mode = own_mode.map(|mode| mode_of("listeners.tls.mode", &mode)).transpose()?;
        let own_proxies = own_proxies.map(|raw| proxied_of("listeners.proxy_protocol.trusted", &raw));
        all.0.push(Listen { setting, address });
        all.1.push(Listener {
            project: project.map(String::into_boxed_str),
            proxied: own_proxies.transpose()?.unwrap_or_else(|| proxied.clone()),
            tls_mode: own_mode.unwrap_or(mode),
        });
    }
    Ok(all)
}

/// Would a client of the one be one of the other? The system chooses another port for every 0.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (any || one.ip() == other.ip())
}

fn proxied_of(setting: &'static str, raw: &RawProxyProtocol) -> Result<proxied::Config, ConfigError> {
    let RawProxyProtocol { trusted } = raw;
    Ok(proxied::Config {
        setting,
        trusted: networks_of(setting, trusted)?,
    })
}

fn mode_of(setting: &'static str, mode: &str) -> Result<tls::Mode, ConfigError> {
    match mode {
        "required" => Ok(tls::Mode::Required),
        "optional" => Ok(tls::Mode::Optional),
        other => Err(refused(setting, other, "is neither \"required\" nor \"optional\"")),
    }
}

fn tls_of(raw: RawTls, data_dir: &Path) -> Result<tls::Config, ConfigError> {
    let RawTls {
        mode,
        cert,
        key,
        certificates,
        client_ca,
    } = raw;
    let mode = mode_of("tls.mode", &mode)?;
    let source = match (cert, key) {
        (Some(cert), Some(key)) => tls::Source::Operator { cert, key },
        (None, None) => tls::Source::Development {
            dir: data_dir.join("tls"),
        },
        (Some(cert), None) => {
            return Err(refused(
                "tls.key",
                &cert.display().to_string(),
                "is a certificate without its key",
            ));
        }
        (None, Some(key)) => {
            return Err(refused(
                "tls.cert",
                &key.display().to_string(),
                "is a key without its certificate",
            ));
        }
    };
    let mut named = Vec::with_capacity(certificates.len());
    for RawNamed { cert, key, names } in certificates {
        if let Some(name) = names.iter().find(|name| !is_server_name(name)) {
            return Err(refused(
                "tls.certificates.names",
                name,
                "is not a server name, such as \"db.example.org\" or \"*.example.org\"",
            ));
        }
        named.push(tls::Named { cert, key, names });
    }
    Ok(tls::Config {
        mode,
        source,
        named,
        client_ca,
    })
}

fn is_server_name(name: &str) -> bool {
    rustls_pki_types::DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(raw: RawConfig) -> Result<Config, String> {
        raw.check(Path::new("/data")).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_the_documented_ports() {
        let config = checked(RawConfig::default()).unwrap();
        let listen: Vec<_> = config
            .accept
            .listen
            .iter()
            .map(|listen| listen.address.to_string())
            .collect();
        assert_eq!(listen, ["127.0.0.1:3307"]);
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:7400");
        assert_eq!(config.control.token_file, Path::new("/data/control/gateway.token"));
    }

    #[test]
    fn a_bad_value_names_setting_and_value() {
        let raw = RawConfig {
            wake_timeout: "soon".into(),
            ..RawConfig::default()
        };
        let text = checked(raw).unwrap_err();
        assert!(
            text.starts_with("setting `gateway.wake_timeout`: \"soon\" is not a duration"),
            "{text}"
        );
        let raw = RawConfig {
            listen: "3307".into(),
            ..RawConfig::default()
        };
        assert!(checked(raw).unwrap_err().contains("gateway.listen"));
    }

    #[test]
    fn a_trusted_network_that_is_none_is_named() {
        let raw = RawConfig {
            proxy_protocol: RawProxyProtocol {
                trusted: vec!["10.0.0.0/8".into(), "10.1.0.1/16".into()],
            },
            ..RawConfig::default()
        };
        let text = checked(raw).unwrap_err();
        assert!(
            text.starts_with("setting `gateway.proxy_protocol.trusted`: ") && text.contains("write \"10.1.0.0/16\""),
            "{text}"
        );
    }

    #[test]
    fn a_listener_has_what_the_gateway_has_but_for_what_it_says_itself() {
        let listener = |listen: &str| RawListener {
            listen: listen.into(),
            project: None,
            tls: RawListenerTls::default(),
            proxy_protocol: None,
        };
        let trusting = |network: &str| RawProxyProtocol {
            trusted: vec![network.into()],
        };
        let raw = |listeners| RawConfig {
            listeners,
            proxy_protocol: trusting("10.0.0.0/8"),
            ..RawConfig::default()
        };
        let own = RawListener {
            project: Some("shop".into()),
            tls: RawListenerTls {
                mode: Some("optional".into()),
            },
            proxy_protocol: Some(trusting("192.0.2.0/24")),
            ..listener("[::1]:3307")
        };
        let config = checked(raw(vec![listener("127.0.0.1:3308"), own.clone()])).unwrap();
        let seen: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| {
                let trusts = |ip: [u8; 4]| listener.proxied.trusted.contains(ip.into());
                let project = listener.project.as_deref();
                (
                    project,
                    listener.tls_mode,
                    trusts([10, 0, 0, 1]),
                    trusts([192, 0, 2, 1]),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (None, tls::Mode::Required, true, false),
                (None, tls::Mode::Required, true, false),
                (Some("shop"), tls::Mode::Optional, false, true),
            ]
        );
        let with = |adjust: fn(&mut RawListener)| {
            let mut wrong = own.clone();
            adjust(&mut wrong);
            checked(raw(vec![wrong])).unwrap_err()
        };
        for (told, expected) in [
            (
                with(|raw| raw.listen = "3308".into()),
                "`gateway.listeners.listen`: \"3308\"",
            ),
            (
                with(|raw| raw.listen = "127.0.0.1:3307".into()),
                "overlaps with gateway.listen 127.0.0.1:3307",
            ),
            (
                with(|raw| raw.listen = "0.0.0.0:3307".into()),
                "overlaps with gateway.listen",
            ),
            (
                with(|raw| raw.project = Some("Shop".into())),
                "`gateway.listeners.project`: \"Shop\" must be 3 to 40",
            ),
            (
                with(|raw| raw.tls.mode = Some("off".into())),
                "`gateway.listeners.tls.mode`: \"off\"",
            ),
            (
                with(|raw| {
                    raw.proxy_protocol = Some(RawProxyProtocol {
                        trusted: vec!["x".into()],
                    })
                }),
                "`gateway.listeners.proxy_protocol.trusted`",
            ),
        ] {
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn control_on_another_machine_needs_certificates() {
        let at = |address: &str, tls: RawControlTls| {
            let control = RawControl {
                address: address.into(),
                tls,
                ..RawControl::default()
            };
            checked(RawConfig {
                control,
                ..RawConfig::default()
            })
        };
        let all = || RawControlTls {
            ca: Some("ca".into()),
            cert: Some("c".into()),
            key: Some("k".into()),
        };
        for local in ["http://127.0.0.1:7301", "http://localhost:7301", "http://[::1]:7301"] {
            assert!(
                at(local, RawControlTls::default()).unwrap().control.tls.is_none(),
                "{local}"
            );
        }
        let told = at("http://control:7301", RawControlTls::default()).unwrap_err();
        assert!(told.contains("must be https://"), "{told}");
        assert!(at("https://control:7301", all()).unwrap().control.tls.is_some());
        let told = at("https://control:7301", RawControlTls { key: None, ..all() }).unwrap_err();
        assert!(told.contains("gateway.control.tls.key"), "{told}");
        assert!(at("http://127.0.0.1:7301", all()).is_err());
    }

    #[test]
    fn certificate_and_key_come_together() {
        let tls = RawTls {
            cert: Some("a.pem".into()),
            ..RawTls::default()
        };
        assert!(
            checked(RawConfig {
                tls,
                ..RawConfig::default()
            })
            .unwrap_err()
            .contains("without its key")
        );
    }

    #[test]
    fn tls_is_required_unless_said_otherwise() {
        let with = |mode: &str| {
            let tls = RawTls {
                mode: mode.into(),
                ..RawTls::default()
            };
            checked(RawConfig {
                tls,
                ..RawConfig::default()
            })
        };
        assert_eq!(checked(RawConfig::default()).unwrap().tls.mode, tls::Mode::Required);
        assert_eq!(with("optional").unwrap().tls.mode, tls::Mode::Optional);
        let text = with("require").unwrap_err();
        assert!(
            text.contains("gateway.tls.mode") && text.contains("\"require\""),
            "{text}"
        );
    }
}
