//! The differential harness: what a session sees through the gateway, with its compute taken away in between, must be
//! what it sees on a connection of its own to a MariaDB of the same kind.
//!
//! A seed makes a case (`generate`): one or two sessions and their steps, with disturbances thrown in. A lane plays it
//! (`play`) on both sides and compares every packet (`compare`); where the two legitimately part, `oracle` says so. A
//! case that fails is made short (`shrink`) and printed in the form of the files in `cases/`, which are played too.

#![cfg(test)]

mod step;

mod statements;

mod generate;

mod side;

mod compare;

mod oracle;

mod lane;

mod play;

mod shrink;

mod seeds;

mod cases;
