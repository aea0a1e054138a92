//! The plain `mariadbd` that tells what a client must see, and the comparison.

use harness::raw::{Login, Packet, Response, caps};
use harness::{Direct, Endpoint, Project, Raw};
use tokio::sync::OnceCell;

/// The user `app` with database `app` of the shared plain server. Tests use tables of their own in it.
pub(crate) async fn oracle() -> &'static Endpoint {
    static SHARED: OnceCell<(Direct, Endpoint)> = OnceCell::const_new();
    let (_, endpoint) = SHARED
        .get_or_init(async || {
            let server = Direct::start().await;
            let endpoint = server.account("app");
            (server, endpoint)
        })
        .await;
    endpoint
}

/// Runs the same script on the plain server and through the gateway; every packet of every response must be equal, with
/// its sequence id.
pub(crate) async fn same_on_both(project: &Project<'_>, caps: u64, script: impl AsyncFn(&mut Raw) -> Vec<Response>) {
    let login = Login {
        caps,
        ..Login::default()
    };
    let mut gateway = Raw::login_with(&project.endpoint, login.clone()).await;
    let offered = gateway.greeting.caps;
    assert_eq!(
        caps & !(offered | caps::MYSQL),
        0,
        "the gateway does not offer {:#x}",
        caps & !offered
    );
    let seen = script(&mut gateway).await;
    let mut direct = Raw::login_with(oracle().await, login).await;
    let expected = script(&mut direct).await;
    assert_eq!(seen.len(), expected.len(), "number of responses");
    for (number, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
        for (place, (seen, expected)) in seen.packets.iter().zip(&expected.packets).enumerate() {
            assert!(
                in_order(seen) == in_order(expected),
                "response {number}, packet {place}:\n{seen:?}\nbut mariadbd sent\n{expected:?}"
            );
        }
        assert_eq!(
            seen.packets.len(),
            expected.packets.len(),
            "packets of response {number}: {seen:?}"
        );
    }
}

/// A response's OK packet with the changes it reports in a fixed order: `mariadbd` reports those of one statement in the
/// order of a hash table. Every other packet as it is.
pub(crate) fn in_order(packet: &Packet) -> (u8, Vec<u8>, Vec<Vec<u8>>) {
    const STATE_CHANGED: u8 = 0x40;
    let payload = &packet.payload;
    // 00, no rows, no id, status, warnings, no text, the length of all changes; one byte each of what has a length.
    let [0, 0, 0, _, flags, _, _, 0, length, changes @ ..] = &payload[..] else {
        return (packet.seq, payload.clone(), Vec::new());
    };
    if flags & STATE_CHANGED == 0 || usize::from(*length) != changes.len() {
        return (packet.seq, payload.clone(), Vec::new());
    }
    let mut rest = changes;
    let mut sorted = Vec::new();
    while let [_, length, ..] = rest {
        let (change, after) = rest.split_at(2 + usize::from(*length));
        sorted.push(change.to_vec());
        rest = after;
    }
    sorted.sort_unstable();
    (packet.seq, payload[..9].to_vec(), sorted)
}
