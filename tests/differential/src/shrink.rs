//! Makes a case that fails short: leaves steps out as long as it still fails.

use std::time::Duration;

use tokio::time::Instant;

use crate::lane::Lane;
use crate::play::play;
use crate::step::Case;

/// Shortening is for the reader; the failure itself is known already.
const PATIENCE: Duration = Duration::from_secs(90);

/// A shorter case that fails, and how.
pub(crate) async fn shrink(lane: &Lane, case: Case, how: String) -> (Case, String) {
    let end = Instant::now() + PATIENCE;
    let (mut best, mut best_how) = (case, how);
    let mut part = best.steps.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < best.steps.len() && Instant::now() < end {
            let mut tried = best.clone();
            tried.steps.drain(at..(at + part).min(best.steps.len()));
            match play(lane, &tried).await {
                Err(how) => {
                    (best, best_how) = (tried, how);
                    shorter = true;
                }
                Ok(_) => at += part,
            }
        }
        // At single steps, again until none can go.
        if part > 1 || !shorter || Instant::now() >= end {
            part /= 2;
        }
    }
    (best, best_how)
}
