//! Seeded simulations of gateways, control planes, agents and clients: one seed decides everything that happens, on a
//! clock that nobody waits for. `docs/decisions/2026-11-25-simulation.md` says what is real in it and what is not.

mod clients;
mod entropy;
mod machine;
mod net;
mod oracle;
mod world;

pub use oracle::{Verdict, excerpt};
pub use world::Trouble;

/// Runs one simulation, on a thread of its own: what a thread has drawn from its randomness cannot be taken back.
///
/// What happens follows from the seed alone in the first one of a process only: tokio mixes into a runtime's randomness how
/// many the process has had. So whoever plays many seeds starts a process for each (`sim check SEED`).
///
/// # Panics
/// If something in the simulation does.
#[must_use]
pub fn run(seed: u64, trouble: Trouble) -> Verdict {
    let thread = std::thread::spawn(move || {
        entropy::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        runtime.block_on(world::simulate(trouble))
    });
    thread.join().expect("a simulation does not panic")
}

/// What to tell of a seed that failed.
#[must_use]
pub fn report(seed: u64, trouble: Trouble, verdict: &Verdict) -> String {
    let gone = if trouble == Trouble::ControlGone { "gone " } else { "" };
    let replay = format!("cargo run -p sim -- {gone}{seed}");
    format!(
        "seed {seed} breaks:\n  {}\nthe last that happened before:\n{}replay it, with everything that happens: {replay}",
        verdict.broken.join("\n  "),
        excerpt(verdict, 60)
    )
}
