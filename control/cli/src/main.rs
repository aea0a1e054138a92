//! The one binary: every service of Selkie, and the command line for people.
//!
//! `selkie up` runs control and gateway in one process; `selkie gateway` and `selkie control` run one each; `selkie agent` is
//! what control starts beside a mariadbd. Everything else speaks REST to a running control plane.

mod agent;
mod arguments;
mod certificates;
mod client;
mod demo;
mod failure;
mod logs;
mod reload;
mod serve;
mod settings;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

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
        Verb::Settings(ref verb) => client::settings::settings(&arguments.common, verb),
        Verb::Key(ref verb) => client::keys::key(&arguments.common, verb),
        Verb::Operations(ref verb) => client::operations::operations(&arguments.common, verb),
        Verb::Audit(ref wish) => client::audit::audit(&arguments.common, wish),
        Verb::Usage(ref verb) => client::usage::usage(&arguments.common, verb),
        Verb::Wakes(ref wish) => client::wakes::wakes(&arguments.common, wish),
        Verb::Certificates(ref wish) => certificates::make(wish),
        Verb::Completion { shell } => completion(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.say();
            failure.code()
        }
    }
}

/// Writes the shell's completion script; of a pipe that was closed nobody needs to know.
fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "selkie", &mut script);
    client::print(&script)
}

/// A runtime for short work: an agent, a call to REST.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::of("starting a runtime", e))
}
