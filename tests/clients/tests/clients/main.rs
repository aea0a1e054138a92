//! Real clients through the gateway. One process, so that all share one running Selkie.

mod client_test;
mod drivers;
mod dump;
mod later_clients;
mod openapi;
mod wordpress;
