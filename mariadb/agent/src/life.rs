//! Keeps the mark of the server's life on disk ([`control_api::life`]): made before the server is executed, touched while
//! it lives, its end written into it. Without it nothing is lost but how exactly a control plane that was away can tell
//! when the server ended, so what fails here is said and stops nothing.

use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

use control_api::life::{BEAT_EVERY, End, Life, epoch_ms};
use control_api::spec::Spec;
use tokio::time::{MissedTickBehavior, interval};

pub(crate) struct Mark {
    log_dir: PathBuf,
    incarnation: u64,
}

impl Mark {
    pub(crate) fn begin(spec: &Spec) -> Self {
        let mark = Self {
            log_dir: spec.log_dir.clone(),
            incarnation: spec.incarnation,
        };
        mark.write(None);
        mark
    }

    /// Touches it for as long as it is polled.
    pub(crate) fn beats(&self) -> impl Future<Output = ()> + Send + use<> {
        let file = File::options().write(true).open(Life::path(&self.log_dir));
        async move {
            let Ok(file) = file else { return };
            let mut beats = interval(BEAT_EVERY);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                if let Err(error) = file.set_modified(SystemTime::now()) {
                    tracing::info!(%error, "the mark of the server's life cannot be touched");
                }
            }
        }
    }

    pub(crate) fn ends(&self, how: &str, signal: Option<i32>) {
        self.write(Some(End {
            at_ms: epoch_ms(SystemTime::now()),
            how: how.into(),
            signal,
        }));
    }

    fn write(&self, end: Option<End>) {
        let life = Life {
            incarnation: self.incarnation,
            end,
        };
        if let Err(error) = life.write(&self.log_dir) {
            tracing::info!(%error, "the mark of the server's life cannot be written");
        }
    }
}
