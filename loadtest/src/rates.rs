//! Closed loops on each target in turn, round by round.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::report::{self, median};
use crate::stage::Target;
use crate::usage::cpu_time;

/// What one measurement of one target gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    /// CPU time of the process in the middle per operation.
    pub(crate) cpu: Option<Duration>,
}

/// Runs `work` on every target in each round, and prints a line. `work` returns how many operations were done, and in
/// which time.
pub(crate) fn interleave(
    targets: &[Target; 3],
    name: &str,
    rounds: usize,
    work: impl Fn(&Target) -> anyhow::Result<(u64, Duration)>,
) -> anyhow::Result<()> {
    let mut rates: [Vec<Rate>; 3] = Default::default();
    for round in 0..rounds {
        // Whoever comes first in a round meets a cooler or a warmer machine: each is first in turn.
        for turn in 0..targets.len() {
            let which = (round + turn) % targets.len();
            let target = &targets[which];
            let cpu_before = target.pid.map(cpu_time).transpose()?;
            let (operations, took) = work(target)?;
            let cpu_after = target.pid.map(cpu_time).transpose()?;
            let cpu = cpu_before
                .zip(cpu_after)
                .map(|(before, after)| (after - before).div_f64(operations as f64));
            rates[which].push(Rate {
                per_second: operations as f64 / took.as_secs_f64(),
                cpu,
            });
        }
    }
    report::rates(name, &rates);
    Ok(())
}

/// As many threads as clients; each prepares, all begin at once, each repeats `step` until the time is over.
pub(crate) fn closed_loop<C>(
    clients: usize,
    seconds: u64,
    prepare: impl Fn() -> anyhow::Result<C> + Sync,
    step: impl Fn(&mut C) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<(u64, Duration)> {
    let begin = Barrier::new(clients + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let prepared = prepare();
                    begin.wait();
                    let mut client = prepared?;
                    let end = Instant::now() + Duration::from_secs(seconds);
                    let mut done = 0;
                    while Instant::now() < end {
                        step(&mut client)?;
                        done += 1;
                    }
                    anyhow::Ok(done)
                })
            })
            .collect();
        begin.wait();
        let began = Instant::now();
        let mut total = 0;
        for thread in threads {
            total += thread.join().unwrap_or_else(|_| anyhow::bail!("a client panicked"))?;
        }
        Ok((total, began.elapsed()))
    })
}

/// The median of a figure of each rate.
pub(crate) fn middle(rates: &[Rate], figure: impl Fn(&Rate) -> f64) -> f64 {
    median(rates.iter().map(figure).collect())
}
