//! The gateway's settings, checked: what the steps take. As they stand in the file: `raw`.
//!
//! Each step owns the settings it needs (`accept::Config`, `handshake::Config`, ...); here they are only put together.

mod parts;
mod raw;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub(crate) use parts::overlap;
use parts::{
    address_of, available_cores, control_tls_of, duration_of, is_server_name, listeners_of, refused, tls_of, url_of,
};
pub(crate) use raw::RawThrottle;
pub use raw::{RawConfig, RawListener, RawListenerTls, RawProxyProtocol};
use raw::{RawControl, RawControlTls, RawHttp, RawNamed, RawTls};

use crate::accept::{proxied, turnstile};
use crate::auth::throttle;
use crate::{accept, drain, handshake, meter, relay, tls, wake};

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
        if let Some(domain) = sni_domains.iter().find(|domain| domain.starts_with("*.")) {
            return Err(refused(
                "sni_domains",
                domain,
                "needs no `*.`: every name below a domain of this list names a project",
            ));
        }
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
        let http_listen = address_of("http.listen", &http_listen)?;
        if let Some(taken) = listen.iter().find(|other| overlap(other.address, http_listen)) {
            let problem = format!("overlaps with gateway.{} {}", taken.setting, taken.address);
            return Err(refused("http.listen", &http_listen.to_string(), problem));
        }
        Ok(Config {
            written,
            threads: if threads == 0 { available_cores() } else { threads },
            http_listen,
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
            }
            .within(max_clients),
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
    /// Every address that is listened on, with the setting that names it.
    pub(crate) fn ports(&self) -> Vec<(&'static str, SocketAddr)> {
        let mysql = self.accept.listen.iter().map(|listen| (listen.setting, listen.address));
        mysql.chain([("http.listen", self.http_listen)]).collect()
    }

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
