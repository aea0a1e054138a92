//! Temporary tables.

use super::Writer;

pub(super) fn temporary_table(w: &mut Writer<'_>) {
    let name = w.one(&["tmp_a", "tmp_b"]);
    let sql = match w.below(9) {
        0 => format!("CREATE TEMPORARY TABLE {name} (a INT PRIMARY KEY, b TEXT)"),
        1 => format!("CREATE TEMPORARY TABLE {name} SELECT id, b FROM {{h}}.t WHERE id < 3"),
        2 => format!("CREATE OR REPLACE TEMPORARY TABLE {name} AS SELECT 1 AS a"),
        3 => format!("CREATE TEMPORARY TABLE {name} LIKE {{h}}.t"),
        4 => format!(
            "CREATE TEMPORARY TABLE {name} (a INT) ENGINE={}",
            w.one(&["Aria", "MyISAM", "MEMORY"])
        ),
        5 => "CREATE TEMPORARY TABLE {h}.t (hides VARCHAR(20))".into(),
        6 => "CREATE TEMPORARY SEQUENCE tmp_c".into(),
        7 => "EXECUTE IMMEDIATE 'CREATE TEMPORARY TABLE tmp_b (a INT, b TEXT)'".into(),
        _ => "CALL {h}.makes_temporary()".into(),
    };
    w.sql(sql);
    for _ in 0..w.below(3) {
        w.say(&[
            "SELECT * FROM tmp_a",
            "SELECT * FROM tmp_b",
            "SELECT * FROM tmp_p",
            "SELECT * FROM {h}.t ORDER BY 1",
            "INSERT INTO tmp_a VALUES (5, 'five')",
            "ALTER TABLE tmp_a ADD COLUMN added INT DEFAULT 3",
            "ALTER TABLE tmp_b RENAME TO tmp_c",
            "SHOW CREATE TABLE tmp_a",
            "TRUNCATE TABLE tmp_a",
            "DROP TABLE tmp_a",
            "RENAME TABLE tmp_a TO tmp_c",
            "SELECT NEXTVAL(tmp_c)",
        ]);
    }
    if w.chance(70) {
        w.sql("DROP TEMPORARY TABLE IF EXISTS tmp_a, tmp_b, tmp_c, tmp_p, {h}.t");
    }
}
