use mysql_wire::capabilities::Capabilities;
use mysql_wire::login::{LoginError, LoginPacket, SslRequest};

use crate::recordings;

#[test]
fn real_login_packets_are_read() {
    let mut seen = String::new();
    for (name, payload) in recordings::logins() {
        let login = LoginPacket::decode(&payload).unwrap();
        assert_eq!(login.user, b"demo.app", "{name}");
        assert_eq!(login.auth_response.len(), 20, "{name}");
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let client = login.attributes().find(|(key, _)| *key == b"_client_name");
        seen += &format!(
            "{name}: flags {:#x}, packets up to {}, collation {}, database {:?}, plugin {:?}, client {:?}\n",
            login.capabilities.0,
            login.max_packet_bytes,
            login.collation,
            text(login.database),
            text(login.auth_plugin),
            text(client.map(|(_, value)| value)),
        );
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn what_is_read_of_a_login_packet_is_written_back() {
    for (name, payload) in recordings::logins() {
        let login = LoginPacket::decode(&payload).unwrap();
        let written = login.encode();
        assert!(LoginPacket::decode(&written) == Ok(login), "{name}");
    }
}

#[test]
fn a_login_packet_cut_anywhere_is_refused_or_read_as_far_as_it_goes() {
    for (name, payload) in recordings::logins() {
        let whole = LoginPacket::decode(&payload).unwrap();
        // Flags, packet size, collation, user, and the answer with its length.
        let answer_end = 32 + whole.user.len() + 1 + 1 + 20;
        for len in 0..payload.len() {
            match LoginPacket::decode(&payload[..len]) {
                Ok(cut) => {
                    assert!(len >= answer_end, "{name} cut at {len}");
                    assert_eq!((cut.user, cut.auth_response), (whole.user, whole.auth_response));
                }
                Err(LoginError::Malformed) => assert!(len < answer_end, "{name} cut at {len}"),
                Err(LoginError::BeforeProtocol41) => panic!("{name} cut at {len}"),
            }
        }
    }
}

#[test]
fn an_ssl_request_is_a_login_packet_cut_before_the_user() {
    for (name, mut payload) in recordings::logins() {
        assert!(!SslRequest::is(&payload[..32]), "{name} did not ask for TLS");
        payload[1] |= 0x08;
        assert!(SslRequest::is(&payload[..32]), "{name}");
        assert!(!SslRequest::is(&payload), "{name}");
        assert!(!SslRequest::is(&payload[..31]), "{name}");
    }
}

#[test]
fn clients_of_before_4_1_are_told_apart() {
    let (_, mut payload) = recordings::logins().remove(0);
    payload[1] &= !0x02;
    assert!(LoginPacket::decode(&payload) == Err(LoginError::BeforeProtocol41));
}

/// MySQL bug 79612: the length in front of the attributes promises more than there is.
#[test]
fn attributes_shorter_than_they_promise_are_taken_as_far_as_they_go() {
    let (name, payload) = recordings::logins().remove(0);
    let cut = LoginPacket::decode(&payload[..payload.len() - 4]).unwrap();
    assert!(cut.capabilities.contains(Capabilities::CONNECT_ATTRS), "{name}");
    let keys = cut.attributes().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys, [&b"_client_name"[..], b"_client_version"]);
}
