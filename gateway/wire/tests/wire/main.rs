//! What the crate promises about bytes it did not write: recordings of real servers and clients are understood, where a
//! stream is cut changes nothing, and no input makes it panic.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod recordings;
mod streams;
mod greetings;
mod logins;
mod responses;
mod splitting;
mod round_trips;
