//! The agent on a real mariadbd: the template, a clone, a start, what it makes of accounts, how it ends.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod stage;
mod template;
mod accounts;
mod settings;
mod hostile;
mod life;
mod quiesce;
