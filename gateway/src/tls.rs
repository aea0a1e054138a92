//! TLS towards clients: who must use it, which certificate, and the upgrade in the middle of the handshake.
//!
//! In: certificate files, or none (then a development certificate authority and certificate are made once). Out:
//! [`Certificates`], which `handshake` hands the stream to after an SSLRequest: everything after it goes to rustls and
//! nothing else.

mod certificates;
mod development;
mod shown;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

pub(crate) use certificates::{Certificates, Ends, Fingerprint, first_end};
pub(crate) use shown::Shown;

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) mode: Mode,
    /// For clients that name no server, or one that no other certificate is for.
    pub(crate) source: Source,
    pub(crate) named: Vec<Named>,
    /// Who vouches for clients; None: no client is asked for a certificate.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Who may log in without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only clients on this machine.
    Required,
    /// Everybody, but for accounts that REQUIRE it.
    Optional,
}

impl Mode {
    /// May a client of this address go on without TLS? A loopback address says nothing of a client that came through a
    /// proxy: the clear text has then crossed a network before it came here.
    pub(crate) fn admits_plain(self, peer: IpAddr, via_proxy: bool) -> bool {
        match self {
            Self::Optional => true,
            // A listener on `::` sees 127.0.0.1 as ::ffff:127.0.0.1.
            Self::Required => !via_proxy && peer.to_canonical().is_loopback(),
        }
    }
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Files of the operator.
    Operator { cert: PathBuf, key: PathBuf },
    /// A development certificate kept in this directory; made when it is not there.
    Development { dir: PathBuf },
}

impl Source {
    /// The certificate authority to give to clients; operators have their own.
    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        match self {
            Self::Operator { .. } => None,
            Self::Development { dir } => Some(dir.join("ca.pem")),
        }
    }
}

/// A certificate for clients that name a certain server (SNI).
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Empty: the names in the certificate.
    pub(crate) names: Vec<String>,
}

/// Why there is no TLS to offer.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("TLS file {path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("TLS file {path}: {problem}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Certificate and key do not serve together.
    #[error("the certificate {cert} and its key cannot be used: {source}", cert = cert.display())]
    Unusable {
        /// The certificate file.
        cert: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// rustls cannot be set up at all.
    #[error("setting TLS up: {0}")]
    SettingUp(#[from] rustls::Error),
    /// The development certificate could not be made.
    #[error("making the development certificate: {0}")]
    Making(#[from] rcgen::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_peer_on_this_machine_that_no_proxy_speaks_for_goes_without_tls() {
        let admits = |mode: Mode, peer: &str, via_proxy| mode.admits_plain(peer.parse().unwrap(), via_proxy);
        for here in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            assert!(admits(Mode::Required, here, false), "{here}");
            assert!(!admits(Mode::Required, here, true), "{here} through a proxy");
        }
        let elsewhere = [
            "192.0.2.7",
            "10.0.0.1",
            "0.0.0.0",
            "169.254.1.1",
            "fe80::1",
            "2001:db8::1",
            "::ffff:192.0.2.7",
        ];
        for elsewhere in elsewhere {
            assert!(!admits(Mode::Required, elsewhere, false), "{elsewhere}");
            assert!(admits(Mode::Optional, elsewhere, false), "{elsewhere}");
        }
        assert!(admits(Mode::Optional, "127.0.0.1", true));
    }
}
