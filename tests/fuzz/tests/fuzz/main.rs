//! The targets without a fuzzer: over what fuzzing has found, and over what a seed makes of it.

mod server;

use fuzz::{Mutator, TARGETS, Target};

fn replay(name: &str) {
    let target = Target::named(name).expect("a target");
    target.prepare();
    for input in target.corpus() {
        target.run(&input);
    }
    let mut mutator = Mutator::new(1, target.corpus());
    for _ in 0..target.quick_runs {
        target.run(&mutator.input());
    }
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|target| target.name), run);
        }
    };
}

replays!(
    commands, responses, login, proxy, ok, texts, logins, strangers, sessions
);
