//! A thousand simulations, and those that have broken a rule once.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use sim::Trouble;

const SEEDS: u64 = 1_000;
/// Of ten minutes without a control plane: each takes as long as twenty of the others.
const SEEDS_GONE: u64 = 6;
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
    check_with(&[], seed)
}

fn check_with(more: &[&str], seed: u64) -> Result<(), String> {
    let checked = sim(&[&["check"], more, &[&seed.to_string()]].concat());
    if checked.status.success() {
        return Ok(());
    }
    let said = [checked.stdout, checked.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Err(format!("seed {seed}, {}: {}", checked.status, said.concat()))
}

/// Plays them side by side; what those tell that fail.
fn failed(seeds: u64, check: impl Fn(u64) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    let failed = || failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if seed >= seeds || failed().len() >= REPORTED_MAX {
                        return;
                    }
                    if let Err(report) = check(seed) {
                        failed().push(report);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_thousand_seeds_hold() {
    let failed = failed(SEEDS, check);
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn ten_minutes_without_a_control_plane_lose_nothing_and_all_is_well_after_them() {
    let failed = failed(SEEDS_GONE, |seed| check_with(&["gone"], seed));
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    let away = sim::run(1, Trouble::ControlGone);
    let served = away.trace.iter().find_map(|line| {
        let (before, _) = line.split_once(" commands ran without control")?;
        before.rsplit(' ').next()?.parse::<u32>().ok()
    });
    assert!(served > Some(100), "{served:?} commands ran without control");
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
    let (computes, commands) = sim::run(3, Trouble::Anything).figures;
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
