//! A thousand simulations, and those that have broken a rule once.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

const SEEDS: u64 = 1_000;
/// Enough to see what they have in common.
const REPORTED_MAX: usize = 5;

/// The program, which plays one seed in one process (see [`sim::run`]).
fn sim(arguments: &[&str]) -> Output {
    let mut sim = Command::new(env!("CARGO_BIN_EXE_sim"));
    sim.args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

fn check(seed: u64) -> Result<(), String> {
    let checked = sim(&["check", &seed.to_string()]);
    if checked.status.success() {
        return Ok(());
    }
    let said = [checked.stdout, checked.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Err(format!("seed {seed}, {}: {}", checked.status, said.concat()))
}

#[test]
fn a_thousand_seeds_hold() {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    let failed = || failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if seed >= SEEDS || failed().len() >= REPORTED_MAX {
                        return;
                    }
                    if let Err(report) = check(seed) {
                        failed().push(report);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_seed_decides_everything_that_happens() {
    let [one, again, other] = ["1", "1", "2"].map(|seed| sim(&[seed]).stdout);
    let [one, again] = [one, again].map(|trace| String::from_utf8(trace).unwrap());
    let parts = one.lines().zip(again.lines()).find(|(one, again)| one != again);
    assert_eq!(parts, None, "here they part");
    assert_eq!(one, again);
    assert_ne!(one.as_bytes(), other);
}

#[test]
fn a_simulation_is_worth_its_name() {
    let (computes, commands) = sim::run(3).figures;
    assert!(
        computes >= 5 && commands >= 50,
        "{computes} computes and {commands} commands ran"
    );
}

/// A gateway cut off from control dialled a later incarnation with the secret of an earlier one.
#[test]
fn seed_23_tells_no_client_that_access_is_denied_by_another_incarnation() {
    assert_eq!(check(23), Ok(()));
}
