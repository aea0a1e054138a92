//! The gateway's proof to a client that cannot verify our certificate.
//!
//! MariaDB's clients of 11.4 and later verify certificates without being asked to. One that no authority they know has
//! signed they take all the same where the login's OK shows that whoever sent it knows what the password is proven by *and*
//! has the certificate that the client was shown: somebody in between has another one.

use sha2::{Digest, Sha256};

use crate::tls::Fingerprint;

/// What both sides have of the password, by the client's plugin.
#[derive(Clone, Copy)]
pub(super) enum Shared {
    /// SHA1(SHA1(password)).
    Native([u8; 20]),
    /// The public key.
    Ed25519([u8; 32]),
    /// The plugin makes no hash that a server would have.
    Nothing,
}

/// The text of the OK: 0x01 and, in upper-case hex, SHA256(what both have + the greeting's nonce + fingerprint). Empty where
/// nothing can be shown.
pub(super) fn text(shared: Shared, nonce: &[u8; 20], fingerprint: Option<&Fingerprint>) -> Vec<u8> {
    let hash = match &shared {
        Shared::Native(hash) => &hash[..],
        Shared::Ed25519(key) => key,
        Shared::Nothing => return Vec::new(),
    };
    let Some(fingerprint) = fingerprint else {
        return Vec::new();
    };
    let digest = Sha256::new()
        .chain_update(hash)
        .chain_update(nonce)
        .chain_update(fingerprint)
        .finalize();
    let hex = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex = hex.map(|digit| b"0123456789ABCDEF"[usize::from(digit)]);
    std::iter::once(1).chain(hex).collect()
}
