//! Greeting, the upgrade to TLS in the middle, login packet: who calls, and for which project.
//!
//! In: an accepted connection. Out: [`Introduced`], a login that nobody has checked yet. Reads not a byte beyond the
//! packet it needs, so that nothing sent in the clear is ever taken for something sent inside TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::greeting::Greeting;
use mysql_wire::login::{LoginError, LoginPacket, SslRequest};
use mysql_wire::status::StatusFlags;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::accept::turnstile::Entered;
use crate::accept::{Accepted, Place};
use crate::error::{ClientFacing, ErrorKind, Told};
use crate::route::Server;
use crate::stream::{ClientStream, Packet, ReadError, Secured, read_packet_where};
use crate::tls::Certificates;

/// A login packet carries names and connection attributes of at most 64 KiB.
pub(crate) const LOGIN_PACKET_BYTES_MAX: usize = 128 * 1024;
/// Of what a client says of itself so much is kept and told to control, which keeps as much of it: a name to recognise a
/// program by. It stands in every report on a session that keeps its database awake.
const PROGRAM_NAME_CHARS_MAX: usize = 256;
/// The greeting's version before control has said anything of a server.
const VERSION_WHEN_UNKNOWN: &str = "10.11.0-MariaDB";
/// utf8mb4_general_ci. Clients send their own; this only tells them what the server prefers.
const GREETING_COLLATION: u8 = 45;
/// Every client is greeted with this plugin: MariaDB 11.4+ clients refuse an untrusted certificate when the greeting's
/// plugin cannot hash. The exchange itself is chosen by the plugin that the client then names.
pub(crate) const GREETING_PLUGIN: &str = "mysql_native_password";

/// What a client may use: what MariaDB 10.11 offers, less compression, and TLS besides. CLIENT_MYSQL stays clear, which
/// is what makes the MariaDB capabilities count.
pub(crate) const OFFERED: Capabilities = Capabilities::FOUND_ROWS
    .union(Capabilities::LONG_FLAG)
    .union(Capabilities::CONNECT_WITH_DB)
    .union(Capabilities::NO_SCHEMA)
    .union(Capabilities::ODBC)
    .union(Capabilities::LOCAL_FILES)
    .union(Capabilities::IGNORE_SPACE)
    .union(Capabilities::PROTOCOL_41)
    .union(Capabilities::INTERACTIVE)
    .union(Capabilities::SSL)
    .union(Capabilities::IGNORE_SIGPIPE)
    .union(Capabilities::TRANSACTIONS)
    .union(Capabilities::RESERVED)
    .union(Capabilities::SECURE_CONNECTION)
    .union(Capabilities::MULTI_STATEMENTS)
    .union(Capabilities::MULTI_RESULTS)
    .union(Capabilities::PS_MULTI_RESULTS)
    .union(Capabilities::PLUGIN_AUTH)
    .union(Capabilities::CONNECT_ATTRS)
    .union(Capabilities::PLUGIN_AUTH_LENENC_DATA)
    .union(Capabilities::CAN_HANDLE_EXPIRED_PASSWORDS)
    .union(Capabilities::SESSION_TRACK)
    .union(Capabilities::DEPRECATE_EOF)
    .union(Capabilities::MARIADB_PROGRESS)
    .union(Capabilities::MARIADB_STMT_BULK_OPERATIONS)
    .union(Capabilities::MARIADB_EXTENDED_METADATA);

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The whole login, from accept to OK.
    pub(crate) timeout: Duration,
}

/// What a client is greeted with.
pub(crate) struct Welcome<'a> {
    pub(crate) server: Option<&'a Server>,
    pub(crate) connection_id: u32,
    pub(crate) tls: &'a Certificates,
}

/// A client that has said who it is; nothing of it is proven.
pub(crate) struct Introduced {
    pub(crate) stream: ClientStream,
    pub(crate) peer: SocketAddr,
    /// `peer` is what a proxy said.
    pub(crate) via_proxy: bool,
    pub(crate) place: Place,
    pub(crate) login: Login,
    /// Of the packet that answers the login packet.
    pub(crate) sequence: u8,
    /// Of the greeting: what answers are computed with.
    pub(crate) nonce: [u8; 20],
}

/// The login packet, as far as later steps need it.
pub(crate) struct Login {
    /// What both sides can do, of what was offered.
    pub(crate) capabilities: Capabilities,
    pub(crate) max_packet_bytes: u32,
    pub(crate) collation: u8,
    /// The whole login name: `project.user`.
    pub(crate) name: String,
    pub(crate) auth_response: Vec<u8>,
    pub(crate) auth_plugin: Option<String>,
    pub(crate) database: Option<String>,
    /// As they came, without the length in front.
    pub(crate) attributes: Vec<u8>,
    pub(crate) program_name: String,
}

/// Why no login packet came out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// Health checks and port scans: connected and gone.
    #[error("the client left during the login")]
    Left,
    #[error("malformed login: {0}")]
    Malformed(String),
    #[error("as many long logins are under way as may be")]
    Crowded,
    #[error("a packet of the login is out of order")]
    OutOfOrder,
    #[error("TLS with the client: {0}")]
    Tls(io::Error),
    #[error("the client speaks the protocol of before MySQL 4.1")]
    TooOld,
    #[error(transparent)]
    Io(io::Error),
}

impl From<ReadError> for HandshakeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Left,
            ReadError::Io(e) => Self::Io(e),
            ReadError::NoRoom { .. } => Self::Crowded,
            malformed => Self::Malformed(malformed.to_string()),
        }
    }
}

impl From<LoginError> for HandshakeError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::BeforeProtocol41 => Self::TooOld,
            malformed => Self::Malformed(malformed.to_string()),
        }
    }
}

impl ClientFacing for HandshakeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Left | Self::Io(_) => ErrorKind::Client,
            Self::Malformed(_) | Self::OutOfOrder | Self::Tls(_) => ErrorKind::Malformed,
            Self::Crowded => ErrorKind::Limited,
            Self::TooOld => ErrorKind::Incompatible,
        }
    }

    fn told(&self) -> Option<Told> {
        match self {
            // A TLS error has had its alert; in the clear there is nobody to talk to.
            Self::Left | Self::Io(_) | Self::Tls(_) => None,
            Self::Malformed(_) => Some(Told::bad_handshake()),
            // ER_CON_COUNT_ERROR: drivers know that it passes.
            Self::Crowded => Some(Told::new(
                1040,
                "08004",
                "Too many connections: too many logins with long packets are under way",
            )),
            Self::OutOfOrder => Some(Told::out_of_order()),
            Self::TooOld => Some(Told::new(
                1251,
                "08004",
                "Client does not support authentication protocol requested by server; consider upgrading MariaDB client",
            )),
        }
    }
}

/// What is left of a connection whose handshake failed: enough to tell the client.
pub(crate) struct Broken {
    pub(crate) error: HandshakeError,
    /// None: the stream went down with the TLS handshake.
    pub(crate) stream: Option<ClientStream>,
    pub(crate) sequence: u8,
}

/// Greets, upgrades to TLS where the client asks, reads the login packet. Not cancel-safe; bounded by the caller.
pub(crate) async fn introduce(
    accepted: Accepted,
    welcome: Welcome<'_>,
    entered: &mut Entered<'_>,
) -> Result<Introduced, Broken> {
    let Accepted {
        stream: mut tcp,
        listener: _,
        peer,
        via_proxy,
        place,
    } = accepted;
    let nonce = nonce();
    let introduced = move |stream, login, sequence| Introduced {
        stream,
        peer,
        via_proxy,
        place,
        login,
        sequence,
        nonce,
    };
    let first = match greet_and_read(&mut tcp, &welcome, nonce, entered).await {
        Ok(first) => first,
        Err(error) => {
            return Err(Broken {
                error,
                stream: Some(ClientStream::Plain(tcp)),
                sequence: 2,
            });
        }
    };
    if !SslRequest::is(&first.payload) {
        return finish(ClientStream::Plain(tcp), first, 1, introduced);
    }
    if first.sequence != 1 {
        let stream = Some(ClientStream::Plain(tcp));
        return Err(Broken {
            error: HandshakeError::OutOfOrder,
            stream,
            sequence: first.sequence.wrapping_add(1),
        });
    }
    let (secured, fingerprint) = welcome.tls.upgrade(tcp).await.map_err(|e| Broken {
        error: HandshakeError::Tls(e),
        stream: None,
        sequence: 2,
    })?;
    let mut stream = ClientStream::Tls(Box::new(Secured {
        stream: secured,
        fingerprint,
    }));
    match read_packet_where(&mut stream, LOGIN_PACKET_BYTES_MAX, |bytes| entered.sends(bytes)).await {
        Ok((packet, ())) => finish(stream, packet, 2, introduced),
        Err(error) => Err(Broken {
            error: error.into(),
            stream: Some(stream),
            sequence: 3,
        }),
    }
}

async fn greet_and_read(
    tcp: &mut TcpStream,
    welcome: &Welcome<'_>,
    nonce: [u8; 20],
    entered: &mut Entered<'_>,
) -> Result<Packet, HandshakeError> {
    let greeting = Greeting {
        server_version: greeting_version(welcome.server),
        connection_id: welcome.connection_id,
        nonce,
        capabilities: OFFERED,
        collation: GREETING_COLLATION,
        status: StatusFlags::AUTOCOMMIT,
        auth_plugin: GREETING_PLUGIN.into(),
    };
    write_packet(tcp, &mut 0, &greeting.encode())
        .await
        .map_err(HandshakeError::Io)?;
    let (packet, ()) = read_packet_where(tcp, LOGIN_PACKET_BYTES_MAX, |bytes| entered.sends(bytes)).await?;
    Ok(packet)
}

fn finish(
    stream: ClientStream,
    packet: Packet,
    expected_sequence: u8,
    introduced: impl FnOnce(ClientStream, Login, u8) -> Introduced,
) -> Result<Introduced, Broken> {
    let sequence = packet.sequence.wrapping_add(1);
    match login(&packet, expected_sequence) {
        Ok(login) => Ok(introduced(stream, login, sequence)),
        Err(error) => Err(Broken {
            error,
            stream: Some(stream),
            sequence,
        }),
    }
}

fn login(packet: &Packet, expected_sequence: u8) -> Result<Login, HandshakeError> {
    if packet.sequence != expected_sequence {
        return Err(HandshakeError::OutOfOrder);
    }
    let login = LoginPacket::decode(&packet.payload)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut attributes = login.attributes();
    let program_name = attributes.find_map(|(key, value)| (key == b"program_name").then_some(value));
    Ok(Login {
        capabilities: login.capabilities & OFFERED,
        max_packet_bytes: login.max_packet_bytes,
        collation: login.collation,
        name: text(login.user),
        auth_response: login.auth_response.to_vec(),
        auth_plugin: login.auth_plugin.map(text),
        database: login.database.filter(|name| !name.is_empty()).map(text),
        attributes: login.raw_attributes.to_vec(),
        program_name: program_name.map(beginning).unwrap_or_default(),
    })
}

/// As much of a text as is kept of what a client says of itself.
fn beginning(text: &[u8]) -> String {
    // No character has more bytes than four, and what is none becomes one of its own.
    let text = &text[..text.len().min(4 * PROGRAM_NAME_CHARS_MAX)];
    String::from_utf8_lossy(text)
        .chars()
        .take(PROGRAM_NAME_CHARS_MAX)
        .collect()
}

/// Drivers tell MariaDB from MySQL by this text. Up to 10.x MariaDB itself puts `5.5.5-` in front, for replicas of old
/// MySQL servers; clients take it off.
pub(crate) fn greeting_version(server: Option<&Server>) -> String {
    let version = server.map_or(VERSION_WHEN_UNKNOWN, |server| server.version.as_str());
    if version.starts_with("10.") {
        format!("5.5.5-{version}")
    } else {
        version.to_owned()
    }
}

/// 20 random bytes, 7-bit clean and without NUL and `$`, which some clients stumble over.
fn nonce() -> [u8; 20] {
    let mut nonce: [u8; 20] = rand::random();
    for byte in &mut nonce {
        *byte &= 0x7f;
        while *byte == 0 || *byte == b'$' {
            *byte = rand::random::<u8>() & 0x7f;
        }
    }
    nonce
}

/// Writes one packet and moves the sequence on.
pub(crate) async fn write_packet(
    stream: &mut (impl AsyncWrite + Unpin),
    sequence: &mut u8,
    payload: &[u8],
) -> io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + 4);
    mysql_wire::frame::write_packet(&mut frame, sequence, payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}
