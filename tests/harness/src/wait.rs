//! Waiting for what no event tells: a condition in another process, looked at often, with a deadline that is only a guard
//! against hanging.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything in a test may take before the test counts as hung.
pub const GUARD: Duration = Duration::from_secs(60);

/// Looks every 10 ms whether `look` has something, for at most [`GUARD`]; panics with `what` when it has not.
pub async fn eventually<T>(what: impl Display, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + GUARD;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "waited {GUARD:?} in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// `act`, which must end within [`GUARD`].
pub async fn guarded<T>(what: impl Display, act: impl Future<Output = T>) -> T {
    match timeout(GUARD, act).await {
        Ok(done) => done,
        Err(_) => panic!("did not end within {GUARD:?}: {what}"),
    }
}
