//! The agent beside a mariadbd: prepares a template data directory once per server version, clones it for a project,
//! starts mariadbd on it, tells control how it does over a unix socket, and stops it. It decides nothing about a
//! compute's life; it asks control nothing, so that it goes on when control is gone. What it is told stands in a
//! [`Spec`].

mod accounts;
mod bounded;
mod changes;
mod clone;
mod confine;
mod gaps;
mod door;
mod error;
mod life;
mod observe;
mod options;
mod process;
mod run;
mod server;
mod service;
mod sql;
mod template;

use std::path::PathBuf;

use control_api::spec::{Spec, Template};
use tokio_util::sync::CancellationToken;

pub use error::Error;

/// What [`template()`] needs.
#[derive(Debug, Clone)]
pub struct TemplateSpec {
    /// Templates live below it, one for each server version.
    pub dir: PathBuf,
    /// The server binary; looked for on the PATH and where Debian has it when absent.
    pub mariadbd: Option<PathBuf>,
    /// Owner of the template's files when we are root; root itself when absent.
    pub uid: Option<u32>,
    /// Goes with `uid`.
    pub gid: Option<u32>,
}

/// What of this machine, or of who runs this process, keeps its servers from being kept apart as they could be, in one line;
/// None: nothing does.
pub fn not_kept_apart() -> Option<String> {
    gaps::gaps(&gaps::Here::look())
}

/// How a compute ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// `exit status: 0`, `signal: 9 (SIGKILL)`, as the operating system says it.
    pub status: String,
    /// The last errors of the server's log where it ended by itself; empty otherwise.
    pub reason: String,
    /// What ended it; `None`: it ended by itself.
    pub signal: Option<i32>,
    /// Somebody asked for it: Stop, a signal to the agent, or the token given to [`run()`].
    pub was_asked_for: bool,
}

/// Makes the template of the installed server version below `spec.dir` when it is not there yet, and says where it is.
/// Safe to call from many processes at once: one makes it, the others wait. A cancelled call leaves nothing behind that
/// a later one would mistake for a template.
pub async fn template(spec: TemplateSpec) -> Result<Template, Error> {
    template::make(spec).await
}

/// Makes the project's data directory by cloning the template; does nothing where it is there already. On an error
/// nothing is left at `spec.data_dir`.
pub async fn prepare(spec: &Spec) -> Result<(), Error> {
    let owner = spec.uid.map(|uid| (uid, spec.gid.unwrap_or(uid)));
    let (template, to) = (spec.template_dir.clone(), spec.data_dir.clone());
    let cloned = tokio::task::spawn_blocking(move || clone::clone(&template, &to, owner)).await;
    cloned.unwrap_or_else(|_cancelled| {
        Err(Error::system("cannot copy", &spec.template_dir)(
            std::io::ErrorKind::Interrupted.into(),
        ))
    })
}

/// Runs mariadbd as `spec` says until it exits, serving `selkie.agent.v1` on `{run_dir}/a.sock` meanwhile. Stops it
/// cleanly on `shutdown`, on SIGTERM or SIGINT to this process, and on the Stop call. A compute that cannot start is an
/// error that says why; one that ends after it was ready is an [`Exit`].
pub async fn run(spec: Spec, shutdown: CancellationToken) -> Result<Exit, Error> {
    run::run(spec, shutdown).await
}
