//! Closes windows when they are over and tells control of them, again and again until it has them; in between it tells
//! what the open one holds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use control_api::control as proto;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Meter, wall_ms, window_end};

/// Control hears of the open window this often, so that what people read there is at most 5 s old: this, and a call.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// A call that takes longer is made again.
const CALL_TIME: Duration = Duration::from_secs(5);
/// Windows of one call together: well below what control takes in one message (16 MiB).
const CALL_BYTES_MAX: u64 = 4 << 20;
/// How long the last windows may take to be told when the gateway goes down. What is not told stays in the spool.
const LAST_CALLS_TIME: Duration = Duration::from_secs(3);

/// Control, as far as this step needs it.
#[async_trait::async_trait]
pub(crate) trait UsageSink: Send + Sync {
    /// Returns when the closed windows of it are control's. Cancel-safe.
    async fn report_usage(&self, report: proto::UsageReport, within: Duration) -> Result<(), tonic::Status>;
}

/// Goes on until it is dropped; cancel-safe.
pub(crate) async fn run(meter: Arc<Meter>, sink: impl UsageSink) {
    let (mut is_told, mut is_kept) = (true, true);
    loop {
        let left_ms = window_end(wall_ms()).saturating_sub(wall_ms());
        sleep(TELL_EVERY.min(Duration::from_millis(u64::try_from(left_ms).unwrap_or_default().max(1)))).await;
        let is_due = meter.is_due(wall_ms());
        if is_due {
            match on_disk(&meter, |meter| meter.close_window(wall_ms())).await {
                Ok(()) => is_kept = true,
                // Once until it works again, as below; the metric counts each try.
                Err(error) if std::mem::replace(&mut is_kept, false) => {
                    tracing::error!(%error, "usage: a window cannot be written down; it stays open");
                }
                Err(_) => {}
            }
        }
        let told = tell(&meter, &sink, CALL_TIME).await;
        if is_due
            && told.is_ok()
            && let Err(reason) = inherit(&meter, &sink).await
        {
            tracing::info!(reason, "usage: what a gateway that is gone has left waits on disk");
        }
        match told {
            Ok(()) => is_told = true,
            // Once until it works again: it says so every two seconds otherwise.
            Err(reason) if std::mem::replace(&mut is_told, false) => {
                tracing::info!(reason, "usage: control does not take it now; it waits on disk");
            }
            Err(_) => {}
        }
    }
}

/// Closes the last window and tells what there is, for as long as that may take.
pub(crate) async fn finish(meter: &Arc<Meter>, sink: impl UsageSink) {
    if let Err(error) = on_disk(meter, |meter| meter.close_window(wall_ms())).await {
        tracing::error!(%error, "usage: the last window cannot be written down; the next start finds it");
    }
    let deadline = Instant::now() + LAST_CALLS_TIME;
    match timeout_at(deadline, tell(meter, &sink, LAST_CALLS_TIME)).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => tracing::info!(reason, "usage: what control has not taken waits on disk"),
        Err(_elapsed) => tracing::info!("usage: control was too slow; what it has not taken waits on disk"),
    }
}

/// What gateways of this data directory have left that are gone and do not come back. Looked for once a minute: one that is
/// started again at once finds it itself.
pub(super) async fn inherit(meter: &Arc<Meter>, sink: &impl UsageSink) -> Result<(), String> {
    loop {
        let orphan = on_disk(meter, |meter| meter.orphan(wall_ms())).await;
        let Some(orphan) = orphan.map_err(|error| error.to_string())? else {
            return Ok(());
        };
        tracing::info!("usage: telling what a gateway that is gone has left");
        tell(&Arc::new(orphan), sink, CALL_TIME).await?;
    }
}

/// Everything that waits, then the open window.
async fn tell(meter: &Arc<Meter>, sink: &impl UsageSink, within: Duration) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    loop {
        let closed = on_disk(meter, |meter| Ok(meter.spool().oldest(CALL_BYTES_MAX)))
            .await
            .map_err(failed)?;
        let open = meter.open_window(wall_ms());
        if closed.is_empty() && open.is_none() {
            return Ok(());
        }
        let sequences: Vec<_> = closed.iter().map(|window| window.sequence).collect();
        let report = proto::UsageReport {
            gateway_id: meter.gateway_id.to_string(),
            closed,
            open,
        };
        let told = sink.report_usage(report, within).await;
        told.map_err(|status| status.message().to_owned())?;
        if sequences.is_empty() {
            return Ok(());
        }
        let more = on_disk(meter, move |meter| {
            let mut spool = meter.spool();
            for sequence in sequences {
                spool.remove(sequence)?;
            }
            Ok(spool.len() > 0)
        });
        if !more.await.map_err(failed)? {
            return Ok(());
        }
    }
}

/// Away from the threads that others wait for.
async fn on_disk<T: Send + 'static>(
    meter: &Arc<Meter>,
    work: impl FnOnce(&Meter) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let meter = Arc::clone(meter);
    tokio::task::spawn_blocking(move || work(&meter))
        .await
        .map_err(io::Error::other)?
}
