//! The whole table, as snapshots: what is not in them is refused.

use super::*;

const OLD: Capabilities = Capabilities::PROTOCOL_41;
const NEW: Capabilities = Capabilities(OLD.0 | Capabilities::DEPRECATE_EOF.0);

const STATES: &[State] = &[
    State::Idle,
    State::Header,
    State::Definitions { left: 2 },
    State::Definitions { left: 1 },
    State::DefinitionsEof,
    State::Rows,
    State::Prepare,
    State::Parameters { left: 2, columns: 0 },
    State::Parameters { left: 1, columns: 0 },
    State::Parameters { left: 1, columns: 3 },
    State::ParametersEof { columns: 0 },
    State::ParametersEof { columns: 3 },
    State::Columns { left: 2 },
    State::Columns { left: 1 },
    State::ColumnsEof,
    State::Fetched,
    State::Fields,
    State::One,
    State::Text,
];

fn classes() -> Vec<(&'static str, Class)> {
    let (none, more, cursor) = (
        StatusFlags::EMPTY,
        StatusFlags::MORE_RESULTS,
        StatusFlags::CURSOR_EXISTS,
    );
    let count = |columns, definitions| Class::Count { columns, definitions };
    let prepared = |parameters, columns| Class::Prepared { parameters, columns };
    vec![
        ("OK", Class::Ok(none)),
        ("OK with more results", Class::Ok(more)),
        ("OK with a cursor", Class::Ok(cursor)),
        ("EOF", Class::Eof(none)),
        ("EOF with more results", Class::Eof(more)),
        ("EOF with a cursor", Class::Eof(cursor)),
        ("ERR", Class::Err(1064)),
        ("progress", Class::Progress),
        ("file request", Class::File),
        ("no column", count(0, true)),
        ("2 columns", count(2, true)),
        ("2 columns known before", count(2, false)),
        ("prepared, no parameter, no column", prepared(0, 0)),
        ("prepared, 2 parameters, no column", prepared(2, 0)),
        ("prepared, no parameter, 3 columns", prepared(0, 3)),
        ("prepared, 2 parameters, 3 columns", prepared(2, 3)),
        ("anything else", Class::Other),
    ]
}

fn told((state, event): Next) -> String {
    match event {
        None => format!("{state:?}"),
        Some(ResponseEvent::FileWanted) => format!("{state:?}, file wanted"),
        // A packet is marked before the table is asked.
        Some(marked @ ResponseEvent::Marked { .. }) => format!("{state:?}, {marked:?}"),
        Some(ResponseEvent::End(End { error: Some(code), .. })) => format!("{state:?}, ended by error {code}"),
        Some(ResponseEvent::End(End {
            status: Some(status), ..
        })) => {
            format!("{state:?}, ended with status {:#06x}", status.0)
        }
        Some(ResponseEvent::End(_)) => format!("{state:?}, ended"),
    }
}

#[test]
fn the_table_of_transitions() {
    let mut table = String::new();
    for state in STATES {
        table += &format!("{state:?}\n");
        for (name, class) in classes() {
            let [old, new] = [OLD, NEW].map(|capabilities| next(*state, class, capabilities).map(told));
            table += &match (old, new) {
                (Err(_), Err(_)) => continue,
                (old, new) if old == new => format!("    {name} -> {}\n", old.unwrap()),
                (Ok(old), Ok(new)) => format!("    {name} -> {new} (without DEPRECATE_EOF: {old})\n"),
                (Ok(old), Err(_)) => format!("    {name} -> refused (without DEPRECATE_EOF: {old})\n"),
                (Err(_), Ok(new)) => format!("    {name} -> {new} (without DEPRECATE_EOF: refused)\n"),
            };
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_table_of_packets() {
    let long = |first: u8| [&[first][..], &[0; 30]].concat();
    let packets = [
        ("00 and an OK", vec![0x00, 3, 4, 0x02, 0x00, 0, 0]),
        (
            "00 and a prepared statement",
            vec![0x00, 1, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0],
        ),
        ("00 cut short", vec![0x00]),
        ("fb", b"\xfbfile".to_vec()),
        ("fe, 5 bytes", vec![0xfe, 0, 0, 0x22, 0x00]),
        ("fe, 7 bytes", vec![0xfe, 0, 0, 0x22, 0x00, 0, 0]),
        ("fe, 31 bytes", long(0xfe)),
        ("ff and a code", b"\xff\x28\x04#42000no".to_vec()),
        ("ff and the code of progress", b"\xff\xff\xff\x01".to_vec()),
        ("ff cut short", vec![0xff]),
        ("03", vec![3]),
        ("03 00", vec![3, 0]),
        ("03 01", vec![3, 1]),
        ("nothing", vec![]),
    ];
    let cached = NEW | Capabilities::MARIADB_CACHE_METADATA;
    let mut table = String::new();
    for state in STATES.iter().filter(|state| **state != State::Idle) {
        table += &format!("{state:?}\n");
        for (name, packet) in &packets {
            let [old, new, cached] =
                [OLD, NEW, cached].map(
                    |capabilities| match classify(*state, capabilities, packet.len(), packet) {
                        Ok(class) => format!("{class:?}"),
                        Err(_) => "refused".into(),
                    },
                );
            table += &format!("    {name}: {new}");
            if old != new {
                table += &format!(" (without DEPRECATE_EOF: {old})");
            }
            if cached != new {
                table += &format!(" (with CACHE_METADATA: {cached})");
            }
            table += "\n";
        }
    }
    insta::assert_snapshot!(table);
}
