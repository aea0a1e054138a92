//! Runs every fuzz target over its corpus: what fuzzing once found stays found, with a stable compiler.

#[allow(unreachable_pub, reason = "a library for the fuzz targets, a module here")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&corpus).unwrap_or_else(|why| panic!("{}: {why}", corpus.display())) {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "no input in {}", corpus.display());
}

#[test]
fn commands() {
    replay("commands", targets::commands);
}

#[test]
fn responses() {
    replay("responses", targets::responses);
}

#[test]
fn login() {
    replay("login", targets::login);
}

#[test]
fn proxy() {
    replay("proxy", targets::proxy);
}

#[test]
fn ok() {
    replay("ok", targets::ok);
}
