//! Result sets of 10 MB.

use crate::client::Client;
use crate::rates::{closed_loop, interleave};
use crate::stage::{Stage, Target};

/// Rows of one kilobyte: the usual form of large results.
const QUERY: &str = "SELECT REPEAT('x', 1000) FROM seq_1_to_10000";
const CLIENTS: usize = 2;

pub(crate) fn measure(stage: &Stage, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    let name = format!("10 MB result, {CLIENTS} clients");
    run(&stage.targets()?, &name, rounds, seconds)
}

pub(crate) fn measure_over_tls(stage: &Stage, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    let name = format!("10 MB result over TLS 1.3, {CLIENTS} clients");
    run(&stage.targets_over_tls()?, &name, rounds, seconds)
}

fn run(targets: &[Target; 3], name: &str, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    interleave(targets, name, rounds, |target| {
        closed_loop(
            CLIENTS,
            seconds,
            || Client::log_in(target),
            |client| client.query(QUERY).map(drop),
        )
    })
}
