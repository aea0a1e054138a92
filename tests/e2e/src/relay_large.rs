//! Packets larger than a frame (16 MiB - 1), both ways, around the border where an empty frame follows.

use harness::Selkie;
use harness::raw::{FRAME_MAX, Kind, caps};

use crate::oracle::same_on_both;

#[tokio::test]
async fn packets_over_16_mib_are_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("large").await;
    for caps in [caps::USUAL, caps::USUAL & !caps::DEPRECATE_EOF] {
        same_on_both(&project, caps, async |raw| {
            let mut seen = Vec::new();
            // The row's payload is 4 (or 5) bytes of length and the text: one below a full frame, full, one above, two.
            for length in [
                FRAME_MAX - 5,
                FRAME_MAX - 4,
                FRAME_MAX - 3,
                FRAME_MAX,
                2 * FRAME_MAX - 9,
                2 * FRAME_MAX + 1,
            ] {
                let mut short = raw
                    .query(&format!("SELECT REPEAT('x', {length}); SELECT 'next'"))
                    .await
                    .ok();
                for packet in &mut short.packets {
                    packet.payload.truncate(64);
                }
                seen.push(short);
            }
            seen
        })
        .await;
    }
    selkie.logs.check();
}

#[tokio::test]
async fn commands_over_16_mib_are_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("large-commands").await;
    same_on_both(&project, caps::USUAL, async |raw| {
        let mut seen = Vec::new();
        let around = b"\x03SELECT LENGTH('')".len();
        for length in [
            FRAME_MAX - around - 1,
            FRAME_MAX - around,
            FRAME_MAX - around + 1,
            2 * FRAME_MAX - around,
            40 << 20,
        ] {
            let text = "y".repeat(length);
            seen.push(raw.query(&format!("SELECT LENGTH('{text}')")).await.ok());
        }
        raw.command(0x0e, b"").await;
        seen.push(raw.response(Kind::Single).await);
        seen
    })
    .await;
    selkie.logs.check();
}
