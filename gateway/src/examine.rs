//! What around a gateway would keep it from starting, looked for before other things are started beside it: files and ports.
//!
//! In: checked settings, and who else will listen on this machine. Out: nothing, or the error that the start would end with.

use std::net::SocketAddr;

use crate::accept::{self, ListenError};
use crate::config::{Config, overlap};
use crate::control::certificates_end;
use crate::error::Error;
use crate::tls::Certificates;

/// `others`: settings and addresses of who listens in the same process. The development certificate is made where it is
/// missing; nothing else is left behind.
///
/// # Errors
/// What the start would fail for.
pub fn examine(config: &Config, others: &[(&'static str, SocketAddr)]) -> Result<(), Error> {
    Certificates::examine(&config.tls)?;
    certificates_end(&config.control)?;
    for (setting, address) in config.ports() {
        if let Some((other, _)) = others.iter().find(|(_, other)| overlap(*other, address)) {
            return Err(Error::Clash {
                setting,
                other,
                address,
            });
        }
        accept::probe(address).map_err(|source| ListenError::new(setting, address, source))?;
    }
    Ok(())
}
