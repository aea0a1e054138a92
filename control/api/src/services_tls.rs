//! The certificates by which services prove themselves to each other. In: PEM files. Out: their texts, once it is sure that
//! they can be used, or an error that names the file and says what is wrong with it; a handshake that fails later says
//! neither.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// What a service shows, and whom it believes.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// Its certificate chain, leaf first.
    pub cert: &'a Path,
    /// The key of the leaf.
    pub key: &'a Path,
    /// Who signs the certificates of the others.
    pub authority: &'a Path,
}

/// What is in the files.
pub struct Texts {
    /// See [`Files::cert`].
    pub cert: Vec<u8>,
    /// See [`Files::key`].
    pub key: Vec<u8>,
    /// See [`Files::authority`].
    pub authority: Vec<u8>,
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Texts(..)")
    }
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS file {path}: {problem}", path = path.display())]
pub struct UnusableFile {
    /// Which.
    pub path: PathBuf,
    /// What is wrong with it, in words; never anything of a key.
    pub problem: String,
}

impl Files<'_> {
    /// Reads and checks all three as of `now`.
    ///
    /// # Errors
    /// The first file that is missing, cannot be read, holds nothing of the kind, does not fit the others or is out of date.
    pub fn read(&self, now: SystemTime) -> Result<Texts, UnusableFile> {
        let texts = Texts {
            cert: read(self.cert)?,
            key: read(self.key)?,
            authority: read(self.authority)?,
        };
        let chain = certificates(self.cert, &texts.cert)?;
        if parsed(self.cert, &chain[0])?.version() != X509Version::V3 {
            return Err(unusable(self.cert, OF_AN_OLD_VERSION));
        }
        in_date(self.cert, &chain[..1], now)?;
        let key = PrivateKeyDer::from_pem_slice(&texts.key)
            .map_err(|_| unusable(self.key, "holds no private key in PEM form, or a damaged one"))?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                unusable(self.key, format!("is not the key of {}", self.cert.display()))
            }
            // Of a key nothing is repeated.
            _ => unusable(self.key, "holds a key that cannot be used"),
        })?;
        let roots = certificates(self.authority, &texts.authority)?;
        in_date(self.authority, &roots, now)?;
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(|error| {
                unusable(
                    self.authority,
                    format!("holds a certificate that cannot be used: {error}"),
                )
            })?;
        }
        Ok(texts)
    }
}

fn unusable(path: &Path, problem: impl Into<String>) -> UnusableFile {
    UnusableFile {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, UnusableFile> {
    std::fs::read(path).map_err(|error| unusable(path, error.to_string()))
}

/// At least one.
fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, UnusableFile> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| unusable(path, format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(unusable(path, "holds no certificate in PEM form"));
    }
    for der in &found {
        parsed(path, der)?;
    }
    Ok(found)
}

/// What is wrong with a certificate of X.509 version 1 or 2, and how to come by another: for people.
pub const OF_AN_OLD_VERSION: &str = "holds a certificate of X.509 version 1, which has no place for the names that it is for, and TLS takes \
     version 3 only: sign it again with extensions (`openssl x509 -req ... -extfile FILE`, in FILE a line such as \
     `subjectAltName = DNS:db.example.org`)";

fn parsed<'a>(path: &Path, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, UnusableFile> {
    X509Certificate::from_der(der)
        .map(|(_, parsed)| parsed)
        .map_err(|_| unusable(path, "holds a damaged certificate"))
}

/// Any of them: authorities follow each other in one file.
fn in_date(path: &Path, any_of: &[CertificateDer<'_>], now: SystemTime) -> Result<(), UnusableFile> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut problem = String::new();
    for der in any_of {
        let parsed = parsed(path, der)?;
        let validity = parsed.validity();
        if now > validity.not_after.timestamp() {
            problem = format!("its certificate has expired on {}", validity.not_after);
        } else if now < validity.not_before.timestamp() {
            problem = format!("its certificate is valid from {} on only", validity.not_before);
        } else {
            return Ok(());
        }
    }
    Err(unusable(path, problem))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    /// Of an authority, of a service, and its key.
    fn made(years: [i32; 2]) -> [String; 3] {
        let params = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_before = date_time_ymd(years[0], 1, 1);
            params.not_after = date_time_ymd(years[1], 1, 1);
            params
        };
        let mut authority = params("ca");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let ca = authority.self_signed(&ca_key).unwrap();
        let leaf = params("service")
            .signed_by(&key, &Issuer::new(authority, ca_key))
            .unwrap();
        [ca.pem(), leaf.pem(), key.serialize_pem()]
    }

    /// As `openssl x509 -req` makes it without extensions; good for a hundred years.
    const VERSION_1: &str = include_str!("services_tls/version1.pem");
    const CERT: &str = "cert.pem";
    const KEY: &str = "cert.key";
    const AUTHORITY: &str = "ca.pem";
    const LASTING: [i32; 2] = [2020, 2090];

    /// Names of files, and what is in them instead; nothing: they are not there.
    type Exchanged<'a> = [(&'a str, Option<&'a [u8]>)];

    /// What is said of good files, of which some are exchanged; nothing: they serve.
    fn told(exchanged: &Exchanged<'_>) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let [ca, cert, key] = made(LASTING);
        for (name, text) in [(CERT, cert), (KEY, key), (AUTHORITY, ca)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        for (name, text) in exchanged {
            let path = dir.path().join(name);
            match text {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
        }
        let [cert, key, authority] = [CERT, KEY, AUTHORITY].map(|name| dir.path().join(name));
        let files = Files {
            cert: &cert,
            key: &key,
            authority: &authority,
        };
        let refused = files.read(SystemTime::now()).err()?;
        // Each error is of one file, and a line.
        let text = refused.to_string();
        assert_eq!(
            (text.lines().count(), refused.path.starts_with(dir.path())),
            (1, true),
            "{text}"
        );
        Some(text)
    }

    #[test]
    fn good_files_serve_and_so_does_an_authority_that_follows_an_expired_one() {
        assert_eq!(told(&[]), None);
        let ([old, ..], [new, ..]) = (made([2001, 2002]), made(LASTING));
        assert_eq!(told(&[(AUTHORITY, Some((old + &new).as_bytes()))]), None);
    }

    #[test]
    fn whatever_is_wrong_the_file_is_named_with_what_is_wrong_with_it() {
        let [_, other_cert, other_key] = made(LASTING);
        let [old_ca, old_cert, old_key] = made([2001, 2002]);
        let [_, early_cert, early_key] = made([2080, 2090]);
        let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".as_slice();
        let cut = &other_key.as_bytes()[..other_key.len() / 2];
        let old = [(CERT, Some(old_cert.as_bytes())), (KEY, Some(old_key.as_bytes()))];
        let early = [(CERT, Some(early_cert.as_bytes())), (KEY, Some(early_key.as_bytes()))];
        let cases: [(&Exchanged<'_>, &str, &str); 15] = [
            (&[(CERT, Some(VERSION_1.as_bytes()))], CERT, "version 1"),
            (&[(CERT, None)], CERT, "No such file"),
            (&[(KEY, None)], KEY, "No such file"),
            (&[(AUTHORITY, None)], AUTHORITY, "No such file"),
            (&[(CERT, Some(b"\xff\x00garbage"))], CERT, "holds no certificate"),
            (&[(KEY, Some(b"\xff\x00garbage"))], KEY, "holds no private key"),
            (&[(AUTHORITY, Some(b""))], AUTHORITY, "holds no certificate"),
            (&[(CERT, Some(damaged))], CERT, "damaged"),
            (&[(AUTHORITY, Some(damaged))], AUTHORITY, "damaged"),
            (&[(KEY, Some(cut))], KEY, "holds no private key"),
            (&[(KEY, Some(other_key.as_bytes()))], KEY, "is not the key of"),
            (&[(CERT, Some(other_cert.as_bytes()))], KEY, "is not the key of"),
            (&old, CERT, "has expired on"),
            (&early, CERT, "is valid from"),
            (&[(AUTHORITY, Some(old_ca.as_bytes()))], AUTHORITY, "has expired on"),
        ];
        for (exchanged, file, problem) in cases {
            let told = told(exchanged).unwrap_or_else(|| panic!("{file} {problem}: it serves"));
            assert!(
                told.contains(&format!("{file}: ")) && told.contains(problem),
                "{file} {problem}: {told}"
            );
        }
    }
}
