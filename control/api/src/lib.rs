//! What the services of Selkie say to each other and to people: the gRPC of control, gateways and agents, and the
//! bodies of the REST API. Types only; who serves and who calls is elsewhere.

/// gRPC between control and its gateways (`proto/selkie/control.proto`).
#[allow(
    unreachable_pub,
    elided_lifetimes_in_paths,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated code"
)]
pub mod control {
    tonic::include_proto!("selkie.control.v1");
}

/// gRPC between control and the agent beside a mariadbd (`proto/selkie/agent.proto`).
#[allow(
    unreachable_pub,
    elided_lifetimes_in_paths,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated code"
)]
pub mod agent {
    tonic::include_proto!("selkie.agent.v1");
}

/// The file that tells an agent what to run.
pub mod spec;

/// What is left on disk of a server's life.
pub mod life;

/// The bodies of the REST API.
pub mod rest;

/// The server variables that a project may set.
pub mod settings;
