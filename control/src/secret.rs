//! Passwords, keys and tokens: how they are made, and what is kept of them. A password goes in, its verifiers come out
//! and it is forgotten; of an API key only the hash is kept. Nothing here has a Debug that shows anything.

use std::fmt;

use sha1::{Digest, Sha1};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What the gateway and the server need to check a password, and nothing to log in with elsewhere by itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifiers {
    /// SHA1(SHA1(password)).
    pub(crate) native_sha1: [u8; 20],
    /// SHA256(SHA256(password)).
    pub(crate) caching_sha2: [u8; 32],
}

impl Verifiers {
    pub(crate) fn of(password: &Password) -> Self {
        Self {
            native_sha1: Sha1::digest(Sha1::digest(password.0.as_bytes())).into(),
            caching_sha2: Sha256::digest(Sha256::digest(password.0.as_bytes())).into(),
        }
    }
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifiers(redacted)")
    }
}

/// A password in the clear, as short-lived as can be.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Password(String);

/// Why a password was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("the password is empty; leave it out to have one generated")]
    Empty,
    #[error("the password is longer than {} bytes", Password::BYTES_MAX)]
    TooLong,
    #[error("the password holds a zero byte, which ends a password in the MySQL protocol")]
    Zero,
}

impl Password {
    /// What a client may send in one handshake packet without trouble.
    const BYTES_MAX: usize = 256;

    pub(crate) fn new(text: String) -> Result<Self, PasswordError> {
        let password = Self(text);
        match password.0.as_bytes() {
            [] => Err(PasswordError::Empty),
            bytes if bytes.len() > Self::BYTES_MAX => Err(PasswordError::TooLong),
            bytes if bytes.contains(&0) => Err(PasswordError::Zero),
            _ => Ok(password),
        }
    }

    /// 24 letters and digits: 142 bits, and nothing that a shell, an option file or a URL would quote.
    pub(crate) fn generate() -> Self {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        Self(
            (0..24)
                .map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]))
                .collect(),
        )
    }

    /// To tell it once to who asked for it.
    pub(crate) fn reveal(&self) -> String {
        self.0.clone()
    }
}

/// 32 random bytes as text that says what it is: `selkie_key_...`, `selkie_gateway_...`.
pub(crate) fn random_token(prefix: &str) -> String {
    format!("selkie_{prefix}_{}", hex(&rand::random::<[u8; 32]>()))
}

/// What is kept of an API key. One round suffices: a key is 256 random bits, not a word that can be guessed.
pub(crate) fn key_hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The gateway's password on every account of one incarnation.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct GatewaySecret([u8; 32]);

impl GatewaySecret {
    pub(crate) fn generate() -> Self {
        Self(rand::random())
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let bytes = unhex(text)?;
        Some(Self(bytes.try_into().ok()?))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for GatewaySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewaySecret(redacted)")
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers_are_what_the_server_stores() {
        // SELECT PASSWORD('secret') on MariaDB 10.11 without the leading star; the other by sha256sum twice.
        let verifiers = Verifiers::of(&Password::new("secret".into()).unwrap());
        assert_eq!(hex(&verifiers.native_sha1), "14e65567abdb5135d0cfd9a70b3032c179a49ee7");
        assert_eq!(
            hex(&verifiers.caching_sha2),
            hex(&Sha256::digest(Sha256::digest(b"secret")))
        );
    }

    #[test]
    fn refuses_passwords_that_cannot_be_sent() {
        let refused = |text: &str| Password::new(text.into()).err();
        assert_eq!(refused(""), Some(PasswordError::Empty));
        assert_eq!(refused(&"x".repeat(257)), Some(PasswordError::TooLong));
        assert_eq!(refused("a\0b"), Some(PasswordError::Zero));
        assert_eq!(refused("p w'\"\\"), None);
    }

    #[test]
    fn generated_secrets_differ_and_survive_hex() {
        assert_ne!(Password::generate().reveal(), Password::generate().reveal());
        assert_eq!(Password::generate().reveal().len(), 24);
        let secret = GatewaySecret::generate();
        assert_eq!(GatewaySecret::from_hex(&secret.hex()).unwrap().bytes(), secret.bytes());
        assert!(GatewaySecret::from_hex("zz").is_none());
        assert!(GatewaySecret::from_hex("é").is_none());
    }
}
