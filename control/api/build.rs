//! Compiles the gRPC definitions. protox is a protobuf compiler in Rust, so no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["selkie/control.proto", "selkie/agent.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    // Their Debug is written by hand (src/redacted.rs): it must not show what they hold.
    let with_secrets = [
        ".selkie.control.v1.User",
        ".selkie.control.v1.Compute",
        ".selkie.agent.v1.Account",
        ".selkie.agent.v1.SeenAccount",
    ];
    tonic_prost_build::configure()
        .skip_debug(with_secrets)
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
