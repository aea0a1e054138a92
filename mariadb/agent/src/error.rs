//! What can go wrong in an agent, one variant per cause; every text is fit for the person who looks after the machine
//! and holds no secret.

use std::path::PathBuf;

/// Why a template, a clone or a compute could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent is being written.
    #[error("not built yet: {}", .0.display())]
    NotYet(PathBuf),
}
