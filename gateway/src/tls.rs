//! TLS towards clients: who must use it, which certificate, and the upgrade in the middle of the handshake.
//!
//! In: certificate files, or none (then a development certificate authority and certificate are made once). Out: an
//! acceptor that `handshake` calls after an SSLRequest. Everything after the SSLRequest goes to rustls and nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) mode: Mode,
    pub(crate) source: Source,
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
    /// The development certificate could not be made.
    #[error("making the development certificate: {0}")]
    Making(#[from] rcgen::Error),
}

/// Reads (or makes) the certificate and builds the acceptor. Called once, at start.
pub(crate) fn acceptor(source: &Source) -> Result<TlsAcceptor, TlsError> {
    let (cert_file, key_file) = match source {
        Source::Operator { cert, key } => (cert.clone(), key.clone()),
        Source::Development { dir } => development_files(dir)?,
    };
    let chain = CertificateDer::pem_file_iter(&cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(&cert_file, &e))?;
    if chain.is_empty() {
        return Err(TlsError::Content {
            path: cert_file,
            problem: "holds no certificate".into(),
        });
    }
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(|e| unreadable(&key_file, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|source| TlsError::Unusable {
            cert: cert_file,
            source,
        })?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn unreadable(path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

/// The development certificate and key, made when they are not there. The authority's own key is thrown away: nothing
/// else can ever be signed by it.
fn development_files(dir: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let (ca, cert, key) = (dir.join("ca.pem"), dir.join("cert.pem"), dir.join("key.pem"));
    if ca.exists() && cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    std::fs::create_dir_all(dir).map_err(|source| TlsError::File {
        path: dir.to_owned(),
        source,
    })?;
    let ca_key = KeyPair::generate()?;
    let mut ca_params = CertificateParams::new(Vec::<String>::new())?;
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca_params
        .distinguished_name
        .push(DnType::CommonName, "Selkie development CA");
    let ca_certificate = ca_params.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca_params, ca_key);

    let leaf_key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()])?;
    leaf.subject_alt_names
        .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    leaf.subject_alt_names
        .push(SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    leaf.distinguished_name
        .push(DnType::CommonName, "Selkie development gateway");
    let certificate = leaf.signed_by(&leaf_key, &issuer)?;

    write(&key, leaf_key.serialize_pem().as_bytes(), 0o600)?;
    write(&cert, certificate.pem().as_bytes(), 0o644)?;
    write(&ca, ca_certificate.pem().as_bytes(), 0o644)?;
    Ok((cert, key))
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), TlsError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let written = options.open(path).and_then(|mut file| {
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        io::Write::write_all(&mut file, content)
    });
    written.map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_certificate_is_made_once_and_kept() {
        let dir = std::env::temp_dir().join(format!("selkie-tls-{}", rand::random::<u64>()));
        let source = Source::Development { dir: dir.clone() };
        acceptor(&source).unwrap();
        let first = std::fs::read(dir.join("cert.pem")).unwrap();
        acceptor(&source).unwrap();
        assert_eq!(std::fs::read(dir.join("cert.pem")).unwrap(), first);
        let mode = std::fs::metadata(dir.join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn only_a_peer_on_this_machine_that_no_proxy_speaks_for_goes_without_tls() {
        let admits = |mode: Mode, peer: &str, via_proxy| mode.admits_plain(peer.parse().unwrap(), via_proxy);
        for here in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            assert!(admits(Mode::Required, here, false), "{here}");
            assert!(!admits(Mode::Required, here, true), "{here} through a proxy");
        }
        for elsewhere in [
            "192.0.2.7",
            "10.0.0.1",
            "0.0.0.0",
            "169.254.1.1",
            "fe80::1",
            "2001:db8::1",
            "::ffff:192.0.2.7",
        ] {
            assert!(!admits(Mode::Required, elsewhere, false), "{elsewhere}");
            assert!(admits(Mode::Optional, elsewhere, false), "{elsewhere}");
        }
        assert!(admits(Mode::Optional, "127.0.0.1", true));
    }

    #[test]
    fn a_certificate_that_is_not_one_is_named() {
        let source = Source::Operator {
            cert: "/dev/null".into(),
            key: "/dev/null".into(),
        };
        let Err(error) = acceptor(&source) else {
            panic!("accepted")
        };
        assert!(error.to_string().contains("/dev/null"), "{error}");
    }
}
