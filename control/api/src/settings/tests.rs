use super::*;

fn offer() -> Offer {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    Offer {
        defaults: pairs(&[
            ("character_set_server", "utf8mb4"),
            ("collation_server", "utf8mb4_general_ci"),
            ("sql_mode", ""),
        ]),
        time_zones: vec!["Europe/Berlin".into(), "UTC".into()],
        character_sets: pairs(&[("utf8mb4", "utf8mb4_general_ci"), ("latin1", "latin1_swedish_ci")]),
        collations: pairs(&[
            ("utf8mb4_general_ci", "utf8mb4"),
            ("utf8mb4_bin", "utf8mb4"),
            ("latin1_swedish_ci", "latin1"),
        ]),
    }
}

fn check(name: &str, value: impl Into<Text>) -> Result<String, String> {
    let value = value.into().0;
    find(name)
        .and_then(|setting| setting.check(&value, &offer()))
        .map_err(|error| error.to_string())
}

/// So that tests can write values as JSON does.
struct Text(Value);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Value::Text(text.into()))
    }
}

impl From<u64> for Text {
    fn from(number: u64) -> Self {
        Self(Value::Whole(number))
    }
}

impl From<f64> for Text {
    fn from(number: f64) -> Self {
        Self(Value::Decimal(number))
    }
}

impl From<bool> for Text {
    fn from(on: bool) -> Self {
        Self(Value::Switch(on))
    }
}

#[test]
fn values_come_out_as_the_server_reports_them() {
    for (name, value, reported) in [
        ("innodb_strict_mode", Text::from("off"), "OFF"),
        ("innodb_strict_mode", true.into(), "ON"),
        ("innodb_strict_mode", 1.into(), "ON"),
        ("max_allowed_packet", "64M".into(), "67108864"),
        ("max_allowed_packet", 65_536.into(), "65536"),
        ("sort_buffer_size", "1g".into(), "1073741824"),
        ("long_query_time", 0.5.into(), "0.500000"),
        ("long_query_time", 3.into(), "3.000000"),
        ("max_statement_time", "31536000.0".into(), "31536000.000000"),
        ("tx_isolation", "read-committed".into(), "READ-COMMITTED"),
        ("default_storage_engine", "INNODB".into(), "InnoDB"),
        ("time_zone", "system".into(), "SYSTEM"),
        ("time_zone", "+2:00".into(), "+02:00"),
        ("time_zone", "-00:00".into(), "+00:00"),
        ("time_zone", "europe/berlin".into(), "Europe/Berlin"),
        ("sql_mode", "".into(), ""),
        (
            "sql_mode",
            "NO_ZERO_DATE, ansi_quotes".into(),
            "ANSI_QUOTES,NO_ZERO_DATE",
        ),
        (
            "SQL-Mode",
            "ANSI".into(),
            "REAL_AS_FLOAT,PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ANSI",
        ),
        ("character_set_server", "LATIN1".into(), "latin1"),
        ("collation_server", "utf8mb4_bin".into(), "utf8mb4_bin"),
    ] {
        assert_eq!(
            check(name, value.0.clone()).as_deref(),
            Ok(reported),
            "{name} {:?}",
            value.0
        );
    }
}

impl From<Value> for Text {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

#[test]
fn wrong_values_are_refused_with_what_is_wrong() {
    for (name, value, told) in [
        ("innodb_strict_mode", Text::from("maybe"), "ON or OFF"),
        ("innodb_strict_mode", 2.into(), "ON or OFF"),
        ("max_allowed_packet", 1000.into(), "from 65536 to 1073741824"),
        ("max_allowed_packet", 65_537.into(), "multiple of 1024"),
        ("max_allowed_packet", "2G".into(), "from 65536"),
        ("max_allowed_packet", "99999999999999999999G".into(), "whole number"),
        ("max_allowed_packet", "M".into(), "whole number"),
        ("max_allowed_packet", "-1".into(), "whole number"),
        ("max_allowed_packet", "1é".into(), "whole number"),
        ("wait_timeout", 1.5.into(), "whole number"),
        ("wait_timeout", "".into(), "whole number"),
        ("long_query_time", "1e3".into(), "six decimals"),
        ("long_query_time", "0.1234567".into(), "six decimals"),
        ("long_query_time", "31536000.1".into(), "from 0 to 31536000"),
        ("long_query_time", ".5".into(), "six decimals"),
        ("tx_isolation", "CHAOS".into(), "READ-UNCOMMITTED, READ-COMMITTED"),
        ("event_scheduler", "DISABLED".into(), "one of OFF, ON"),
        ("time_zone", "Mars/Olympus".into(), "not a time zone"),
        ("time_zone", "+14:00".into(), "-12:59 to +13:00"),
        ("time_zone", "+1:5".into(), "-12:59 to +13:00"),
        ("time_zone", "+01:60".into(), "-12:59 to +13:00"),
        ("time_zone", "+é".into(), "-12:59 to +13:00"),
        ("sql_mode", "ANSI,SLOPPY".into(), "\"SLOPPY\" is not a mode"),
        ("character_set_server", "klingon".into(), "not a character set"),
        ("collation_server", "x\nsocket=/tmp/x".into(), "not a collation"),
    ] {
        let error = check(name, value.0.clone()).unwrap_err();
        assert!(
            error.contains(told) && error.contains(name),
            "{name} {:?}: {error}",
            value.0
        );
    }
}

#[test]
fn what_may_not_be_set_is_refused_by_name_and_reason() {
    for (name, why) in [
        ("socket", "gateway"),
        ("skip-networking", "gateway"),
        ("DATADIR", "directories"),
        ("plugin_dir", "directories"),
        ("secure_file_priv", "directories"),
        ("init_file", "statements as somebody else"),
        ("log_error", "logs"),
        ("general_log", "logs"),
        ("innodb_buffer_pool_size", "size_cu"),
        ("innodb_flush_log_at_trx_commit", "survives a crash"),
        ("session_track_schema", "gateway has to know"),
        ("lower_case_table_names", "cannot be changed"),
        ("server_id", "replication"),
        ("no_such_variable", "not a setting"),
    ] {
        let error = find(name).unwrap_err();
        assert!(matches!(error, SettingError::NotAllowed { .. }));
        let error = error.to_string();
        assert!(error.contains(name) && error.contains(why), "{name}: {error}");
    }
}

#[test]
fn a_collation_must_belong_to_its_character_set() {
    let set = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let refused = |pairs: &[(&str, &str)]| check_together(&set(pairs), &offer()).is_err();
    assert!(!refused(&[]));
    assert!(!refused(&[("collation_server", "utf8mb4_bin")]));
    assert!(refused(&[("collation_server", "latin1_swedish_ci")]));
    assert!(!refused(&[("character_set_server", "latin1")]));
    assert!(refused(&[
        ("character_set_server", "latin1"),
        ("collation_server", "utf8mb4_bin")
    ]));
    let both = set(&[("character_set_server", "latin1")]);
    assert_eq!(
        resolved("collation_server", &both, &offer()).as_deref(),
        Some("latin1_swedish_ci")
    );
    assert_eq!(
        resolved("collation_server", &set(&[]), &offer()).as_deref(),
        Some("utf8mb4_general_ci")
    );
}

#[test]
fn the_table_is_in_order_and_refuses_none_of_its_own() {
    assert!(ALL.is_sorted_by_key(|setting| setting.name));
    for setting in ALL {
        assert_eq!(
            refused::why(setting.name),
            "is not a setting that a project may have; GET /projects/{id}/settings lists those",
            "{}",
            setting.name
        );
    }
}
