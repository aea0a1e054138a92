//! The MySQL wire protocol as MariaDB speaks it: bytes to packets and back. No I/O, no clock, no panics on any input.
//!
//! - [`frame`]: headers, splitting of long packets
//! - [`capabilities`], [`status`]: flags
//! - before it: [`proxy`], what a proxy in front says of the client
//! - connection phase: [`greeting`], [`login`], [`auth`]
//! - command phase: [`command`], [`ok`], [`err`], [`mod@column`], [`text_rows`],
//!   [`session_track`], [`execute`]
//! - the relay's eyes: [`client_stream`] tells where commands begin and end, [`response`] where responses end, both on
//!   chunks cut anywhere, without copying or allocating
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "tests may panic"
    )
)]

pub mod frame;
pub mod capabilities;
pub mod status;
pub mod proxy;
pub mod greeting;
pub mod login;
pub mod auth;
pub mod command;
pub mod ok;
pub mod err;
pub mod column;
pub mod session_track;
pub mod execute;
pub mod text_rows;
pub mod client_stream;
pub mod response;

mod lenenc;

pub use lenenc::Malformed;
