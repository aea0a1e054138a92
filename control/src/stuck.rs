//! Looks at the operations that have begun and not ended, so that metrics can say whether one does not advance. The control
//! plane that leads does it.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{metrics::Metrics, store::Store};

/// An alert waits for minutes; whoever looks at the dashboard does not wait for this.
const EVERY: Duration = Duration::from_secs(10);

/// Goes on until it is dropped; the first time at once. While the store does not answer, what it said last holds: the time
/// that nothing has advanced for goes on.
pub(crate) async fn watch(store: &dyn Store, metrics: &Metrics) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match store.open_operations().await {
            Ok(open) => metrics.operations_are(&open),
            Err(error) => tracing::debug!(%error, "open operations cannot be looked at"),
        }
    }
}
