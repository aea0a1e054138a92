//! What fuzzing drives: the readers of texts, a whole login, and a session between a client and a compute that both follow
//! a script. Everything here is the real code path; what is made up is the other end of each socket, and time, which
//! passes when nobody has anything to do. A promise that is broken is a panic.
//!
//! `tests/fuzz` has the targets, their corpora and how they are run.

mod compute;
mod client;
mod input;
mod sessions;
mod texts;
mod world;

pub use sessions::{logins, sessions, strangers};
pub use texts::{Answered, is_feared, killed, recognised, texts};
