//! `caching_sha2_password`: SHA256 challenge and response; where that fails inside TLS, the password itself.

use mysql_wire::auth::AuthMoreData;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::throttle::Attempt;
use super::vouch::Shared;
use super::{AuthError, CACHING_SHA2, Proof, Verifiers, ed25519, ended, read_answer, switch_to};
use crate::handshake::write_packet;
use crate::stream::ClientStream;

/// AuthMoreData: the answer was right.
const FAST_AUTH_OK: u8 = 3;
/// AuthMoreData: send the password, in the clear, inside TLS.
const FULL_AUTH: u8 = 4;

/// The whole exchange, from the switch on. A mismatch inside TLS asks for the password, because real drivers send a
/// scramble of the wrong order (sqlx until 2026) and real servers then ask; in the clear it is a refusal.
pub(super) async fn exchange(
    stream: &mut ClientStream,
    sequence: &mut u8,
    nonce: &[u8; 20],
    verifiers: &Verifiers,
    attempt: &mut Attempt<'_>,
) -> Result<Proof, AuthError> {
    let answer = switch_to(stream, sequence, CACHING_SHA2, &ended(nonce)).await?;
    // No password is one NUL inside TLS, or nothing at all.
    if matches!(answer.as_slice(), [] | [0]) {
        return Ok(Proof::NoPassword);
    }
    // Judged before the client hears of it, and again where it answers a second time.
    if attempt.judge(verify(&answer, nonce, &verifiers.caching_sha2), Instant::now()) {
        write_packet(stream, sequence, &AuthMoreData { data: &[FAST_AUTH_OK] }.encode()).await?;
        return Ok(Proof::Right(Shared::Nothing));
    }
    if !stream.is_tls() {
        return Ok(Proof::Wrong);
    }
    write_packet(stream, sequence, &AuthMoreData { data: &[FULL_AUTH] }.encode()).await?;
    let password = Zeroizing::new(read_answer(stream, sequence).await?);
    let password = password.strip_suffix(&[0]).unwrap_or(&password);
    Ok(if attempt.judge(check_password(password, verifiers), Instant::now()) {
        Proof::Right(Shared::Nothing)
    } else {
        Proof::Wrong
    })
}

/// Does this answer prove the password whose SHA256(SHA256(password)) is `verifier`?
fn verify(answer: &[u8], nonce: &[u8; 20], verifier: &[u8; 32]) -> bool {
    let mask: [u8; 32] = Sha256::new()
        .chain_update(verifier)
        .chain_update(nonce)
        .finalize()
        .into();
    let mut stage1 = [0; 32];
    for (out, (mask, byte)) in stage1
        .iter_mut()
        .zip(mask.iter().zip(answer.iter().chain(std::iter::repeat(&0))))
    {
        *out = mask ^ byte;
    }
    let stage2: [u8; 32] = Sha256::digest(stage1).into();
    bool::from(stage2.ct_eq(verifier)) && answer.len() == 32
}

/// Every verifier serves: an account made with a native hash or a key only has no SHA256 one.
pub(super) fn check_password(password: &[u8], verifiers: &Verifiers) -> bool {
    let native: [u8; 20] = Sha1::digest(Sha1::digest(password)).into();
    let sha2: [u8; 32] = Sha256::digest(Sha256::digest(password)).into();
    let more = verifiers.more_native.iter();
    let natives = more.fold(native.ct_eq(&verifiers.native), |right, verifier| {
        right | native.ct_eq(verifier)
    });
    let keys = ed25519::is_password(password, &verifiers.ed25519);
    let right = natives | sha2.ct_eq(&verifiers.caching_sha2) | keys;
    bool::from(right) && !password.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifiers(password: &str) -> Verifiers {
        Verifiers {
            native: Sha1::digest(Sha1::digest(password)).into(),
            caching_sha2: Sha256::digest(Sha256::digest(password)).into(),
            more_native: Vec::new(),
            ed25519: Vec::new(),
            known: true,
        }
    }

    fn respond(password: &str, nonce: &[u8; 20]) -> Vec<u8> {
        let stage1: [u8; 32] = Sha256::digest(password).into();
        let stage2 = Sha256::digest(stage1);
        let mask = Sha256::new().chain_update(stage2).chain_update(nonce).finalize();
        stage1.iter().zip(mask).map(|(a, b)| a ^ b).collect()
    }

    #[test]
    fn the_right_password_and_nothing_else() {
        let nonce = *b"abcdefghijklmnopqrst";
        let answer = respond("secret", &nonce);
        assert!(verify(&answer, &nonce, &verifiers("secret").caching_sha2));
        assert!(!verify(&answer, &nonce, &verifiers("other").caching_sha2));
        assert!(!verify(&answer[..31], &nonce, &verifiers("secret").caching_sha2));
    }

    #[test]
    fn the_password_itself_is_checked_against_either_verifier() {
        let mut stored = verifiers("secret");
        assert!(check_password(b"secret", &stored));
        stored.caching_sha2 = [0; 32];
        assert!(check_password(b"secret", &stored));
        stored.native = [0; 20];
        assert!(!check_password(b"secret", &stored));
        stored.ed25519 = vec![ed25519::key_of(b"secret")];
        assert!(check_password(b"secret", &stored));
        assert!(!check_password(b"other", &stored));
        assert!(!check_password(b"", &verifiers("")));
    }
}
