//! Settings of the control plane: what stands under `control` in the file, in `SELKIE_CONTROL__...` and in flags comes in
//! as `RawConfig`, a checked `Config` goes out. Every refusal names the setting as the user wrote it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

mod prices;
mod store;
mod tls;

pub use prices::RawPrices;
pub(crate) use prices::{Price, Prices, decimal, divided};
pub(crate) use store::StoreConfig;
pub use store::{RawStore, SecretText};
pub use tls::RawTls;
pub(crate) use tls::TlsConfig;

/// Everything under `control`, unchecked. All fields have defaults.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// `control.http`: REST, metrics and health.
    pub http: RawListen,
    /// `control.grpc`: gateways.
    pub grpc: RawListen,
    /// `control.store`: where the state is kept.
    pub store: RawStore,
    /// `control.process`: computes as processes of this machine.
    pub process: RawProcess,
    /// `control.suspend`: when idle computes fall asleep.
    pub suspend: RawSuspend,
    /// `control.default_size_cu`: the size of a project that was created without one.
    pub default_size_cu: Option<f64>,
    /// `control.prices`: what statements reckon by.
    pub prices: RawPrices,
}

/// Where to listen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawListen {
    /// `IP:PORT`; port 0 takes a free one.
    pub listen: Option<String>,
    /// `IP:PORT` where other control planes on the same store reach it; the address that it listens on where absent.
    pub advertise: Option<String>,
    /// Certificates; only under `control.grpc`.
    pub tls: RawTls,
}

/// When idle computes fall asleep.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSuspend {
    /// How long a compute may be idle where its project does not say: a duration or "never".
    pub after: Option<String>,
}

/// How computes run as processes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawProcess {
    /// The server binary; looked for on the PATH and in `/usr/sbin` where absent.
    pub mariadbd: Option<PathBuf>,
    /// `FIRST-LAST`: the OS users that projects get, one each, when control runs as root.
    pub uid_range: Option<String>,
    /// From exec to the first greeting.
    pub start_timeout: Option<String>,
    /// From asking mariadbd to stop to killing it.
    pub stop_timeout: Option<String>,
    /// The program whose `agent` subcommand runs beside each mariadbd; this very program where absent.
    pub agent: Option<PathBuf>,
}

impl RawConfig {
    /// Every setting that is a path and is set, under its name below `control`.
    pub fn paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        // Exhaustive on purpose: a new raw field does not compile until it is known whether it is a path.
        let Self {
            http,
            grpc,
            store,
            process,
            suspend: RawSuspend { after: _ },
            default_size_cu: _,
            prices: _,
        } = self;
        let RawStore {
            url: _,
            url_file,
            key_file,
        } = store;
        let RawProcess {
            mariadbd,
            uid_range: _,
            start_timeout: _,
            stop_timeout: _,
            agent,
        } = process;
        fn of_listen(raw: &mut RawListen) -> [&mut Option<PathBuf>; 3] {
            let RawListen {
                listen: _,
                advertise: _,
                tls: RawTls { cert, key, client_ca },
            } = raw;
            [cert, key, client_ca]
        }
        let [grpc_cert, grpc_key, grpc_client_ca] = of_listen(grpc);
        let [http_cert, http_key, http_client_ca] = of_listen(http);
        let all = [
            ("store.url_file", url_file),
            ("store.key_file", key_file),
            ("process.mariadbd", mariadbd),
            ("process.agent", agent),
            ("grpc.tls.cert", grpc_cert),
            ("grpc.tls.key", grpc_key),
            ("grpc.tls.client_ca", grpc_client_ca),
            ("http.tls.cert", http_cert),
            ("http.tls.key", http_key),
            ("http.tls.client_ca", http_client_ca),
        ];
        all.into_iter()
            .filter_map(|(name, path)| Some((name, path.as_mut()?)))
            .collect()
    }
}

/// Checked settings; immutable.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the store, the projects' data and the template live.
    pub data_dir: PathBuf,
    /// REST; 127.0.0.1:7300, loopback because there is no TLS on it yet.
    pub http_listen: SocketAddr,
    /// Gateways; 127.0.0.1:7301. Other addresses need `grpc_tls`, because verifiers and secrets pass here.
    pub grpc_listen: SocketAddr,
    /// Proves this control plane to its gateways and asks them for a certificate.
    pub(crate) grpc_tls: Option<TlsConfig>,
    /// Where other control planes reach it; absent: where it listens.
    pub(crate) http_advertise: Option<SocketAddr>,
    pub(crate) grpc_advertise: Option<SocketAddr>,
    /// SQLite, because it needs nothing.
    pub(crate) store: StoreConfig,
    /// The file of the keys that verifiers are sealed by; absent: `store.keys` beside the control plane's other files.
    pub(crate) store_keys: Option<PathBuf>,
    /// How computes run.
    pub process: ProcessConfig,
    /// 5 min, `None` for never: long enough for the pauses of somebody who works, short enough that a night costs nothing.
    pub suspend_after: Option<Duration>,
    /// 0.25: the smallest size that is comfortable for a small application.
    pub default_size_cu: f64,
    /// None, because nobody else knows them.
    pub(crate) prices: Prices,
}

/// Checked settings of the process driver.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// Absent: the agent looks for it.
    pub mariadbd: Option<PathBuf>,
    /// 200000-265535: above what Debian gives to people and to user namespaces of the first users.
    pub uid_range: UidRange,
    /// 60 s: crash recovery of a large redo log fits, a hanging start does not stay unseen.
    pub start_timeout: Duration,
    /// 60 s: a clean shut-down writes dirty pages; after it mariadbd is killed and recovers at the next start.
    pub stop_timeout: Duration,
    /// The program with the `agent` subcommand.
    pub agent: PathBuf,
}

/// OS users for projects, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("setting {setting} = {value:?}: {problem}")]
pub struct ConfigError {
    /// As in the file: `control.http.listen`.
    pub setting: &'static str,
    /// What was written.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Sizes that a compute may have: below, mariadbd does not start; above, no machine is.
pub(crate) const SIZE_CU: std::ops::RangeInclusive<f64> = 0.05..=256.0;

const HTTP_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7300);
const GRPC_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7301);
const UID_RANGE: UidRange = UidRange {
    first: 200_000,
    last: 265_535,
};
const SUSPEND_AFTER: Duration = Duration::from_secs(300);
/// Below, a compute sleeps between two commands of one program; above, "never" is meant.
const SUSPEND_AFTER_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
const TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_SIZE_CU: f64 = 0.25;

impl Config {
    /// Whether gateways speak TLS to it.
    pub fn grpc_is_tls(&self) -> bool {
        self.grpc_tls.is_some()
    }

    /// Checks every setting. `data_dir` is common to all services and so stands outside of `control`.
    pub fn check(data_dir: PathBuf, raw: RawConfig) -> Result<Self, ConfigError> {
        // Exhaustive on purpose: a new raw field does not compile until it is checked here.
        let RawConfig {
            http,
            grpc,
            store,
            process,
            suspend,
            default_size_cu,
            prices,
        } = raw;
        let RawSuspend { after } = suspend;
        let RawListen {
            listen: http_listen,
            advertise: http_advertise,
            tls: http_tls,
        } = http;
        let RawListen {
            listen: grpc_listen,
            advertise: grpc_advertise,
            tls: grpc_tls,
        } = grpc;
        let size_cu = default_size_cu.unwrap_or(DEFAULT_SIZE_CU);
        if !SIZE_CU.contains(&size_cu) {
            return Err(refuse(
                "control.default_size_cu",
                size_cu,
                "must be between 0.05 and 256",
            ));
        }
        tls::refuse_on_http(&http_tls)?;
        let grpc_listen = listen("control.grpc.listen", grpc_listen, GRPC_LISTEN)?;
        let grpc_tls = TlsConfig::check(grpc_tls)?;
        if grpc_tls.is_none() && !grpc_listen.ip().is_loopback() {
            return Err(refuse(
                "control.grpc.listen",
                grpc_listen,
                "is reached from other machines, and verifiers and secrets pass there: set control.grpc.tls.cert, .key \
                 and .client_ca (`selkie certificates` makes some)",
            ));
        }
        Ok(Self {
            data_dir: std::path::absolute(&data_dir)
                .map_err(|error| refuse("data_dir", data_dir.display(), error.to_string()))?,
            http_listen: listen("control.http.listen", http_listen, HTTP_LISTEN)?,
            grpc_listen,
            grpc_tls,
            http_advertise: advertise("control.http.advertise", http_advertise)?,
            grpc_advertise: advertise("control.grpc.advertise", grpc_advertise)?,
            store_keys: store.key_file.clone(),
            store: StoreConfig::check(store)?,
            process: ProcessConfig::check(process)?,
            suspend_after: suspend_after(after)?,
            default_size_cu: size_cu,
            prices: Prices::check(prices)?,
        })
    }
}

impl ProcessConfig {
    fn check(raw: RawProcess) -> Result<Self, ConfigError> {
        let RawProcess {
            mariadbd,
            uid_range,
            start_timeout,
            stop_timeout,
            agent,
        } = raw;
        Ok(Self {
            mariadbd,
            uid_range: uid_range.map_or(Ok(UID_RANGE), uids)?,
            start_timeout: timeout("control.process.start_timeout", start_timeout)?,
            stop_timeout: timeout("control.process.stop_timeout", stop_timeout)?,
            agent: match agent {
                Some(path) => path,
                None => std::env::current_exe().map_err(|error| {
                    refuse(
                        "control.process.agent",
                        "",
                        format!("cannot find this program's own file: {error}"),
                    )
                })?,
            },
        })
    }
}

fn refuse(setting: &'static str, value: impl ToString, problem: impl Into<String>) -> ConfigError {
    ConfigError {
        setting,
        value: value.to_string(),
        problem: problem.into(),
    }
}

fn listen(setting: &'static str, value: Option<String>, default: SocketAddr) -> Result<SocketAddr, ConfigError> {
    let Some(value) = value else { return Ok(default) };
    value.parse().map_err(|_| {
        refuse(
            setting,
            value,
            "must be IP:PORT, for instance 127.0.0.1:7300 or [::1]:7300",
        )
    })
}

fn advertise(setting: &'static str, value: Option<String>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    match value.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() || address.port() == 0 => {
            Err(refuse(setting, value, "must be an address that others can connect to"))
        }
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(refuse(setting, value, "must be IP:PORT, for instance 10.0.0.7:7300")),
    }
}

fn timeout(setting: &'static str, value: Option<String>) -> Result<Duration, ConfigError> {
    let Some(value) = value else { return Ok(TIMEOUT) };
    let parsed = humantime::parse_duration(&value).map_err(|error| {
        refuse(
            setting,
            &value,
            format!("must be a duration such as \"5s\" or \"2m\": {error}"),
        )
    })?;
    if parsed < Duration::from_secs(1) || parsed > Duration::from_secs(3600) {
        return Err(refuse(setting, value, "must be between 1s and 1h"));
    }
    Ok(parsed)
}

fn suspend_after(value: Option<String>) -> Result<Option<Duration>, ConfigError> {
    const SETTING: &str = "control.suspend.after";
    let Some(value) = value else {
        return Ok(Some(SUSPEND_AFTER));
    };
    if value == "never" {
        return Ok(None);
    }
    match humantime::parse_duration(&value) {
        Ok(after) if SUSPEND_AFTER_RANGE.contains(&after) => Ok(Some(after)),
        Ok(_) => Err(refuse(SETTING, value, "must be between 1s and 7d, or \"never\"")),
        Err(error) => {
            let problem = format!("must be a duration such as \"5m\", or \"never\": {error}");
            Err(refuse(SETTING, value, problem))
        }
    }
}

fn uids(value: String) -> Result<UidRange, ConfigError> {
    const SETTING: &str = "control.process.uid_range";
    let range = value.split_once('-').and_then(|(first, last)| {
        Some(UidRange {
            first: first.trim().parse().ok()?,
            last: last.trim().parse().ok()?,
        })
    });
    match range {
        Some(range) if range.first > range.last => Err(refuse(SETTING, value, "the first is above the last")),
        // Below are the system's own users; uid 4294967295 means "none" to the kernel.
        Some(range) if range.first < 1000 || range.last == u32::MAX => {
            Err(refuse(SETTING, value, "must lie between 1000 and 4294967294"))
        }
        Some(range) => Ok(range),
        None => Err(refuse(SETTING, value, "must be FIRST-LAST, for instance 200000-265535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(raw: RawProcess) -> Result<Config, ConfigError> {
        Config::check(
            "/data".into(),
            RawConfig {
                process: raw,
                ..RawConfig::default()
            },
        )
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = Config::check("/data".into(), RawConfig::default()).unwrap();
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:7300");
        assert_eq!(config.grpc_listen.to_string(), "127.0.0.1:7301");
        assert_eq!(
            config.process.uid_range,
            UidRange {
                first: 200_000,
                last: 265_535
            }
        );
        assert_eq!(config.process.start_timeout, Duration::from_secs(60));
        assert_eq!(config.suspend_after, Some(Duration::from_secs(300)));
        assert_eq!(config.default_size_cu, 0.25);
    }

    #[test]
    fn refuses_unknown_key() {
        let error = serde_json::from_str::<RawConfig>(r#"{"http": {"lisen": "x"}}"#).unwrap_err();
        assert!(error.to_string().contains("lisen"), "{error}");
    }

    #[test]
    fn refusal_names_setting_value_and_cure() {
        let bad = |raw| process(raw).unwrap_err().to_string();
        let duration = bad(RawProcess {
            start_timeout: Some("5 bananas".into()),
            ..RawProcess::default()
        });
        assert!(
            duration.contains("control.process.start_timeout = \"5 bananas\""),
            "{duration}"
        );
        let short = bad(RawProcess {
            stop_timeout: Some("1ms".into()),
            ..RawProcess::default()
        });
        assert!(short.contains("between 1s and 1h"), "{short}");
        for range in ["200000", "9-8", "0-100", "x-y"] {
            let text = bad(RawProcess {
                uid_range: Some(range.into()),
                ..RawProcess::default()
            });
            assert!(text.contains("control.process.uid_range"), "{text}");
        }
        let raw = RawConfig {
            http: RawListen {
                listen: Some("localhost".into()),
                ..RawListen::default()
            },
            ..RawConfig::default()
        };
        let address = Config::check("/data".into(), raw).unwrap_err().to_string();
        assert!(address.contains("control.http.listen = \"localhost\""), "{address}");
    }

    #[test]
    fn refuses_sizes_that_cannot_run() {
        for size in [0.0, -1.0, f64::NAN, 1e9] {
            let raw = RawConfig {
                default_size_cu: Some(size),
                ..RawConfig::default()
            };
            assert!(Config::check("/data".into(), raw).is_err(), "{size}");
        }
    }

    #[test]
    fn suspend_after_is_a_duration_or_never() {
        let check = |after: &str| {
            let raw = RawConfig {
                suspend: RawSuspend {
                    after: Some(after.into()),
                },
                ..RawConfig::default()
            };
            Config::check("/data".into(), raw).map(|config| config.suspend_after)
        };
        assert_eq!(check("never").unwrap(), None);
        assert_eq!(check("90s").unwrap(), Some(Duration::from_secs(90)));
        for bad in ["0s", "8d", "soon", ""] {
            let told = check(bad).unwrap_err().to_string();
            assert!(
                told.contains("control.suspend.after") && told.contains("never"),
                "{told}"
            );
        }
    }
}
