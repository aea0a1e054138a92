//! Markdown, line by line as it is measured.

use std::time::Duration;

use crate::rates::{Rate, middle};

/// What it ran on.
pub(crate) fn machine() {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{cores} cores, {}; everything on this machine.\n",
        model.unwrap_or("unknown")
    );
}

pub(crate) fn rates_head() {
    println!(
        "| closed loop | direct/s | HAProxy/s | gateway/s | gateway : HAProxy | CPU HAProxy | CPU gateway | CPU ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

/// Medians, and the median of the ratios of each round.
pub(crate) fn rates(name: &str, [direct, haproxy, gateway]: &[Vec<Rate>; 3]) {
    let ratio = |figure: fn(&Rate) -> f64| {
        let pairs = gateway.iter().zip(haproxy);
        let mut ratios: Vec<_> = pairs
            .map(|(gateway, haproxy)| figure(gateway) / figure(haproxy))
            .collect();
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (
            ratios.first().copied().unwrap_or(0.0),
            ratios.last().copied().unwrap_or(0.0),
        );
        format!("{:.2} ({low:.2}-{high:.2})", median(ratios))
    };
    let rate = |rate: &Rate| rate.per_second;
    let cpu = |rate: &Rate| rate.cpu.map_or(0.0, |cpu| cpu.as_secs_f64() * 1e6);
    println!(
        "| {name} | {} | {} | {} | {} | {:.1} us | {:.1} us | {} |",
        number(middle(direct, rate)),
        number(middle(haproxy, rate)),
        number(middle(gateway, rate)),
        ratio(rate),
        middle(haproxy, cpu),
        middle(gateway, cpu),
        ratio(cpu)
    );
}

pub(crate) fn rest_head() {
    println!("\n| what | n | p50 | p99 | max |\n|---|---|---|---|---|");
}

/// A distribution of times.
pub(crate) fn times(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| {
        let place = (times.len() as f64 * share).ceil() as usize;
        let time = times.get(place.clamp(1, times.len().max(1)) - 1);
        time.map_or("-".into(), |time| format!("{:.2} ms", time.as_secs_f64() * 1e3))
    };
    println!(
        "| {name} | {} | {} | {} | {} |",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// One figure.
pub(crate) fn figure(name: &str, of: usize, text: &str) {
    println!("| {name} | {of} | {text} | | |");
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{:.0}", value)
    } else {
        format!("{value:.1}")
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
