//! `mysql_native_password`: SHA1 challenge and response against SHA1(SHA1(password)).

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// Does this answer prove the password whose SHA1(SHA1(password)) is `verifier`? Takes the same time either way.
pub(super) fn verify(answer: &[u8], nonce: &[u8; 20], verifier: &[u8; 20]) -> bool {
    let mask: [u8; 20] = Sha1::new().chain_update(nonce).chain_update(verifier).finalize().into();
    let mut stage1 = [0; 20];
    for (out, (mask, byte)) in stage1
        .iter_mut()
        .zip(mask.iter().zip(answer.iter().chain(std::iter::repeat(&0))))
    {
        *out = mask ^ byte;
    }
    let stage2: [u8; 20] = Sha1::digest(stage1).into();
    bool::from(stage2.ct_eq(verifier)) && answer.len() == 20
}

/// The answer of someone who knows the password.
pub(crate) fn respond(password: &[u8], nonce: &[u8; 20]) -> [u8; 20] {
    let stage1: [u8; 20] = Sha1::digest(password).into();
    let stage2: [u8; 20] = Sha1::digest(stage1).into();
    let mask: [u8; 20] = Sha1::new().chain_update(nonce).chain_update(stage2).finalize().into();
    std::array::from_fn(|i| mask[i] ^ stage1[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(password: &str) -> [u8; 20] {
        Sha1::digest(Sha1::digest(password)).into()
    }

    #[test]
    fn the_right_password_and_nothing_else() {
        let nonce = *b"abcdefghijklmnopqrst";
        let answer = respond(b"secret", &nonce);
        assert!(verify(&answer, &nonce, &verifier("secret")));
        assert!(!verify(&answer, &nonce, &verifier("other")));
        assert!(!verify(&answer, b"another-nonce-of-20b", &verifier("secret")));
        assert!(!verify(&answer[..19], &nonce, &verifier("secret")));
        assert!(!verify(&[], &nonce, &verifier("")));
        let longer = [&answer[..], &[0]].concat();
        assert!(!verify(&longer, &nonce, &verifier("secret")));
    }
}
