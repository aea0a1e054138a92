//! The one binary: every service of Selkie, and the command line for people.
//!
//! `selkie up` runs control and gateway in one process; `selkie gateway` and `selkie control` run one each; `selkie agent` is
//! what control starts beside a mariadbd. Everything else speaks REST to a running control plane.

mod agent;
mod arguments;
mod client;
mod demo;
mod failure;
mod logs;
mod serve;
mod settings;
mod up;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Verb};
use failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.verb {
        Verb::Up(ref up) => up::up(&arguments.common, up),
        Verb::Gateway => serve::gateway(&arguments.common),
        Verb::Control => serve::control(&arguments.common),
        Verb::Agent(ref verb) => agent::run(verb),
        Verb::Project(ref verb) => client::project(&arguments.common, verb),
        Verb::User(ref verb) => client::user(&arguments.common, verb),
        Verb::Database(ref verb) => client::database(&arguments.common, verb),
        Verb::Compute(ref verb) => client::compute(&arguments.common, verb),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.say();
            ExitCode::FAILURE
        }
    }
}

/// A runtime for short work: an agent, a call to REST.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::of("starting a runtime", e))
}
