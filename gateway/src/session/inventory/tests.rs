use mysql_wire::column::{ColumnDefinition, text_result_set};
use mysql_wire::session_track::Change;

use super::super::shelf::Shelf;
use super::super::{Identity, SettingEffect};
use super::*;

const CAPABILITIES: Capabilities = Capabilities::PROTOCOL_41;

fn session(shelf: &Arc<Shelf>) -> Session {
    let identity = Identity {
        user: "u".into(),
        database: None,
        collation: 45,
        attributes: Vec::new(),
        program_name: String::new(),
    };
    let mut session = Session::new(CAPABILITIES, 1 << 24, identity);
    session.share(shelf);
    session
}

fn answer(rows: &[&[&str]], columns: usize) -> Vec<u8> {
    let column = ColumnDefinition {
        charset: 45,
        ..ColumnDefinition::default()
    };
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .map(|value| (*value != "NULL").then_some(value.as_bytes()))
                .collect()
        })
        .collect();
    let mut out = Vec::new();
    let columns = vec![column; columns];
    text_result_set(&mut out, 1, &columns, &rows, CAPABILITIES, StatusFlags::AUTOCOMMIT);
    out
}

/// A park of a session that has one user variable of so many bytes, and whose last statement left nothing.
fn park(session: &mut Session, variable_bytes: usize) -> Outcome {
    let (mut inventory, _) = Inventory::begin(CAPABILITIES);
    let scalars = [
        "0",
        "0",
        "0",
        "0",
        "0",
        "1",
        "NULL",
        "NULL",
        "utf8mb4",
        "utf8mb4",
        "utf8mb4_general_ci",
        "0",
        "0",
        "1",
        "2",
        "",
        "1",
    ];
    let counters = [
        "COM_CREATE_TEMPORARY_TABLE",
        "COM_HA_OPEN",
        "COM_PREPARE_SQL",
        "COM_STMT_PREPARE",
        "COM_STMT_CLOSE",
        "COM_SAVEPOINT",
    ]
    .map(|name| [name, "0"]);
    let counters: Vec<&[&str]> = counters.iter().map(|row| &row[..]).collect();
    for answer in [
        answer(&[&scalars], scalars.len()),
        answer(&[], 3),
        answer(&[], 2),
        answer(&[&["a", "VARCHAR", "x", "utf8mb4"]], 4),
        answer(&counters, 2),
        answer(&[&["0", "45", "45"]], 3),
        answer(&[&["2"]], 1),
    ] {
        inventory.answered(&answer, false);
    }
    let Outcome::Ask(_) = inventory.conclude(session) else {
        panic!("the bytes of its variable are not asked for")
    };
    let hex = "78".repeat(variable_bytes);
    inventory.answered(&answer(&[&[&hex, "utf8mb4_general_ci"]], 2), false);
    inventory.conclude(session)
}

#[test]
fn sessions_of_a_project_carry_variables_from_one_shelf_and_what_finds_no_room_stays_at_its_compute() {
    let shelf = Arc::new(Shelf::of(100_000));
    let (mut one, mut other) = (session(&shelf), session(&shelf));
    assert!(matches!(park(&mut one, 30_000), Outcome::Free));
    assert!(matches!(park(&mut other, 30_000), Outcome::Tied(Pin::Room)));
    assert!(other.replay().commands.is_empty(), "nothing of it is kept");
    // As small as most are, it finds a place whatever others have.
    assert!(matches!(park(&mut other, 100), Outcome::Free));
    assert!(
        matches!(park(&mut session(&Arc::default()), 30_000), Outcome::Free),
        "another project"
    );
    one.reset();
    assert!(matches!(park(&mut other, 30_000), Outcome::Free));
    drop((one, other));
    assert_eq!(shelf.taken(), 0);
}

#[test]
fn a_setting_that_finds_no_room_is_for_a_compute() {
    let shelf = Arc::new(Shelf::of(4_000));
    let (mut one, mut other) = (session(&shelf), session(&shelf));
    let setting = |n: usize| format!("SET wait_timeout={n}{}", " ".repeat(450));
    let remembered = |session: &mut Session| {
        (0..32)
            .take_while(|n| session.remember(&setting(*n), SettingEffect::default()))
            .count()
    };
    let (of_one, of_other) = (remembered(&mut one), remembered(&mut other));
    assert!(
        (8..12).contains(&of_one) && (1..4).contains(&of_other),
        "{of_one}, {of_other}"
    );
    assert_eq!(one.replay().commands.len(), of_one);
}

#[test]
fn a_session_that_loses_its_compute_and_finds_no_room_for_what_is_known_has_lost_it() {
    let shelf = Arc::new(Shelf::of(110_000));
    let (mut one, mut other) = (session(&shelf), session(&shelf));
    assert!(matches!(park(&mut one, 40_000), Outcome::Free));
    assert!(matches!(park(&mut other, 9_000), Outcome::Free));
    let value = vec![b'x'; 3_000];
    let report = |session: &mut Session, name: &[u8]| {
        let mut block = Vec::new();
        Change::SystemVariable { name, value: &value }.encode(&mut block);
        let ok = OkPacket {
            session_track: Some(&block),
            ..OkPacket::default()
        };
        session.reported(&ok, false);
    };
    // Each time its compute dies it has set one more.
    let mut times = 0;
    loop {
        report(&mut other, b"tmp_table_size");
        if !other.lost(None) {
            break;
        }
        times += 1;
        assert!(times < 30, "what is known of it grows without end");
    }
    assert!(times > 0, "there was room at first");
    assert_eq!(
        other.replay().commands.len(),
        1,
        "a part of it, but for its role, would be another session"
    );
    drop((one, other));
    assert_eq!(shelf.taken(), 0);
}
