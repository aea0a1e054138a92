//! The development certificate: an authority and a certificate of its own, made once where the operator gives none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

use super::TlsError;

/// The development certificate and key, made when they are not there. The authority's own key is thrown away: nothing
/// else can ever be signed by it.
pub(super) fn files(dir: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
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
