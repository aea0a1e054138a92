//! Seeds, in parallel lanes: some in every test run, one again, or without end.
//!
//! `SEEDS=n` plays n of them, `SELKIE_SEED=n` one, `SOAK=1` goes on from a random seed until one fails.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;

use crate::generate::{case, undisturbed};
use crate::lane::Lane;
use crate::play::{Tally, play};
use crate::shrink::shrink;
use crate::step::{Act, Case, Opening, Step};

/// Of a usual test run.
const SEEDS: u64 = 300;

/// After so many seeds that fail, more of them tell nothing new.
const FAILURES_MAX: usize = 12;

fn is_soak() -> bool {
    std::env::var("SOAK").is_ok_and(|on| on != "0")
}

/// Two servers each at work at a time, on a machine with two cores; starts and stops leave the cores idle in between.
const LANES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_see_no_difference() {
    play_all(wanted(), case).await;
}

/// Sessions that nobody disturbs: what the gateway passes on, it passes on unchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undisturbed_sessions_see_no_difference() {
    play_all(0..30, undisturbed).await;
}

fn wanted() -> Range<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|why| panic!("{name}={text}: {why}")))
    };
    if let Some(seed) = number("SELKIE_SEED") {
        return seed..seed + 1;
    }
    if is_soak() {
        return u64::from(rand::random::<u32>()) << 16..u64::MAX;
    }
    0..number("SEEDS").unwrap_or(SEEDS)
}

async fn play_all(seeds: Range<u64>, generate: fn(u64) -> Case) {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    let failures_max = if is_soak() { 1 } else { FAILURES_MAX };
    let lanes = (0..LANES.min((seeds.end - seeds.start) as usize)).map(async |_| {
        let lane = Lane::open().await;
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed.lock().expect("the failures").len() >= failures_max {
                return (lane, tally);
            }
            match play(&lane, &generate(seed)).await {
                Ok(played) => tally += played,
                Err(how) => {
                    println!("seed {seed} fails: {how}");
                    failed.lock().expect("the failures").push((seed, how));
                }
            }
            if seed % 1000 == 999 {
                println!("seed {seed}: {tally:?}");
            }
        }
    });
    let mut whole = Tally::default();
    let lanes = join_all(lanes).await;
    lanes.iter().for_each(|(_, tally)| whole += *tally);
    println!("{seeds:?}: {whole:?}");
    let mut failed = failed.into_inner().expect("the failures");
    failed.sort();
    if let Some((seed, how)) = failed.first().cloned() {
        let all: Vec<_> = failed.iter().map(|(seed, _)| *seed).collect();
        explain(&lanes[0].0, &all, seed, generate(seed), how).await;
    }
}

async fn explain(lane: &Lane, all: &[u64], seed: u64, case: Case, how: String) -> ! {
    let steps = case.steps.len();
    println!("seeds {all:?} fail; leaving out steps of {seed}...");
    if how.starts_with("no answer") {
        // Each try would hang as long.
        panic!("{}", case.to_lines());
    }
    let (short, short_how) = shrink(lane, case, how).await;
    panic!(
        "seeds {all:?} fail (again: SELKIE_SEED={seed}). {} of {steps} steps of {seed} are enough; as \
         tests/differential/cases/NAME.jsonl they are played in every run:\n\n{}\n{short_how}",
        short.steps.len(),
        short.to_lines()
    );
}

/// A difference is seen, and what has nothing to do with it is left out.
#[tokio::test]
async fn a_state_that_was_lost_is_found_and_cut_out() {
    let lane = Lane::open().await;
    let query = |sql: &str| Act::Query(sql.into());
    let opening = Opening {
        session_track: true,
        deprecate_eof: true,
        found_rows: false,
        collation: 45,
    };
    for (lost, seen_by) in [
        ("SET @a = NULL", query("SELECT @a")),
        ("SET @a = 1.0", Act::UserVariables),
        ("SET sql_mode = 'ANSI'", Act::Variables),
        ("ROLLBACK", query("SELECT @@in_transaction")),
        ("UPDATE {h}.counters SET n = n + 1; COMMIT", query("DO 1")),
        ("SELECT * FROM nothing", query("SHOW WARNINGS")),
    ] {
        let acts = [
            query("SET @a = 1"),
            query("SELECT 1"),
            query("BEGIN"),
            Act::Ping,
            query("DO 1"),
            Act::Sabotage(lost.into()),
            seen_by,
            query("SELECT 2"),
        ];
        let steps = acts.into_iter().map(|act| Step { session: 0, act }).collect();
        let case = Case {
            sessions: vec![opening],
            steps,
        };
        let how = play(&lane, &case).await.expect_err(lost);
        let (short, how) = shrink(&lane, case, how).await;
        assert!(short.steps.len() <= 3, "{lost}: {how}\n{}", short.to_lines());
        assert!(short.steps.iter().any(|step| matches!(step.act, Act::Sabotage(_))));
    }
}
