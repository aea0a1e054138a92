//! Prepared statements through the gateway: binary rows, cursors, long data, bulk execution, the id that stands for the
//! statement prepared last. Each packet is compared with a plain `mariadbd`'s.

use harness::raw::{Kind, Response, caps, frames};
use harness::{Raw, Selkie};

use crate::oracle::same_on_both;

const OLD: u64 = caps::USUAL & !caps::DEPRECATE_EOF;
pub(crate) const LAST_PREPARED: u32 = 0xffff_ffff;
const READ_ONLY_CURSOR: u8 = 1;

/// Prepares `sql`: its id, and the response with the id taken out, as servers count statements of all sessions together.
pub(crate) async fn prepare(raw: &mut Raw, sql: &str) -> (u32, Response) {
    raw.command(0x16, sql.as_bytes()).await;
    prepared(raw).await
}

async fn prepared(raw: &mut Raw) -> (u32, Response) {
    let mut response = raw.response(Kind::Prepare).await;
    let head = &mut response.packets[0].payload;
    if head[0] != 0 {
        return (0, response);
    }
    let id = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    head[1..5].fill(0);
    (id, response)
}

/// COM_STMT_EXECUTE; `parameters` is the null bitmap, the flag for types, types and values.
pub(crate) fn execute(id: u32, cursor: u8, parameters: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x17];
    packet.extend(id.to_le_bytes());
    packet.push(cursor);
    packet.extend(1u32.to_le_bytes());
    packet.extend(parameters);
    packet
}

/// One BIGINT parameter.
pub(crate) fn bigint(value: i64) -> Vec<u8> {
    [&[0, 1, 8, 0][..], &value.to_le_bytes()].concat()
}

pub(crate) async fn run(raw: &mut Raw, packet: &[u8], kind: Kind) -> Response {
    raw.send(0, packet).await;
    let mut response = raw.response(kind).await;
    // "Unknown prepared statement handler (7)", "The statement (7) has no open cursor": the number is the server's.
    if matches!(response.error(), Some(1243 | 1421)) {
        let payload = &mut response.packets[0].payload;
        payload.retain(|byte| !byte.is_ascii_digit());
    }
    response
}

pub(crate) fn with_id(command: u8, id: u32, rest: &[u8]) -> Vec<u8> {
    [&[command][..], &id.to_le_bytes(), rest].concat()
}

#[tokio::test]
async fn prepared_statements_are_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("prepared").await;
    for caps in [caps::USUAL, OLD] {
        same_on_both(&project, caps, async |raw| {
            let mut seen = Vec::new();
            seen.push(
                raw.query("CREATE OR REPLACE TABLE ps_plain (a BIGINT, b VARCHAR(20), c DATETIME(6))")
                    .await,
            );
            let (insert, response) =
                prepare(raw, "INSERT INTO ps_plain VALUES (?, 'text', '2024-02-29 1:2:3.4')").await;
            seen.push(response);
            for value in [-1, 0, i64::MAX] {
                seen.push(run(raw, &execute(insert, 0, &bigint(value)), Kind::Query).await);
            }
            seen.push(run(raw, &execute(insert, 0, &[1, 1, 8, 0]), Kind::Query).await); // NULL
            let (select, response) = prepare(raw, "SELECT *, a / 3 FROM ps_plain WHERE a >= ? OR a IS NULL").await;
            seen.push(response);
            for value in [-5, 5, i64::MAX] {
                seen.push(run(raw, &execute(select, 0, &bigint(value)), Kind::Query).await);
            }
            seen.push(raw.query("ALTER TABLE ps_plain ADD d INT DEFAULT 7").await);
            seen.push(run(raw, &execute(select, 0, &bigint(0)), Kind::Query).await);
            seen.push(run(raw, &with_id(0x1a, select, b""), Kind::Single).await); // COM_STMT_RESET
            raw.send(0, &with_id(0x19, select, b"")).await; // COM_STMT_CLOSE, not answered
            seen.push(run(raw, &execute(select, 0, &bigint(0)), Kind::Query).await);
            seen.push(prepare(raw, "SELECT FROM").await.1);
            seen.push(prepare(raw, "SELECT 1; SELECT 2").await.1);
            seen.push(prepare(raw, "DO 1").await.1);
            seen.push(run(raw, &execute(12345, 0, &[]), Kind::Query).await);
            seen.push(raw.query("DROP TABLE ps_plain").await);
            seen.push(run(raw, &execute(insert, 0, &bigint(1)), Kind::Query).await);
            seen
        })
        .await;
    }
    selkie.logs.check();
}

#[tokio::test]
async fn procedures_called_as_prepared_statements_are_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("prepared-call").await;
    for caps in [caps::USUAL, OLD] {
        same_on_both(&project, caps, async |raw| {
            let make = "CREATE OR REPLACE PROCEDURE ps_call(OUT b INT) BEGIN SELECT 1; SELECT seq FROM seq_1_to_3; SET b = 9; END";
            let mut seen = vec![raw.query(make).await];
            let (call, response) = prepare(raw, "CALL ps_call(?)").await;
            seen.push(response);
            seen.push(run(raw, &execute(call, 0, &bigint(0)), Kind::Query).await);
            seen.push(raw.query("SELECT 'next'").await);
            seen
        })
        .await;
    }
    selkie.logs.check();
}

#[tokio::test]
async fn cursors_and_fetches_are_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("cursors").await;
    for caps in [caps::USUAL, OLD] {
        same_on_both(&project, caps, async |raw| {
            let (select, response) = prepare(raw, "SELECT seq, REPEAT('x', 100) FROM seq_1_to_250").await;
            let mut seen = vec![
                response,
                run(raw, &execute(select, READ_ONLY_CURSOR, &[]), Kind::Query).await,
            ];
            for count in [1u32, 99, 100, 50, 100] {
                seen.push(run(raw, &with_id(0x1c, select, &count.to_le_bytes()), Kind::Fetch).await);
            }
            seen.push(run(raw, &with_id(0x1c, select, &1u32.to_le_bytes()), Kind::Fetch).await);
            let (empty, response) = prepare(raw, "SELECT seq FROM seq_1_to_5 WHERE seq > 10").await;
            seen.push(response);
            seen.push(run(raw, &execute(empty, READ_ONLY_CURSOR, &[]), Kind::Query).await);
            let (effect, response) = prepare(raw, "DO 1").await;
            seen.push(response);
            seen.push(run(raw, &execute(effect, READ_ONLY_CURSOR, &[]), Kind::Query).await);
            seen.push(raw.query("SELECT 'while a cursor was open'").await);
            seen
        })
        .await;
    }
    selkie.logs.check();
}

#[tokio::test]
async fn long_data_is_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("long-data").await;
    same_on_both(&project, caps::USUAL, async |raw| {
        let (select, response) = prepare(raw, "SELECT LENGTH(?), SHA1(?)").await;
        let mut seen = vec![response];
        for piece in [&[b'a'; 100_000][..], b"", &[b'b'; 70_000]] {
            for parameter in [0u16, 1] {
                let rest = [&parameter.to_le_bytes()[..], piece].concat();
                raw.send(0, &with_id(0x18, select, &rest)).await; // COM_STMT_SEND_LONG_DATA, not answered
            }
        }
        let blobs = [0, 1, 0xfc, 0, 0xfc, 0];
        seen.push(run(raw, &execute(select, 0, &blobs), Kind::Query).await);
        seen.push(run(raw, &with_id(0x1a, select, b""), Kind::Single).await);
        seen.push(
            run(
                raw,
                &execute(select, 0, &[&blobs[..], b"\x02xy\x00"].concat()),
                Kind::Query,
            )
            .await,
        );
        seen
    })
    .await;
    selkie.logs.check();
}

#[tokio::test]
async fn bulk_execution_is_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bulk").await;
    same_on_both(&project, caps::USUAL | caps::BULK, async |raw| {
        let mut seen = vec![
            raw.query("CREATE OR REPLACE TABLE ps_bulk (a BIGINT PRIMARY KEY)")
                .await,
        ];
        let (insert, response) = prepare(raw, "INSERT INTO ps_bulk VALUES (?)").await;
        seen.push(response);
        // Flags 128: types follow. Each row: an indicator (0: a value, 1: NULL) and the value.
        let mut rows = with_id(0xfa, insert, &[128, 0, 8, 0]);
        for value in 0..5000u64 {
            rows.push(0);
            rows.extend(value.to_le_bytes());
        }
        seen.push(run(raw, &rows, Kind::Query).await);
        seen.push(run(raw, &rows, Kind::Query).await); // every key is there already
        seen.push(raw.query("SELECT COUNT(*), SUM(a) FROM ps_bulk").await);
        seen
    })
    .await;
    selkie.logs.check();
}

#[tokio::test]
async fn the_id_of_the_statement_prepared_last_works_in_one_write() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("last-prepared").await;
    for caps in [caps::USUAL, OLD] {
        same_on_both(&project, caps, async |raw| {
            let mut seen = Vec::new();
            for sql in ["SELECT ? + 1", "SELECT ? FROM", "SELECT ? * 3"] {
                let mut bytes = frames(0, &[b"\x16", sql.as_bytes()].concat());
                bytes.extend(frames(0, &execute(LAST_PREPARED, 0, &bigint(41))));
                bytes.extend(frames(0, &with_id(0x19, LAST_PREPARED, b"")));
                bytes.extend(frames(0, b"\x03SELECT 'then'"));
                raw.write(&bytes).await.unwrap();
                seen.push(prepared(raw).await.1);
                seen.push(raw.response(Kind::Query).await);
                seen.push(raw.response(Kind::Query).await);
            }
            seen
        })
        .await;
    }
    selkie.logs.check();
}

#[tokio::test]
async fn the_first_command_may_be_a_prepare_and_an_execute_in_one_write() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("first-prepared").await;
    let mut raw = Raw::login(&project.endpoint).await;
    let mut bytes = frames(0, b"\x16SELECT ? + 1");
    bytes.extend(frames(0, &execute(LAST_PREPARED, 0, &bigint(41))));
    raw.write(&bytes).await.unwrap();
    raw.response(Kind::Prepare).await.ok();
    let row = raw.response(Kind::Query).await.ok();
    assert!(
        row.packets
            .iter()
            .any(|packet| packet.payload.ends_with(&42i64.to_le_bytes())),
        "{row:?}"
    );
    selkie.logs.check();
}
