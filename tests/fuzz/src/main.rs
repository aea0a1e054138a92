//! Runs the target that `FUZZ_TARGET` names, driven by libFuzzer.

#![no_main]

use std::sync::LazyLock;

use fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET");
    let target = Target::named(&name).unwrap_or_else(|| panic!("FUZZ_TARGET: there is no {name}"));
    target.prepare();
    target
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET.run(input));
