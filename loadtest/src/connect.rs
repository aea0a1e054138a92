//! Connect, log in, one query, close: what clients without a pool do.

use anyhow::ensure;

use crate::client::Client;
use crate::rates::{closed_loop, interleave};
use crate::stage::{Resumption, Stage, Target};

const CLIENTS: usize = 8;

pub(crate) fn measure(stage: &Stage, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    let name = format!("connect + login + query + close, {CLIENTS} clients");
    interleave(&stage.targets()?, &name, rounds, |target| {
        closed_loop(CLIENTS, seconds, || Ok(()), |()| once(target).map(drop))
    })
}

/// With a full handshake each time, and with sessions that are taken up again, as clients that keep tickets do.
pub(crate) fn measure_over_tls(stage: &Stage, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    for (resumption, how) in [
        (Resumption::Never, "a full handshake each"),
        (Resumption::Always, "resumed"),
    ] {
        let name = format!("the same over TLS 1.3, {how}");
        interleave(&stage.targets_over_tls()?, &name, rounds, |target| {
            closed_loop(
                CLIENTS,
                seconds,
                || {
                    let target = target.for_one_client(resumption);
                    once(&target)?;
                    Ok(target)
                },
                |target| {
                    let resumed = once(target)?;
                    ensure!(
                        target.tls.is_none() || resumed == (resumption == Resumption::Always),
                        "resumed: {resumed}"
                    );
                    Ok(())
                },
            )
        })?;
    }
    Ok(())
}

/// Whether a TLS session was resumed.
fn once(target: &Target) -> anyhow::Result<bool> {
    let mut client = Client::log_in(target)?;
    client.query("SELECT 1")?;
    let resumed = client.resumed;
    client.quit()?;
    Ok(resumed)
}
