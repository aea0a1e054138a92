//! What a user sees of a running Selkie, one file per behaviour. All tests are one process and share one `selkie up`
//! where they can; each has a project of its own. The plain `mariadbd` that answers are compared with is shared too.

#![cfg(test)]

mod oracle;
mod service;

mod account_limits;
mod allowed_networks;
mod bad_input;
mod change_user;
mod chaos;
mod cli;
mod client_gone;
mod config_errors;
mod crash;
mod dashboards;
mod faults;
mod idempotency;
mod isolation;
mod keys;
mod kill;
mod listeners;
mod login_asleep;
mod login_settings;
mod memory;
mod metrics;
mod park;
mod park_previous;
mod park_statements;
mod relay;
mod relay_large;
mod relay_prepared;
mod reload;
mod rest;
mod secrets_in_logs;
mod services_tls;
mod settings;
mod shutdown;
mod state;
mod state_postgres;
mod streaming;
mod suspend;
mod suspend_idle;
mod tls;
mod tls_certificates;
mod two_control_planes;
mod two_gateways;
mod unprivileged;
mod usage;
mod user_create;
mod users_in_a_dump;
mod users_in_sql;
mod wake;
mod wake_ledger;
