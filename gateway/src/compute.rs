//! A compute connection for one session: dial, log in as the session's user by the gateway's own secret.
//!
//! In: a running compute and a session. Out: [`ComputeConnection`], logged in, nothing sent yet. Errors tell apart what
//! may be tried again (not reachable, no place free) from what the client must hear.

use std::io;

use mysql_wire::auth::AuthSwitch;
use mysql_wire::capabilities::Capabilities;
use mysql_wire::command::Command;
use mysql_wire::err::ErrPacket;
use mysql_wire::greeting::Greeting;
use mysql_wire::login::LoginPacket;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::auth::native_response;
use crate::error::{ClientFacing, ErrorKind, Told};
use crate::handshake::write_packet;
use crate::route::Running;
use crate::session::Session;
use crate::stream::{Packet, ReadError, read_packet};

/// A greeting, an ERR or an auth switch; none comes near it.
const PACKET_BYTES_MAX: usize = 64 * 1024;
/// ER_DBACCESS_DENIED_ERROR, ER_BAD_DB_ERROR: the login is good, its database is not (any more).
const NO_DATABASE: [u16; 2] = [1044, 1049];
/// ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED: a place may become free.
const NO_PLACE: [u16; 3] = [1040, 1203, 1226];
/// What changes the form of packets: the client was told it has these, so the compute must speak them too.
const FORM: Capabilities = Capabilities::DEPRECATE_EOF
    .union(Capabilities::SESSION_TRACK)
    .union(Capabilities::PROTOCOL_41)
    .union(Capabilities::MARIADB_EXTENDED_METADATA);
/// What the gateway itself needs to log in.
const OURS: Capabilities = Capabilities::PROTOCOL_41
    .union(Capabilities::SECURE_CONNECTION)
    .union(Capabilities::PLUGIN_AUTH)
    .union(Capabilities::PLUGIN_AUTH_LENENC_DATA)
    .union(Capabilities::CONNECT_ATTRS);

/// A connection to a compute, logged in.
pub(crate) struct ComputeConnection {
    pub(crate) stream: UnixStream,
    /// The compute's own id of it.
    pub(crate) thread_id: u32,
    /// What was agreed.
    pub(crate) capabilities: Capabilities,
    /// When the greeting and the OK of the login had come.
    pub(crate) greeted: Instant,
    pub(crate) logged_in: Instant,
}

/// Why there is no compute connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Nobody listens, or it went away while we talked: the compute is gone or going.
    #[error("the compute cannot be reached: {0}")]
    Unreachable(io::Error),
    /// All its connections are taken.
    #[error("the compute has no free connection: {}", .0.message)]
    NoPlace(Told),
    /// It has not got this database for this user.
    #[error("the compute refuses the database: {}", .0.message)]
    NoDatabase(Told),
    /// It does not want this user.
    #[error("the compute refuses the login: {}", .0.message)]
    Refused(Told),
    #[error("the compute does not speak what was agreed with the client: {0:?}")]
    Incompatible(Capabilities),
    #[error("the compute sent something that is no login: {0}")]
    Malformed(String),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        // What a unix socket answers whose queue is full: a storm of clients, not a dead server.
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self::NoPlace(Told::new(1040, "08004", "Too many connections"));
        }
        Self::Unreachable(error)
    }
}

impl From<ReadError> for DialError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed | ReadError::Truncated => Self::Unreachable(io::ErrorKind::UnexpectedEof.into()),
            ReadError::Io(e) => Self::Unreachable(e),
            large @ (ReadError::TooLarge { .. } | ReadError::NoRoom { .. }) => Self::Malformed(large.to_string()),
        }
    }
}

impl ClientFacing for DialError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Incompatible(_) => ErrorKind::Incompatible,
            _ => ErrorKind::Compute,
        }
    }

    fn told(&self) -> Option<Told> {
        Some(match self {
            Self::NoPlace(told) | Self::NoDatabase(told) | Self::Refused(told) => told.clone(),
            Self::Unreachable(_) => Told::shutdown("The database is not reachable"),
            Self::Incompatible(_) => Told::new(
                1105,
                "HY000",
                "The database does not speak what the login agreed on; connect again",
            ),
            Self::Malformed(_) => Told::new(1105, "HY000", "The database answered the login with something else"),
        })
    }
}

/// Dials and logs in. Not cancel-safe, but nothing is lost by dropping it.
pub(crate) async fn connect(running: &Running, session: &Session) -> Result<ComputeConnection, DialError> {
    let mut stream = UnixStream::connect(&running.socket).await?;
    let first = read_packet(&mut stream, PACKET_BYTES_MAX).await?;
    if first.payload.first() == Some(&0xff) {
        return Err(refusal(&first.payload, Capabilities::EMPTY));
    }
    let greeting = Greeting::decode(&first.payload).map_err(|e| DialError::Malformed(e.to_string()))?;
    let greeted = Instant::now();
    let capabilities = agree(session, greeting.capabilities)?;
    let identity = &session.identity;
    let answer = native_response(&running.secret, &greeting.nonce);
    let login = LoginPacket {
        capabilities,
        max_packet_bytes: session.max_packet_bytes,
        collation: identity.collation,
        user: identity.user.as_bytes(),
        auth_response: &answer,
        database: identity.database.as_deref().map(str::as_bytes),
        auth_plugin: Some(b"mysql_native_password"),
        raw_attributes: &identity.attributes,
    };
    let mut sequence = first.sequence.wrapping_add(1);
    write_packet(&mut stream, &mut sequence, &login.encode()).await?;
    finish_login(&mut stream, running, capabilities).await?;
    Ok(ComputeConnection {
        stream,
        thread_id: greeting.connection_id,
        capabilities,
        greeted,
        logged_in: Instant::now(),
    })
}

/// What this leg will speak: what the client has and the compute offers, and what our login needs.
fn agree(session: &Session, offered: Capabilities) -> Result<Capabilities, DialError> {
    let missing = session.capabilities & FORM & !offered;
    if !missing.is_empty() {
        return Err(DialError::Incompatible(missing));
    }
    let own = match session.identity.database {
        Some(_) => OURS | Capabilities::CONNECT_WITH_DB,
        None => OURS,
    };
    let client = session.capabilities & !(Capabilities::SSL | Capabilities::CONNECT_WITH_DB | Capabilities::COMPRESS);
    // Whether the client wants to hear of changes or not, the gateway does.
    Ok(((client | Capabilities::SESSION_TRACK) & offered) | own)
}

/// The tenant's own method stands first on the account and does not match; the server then asks for the second, ours.
async fn finish_login(stream: &mut UnixStream, running: &Running, capabilities: Capabilities) -> Result<(), DialError> {
    // One switch per method, and the result: an account has two.
    for _ in 0..4 {
        let Packet { sequence, payload } = read_packet(stream, PACKET_BYTES_MAX).await?;
        match payload.first() {
            Some(0x00) => return Ok(()),
            Some(0xff) => return Err(refusal(&payload, capabilities)),
            Some(0xfe) => {
                let switch = AuthSwitch::decode(&payload).map_err(|e| DialError::Malformed(e.to_string()))?;
                let nonce: Option<&[u8; 20]> = switch.data.first_chunk();
                let answer = match (switch.plugin, nonce) {
                    (b"mysql_native_password", Some(nonce)) => native_response(&running.secret, nonce).to_vec(),
                    // A method of the tenant's that is not ours to answer: an empty answer makes the server go on.
                    _ => Vec::new(),
                };
                write_packet(stream, &mut sequence.wrapping_add(1), &answer).await?;
            }
            _ => return Err(DialError::Malformed("neither OK nor ERR nor an auth switch".into())),
        }
    }
    Err(DialError::Malformed("auth switches without end".into()))
}

fn refusal(payload: &[u8], capabilities: Capabilities) -> DialError {
    match ErrPacket::decode(payload, capabilities) {
        Ok(err) => {
            let told = Told::relayed(&err);
            if NO_PLACE.contains(&told.code) {
                DialError::NoPlace(told)
            } else if NO_DATABASE.contains(&told.code) {
                DialError::NoDatabase(told)
            } else {
                DialError::Refused(told)
            }
        }
        Err(e) => DialError::Malformed(e.to_string()),
    }
}

impl ComputeConnection {
    /// Has one statement without rows done here, first of all and alone. Not cancel-safe: bounded by the caller, who gives the
    /// connection up.
    pub(crate) async fn execute(&mut self, statement: &str) -> Result<(), DialError> {
        let command = [&[Command::Query.code()], statement.as_bytes()].concat();
        write_packet(&mut self.stream, &mut 0, &command).await?;
        let answer = read_packet(&mut self.stream, PACKET_BYTES_MAX).await?.payload;
        match answer.first() {
            Some(0x00) => Ok(()),
            Some(0xff) => Err(refusal(&answer, self.capabilities)),
            _ => Err(DialError::Malformed("neither OK nor ERR".into())),
        }
    }

    /// Says goodbye, so that the compute logs no aborted connection. Only between commands.
    pub(crate) fn quit(self) {
        // Five bytes into an idle socket; if they do not fit, closing says it too.
        let _ = self.stream.try_write(&[1, 0, 0, 0, 1]);
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;
    use crate::session::Identity;

    #[tokio::test]
    async fn a_full_queue_means_busy_and_no_listener_means_unreachable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = UnixStream::connect(&path).await {
            queued.push(stream);
        }
        let running = Running::new(1, path, vec![0; 32]);
        let identity = Identity {
            user: "u".into(),
            database: None,
            collation: 45,
            attributes: Vec::new(),
            program_name: String::new(),
        };
        let session = Session::new(Capabilities::EMPTY, 0, identity);
        let error = connect(&running, &session).await.err().unwrap();
        assert!(matches!(error, DialError::NoPlace(_)), "{error}");
        drop(listener);
        let error = connect(&running, &session).await.err().unwrap();
        assert!(matches!(error, DialError::Unreachable(_)), "{error}");
    }
}
