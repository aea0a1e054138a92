#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mysql_wire_fuzz::proxy(input));
