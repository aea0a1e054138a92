//! The time of day, for what is kept and shown; waiting uses tokio's clock.

use std::time::{Duration, SystemTime};

use crate::store::EpochMs;

#[cfg(feature = "sim")]
thread_local! {
    /// When the simulation of this thread began; its day is told by tokio's clock.
    pub(crate) static SIMULATED_SINCE: std::cell::Cell<Option<tokio::time::Instant>> = const { std::cell::Cell::new(None) };
}

/// Now. A clock before 1970 counts as 1970.
pub(crate) fn now() -> EpochMs {
    #[cfg(feature = "sim")]
    if let Some(began) = SIMULATED_SINCE.get() {
        return crate::sim::DAY_MS + EpochMs::try_from(began.elapsed().as_millis()).unwrap_or_default();
    }
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    EpochMs::try_from(since.as_millis()).unwrap_or(EpochMs::MAX)
}

/// RFC 3339, UTC, to the millisecond.
pub(crate) fn rfc3339(time: EpochMs) -> String {
    let since = Duration::from_millis(u64::try_from(time).unwrap_or_default());
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn shows_utc_to_the_millisecond() {
        assert_eq!(super::rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(super::rfc3339(-1), "1970-01-01T00:00:00.000Z");
    }
}
