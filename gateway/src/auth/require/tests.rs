use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, Issuer, KeyPair};
use rustls::CipherSuite;
use rustls::pki_types::CertificateDer;

use super::*;
use crate::route::access::Specified;

/// OpenSSL's X509_NAME_oneline of what [`certificate`] makes, of OpenSSL 3.0.
const SUBJECT: &str = r"/C=FI/O=a\/b\+c/OU=S\xC3\xA4hk\xC3\xB6/CN=app/emailAddress=app@example.org/1.2.3.4=x";
const ISSUER: &str = "/CN=Clients' CA";

fn certificate() -> CertificateDer<'static> {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name = DistinguishedName::new();
    ca.distinguished_name.push(DnType::CommonName, "Clients' CA");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(DnType::CountryName, DnValue::PrintableString("FI".try_into().unwrap()));
    name.push(DnType::OrganizationName, "a/b+c");
    name.push(DnType::OrganizationalUnitName, "Sähkö");
    name.push(DnType::CommonName, "app");
    let email = DnType::from_oid(&[1, 2, 840, 113_549, 1, 9, 1]);
    name.push(email, DnValue::Ia5String("app@example.org".try_into().unwrap()));
    name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "x");
    params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().der().clone()
}

fn specified(cipher: Option<&str>, issuer: Option<&str>, subject: Option<&str>) -> Require {
    Require::Specified(Box::new(Specified {
        cipher: cipher.map(Into::into),
        issuer: issuer.map(Into::into),
        subject: subject.map(Into::into),
    }))
}

#[test]
fn what_an_account_requires_is_met_as_mariadb_says() {
    let certificate = certificate();
    let cipher = Some(CipherSuite::TLS13_AES_256_GCM_SHA384);
    let plain = None;
    let tls = Some(Shown {
        certificate: None,
        cipher,
    });
    let shown = Some(Shown {
        certificate: Some(&certificate),
        cipher,
    });
    let suite = Some("TLS_AES_256_GCM_SHA384");
    // Without TLS, inside it, with a certificate.
    for (require, met) in [
        (Require::Nothing, [true, true, true]),
        (Require::Tls, [false, true, true]),
        (Require::Certificate, [false, false, true]),
        (specified(None, None, None), [false, true, true]),
        (specified(suite, None, None), [false, true, true]),
        (
            specified(Some("TLS_AES_128_GCM_SHA256"), None, None),
            [false, false, false],
        ),
        (specified(None, None, Some(SUBJECT)), [false, false, true]),
        (specified(None, None, Some("/C=FI")), [false, false, false]),
        (specified(None, None, Some(ISSUER)), [false, false, false]),
        (specified(None, Some(ISSUER), None), [false, false, true]),
        (specified(None, Some(SUBJECT), None), [false, false, false]),
        (specified(suite, Some(ISSUER), Some(SUBJECT)), [false, false, true]),
        (specified(suite, Some(ISSUER), Some("/CN=other")), [false, false, false]),
        (
            specified(suite, Some("/CN=other"), Some(SUBJECT)),
            [false, false, false],
        ),
        (
            specified(Some("other"), Some(ISSUER), Some(SUBJECT)),
            [false, false, false],
        ),
    ] {
        let seen = [plain, tls, shown].map(|shown| is_met(&require, shown));
        assert_eq!(seen, met, "{require:?}");
    }
}
