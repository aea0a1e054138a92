//! The certificates of control's gRPC: paths as they stand in the settings come in, what both its server and its calls to
//! a leader present goes out. Either all three files or none.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use control_api::services_tls::{Files, Texts, UnusableFile};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ConfigError, refuse};

/// As long as a whole login of a client may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// `control.grpc.tls`: PEM files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    /// The certificate chain of this control plane, leaf first; valid for the address that gateways and other control
    /// planes use.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Who signs the certificates of gateways and of other control planes.
    pub client_ca: Option<PathBuf>,
}

/// Checked: all three are named. Read when the service starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    cert: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

/// REST has no TLS of its own.
pub(super) fn refuse_on_http(raw: &RawTls) -> Result<(), ConfigError> {
    match [&raw.cert, &raw.key, &raw.client_ca].into_iter().flatten().next() {
        None => Ok(()),
        Some(path) => Err(refuse(
            "control.http.tls",
            path.display(),
            "there is no TLS on REST; put a reverse proxy before it",
        )),
    }
}

impl TlsConfig {
    pub(super) fn check(raw: RawTls) -> Result<Option<Self>, ConfigError> {
        let missing = |setting, given: &Path| refuse(setting, "", format!("is missing beside {}", given.display()));
        match raw {
            RawTls {
                cert: Some(cert),
                key: Some(key),
                client_ca: Some(client_ca),
            } => Ok(Some(Self { cert, key, client_ca })),
            RawTls {
                cert: None,
                key: None,
                client_ca: None,
            } => Ok(None),
            RawTls { cert, key, client_ca } => {
                let given = [&cert, &key, &client_ca].into_iter().flatten().next();
                let given = given.cloned().unwrap_or_default();
                Err(match (cert, key) {
                    (None, _) => missing("control.grpc.tls.cert", &given),
                    (_, None) => missing("control.grpc.tls.key", &given),
                    _ => missing("control.grpc.tls.client_ca", &given),
                })
            }
        }
    }

    /// For gateways and for those who stand by: whoever shows no certificate of the authority is not heard.
    pub(crate) fn server(&self) -> Result<ServerTlsConfig, UnusableFile> {
        let Texts { cert, key, authority } = self.read()?;
        Ok(ServerTlsConfig::new()
            .identity(Identity::from_pem(cert, key))
            .client_ca_root(Certificate::from_pem(authority))
            .timeout(HANDSHAKE_PATIENCE))
    }

    /// For calls to the control plane that leads, which shows a certificate of the same authority.
    pub(crate) fn client(&self) -> Result<ClientTlsConfig, UnusableFile> {
        let Texts { cert, key, authority } = self.read()?;
        Ok(ClientTlsConfig::new()
            .identity(Identity::from_pem(cert, key))
            .ca_certificate(Certificate::from_pem(authority)))
    }

    /// When the first certificate of each file ends, in seconds since 1970, by the setting that names the file. A file that
    /// holds none that can be read is left out: whether it serves is decided elsewhere.
    pub(crate) fn ends(&self) -> Vec<(&'static str, i64)> {
        let files = [
            ("control.grpc.tls.cert", &self.cert),
            ("control.grpc.tls.client_ca", &self.client_ca),
        ];
        let ends = files.map(|(setting, path)| Some((setting, first_end(&std::fs::read(path).ok()?)?)));
        ends.into_iter().flatten().collect()
    }

    fn read(&self) -> Result<Texts, UnusableFile> {
        let files = Files {
            cert: &self.cert,
            key: &self.key,
            authority: &self.client_ca,
        };
        files.read(SystemTime::now())
    }
}

/// `None`: there is no certificate in it.
fn first_end(pem: &[u8]) -> Option<i64> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let ends = certificates.filter_map(|certificate| {
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        Some(parsed.validity().not_after.timestamp())
    });
    ends.min()
}

#[cfg(test)]
mod tests {
    use super::TlsConfig;
    use crate::config::{Config, RawConfig, RawListen, RawTls};

    fn grpc(listen: &str, tls: RawTls) -> Result<Config, String> {
        let grpc = RawListen {
            listen: Some(listen.into()),
            tls,
            ..RawListen::default()
        };
        let raw = RawConfig {
            grpc,
            ..RawConfig::default()
        };
        Config::check("/data".into(), raw).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_that_others_reach_needs_certificates() {
        let told = grpc("10.0.0.7:7301", RawTls::default()).unwrap_err();
        assert!(told.contains("control.grpc.tls"), "{told}");
        let all = RawTls {
            cert: Some("c".into()),
            key: Some("k".into()),
            client_ca: Some("a".into()),
        };
        assert!(grpc("10.0.0.7:7301", all).unwrap().grpc_tls.is_some());
        assert!(grpc("127.0.0.1:7301", RawTls::default()).unwrap().grpc_tls.is_none());
    }

    #[test]
    fn a_file_ends_with_the_first_of_its_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let pem = |year| {
            let mut parameters = rcgen::CertificateParams::new(["control".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            parameters.self_signed(&key).unwrap().pem()
        };
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let tls = TlsConfig {
            cert: write("cert", pem(2040) + &pem(2031)),
            key: write("key", String::new()),
            client_ca: write("ca", "none".into()),
        };
        // 2031-01-01.
        assert_eq!(tls.ends(), [("control.grpc.tls.cert", 1_924_992_000)]);
    }

    #[test]
    fn the_file_that_is_missing_is_named() {
        let only = |cert: bool, key: bool| RawTls {
            cert: cert.then(|| "c".into()),
            key: key.then(|| "k".into()),
            client_ca: Some("a".into()),
        };
        for (raw, missing) in [(only(true, false), "tls.key"), (only(false, true), "tls.cert")] {
            let told = grpc("127.0.0.1:7301", raw).unwrap_err();
            assert!(told.contains(missing), "{told}");
        }
    }
}
