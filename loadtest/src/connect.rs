//! Connect, log in, one query, close: what clients without a pool do.

use crate::client::Client;
use crate::rates::{closed_loop, interleave};
use crate::stage::Stage;

const CLIENTS: usize = 8;

pub(crate) fn measure(stage: &Stage, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    interleave(stage, "connect + login + query + close, 8 clients", rounds, |target| {
        closed_loop(
            CLIENTS,
            seconds,
            || Ok(()),
            |()| {
                let mut client = Client::log_in(target)?;
                client.query("SELECT 1")?;
                client.quit()
            },
        )
    })
}
