//! A compute by script: it logs everyone in who knows the gateway's secret, with the capabilities it is told to offer, and
//! answers a few statements as MariaDB would frame them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use mysql_wire::auth::AuthSwitch;
use mysql_wire::capabilities::Capabilities;
use mysql_wire::column::{ColumnDefinition, text_result_set};
use mysql_wire::command::Command;
use mysql_wire::err::err_frame;
use mysql_wire::frame::{FrameHeader, write_packet};
use mysql_wire::greeting::Greeting;
use mysql_wire::login::LoginPacket;
use mysql_wire::ok::ok_frame;
use mysql_wire::status::StatusFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Everything MariaDB 10.11 offers.
pub const ALL: Capabilities = Capabilities(0x1d_81ff_f7fe);

#[derive(Default)]
pub struct Seen {
    pub logins: usize,
    /// Connection attributes of each, as they came.
    pub attributes: Vec<Vec<u8>>,
    /// Texts of COM_QUERY, in order.
    pub queries: Vec<String>,
    pub commands: Vec<u8>,
}

impl Seen {
    /// Texts of COM_QUERY, in order, without the gateway's own.
    pub fn clients_queries(&self) -> Vec<&str> {
        let texts = self.queries.iter().map(String::as_str);
        let restores = |text: &str| {
            ["SET character_set_client=", "SET ROLE "]
                .iter()
                .any(|set| text.starts_with(set))
        };
        let own = |text: &&str| inventory(text).is_some() || restores(text);
        texts.filter(|text| !own(text)).collect()
    }
}

pub struct FakeCompute {
    pub socket: PathBuf,
    pub seen: Arc<Mutex<Seen>>,
    /// Lets it answer a `WAIT`.
    pub answers: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl FakeCompute {
    pub fn start(dir: &Path, name: &str, offered: Capabilities) -> Self {
        let socket = dir.join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        let seen_here = Arc::clone(&seen);
        let answers = Arc::new(Notify::new());
        let answers_here = Arc::clone(&answers);
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                sessions.spawn(session(
                    stream,
                    offered,
                    Arc::clone(&seen_here),
                    Arc::clone(&answers_here),
                ));
            }
        });
        Self {
            socket,
            seen,
            answers,
            tasks,
        }
    }

    /// As a crash would: every connection breaks and nobody listens.
    pub fn kill(mut self) {
        self.tasks.abort_all();
        std::fs::remove_file(&self.socket).unwrap();
    }
}

pub async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let header = FrameHeader::decode(&header).unwrap();
    let mut payload = vec![0; header.payload_len];
    stream.read_exact(&mut payload).await?;
    Ok((header.sequence, payload))
}

async fn session(mut stream: UnixStream, offered: Capabilities, seen: Arc<Mutex<Seen>>, answers: Arc<Notify>) {
    let _ = converse(&mut stream, offered, seen, answers).await;
}

async fn converse(
    stream: &mut UnixStream,
    offered: Capabilities,
    seen: Arc<Mutex<Seen>>,
    answers: Arc<Notify>,
) -> std::io::Result<()> {
    let greeting = Greeting {
        server_version: "5.5.5-10.11.19-MariaDB".into(),
        connection_id: 7,
        nonce: *b"aaaaaaaaaaaaaaaaaaaa",
        capabilities: offered,
        collation: 45,
        status: StatusFlags::AUTOCOMMIT,
        auth_plugin: "mysql_native_password".into(),
    };
    send(stream, 0, &greeting.encode()).await?;
    let (_, login) = read(stream).await?;
    let login = LoginPacket::decode(&login).unwrap();
    let capabilities = login.capabilities;
    seen.lock().unwrap().attributes.push(login.raw_attributes.to_vec());
    assert!(
        (capabilities & !offered).is_empty(),
        "used but not offered: {:?}",
        capabilities & !offered
    );
    // As a real account does whose first method is the tenant's.
    let switch = AuthSwitch {
        plugin: b"mysql_native_password",
        data: b"bbbbbbbbbbbbbbbbbbbb\0",
    };
    send(stream, 2, &switch.encode()).await?;
    let (_, answer) = read(stream).await?;
    assert_eq!(answer.len(), 20);
    seen.lock().unwrap().logins += 1;
    let mut out = Vec::new();
    ok_frame(&mut out, 4, StatusFlags::AUTOCOMMIT, capabilities);
    stream.write_all(&out).await?;
    let mut prepared: u32 = 0;
    let mut holds_much = false;
    loop {
        let (_, command) = read(stream).await?;
        let text = String::from_utf8_lossy(&command[1..]).into_owned();
        {
            let mut seen = seen.lock().unwrap();
            seen.commands.push(command[0]);
            if command[0] == Command::Query.code() {
                seen.queries.push(text.clone());
            }
        }
        let mut out = Vec::new();
        match (Command::from_code(command[0]), text.as_str()) {
            (Some(Command::Quit), _) => return Ok(()),
            (Some(Command::Query), "SELECT two results") => {
                let more = StatusFlags::AUTOCOMMIT | StatusFlags::MORE_RESULTS;
                let rows = [vec![Some(&b"x"[..])], vec![None]];
                let frames_before = result(&mut out, 1, &rows, capabilities, more);
                result(&mut out, frames_before, &rows, capabilities, StatusFlags::AUTOCOMMIT);
            }
            (Some(Command::Query), "LOAD") => write_packet(&mut out, &mut 1, b"\xfb/etc/passwd"),
            (Some(Command::StmtPrepare), _) => {
                prepared += 1;
                // No columns, no parameters.
                let payload = [&[0][..], &u32::to_le_bytes(prepared), &[0; 7]].concat();
                write_packet(&mut out, &mut 1, &payload);
            }
            (Some(Command::StmtClose), _) => {}
            (Some(Command::Query), "SET @v0 = much") => {
                holds_much = true;
                ok_frame(&mut out, 1, StatusFlags::AUTOCOMMIT, capabilities);
            }
            (Some(Command::Query), "BREAK") => return Ok(()),
            (Some(Command::Query), "BREAK inside") => {
                stream.write_all(&[1, 0, 0, 1, 1, 50, 0, 0, 2, 3]).await?;
                return Ok(());
            }
            // Somebody kills the connection by its id here, right after.
            (Some(Command::Query), "KILLED AFTERWARDS") => {
                ok_frame(&mut out, 1, StatusFlags::AUTOCOMMIT, capabilities);
                err_frame(&mut out, 0, 1927, "70100", "Connection was killed");
                stream.write_all(&out).await?;
                return Ok(());
            }
            // The client is faster than the end of the connection.
            (Some(Command::Query), "COMMIT RELEASE") => {
                ok_frame(&mut out, 1, StatusFlags::AUTOCOMMIT, capabilities);
                stream.write_all(&out).await?;
                read(stream).await?;
                return Ok(());
            }
            (Some(Command::Query), "BEGIN") => ok_frame(
                &mut out,
                1,
                StatusFlags::AUTOCOMMIT | StatusFlags::IN_TRANS,
                capabilities,
            ),
            (Some(Command::Query), "WAIT") => {
                answers.notified().await;
                ok_frame(&mut out, 1, StatusFlags::AUTOCOMMIT, capabilities);
            }
            (Some(Command::Query), "HANG") => std::future::pending().await,
            (Some(Command::Query), text) if let Some(mut rows) = inventory(text) => {
                if holds_much && text.contains("information_schema.USER_VARIABLES") {
                    let value = "x".repeat(2_000);
                    rows = (0..700)
                        .map(|n| vec![format!("v{n}"), "VARCHAR".into(), value.clone(), "utf8mb4".into()])
                        .collect();
                }
                let rows: Vec<Vec<_>> = rows
                    .iter()
                    .map(|row| {
                        row.iter()
                            .map(|value| (value != "NULL").then_some(value.as_bytes()))
                            .collect()
                    })
                    .collect();
                let column = ColumnDefinition {
                    charset: 45,
                    ..Default::default()
                };
                let columns = vec![column; rows.first().map_or(1, Vec::len)];
                text_result_set(&mut out, 1, &columns, &rows, capabilities, StatusFlags::AUTOCOMMIT);
            }
            (Some(Command::Query), "SELECT fail") => err_frame(&mut out, 1, 1146, "42S02", "no such table"),
            _ => ok_frame(&mut out, 1, StatusFlags::AUTOCOMMIT, capabilities),
        }
        stream.write_all(&out).await?;
    }
}

/// What a session that holds nothing answers to the gateway's questions before a park. Every second answer is of another
/// time.
fn inventory(text: &str) -> Option<Vec<Vec<String>>> {
    static CLOCK: AtomicU32 = AtomicU32::new(0);
    let row = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let now = CLOCK.fetch_add(1, Relaxed).to_string();
    Some(match text {
        _ if text.starts_with("SELECT ROW_COUNT(),") => vec![row(&[
            "0",
            "0",
            "0",
            "0",
            "0",
            &now,
            "demo",
            "NULL",
            "utf8mb4",
            "utf8mb4",
            "utf8mb4_general_ci",
            "0",
            "0",
            "1",
            "2",
            "",
            "1",
        ])],
        "SHOW WARNINGS" => Vec::new(),
        _ if text.contains("FROM information_schema.SYSTEM_VARIABLES") => Vec::new(),
        _ if text.contains("FROM information_schema.USER_VARIABLES") => Vec::new(),
        _ if text.contains("FROM information_schema.SESSION_STATUS") => [
            "COM_CREATE_TEMPORARY_TABLE",
            "COM_HA_OPEN",
            "COM_PREPARE_SQL",
            "COM_STMT_PREPARE",
            "COM_STMT_CLOSE",
            "COM_SAVEPOINT",
        ]
        .map(|name| row(&[name, "0"]))
        .to_vec(),
        _ if text.contains("FROM information_schema.METADATA_LOCK_INFO") => vec![row(&["0", "45", "45"])],
        "SELECT @@timestamp LIMIT 1" => vec![row(&[&now])],
        _ => return None,
    })
}

/// Returns the sequence id after it.
fn result(
    out: &mut Vec<u8>,
    sequence: u8,
    rows: &[Vec<Option<&[u8]>>],
    capabilities: Capabilities,
    status: StatusFlags,
) -> u8 {
    let columns = [ColumnDefinition {
        name: b"c".to_vec(),
        charset: 45,
        column_type: 0xfd,
        ..Default::default()
    }];
    text_result_set(out, sequence, &columns, rows, capabilities, status);
    let eofs = if capabilities.contains(Capabilities::DEPRECATE_EOF) {
        1
    } else {
        2
    };
    sequence + 2 + u8::try_from(rows.len()).unwrap() + eofs
}

async fn send(stream: &mut UnixStream, sequence: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut out = Vec::new();
    write_packet(&mut out, &mut { sequence }, payload);
    stream.write_all(&out).await
}
