use mysql_wire::capabilities::Capabilities;
use mysql_wire::greeting::Greeting;

use crate::recordings;

#[test]
fn real_greetings_are_read_and_written_back_byte_for_byte() {
    for (name, payload) in recordings::greetings() {
        let greeting = Greeting::decode(&payload).unwrap();
        assert_eq!(greeting.auth_plugin, "mysql_native_password", "{name}");
        assert!(greeting.server_version.contains("10.11.19-MariaDB"), "{name}");
        assert!(greeting.capabilities.contains(Capabilities::MARIADB_CACHE_METADATA));
        assert_eq!(greeting.encode(), payload, "{name}");
    }
}

#[test]
fn a_greeting_cut_before_its_plugin_is_refused() {
    for (name, payload) in recordings::greetings() {
        let plugin = payload.len() - "mysql_native_password\0".len() - 1;
        for len in 0..plugin {
            assert!(Greeting::decode(&payload[..len]).is_err(), "{name} cut at {len}");
        }
    }
}
