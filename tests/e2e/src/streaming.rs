//! Large results and values pass through without staying in memory, and a slow reader slows down only itself.

use harness::client::value;
use harness::process::{resident_bytes, resident_bytes_max};
use harness::raw::Kind;
use harness::{Raw, Selkie};

const GIB: u64 = 1 << 30;
/// Far below what is sent, above what buffers, threads and the allocator may take.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

/// Reads `bytes` bytes as they come and keeps none.
async fn skip(raw: &mut Raw, mut bytes: u64) {
    while bytes > 0 {
        let read = raw.read_some(bytes.min(1 << 20) as usize).await.expect("the result");
        assert!(!read.is_empty(), "the connection ended {bytes} bytes too early");
        bytes -= read.len() as u64;
    }
}

/// An OK that ends rows, and says autocommit; perhaps that no index was used, and on a busy machine that it was slow.
fn ends_rows(tail: &[u8]) -> bool {
    const NO_INDEX: u8 = 0x20;
    const SLOW: u8 = 0x08;
    let status = tail.strip_suffix(&[0, 0]).and_then(<[u8]>::split_last_chunk::<5>);
    status.is_some_and(|(_, end)| matches!(end, [0xfe, 0, 0, low, high] if low & !NO_INDEX == 2 && high & !SLOW == 0))
}

#[tokio::test]
async fn a_gibibyte_passes_without_staying_in_memory() {
    let selkie = Selkie::start().await;
    let project = selkie.project("streaming").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("SELECT 1").await.ok();
    let before = resident_bytes(selkie.pid());

    // Rows of 1 MiB: 4 bytes of header, 4 of length, the text.
    raw.command(0x03, b"SELECT REPEAT('x', 1048576) FROM seq_1_to_1024")
        .await;
    skip(&mut raw, GIB).await;
    // What is left of the result ends in an OK packet; its rows' borders are not looked at here.
    let mut tail = Vec::new();
    while !ends_rows(&tail) {
        let read = raw.read_some(1 << 20).await.expect("the result's end");
        assert!(!read.is_empty(), "ended in {:?}", tail.escape_ascii().to_string());
        tail = [&tail[tail.len().min(tail.len().saturating_sub(16))..], &read].concat();
    }

    let grown = resident_bytes_max(selkie.pid()).saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "grew by {} MiB for a result of 1 GiB",
        grown >> 20
    );

    raw.query("CREATE TABLE t (a LONGBLOB)").await.ok();
    let value = vec![b'v'; 64 << 20];
    let insert = [b"INSERT INTO t VALUES ('", &value[..], b"')"].concat();
    raw.command(0x03, &insert).await;
    raw.response(Kind::Query).await.ok();
    let row = raw.query("SELECT a FROM t").await.ok();
    assert_eq!(row.packets[2].payload.len(), value.len() + 9);
    let grown = resident_bytes_max(selkie.pid()).saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "grew by {} MiB for a value of 64 MiB",
        grown >> 20
    );

    slow_reader(&selkie, &project, before).await;
    drop(raw);
    drop(project);
}

/// A client that does not read holds up its own result only, and nothing piles up for it.
async fn slow_reader(selkie: &Selkie, project: &harness::Project<'_>, before: u64) {
    let mut slow = Raw::login(&project.endpoint).await;
    slow.query("SELECT 1").await.ok();
    slow.command(0x03, b"SELECT REPEAT('x', 1048576) FROM seq_1_to_200")
        .await;
    let mut other = project.endpoint.connect().await;
    let sending =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'Writing to net%' OR state LIKE 'Send%'";
    harness::eventually("mariadbd waits to send", async || {
        (value(&mut other, sending).await.as_deref() != Some("0")).then_some(())
    })
    .await;
    for number in 0..200 {
        assert_eq!(
            value(&mut other, &format!("SELECT {number}")).await,
            Some(number.to_string())
        );
    }
    let grown = resident_bytes_max(selkie.pid()).saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "grew by {} MiB for a client that does not read",
        grown >> 20
    );
    let result = slow.response(Kind::Query).await.ok();
    assert_eq!(result.packets.len(), 1 + 1 + 200 + 1);
}
