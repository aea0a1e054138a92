//! Settings that are read anew while services run: on SIGHUP, and for `POST /reload` at a gateway.
//!
//! File and flags are those of the start; the environment is the process's own and stays what it was.

use std::fs::File;
use std::path::PathBuf;

use gateway::{Reread, SettingsSource, Written};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::arguments::Common;
use crate::failure::Failure;
use crate::settings::Settings;

/// Counts the SIGHUPs of this process, each of which asks for a reload; from here on none of them ends it. The exception is a
/// terminal that was closed: what ran in it in the foreground ends as by SIGTERM, unless it was started to outlive it (`nohup`).
pub(crate) fn asked_by_signal(shutdown: &CancellationToken) -> Result<watch::Receiver<u64>, Failure> {
    let outlives_terminal = hangups_are_ignored();
    let mut hangups = signal(SignalKind::hangup())?;
    let (asked, is_asked) = watch::channel(0);
    let shutdown = shutdown.clone();
    let mut has_terminal_to_lose = has_terminal();
    #[allow(clippy::disallowed_methods, reason = "lives as long as the process")]
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let closed = has_terminal_to_lose && !has_terminal();
            if closed && outlives_terminal {
                // The next hangup is somebody's who wants a reload.
                has_terminal_to_lose = false;
                tracing::info!("the terminal was closed: going on, as whoever ignored hangups at the start wants it");
            } else if closed {
                // Before it is said: nobody may be there any more to read it.
                shutdown.cancel();
                tracing::info!("the terminal was closed: ending");
            } else {
                asked.send_modify(|count| *count += 1);
            }
        }
    });
    Ok(is_asked)
}

/// Whether SIGHUP was ignored when this process began: what `nohup` does.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1.
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

/// The kernel takes the terminal from a session before it tells of the hangup.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

type Tells = Box<dyn Fn(&gateway::Config) + Send + Sync>;

/// Where the services of this process find their settings again.
pub(crate) struct Source {
    common: Common,
    /// What the start has put in the place of what is written.
    control_at: Option<gateway::ControlAt>,
    /// As they were at the start, where control runs in this process: it takes no others.
    control: Option<(control::RawConfig, PathBuf)>,
    /// Who is told of settings that a gateway has taken.
    tells: Option<Tells>,
}

impl Source {
    /// Of `selkie gateway`.
    pub(crate) fn of_gateway(common: &Common) -> Self {
        Self {
            common: common.clone(),
            control_at: None,
            control: None,
            tells: None,
        }
    }

    /// Of `selkie control`, and of `selkie up` with [`Self::at`].
    pub(crate) fn of_control(common: &Common, settings: &Settings) -> Self {
        Self {
            common: common.clone(),
            control_at: None,
            control: Some((settings.control.clone(), settings.data_dir.clone())),
            tells: None,
        }
    }

    /// The gateway's control plane is this one, whatever is written.
    pub(crate) fn at(mut self, control_at: gateway::ControlAt) -> Self {
        self.control_at = Some(control_at);
        self
    }

    /// What a gateway has taken is told there.
    pub(crate) fn telling(mut self, tells: impl Fn(&gateway::Config) + Send + Sync + 'static) -> Self {
        self.tells = Some(Box::new(tells));
        self
    }

    fn load(&self) -> Result<(Settings, Vec<String>), String> {
        let settings = Settings::load(&self.common).map_err(|failure| failure.text().to_owned())?;
        let mut needs_restart = Vec::new();
        if let Some((before, _)) = &self.control {
            control::Config::check(settings.data_dir.clone(), settings.control.clone()).map_err(|e| e.to_string())?;
            needs_restart = gateway::changed_settings("control", before, &settings.control);
        }
        Ok((settings, needs_restart))
    }

    /// For a control plane that runs alone: says at each request what would change with a restart.
    pub(crate) async fn follow(&self, mut asked: watch::Receiver<u64>) {
        while asked.changed().await.is_ok() {
            match self.load() {
                Ok((settings, mut needs_restart)) => {
                    if self
                        .control
                        .as_ref()
                        .is_some_and(|(_, before)| *before != settings.data_dir)
                    {
                        needs_restart.push("data_dir".into());
                    }
                    let needs_restart = needs_restart.join(" ");
                    tracing::info!(
                        needs_restart,
                        "control's settings were read anew; it takes others only at its start"
                    );
                }
                Err(error) => tracing::error!(%error, "control's settings cannot be used; the old ones stay"),
            }
        }
    }
}

impl SettingsSource for Source {
    fn taken(&self, config: &gateway::Config) {
        if let Some(tells) = &self.tells {
            tells(config);
        }
    }

    fn read(&self) -> Result<Reread, String> {
        let (settings, needs_restart) = self.load()?;
        let mut gateway = settings.gateway;
        if let Some(at) = &self.control_at {
            at.put(&mut gateway);
        }
        Ok(Reread {
            written: Written {
                gateway,
                data_dir: settings.data_dir,
            },
            needs_restart,
        })
    }
}
