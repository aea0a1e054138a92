//! Certificate authorities and certificates of tests' own, as PEM files in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// PEM file with the certificate.
    pub cert: PathBuf,
    /// PEM file with the key.
    pub key: PathBuf,
}

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// PEM file with its own certificate.
    pub file: PathBuf,
}

impl Authority {
    /// Makes one with this common name, and `NAME.pem` in `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = dir.join(format!("{name}.pem"));
        fs::write(&file, certificate.pem()).expect("a certificate file");
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// Writes `NAME.pem` and `NAME.key` into `dir`, over what is there: a certificate with this common name, for these
    /// servers.
    pub fn issue(&self, dir: &Path, name: &str, servers: &[&str]) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(name, servers)
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        let identity = Identity {
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        fs::write(&identity.cert, certificate.pem()).expect("a certificate file");
        fs::write(&identity.key, key.serialize_pem()).expect("a key file");
        identity
    }
}

fn params(name: &str, servers: &[&str]) -> CertificateParams {
    let servers: Vec<_> = servers.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(servers).expect("server names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
