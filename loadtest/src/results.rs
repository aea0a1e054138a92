//! Result sets of 10 MB.

use crate::client::Client;
use crate::rates::{closed_loop, interleave};
use crate::stage::Stage;

/// Rows of one kilobyte: the usual form of large results.
const QUERY: &str = "SELECT REPEAT('x', 1000) FROM seq_1_to_10000";
const CLIENTS: usize = 2;

pub(crate) fn measure(stage: &Stage, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    interleave(stage, "10 MB result, 2 clients", rounds, |target| {
        closed_loop(
            CLIENTS,
            seconds,
            || Client::log_in(target),
            |client| client.query(QUERY).map(drop),
        )
    })
}
