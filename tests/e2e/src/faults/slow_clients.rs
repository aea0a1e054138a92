//! Clients that do not read what they asked for, and clients that do not finish what they began to send: others are served,
//! nothing piles up for them, and a gateway that is told to stop stops.

use std::time::Duration;

use harness::process::{resident_bytes, resident_bytes_max};
use harness::{Raw, Selkie, eventually};
use tokio::time::Instant;

const READERS: usize = 8;
const WRITERS: usize = 4;
/// Far below what is sent, above what buffers, threads and the allocator may take.
const GROWTH_BYTES_MAX: u64 = 48 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// After the drain's time sessions have 2 s to be told; then the databases stop, on a machine that is busy.
const STOPS_WITHIN: Duration = Duration::from_secs(20);
/// What a gateway ends with that has cut sessions in the middle of something.
const CUT: i32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_neither_read_nor_finish_hold_up_nobody_and_no_drain() {
    let selkie = Selkie::start_with(&format!("gateway.drain_timeout = \"{}s\"\n", DRAIN_TIMEOUT.as_secs())).await;
    let project = selkie.project("slow").await;
    let mut served = Raw::login(&project.endpoint).await;
    served.query("SELECT 1").await.ok();
    let before = resident_bytes(selkie.pid());
    let mut slow = Vec::new();
    for _ in 0..READERS {
        let mut raw = Raw::login(&project.endpoint).await;
        raw.command(0x03, b"SELECT REPEAT('x', 1048576) FROM seq_1_to_100")
            .await;
        slow.push(raw);
    }
    for _ in 0..WRITERS {
        let mut raw = Raw::login(&project.endpoint).await;
        raw.query("SELECT 1").await.ok();
        // A packet of 16 MiB less a byte, of which a little comes.
        let begun = [&[0xfe, 0xff, 0xff, 0, 0x03], &b"SELECT '"[..], &[b'y'; 1000]].concat();
        raw.write(&begun).await.expect("writing");
        slow.push(raw);
    }
    let sending = "SELECT COUNT(*) FROM information_schema.processlist \
                   WHERE state LIKE 'Writing to net%' OR state LIKE 'Send%'";
    eventually("the server waits to send to all of them", async || {
        (served.query(sending).await.ok().text() == READERS.to_string()).then_some(())
    })
    .await;
    for number in 0..100 {
        let answer = served.query(&format!("SELECT {number}")).await.ok().text();
        assert_eq!(answer, number.to_string());
    }
    let grown = resident_bytes_max(selkie.pid()).saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "grew by {} MiB", grown >> 20);

    let began = Instant::now();
    let (by_itself, code) = tokio::task::block_in_place(|| selkie.stop());
    assert_eq!((by_itself, code), (true, Some(CUT)));
    assert!(began.elapsed() >= DRAIN_TIMEOUT, "they are given the time that is set");
    assert!(began.elapsed() < STOPS_WITHIN, "{:?}", began.elapsed());
    assert!(selkie.servers().is_empty(), "something still runs");
    drop((slow, served));
}
