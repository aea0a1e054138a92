//! REQUIRE of an account against the client's TLS, as MariaDB checks it.

use crate::route::Require;
use crate::tls::Shown;

/// Whether a client whose TLS shows this meets it; None: it came without TLS.
pub(super) fn is_met(require: &Require, shown: Option<Shown<'_>>) -> bool {
    let specified = match (require, shown) {
        (Require::Nothing, _) | (Require::Tls, Some(_)) => return true,
        (_, None) => return false,
        (Require::Certificate, Some(shown)) => return shown.certificate.is_some(),
        (Require::Specified(specified), Some(shown)) => (specified, shown),
    };
    let (specified, shown) = specified;
    if specified
        .cipher
        .as_deref()
        .is_some_and(|cipher| shown.cipher() != Some(cipher))
    {
        return false;
    }
    if specified.issuer.is_none() && specified.subject.is_none() {
        return true;
    }
    let Some((subject, issuer)) = shown.subject_and_issuer() else {
        return false;
    };
    let is = |wanted: &Option<Box<str>>, shown: &str| wanted.as_deref().is_none_or(|wanted| wanted == shown);
    is(&specified.issuer, &issuer) && is(&specified.subject, &subject)
}

#[cfg(test)]
mod tests;
