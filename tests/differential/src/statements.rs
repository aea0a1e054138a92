//! The world that sessions find, and what they do in it, by theme: a theme is a few steps that belong together, as a
//! program would send them. What is generated gives the same answer on every server: nothing of the time, of threads, of
//! plans.
//!
//! Rules for new ones: rows are asked for in an order; ids that transactions and failing statements use are written out,
//! and the counter of AUTO_INCREMENT serves statements that succeed; nothing waits for another session.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use crate::step::{Act, LAST_PREPARED, Slot, Value};

/// Made once for each session's place in a lane; every statement can be run again.
pub(crate) const WORLD: &[&str] = &[
    "CREATE OR REPLACE TABLE {h}.t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(200), d DECIMAL(20,6), f DOUBLE, \
     bl BLOB, dt DATETIME(6), UNIQUE KEY (a))",
    "CREATE OR REPLACE TABLE {h}.counters (name VARCHAR(20) PRIMARY KEY, n BIGINT NOT NULL)",
    "CREATE OR REPLACE TABLE {h}.in_flight (id INT PRIMARY KEY, n BIGINT NOT NULL)",
    "INSERT INTO {h}.in_flight VALUES (1, 0)",
    "CREATE ROLE IF NOT EXISTS {w}role",
    "CREATE OR REPLACE TABLE {h}.watched (id INT PRIMARY KEY, x VARCHAR(50))",
    "CREATE OR REPLACE TABLE {o}.far (id INT PRIMARY KEY, v VARCHAR(50))",
    "CREATE OR REPLACE VIEW {h}.v AS SELECT id, a FROM {h}.t WHERE a > 1",
    // Without a cache: what a cache holds is lost at every stop of a server.
    "CREATE OR REPLACE SEQUENCE {h}.s NOCACHE",
    "CREATE OR REPLACE TRIGGER {h}.watch BEFORE INSERT ON {h}.watched FOR EACH ROW SET @seen = CONCAT(IFNULL(@seen, ''), NEW.x)",
    "CREATE OR REPLACE FUNCTION {h}.count_up(by_n INT) RETURNS BIGINT MODIFIES SQL DATA BEGIN \
     UPDATE {h}.counters SET n = n + by_n WHERE name = 'f'; SET @counted = by_n; \
     RETURN (SELECT n FROM {h}.counters WHERE name = 'f'); END",
    "CREATE OR REPLACE PROCEDURE {h}.results(OUT last INT, INOUT word VARCHAR(50)) BEGIN \
     SELECT 1 AS one; SELECT seq, word FROM seq_1_to_3; SET last = 7, word = CONCAT(word, '!'); END",
    "CREATE OR REPLACE PROCEDURE {h}.makes_temporary() BEGIN \
     CREATE OR REPLACE TEMPORARY TABLE tmp_p (a INT, b TEXT); INSERT INTO tmp_p VALUES (1, 'in a procedure'); END",
    "CREATE OR REPLACE PROCEDURE {h}.changes_and_fails() BEGIN \
     SET @left = 'left behind', time_zone = '+03:00'; CREATE OR REPLACE TEMPORARY TABLE tmp_f (a INT); \
     SIGNAL SQLSTATE '45001' SET MESSAGE_TEXT = 'failed on purpose', MYSQL_ERRNO = 31001; END",
    // Not a mode with a status flag: MariaDB leaves the flag set when the procedure has put the mode back, until the session
    // has another connection.
    "CREATE OR REPLACE PROCEDURE {h}.sets_mode() BEGIN SET sql_mode = 'PIPES_AS_CONCAT'; SELECT @@sql_mode; END",
    "CREATE OR REPLACE PROCEDURE {h}.handles() BEGIN \
     DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN GET DIAGNOSTICS CONDITION 1 @code = MYSQL_ERRNO, @text = MESSAGE_TEXT; END; \
     SELECT * FROM {h}.there_is_none; SELECT @code; END",
];

/// The same data at the start of every case.
pub(crate) const START: &[&str] = &[
    "DROP TABLE IF EXISTS {h}.x0, {h}.x1, {h}.x2, {o}.x0",
    "TRUNCATE TABLE {h}.t",
    "INSERT INTO {h}.t (a, b, d, f, bl, dt) VALUES (1, 'one', 1.5, 0.1, x'00ff', '2024-02-29 12:30:00.5'), \
     (2, 'zwei \u{e4}\u{f6}\u{fc}', -2.000001, -1e300, NULL, NULL), (3, NULL, NULL, NULL, '', '1970-01-01')",
    "DELETE FROM {h}.counters",
    "INSERT INTO {h}.counters VALUES ('f', 0), ('q', 0), ('x', 0)",
    "DELETE FROM {h}.watched",
    "DELETE FROM {o}.far",
    "INSERT INTO {o}.far VALUES (1, 'far away'), (2, '\u{1f9ad}')",
    "ALTER SEQUENCE {h}.s RESTART 1",
];

/// What is left of a case, seen when it is over: a command lost or run twice shows here.
pub(crate) const END: &[&str] = &[
    "SELECT * FROM {h}.t ORDER BY id",
    "SELECT * FROM {h}.counters ORDER BY name",
    "SELECT * FROM {h}.watched ORDER BY id",
    "SELECT * FROM {o}.far ORDER BY id",
    "SELECT * FROM {h}.in_flight",
    "SELECT next_not_cached_value FROM {h}.s",
    "SHOW CREATE TABLE {h}.t",
    "SHOW TABLES FROM {h}",
];

/// One session's part of a case under construction.
pub(crate) struct Writer<'a> {
    pub(crate) random: &'a mut StdRng,
    pub(crate) acts: Vec<Act>,
    /// Kinds of the parameters that each slot's statement was last executed with.
    pub(crate) typed: &'a mut [Option<&'static Template>; SLOTS],
    /// For ids that are written out.
    pub(crate) next_id: &'a mut u32,
}

/// Statements that a session keeps at once.
pub(crate) const SLOTS: usize = 6;

/// A statement to prepare and what its parameters are.
#[derive(Debug)]
pub(crate) struct Template {
    sql: &'static str,
    parameters: &'static [Parameter],
}

#[derive(Debug, Clone, Copy)]
enum Parameter {
    Whole,
    Text,
    Any,
    FreshId,
    When,
}

const TEMPLATES: &[Template] = &[
    Template {
        sql: "SELECT ? AS p, CHARSET(?) AS c, ? + 1 AS n",
        parameters: &[Parameter::Any, Parameter::Text, Parameter::Whole],
    },
    Template {
        sql: "SELECT id, a, b, d, f, bl, dt FROM {h}.t WHERE id >= ? ORDER BY id",
        parameters: &[Parameter::Whole],
    },
    Template {
        sql: "INSERT INTO {h}.watched (id, x) VALUES (?, ?)",
        parameters: &[Parameter::FreshId, Parameter::Text],
    },
    Template {
        sql: "UPDATE {h}.counters SET n = n + 1 WHERE name = ?",
        parameters: &[Parameter::Text],
    },
    Template {
        sql: "SELECT @@session.sql_mode, @@session.time_zone, @a",
        parameters: &[],
    },
    Template {
        sql: "SELECT HEX(?), LENGTH(?)",
        parameters: &[Parameter::Text, Parameter::Any],
    },
    Template {
        sql: "CALL results(?, ?)",
        parameters: &[Parameter::Whole, Parameter::Text],
    },
    Template {
        sql: "SELECT ? + INTERVAL 1 DAY, seq FROM seq_1_to_9",
        parameters: &[Parameter::When],
    },
    Template {
        sql: "SELECT count_up(?)",
        parameters: &[Parameter::Whole],
    },
    Template {
        sql: "SET @a = ?",
        parameters: &[Parameter::Any],
    },
    Template {
        sql: "SELECT v FROM {o}.far WHERE id = ?",
        parameters: &[Parameter::Whole],
    },
    Template {
        sql: "DO 1",
        parameters: &[],
    },
];

const REFUSED: &[&str] = &[
    "SELECT FROM",
    "SELECT * FROM {h}.there_is_none",
    "SELECT 1; SELECT 2",
    "SELECT nosuch FROM {h}.t",
    "",
];

type Theme = fn(&mut Writer<'_>);

/// How often each is taken, and it.
const THEMES: &[(u32, Theme)] = &[
    (10, setting),
    (4, charset),
    (8, user_variable),
    (6, write_rows),
    (6, read_rows),
    (5, error_and_diagnostics),
    (4, previous_statement),
    (4, temporary_table),
    (5, transaction),
    (2, xa),
    (4, text_prepared),
    (12, binary_prepared),
    (3, cursor),
    (2, long_data),
    (4, procedure),
    (3, user_lock),
    (2, table_lock),
    (2, handler),
    (3, sequence),
    (2, role),
    (3, database),
    (2, multi_statement),
    (1, load),
    (2, field_list),
    (2, ping),
    (2, reset),
    (1, change_user),
    (2, random_numbers),
    (3, set_statement),
    (2, look),
];

/// Adds one theme's steps.
pub(crate) fn add_theme(writer: &mut Writer<'_>) {
    let whole: u32 = THEMES.iter().map(|(weight, _)| weight).sum();
    let mut left = writer.random.random_range(0..whole);
    for (weight, theme) in THEMES {
        if left < *weight {
            return theme(writer);
        }
        left -= weight;
    }
}

impl Writer<'_> {
    fn sql(&mut self, sql: impl Into<String>) {
        self.acts.push(Act::Query(sql.into()));
    }

    fn one(&mut self, of: &[&str]) -> String {
        (*of.choose(self.random).expect("a choice")).to_owned()
    }

    fn say(&mut self, of: &[&str]) {
        let sql = self.one(of);
        self.sql(sql);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.random.random_range(0..bound)
    }

    fn fresh_id(&mut self) -> u32 {
        *self.next_id += 1;
        *self.next_id
    }
}

fn setting(w: &mut Writer<'_>) {
    let n = w.below(1000);
    let sql = match w.below(16) {
        0 => "SET sql_mode = ''".into(),
        1 => format!(
            "SET sql_mode = '{}'",
            w.one(&[
                "ANSI_QUOTES",
                "ANSI",
                "NO_BACKSLASH_ESCAPES",
                "TRADITIONAL",
                "ORACLE",
                "PIPES_AS_CONCAT,NO_ZERO_DATE"
            ])
        ),
        2 => format!(
            "SET time_zone = '{}'",
            w.one(&["+00:00", "-11:30", "Europe/Lisbon", "SYSTEM", "Nowhere/Town"])
        ),
        3 => format!("SET timestamp = {}.{n}", 1_000_000_000 + n),
        4 => format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL {}",
            w.one(&["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "READ UNCOMMITTED"])
        ),
        5 => format!(
            "SET group_concat_max_len = {}, div_precision_increment = {}",
            n + 4,
            n % 30
        ),
        6 => format!("SET @@session.sort_buffer_size = {}", 32_768 + n * 1024),
        7 => format!("SET lc_time_names = '{}'", w.one(&["de_DE", "pt_PT", "ja_JP"])),
        8 => "SET autocommit = 1".into(),
        9 => format!(
            "SET optimizer_switch = '{}'",
            w.one(&["index_merge=off", "default", "mrr=on,mrr_cost_based=off"])
        ),
        10 => format!("SET sql_select_limit = {}", w.one(&["2", "DEFAULT", "1000"])),
        11 => format!("SET max_statement_time = {n}.5, lock_wait_timeout = 3, innodb_lock_wait_timeout = 3"),
        12 => "SET nosuchvariable = 1".into(),
        13 => format!(
            "SET foreign_key_checks = {}, unique_checks = {}, sql_safe_updates = {}",
            n % 2,
            n / 2 % 2,
            n / 4 % 2
        ),
        14 => format!(
            "SET div_precision_increment = {}, default_week_format = {}",
            n % 3 + 1,
            n % 7
        ),
        _ => "SET SESSION TRANSACTION READ ONLY".into(),
    };
    let read_only = sql.ends_with("READ ONLY");
    w.sql(sql);
    w.say(&[
        "SELECT @@sql_mode, @@time_zone, @@tx_isolation, @@sql_select_limit, @@lc_time_names, @@div_precision_increment",
        "SELECT FROM_UNIXTIME(1000000000), DATE_FORMAT('2024-05-01', '%M %W'), 1/7, WEEK('2024-01-01')",
        "SELECT IF(@@timestamp < 1500000000, CONCAT(NOW(6), @@timestamp), 'runs')",
        "SELECT \"id\" FROM {h}.t ORDER BY id",
        "SELECT 'a' || 'b', 'x\\'y'",
        "INSERT INTO {h}.t (b, dt) VALUES ('by a setting', '2024-01-01')",
    ]);
    if read_only {
        w.sql("SET SESSION TRANSACTION READ WRITE");
    }
}

fn charset(w: &mut Writer<'_>) {
    w.say(&[
        "SET NAMES latin1",
        "SET NAMES utf8mb4",
        "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
        "SET NAMES utf8mb3",
        "SET NAMES cp1251",
        "SET NAMES binary",
        "SET NAMES nosuch",
        "SET CHARACTER SET latin1",
        "SET character_set_results = NULL",
        "SET collation_connection = utf8mb4_bin",
        "SET character_set_client = latin1, collation_connection = latin1_german1_ci",
    ]);
    w.say(&[
        "SELECT 'gr\u{fc}\u{df} dich', _utf8mb4'\u{1f9ad}', COLLATION('a'), CHARSET(DATABASE())",
        "SELECT b FROM {h}.t ORDER BY id",
        "SELECT 'a' = 'A', 'a' = '\u{e4}'",
        "SELECT @@character_set_client, @@character_set_connection, @@character_set_results, @@collation_connection",
        "SELECT * FROM `nosuch_\u{e4}`",
    ]);
}

fn user_variable(w: &mut Writer<'_>) {
    let name = w.one(&["a", "b", "`odd ``name`", "\u{fc}n\u{ef}"]);
    let value = w.one(&[
        "1",
        "-9223372036854775808",
        "18446744073709551615",
        "1.50",
        "123456789012345678901234567890.123456789",
        "1e-300",
        "NULL",
        "'text'",
        "''",
        "'it''s \\\\ quoted'",
        "x'00ff27'",
        "b'101'",
        "_latin1 x'e4'",
        "'\u{1f9ad}' COLLATE utf8mb4_bin",
        "CAST('2024-01-02 03:04:05.6' AS DATETIME(1))",
        "CAST('12:30' AS TIME)",
        "REPEAT('ab', 2000)",
        "TRUE",
        "1/3",
        "CAST(5 AS UNSIGNED)",
    ]);
    let sql = match w.below(5) {
        0 => format!("SELECT @{name} := {value}"),
        1 => format!("SELECT {value}, 2 INTO @{name}, @second"),
        2 => format!("SET @{name} = {value}, @other = @{name}"),
        _ => format!("SET @{name} = {value}"),
    };
    w.sql(sql);
    if w.chance(70) {
        w.sql(format!(
            "SELECT @{name}, HEX(@{name}), COLLATION(@{name}), COERCIBILITY(@{name})"
        ));
    }
    if w.chance(15) {
        w.sql(format!(
            "SELECT @{name} := CONCAT(@{name}, id) FROM {{h}}.t ORDER BY id"
        ));
    }
    if w.chance(30) {
        w.acts.push(Act::UserVariables);
    }
}

fn write_rows(w: &mut Writer<'_>) {
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

fn read_rows(w: &mut Writer<'_>) {
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

fn error_and_diagnostics(w: &mut Writer<'_>) {
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
        "SET GLOBAL max_connections = 10",
    ]);
    for _ in 0..w.below(3) {
        w.say(&[
            "SHOW WARNINGS",
            "SHOW COUNT(*) WARNINGS",
            "SHOW COUNT(*) ERRORS",
            "SELECT 1 + 'abc'; GET DIAGNOSTICS CONDITION 1 @state = RETURNED_SQLSTATE, @errno = MYSQL_ERRNO, @said = MESSAGE_TEXT",
            "SELECT @@warning_count",
            "SELECT @@error_count",
        ]);
    }
}

/// Of a session that has found none yet it is that of whose thread it got (MariaDB 10.11).
pub(crate) const FOUND_ROWS: &str = "SELECT FOUND_ROWS()";

/// What asks for the statement before it, in the forms that are carried over a park (docs/wire.md).
fn previous_statement(w: &mut Writer<'_>) {
    w.say(&[
        "SELECT SQL_CALC_FOUND_ROWS id FROM {h}.t ORDER BY id LIMIT 1",
        "SELECT id FROM {h}.t WHERE id < 3 ORDER BY id",
        "INSERT INTO {h}.t (b) VALUES ('counted')",
        "UPDATE {h}.t SET b = 'changed' WHERE id = 1",
        "SELECT LAST_INSERT_ID(4711)",
        "UPDATE {h}.counters SET n = LAST_INSERT_ID(n + 1) WHERE name = 'q'",
        "SET insert_id = 100",
        "SET last_insert_id = 77",
        "DO 1",
    ]);
    for _ in 0..=w.below(2) {
        w.say(&[
            FOUND_ROWS,
            "SELECT ROW_COUNT()",
            "SELECT LAST_INSERT_ID()",
            "UPDATE {h}.t SET b = 'multi' WHERE id = 2; SELECT ROW_COUNT(), LAST_INSERT_ID()",
            "SELECT @@last_insert_id, @@insert_id, @@identity",
        ]);
    }
}

fn temporary_table(w: &mut Writer<'_>) {
    let name = w.one(&["tmp_a", "tmp_b"]);
    let sql = match w.below(7) {
        0 => format!("CREATE TEMPORARY TABLE {name} (a INT PRIMARY KEY, b TEXT)"),
        1 => format!("CREATE TEMPORARY TABLE {name} SELECT id, b FROM {{h}}.t WHERE id < 3"),
        2 => format!("CREATE OR REPLACE TEMPORARY TABLE {name} AS SELECT 1 AS a"),
        3 => format!("CREATE TEMPORARY TABLE {name} LIKE {{h}}.t"),
        4 => format!(
            "CREATE TEMPORARY TABLE {name} (a INT) ENGINE={}",
            w.one(&["Aria", "MyISAM", "MEMORY"])
        ),
        5 => "CREATE TEMPORARY TABLE {h}.t (hides VARCHAR(20))".into(),
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
        ]);
    }
    if w.chance(70) {
        w.sql("DROP TEMPORARY TABLE IF EXISTS tmp_a, tmp_b, tmp_c, tmp_p, {h}.t");
    }
}

fn transaction(w: &mut Writer<'_>) {
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
        "COMMIT",
        "ROLLBACK",
        "CREATE OR REPLACE TABLE {h}.x0 (a INT)",
    ]);
    if w.chance(80) {
        w.sql("SET autocommit = 1");
        w.sql("COMMIT");
    }
}

fn xa(w: &mut Writer<'_>) {
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

fn text_prepared(w: &mut Writer<'_>) {
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

fn binary_prepared(w: &mut Writer<'_>) {
    let slot = w.below(SLOTS as u32) as usize;
    if w.typed[slot].is_none() || w.chance(30) {
        prepare(w, slot);
    } else if w.chance(12) {
        w.acts.push(Act::ResetStatement { slot: slot as Slot });
    }
    let mut types = true;
    for _ in 0..=w.below(3) {
        execute(w, slot, types, false);
        // Once they were told, a client may leave them out.
        types = w.chance(40);
        if w.chance(20) {
            w.sql("SELECT 'in between'");
        }
    }
    if w.chance(10) {
        w.acts.push(Act::Execute {
            slot: 200,
            types: true,
            cursor: false,
            values: Vec::new(),
        });
    }
    if w.chance(25) {
        w.typed[slot] = None;
        w.acts.push(Act::CloseStatement { slot: slot as Slot });
        if w.chance(30) {
            execute_template(w, slot as Slot, &TEMPLATES[4], true, false);
        }
    }
}

fn prepare(w: &mut Writer<'_>, slot: usize) {
    if w.typed[slot].take().is_some() && w.chance(80) {
        w.acts.push(Act::CloseStatement { slot: slot as Slot });
    }
    if w.chance(10) {
        let sql = w.one(REFUSED);
        w.acts.push(Act::Prepare {
            slot: slot as Slot,
            sql,
        });
    }
    let template = TEMPLATES.choose(w.random).expect("a template");
    w.acts.push(Act::Prepare {
        slot: slot as Slot,
        sql: template.sql.into(),
    });
    w.typed[slot] = Some(template);
    if w.chance(15) {
        execute_template(w, LAST_PREPARED, template, true, false);
    }
}

fn execute(w: &mut Writer<'_>, slot: usize, types: bool, cursor: bool) {
    if let Some(template) = w.typed[slot] {
        execute_template(w, slot as Slot, template, types, cursor);
    }
}

fn execute_template(w: &mut Writer<'_>, slot: Slot, template: &Template, types: bool, cursor: bool) {
    let values = template
        .parameters
        .iter()
        .map(|parameter| value(w, *parameter, types))
        .collect();
    w.acts.push(Act::Execute {
        slot,
        types,
        cursor,
        values,
    });
}

/// Where the type is not told, it is the one that was told first.
fn value(w: &mut Writer<'_>, parameter: Parameter, types: bool) -> Value {
    let n = w.random.next_u32();
    match parameter {
        // Told as NULL, a type cannot be left out for another value: the compute then reads what it read last.
        Parameter::Whole if !types && w.chance(10) => Value::Null,
        Parameter::Whole => Value::LongLong(i64::from(n % 7)),
        Parameter::FreshId => Value::Long(w.fresh_id() as i32),
        Parameter::Text => Value::Text(w.one(&["q", "", "\u{fc}ber \u{1f9ad}", "x", "it's"])),
        Parameter::When => Value::DateTime(2024, 2, 28, 23, 59, 59, n % 1_000_000),
        Parameter::Any if !types => Value::Null,
        Parameter::Any => match n % 9 {
            0 => Value::Null,
            1 => Value::Tiny(-3),
            2 => Value::Unsigned(u64::MAX),
            3 => Value::Double(0.1),
            4 => Value::Decimal("123456789.000000001".into()),
            5 => Value::Blob(vec![0, 0xff, b'\'', b'\\']),
            6 => Value::Time {
                negative: true,
                days: 3,
                hour: 4,
                minute: 5,
                second: 6,
            },
            7 => Value::Text("t".repeat(300)),
            _ => Value::Long(i32::MIN),
        },
    }
}

fn cursor(w: &mut Writer<'_>) {
    let slot = w.below(SLOTS as u32) as usize;
    if w.typed[slot].take().is_some() {
        w.acts.push(Act::CloseStatement { slot: slot as Slot });
    }
    let template = [&TEMPLATES[1], &TEMPLATES[7]][w.below(2) as usize];
    w.acts.push(Act::Prepare {
        slot: slot as Slot,
        sql: template.sql.into(),
    });
    w.typed[slot] = Some(template);
    execute(w, slot, true, true);
    for _ in 0..w.below(4) {
        let rows = w.below(5) + 1;
        w.acts.push(Act::Fetch {
            slot: slot as Slot,
            rows,
        });
    }
    if w.chance(60) {
        w.acts.push(Act::ResetStatement { slot: slot as Slot });
    }
}

fn long_data(w: &mut Writer<'_>) {
    let slot = w.below(SLOTS as u32) as usize;
    if w.typed[slot].take().is_some() {
        w.acts.push(Act::CloseStatement { slot: slot as Slot });
    }
    let slot = slot as Slot;
    w.acts.push(Act::Prepare {
        slot,
        sql: "SELECT LENGTH(?), ?".into(),
    });
    for _ in 0..=w.below(2) {
        w.acts.push(Act::LongData {
            slot,
            parameter: 0,
            data: "long ".repeat(40),
        });
    }
    if w.chance(20) {
        w.acts.push(Act::ResetStatement { slot });
    }
    let values = vec![Value::Sent, Value::Long(7)];
    w.acts.push(Act::Execute {
        slot,
        types: true,
        cursor: false,
        values,
    });
    w.acts.push(Act::CloseStatement { slot });
}

fn procedure(w: &mut Writer<'_>) {
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

fn user_lock(w: &mut Writer<'_>) {
    w.say(&[
        "SELECT GET_LOCK('{w}l', 0)",
        "DO GET_LOCK('{w}m', 0)",
        "SELECT GET_LOCK('{w}l', 0), GET_LOCK('{w}m', 0)",
    ]);
    w.say(&[
        "SELECT IS_FREE_LOCK('{w}l'), IS_FREE_LOCK('{w}m')",
        "SELECT IS_USED_LOCK('{w}l') = CONNECTION_ID()",
        "SELECT 1",
    ]);
    if w.chance(80) {
        w.say(&[
            "SELECT RELEASE_LOCK('{w}l'), RELEASE_LOCK('{w}m')",
            "SELECT RELEASE_ALL_LOCKS()",
        ]);
    }
}

fn table_lock(w: &mut Writer<'_>) {
    w.say(&[
        "LOCK TABLES {h}.t WRITE",
        "LOCK TABLES {h}.t READ, {h}.counters AS c WRITE",
        "LOCK TABLES {h}.there_is_none READ",
    ]);
    w.say(&[
        "SELECT COUNT(*) FROM {h}.t",
        "SELECT * FROM {o}.far",
        "INSERT INTO {h}.t (b) VALUES ('locked')",
        "DO 1",
    ]);
    w.sql("UNLOCK TABLES");
}

fn handler(w: &mut Writer<'_>) {
    w.sql("HANDLER {h}.t OPEN AS hd");
    for _ in 0..=w.below(2) {
        w.say(&[
            "HANDLER hd READ FIRST",
            "HANDLER hd READ NEXT",
            "HANDLER hd READ `PRIMARY` = (2)",
            "SELECT 1",
        ]);
    }
    if w.chance(80) {
        w.sql("HANDLER hd CLOSE");
    }
}

/// LASTVAL is the connection's and forgotten at a park, which docs/sleeping.md says.
fn sequence(w: &mut Writer<'_>) {
    for _ in 0..=w.below(2) {
        w.say(&[
            "SELECT NEXTVAL({h}.s)",
            "SELECT NEXT VALUE FOR {h}.s",
            "SELECT SETVAL({h}.s, 50)",
            "DO NEXTVAL({h}.s)",
        ]);
    }
}

fn role(w: &mut Writer<'_>) {
    w.say(&["SET ROLE NONE", "SET ROLE {w}role", "SET ROLE nosuch"]);
    w.sql("SELECT CURRENT_ROLE()");
}

fn database(w: &mut Writer<'_>) {
    match w.below(5) {
        0 => w.acts.push(Act::InitDb("{o}".into())),
        1 => w.acts.push(Act::InitDb("there_is_none".into())),
        2 => w.sql("USE {o}"),
        3 => w.sql("USE there_is_none"),
        _ => w.acts.push(Act::InitDb("{h}".into())),
    }
    w.say(&[
        "SELECT DATABASE()",
        "SELECT * FROM far ORDER BY id",
        "SELECT COUNT(*) FROM t",
    ]);
    if w.chance(70) {
        w.acts.push(Act::InitDb("{h}".into()));
    }
}

fn multi_statement(w: &mut Writer<'_>) {
    if w.chance(30) {
        let multi_statements = w.chance(50);
        w.acts.push(Act::SetOption { multi_statements });
    }
    w.say(&[
        "SELECT 1; SELECT 2; DO 3",
        "SET @a = 1; SELEC; SET @a = 2",
        "SELECT 1; INSERT INTO {h}.t (b) VALUES ('multi'); SELECT LAST_INSERT_ID()",
        "SET time_zone = '+01:00'; SELECT @@time_zone; BEGIN; COMMIT",
        "CALL {h}.results(@out, @word); SELECT @out",
    ]);
}

fn load(w: &mut Writer<'_>) {
    let (a, b) = (w.fresh_id(), w.fresh_id());
    w.acts.push(Act::Load {
        sql: "LOAD DATA LOCAL INFILE 'some.csv' INTO TABLE {h}.watched FIELDS TERMINATED BY ',' (id, x)".into(),
        file: format!("{a},loaded\n{b},loaded too\n{b},twice\n"),
    });
    w.sql("SHOW WARNINGS");
}

fn field_list(w: &mut Writer<'_>) {
    let table = w.one(&["t", "counters", "there_is_none"]);
    let pattern = w.one(&["", "%", "b%"]);
    w.acts.push(Act::FieldList { table, pattern });
}

fn ping(w: &mut Writer<'_>) {
    w.acts.push(Act::Ping);
}

fn reset(w: &mut Writer<'_>) {
    w.typed.fill(None);
    // It keeps the role, of which no report tells: a crash right after it loses the role (docs/wire.md).
    w.sql("SET ROLE NONE");
    w.acts.push(Act::ResetConnection);
    w.say(&[
        "SELECT DATABASE(), @a, @@sql_mode, @@time_zone, CURRENT_ROLE()",
        "SELECT 1",
    ]);
}

fn change_user(w: &mut Writer<'_>) {
    w.typed.fill(None);
    let database = w.one(&["{h}", "{o}", "{h}"]);
    w.acts.push(Act::ChangeUser { database });
    w.sql("SELECT DATABASE(), @a, @@sql_mode, CURRENT_USER()");
    w.acts.push(Act::InitDb("{h}".into()));
}

/// What RAND gives is known only where the seeds are; `@seeded` goes when the session does.
fn random_numbers(w: &mut Writer<'_>) {
    let n = w.below(1000);
    w.sql(format!("SET rand_seed1 = {n}, rand_seed2 = {}, @seeded = 1", n * 7 + 1));
    for _ in 0..=w.below(2) {
        w.sql("SELECT IF(@seeded, RAND(), 'unknown'), RAND(5)");
    }
}

fn set_statement(w: &mut Writer<'_>) {
    w.say(&[
        "SET STATEMENT sql_mode = 'ANSI', time_zone = '+05:00' FOR SELECT @@sql_mode, @@time_zone",
        "SET STATEMENT max_statement_time = 9 FOR SELECT @@max_statement_time",
        "SET STATEMENT sort_buffer_size = 100000 FOR SELEC",
        "SET STATEMENT group_concat_max_len = 5 FOR SELECT GROUP_CONCAT(b ORDER BY id) FROM {h}.t",
    ]);
    w.say(&[
        "SELECT @@sql_mode, @@time_zone, @@max_statement_time",
        "SHOW WARNINGS",
        "SELECT 1",
    ]);
}

fn look(w: &mut Writer<'_>) {
    w.acts.push(Act::Variables);
    w.acts.push(Act::UserVariables);
}
