//! Settings: one TOML file, over it the environment (`SELKIE_GATEWAY__LISTEN`), over it flags. Unknown keys are refused
//! wherever they stand.

use std::path::{Path, PathBuf};

use figment::Figment;
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
        let raw: Raw = figment
            .merge(environment)
            .extract()
            .map_err(|e| Failure::new(explain(&e, common)))?;
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
    format!("settings in {where_from}{at}: {}", error.kind)
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
