//! Many clients of a running database connect at the same moment: after a deploy, or when a load balancer moved them here.

use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::client::Client;
use crate::report;
use crate::stage::{Resumption, Stage, Target};

const CLIENTS: usize = 500;
const ROUNDS: usize = 5;

pub(crate) fn measure(stage: &Stage) -> anyhow::Result<()> {
    let [_, _, plain] = stage.targets()?;
    let [_, _, over_tls] = stage.targets_over_tls()?;
    for (how, target, resumption) in [
        ("in the clear", &plain, Resumption::Never),
        ("TLS 1.3, full handshakes", &over_tls, Resumption::Never),
        ("TLS 1.3, resumed", &over_tls, Resumption::Always),
    ] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.extend(storm(target, resumption)?);
        }
        report::times(&format!("{CLIENTS} clients connect at once, {how}"), times);
    }
    Ok(())
}

/// From the moment at which all begin to being logged in, of each: who is late to connect because the others keep the machine
/// busy has waited, too. All are kept until the last is in.
fn storm(target: &Target, resumption: Resumption) -> anyhow::Result<Vec<Duration>> {
    let (begin, end) = (Barrier::new(CLIENTS), Barrier::new(CLIENTS));
    let opened = OnceLock::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let target = target.for_one_client(resumption);
                    let ticket = match resumption {
                        Resumption::Never => Ok(()),
                        Resumption::Always => Client::log_in(&target).and_then(Client::quit),
                    };
                    begin.wait();
                    let began = opened.get_or_init(Instant::now);
                    let client = ticket.and_then(|()| Client::log_in(&target));
                    let took = began.elapsed();
                    end.wait();
                    let client = client?;
                    ensure!(client.resumed == (resumption == Resumption::Always), "not as wanted");
                    client.quit()?;
                    Ok(took)
                })
            })
            .collect();
        let joined = clients.into_iter().map(|client| match client.join() {
            Ok(took) => took,
            Err(_) => anyhow::bail!("a client panicked"),
        });
        joined.collect()
    })
}
