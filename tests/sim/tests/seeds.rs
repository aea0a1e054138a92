//! A thousand simulations, and those that have broken a rule once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

const SEEDS: u64 = 1_000;
/// Enough to see what they have in common.
const REPORTED_MAX: usize = 5;

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
                    let verdict = sim::run(seed);
                    if !verdict.broken.is_empty() {
                        failed().push(sim::report(seed, &verdict));
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
    let (one, other) = (sim::run(1), sim::run(1));
    let differs = one.trace.iter().zip(&other.trace).position(|(one, other)| one != other);
    assert_eq!(
        differs,
        None,
        "they part at {:?}",
        differs.map(|at| (&one.trace[at], &other.trace[at]))
    );
    assert_eq!(one.fingerprint(), other.fingerprint());
    assert_ne!(one.fingerprint(), sim::run(2).fingerprint());
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
    let verdict = sim::run(23);
    assert!(verdict.broken.is_empty(), "{}", sim::report(23, &verdict));
}
