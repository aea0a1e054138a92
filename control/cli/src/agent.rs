//! `selkie agent`: what control starts beside a mariadbd. Reads no settings, so that it starts at once; its output goes
//! where control sends it.

use std::io::Write;

use ::agent::TemplateSpec;
use control_api::spec::Spec;
use tokio_util::sync::CancellationToken;

use crate::arguments::AgentVerb;
use crate::failure::Failure;
use crate::{logs, small_runtime};

pub(crate) fn run(verb: &AgentVerb) -> Result<(), Failure> {
    logs::to_stderr("info");
    let runtime = small_runtime()?;
    match verb {
        AgentVerb::Template {
            templates_dir,
            mariadbd,
        } => {
            let spec = TemplateSpec {
                dir: templates_dir.clone(),
                mariadbd: mariadbd.clone(),
                uid: None,
                gid: None,
            };
            let template = runtime.block_on(::agent::template(spec))?;
            let line = serde_json::to_string(&template)?;
            writeln!(std::io::stdout(), "{line}")?;
        }
        AgentVerb::Prepare { spec } => runtime.block_on(::agent::prepare(&Spec::read(spec)?))?,
        AgentVerb::Run { spec } => {
            let exit = runtime.block_on(::agent::run(Spec::read(spec)?, CancellationToken::new()))?;
            tracing::info!(
                status = exit.status,
                reason = exit.reason,
                asked_for = exit.was_asked_for,
                "the server has ended"
            );
        }
    }
    Ok(())
}
