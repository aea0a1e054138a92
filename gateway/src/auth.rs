//! Proves who the client is, before anything is started for it.
//!
//! In: [`Routed`], a name and what we know of the project. Out: [`Authenticated`], or one refusal that is the same for an
//! unknown project, an unknown user and a wrong password: the exchange is chosen by the plugin that the *client* names,
//! unknown names are checked against a verifier that no password matches, and the text is the same. So is the answer to
//! who has guessed too often ([`throttle`]).

mod caching_sha2;
mod clear_password;
pub(crate) mod ed25519;
mod native_password;
mod require;
mod vouch;
pub(crate) mod throttle;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use mysql_wire::auth::AuthSwitch;
use mysql_wire::capabilities::Capabilities;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::error::{ClientFacing, ErrorKind, Told};
use crate::handshake::{Introduced, write_packet};
use crate::quota::Exceeded;
use crate::route::{Access, DatabaseAccess, Project, User};
use crate::session::{Admitted, Identity};
use crate::stream::{ClientStream, ReadError, read_packet};
use crate::tls::Mode;

use throttle::{Attempt, Throttle};

pub(crate) use native_password::respond as native_response;
use vouch::Shared;

const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";
const ED25519: &str = "client_ed25519";
const CLEAR: &str = "mysql_clear_password";

/// A client whose project is looked up: known to us or not.
pub(crate) struct Routed {
    pub(crate) introduced: Introduced,
    pub(crate) project: Option<Arc<Project>>,
    /// The login name without the project.
    pub(crate) user: String,
}

/// A client that is who it says.
pub(crate) struct Authenticated {
    pub(crate) introduced: Introduced,
    pub(crate) project: Arc<Project>,
    pub(crate) user: String,
    /// These are of [`Proven`].
    pub(crate) life: u64,
    pub(crate) vouched: Vec<u8>,
}

/// What came of an exchange.
pub(crate) struct Proven {
    pub(crate) project: Arc<Project>,
    /// Of its user ([`User::life`]).
    pub(crate) life: u64,
    /// The text of the OK: proof for the client, too.
    pub(crate) vouched: Vec<u8>,
}

/// Why a client was not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("access denied for user '{name}'")]
    Denied {
        name: String,
        address: IpAddr,
        with_password: bool,
    },
    #[error("TLS is required, and '{name}' came without it")]
    WithoutTls {
        name: String,
        address: IpAddr,
        with_password: bool,
    },
    #[error("the account '{0}' is locked")]
    Locked(String),
    #[error("the password of '{0}' has expired, and the client cannot set another")]
    Expired(String),
    #[error(transparent)]
    Limit(#[from] Exceeded),
    #[error("as many clients of the project are there as may be")]
    ProjectFull,
    #[error("user '{user}' has no right on database '{database}'")]
    DatabaseDenied { user: String, database: String },
    #[error("database '{database}' does not exist")]
    DatabaseUnknown { database: String },
    #[error("no client may use the character set {0}")]
    CharacterSet(&'static str),
    #[error("a packet of the login is out of order")]
    OutOfOrder,
    #[error("malformed answer: {0}")]
    Malformed(String),
    #[error("the client left during the login")]
    Left,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ReadError> for AuthError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Left,
            ReadError::Io(e) => Self::Io(e),
            malformed => Self::Malformed(malformed.to_string()),
        }
    }
}

impl ClientFacing for AuthError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied { .. }
            | Self::WithoutTls { .. }
            | Self::Locked(_)
            | Self::Expired(_)
            | Self::DatabaseDenied { .. }
            | Self::DatabaseUnknown { .. }
            | Self::CharacterSet(_) => ErrorKind::Denied,
            Self::Limit(_) | Self::ProjectFull => ErrorKind::Limited,
            Self::OutOfOrder | Self::Malformed(_) => ErrorKind::Malformed,
            Self::Left | Self::Io(_) => ErrorKind::Client,
        }
    }

    fn told(&self) -> Option<Told> {
        match self {
            // MariaDB has no other answer under require_secure_transport.
            Self::Denied {
                name,
                address,
                with_password,
            }
            | Self::WithoutTls {
                name,
                address,
                with_password,
            } => {
                let using = if *with_password { "YES" } else { "NO" };
                let text = format!("Access denied for user '{name}'@'{address}' (using password: {using})");
                Some(Told::new(1045, "28000", text))
            }
            Self::Locked(_) => Some(Told::new(4151, "HY000", "Access denied, this account is locked")),
            Self::Expired(_) => Some(Told::new(
                1862,
                "HY000",
                "Your password has expired. To log in you must change it using a client that supports expired passwords",
            )),
            Self::Limit(exceeded) => Some(exceeded.told()),
            // ER_CON_COUNT_ERROR, as a server of its own says.
            Self::ProjectFull => Some(Told::new(1040, "08004", "Too many connections")),
            Self::DatabaseDenied { user, database } => {
                let text = format!("Access denied for user '{user}'@'%' to database '{database}'");
                Some(Told::new(1044, "42000", text))
            }
            Self::DatabaseUnknown { database } => {
                Some(Told::new(1049, "42000", format!("Unknown database '{database}'")))
            }
            Self::CharacterSet(name) => {
                let text = format!("Variable 'character_set_client' can't be set to the value of '{name}'");
                Some(Told::new(1231, "42000", text))
            }
            Self::OutOfOrder => Some(Told::out_of_order()),
            Self::Malformed(_) => Some(Told::bad_handshake()),
            Self::Left | Self::Io(_) => None,
        }
    }
}

/// Refuses who should have come inside TLS. Looks at nothing but the connection, so that what is refused is the same for
/// every name.
pub(crate) fn check_transport(introduced: &Introduced, mode: Mode) -> Result<(), AuthError> {
    let Introduced {
        stream,
        peer,
        via_proxy,
        login,
        ..
    } = introduced;
    if stream.is_tls() || mode.admits_plain(peer.ip(), *via_proxy) {
        return Ok(());
    }
    Err(AuthError::WithoutTls {
        name: login.name.clone(),
        address: peer.ip(),
        with_password: !login.auth_response.is_empty(),
    })
}

/// What a client claims, and with what; from a login packet or a COM_CHANGE_USER.
pub(crate) struct Claim<'a> {
    /// The whole login name, for the refusal's text.
    pub(crate) name: &'a str,
    pub(crate) address: IpAddr,
    pub(crate) project: Option<&'a Arc<Project>>,
    pub(crate) user: &'a str,
    pub(crate) plugin: Option<&'a str>,
    /// None where the first answer cannot be trusted to match the nonce.
    pub(crate) answer: Option<&'a [u8]>,
    /// The connection's one nonce, of its greeting. As at MariaDB every later exchange has it too: Connector/C answers a
    /// COM_CHANGE_USER with it, whatever the switch carries.
    pub(crate) nonce: [u8; 20],
}

/// A verifier of every kind for every name: what is not known gets one that nothing matches.
struct Verifiers {
    native: [u8; 20],
    /// Of an account with several passwords.
    more_native: Vec<[u8; 20]>,
    caching_sha2: [u8; 32],
    /// At least one: a signature costs as much to check for a name without a key.
    ed25519: Vec<ed25519::Key>,
    known: bool,
}

/// Makes verifiers for unknown names, the same ones for the same name while the gateway runs.
pub(crate) struct Decoy {
    secret: [u8; 32],
    /// Of a password that nobody knows.
    key: ed25519::Key,
}

impl Decoy {
    pub(crate) fn random() -> Self {
        Self {
            secret: rand::random(),
            key: ed25519::key_of(&rand::random::<[u8; 32]>()),
        }
    }

    fn verifiers(&self, name: &str, user: Option<&User>) -> Verifiers {
        let decoy: [u8; 32] = Sha256::new()
            .chain_update(self.secret)
            .chain_update(name.as_bytes())
            .finalize()
            .into();
        let mut native = [0; 20];
        native.copy_from_slice(&decoy[..20]);
        Verifiers {
            native: user.and_then(|user| user.native).unwrap_or(native),
            caching_sha2: user.and_then(|user| user.caching_sha2).unwrap_or(decoy),
            more_native: user.map(|user| user.more_native.clone()).unwrap_or_default(),
            ed25519: match user.map(|user| &*user.ed25519) {
                Some([]) | None => vec![self.key],
                Some(keys) => keys.to_vec(),
            },
            known: user.is_some(),
        }
    }
}

/// The login's exchange: after it the client is proven, and OK is still to be said.
pub(crate) async fn authenticate(
    mut routed: Routed,
    decoy: &Decoy,
    throttle: &Throttle,
) -> Result<Authenticated, (AuthError, Introduced)> {
    let Routed {
        introduced,
        project,
        user,
    } = &mut routed;
    let login = &introduced.login;
    let claim = Claim {
        name: &login.name,
        address: introduced.peer.ip(),
        project: project.as_ref(),
        user,
        plugin: login.auth_plugin.as_deref(),
        answer: Some(&login.auth_response),
        nonce: introduced.nonce,
    };
    let proven = prove(&mut introduced.stream, &mut introduced.sequence, claim, decoy, throttle).await;
    let Routed { introduced, user, .. } = routed;
    match proven {
        Ok(Proven { project, life, vouched }) => Ok(Authenticated {
            introduced,
            project,
            user,
            life,
            vouched,
        }),
        Err(error) => Err((error, introduced)),
    }
}

/// Runs the exchange that the client's plugin asks for and checks the answer.
pub(crate) async fn prove(
    stream: &mut ClientStream,
    sequence: &mut u8,
    claim: Claim<'_>,
    decoy: &Decoy,
    throttle: &Throttle,
) -> Result<Proven, AuthError> {
    let access = claim.project.map(|project| project.access()).unwrap_or_default();
    let verifiers = decoy.verifiers(claim.name, access.user(claim.user));
    let project = claim.project.map(|project| &*project.id);
    // Judged with the answer, so that who comes from a network that is not allowed learns nothing, not even that.
    let admitted = claim.project.is_none_or(|project| project.admits(claim.address));
    let mut attempt = throttle.attempt(project, claim.user, claim.address, admitted, Instant::now());
    let proof = match (claim.plugin, claim.answer) {
        (Some(CACHING_SHA2), _) => {
            caching_sha2::exchange(stream, sequence, &claim.nonce, &verifiers, &mut attempt).await?
        }
        (Some(ED25519), _) => ed25519::exchange(stream, sequence, &verifiers)
            .await?
            .judged(&mut attempt),
        // In the clear nobody is asked for a password.
        (Some(CLEAR), sent) if stream.is_tls() => clear_password::exchange(stream, sequence, sent, &verifiers)
            .await?
            .judged(&mut attempt),
        (None | Some(NATIVE), Some(answer)) => Proof::of_native(answer, &claim.nonce, &verifiers).judged(&mut attempt),
        _ => {
            let answer = switch_to(stream, sequence, NATIVE, &ended(&claim.nonce)).await?;
            Proof::of_native(&answer, &claim.nonce, &verifiers).judged(&mut attempt)
        }
    };
    let denied = |with_password| AuthError::Denied {
        name: claim.name.to_owned(),
        address: claim.address,
        with_password,
    };
    match (proof, claim.project, access.user(claim.user)) {
        (Proof::Right(shared), Some(project), Some(user)) if verifiers.known => {
            attempt.succeeded(Instant::now());
            // In MariaDB's order; nobody hears of this who has not proven the password.
            if user.locked {
                return Err(AuthError::Locked(claim.name.to_owned()));
            }
            if require::is_met(&user.require, stream.shown()) {
                Ok(Proven {
                    project: Arc::clone(project),
                    life: user.life(),
                    vouched: vouch::text(shared, &claim.nonce, stream.fingerprint()),
                })
            } else {
                Err(denied(true))
            }
        }
        (proof, _, _) => Err(denied(!matches!(proof, Proof::NoPassword))),
    }
}

/// What the account of a proven client lets it do, and whether that is anything at all; in MariaDB's order, after all that
/// [`prove`] looks at.
pub(crate) fn admit(project: &Project, user: &str, capabilities: Capabilities) -> Result<Admitted, AuthError> {
    let access = project.access();
    let must_change_password = access.password_has_expired(user);
    if must_change_password && !may_log_in_to_change(project, capabilities) {
        return Err(AuthError::Expired(user.to_owned()));
    }
    let quota = project.quotas.log_in(user, access.limits(user), Instant::now())?;
    Ok(Admitted {
        quota,
        must_change_password,
    })
}

/// Whether the client may log in although its password has expired. ER_MUST_CHANGE_PASSWORD_LOGIN otherwise.
fn may_log_in_to_change(project: &Project, capabilities: Capabilities) -> bool {
    let disconnects = project.server().is_some_and(|server| {
        let setting = server.variables.get("disconnect_on_expired_password");
        setting.is_some_and(|value| value == "ON")
    });
    !disconnects || capabilities.contains(Capabilities::CAN_HANDLE_EXPIRED_PASSWORDS)
}

/// As [`prove`], for an answer that is here already, without a stream.
#[cfg(feature = "sim")]
pub(crate) fn proves(project: &Project, user: &str, answer: &[u8], nonce: &[u8; 20], decoy: &Decoy) -> bool {
    let access = project.access();
    let verifiers = decoy.verifiers(user, access.user(user));
    verifiers.known && matches!(Proof::of_native(answer, nonce, &verifiers), Proof::Right(_))
}

/// Is the database that a session begins with there, and may its user use it, by what control has pushed?
pub(crate) fn check_database(access: &Access, identity: &Identity) -> Result<(), AuthError> {
    let Identity { user, database, .. } = identity;
    let Some(database) = database else { return Ok(()) };
    let (user, database) = (user.clone(), database.clone());
    match access.user(&user).map(|known| access.database(known, &database)) {
        Some(DatabaseAccess::Granted) => Ok(()),
        Some(DatabaseAccess::Unknown) => Err(AuthError::DatabaseUnknown { database }),
        Some(DatabaseAccess::Denied) | None => Err(AuthError::DatabaseDenied { user, database }),
    }
}

/// Is this collation of one of the character sets that MariaDB reads no statements in? Measured on 10.11 for every id that
/// a login packet can carry.
pub(crate) fn check_collation(collation: u8) -> Result<(), AuthError> {
    let name = match collation {
        17 => "filename",
        35 | 90 | 128..=151 | 159 => "ucs2",
        54 | 55 | 101..=124 => "utf16",
        56 | 62 => "utf16le",
        60 | 61 | 160..=183 => "utf32",
        _ => return Ok(()),
    };
    Err(AuthError::CharacterSet(name))
}

/// What an answer shows.
enum Proof {
    Right(Shared),
    Wrong,
    /// The client used no password; no account may have an empty one.
    NoPassword,
}

impl Proof {
    fn of_native(answer: &[u8], nonce: &[u8; 20], verifiers: &Verifiers) -> Self {
        let all = std::iter::once(&verifiers.native).chain(&verifiers.more_native);
        let matching = all.fold(None, |before, verifier| {
            let matches = native_password::verify(answer, nonce, verifier);
            matches.then_some(*verifier).or(before)
        });
        match matching {
            _ if answer.is_empty() => Self::NoPassword,
            Some(verifier) => Self::Right(Shared::Native(verifier)),
            None => Self::Wrong,
        }
    }

    /// No password is no guess.
    fn judged(self, attempt: &mut Attempt<'_>) -> Self {
        let right = matches!(self, Self::Right(_));
        match self {
            Self::NoPassword => Self::NoPassword,
            _ if attempt.judge(right, Instant::now()) => self,
            _ => Self::Wrong,
        }
    }
}

/// With the NUL that does not count at its end, as in the greeting.
fn ended(nonce: &[u8; 20]) -> Vec<u8> {
    [&nonce[..], &[0]].concat()
}

/// Asks the client to answer with another plugin.
async fn switch_to(
    stream: &mut ClientStream,
    sequence: &mut u8,
    plugin: &str,
    data: &[u8],
) -> Result<Vec<u8>, AuthError> {
    write_packet(
        stream,
        sequence,
        &AuthSwitch {
            plugin: plugin.as_bytes(),
            data,
        }
        .encode(),
    )
    .await?;
    read_answer(stream, sequence).await
}

/// A signature has 64 bytes; a password that a client sends in the clear is a password.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Reads the client's next packet of the exchange.
async fn read_answer(stream: &mut ClientStream, sequence: &mut u8) -> Result<Vec<u8>, AuthError> {
    let packet = read_packet(stream, ANSWER_BYTES_MAX).await?;
    let expected = *sequence;
    *sequence = packet.sequence.wrapping_add(1);
    if packet.sequence != expected {
        return Err(AuthError::OutOfOrder);
    }
    Ok(packet.payload)
}
