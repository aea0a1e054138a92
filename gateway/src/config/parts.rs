//! Checks of single settings and of those that belong together; each names the setting that it refuses.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use control_api::networks::Networks;
use control_api::project_id;

use super::{
    ConfigError, ControlTls, Listener, RawControlTls, RawListener, RawListenerTls, RawNamed, RawProxyProtocol, RawTls,
};
use crate::accept::{Listen, proxied};
use crate::tls;

pub(super) fn refused(setting: &'static str, value: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError {
        setting,
        value: value.to_owned(),
        problem: problem.into(),
    }
}

pub(super) fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn address_of(setting: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
    value
        .parse()
        .map_err(|_| refused(setting, value, "is not an address and port, such as \"127.0.0.1:3307\""))
}

pub(super) fn url_of(setting: &'static str, value: String) -> Result<String, ConfigError> {
    match tonic::transport::Endpoint::from_shared(value.clone()) {
        Ok(_) => Ok(value),
        Err(_) => Err(refused(
            setting,
            &value,
            "is not a URL, such as \"http://127.0.0.1:7301\"",
        )),
    }
}

pub(super) fn networks_of(setting: &'static str, values: &[String]) -> Result<Networks, ConfigError> {
    Networks::parse(values).map_err(|e| ConfigError {
        setting,
        value: values.join(", "),
        problem: format!("cannot be used: {e}"),
    })
}

/// Verifiers and secrets pass here: over the network only with certificates on both sides.
pub(super) fn control_tls_of(raw: RawControlTls, address: &str) -> Result<Option<ControlTls>, ConfigError> {
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
pub(super) fn is_loopback(address: &str) -> bool {
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

pub(super) fn duration_of(setting: &'static str, value: &str) -> Result<Duration, ConfigError> {
    let duration = humantime::parse_duration(value)
        .map_err(|e| refused(setting, value, format!("is not a duration such as \"5s\": {e}")))?;
    if duration.is_zero() {
        return Err(refused(setting, value, "must be more than zero"));
    }
    Ok(duration)
}

/// Where to listen, and what is each listener's own: first that of `gateway.listen`, then the others.
pub(super) fn listeners_of(
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
pub(crate) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (any || one.ip() == other.ip())
}

pub(super) fn proxied_of(setting: &'static str, raw: &RawProxyProtocol) -> Result<proxied::Config, ConfigError> {
    let RawProxyProtocol { trusted } = raw;
    Ok(proxied::Config {
        setting,
        trusted: networks_of(setting, trusted)?,
    })
}

pub(super) fn mode_of(setting: &'static str, mode: &str) -> Result<tls::Mode, ConfigError> {
    match mode {
        "required" => Ok(tls::Mode::Required),
        "optional" => Ok(tls::Mode::Optional),
        other => Err(refused(setting, other, "is neither \"required\" nor \"optional\"")),
    }
}

pub(super) fn tls_of(raw: RawTls, data_dir: &Path) -> Result<tls::Config, ConfigError> {
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

pub(super) fn is_server_name(name: &str) -> bool {
    rustls_pki_types::DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}
