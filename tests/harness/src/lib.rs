//! Starts real processes for the tests: `selkie up` with a data directory, a configuration and ports of its own, and a
//! plain `mariadbd` with the same settings as oracle; and talks to them as users do: REST, command line, MySQL protocol.
//!
//! Everything started here ends with what started it, even when a test process is killed: a keeper process waits on a
//! pipe that closes with it. Whatever fails here panics with what was expected; this crate is for tests only.

pub mod cli;
pub mod client;
pub mod direct;
pub mod disk;
pub mod http;
pub mod keeper;
pub mod logs;
pub mod network;
pub mod pki;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod project;
pub mod proxy;
pub mod raw;
pub mod secrets;
pub mod selkie;
pub mod wait;

pub use client::Endpoint;
pub use direct::Direct;
pub use disk::SmallDisk;
pub use postgres::Postgres;
pub use project::{Compute, Project};
pub use proxy::Proxy;
pub use raw::Raw;
pub use selkie::{Selkie, Up};
pub use wait::eventually;
