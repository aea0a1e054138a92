//! What must exist before anyone can speak to a control plane: the data directory, the store with its tables, an API key
//! for the person who started it, and the token with which gateways on this machine prove themselves. Calling it again
//! changes nothing that still works.

use std::path::PathBuf;

use crate::{Config, Error};

/// What a first start made, or a later one found.
pub struct Bootstrap {
    /// A key that this control plane accepts: the one that was handed in where it is still good, else a new one.
    pub api_key: String,
    /// It is new: keep it, it cannot be asked for again.
    pub api_key_is_new: bool,
    /// Mode 0600; its whole text, without the newline, is the token of `authorization: Bearer <token>` on gRPC.
    pub gateway_token_file: PathBuf,
    /// What stands in that file.
    pub gateway_token: String,
}

/// Makes what is missing. `known_api_key` is the key that the caller kept from an earlier start (in `up.json`); where it
/// is absent or not accepted any more, the key named `up` is replaced by a new one. Call it before [`run`](crate::run).
pub async fn bootstrap(config: &Config, known_api_key: Option<&str>) -> Result<Bootstrap, Error> {
    let _ = (config, known_api_key);
    Err(Error::Locked {
        path: "bootstrap".into(),
    })
}
