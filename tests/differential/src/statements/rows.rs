//! Rows read and written, sequences, files.

use super::Writer;
use crate::step::Act;

pub(super) fn write_rows(w: &mut Writer<'_>) {
    let (id, n) = (w.fresh_id(), w.below(100));
    let sql = match w.below(8) {
        0 => format!("INSERT INTO {{h}}.t (b, d) VALUES ('row {n}', {n}.25)"),
        1 => format!("UPDATE {{h}}.t SET f = {n}, b = CONCAT(IFNULL(b, ''), '.') WHERE id <= 2"),
        2 => "UPDATE {h}.t SET b = b".into(),
        3 => "DELETE FROM {h}.t WHERE id > 6".into(),
        4 => format!("INSERT INTO {{h}}.watched VALUES ({id}, 'w{n}')"),
        5 => format!("REPLACE INTO {{o}}.far VALUES (2, 'replaced {n}'), ({id}, 'new')"),
        6 => "UPDATE {h}.counters SET n = n + 1 WHERE name = 'q'".into(),
        _ => format!("INSERT INTO {{h}}.watched VALUES ({id}, 'returned') RETURNING id, x"),
    };
    w.sql(sql);
    if w.chance(60) {
        w.say(&[
            "SELECT ROW_COUNT()",
            "SELECT LAST_INSERT_ID(), @@last_insert_id, @@identity",
            "SELECT @seen",
            "SHOW WARNINGS",
        ]);
    }
}

pub(super) fn read_rows(w: &mut Writer<'_>) {
    w.say(&[
        "SELECT * FROM {h}.t ORDER BY id",
        "SELECT COUNT(*) FROM {h}.v",
        "SELECT n FROM counters WHERE name = 'q'",
        "SELECT seq, REPEAT('x', seq) FROM seq_1_to_50",
        "SELECT * FROM {h}.t WHERE 0",
        "SHOW CREATE TABLE {h}.t",
        "SHOW COLUMNS FROM {h}.t",
        "SELECT CURRENT_USER(), USER(), DATABASE(), CURRENT_ROLE()",
        "EXPLAIN SELECT 1",
        "SELECT count_up(2)",
        "SELECT GROUP_CONCAT(id ORDER BY id) FROM {h}.t",
    ]);
}

/// LASTVAL is the connection's and forgotten at a park, which docs/sleeping.md says.
pub(super) fn sequence(w: &mut Writer<'_>) {
    for _ in 0..=w.below(2) {
        w.say(&[
            "SELECT NEXTVAL({h}.s)",
            "SELECT NEXT VALUE FOR {h}.s",
            "SELECT SETVAL({h}.s, 50)",
            "DO NEXTVAL({h}.s)",
        ]);
    }
}

pub(super) fn load(w: &mut Writer<'_>) {
    let (a, b) = (w.fresh_id(), w.fresh_id());
    w.acts.push(Act::Load {
        sql: "LOAD DATA LOCAL INFILE 'some.csv' INTO TABLE {h}.watched FIELDS TERMINATED BY ',' (id, x)".into(),
        file: format!("{a},loaded\n{b},loaded too\n{b},twice\n"),
    });
    w.sql("SHOW WARNINGS");
}

/// Of some frames' buffers, and rarely of several frames.
pub(super) fn large(w: &mut Writer<'_>) {
    let size = |w: &mut Writer<'_>| match w.below(40) {
        0 => 17_000_000,
        1..8 => 1_500_000,
        8..20 => 100_000,
        _ => 20_000,
    };
    let (asks, answers) = (size(w), size(w));
    w.acts.push(Act::Large { asks, answers });
}

pub(super) fn field_list(w: &mut Writer<'_>) {
    let table = w.one(&["t", "counters", "there_is_none"]);
    let pattern = w.one(&["", "%", "b%"]);
    w.acts.push(Act::FieldList { table, pattern });
}
