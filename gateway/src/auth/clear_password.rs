//! `mysql_clear_password`, inside TLS only: the client sends the password itself, which is checked against all that the account
//! has of it and forgotten.

use zeroize::Zeroizing;

use super::vouch::Shared;
use super::{AuthError, CLEAR, Proof, Verifiers, caching_sha2, switch_to};
use crate::stream::ClientStream;

/// `sent` is what came with the login packet: the password, or nothing from a client that waits to be asked.
pub(super) async fn exchange(
    stream: &mut ClientStream,
    sequence: &mut u8,
    sent: Option<&[u8]>,
    verifiers: &Verifiers,
) -> Result<Proof, AuthError> {
    let sent = match sent {
        Some(sent) if !sent.is_empty() => sent.to_vec(),
        _ => switch_to(stream, sequence, CLEAR, &[]).await?,
    };
    let sent = Zeroizing::new(sent);
    let password = sent.strip_suffix(&[0]).unwrap_or(&sent);
    Ok(match password {
        [] => Proof::NoPassword,
        _ if caching_sha2::check_password(password, verifiers) => Proof::Right(Shared::Nothing),
        _ => Proof::Wrong,
    })
}
