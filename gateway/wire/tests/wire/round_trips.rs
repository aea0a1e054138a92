//! What is written is read back the same; what is cut or noise is an error and never a panic.

use mysql_wire::auth::{AuthMoreData, AuthSwitch};
use mysql_wire::capabilities::Capabilities;
use mysql_wire::column::ColumnDefinition;
use mysql_wire::err::{ErrPacket, PROGRESS};
use mysql_wire::login::{ChangeUser, LoginPacket, attributes, encode_attributes};
use mysql_wire::ok::OkPacket;
use mysql_wire::session_track::{Change, changes, encode_system_variables};
use mysql_wire::status::StatusFlags;
use proptest::collection::vec;
use proptest::prelude::*;

const LOGIN: Capabilities = Capabilities(
    Capabilities::PROTOCOL_41.0
        | Capabilities::SECURE_CONNECTION.0
        | Capabilities::PLUGIN_AUTH.0
        | Capabilities::PLUGIN_AUTH_LENENC_DATA.0
        | Capabilities::CONNECT_ATTRS.0,
);

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=255_u8, 0..40)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

proptest! {
    #[test]
    fn login_packets(
        max_packet_bytes: u32, collation: u8, user in name(), auth_response in bytes(), database in proptest::option::of(name()),
        plugin in name(), pairs in vec((bytes(), bytes()), 0..4),
    ) {
        let with_database = if database.is_some() { Capabilities::CONNECT_WITH_DB } else { Capabilities(0) };
        let raw = encode_attributes(pairs.iter().map(|(key, value)| (&key[..], &value[..])));
        let login = LoginPacket {
            capabilities: LOGIN | with_database,
            max_packet_bytes,
            collation,
            user: &user,
            auth_response: &auth_response,
            database: database.as_deref(),
            auth_plugin: Some(&plugin),
            raw_attributes: &raw,
        };
        let encoded = login.encode();
        prop_assert!(LoginPacket::decode(&encoded) == Ok(login));
        let read = attributes(&raw).map(|(key, value)| (key.to_vec(), value.to_vec())).collect::<Vec<_>>();
        prop_assert_eq!(read, pairs);
    }

    #[test]
    fn change_user(
        user in name(), auth_response in vec(any::<u8>(), 0..255), database in proptest::option::of(vec(1..=255_u8, 1..40)),
        collation: u16, plugin in name(), raw in bytes(),
    ) {
        let change = ChangeUser {
            user: &user,
            auth_response: &auth_response,
            database: database.as_deref(),
            collation: Some(collation),
            auth_plugin: Some(&plugin),
            raw_attributes: &raw,
        };
        prop_assert!(ChangeUser::decode(&change.encode(LOGIN), LOGIN) == Ok(change));
    }

    #[test]
    fn ok_packets(
        ends_rows: bool, affected_rows: u64, last_insert_id: u64, status: u16, warnings: u16, info in bytes(),
        block in proptest::option::of(vec(any::<u8>(), 1..300)),
    ) {
        let changed = StatusFlags::SESSION_STATE_CHANGED;
        let status = if block.is_some() { StatusFlags(status) | changed } else { StatusFlags(status) & !changed };
        let ok = OkPacket {
            ends_rows, affected_rows, last_insert_id, status, warnings, info: &info, session_track: block.as_deref(),
        };
        let with_tracking = Capabilities::PROTOCOL_41 | Capabilities::SESSION_TRACK;
        let encoded = ok.encode(with_tracking);
        prop_assert_eq!(OkPacket::decode(&encoded, with_tracking), Ok(ok));
        // A client that does not track sees the same without the block.
        let without = OkPacket { session_track: None, ..ok };
        let encoded = ok.encode(Capabilities::PROTOCOL_41);
        prop_assert_eq!(OkPacket::decode(&encoded, Capabilities::PROTOCOL_41), Ok(without));
    }

    #[test]
    fn err_packets(code in 0..PROGRESS, sqlstate: [u8; 5], message in bytes()) {
        let err = ErrPacket { code, sqlstate: Some(sqlstate), message: &message };
        let encoded = err.encode();
        prop_assert_eq!(ErrPacket::decode(&encoded, Capabilities::PROTOCOL_41), Ok(err));
    }

    #[test]
    fn authentication(plugin in name(), data in bytes()) {
        let switch = AuthSwitch { plugin: &plugin, data: &data };
        let encoded = switch.encode();
        prop_assert_eq!(AuthSwitch::decode(&encoded), Ok(switch));
        let more = AuthMoreData { data: &data };
        let encoded = more.encode();
        prop_assert_eq!(AuthMoreData::decode(&encoded), Ok(more));
    }

    #[test]
    fn column_definitions(name in bytes(), extended in bytes(), charset: u16, column_length: u32, flags: u16) {
        let column = ColumnDefinition {
            name, extended, charset, column_length, flags, ..ColumnDefinition::default()
        };
        let capabilities = Capabilities::PROTOCOL_41 | Capabilities::MARIADB_EXTENDED_METADATA;
        prop_assert_eq!(ColumnDefinition::decode(&column.encode(capabilities), capabilities), Ok(column));
    }

    #[test]
    fn session_variables(variables in vec(("[a-z_]{1,40}", ".{0,40}"), 0..6)) {
        let pairs = || variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let block = encode_system_variables(pairs());
        let expected = pairs().map(|(name, value)| Ok(Change::SystemVariable {
            name: name.as_bytes(),
            value: value.as_bytes(),
        }));
        prop_assert!(changes(&block).eq(expected));
        for len in 0..block.len() {
            // Cut in an entry: those before it, then one error and no more.
            let read = changes(&block[..len]).collect::<Vec<_>>();
            prop_assert!(read.iter().rev().skip(1).all(Result::is_ok), "cut at {}", len);
        }
    }
}
