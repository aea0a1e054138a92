//! What sessions find when a case begins, and what is looked at when it is over.

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
    "CREATE OR REPLACE TRIGGER {h}.watch BEFORE INSERT ON {h}.watched FOR EACH ROW BEGIN \
     SET @seen = CONCAT(IFNULL(@seen, ''), NEW.x); \
     IF NEW.x = 'refused' THEN SIGNAL SQLSTATE '45002' SET MESSAGE_TEXT = 'the trigger says no'; END IF; END",
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
