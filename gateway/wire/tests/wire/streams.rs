//! Feeds streams to the scanners in pieces and notes what they come upon, and where.

use mysql_wire::capabilities::Capabilities;
use mysql_wire::client_stream::{ClientScan, ClientScanner, CommandHead};
use mysql_wire::response::{Expect, ResponseEvent, ResponseScanner};

/// The lengths of a stream's pieces, over and over; no piece is empty.
pub(crate) fn pieces<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let len = lengths
            .next()
            .copied()
            .unwrap_or(usize::MAX)
            .clamp(1, rest.len().max(1));
        let (piece, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(piece)
    })
}

/// Each event and the offset it came at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Noted<Event> {
    pub(crate) events: Vec<(usize, Event)>,
    /// The scanner refused what followed, or more followed than was expected.
    pub(crate) refused: bool,
}

/// Responses of these shapes, one after the other.
pub(crate) fn scan_responses(
    capabilities: Capabilities,
    expected: &[Expect],
    bytes: &[u8],
    lengths: &[usize],
) -> Noted<ResponseEvent> {
    let mut scanner = ResponseScanner::new(capabilities);
    let mut expected = expected.iter();
    let mut events = Vec::new();
    // The caller keeps what was not consumed, as a buffer would.
    let (mut at, mut available) = (0, 0);
    for piece in pieces(bytes, lengths) {
        available += piece.len();
        while at < available {
            if scanner.is_idle() {
                let Some(expect) = expected.next() else {
                    return Noted { events, refused: true };
                };
                scanner.expect(*expect, 1);
            }
            let window = &bytes[at..available];
            let Ok(scanned) = scanner.scan(window) else {
                return Noted { events, refused: true };
            };
            assert!(scanned.consumed <= window.len());
            at += scanned.consumed;
            match scanned.event {
                Some(ResponseEvent::Marked { .. }) => scanner.pass(),
                Some(event) => events.push((at, event)),
                None => {
                    assert!(available - at <= 4 + 23, "a head is at most 27 bytes");
                    break;
                }
            }
        }
    }
    Noted { events, refused: false }
}

/// What a client's stream holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientEvent {
    Begin(CommandHead),
    End,
}

/// Commands, as many as there are.
pub(crate) fn scan_commands(bytes: &[u8], lengths: &[usize]) -> Noted<ClientEvent> {
    let mut scanner = ClientScanner::new();
    let mut events = Vec::new();
    // The caller keeps what was not consumed, as a buffer would.
    let (mut at, mut available) = (0, 0);
    for piece in pieces(bytes, lengths) {
        available += piece.len();
        loop {
            let window = &bytes[at..available];
            let Ok(scan) = scanner.scan(window) else {
                return Noted { events, refused: true };
            };
            match scan {
                ClientScan::NeedMore => {
                    assert!(window.len() < 5, "a head is at most five bytes");
                    break;
                }
                ClientScan::Command(head) => {
                    events.push((at, ClientEvent::Begin(head)));
                    scanner.begin_command();
                }
                ClientScan::Body(n) => {
                    assert!(n > 0 && n <= window.len());
                    at += n;
                }
                ClientScan::CommandEnd(n) => {
                    at += n;
                    events.push((at, ClientEvent::End));
                }
                ClientScan::FileEnd(_) => panic!("no file was asked for"),
            }
        }
    }
    Noted { events, refused: false }
}
