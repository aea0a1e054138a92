//! Why the control plane does not start or had to end. What one request may be told is in `rest/problem.rs`; what one
//! gateway may be told is in `grpc.rs`.

use std::{io, net::SocketAddr, path::PathBuf};

use control_api::services_tls::UnusableFile;

use crate::store::StoreError;

/// Fatal to the control plane; fit to be shown to the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Someone else listens there.
    #[error("setting `{setting}`: {address} is already in use by another process; stop it or choose another port")]
    PortTaken {
        /// As in the file.
        setting: &'static str,
        /// Which one.
        address: SocketAddr,
    },
    /// The address cannot be used for another reason.
    #[error("{setting} = {address}: cannot listen: {source}")]
    Listen {
        /// As in the file.
        setting: &'static str,
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Two control planes would fight for one state.
    #[error("{}: another control plane uses this data directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Running as root, projects get OS users of their own, and these have to get to their files.
    #[error(
        "data_dir = {}: {} cannot be passed by the projects' own OS users; allow it (chmod o+x) or choose another place",
        data_dir.display(), barrier.display()
    )]
    Barrier {
        /// The setting.
        data_dir: PathBuf,
        /// Which directory on the way is closed.
        barrier: PathBuf,
    },
    /// A file of the data directory cannot be made, read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are projects, and nothing that knows them.
    #[error(
        "{}: is gone, and {} has the files of {projects} project{}; restore it from a backup, or move those files away",
        path.display(), dir.display(), if *projects == 1 { "" } else { "s" }
    )]
    StateGone {
        /// The state's file.
        path: PathBuf,
        /// Of projects.
        dir: PathBuf,
        /// In there.
        projects: usize,
    },
    /// The state cannot be read or written.
    #[error("the control plane's state: {0}")]
    Store(#[from] StoreError),
    /// A certificate of ours cannot be used.
    #[error("control.grpc.tls: {0}")]
    Tls(#[from] UnusableFile),
    /// Two metrics of one name: a mistake of ours.
    #[error("the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A server loop ended.
    #[error("{what} ended: {source}")]
    Serve {
        /// REST or gRPC.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
