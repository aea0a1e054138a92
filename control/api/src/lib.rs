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

pub mod incoming;
pub mod life;
pub mod networks;
mod object;
pub mod process;
pub mod project_id;
mod redacted;
pub mod rest;
pub mod services_tls;
pub mod settings;
pub mod spec;
