//! `client_ed25519`: the client signs 32 random bytes with a key that MariaDB makes of the password; the account has the
//! public one.

use ed25519_dalek::hazmat::ExpandedSecretKey;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha512};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::vouch::Shared;
use super::{AuthError, ED25519, Proof, Verifiers, switch_to};
use crate::stream::ClientStream;

/// A public key.
pub(crate) type Key = [u8; 32];

/// The whole exchange, from the switch on.
pub(super) async fn exchange(
    stream: &mut ClientStream,
    sequence: &mut u8,
    verifiers: &Verifiers,
) -> Result<Proof, AuthError> {
    // Not the greeting's nonce: that is shorter, and MariaDB's client takes 32 bytes without an end.
    let nonce: [u8; 32] = rand::random();
    let answer = switch_to(stream, sequence, ED25519, &nonce).await?;
    Ok(check(&answer, &nonce, &verifiers.ed25519))
}

fn check(answer: &[u8], nonce: &[u8; 32], keys: &[Key]) -> Proof {
    if answer.is_empty() {
        return Proof::NoPassword;
    }
    let Ok(signature) = Signature::from_slice(answer) else {
        return Proof::Wrong;
    };
    let signed_by = |key: &&Key| {
        let key = VerifyingKey::from_bytes(key);
        key.is_ok_and(|key| key.verify_strict(nonce, &signature).is_ok())
    };
    match keys.iter().find(signed_by) {
        Some(key) => Proof::Right(Shared::Ed25519(*key)),
        None => Proof::Wrong,
    }
}

/// Is this the password that one of the keys was made of?
pub(super) fn is_password(password: &[u8], keys: &[Key]) -> Choice {
    let key = key_of(password);
    keys.iter()
        .fold(Choice::from(0), |right, known| right | key.ct_eq(known))
}

/// The public key that MariaDB makes of a password.
pub(super) fn key_of(password: &[u8]) -> Key {
    let secret = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(password)));
    VerifyingKey::from(&ExpandedSecretKey::from_bytes(&secret)).to_bytes()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::hazmat::raw_sign;

    use super::*;

    fn sign(password: &str, nonce: &[u8; 32]) -> Vec<u8> {
        let secret = ExpandedSecretKey::from_bytes(&Sha512::digest(password).into());
        let public = VerifyingKey::from(&secret);
        raw_sign::<Sha512>(&secret, nonce, &public).to_bytes().to_vec()
    }

    /// The one of MariaDB's documents of the plugin.
    #[test]
    fn the_key_of_a_password_is_the_one_that_mariadb_makes() {
        let hex: String = key_of(b"secret").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "648814444520e4f56043a2ec9215e63be7992d2d270bc6dee873e36164786096");
    }

    #[test]
    fn the_right_key_and_nothing_else() {
        let nonce = [7; 32];
        let (right, other) = (key_of(b"secret"), key_of(b"other"));
        let answer = sign("secret", &nonce);
        let proves = |answer: &[u8], nonce, keys: &[Key]| matches!(check(answer, nonce, keys), Proof::Right(_));
        assert!(proves(&answer, &nonce, &[right]));
        assert!(proves(&answer, &nonce, &[other, right]));
        assert!(!proves(&answer, &nonce, &[other]));
        assert!(!proves(&answer, &nonce, &[]));
        assert!(!proves(&answer, &[8; 32], &[right]));
        assert!(!proves(&answer[..63], &nonce, &[right]));
        assert!(!proves(&[&answer[..], &[0]].concat(), &nonce, &[right]));
        assert!(!proves(&[0; 64], &nonce, &[[0; 32]]), "a key of small order");
        assert!(matches!(check(&[], &nonce, &[right]), Proof::NoPassword));
    }

    #[test]
    fn the_password_itself_is_checked_against_every_key() {
        let keys = [key_of(b"one"), key_of(b"two")];
        assert!(bool::from(is_password(b"two", &keys)));
        assert!(!bool::from(is_password(b"three", &keys)));
        assert!(!bool::from(is_password(b"three", &[])));
    }
}
