//! What is asked of the statement before: errors, warnings, counts, ids.

use super::Writer;

pub(super) fn error_and_diagnostics(w: &mut Writer<'_>) {
    w.say(&[
        "SELEC 1",
        "SELECT * FROM {h}.there_is_none",
        "INSERT INTO {h}.counters VALUES ('f', 1), ('q', 2)",
        "UPDATE {h}.t SET a = 2 WHERE id = 1",
        "SELECT 1 + 'abc', CAST('x' AS INT), 1/0",
        "INSERT IGNORE INTO {h}.watched VALUES (2, REPEAT('long', 50))",
        "SELECT * FROM mysql.user",
        "FLUSH TABLES WITH READ LOCK",
        "KILL 1",
        "SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = 'only a warning'",
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'an error', MYSQL_ERRNO = 30001",
        "CREATE TABLE IF NOT EXISTS {h}.t (a INT)",
        "DROP TABLE IF EXISTS {h}.there_is_none",
        "SELECT (SELECT id FROM {h}.t)",
        "INSERT INTO {h}.watched VALUES (1, 'once')",
        "INSERT INTO {h}.watched VALUES (3, 'refused')",
        "SELECT CAST('1x' AS INT), CAST('2y' AS INT); SELECT nosuch",
        "SET GLOBAL max_connections = 10",
    ]);
    for _ in 0..w.below(3) {
        w.say(&[
            "SHOW WARNINGS",
            "SHOW WARNINGS LIMIT 1",
            "SHOW WARNINGS LIMIT 1, 2",
            "SHOW ERRORS",
            "SHOW ERRORS LIMIT 1 OFFSET 0",
            "GET DIAGNOSTICS @conditions = NUMBER, @rows = ROW_COUNT",
            "GET DIAGNOSTICS CONDITION 1 @state = RETURNED_SQLSTATE, @errno = MYSQL_ERRNO, @said = MESSAGE_TEXT",
            "SELECT @@session.warning_count AS w, @@error_count",
            "SHOW COUNT(*) WARNINGS",
            "SHOW COUNT(*) ERRORS",
            "SELECT 1 + 'abc'; GET DIAGNOSTICS CONDITION 1 @state = RETURNED_SQLSTATE, @errno = MYSQL_ERRNO, @said = MESSAGE_TEXT",
            "SELECT @@warning_count",
            "SELECT @@error_count",
        ]);
    }
}

/// Of a session that has found none yet it is that of whose thread it got (MariaDB 10.11); asked for right after the SELECT
/// (docs/wire.md).
pub(crate) const FOUND_ROWS: &str = "FOUND_ROWS()";

/// What asks for the statement before it, in the forms that are carried over a park (docs/wire.md).
pub(super) fn previous_statement(w: &mut Writer<'_>) {
    w.say(&[
        "SELECT SQL_CALC_FOUND_ROWS id FROM {h}.t ORDER BY id LIMIT 1",
        "SELECT id FROM {h}.t WHERE id < 3 ORDER BY id",
        "INSERT INTO {h}.t (b) VALUES ('counted')",
        "UPDATE {h}.t SET b = 'changed' WHERE id = 1",
        "INSERT INTO {h}.t (b) VALUES ('returned') RETURNING id",
        "INSERT INTO {h}.t (b) VALUES ('one'), ('two'); SELECT 1; DO 1",
        "SELECT LAST_INSERT_ID(4711)",
        "UPDATE {h}.counters SET n = LAST_INSERT_ID(n + 1) WHERE name = 'q'",
        "SET insert_id = 100",
        "SET last_insert_id = 77",
        "DO 1",
    ]);
    for _ in 0..=w.below(2) {
        w.say(&[
            "SELECT FOUND_ROWS()",
            "SELECT FOUND_ROWS() AS found, ROW_COUNT()",
            "SELECT ROW_COUNT()",
            "SELECT ROW_COUNT() AS counted, LAST_INSERT_ID()",
            "SELECT 10 + ROW_COUNT()",
            "SELECT LAST_INSERT_ID()",
            "UPDATE {h}.t SET b = 'multi' WHERE id = 2; SELECT ROW_COUNT(), LAST_INSERT_ID()",
            "SELECT @@last_insert_id, @@insert_id, @@identity",
        ]);
    }
}
