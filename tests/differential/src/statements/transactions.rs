//! Transactions, savepoints, XA.

use super::Writer;

pub(super) fn transaction(w: &mut Writer<'_>) {
    let begin = w.one(&[
        "BEGIN",
        "START TRANSACTION",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "START TRANSACTION READ ONLY",
        "SET autocommit = 0",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET TRANSACTION READ ONLY",
    ]);
    w.sql(begin);
    for _ in 0..w.below(5) {
        let id = w.fresh_id();
        match w.below(8) {
            0 => w.sql("SAVEPOINT one"),
            1 => w.sql("ROLLBACK TO SAVEPOINT one"),
            2 => w.sql("RELEASE SAVEPOINT one"),
            3 => w.sql("UPDATE {h}.counters SET n = n + 1 WHERE name = 'x'"),
            4 => w.sql(format!("INSERT INTO {{h}}.watched VALUES ({id}, 't')")),
            5 => w.sql("SELECT n FROM {h}.counters WHERE name = 'x' FOR UPDATE"),
            6 => w.sql("SELECT @@in_transaction, @@tx_isolation, @@autocommit"),
            _ => w.sql(format!("INSERT INTO {{h}}.counters VALUES ('u{id}', 1), ('q', 1)")),
        }
    }
    w.say(&[
        "COMMIT",
        "ROLLBACK",
        "COMMIT AND CHAIN",
        "COMMIT RELEASE",
        "ROLLBACK AND NO CHAIN RELEASE",
        "SET completion_type = 'RELEASE'",
        "SET completion_type = CHAIN",
        "COMMIT",
        "ROLLBACK",
        "CREATE OR REPLACE TABLE {h}.x0 (a INT)",
    ]);
    if w.chance(80) {
        w.sql("SET autocommit = 1");
        w.sql("COMMIT");
    }
    if w.chance(50) {
        w.sql("SET completion_type = NO_CHAIN");
    }
}

pub(super) fn xa(w: &mut Writer<'_>) {
    let id = w.fresh_id();
    w.sql(format!("XA START '{{w}}{id}'"));
    w.sql(format!("INSERT INTO {{h}}.watched VALUES ({id}, 'xa')"));
    if w.chance(20) {
        w.sql("COMMIT");
    }
    w.sql(format!("XA END '{{w}}{id}'"));
    let one_phase = w.chance(30);
    if one_phase {
        w.sql(format!("XA COMMIT '{{w}}{id}' ONE PHASE"));
    } else {
        w.sql(format!("XA PREPARE '{{w}}{id}'"));
        let end = w.one(&["XA COMMIT", "XA ROLLBACK"]);
        w.sql(format!("{end} '{{w}}{id}'"));
    }
}
