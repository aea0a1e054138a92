//! The binary as people and scripts call it, where no running Selkie is needed: settings, and the commands against a scripted
//! control plane.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod stage;
mod settings;
mod commands;
mod certificates;
