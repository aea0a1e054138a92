//! Other settings for a gateway that serves: read anew, checked as a whole, then taken over; or refused, and all stays as it is.
//!
//! In: a [`SettingsSource`], and somebody who asks. Out: [`Reloaded`]: which settings hold from now on, and which wait for a
//! restart. Nobody is dropped: what is under way goes on by the settings that it began with.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::config::{Config, ConfigError, RawConfig, RawListener, Written};
use crate::context::Gateway;
use crate::run;
use crate::tls::TlsError;

/// Where settings come from: the binary's file, environment and flags.
pub trait SettingsSource: Send + Sync {
    /// Reads them anew. The error is one line for people: which setting, where it stands, what is wrong with it.
    ///
    /// # Errors
    /// What cannot be read, or is no setting.
    fn read(&self) -> Result<Reread, String>;

    /// These hold from now on, for whoever tells clients of them.
    fn taken(&self, _config: &Config) {}
}

/// Settings read anew.
#[derive(Debug, Clone)]
pub struct Reread {
    /// The gateway's.
    pub written: Written,
    /// What has changed for other services of this process, which take it at their next start.
    pub needs_restart: Vec<String>,
}

/// A control plane that is the gateway's whatever is written, because it runs in the same process.
#[derive(Debug, Clone)]
pub struct ControlAt {
    /// URL of its gRPC.
    pub address: String,
    /// File with its token.
    pub token_file: PathBuf,
}

impl ControlAt {
    /// Puts it in the place of what is written.
    pub fn put(&self, raw: &mut RawConfig) {
        raw.control.address = self.address.clone();
        raw.control.token_file = Some(self.token_file.clone());
    }
}

/// How a running gateway gets other settings.
pub struct Reloading {
    /// Where they come from.
    pub source: Arc<dyn SettingsSource>,
    /// Every change of the value asks for a reload, as SIGHUP does.
    pub asked: watch::Receiver<u64>,
}

/// What has come of a reload. Settings are named as in the file, `gateway.max_clients`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reloaded {
    /// Hold from now on. Certificates are read anew besides.
    pub(crate) taken: Vec<String>,
    /// Have changed as well, and hold from the next start on.
    pub(crate) needs_restart: Vec<String>,
}

/// Why everything has stayed as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("{0}")]
    Unreadable(String),
    #[error(transparent)]
    Setting(#[from] ConfigError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Reloads a gateway.
pub(crate) struct Reload {
    gateway: Arc<Gateway>,
    source: Arc<dyn SettingsSource>,
    /// One at a time: of two, the later one reads what stays.
    one: Mutex<()>,
}

impl Reload {
    pub(crate) fn new(gateway: Arc<Gateway>, source: Arc<dyn SettingsSource>) -> Self {
        Self {
            gateway,
            source,
            one: Mutex::default(),
        }
    }

    /// Reloads whenever it is asked for, as long as anybody may ask. Cancel-safe.
    pub(crate) async fn follow(&self, mut asked: watch::Receiver<u64>) {
        while asked.changed().await.is_ok() {
            // Whoever asked by a signal reads what came of it in the log.
            let _ = self.now();
        }
    }

    pub(crate) fn now(&self) -> Result<Reloaded, ReloadError> {
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = self.take();
        match &reloaded {
            Ok(Reloaded { taken, needs_restart }) => {
                let (taken, needs_restart) = (taken.join(" "), needs_restart.join(" "));
                tracing::info!(taken, needs_restart, "the gateway's settings were read anew");
            }
            Err(error) => tracing::error!(%error, "the gateway's settings cannot be used; the old ones stay"),
        }
        reloaded
    }

    fn take(&self) -> Result<Reloaded, ReloadError> {
        let Reread { written, needs_restart } = self.source.read().map_err(ReloadError::Unreadable)?;
        // All of it, also what waits for a restart: better now than then.
        written.check()?;
        let before = self.gateway.config();
        let (config, mut reloaded) = beside(&before, written)?;
        reloaded.needs_restart.extend(needs_restart);
        let certificates = self.gateway.tls.prepare(&config.tls)?;
        // From here on nothing fails.
        let gateway = &self.gateway;
        gateway.tls.take(certificates);
        gateway.turnstile.adjust(&config.turnstile);
        gateway.throttle.adjust(&config.throttle);
        gateway.wakes.adjust(config.wake.clone());
        gateway.seats.set_max(config.accept.max_clients);
        run::say_unknown(&config, Some(&before), &gateway.routes);
        self.source.taken(&config);
        gateway.settings.store(Arc::new(config));
        Ok(reloaded)
    }
}

/// The new settings, but for those that only a start can take: they stay what they were.
fn beside(before: &Config, mut written: Written) -> Result<(Config, Reloaded), ConfigError> {
    let old = &before.written;
    // Exhaustive: a new setting does not compile until it is decided on.
    let RawConfig {
        listen,
        listeners,
        threads,
        http,
        control,
        max_clients: _,
        max_clients_per_project: _,
        login_timeout: _,
        wake_timeout: _,
        drain_notice: _,
        drain_timeout: _,
        park_after: _,
        pinned_idle_timeout: _,
        sni_domains: _,
        tls: _,
        throttle: _,
        proxy_protocol: _,
    } = old.gateway.clone();
    let listeners = in_place_of(listeners, &mut written.gateway.listeners);
    let merged = Written {
        gateway: RawConfig {
            listen,
            listeners,
            threads,
            http,
            control,
            ..written.gateway.clone()
        },
        data_dir: old.data_dir.clone(),
    };
    let mut reloaded = Reloaded {
        taken: changed("gateway", &old.gateway, &merged.gateway),
        needs_restart: changed("gateway", &merged.gateway, &written.gateway),
    };
    if written.data_dir != old.data_dir {
        reloaded.needs_restart.push("data_dir".into());
    }
    Ok((merged.check()?, reloaded))
}

/// The listeners that are there, each as it is to be from now on where it is among the new ones; which are put in the same
/// order, then those that come with a restart. A listener is known by its address.
fn in_place_of(there: Vec<RawListener>, new: &mut Vec<RawListener>) -> Vec<RawListener> {
    let mut to_come = std::mem::take(new);
    let mut merged = Vec::with_capacity(there.len());
    for listener in there {
        match to_come.iter().position(|other| other.listen == listener.listen) {
            Some(at) => {
                let adjusted = to_come.remove(at);
                new.push(adjusted.clone());
                merged.push(adjusted);
            }
            // Goes with a restart.
            None => merged.push(listener),
        }
    }
    new.append(&mut to_come);
    merged
}

/// The names of the settings below `section` that differ.
pub fn changed<Raw: Serialize>(section: &str, one: &Raw, other: &Raw) -> Vec<String> {
    // Both are plain text and numbers, which always can be written; should one not, nothing is named.
    let value = |config: &Raw| serde_json::to_value(config).unwrap_or_default();
    let mut names = Vec::new();
    name_changed(section, &value(one), &value(other), &mut names);
    names
}

fn name_changed(name: &str, one: &Value, other: &Value, names: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(ones), Value::Object(others)) => {
            for (key, one) in ones {
                let other = others.get(key).unwrap_or(&Value::Null);
                name_changed(&format!("{name}.{key}"), one, other, names);
            }
        }
        _ if one != other => names.push(name.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn written(adjust: impl FnOnce(&mut RawConfig)) -> Written {
        let mut gateway = RawConfig::default();
        adjust(&mut gateway);
        Written {
            gateway,
            data_dir: "/data".into(),
        }
    }

    #[test]
    fn listeners_are_known_by_their_addresses() {
        let listener = |listen: &str, project: &str| RawListener {
            listen: listen.into(),
            project: Some(project.into()),
            tls: crate::config::RawListenerTls::default(),
            proxy_protocol: None,
        };
        let with = |listeners: &[RawListener]| written(|raw| raw.listeners = listeners.to_vec());
        let (one, two, three) = (
            listener("127.0.0.1:1", "one"),
            listener("127.0.0.1:2", "two"),
            listener("127.0.0.1:3", "three"),
        );
        let before = with(&[one.clone(), two.clone()]).check().unwrap();
        let other = listener("127.0.0.1:2", "other");
        for (new, projects, taken, needs_restart) in [
            (vec![two.clone(), one.clone()], ["one", "two"], false, false),
            (vec![other.clone(), one.clone()], ["one", "other"], true, false),
            (vec![one.clone()], ["one", "two"], false, true),
            (vec![three.clone(), other.clone()], ["one", "other"], true, true),
            (vec![three, one, two], ["one", "two"], false, true),
        ] {
            let (config, reloaded) = beside(&before, with(&new)).unwrap();
            let served: Vec<_> = config.listeners[1..]
                .iter()
                .map(|l| l.project.as_deref().unwrap())
                .collect();
            assert_eq!(served, projects, "{new:?}");
            let named = |is: bool| {
                if is {
                    vec!["gateway.listeners".to_owned()]
                } else {
                    vec![]
                }
            };
            assert_eq!(
                (reloaded.taken, reloaded.needs_restart),
                (named(taken), named(needs_restart)),
                "{new:?}"
            );
        }
    }

    #[test]
    fn what_only_a_start_can_take_is_named_and_stays() {
        let before = written(|_| {}).check().unwrap();
        let mut new = written(|raw| {
            raw.listen = "127.0.0.1:1".into();
            raw.threads = 3;
            raw.http.listen = "127.0.0.1:2".into();
            raw.control.address = "http://127.0.0.1:3".into();
            raw.max_clients = 7;
        });
        new.data_dir = "/elsewhere".into();
        let (config, reloaded) = beside(&before, new).unwrap();
        assert_eq!(reloaded.taken, ["gateway.max_clients"]);
        assert_eq!(
            reloaded.needs_restart,
            [
                "gateway.control.address",
                "gateway.http.listen",
                "gateway.listen",
                "gateway.threads",
                "data_dir"
            ]
        );
        assert_eq!(config.accept.max_clients, 7);
        assert_eq!(
            (config.accept.listen[0].address, config.http_listen),
            (before.accept.listen[0].address, before.http_listen)
        );
        assert_eq!(config.threads, before.threads);
        assert_eq!(config.control.token_file, Path::new("/data/control/gateway.token"));
    }

    #[test]
    fn every_setting_that_a_reload_takes_is_in_what_comes_out() {
        let before = written(|_| {}).check().unwrap();
        type Case = (&'static str, fn(&mut RawConfig), fn(&Config) -> String, &'static str);
        let cases: [Case; 15] = [
            (
                "max_clients",
                |raw| raw.max_clients = 5,
                |c| c.accept.max_clients.to_string(),
                "5",
            ),
            (
                "max_clients_per_project",
                |raw| raw.max_clients_per_project = Some(5),
                |c| c.accept.max_clients_per_project.to_string(),
                "5",
            ),
            (
                "login_timeout",
                |raw| raw.login_timeout = "7s".into(),
                |c| format!("{:?}", c.handshake.timeout),
                "7s",
            ),
            (
                "wake_timeout",
                |raw| raw.wake_timeout = "7s".into(),
                |c| format!("{:?}", c.wake.timeout),
                "7s",
            ),
            (
                "drain_notice",
                |raw| raw.drain_notice = "7s".into(),
                |c| format!("{:?}", c.drain.notice),
                "7s",
            ),
            (
                "drain_timeout",
                |raw| raw.drain_timeout = "7s".into(),
                |c| format!("{:?}", c.drain.timeout),
                "7s",
            ),
            (
                "park_after",
                |raw| raw.park_after = "7s".into(),
                |c| format!("{:?}", c.park.after),
                "7s",
            ),
            (
                "pinned_idle_timeout",
                |raw| raw.pinned_idle_timeout = "7s".into(),
                |c| format!("{:?}", c.park.pinned_idle_timeout),
                "7s",
            ),
            (
                "sni_domains",
                |raw| raw.sni_domains = vec!["db.test".into()],
                |c| c.sni_domains.join(","),
                "db.test",
            ),
            (
                "tls.mode",
                |raw| raw.tls.mode = "optional".into(),
                |c| format!("{:?}", c.listener(0).tls_mode),
                "Optional",
            ),
            (
                "throttle.failures_per_minute",
                |raw| raw.throttle.failures_per_minute = 4,
                |c| c.throttle.failures_per_minute.to_string(),
                "4",
            ),
            (
                "throttle.address_failures_per_second",
                |raw| raw.throttle.address_failures_per_second = 4,
                |c| c.turnstile.address_failures_per_second.to_string(),
                "4",
            ),
            (
                "throttle.max_half_open",
                |raw| raw.throttle.max_half_open = 4,
                |c| c.turnstile.max_half_open.to_string(),
                "4",
            ),
            (
                "throttle.max_half_open_per_address",
                |raw| raw.throttle.max_half_open_per_address = 4,
                |c| c.turnstile.max_half_open_per_address.to_string(),
                "4",
            ),
            (
                "proxy_protocol.trusted",
                |raw| raw.proxy_protocol.trusted = vec!["192.0.2.0/24".into()],
                |c| {
                    c.listener(0)
                        .proxied
                        .trusted
                        .contains([192, 0, 2, 9].into())
                        .to_string()
                },
                "true",
            ),
        ];
        for (name, adjust, seen, expected) in cases {
            assert_ne!(seen(&before), expected, "{name}");
            let (config, reloaded) = beside(&before, written(adjust)).unwrap();
            assert_eq!(seen(&config), expected, "{name}");
            assert_eq!(
                (reloaded.taken, reloaded.needs_restart),
                (vec![format!("gateway.{name}")], vec![])
            );
        }
    }
}
