//! A client that follows a script, and watches over the login while it does: nobody is let in who has not proven who it is,
//! the refusal is the last word, and nobody goes on in the clear who may not.

use std::sync::Arc;
use std::time::Duration;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::command::Command;
use mysql_wire::login::{ChangeUser, LoginPacket, SslRequest, encode_attributes};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::input::Input;
use crate::auth::native_response;
use crate::stream::{ReadError, read_packet};

/// Steps of one script: each may take a while of a clock that others wait by.
const STEPS_MAX: usize = 64;
/// A gateway that has nothing to say yet; longer than a login may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a client reads of one packet.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// Login names, and whether the password makes any of them come in.
const NAMES: [(&[u8], bool); 8] = [
    (b"demo.u", true),
    (b"u", true),
    (b"demo.v", false),
    (b"dem0.u", false),
    (b"demo.l", false),
    (b"demo.x", false),
    (b"", false),
    (b"demo.", false),
];
const PLUGINS: &[&[u8]] = &[
    b"mysql_native_password",
    b"caching_sha2_password",
    b"client_ed25519",
    b"mysql_clear_password",
    b"",
    b"dialog",
];
const DATABASES: &[&[u8]] = &[b"demo", b"information_schema", b"x_1", b"none"];
const SERVER_NAMES: [&str; 4] = ["localhost", "127.0.0.1", "demo.db.example.org", "x"];
/// What clients say; the rest of a script's texts is its own.
const QUERIES: &[&[u8]] = &[
    b"SELECT 1",
    b"SET NAMES latin1",
    b"SET autocommit=0",
    b"SELECT @@version_comment LIMIT 1",
    b"SHOW WARNINGS",
    b"SELECT ROW_COUNT()",
    b"KILL QUERY -2147483647",
    b"KILL 7",
    b"KILL USER u",
    b"SET SESSION session_track_schema=ON",
    b"CREATE USER a",
    b"BEGIN",
    b"COMMIT RELEASE",
    b"INSERT INTO t VALUES (1)",
    b"SET ROLE a",
    b"LOAD DATA LOCAL INFILE 'x' INTO TABLE t",
];

/// Names of one length, of which none comes in without the password: a user, none, none of a project, a locked one.
pub(super) const STRANGERS: [&[u8]; 4] = [b"demo.u", b"demo.v", b"dem0.u", b"demo.l"];

/// A byte stream of the client's.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// What the gateway said, as far as the login goes, less what is random of it.
pub(super) type Heard = Vec<(u8, Vec<u8>)>;

/// What came of a script.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The gateway has said OK to a login.
    pub(super) let_in: bool,
    /// The login has failed.
    refused: bool,
    /// The right answer was sent, with a name that may come in.
    proven: bool,
    name_may: bool,
    /// It asked for TLS where the gateway may have said OK already: whoever has proven who it is may be in without hearing of it.
    unheard: bool,
    pub(super) heard: Heard,
}

impl Seen {
    /// Whether the gateway may do something for it.
    pub(super) fn may_be_in(&self) -> bool {
        self.let_in || self.unheard
    }
}

/// Who a client says it is, where that is not for its script to say; and then it knows no password.
pub(super) type Disguise = Option<&'static [u8]>;

/// See the head of this file.
pub(super) struct Client<'a> {
    stream: Option<Box<dyn Stream>>,
    inside_tls: bool,
    /// It may log in without TLS.
    may_plain: bool,
    tls: Arc<ClientConfig>,
    password: &'a str,
    disguise: Disguise,
    nonce: [u8; 20],
    /// Of the last question for an answer.
    asked: Vec<u8>,
    sequence: u8,
    seen: Seen,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        stream: UnixStream,
        may_plain: bool,
        tls: Arc<ClientConfig>,
        password: &'a str,
        disguise: Disguise,
    ) -> Self {
        Self {
            stream: Some(Box::new(stream)),
            inside_tls: false,
            may_plain,
            tls,
            password,
            disguise,
            nonce: [0; 20],
            asked: Vec::new(),
            sequence: 0,
            seen: Seen::default(),
        }
    }

    /// Follows the script to its end, closes, and reads what there is to read.
    pub(super) async fn follow(mut self, mut script: Input<'_>) -> Seen {
        for _ in 0..STEPS_MAX {
            if script.is_empty() || self.stream.is_none() {
                break;
            }
            self.step(&mut script).await;
        }
        self.finish().await;
        self.seen
    }

    async fn step(&mut self, script: &mut Input<'_>) {
        let step = script.byte() % 16;
        // Bytes of its own may be a login with any name.
        self.seen.name_may |= self.disguise.is_none() && matches!(step, 0 | 1 | 5 | 14);
        match step {
            0 => self.packet(script.bytes()).await,
            1 => self.raw(script.bytes()).await,
            2 => self.login(script).await,
            3 => self.answer(script).await,
            4 => self.upgrade(script).await,
            5 => {
                self.packet(&ssl_request()).await;
                self.raw(script.bytes()).await;
            }
            6 => self.read().await,
            7 => sleep(Duration::from_secs(u64::from(script.byte() % 16))).await,
            8 => {
                let text = [&[Command::Query.code()], script.text(QUERIES)].concat();
                self.command(&text).await;
            }
            9 => {
                let text = [&[Command::StmtPrepare.code()], script.text(QUERIES)].concat();
                self.command(&text).await;
            }
            // Of statements: code, a small id, and what follows.
            10 => {
                let code = 0x17 + script.byte() % 4;
                let payload = [&[code, script.byte(), 0, 0, 0], script.bytes()].concat();
                self.command(&payload).await;
            }
            11 => self.command(script.bytes()).await,
            12 => self.change_user(script).await,
            // As most clients do it.
            13 => {
                self.read().await;
                self.log_in_as(0, PLUGINS[0], true, &[]).await;
                self.read().await;
            }
            14 => {
                let frames = [0, 1, 2, 3].map(|_| script.byte());
                self.raw(&frames).await;
            }
            _ => self.finish().await,
        }
    }

    /// As a packet with the number that is due.
    async fn packet(&mut self, payload: &[u8]) {
        let mut out = Vec::new();
        mysql_wire::frame::write_packet(&mut out, &mut self.sequence, payload);
        self.raw(&out).await;
    }

    async fn command(&mut self, payload: &[u8]) {
        self.sequence = 0;
        self.packet(payload).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        let written = timeout(PATIENCE, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            self.finish().await;
        }
    }

    async fn login(&mut self, script: &mut Input<'_>) {
        let name = script.byte();
        let plugin = script.text(PLUGINS);
        let right = script.byte().is_multiple_of(2);
        self.log_in_as(name, plugin, right, script.bytes()).await;
    }

    /// `rest` chooses what else a login packet may say.
    async fn log_in_as(&mut self, name: u8, plugin: &[u8], right: bool, rest: &[u8]) {
        let mut rest = Input(rest);
        let name: &[u8] = match (self.disguise, NAMES.get(usize::from(name))) {
            (Some(name), _) => name,
            (None, Some((name, may))) => {
                self.seen.name_may |= *may;
                name
            }
            (None, None) => {
                self.seen.name_may = true;
                rest.bytes()
            }
        };
        let answer = match plugin {
            b"mysql_native_password" => native_response(self.password.as_bytes(), &self.nonce).to_vec(),
            b"caching_sha2_password" => caching_sha2(self.password.as_bytes(), &self.nonce),
            // The gateway takes it only where it asks for it by this name, and inside TLS.
            b"mysql_clear_password" => [self.password.as_bytes(), b"\0"].concat(),
            _ => Vec::new(),
        };
        let answer = self.answers(answer, right, rest.byte());
        let flags = Capabilities(u64::from_le_bytes([0; 8].map(|_: u8| rest.byte())));
        let database = rest.text(DATABASES);
        let wants_database = rest.byte() % 2 == 1;
        let attributes = match rest.byte() % 3 {
            0 => Vec::new(),
            1 => encode_attributes([(&b"selkie_project"[..], rest.text(&[b"demo", b"none"]))]),
            _ => rest.bytes().to_vec(),
        };
        let mut capabilities = flags
            | Capabilities::PROTOCOL_41
            | Capabilities::SECURE_CONNECTION
            | Capabilities::PLUGIN_AUTH
            | Capabilities::PLUGIN_AUTH_LENENC_DATA
            | Capabilities::CONNECT_ATTRS;
        capabilities = match wants_database {
            true => capabilities | Capabilities::CONNECT_WITH_DB,
            false => capabilities & !Capabilities::CONNECT_WITH_DB,
        };
        let packet = LoginPacket {
            capabilities,
            max_packet_bytes: 1 << 24,
            collation: 45,
            user: name,
            auth_response: &answer,
            database: wants_database.then_some(database),
            auth_plugin: Some(plugin),
            raw_attributes: &attributes,
        };
        self.packet(&packet.encode()).await;
    }

    /// The answer to the gateway's last question.
    async fn answer(&mut self, script: &mut Input<'_>) {
        let nonce = self.asked.first_chunk().copied().unwrap_or(self.nonce);
        let answer = match script.byte() % 4 {
            0 => native_response(self.password.as_bytes(), &nonce).to_vec(),
            1 => caching_sha2(self.password.as_bytes(), &nonce),
            2 => [self.password.as_bytes(), b"\0"].concat(),
            _ => self.password.as_bytes().to_vec(),
        };
        let right = script.byte().is_multiple_of(2);
        let answer = self.answers(answer, right, script.byte());
        self.packet(&answer).await;
    }

    /// The right one, or one that is a little wrong.
    fn answers(&mut self, mut answer: Vec<u8>, right: bool, wrong: u8) -> Vec<u8> {
        if self.disguise.is_some() {
            // The same in every run, whatever the nonce: it may be taken for another packet than it is.
            return vec![0x15; answer.len()];
        }
        if right {
            self.seen.proven = true;
            return answer;
        }
        let len = answer.len().max(1);
        match answer.get_mut(usize::from(wrong) % len) {
            // Not the case alone, nor a NUL at the end.
            Some(byte) => *byte ^= 0x15,
            None => answer.push(wrong),
        }
        answer
    }

    async fn change_user(&mut self, script: &mut Input<'_>) {
        let name = NAMES[usize::from(script.byte()) % NAMES.len()].0;
        let change = ChangeUser {
            user: name,
            auth_response: script.bytes(),
            database: Some(script.text(DATABASES)),
            collation: Some(45),
            auth_plugin: Some(script.text(PLUGINS)),
            raw_attributes: b"",
        };
        let capabilities = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION | Capabilities::PLUGIN_AUTH;
        self.command(&change.encode(capabilities)).await;
    }

    /// Asks for TLS and does the handshake.
    async fn upgrade(&mut self, script: &mut Input<'_>) {
        self.packet(&ssl_request()).await;
        let name = script.one_of(&SERVER_NAMES);
        let Some(stream) = self.stream.take() else { return };
        let name = ServerName::try_from(name).expect("a name");
        let connected = timeout(
            PATIENCE,
            TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream),
        );
        if let Ok(Ok(stream)) = connected.await {
            self.stream = Some(Box::new(stream));
            self.inside_tls = true;
        } else {
            self.seen.unheard = self.seen.proven && self.seen.name_may;
        }
    }

    /// The gateway's next packet.
    async fn read(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let read = timeout(PATIENCE, read_packet(stream, PACKET_BYTES_MAX)).await;
        match read {
            Ok(Ok(packet)) => {
                self.sequence = packet.sequence.wrapping_add(1);
                self.heard(packet.sequence, packet.payload);
            }
            // In the middle of a packet nobody could go on.
            Ok(Err(_)) => self.finish().await,
            Err(_silent) => {}
        }
    }

    fn heard(&mut self, sequence: u8, mut payload: Vec<u8>) {
        let seen = &mut self.seen;
        if seen.let_in {
            return;
        }
        assert!(
            !seen.refused,
            "a refusal is the last word, and then came {payload:02x?}"
        );
        let first = seen.heard.is_empty();
        assert!(!first || sequence == 0, "the number of {payload:02x?}");
        match payload.first() {
            Some(0xff) => seen.refused = true,
            Some(0) if !first => {
                assert!(seen.proven && seen.name_may, "let in without a proof");
                assert!(self.inside_tls || self.may_plain, "let in without TLS");
                seen.let_in = true;
            }
            Some(0xfe) => {
                let at = payload.iter().position(|byte| *byte == 0).unwrap_or(0) + 1;
                self.asked = payload.split_off(at.min(payload.len()));
            }
            Some(1) => {}
            Some(10) if first => {
                let greeting = mysql_wire::greeting::Greeting::decode(&payload).expect("a greeting");
                self.nonce = greeting.nonce;
                payload.clear();
            }
            _ => panic!("no packet of a login: {payload:02x?}"),
        }
        if let (Some(_), Some(0xff)) = (self.disguise, payload.first()) {
            // A script may name any of them itself.
            let text = String::from_utf8_lossy(&payload).into_owned();
            let text = STRANGERS
                .iter()
                .fold(text, |text, name| text.replace(&*String::from_utf8_lossy(name), "NAME"));
            payload = text.into_bytes();
        }
        seen.heard.push((sequence, payload));
    }

    /// Says no more, reads until the gateway has closed.
    async fn finish(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        let over = timeout(PATIENCE, async {
            let _ = stream.shutdown().await;
            loop {
                match read_packet(&mut stream, PACKET_BYTES_MAX).await {
                    Ok(packet) => self.heard(packet.sequence, packet.payload),
                    Err(ReadError::TooLarge { .. }) => break,
                    Err(_) => return,
                }
            }
            let mut sink = [0; 4096];
            while matches!(stream.read(&mut sink).await, Ok(1..)) {}
        });
        // A gateway that goes on without us is found by its own deadline.
        let _ = over.await;
    }
}

fn ssl_request() -> Vec<u8> {
    let mut packet = vec![0; 32];
    let flags = Capabilities::PROTOCOL_41 | Capabilities::SSL | Capabilities::SECURE_CONNECTION;
    packet[..4].copy_from_slice(&flags.0.to_le_bytes()[..4]);
    debug_assert!(SslRequest::is(&packet));
    packet
}

/// The answer of someone who knows the password.
fn caching_sha2(password: &[u8], nonce: &[u8; 20]) -> Vec<u8> {
    let stage1: [u8; 32] = Sha256::digest(password).into();
    let stage2: [u8; 32] = Sha256::digest(stage1).into();
    let mask: [u8; 32] = Sha256::new().chain_update(stage2).chain_update(nonce).finalize().into();
    stage1.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}
