//! The gateway: MySQL clients on one side, sleeping and waking computes on the other.
//!
//! The modules stand in the order in which a query meets them. [`connection`] is the spine: it alone knows the order of
//! the steps and calls them one after the other; read it first. A step may use what an earlier step produced, never a
//! later one.

// The walk of one query.
mod connection;
mod accept;
mod tls;
mod handshake;
mod route;
mod auth;
mod session;
mod restraint;
mod cancel;
mod answer;
mod wake;
mod compute;
mod relay;
mod accounts;
mod drain;

// What the steps share.
mod activity;
mod admin;
mod buffer;
mod config;
mod context;
mod control;
mod error;
mod examine;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod meter;
mod metrics;
mod quota;
mod reload;
mod run;
#[cfg(feature = "sim")]
pub mod sim;
mod source;
mod stream;
mod text;

pub use config::{Config, ConfigError, RawConfig, RawListener, RawListenerTls, RawProxyProtocol, Written};
pub use error::Error;
pub use examine::examine;
pub use reload::{ControlAt, Reloading, Reread, SettingsSource, changed as changed_settings};
pub use run::{Drained, Listener, Listening, run};
