//! Where log lines go: a file in the data directory, and warnings to a terminal that watches.
//!
//! A line that cannot be written, to a full disk or a terminal that was closed, is lost and says nothing: what the library would
//! say of it goes to standard error, too, and a standard error that is gone makes it panic.

use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::arguments::{Common, LogFormat};
use crate::failure::Failure;

/// Our own crates speak; libraries only when something is wrong. rustls warns of what a client sends (an address where a name
/// belongs, as PHP and the C library do): that is nothing wrong here, and strangers could fill the log with it.
const DEFAULT_FILTER: &str = "warn,rustls=error,selkie=info,gateway=info,control=info,agent=info";
/// The log of an earlier run is kept once when it has grown beyond this.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// For short-lived commands and agents.
pub(crate) fn to_stderr(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_default();
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(false);
    // A second initialisation in one process changes nothing.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
}

/// For services: everything to `{data_dir}/logs/selkie.log`; to standard error everything when it is not a terminal or a
/// filter was asked for, else warnings.
pub(crate) fn for_service(common: &Common, data_dir: &Path) -> Result<(), Failure> {
    let text = common.log.as_deref().unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(text)
        .map_err(|e| Failure::new(format!("`--log`/SELKIE_LOG: {text:?} is no filter: {e}")))?;
    let dir = data_dir.join("logs");
    std::fs::create_dir_all(&dir).map_err(|e| Failure::of(dir.display(), e))?;
    // The projects' own OS users pass through the data directory, and the log names who is where.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))
        .map_err(|e| Failure::of(dir.display(), e))?;
    let path = dir.join("selkie.log");
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > FILE_BYTES_MAX) {
        std::fs::rename(&path, dir.join("selkie.log.1")).map_err(|e| Failure::of(path.display(), e))?;
    }
    let file = File::options()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(|e| Failure::of(path.display(), e))?;
    let quiet = std::io::stderr().is_terminal() && common.log.is_none();
    let level = if quiet { LevelFilter::WARN } else { LevelFilter::TRACE };
    let file = Mutex::new(file);
    let ansi = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    let initialised = match common.log_format {
        LogFormat::Text => {
            let to_stderr = fmt::layer()
                .with_writer(std::io::stderr)
                .log_internal_errors(false)
                .with_ansi(ansi)
                .with_filter(level);
            let to_file = fmt::layer()
                .with_writer(file)
                .log_internal_errors(false)
                .with_ansi(false);
            registry.with(to_file).with(to_stderr).try_init()
        }
        LogFormat::Json => {
            let to_stderr = fmt::layer()
                .json()
                .with_writer(std::io::stderr)
                .log_internal_errors(false)
                .with_filter(level);
            registry
                .with(fmt::layer().json().with_writer(file).log_internal_errors(false))
                .with(to_stderr)
                .try_init()
        }
    };
    initialised.map_err(|e| Failure::of("logging", e))
}
