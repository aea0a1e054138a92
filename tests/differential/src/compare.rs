//! Whether two responses say the same, and all that may differ, each with its reason. Nothing is left out elsewhere.

use harness::raw::{Packet, caps};

use crate::step::Act;

/// Session variables that differ by nature.
const LEFT_OUT: &[(&str, &str)] = &[
    ("pseudo_thread_id", "the id of the compute's thread"),
    ("timestamp", "the time, unless set; steps ask for it where it is set"),
    ("rand_seed1", "random, unless set; then RAND() tells"),
    ("rand_seed2", "random, unless set; then RAND() tells"),
    (
        "session_track_state_change",
        "the gateway's need; clients hear MariaDB's default",
    ),
    ("session_track_system_variables", "the same"),
    ("session_track_transaction_info", "the same"),
];

/// All user variables of the session; the type tells what a text of the value would not.
pub(crate) const USER_VARIABLES: &str = "SELECT VARIABLE_NAME, CONCAT(VARIABLE_TYPE, CHARACTER_SET_NAME), HEX(VARIABLE_VALUE) \
     FROM information_schema.USER_VARIABLES ORDER BY VARIABLE_NAME";

/// Asks for all session variables but those left out.
pub(crate) fn variables_query() -> String {
    let names: Vec<String> = LEFT_OUT.iter().map(|(name, _)| format!("'{name}'")).collect();
    format!(
        "SELECT VARIABLE_NAME, SESSION_VALUE FROM information_schema.SYSTEM_VARIABLES \
         WHERE SESSION_VALUE IS NOT NULL AND VARIABLE_NAME NOT IN ({}) ORDER BY VARIABLE_NAME",
        names.join(", ")
    )
}

/// What follows is the server's number of a prepared statement; servers count those of all sessions together.
const NAMES_A_STATEMENT: [&[u8]; 2] = [b"prepared statement handler (", b"The statement ("];

/// Bit 14 of the status flags: session changes follow.
const STATE_CHANGED: u16 = 1 << 14;

/// The kind of a session change that is a variable.
const VARIABLE: u8 = 0;

/// A response without what it legitimately says differently after this act.
pub(crate) fn without_known_differences(act: &Act, mut packets: Vec<Packet>, capabilities: u64) -> Vec<Packet> {
    // COM_CHANGE_USER: the gateway answers it with no compute and reports no change of the database. COM_RESET_CONNECTION:
    // a compute's tracker starts anew as the gateway needs it and reports a transaction's state that is none.
    if matches!(act, Act::ChangeUser { .. } | Act::ResetConnection)
        && let Some(packet) = packets.last_mut()
        && let Some((mut head, _)) = split_changes(&packet.payload, capabilities)
    {
        // No rows, no id, the flags, no warnings; an empty text is left out where nothing follows.
        head.truncate(7);
        head[4] &= !(STATE_CHANGED >> 8) as u8;
        packet.payload = head;
    }
    packets
}

/// The first difference of two responses, in words.
pub(crate) fn difference(gateway: &[Packet], direct: &[Packet], capabilities: u64) -> Option<String> {
    let pairs = gateway.iter().zip(direct).enumerate();
    for (place, (seen, expected)) in pairs {
        if !same(seen, expected, capabilities) {
            return Some(format!("packet {place}:\n  gateway {seen:?}\n  direct  {expected:?}"));
        }
    }
    (gateway.len() != direct.len()).then(|| {
        let (longer, place) = if gateway.len() > direct.len() {
            (gateway, direct.len())
        } else {
            (direct, gateway.len())
        };
        format!(
            "{} packets through the gateway, {} directly; the first of the rest: {:?}",
            gateway.len(),
            direct.len(),
            longer[place]
        )
    })
}

/// Whether the two say the same, but for the order of changes: mariadbd reports those of one statement in that of a hash
/// table. And the gateway's side may report a variable once more than the other: its compute tracks all variables and says
/// late what a SET STATEMENT or a failed procedure put back. That the value is right is seen by `Act::Variables`.
fn same(seen: &Packet, expected: &Packet, capabilities: u64) -> bool {
    if seen == expected || names_a_statement(seen) && names_a_statement(expected) {
        return true;
    }
    if is_eof(seen) && is_eof(expected) {
        // The flag for changes without the changes: it tells a client nothing, and the gateway leaves it out.
        return seen.seq == expected.seq
            && without_flag(seen.payload.clone()) == without_flag(expected.payload.clone());
    }
    let apart = |packet: &Packet| split_changes(&packet.payload, capabilities);
    let Some((head, mut changes)) = apart(seen) else {
        return false;
    };
    let (expected_head, mut expected_changes) = apart(expected).unwrap_or_else(|| unchanged(&expected.payload));
    changes.retain(|change| change.first() != Some(&VARIABLE) || expected_changes.contains(change));
    // Nor does a new connection say late what an old one put back, having begun with it as it is.
    expected_changes.retain(|change| !is_time_zone(change) || changes.contains(change));
    let by_order = |mut changes: Vec<Vec<u8>>| {
        changes.sort_unstable();
        changes
    };
    seen.seq == expected.seq
        && without_flag(head) == without_flag(expected_head)
        && by_order(changes) == by_order(expected_changes)
}

/// The one variable among those that clients hear of by default which steps set for a statement or in a procedure that fails.
fn is_time_zone(change: &[u8]) -> bool {
    change.first() == Some(&VARIABLE) && change.windows(9).any(|part| part == b"time_zone")
}

fn is_eof(packet: &Packet) -> bool {
    packet.payload.len() == 5 && packet.payload[0] == 0xfe
}

fn names_a_statement(packet: &Packet) -> bool {
    NAMES_A_STATEMENT
        .iter()
        .any(|text| packet.payload.windows(text.len()).any(|part| part == *text))
}

/// An OK packet that reports nothing: its empty text is left out where nothing follows.
fn unchanged(payload: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut head = payload.to_vec();
    if head.len() == 7 {
        head.push(0);
    }
    (head, Vec::new())
}

/// For packets with counts of one byte each, which those with more than an empty report are here.
fn without_flag(mut head: Vec<u8>) -> Vec<u8> {
    if let Some(flags) = head.get_mut(4) {
        *flags &= !(STATE_CHANGED >> 8) as u8;
    }
    head
}

/// An OK packet without its session changes, and those.
fn split_changes(payload: &[u8], capabilities: u64) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    if capabilities & caps::SESSION_TRACK == 0 || !matches!(payload.first(), Some(0x00 | 0xfe)) {
        return None;
    }
    let mut rest = payload.get(1..)?;
    number(&mut rest)?;
    number(&mut rest)?;
    let [low, high, _, _, after @ ..] = rest else {
        return None;
    };
    if u16::from_le_bytes([*low, *high]) & STATE_CHANGED == 0 {
        return None;
    }
    rest = after;
    bytes(&mut rest)?;
    let head = payload[..payload.len() - rest.len()].to_vec();
    let mut changes = bytes(&mut rest)?;
    let mut found = Vec::new();
    while let [kind, after @ ..] = changes {
        changes = after;
        let change = bytes(&mut changes)?;
        found.push([&[*kind], change].concat());
    }
    rest.is_empty().then_some((head, found))
}

fn number(from: &mut &[u8]) -> Option<usize> {
    let (value, size) = match *from {
        [0xfc, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 3),
        [0xfd, a, b, c, ..] => (u32::from_le_bytes([*a, *b, *c, 0]) as usize, 4),
        [0xfe, a, b, c, d, e, f, g, h, ..] => (u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize, 9),
        [small, ..] if *small < 0xfb => (usize::from(*small), 1),
        _ => return None,
    };
    *from = from.get(size..)?;
    Some(value)
}

fn bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(from)?;
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Packet {
        Packet {
            seq: 1,
            payload: payload.to_vec(),
        }
    }

    fn differ(gateway: Packet, direct: Packet, capabilities: u64) -> bool {
        difference(&[gateway], &[direct], capabilities).is_some()
    }

    #[test]
    fn the_order_of_changes_does_not_count_and_their_values_do() {
        let ok = |changes: &[u8]| packet(&[&[0, 0, 0, 2, 0x40, 0, 0, 0, 8][..], changes].concat());
        let (one, other) = (ok(b"\x00\x02\x01a\x01\x02\x01b"), ok(b"\x01\x02\x01b\x00\x02\x01a"));
        assert!(!differ(one.clone(), other.clone(), caps::SESSION_TRACK));
        assert!(differ(one.clone(), other.clone(), 0));
        assert!(differ(
            one.clone(),
            ok(b"\x01\x02\x01b\x00\x02\x01c"),
            caps::SESSION_TRACK
        ));
        // Once more is no harm, once less is.
        let silent = packet(&[0, 0, 0, 2, 0, 0, 0]);
        let once_more = packet(&[&[0, 0, 0, 2, 0x40, 0, 0, 0, 4][..], b"\x00\x02\x01a"].concat());
        assert!(!differ(once_more.clone(), silent.clone(), caps::SESSION_TRACK));
        assert!(differ(silent, once_more, caps::SESSION_TRACK));
    }

    #[test]
    fn a_packet_more_or_less_is_seen() {
        let one = [packet(b"\x01")];
        assert!(difference(&one, &[], 0).is_some());
        assert!(difference(&[], &one, 0).is_some());
    }

    #[test]
    fn numbers_of_statements_do_not_count() {
        let told = |id: &str| packet(format!("\u{7f}Unknown prepared statement handler ({id}) given").as_bytes());
        assert!(!differ(told("7"), told("4711"), 0));
    }
}
