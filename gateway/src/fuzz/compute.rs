//! A compute that follows a script: what a server answers that somebody else has got hold of. Where the script ends it
//! answers as MariaDB does, so that a session goes on behind what went wrong.

use std::path::Path;
use std::time::Duration;

use mysql_wire::auth::AuthSwitch;
use mysql_wire::capabilities::Capabilities;
use mysql_wire::column::{ColumnDefinition, text_result_set};
use mysql_wire::command::Command;
use mysql_wire::frame::write_packet;
use mysql_wire::greeting::Greeting;
use mysql_wire::login::LoginPacket;
use mysql_wire::ok::{OkPacket, eof_frame, ok_frame};
use mysql_wire::status::StatusFlags;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::input::Input;
use crate::stream::read_packet;

/// All that MariaDB 10.11 offers.
const ALL: Capabilities = Capabilities(0x1d_81ff_f7fe);
const STEPS_MAX: usize = 64;
/// What is read of one packet, and for how long: a gateway that says nothing waits for something.
const PACKET_BYTES_MAX: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(15);

/// Serves whoever dials, one after the other, and counts them.
pub(super) async fn serve(path: &Path, mut script: Input<'_>, dialled: &mut usize) {
    let listener = UnixListener::bind(path).expect("a socket");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        *dialled += 1;
        Compute {
            stream,
            capabilities: Capabilities::PROTOCOL_41,
            sequence: 0,
            has_spoken: false,
        }
        .follow(&mut script)
        .await;
    }
}

struct Compute {
    stream: UnixStream,
    /// As the gateway has said in its login.
    capabilities: Capabilities,
    sequence: u8,
    /// What the gateway says next may answer something else than the next greeting.
    has_spoken: bool,
}

/// The connection is over.
struct Over;

impl Compute {
    async fn follow(mut self, script: &mut Input<'_>) {
        for _ in 0..STEPS_MAX {
            if script.is_empty() {
                break;
            }
            if self.step(script).await.is_err() {
                return;
            }
        }
        // A gateway that is not logged in yet waits for a greeting.
        if self.sequence == 0 && self.log_in().await.is_err() {
            return;
        }
        while self.command().await.is_ok() {}
    }

    async fn step(&mut self, script: &mut Input<'_>) -> Result<(), Over> {
        match script.byte() % 16 {
            0 | 1 => self.log_in().await,
            2 => self.greet(ALL).await,
            3 => {
                let offered = Capabilities(u64::from_le_bytes([0; 8].map(|_: u8| script.byte())));
                self.greet(offered).await
            }
            4 => self.packet(script.bytes()).await,
            5 => self.raw(script.bytes()).await,
            6 => self.read().await.map(drop),
            7 => {
                sleep(Duration::from_secs(u64::from(script.byte() % 16))).await;
                Ok(())
            }
            8 => self.command().await,
            // As MariaDB would, but for one byte.
            9 => {
                let (at, flip) = (u16::from_le_bytes([script.byte(), script.byte()]), script.byte());
                let mut answer = self.answer_of_next().await?;
                let len = answer.len().max(1);
                if let Some(byte) = answer.get_mut(usize::from(at) % len) {
                    *byte ^= flip;
                }
                self.raw(&answer).await
            }
            // As MariaDB would, but for the end.
            10 => {
                let answer = self.answer_of_next().await?;
                let len = usize::from(script.byte()).min(answer.len());
                self.raw(&answer[..len]).await
            }
            // An OK with what it likes.
            11 => {
                self.read().await?;
                let block = script.bytes();
                let ok = OkPacket {
                    status: StatusFlags(u16::from_le_bytes([script.byte(), script.byte()])),
                    warnings: script.byte().into(),
                    last_insert_id: script.byte().into(),
                    session_track: Some(block),
                    ..OkPacket::default()
                };
                self.packet(&ok.encode(self.capabilities)).await
            }
            12 => {
                self.read().await?;
                for _ in 0..script.byte() % 8 {
                    self.packet(script.bytes()).await?;
                }
                Ok(())
            }
            // PREPARE_OK: id, columns, parameters.
            13 => {
                self.read().await?;
                let numbers = script.take(8);
                self.packet(&[&[0], numbers, &[0, 0, 0]].concat()).await
            }
            14 => Err(Over),
            _ => {
                let mut out = Vec::new();
                eof_frame(
                    &mut out,
                    self.sequence,
                    0,
                    StatusFlags(u16::from(script.byte())),
                    self.capabilities,
                );
                self.raw(&out).await
            }
        }
    }

    async fn greet(&mut self, offered: Capabilities) -> Result<(), Over> {
        let greeting = Greeting {
            server_version: "5.5.5-10.11.19-MariaDB".into(),
            connection_id: 7,
            nonce: *b"aaaaaaaaaaaaaaaaaaaa",
            capabilities: offered,
            collation: 45,
            status: StatusFlags::AUTOCOMMIT,
            auth_plugin: "mysql_native_password".into(),
        };
        let first = !self.has_spoken;
        self.packet(&greeting.encode()).await?;
        let login = self.read().await?;
        if let Ok(login) = LoginPacket::decode(&login) {
            assert!(
                !first || (login.capabilities & !offered & !OWN).is_empty(),
                "used but not offered: {:?}",
                login.capabilities & !offered
            );
            self.capabilities = login.capabilities;
        }
        Ok(())
    }

    async fn log_in(&mut self) -> Result<(), Over> {
        self.greet(ALL).await?;
        let switch = AuthSwitch {
            plugin: b"mysql_native_password",
            data: b"bbbbbbbbbbbbbbbbbbbb\0",
        };
        self.packet(&switch.encode()).await?;
        self.read().await?;
        let mut out = Vec::new();
        ok_frame(&mut out, self.sequence, StatusFlags::AUTOCOMMIT, self.capabilities);
        self.raw(&out).await
    }

    async fn command(&mut self) -> Result<(), Over> {
        let answer = self.answer_of_next().await?;
        self.raw(&answer).await
    }

    /// Reads a command; what MariaDB would answer.
    async fn answer_of_next(&mut self) -> Result<Vec<u8>, Over> {
        let command = self.read().await?;
        let mut out = Vec::new();
        let code = command.first().copied().and_then(Command::from_code);
        let text = String::from_utf8_lossy(command.get(1..).unwrap_or_default());
        match (code, inventory(&text)) {
            (Some(Command::Quit), _) => return Err(Over),
            (Some(Command::StmtClose | Command::StmtSendLongData), _) => {}
            (Some(Command::StmtPrepare), _) => write_packet(&mut out, &mut 1, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Some(Command::SetOption), _) => {
                eof_frame(&mut out, 1, 0, StatusFlags::AUTOCOMMIT, self.capabilities);
            }
            (Some(Command::Query), Some(rows)) => {
                let values: Vec<Vec<_>> = rows
                    .iter()
                    .map(|row| row.iter().map(|value| value.map(str::as_bytes)).collect())
                    .collect();
                let column = ColumnDefinition {
                    charset: 45,
                    ..ColumnDefinition::default()
                };
                let columns = vec![column; values.first().map_or(1, Vec::len)];
                text_result_set(
                    &mut out,
                    1,
                    &columns,
                    &values,
                    self.capabilities,
                    StatusFlags::AUTOCOMMIT,
                );
            }
            (Some(Command::Query), None) if text.starts_with("BEGIN") => {
                let open = StatusFlags::AUTOCOMMIT | StatusFlags::IN_TRANS;
                ok_frame(&mut out, 1, open, self.capabilities);
            }
            _ => ok_frame(&mut out, 1, StatusFlags::AUTOCOMMIT, self.capabilities),
        }
        Ok(out)
    }

    async fn packet(&mut self, payload: &[u8]) -> Result<(), Over> {
        let mut out = Vec::new();
        write_packet(&mut out, &mut self.sequence, payload);
        self.raw(&out).await
    }

    async fn raw(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.has_spoken = true;
        let written = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        written.ok().and_then(Result::ok).ok_or(Over)
    }

    async fn read(&mut self) -> Result<Vec<u8>, Over> {
        // A session that idles at its compute says nothing for longer, and then the compute closes: as a crash would.
        let read = timeout(PATIENCE, read_packet(&mut self.stream, PACKET_BYTES_MAX)).await;
        let packet = read.ok().and_then(Result::ok).ok_or(Over)?;
        self.sequence = packet.sequence.wrapping_add(1);
        Ok(packet.payload)
    }
}

/// What the gateway needs itself, whatever it is offered.
const OWN: Capabilities = Capabilities::PROTOCOL_41
    .union(Capabilities::SECURE_CONNECTION)
    .union(Capabilities::PLUGIN_AUTH)
    .union(Capabilities::PLUGIN_AUTH_LENENC_DATA)
    .union(Capabilities::CONNECT_ATTRS)
    .union(Capabilities::CONNECT_WITH_DB);

/// What a session that holds nothing answers to the gateway's questions before a park.
fn inventory(text: &str) -> Option<Vec<Vec<Option<&'static str>>>> {
    let named = |names: &[&'static str]| names.iter().map(|name| vec![Some(*name), Some("0")]).collect();
    Some(match text {
        _ if text.starts_with("SELECT ROW_COUNT(),") => vec![vec![
            Some("0"),
            Some("0"),
            Some("0"),
            Some("0"),
            Some("0"),
            Some("1"),
            Some("demo"),
            None,
            Some("utf8mb4"),
            Some("utf8mb4"),
            Some("utf8mb4_general_ci"),
            Some("0"),
            Some("0"),
            Some("1"),
            Some("2"),
            Some(""),
            Some("1"),
        ]],
        "SHOW WARNINGS" => Vec::new(),
        _ if text.contains("FROM information_schema.SYSTEM_VARIABLES") => Vec::new(),
        _ if text.contains("FROM information_schema.USER_VARIABLES") => Vec::new(),
        _ if text.contains("FROM information_schema.SESSION_STATUS") => named(&[
            "COM_CREATE_TEMPORARY_TABLE",
            "COM_HA_OPEN",
            "COM_PREPARE_SQL",
            "COM_STMT_PREPARE",
            "COM_STMT_CLOSE",
            "COM_SAVEPOINT",
        ]),
        _ if text.contains("FROM information_schema.METADATA_LOCK_INFO") => {
            vec![vec![Some("0"), Some("45"), Some("45")]]
        }
        "SELECT @@timestamp LIMIT 1" => vec![vec![Some("2")]],
        _ => return None,
    })
}
