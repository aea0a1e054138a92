//! Measures the gateway beside a direct connection and HAProxy, on the same MariaDB, in one run: `make bench`.
//!
//! One scenario per file. Rates are closed loops, interleaved round by round so that a noisy machine is noisy for all;
//! what counts is the median of the rounds' ratios. Prints Markdown; docs/performance.md keeps a run.

#![allow(clippy::print_stdout, reason = "the report is what it is for")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "measures by the real clock, from threads that may block"
)]

mod client;
mod connect;
mod connect_storm;
mod control_gone;
mod idle;
mod login;
mod point_select;
mod rates;
mod report;
mod results;
mod scale;
mod stage;
mod storm;
mod usage;
mod wake;

use clap::{Parser, ValueEnum};

use crate::stage::Stage;

/// Measures Selkie's gateway.
#[derive(Parser)]
struct Arguments {
    /// Which scenarios; all when none is named.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Rounds of each rate; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each measurement of a rate.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Cold wakes.
    #[arg(long, default_value_t = 40)]
    wakes: usize,
    /// Seconds without a control plane.
    #[arg(long, default_value_t = 600)]
    away: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    PointSelect,
    Results,
    Connect,
    Tls,
    Login,
    Wake,
    Storm,
    ConnectStorm,
    Idle,
    Scale,
    /// Ten minutes; only when it is named.
    ControlGone,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    usage::raise_file_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let wanted = |scenario| arguments.scenarios.is_empty() || arguments.scenarios.contains(&scenario);
    report::machine();
    // It needs no database of a project and disturbs everything else.
    if wanted(Scenario::Scale) {
        report::rest_head();
        scale::measure().await?;
        if arguments.scenarios == [Scenario::Scale] {
            return Ok(());
        }
    }
    if arguments.scenarios == [Scenario::ControlGone] {
        report::rest_head();
        return control_gone::measure(std::time::Duration::from_secs(arguments.away)).await;
    }
    let stage = Stage::set().await?;
    if [
        Scenario::PointSelect,
        Scenario::Results,
        Scenario::Connect,
        Scenario::Tls,
    ]
    .into_iter()
    .any(wanted)
    {
        report::rates_head();
    }
    let (rounds, seconds) = (arguments.rounds, arguments.seconds);
    if wanted(Scenario::PointSelect) {
        point_select::measure(&stage, rounds, seconds)?;
    }
    if wanted(Scenario::Results) {
        results::measure(&stage, rounds, seconds)?;
    }
    if wanted(Scenario::Connect) {
        connect::measure(&stage, rounds, seconds)?;
    }
    if wanted(Scenario::Tls) {
        point_select::measure_over_tls(&stage, rounds, seconds)?;
        results::measure_over_tls(&stage, rounds, seconds)?;
        connect::measure_over_tls(&stage, rounds, seconds)?;
    }
    if [
        Scenario::Login,
        Scenario::Wake,
        Scenario::Storm,
        Scenario::ConnectStorm,
        Scenario::Idle,
    ]
    .into_iter()
    .any(wanted)
    {
        report::rest_head();
    }
    if wanted(Scenario::Login) {
        login::measure(&stage).await?;
    }
    if wanted(Scenario::Wake) {
        wake::measure(&stage, arguments.wakes).await?;
    }
    if wanted(Scenario::Storm) {
        storm::measure(&stage).await?;
    }
    if wanted(Scenario::ConnectStorm) {
        connect_storm::measure(&stage)?;
    }
    if wanted(Scenario::Idle) {
        idle::measure().await?;
    }
    Ok(())
}
