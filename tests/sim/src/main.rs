//! `sim SEED` shows everything that happens in one simulation; `sim check SEED` says only which rules it breaks; `sim soak
//! [FIRST]` runs one seed after the other until one breaks a rule. With `gone` before the seed there is no control plane
//! for ten minutes.

#![allow(clippy::print_stdout, reason = "the command line of people")]

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use sim::Trouble;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["soak"] => soak(rand::random::<u32>().into()),
        ["soak", first] if number(first).is_some() => soak(number(first).unwrap_or_default()),
        ["check", seed] if number(seed).is_some() => check(number(seed).unwrap_or_default(), Trouble::Anything),
        ["check", "gone", seed] if number(seed).is_some() => {
            check(number(seed).unwrap_or_default(), Trouble::ControlGone)
        }
        ["gone", seed] if number(seed).is_some() => show(number(seed).unwrap_or_default(), Trouble::ControlGone),
        [seed] if number(seed).is_some() => show(number(seed).unwrap_or_default(), Trouble::Anything),
        _ => {
            println!("usage: sim [gone] SEED | sim check [gone] SEED | sim soak [FIRST SEED]");
            ExitCode::FAILURE
        }
    }
}

fn show(seed: u64, trouble: Trouble) -> ExitCode {
    let verdict = sim::run(seed, trouble);
    verdict.trace.iter().for_each(|line| println!("{line}"));
    let (computes, commands) = verdict.figures;
    println!(
        "{computes} computes and {commands} commands ran, {} rules broken",
        verdict.broken.len()
    );
    if verdict.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn check(seed: u64, trouble: Trouble) -> ExitCode {
    let verdict = sim::run(seed, trouble);
    if verdict.broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{}", sim::report(seed, trouble, &verdict));
    ExitCode::FAILURE
}

fn soak(first: u64) -> ExitCode {
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !failed.load(Relaxed) {
                    let seed = next.fetch_add(1, Relaxed);
                    if !holds(seed) {
                        failed.store(true, Relaxed);
                    } else if seed % 1000 == 999 {
                        println!("seeds {first} to {seed} hold");
                    }
                }
            });
        }
    });
    ExitCode::FAILURE
}

/// In a process of its own, see [`sim::run`]; it says what is wrong.
fn holds(seed: u64) -> bool {
    let checked = std::env::current_exe().and_then(|sim| Command::new(sim).args(["check", &seed.to_string()]).status());
    match checked {
        Ok(status) => status.success(),
        Err(error) => {
            println!("seed {seed} cannot be played: {error}");
            false
        }
    }
}
