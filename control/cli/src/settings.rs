//! Settings: one TOML file, over it the environment (`SELKIE_GATEWAY__LISTEN`), over it flags. Unknown keys are refused
//! wherever they stand. A relative path in the file is meant from the file's own directory, wherever Selkie is started; one in
//! the environment or a flag from where it is.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Toml};
use serde::Deserialize;

use crate::arguments::Common;
use crate::failure::Failure;

/// `SELKIE_` names that are no settings.
const NO_SETTINGS: [&str; 3] = ["url", "api_key", "log"];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    data_dir: Option<PathBuf>,
    gateway: gateway::RawConfig,
    control: control::RawConfig,
}

/// Checked by each service when it is started.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) gateway: gateway::RawConfig,
    pub(crate) control: control::RawConfig,
}

impl Settings {
    pub(crate) fn load(common: &Common) -> Result<Self, Failure> {
        let mut figment = Figment::new();
        if let Some(path) = &common.config {
            if !path.is_file() {
                return Err(Failure::new(format!(
                    "settings file {} is not there (`--config`)",
                    path.display()
                )));
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        let environment = Env::prefixed("SELKIE_")
            .filter(|key| !NO_SETTINGS.iter().any(|name| key == name))
            .split("__");
        let figment = figment.merge(environment);
        let mut raw: Raw = figment.extract().map_err(|e| Failure::new(explain(&e, common)))?;
        place(&mut raw, &figment)?;
        let data_dir = common
            .data_dir
            .clone()
            .or(raw.data_dir)
            .map_or_else(default_data_dir, Ok)?;
        let data_dir = std::path::absolute(&data_dir).map_err(|e| Failure::of(data_dir.display(), e))?;
        Ok(Self {
            data_dir,
            gateway: raw.gateway,
            control: raw.control,
        })
    }
}

/// Which setting, where it stands, what is wrong with it.
fn explain(error: &figment::Error, common: &Common) -> String {
    let where_from = match (&error.metadata, &common.config) {
        (Some(metadata), _) if metadata.name.contains("environment") => "the environment (SELKIE_...)".to_owned(),
        (_, Some(path)) => path.display().to_string(),
        _ => "the environment (SELKIE_...)".to_owned(),
    };
    let key = error.path.join(".");
    let at = if key.is_empty() {
        String::new()
    } else {
        format!(" at `{key}`")
    };
    format!(
        "settings in {where_from}{at}: {}{}",
        error.kind,
        form(&error.kind, &key)
    )
}

/// What is meant by a value of the wrong type, where that can be told.
fn form(kind: &Kind, key: &str) -> String {
    let Kind::InvalidType(actual, expected) = kind else {
        return String::new();
    };
    let name = key.rsplit('.').next().unwrap_or_default();
    let is_time = name.ends_with("timeout") || name.ends_with("after") || name.ends_with("notice");
    let is_number = matches!(actual, Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_));
    match expected.as_str() {
        "a string" if is_number && is_time => {
            format!(": a time has its unit, as \"{actual}s\"", actual = number(actual))
        }
        "a string" if name == "listen" => ": an address and port, as \"127.0.0.1:3307\"".into(),
        "a string" if is_number => format!(": write \"{}\"", number(actual)),
        "a sequence" => ": a list, as [\"...\"]".into(),
        "usize" | "u64" | "u32" | "u16" | "f64" if matches!(actual, Actual::Str(_)) => {
            ": a number, without quotes and without a unit".into()
        }
        _ => String::new(),
    }
}

/// As it was written.
fn number(actual: &Actual) -> String {
    match actual {
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Makes every path absolute.
fn place(raw: &mut Raw, figment: &Figment) -> Result<(), Failure> {
    let Raw {
        data_dir,
        gateway,
        control,
    } = raw;
    let below = |section, paths: Vec<(&'static str, _)>| {
        let named = paths
            .into_iter()
            .map(move |(name, path)| (format!("{section}.{name}"), path));
        named.collect::<Vec<_>>()
    };
    let own = data_dir.as_mut().map(|path| ("data_dir".to_owned(), path));
    let all = own
        .into_iter()
        .chain(below("gateway", gateway.paths()))
        .chain(below("control", control.paths()));
    for (name, path) in all {
        let source = figment.find_metadata(&name).and_then(|found| found.source.as_ref());
        let dir = source.and_then(|source| source.file_path()).and_then(Path::parent);
        if path.as_os_str().is_empty() {
            return Err(Failure::new(format!("setting {name}: is empty, and must be a path")));
        }
        let from = dir.unwrap_or_else(|| Path::new("")).join(&*path);
        *path =
            std::path::absolute(&from).map_err(|e| Failure::of(format!("setting {name} = {}", from.display()), e))?;
    }
    Ok(())
}

fn default_data_dir() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/selkie"));
    }
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    match state.or_else(home) {
        Some(state) => Ok(state.join("selkie")),
        None => Err(Failure::new(
            "neither XDG_STATE_HOME nor HOME is set: say where data goes with `--data-dir`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn names(at: &str, value: &Value, found: &mut BTreeSet<String>) {
        let below = |name: &String| {
            if at.is_empty() {
                name.clone()
            } else {
                format!("{at}.{name}")
            }
        };
        match value {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(name, value)| names(&below(name), value, found)),
            // A table for each; of plain texts the list itself is the setting.
            Value::Array(values) => {
                found.insert(at.to_owned());
                values
                    .iter()
                    .filter(|value| value.is_object())
                    .for_each(|value| names(at, value, found));
            }
            _ => {
                found.insert(at.to_owned());
            }
        }
    }

    /// Every name under which something can be set.
    fn settings() -> BTreeSet<String> {
        let raw: Raw = serde_json::from_value(json!({
            "gateway": {
                "listeners": [{"listen": "127.0.0.1:1", "proxy_protocol": {"trusted": []}}],
                "tls": {"certificates": [{"cert": "c", "key": "k"}]},
            },
        }))
        .unwrap();
        let Raw {
            data_dir: _,
            gateway,
            control,
        } = raw;
        let mut found = BTreeSet::from(["data_dir".to_owned()]);
        names("gateway", &serde_json::to_value(gateway).unwrap(), &mut found);
        names("control", &serde_json::to_value(control).unwrap(), &mut found);
        found
    }

    /// The settings that rows of tables are about, and their defaults.
    fn described() -> Vec<(String, String)> {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md")).unwrap();
        let rows = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let rows = rows.filter(|(name, _)| !name.starts_with("SELKIE_"));
        let default = |rest: &str| {
            rest.split('|')
                .next()
                .unwrap_or_default()
                .trim()
                .trim_matches('`')
                .to_owned()
        };
        rows.map(|(name, rest)| (name.to_owned(), default(rest))).collect()
    }

    #[test]
    fn every_setting_is_described_once_and_no_other() {
        let described = described();
        let names: BTreeSet<_> = described.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, settings());
        assert_eq!(names.len(), described.len(), "twice: {described:?}");
    }

    #[test]
    fn every_setting_that_is_a_path_is_known_to_be_one_by_its_name() {
        let mut raw: Raw = serde_json::from_value(json!({
            "gateway": {
                "control": {"token_file": "a path", "tls": {"ca": "a path", "cert": "a path", "key": "a path"}},
                "tls": {
                    "cert": "a path", "key": "a path", "client_ca": "a path",
                    "certificates": [{"cert": "a path", "key": "a path"}],
                },
            },
            "control": {
                "store": {"url_file": "a path", "key_file": "a path"},
                "process": {"mariadbd": "a path", "agent": "a path"},
                "grpc": {"tls": {"cert": "a path", "key": "a path", "client_ca": "a path"}},
                "http": {"tls": {"cert": "a path", "key": "a path", "client_ca": "a path"}},
            },
        }))
        .unwrap();
        let text = format!("{:?}{:?}", raw.gateway, raw.control);
        let gateway = raw
            .gateway
            .paths()
            .into_iter()
            .map(|(name, _)| format!("gateway.{name}"));
        let control = raw
            .control
            .paths()
            .into_iter()
            .map(|(name, _)| format!("control.{name}"));
        let paths: Vec<_> = gateway.chain(control).collect();
        assert_eq!(paths.len(), text.matches("a path").count(), "{paths:?}");
        let settings = settings();
        let unknown: Vec<_> = paths.iter().filter(|name| !settings.contains(*name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn defaults_are_those_that_are_described() {
        let gateway = serde_json::to_value(gateway::RawConfig::default()).unwrap();
        for (name, told) in described() {
            let Some(name) = name.strip_prefix("gateway.") else {
                continue;
            };
            let default = name.split('.').try_fold(&gateway, |at, part| at.get(part));
            let default = match default {
                Some(Value::String(text)) => text.clone(),
                Some(number @ Value::Number(_)) => number.to_string(),
                Some(Value::Array(all)) if all.is_empty() && !told.is_empty() => "[]".into(),
                _ => continue,
            };
            assert_eq!(told, default, "gateway.{name}");
        }
    }
}
