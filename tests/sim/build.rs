//! `entropy.rs` stands in for the C library's `getrandom`, also where that is looked up by name.

fn main() {
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    println!("cargo::rerun-if-changed=build.rs");
}
