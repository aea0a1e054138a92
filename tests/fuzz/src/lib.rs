//! Fuzz targets: what is run over bytes that nobody has checked, and what must hold whatever they are. A target panics where
//! a promise is broken, and where a run takes more memory than it may.
//!
//! `tests/fuzz/run` drives them with libFuzzer; `cargo test -p fuzz` runs them over the kept corpora, and over a few
//! thousand inputs that a seed makes of these. `docs/fuzzing.md` says what each is for.

mod memory;
mod mutate;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub use mutate::{Mutator, Words};

/// One of them.
#[derive(Debug)]
pub struct Target {
    /// Also of its folder in `corpus`.
    pub name: &'static str,
    run: fn(&[u8]),
    /// What one run may have allocated at any moment, both ends of its sockets included.
    bytes_max: usize,
    /// Inputs of a few seconds, where nothing is instrumented or optimised.
    pub quick_runs: u64,
}

const fn target(name: &'static str, run: fn(&[u8]), bytes_max: usize, quick_runs: u64) -> Target {
    Target {
        name,
        run,
        bytes_max,
        quick_runs,
    }
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    // What one decoder makes of one input of at most 4 KiB, several times over.
    target("commands", wire::commands, 1 << 20, 4_000),
    target("responses", wire::responses, 1 << 20, 4_000),
    target("login", wire::login, 1 << 18, 10_000),
    target("proxy", wire::proxy, 1 << 16, 10_000),
    target("ok", wire::ok, 1 << 18, 10_000),
    target("texts", gateway::fuzz::texts, 1 << 18, 10_000),
    // A login reads packets of at most 128 KiB, TLS keeps a few records, and the client reads some more.
    target("logins", |input| gateway::fuzz::logins(&DIR, input), 2 << 20, 1_000),
    target("strangers", |input| gateway::fuzz::strangers(&DIR, input), 2 << 20, 400),
    // Buffers of 64 KiB in each direction, and packets of up to 1 MiB at the made up ends.
    target("sessions", |input| gateway::fuzz::sessions(&DIR, input), 4 << 20, 1_000),
];

/// Where the gateway of the runs has its files.
static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = tempfile::Builder::new().prefix("fuzz-").tempdir_in(scratch());
    dir.expect("a directory").keep()
});

/// Inside of the build's directory: what a run leaves when it is killed goes with that. Paths of sockets are short.
fn scratch() -> PathBuf {
    std::env::var_os("FUZZ_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from)
}

impl Target {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Runs it on one input.
    pub fn run(&self, input: &[u8]) {
        let ((), peak) = memory::peak_of(|| (self.run)(input));
        assert!(
            peak <= self.bytes_max,
            "{peak} bytes at once, {} are allowed",
            self.bytes_max
        );
    }

    /// Makes what all runs share, so that it counts for none.
    pub fn prepare(&self) {
        (self.run)(&[]);
    }

    /// The kept inputs, in order of their names.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name);
        let entries = std::fs::read_dir(&dir).unwrap_or_else(|why| panic!("{}: {why}", dir.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
            .iter()
            .map(|path| std::fs::read(path).expect("a kept input"))
            .collect()
    }
}
