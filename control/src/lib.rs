//! The control plane: what projects, users and databases there are, which computes run, and who must know.
//! `run` serves REST to people and gRPC to gateways, starts and stops computes through a driver, and keeps its state in
//! a store. Nothing here sees a client's SQL, and no gateway waits for it while computes run.

#![forbid(unsafe_code)]

mod accounts;
mod activity;
mod bootstrap;
mod clock;
mod compute;
mod config;
mod driver;
mod error;
mod grpc;
mod http;
mod lead;
mod lifecycle;
mod metrics;
mod name;
mod projects;
mod prune;
mod publish;
mod relay;
mod rest;
mod run;
#[cfg(test)]
mod scale;
mod scheduler;
mod secret;
#[cfg(feature = "sim")]
pub mod sim;
mod store;
mod stuck;
#[cfg(test)]
mod testing;
mod usage;
mod weight;

pub use bootstrap::{Bootstrap, bootstrap};
pub use config::{
    Config, ConfigError, ProcessConfig, RawConfig, RawListen, RawPrices, RawProcess, RawStore, RawSuspend, RawTls,
    SecretText, UidRange,
};
pub use error::Error;
pub use run::{Listening, run};
pub use store::{Fault, StoreError};
pub use weight::TooLarge;
