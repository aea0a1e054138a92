//! A compute that we did not write: a server built on opensrv-mysql. Whatever a client may ask for of what that server has,
//! its answers arrive as they arrive on a direct connection.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use mysql_wire::capabilities::Capabilities;
use mysql_wire::response::{Expect, ResponseEvent, ResponseScanner};
use opensrv_mysql::{
    AsyncMysqlIntermediary, AsyncMysqlShim, Column, ColumnFlags, ColumnType, ErrorKind, InitWriter, OkResponse,
    ParamParser, QueryResultWriter, StatementMetaWriter, StatusFlags,
};
use support::client::{BASE, Client, native_answer};
use support::{SECRET, World, project, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, split};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

/// What opensrv-mysql offers, besides what every client has.
const OFFERED: [Capabilities; 4] = [
    Capabilities::PLUGIN_AUTH,
    Capabilities::PLUGIN_AUTH_LENENC_DATA,
    Capabilities::CONNECT_WITH_DB,
    Capabilities::DEPRECATE_EOF,
];

/// Knows four statements and one prepared one.
struct Server;

fn columns() -> Vec<Column> {
    let column = |name: &str, coltype| Column {
        table: "t".into(),
        column: name.into(),
        coltype,
        colflags: ColumnFlags::empty(),
    };
    vec![
        column("number", ColumnType::MYSQL_TYPE_LONG),
        column("text", ColumnType::MYSQL_TYPE_VAR_STRING),
    ]
}

async fn rows<W: AsyncWrite + Send + Unpin>(results: QueryResultWriter<'_, W>) -> io::Result<()> {
    let columns = columns();
    let mut rows = results.start(&columns).await?;
    for (number, text) in [(1, Some("one")), (-2, None), (3, Some("\u{fe}"))] {
        rows.write_col(number)?;
        rows.write_col(text)?;
        rows.end_row().await?;
    }
    rows.finish().await
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Server {
    type Error = io::Error;

    fn version(&self) -> String {
        "8.0.36-opensrv".into()
    }

    /// The gateway by its secret of this incarnation; the direct connection by its name.
    async fn authenticate(&self, plugin: &str, user: &[u8], salt: &[u8], answer: &[u8]) -> bool {
        let nonce = salt.first_chunk().expect("20 bytes");
        match user {
            b"u" => plugin == "mysql_native_password" && answer == native_answer(&SECRET, nonce),
            b"demo.u" => true,
            _ => false,
        }
    }

    async fn on_prepare<'a>(&'a mut self, _: &'a str, info: StatementMetaWriter<'a, W>) -> io::Result<()> {
        let columns = columns();
        info.reply(1, &columns[..1], &columns).await
    }

    async fn on_execute<'a>(
        &'a mut self,
        _: u32,
        _: ParamParser<'a>,
        results: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        rows(results).await
    }

    async fn on_close<'a>(&'a mut self, _: u32)
    where
        W: 'async_trait,
    {
    }

    async fn on_query<'a>(&'a mut self, query: &'a str, results: QueryResultWriter<'a, W>) -> io::Result<()> {
        match query {
            "rows" => rows(results).await,
            "two results" => {
                let first = OkResponse {
                    affected_rows: 1,
                    // The crate does not set it by itself.
                    status_flags: StatusFlags::SERVER_MORE_RESULTS_EXISTS,
                    ..Default::default()
                };
                rows(results.complete_one(first).await?).await
            }
            "fail" => results.error(ErrorKind::ER_NO_SUCH_TABLE, b"no such table").await,
            _ => {
                let done = OkResponse {
                    affected_rows: 300,
                    last_insert_id: 70_000,
                    ..Default::default()
                };
                results.completed(done).await
            }
        }
    }

    async fn on_init<'a>(&'a mut self, _: &'a str, answer: InitWriter<'a, W>) -> io::Result<()> {
        answer.ok().await
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let (read, write) = split(stream);
    // A client that goes is no error.
    let _ = AsyncMysqlIntermediary::run_on(Server, read, write).await;
}

/// The same server behind a socket for the gateway and a port for a direct connection.
async fn listen(sessions: &mut JoinSet<()>, socket: &std::path::Path) -> SocketAddr {
    let (unix, tcp) = (
        UnixListener::bind(socket).unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let address = tcp.local_addr().unwrap();
    sessions.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                accepted = unix.accept() => serving.spawn(serve(accepted.unwrap().0)),
                accepted = tcp.accept() => {
                    let stream = accepted.unwrap().0;
                    stream.set_nodelay(true).unwrap();
                    serving.spawn(serve(stream))
                }
            };
        }
    });
    address
}

/// A command's whole answer.
async fn answer(client: &mut Client, command: &[u8], expect: Expect) -> Vec<u8> {
    client.send(0, command).await;
    let mut scanner = ResponseScanner::new(client.capabilities);
    scanner.expect(expect, 1);
    let (mut bytes, mut at) = (Vec::new(), 0);
    loop {
        let mut chunk = [0; 4096];
        let n = client.stream.read(&mut chunk).await.unwrap();
        assert!(n > 0, "ended in an answer: {bytes:02x?}");
        bytes.extend_from_slice(&chunk[..n]);
        loop {
            let scanned = scanner.scan(&bytes[at..]).unwrap();
            at += scanned.consumed;
            match scanned.event {
                Some(ResponseEvent::Marked { .. }) => scanner.pass(),
                Some(event) => {
                    assert!(matches!(event, ResponseEvent::End(_)), "{event:?}");
                    assert_eq!(at, bytes.len(), "more than the answer");
                    return bytes;
                }
                None => break,
            }
        }
    }
}

#[tokio::test]
async fn its_answers_arrive_as_on_a_direct_connection() {
    let mut sessions = JoinSet::new();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("c");
    let direct = listen(&mut sessions, &socket).await;
    let world = World::start([project("demo")]).await;
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(ready(1, &socket)));

    let commands = [
        (&b"\x03rows"[..], Expect::Results),
        (b"\x03two results", Expect::Results),
        (b"\x03anything else", Expect::Results),
        (b"\x03fail", Expect::Results),
        (b"\x16SELECT ?", Expect::Prepared),
        // Statement 1, no cursor, once; one parameter, not NULL, of type LONG.
        (b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\x03\0\x2a\0\0\0", Expect::Results),
        (b"\x0e", Expect::One),
    ];
    for bits in 0..1_u32 << OFFERED.len() {
        let chosen = OFFERED.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
        let capabilities = chosen.fold(BASE, |set, (_, flag)| set | *flag);
        let mut by_gateway = Client::log_in(world.mysql, "demo.u", "p", capabilities).await.unwrap();
        let mut directly = Client::log_in(direct, "demo.u", "p", capabilities).await.unwrap();
        assert_eq!(by_gateway.capabilities, directly.capabilities);
        for (command, expect) in commands {
            let expected = answer(&mut directly, command, expect).await;
            let seen = answer(&mut by_gateway, command, expect).await;
            assert_eq!(
                seen,
                expected,
                "{capabilities:?}: {:?}",
                String::from_utf8_lossy(command)
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_was_promised_more_than_it_has_is_told() {
    let mut sessions = JoinSet::new();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("c");
    listen(&mut sessions, &socket).await;
    let world = World::start([project("demo")]).await;
    world
        .script
        .wakes
        .lock()
        .unwrap()
        .insert("demo".into(), Ok(ready(1, &socket)));
    for promised in [Capabilities::SESSION_TRACK, Capabilities::MARIADB_EXTENDED_METADATA] {
        let mut client = Client::log_in(world.mysql, "demo.u", "p", BASE | promised)
            .await
            .unwrap();
        let error = client.ask("anything").await.unwrap_err();
        assert!(error.starts_with("1105 HY000"), "{promised:?}: {error}");
    }
}
