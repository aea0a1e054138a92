//! What a client's TLS shows of it, in the words that MariaDB compares REQUIRE with: OpenSSL's.

use std::time::SystemTime;

use rustls::CipherSuite;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

/// A client inside TLS. A certificate that is here has been verified in a handshake, and has not ended since.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) certificate: Option<&'a CertificateDer<'static>>,
    pub(crate) cipher: Option<CipherSuite>,
}

impl<'a> Shown<'a> {
    /// Whoever resumes by a ticket is known by the certificate of the first handshake, and is given further tickets each time: so
    /// it could be shown for ever after its end.
    pub(crate) fn now(chain: Option<&'a [CertificateDer<'static>]>, cipher: Option<CipherSuite>) -> Self {
        Self {
            certificate: chain
                .and_then(<[_]>::first)
                .filter(|certificate| is_valid_now(certificate)),
            cipher,
        }
    }

    /// OpenSSL's name of the cipher.
    pub(crate) fn cipher(&self) -> Option<&'static str> {
        Some(match self.cipher? {
            CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
            CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
            _ => return None,
        })
    }

    /// Whom the certificate is for, and by whom.
    pub(crate) fn subject_and_issuer(&self) -> Option<(String, String)> {
        let (_, parsed) = X509Certificate::from_der(self.certificate?).ok()?;
        Some((oneline(parsed.subject()), oneline(parsed.issuer())))
    }
}

/// By this machine's clock.
fn is_valid_now(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since_1970.ok().and_then(|now| i64::try_from(now.as_secs()).ok());
    let now = now.and_then(|now| ASN1Time::from_timestamp(now).ok());
    now.is_some_and(|now| parsed.validity().is_valid_at(now))
}

/// As OpenSSL's X509_NAME_oneline: `/C=FI/O=Example/CN=app`.
fn oneline(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for names in name.iter_rdn() {
        for (at, attribute) in names.iter().enumerate() {
            text.push(if at == 0 { '/' } else { '+' });
            let id = attribute.attr_type().to_id_string();
            text.push_str(short_name(&id).unwrap_or(&id));
            text.push('=');
            for byte in attribute.attr_value().data {
                match byte {
                    b'/' | b'+' => text.extend(['\\', char::from(*byte)]),
                    b' '..=b'~' => text.push(char::from(*byte)),
                    _ => text.push_str(&format!("\\x{byte:02X}")),
                }
            }
        }
    }
    text
}

/// OpenSSL's short names of what certificates are named by.
fn short_name(id: &str) -> Option<&'static str> {
    Some(match id {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.13" => "description",
        "2.5.4.15" => "businessCategory",
        "2.5.4.17" => "postalCode",
        "2.5.4.41" => "name",
        "2.5.4.42" => "GN",
        "2.5.4.43" => "initials",
        "2.5.4.44" => "generationQualifier",
        "2.5.4.45" => "x500UniqueIdentifier",
        "2.5.4.46" => "dnQualifier",
        "2.5.4.65" => "pseudonym",
        "2.5.4.97" => "organizationIdentifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "1.2.840.113549.1.9.2" => "unstructuredName",
        "1.3.6.1.4.1.311.60.2.1.1" => "jurisdictionL",
        "1.3.6.1.4.1.311.60.2.1.2" => "jurisdictionST",
        "1.3.6.1.4.1.311.60.2.1.3" => "jurisdictionC",
        _ => return None,
    })
}
