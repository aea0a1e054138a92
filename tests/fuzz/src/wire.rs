//! The decoders of `mysql-wire`.

use mysql_wire::auth::{AuthMoreData, AuthSwitch};
use mysql_wire::capabilities::Capabilities;
use mysql_wire::client_stream::{ClientScan, ClientScanner, CommandHead};
use mysql_wire::err::ErrPacket;
use mysql_wire::greeting::Greeting;
use mysql_wire::login::{ChangeUser, LoginPacket, SslRequest};
use mysql_wire::ok::OkPacket;
use mysql_wire::proxy::{Progress, decode};
use mysql_wire::response::{Expect, ResponseEvent, ResponseScanner};
use mysql_wire::session_track::changes;

/// A client's stream after the login: the first byte says how it is cut, the rest is the stream.
pub(crate) fn commands(input: &[u8]) {
    let Some((piece, stream)) = input.split_first() else {
        return;
    };
    assert_eq!(
        follow_client(stream, usize::from(*piece).max(1)),
        follow_client(stream, usize::MAX)
    );
}

/// A compute's stream: a byte of capabilities, one of the response's shape, one of the cut, then the stream.
pub(crate) fn responses(input: &[u8]) {
    let Some(([flags, shape, piece], stream)) = input.split_first_chunk() else {
        return;
    };
    let optional = [
        Capabilities::DEPRECATE_EOF,
        Capabilities::MARIADB_CACHE_METADATA,
        Capabilities::SESSION_TRACK,
        Capabilities::MARIADB_EXTENDED_METADATA,
    ];
    let capabilities = optional
        .iter()
        .enumerate()
        .fold(Capabilities::PROTOCOL_41, |all, (bit, flag)| {
            if flags >> bit & 1 == 1 { all | *flag } else { all }
        });
    let expect = match shape % 6 {
        0 => Expect::Results,
        1 => Expect::Prepared,
        2 => Expect::Rows,
        3 => Expect::Fields,
        4 => Expect::One,
        _ => Expect::Text,
    };
    let follow = |piece| follow_compute(capabilities, expect, stream, piece);
    assert_eq!(follow(usize::from(*piece).max(1)), follow(usize::MAX));
}

/// A PROXY header: read as it asks to be read it comes to the same end as when all of it is there, and asks for no byte
/// beyond that.
pub(crate) fn proxy(input: &[u8]) {
    let whole = decode(input);
    let mut read = 0;
    let followed = loop {
        let progress = decode(&input[..read]);
        match progress {
            Ok(Progress::More(0)) => panic!("{read}: asks for nothing"),
            Ok(Progress::More(more)) if read + more <= input.len() => read += more,
            end => break end,
        }
    };
    match followed {
        Ok(Progress::More(_)) => assert!(!matches!(whole, Ok(Progress::Done(_))), "{whole:?}"),
        Ok(done) => assert_eq!(Ok(done), whole),
        // Which of several faults is named depends on how much is there.
        Err(_) => assert!(whole.is_err(), "{whole:?}"),
    }
    if let Ok(Progress::Done(header)) = followed {
        assert!(
            matches!(decode(&input[..read - 1]), Ok(Progress::More(1))),
            "{header:?} was there before"
        );
    }
}

/// The connection phase: the first byte says what is read and under which flags.
pub(crate) fn login(input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else {
        return;
    };
    let capabilities = match choice & 0x80 {
        0 => Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION,
        _ => {
            Capabilities::PROTOCOL_41
                | Capabilities::SECURE_CONNECTION
                | Capabilities::PLUGIN_AUTH
                | Capabilities::CONNECT_ATTRS
        }
    };
    match choice & 0x7f {
        0 => {
            let _ = SslRequest::is(payload);
            let Ok(login) = LoginPacket::decode(payload) else {
                return;
            };
            login.attributes().for_each(drop);
            // Written with the length of the answer as an integer of any length.
            let flags = login.capabilities | Capabilities::PLUGIN_AUTH_LENENC_DATA;
            let flags = if login.database.is_none() {
                flags & !Capabilities::CONNECT_WITH_DB
            } else {
                flags
            };
            let flags = if login.auth_plugin.is_none() {
                flags & !Capabilities::PLUGIN_AUTH
            } else {
                flags
            };
            let login = LoginPacket {
                capabilities: flags,
                ..login
            };
            assert!(LoginPacket::decode(&login.encode()) == Ok(login));
        }
        1 => {
            let Ok(change) = ChangeUser::decode(payload, capabilities) else {
                return;
            };
            let again = change.encode(capabilities);
            let again = ChangeUser::decode(&again, capabilities).expect("what was written");
            assert!(
                (again.user, again.auth_response, again.database)
                    == (change.user, change.auth_response, change.database)
            );
        }
        2 => {
            let Ok(greeting) = Greeting::decode(payload) else {
                return;
            };
            let _ = Greeting::decode(&greeting.encode());
        }
        _ => {
            if let Ok(switch) = AuthSwitch::decode(payload) {
                assert_eq!(switch.encode(), payload);
            }
            if let Ok(more) = AuthMoreData::decode(payload) {
                assert_eq!(more.encode(), payload);
            }
        }
    }
}

/// OK with the session tracker's block, and ERR: the first byte says which capabilities were agreed.
pub(crate) fn ok(input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else {
        return;
    };
    let capabilities = match choice & 1 {
        0 => Capabilities::PROTOCOL_41,
        _ => Capabilities::PROTOCOL_41 | Capabilities::SESSION_TRACK | Capabilities::DEPRECATE_EOF,
    };
    if let Ok(err) = ErrPacket::decode(payload, capabilities) {
        assert_eq!(err.encode(), payload);
    }
    let Ok(ok) = OkPacket::decode(payload, capabilities) else {
        return;
    };
    let block = ok.session_track.unwrap_or_default();
    let entries = changes(block).collect::<Vec<_>>();
    assert!(
        entries.iter().rev().skip(1).all(Result::is_ok),
        "goes on after an error"
    );
    assert!(entries.len() <= block.len());
    assert_eq!(OkPacket::decode(&ok.encode(capabilities), capabilities), Ok(ok));
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Begin(usize, CommandHead),
    End(usize),
    Refused,
}

fn follow_client(stream: &[u8], piece: usize) -> Vec<Seen> {
    let mut scanner = ClientScanner::new();
    let mut seen = Vec::new();
    let (mut at, mut available) = (0, 0);
    while available < stream.len() {
        available = available.saturating_add(piece).min(stream.len());
        loop {
            let window = stream.get(at..available).expect("consumed more than there was");
            match scanner.scan(window) {
                Ok(ClientScan::NeedMore) => break,
                Ok(ClientScan::Command(head)) => {
                    seen.push(Seen::Begin(at, head));
                    scanner.begin_command();
                }
                Ok(ClientScan::Body(n)) => at += n,
                Ok(ClientScan::CommandEnd(n) | ClientScan::FileEnd(n)) => {
                    at += n;
                    seen.push(Seen::End(at));
                }
                Err(_) => {
                    seen.push(Seen::Refused);
                    return seen;
                }
            }
        }
    }
    seen
}

fn follow_compute(
    capabilities: Capabilities,
    expect: Expect,
    stream: &[u8],
    piece: usize,
) -> Vec<Option<(usize, ResponseEvent)>> {
    let mut scanner = ResponseScanner::new(capabilities);
    let mut seen = Vec::new();
    // What is not consumed is shown again with what follows.
    let (mut at, mut available) = (0, 0);
    for chunk in stream.chunks(piece.min(stream.len()).max(1)) {
        available += chunk.len();
        while at < available {
            if scanner.is_idle() {
                scanner.expect(expect, 1);
            }
            let window = stream.get(at..available).unwrap_or_default();
            let Ok(scanned) = scanner.scan(window) else {
                seen.push(None);
                return seen;
            };
            assert!(scanned.consumed <= window.len(), "consumed more than there was");
            at += scanned.consumed;
            match scanned.event {
                Some(ResponseEvent::Marked { .. }) => scanner.pass(),
                Some(event) => seen.push(Some((at, event))),
                None => {
                    assert!(available - at <= 27, "stopped for nothing");
                    break;
                }
            }
        }
    }
    seen
}
