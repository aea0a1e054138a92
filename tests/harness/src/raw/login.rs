//! The connection phase of the raw client: greeting, login packet, TLS, the exchanges of native and caching_sha2.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;

use super::{Packet, Raw};
use crate::client::Endpoint;
use crate::pki::Identity;
use crate::wait::guarded;

/// Capability flags; the ones above 2^32 are MariaDB's own.
#[allow(missing_docs, reason = "the protocol's own names")]
pub mod caps {
    pub const MYSQL: u64 = 1;
    pub const FOUND_ROWS: u64 = 1 << 1;
    pub const LONG_FLAG: u64 = 1 << 2;
    pub const CONNECT_WITH_DB: u64 = 1 << 3;
    pub const COMPRESS: u64 = 1 << 5;
    pub const LOCAL_FILES: u64 = 1 << 7;
    pub const PROTOCOL_41: u64 = 1 << 9;
    pub const SSL: u64 = 1 << 11;
    pub const TRANSACTIONS: u64 = 1 << 13;
    pub const SECURE_CONNECTION: u64 = 1 << 15;
    pub const MULTI_STATEMENTS: u64 = 1 << 16;
    pub const MULTI_RESULTS: u64 = 1 << 17;
    pub const PS_MULTI_RESULTS: u64 = 1 << 18;
    pub const PLUGIN_AUTH: u64 = 1 << 19;
    pub const CONNECT_ATTRS: u64 = 1 << 20;
    pub const SESSION_TRACK: u64 = 1 << 23;
    pub const DEPRECATE_EOF: u64 = 1 << 24;
    pub const PROGRESS: u64 = 1 << 32;
    pub const BULK: u64 = 1 << 34;
    pub const EXTENDED_METADATA: u64 = 1 << 35;
    pub const CACHE_METADATA: u64 = 1 << 36;

    /// What a present-day client names, MariaDB's own extensions and session tracking aside.
    pub const USUAL: u64 = LONG_FLAG
        | LOCAL_FILES
        | PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_STATEMENTS
        | MULTI_RESULTS
        | PS_MULTI_RESULTS
        | PLUGIN_AUTH
        | DEPRECATE_EOF;
}

/// The method that the client names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password`, with the answer to the greeting's nonce at once.
    CachingSha2,
    /// `caching_sha2_password` with an empty first answer, as the MySQL 9 client does when greeted with another plugin.
    CachingSha2Empty,
}

/// How to log in.
#[derive(Debug, Clone)]
pub struct Login {
    /// Capability flags; CONNECT_WITH_DB and SSL are added where needed.
    pub caps: u64,
    /// The authentication method to name.
    pub plugin: Plugin,
    /// Inside TLS, trusting the endpoint's CA.
    pub tls: bool,
    /// The certificate to show there.
    pub identity: Option<Identity>,
    /// The collation byte.
    pub collation: u8,
    /// Connection attributes.
    pub attributes: Vec<(String, String)>,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            caps: caps::USUAL,
            plugin: Plugin::Native,
            tls: false,
            identity: None,
            collation: 45,
            attributes: Vec::new(),
        }
    }
}

/// What the server said first.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// The version as sent.
    pub version: String,
    /// The connection id.
    pub thread_id: u32,
    /// The 20 bytes to scramble with.
    pub nonce: Vec<u8>,
    /// Capability flags.
    pub caps: u64,
    /// The collation byte.
    pub collation: u8,
    /// Status flags.
    pub status: u16,
    /// The authentication method.
    pub plugin: String,
    /// The packet.
    pub payload: Vec<u8>,
}

impl Greeting {
    /// Reads the greeting; panics when it is none.
    pub fn parse(packet: &Packet) -> Self {
        let bytes = &packet.payload;
        assert_eq!(bytes.first(), Some(&10), "not a greeting: {packet:?}");
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .expect("the end of the version");
        let rest = &bytes[end + 1..];
        let short = |at: usize| u64::from(u16::from_le_bytes([rest[at], rest[at + 1]]));
        let low = short(13) | short(18) << 16;
        let mariadb = u64::from(u32::from_le_bytes([rest[27], rest[28], rest[29], rest[30]]));
        let tail = &rest[31..];
        Self {
            version: String::from_utf8_lossy(&bytes[1..end]).into_owned(),
            thread_id: u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]),
            nonce: [&rest[4..12], &tail[..12]].concat(),
            caps: if low & caps::MYSQL == 0 {
                low | mariadb << 32
            } else {
                low
            },
            collation: rest[15],
            status: short(16) as u16,
            plugin: String::from_utf8_lossy(tail[13..].split(|byte| *byte == 0).next().unwrap_or_default())
                .into_owned(),
            payload: bytes.clone(),
        }
    }
}

impl Raw {
    /// Answers the greeting; the packet that ends the login, OK or ERR.
    pub async fn authenticate(&mut self, endpoint: &Endpoint, login: &Login) -> Packet {
        self.introduce(endpoint, login).await;
        self.finish_login(endpoint, login.tls).await
    }

    /// Sends the login packet, inside TLS where `login` says so.
    pub async fn introduce(&mut self, endpoint: &Endpoint, login: &Login) {
        self.introduce_to(&endpoint.host, endpoint, login).await;
    }

    /// The same; inside TLS it asks for the server of that name.
    pub async fn introduce_to(&mut self, server: &str, endpoint: &Endpoint, login: &Login) {
        let mut seq = 1;
        self.caps = login.caps;
        if !endpoint.database.is_empty() {
            self.caps |= caps::CONNECT_WITH_DB;
        }
        if login.tls {
            let config = client_config(endpoint.ca.as_slice(), login.identity.as_ref());
            self.upgrade(config, server, login).await.expect("the TLS handshake");
            seq = 2;
        }
        let packet = login_packet(endpoint, login, self.caps, &self.greeting.nonce);
        self.send(seq, &packet).await;
    }

    /// Asks for TLS and replaces the stream by it; the certificate that the server showed.
    pub async fn upgrade(
        &mut self,
        config: rustls::ClientConfig,
        server: &str,
        login: &Login,
    ) -> io::Result<CertificateDer<'static>> {
        self.caps |= caps::SSL;
        self.send(1, &login_head(self.caps, login.collation)).await;
        let name = ServerName::try_from(server.to_owned()).expect("a server name");
        let plain = std::mem::replace(&mut self.stream, Box::pin(tokio::io::duplex(1).0));
        let connector = TlsConnector::from(Arc::new(config));
        let secure = guarded("the TLS handshake", connector.connect(name, plain)).await?;
        let shown = secure.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let shown = shown.expect("a server's certificate").clone().into_owned();
        self.stream = Box::pin(secure);
        Ok(shown)
    }

    /// Follows what the server asks until OK or ERR.
    pub async fn finish_login(&mut self, endpoint: &Endpoint, tls: bool) -> Packet {
        loop {
            let packet = self.packet().await;
            let seq = packet.seq.wrapping_add(1);
            match packet.payload.split_first() {
                Some((0xfe, request)) => {
                    let answer = answer_switch(request, &endpoint.password);
                    self.send(seq, &answer).await;
                }
                Some((0x01, [0x04])) => {
                    assert!(tls, "full authentication asked for outside of TLS");
                    self.send(seq, &[endpoint.password.as_bytes(), b"\0"].concat()).await;
                }
                Some((0x01, [0x03])) => {}
                _ => return packet,
            }
        }
    }
}

/// A TLS client that trusts what is in these files.
pub fn client_config(cas: &[PathBuf], identity: Option<&Identity>) -> rustls::ClientConfig {
    assert!(!cas.is_empty(), "a CA file for TLS");
    let read = |file| CertificateDer::pem_file_iter(file).expect("a certificate file");
    let mut roots = rustls::RootCertStore::empty();
    for certificate in cas.iter().flat_map(read) {
        roots
            .add(certificate.expect("a certificate"))
            .expect("a usable certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots);
    let Some(Identity { cert, key }) = identity else {
        return builder.with_no_client_auth();
    };
    let chain = read(cert).map(|certificate| certificate.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    builder
        .with_client_auth_cert(chain.collect(), key)
        .expect("an identity")
}

/// The answer to an auth switch request: the plugin's name and a nonce.
pub fn answer_switch(request: &[u8], password: &str) -> Vec<u8> {
    let end = request
        .iter()
        .position(|byte| *byte == 0)
        .expect("the end of the plugin's name");
    let nonce = request[end + 1..].strip_suffix(b"\0").unwrap_or(&request[end + 1..]);
    match &request[..end] {
        b"mysql_native_password" => native_answer(password, nonce),
        b"caching_sha2_password" => sha2_answer(password, nonce),
        other => panic!("switched to {}", other.escape_ascii()),
    }
}

fn login_head(caps: u64, collation: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend_from_slice(&(caps as u32).to_le_bytes());
    packet.extend_from_slice(&(1u32 << 30).to_le_bytes());
    packet.push(collation);
    packet.extend_from_slice(&[0; 19]);
    let mariadb = if caps & caps::MYSQL == 0 {
        (caps >> 32) as u32
    } else {
        0
    };
    packet.extend_from_slice(&mariadb.to_le_bytes());
    packet
}

fn login_packet(endpoint: &Endpoint, login: &Login, caps: u64, nonce: &[u8]) -> Vec<u8> {
    let (name, answer) = match login.plugin {
        Plugin::Native => ("mysql_native_password", native_answer(&endpoint.password, nonce)),
        Plugin::CachingSha2 => ("caching_sha2_password", sha2_answer(&endpoint.password, nonce)),
        Plugin::CachingSha2Empty => ("caching_sha2_password", Vec::new()),
    };
    let mut packet = login_head(caps, login.collation);
    packet.extend_from_slice(endpoint.user.as_bytes());
    packet.push(0);
    packet.push(answer.len() as u8);
    packet.extend_from_slice(&answer);
    if caps & caps::CONNECT_WITH_DB != 0 {
        packet.extend_from_slice(endpoint.database.as_bytes());
        packet.push(0);
    }
    if caps & caps::PLUGIN_AUTH != 0 {
        packet.extend_from_slice(name.as_bytes());
        packet.push(0);
    }
    if caps & caps::CONNECT_ATTRS != 0 {
        let mut attributes = Vec::new();
        for text in login.attributes.iter().flat_map(|(name, value)| [name, value]) {
            attributes.push(text.len() as u8);
            attributes.extend_from_slice(text.as_bytes());
        }
        packet.push(attributes.len() as u8);
        packet.extend_from_slice(&attributes);
    }
    packet
}

/// The text by which a server proves to a client of MariaDB 11.4 that it knows the password and has this certificate.
pub fn vouched(password: &str, nonce: &[u8], certificate: &Path) -> String {
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let digest = Sha256::new()
        .chain_update(Sha1::digest(Sha1::digest(password.as_bytes())))
        .chain_update(nonce)
        .chain_update(Sha256::digest(certificate))
        .finalize();
    let hex: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("\u{1}{hex}")
}

/// SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password))); empty for no password.
pub fn native_answer(password: &str, nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password.as_bytes());
    let mask = Sha1::new()
        .chain_update(nonce)
        .chain_update(Sha1::digest(once))
        .finalize();
    once.iter().zip(mask.iter()).map(|(a, b)| a ^ b).collect()
}

/// SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce); empty for no password.
pub fn sha2_answer(password: &str, nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha256::digest(password.as_bytes());
    let mask = Sha256::new()
        .chain_update(Sha256::digest(once))
        .chain_update(nonce)
        .finalize();
    once.iter().zip(mask.iter()).map(|(a, b)| a ^ b).collect()
}
