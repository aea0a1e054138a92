//! A client that speaks the MySQL protocol packet by packet, for tests of the bytes themselves.
//!
//! It shares no code with the gateway, on purpose. Packets keep their sequence ids; nothing is corrected; wrong input is
//! as easy to send as right input.

mod login;
mod response;

pub use login::{Greeting, Login, Plugin, answer_switch, caps, client_config, native_answer, sha2_answer, vouched};
pub use response::{Kind, Response};

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::client::Endpoint;
use crate::wait::guarded;

/// The largest payload of one frame; a packet that fills it goes on in the next.
pub const FRAME_MAX: usize = 0xff_ffff;

/// Reads and writes: TCP, TLS over it, or a unix socket.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One packet, its frames put together.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// The sequence id of its last frame.
    pub seq: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Packet {
    /// The error code where this is an ERR packet.
    pub fn error(&self) -> Option<u16> {
        match self.payload[..] {
            [0xff, low, high, ..] => Some(u16::from_le_bytes([low, high])),
            _ => None,
        }
    }

    /// The text of an ERR packet, with its SQLSTATE.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(self.payload.get(3..).unwrap_or_default()).into_owned()
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.payload[..self.payload.len().min(120)];
        write!(f, "#{} {} bytes {}", self.seq, self.payload.len(), shown.escape_ascii())
    }
}

/// A connection.
pub struct Raw {
    stream: Pin<Box<dyn Stream>>,
    /// Its own port; 0: it is a unix socket.
    pub local_port: u16,
    /// The capabilities that the login packet named.
    pub caps: u64,
    /// The server's greeting.
    pub greeting: Greeting,
}

impl Raw {
    /// Connects and reads the greeting. A `host` that is a path is a unix socket.
    pub async fn connect(host: &str, port: u16) -> Self {
        let mut local_port = 0;
        let stream: Pin<Box<dyn Stream>> = if host.starts_with('/') {
            Box::pin(UnixStream::connect(host).await.expect("a unix socket"))
        } else {
            let stream = TcpStream::connect((host, port)).await.expect("a TCP connection");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            local_port = stream.local_addr().expect("its address").port();
            Box::pin(stream)
        };
        let mut raw = Self {
            stream,
            local_port,
            caps: 0,
            greeting: Greeting::default(),
        };
        raw.greeting = Greeting::parse(&raw.packet().await);
        raw
    }

    /// Connects and logs in with the capabilities of a usual client; panics when the server refuses.
    pub async fn login(endpoint: &Endpoint) -> Self {
        Self::login_with(endpoint, Login::default()).await
    }

    /// Connects and logs in as `login` says; panics when the server refuses.
    pub async fn login_with(endpoint: &Endpoint, login: Login) -> Self {
        let mut raw = Self::connect(&endpoint.host, endpoint.port).await;
        let answer = raw.authenticate(endpoint, &login).await;
        assert_eq!(answer.payload.first(), Some(&0), "login at {endpoint:?}: {answer:?}");
        raw
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        guarded("writing to the server", self.stream.write_all(bytes)).await?;
        guarded("flushing to the server", self.stream.flush()).await
    }

    /// Sends `payload` in as many frames as it needs, the first with sequence id `seq`.
    pub async fn send(&mut self, seq: u8, payload: &[u8]) {
        self.write(&frames(seq, payload)).await.expect("sending a packet");
    }

    /// Sends a command: its byte and what follows it.
    pub async fn command(&mut self, command: u8, rest: &[u8]) {
        self.send(0, &[&[command], rest].concat()).await;
    }

    /// Reads one packet; an error when the connection ends before it does.
    pub async fn try_packet(&mut self) -> io::Result<Packet> {
        guarded("a packet of the server", read_packet(&mut self.stream)).await
    }

    /// Reads one packet.
    pub async fn packet(&mut self) -> Packet {
        self.try_packet().await.expect("a packet of the server")
    }

    /// Runs a query to the end of its response.
    pub async fn query(&mut self, sql: &str) -> Response {
        self.command(0x03, sql.as_bytes()).await;
        self.response(Kind::Query).await
    }

    /// Whether the server has closed the connection, after at most [`crate::wait::GUARD`] of reading what is left.
    pub async fn ends(&mut self) -> Vec<Packet> {
        let mut left = Vec::new();
        while let Ok(packet) = self.try_packet().await {
            left.push(packet);
        }
        left
    }

    /// Up to `limit` bytes, as soon as any came; empty at the end.
    pub async fn read_some(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; limit];
        let read = guarded("bytes of the server", self.stream.read(&mut bytes)).await?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// `payload` as frames, the first with sequence id `seq`.
pub fn frames(mut seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    let mut rest = payload;
    loop {
        let (part, after) = rest.split_at(rest.len().min(FRAME_MAX));
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        bytes.push(seq);
        bytes.extend_from_slice(part);
        seq = seq.wrapping_add(1);
        rest = after;
        if part.len() < FRAME_MAX {
            return bytes;
        }
    }
}

async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Packet> {
    let mut payload = Vec::new();
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let [a, b, c, seq] = head;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let start = payload.len();
        payload.resize(start + length, 0);
        stream.read_exact(&mut payload[start..]).await?;
        if length < FRAME_MAX {
            return Ok(Packet { seq, payload });
        }
    }
}
