//! Statements prepared in SQL, procedures, several statements in one.

use super::Writer;
use crate::step::Act;

pub(super) fn text_prepared(w: &mut Writer<'_>) {
    w.say(&[
        "PREPARE ps FROM 'SELECT ? + 1, @a'",
        "PREPARE ps FROM 'SELECT id FROM {h}.t WHERE id > ? ORDER BY id'",
        "PREPARE ps FROM 'UPDATE {h}.counters SET n = n + ? WHERE name = ''q'''",
        "PREPARE ps FROM 'SELEC'",
        "EXECUTE IMMEDIATE 'SELECT ?' USING 'now'",
    ]);
    for _ in 0..w.below(3) {
        w.say(&["EXECUTE ps USING 1", "EXECUTE ps USING @a", "EXECUTE ps", "SET @a = 3"]);
    }
    if w.chance(70) {
        w.sql("DEALLOCATE PREPARE ps");
    }
}

pub(super) fn procedure(w: &mut Writer<'_>) {
    w.say(&[
        "CALL {h}.results(@out, @word)",
        "CALL {h}.makes_temporary()",
        "CALL {h}.changes_and_fails()",
        "CALL {h}.sets_mode()",
        "CALL {h}.handles()",
        "CALL {h}.there_is_none()",
        "BEGIN NOT ATOMIC SET @a = 'compound'; SELECT @a; END",
    ]);
    w.say(&[
        "SELECT @out, @word, @left, @code, @text, @@time_zone",
        "SELECT * FROM tmp_p",
        "SELECT * FROM tmp_f",
        "SHOW WARNINGS",
        "SELECT 1",
    ]);
    if w.chance(60) {
        w.sql("DROP TEMPORARY TABLE IF EXISTS tmp_p, tmp_f");
    }
}

pub(super) fn multi_statement(w: &mut Writer<'_>) {
    if w.chance(30) {
        let multi_statements = w.chance(50);
        w.acts.push(Act::SetOption { multi_statements });
    }
    w.say(&[
        "SELECT 1; SELECT 2; DO 3",
        "SET @a = 1; SELEC; SET @a = 2",
        "SET @a = 1, time_zone = '+02:00'; SELECT * FROM {h}.there_is_none; SET @a = 2",
        "SELECT 1; CALL {h}.changes_and_fails(); SELECT 2",
        "CALL {h}.results(@out, @word); CALL {h}.results(@out, @word); SELECT id FROM {h}.t ORDER BY id",
        "SELECT 1; INSERT INTO {h}.t (b) VALUES ('multi'); SELECT LAST_INSERT_ID()",
        "SET time_zone = '+01:00'; SELECT @@time_zone; BEGIN; COMMIT",
        "CALL {h}.results(@out, @word); SELECT @out",
    ]);
}
