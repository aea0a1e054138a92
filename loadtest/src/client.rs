//! A blocking client for one thread: as little work as possible, since it shares the machine with what it measures.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use harness::raw::native_answer;
use mysql_wire::auth::AuthSwitch;
use mysql_wire::capabilities::Capabilities;
use mysql_wire::frame::{FrameHeader, write_packet};
use mysql_wire::greeting::Greeting;
use mysql_wire::login::LoginPacket;
use mysql_wire::response::{Expect, ResponseEvent, ResponseScanner};
use rustls::{ClientConnection, HandshakeKind, StreamOwned};

use crate::stage::{Address, Target, Tls};

/// As mysql_native_password clients of today.
const CAPABILITIES: Capabilities = Capabilities::PROTOCOL_41
    .union(Capabilities::SECURE_CONNECTION)
    .union(Capabilities::PLUGIN_AUTH)
    .union(Capabilities::CONNECT_WITH_DB)
    .union(Capabilities::TRANSACTIONS)
    .union(Capabilities::MULTI_RESULTS)
    .union(Capabilities::DEPRECATE_EOF);
/// As much as the kernel gives at once on a loopback connection with its default buffers.
const READ_BYTES: usize = 256 * 1024;
const SSL_REQUEST_BYTES: usize = 32;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub(crate) struct Client {
    stream: Box<dyn Stream>,
    /// Empty until the first query: thousands of idle clients need none.
    buffer: Vec<u8>,
    /// Whether an earlier TLS session was taken up again.
    pub(crate) resumed: bool,
}

impl Client {
    /// Connects and logs in.
    pub(crate) fn log_in(target: &Target) -> anyhow::Result<Self> {
        let (mut client, greeting) = match &target.address {
            Address::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_nodelay(true)?;
                Self::greeted(stream, target.tls.as_ref())?
            }
            Address::Unix(path) => Self::greeted_in_the_clear(Box::new(UnixStream::connect(path)?))?,
        };
        let (sequence, greeting) = greeting;
        let greeting = Greeting::decode(&greeting).ok().context("a greeting")?;
        let answer = native_answer(&target.password, &greeting.nonce);
        let login = LoginPacket {
            capabilities: match target.tls {
                Some(Tls::OnRequest(_)) => CAPABILITIES | Capabilities::SSL,
                _ => CAPABILITIES,
            },
            max_packet_bytes: 1 << 30,
            collation: 45,
            user: target.user.as_bytes(),
            auth_response: &answer,
            database: Some(target.database.as_bytes()),
            auth_plugin: Some(b"mysql_native_password"),
            raw_attributes: &[],
        };
        client.send(sequence + 1, &login.encode())?;
        loop {
            let (sequence, packet) = client.packet()?;
            match packet.first() {
                Some(0) => return Ok(client),
                Some(0xfe) => {
                    let switch = AuthSwitch::decode(&packet).ok().context("an auth switch")?;
                    let answer = native_answer(&target.password, &switch.data[..20]);
                    client.send(sequence + 1, &answer)?;
                }
                _ => bail!("the login was refused: {}", packet.escape_ascii()),
            }
        }
    }

    fn greeted_in_the_clear(stream: Box<dyn Stream>) -> anyhow::Result<(Self, (u8, Vec<u8>))> {
        let mut client = Self {
            stream,
            buffer: Vec::new(),
            resumed: false,
        };
        let greeting = client.packet()?;
        Ok((client, greeting))
    }

    /// Inside TLS where it is wanted; with the number of the last packet, and the greeting.
    fn greeted(stream: TcpStream, tls: Option<&Tls>) -> anyhow::Result<(Self, (u8, Vec<u8>))> {
        match tls {
            None => Self::greeted_in_the_clear(Box::new(stream)),
            Some(Tls::FromTheStart(config)) => {
                let (secure, resumed) = handshake(stream, config)?;
                let (client, greeting) = Self::greeted_in_the_clear(Box::new(secure))?;
                Ok((Self { resumed, ..client }, greeting))
            }
            Some(Tls::OnRequest(config)) => {
                let (mut client, (sequence, greeting)) = Self::greeted_in_the_clear(Box::new(stream.try_clone()?))?;
                client.send(sequence + 1, &ssl_request())?;
                let (secure, resumed) = handshake(stream, config)?;
                client.stream = Box::new(secure);
                Ok((Self { resumed, ..client }, (sequence + 1, greeting)))
            }
        }
    }

    /// Runs one statement and reads its response to the end. Returns its bytes.
    pub(crate) fn query(&mut self, sql: &str) -> anyhow::Result<u64> {
        self.send(0, &[&[3], sql.as_bytes()].concat())?;
        let mut scanner = ResponseScanner::new(CAPABILITIES);
        scanner.expect(Expect::Results, 1);
        self.buffer.resize(READ_BYTES, 0);
        let (mut total, mut held) = (0, 0);
        loop {
            let read = self.stream.read(&mut self.buffer[held..])?;
            ensure!(read > 0, "the connection ended");
            total += read as u64;
            let filled = held + read;
            let mut at = 0;
            loop {
                let scanned = scanner.scan(&self.buffer[at..filled])?;
                at += scanned.consumed;
                match scanned.event {
                    Some(ResponseEvent::Marked { .. }) => scanner.pass(),
                    Some(ResponseEvent::End(end)) => {
                        ensure!(end.error.is_none(), "{sql}: error {:?}", end.error);
                        return Ok(total);
                    }
                    _ => break,
                }
            }
            // The head of a packet whose rest is to come.
            self.buffer.copy_within(at..filled, 0);
            held = filled - at;
        }
    }

    /// Says goodbye and closes.
    pub(crate) fn quit(mut self) -> anyhow::Result<()> {
        self.send(0, &[1])
    }

    fn send(&mut self, mut sequence: u8, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 4);
        write_packet(&mut frame, &mut sequence, payload);
        Ok(self.stream.write_all(&frame)?)
    }

    fn packet(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        let head = FrameHeader::decode(&head).context("a frame")?;
        let mut payload = vec![0; head.payload_len];
        self.stream.read_exact(&mut payload)?;
        Ok((head.sequence, payload))
    }
}

/// To the end of the handshake; whether an earlier session was taken up again.
fn handshake(
    mut stream: TcpStream,
    config: &rustls::ClientConfig,
) -> anyhow::Result<(StreamOwned<ClientConnection, TcpStream>, bool)> {
    let server = "localhost".try_into().context("a server name")?;
    let mut connection = ClientConnection::new(Arc::new(config.clone()), server)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    Ok((StreamOwned::new(connection, stream), resumed))
}

/// The head of a login packet, which asks for TLS.
fn ssl_request() -> Vec<u8> {
    let login = LoginPacket {
        capabilities: CAPABILITIES | Capabilities::SSL,
        max_packet_bytes: 1 << 30,
        collation: 45,
        user: b"",
        auth_response: b"",
        database: None,
        auth_plugin: None,
        raw_attributes: &[],
    };
    login.encode()[..SSL_REQUEST_BYTES].to_vec()
}
