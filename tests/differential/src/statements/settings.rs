//! Session variables, character sets, and settings for one statement.

use super::Writer;
use crate::step::Act;

pub(super) fn setting(w: &mut Writer<'_>) {
    let n = w.below(1000);
    let sql = match w.below(20) {
        0 => "SET sql_mode = ''".into(),
        // Without a scope the server does not report it.
        1 => format!(
            "SET {}sql_mode = '{}'",
            if n.is_multiple_of(2) { "@@" } else { "" },
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
            "SET {}time_zone = '{}'",
            if n.is_multiple_of(3) { "@@" } else { "" },
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
        15 => format!(
            "SET tmp_table_size = {}, max_heap_table_size = {}",
            65_536 + n * 1024,
            32_768 + n * 1024
        ),
        16 => format!(
            "SET lc_messages = '{}', default_storage_engine = {}",
            w.one(&["de_DE", "en_US", "nowhere"]),
            w.one(&["Aria", "InnoDB", "MEMORY"])
        ),
        17 => format!(
            "SET sql_quote_show_create = {}, big_tables = {}, old_mode = DEFAULT",
            n % 2,
            n / 2 % 2
        ),
        18 => format!(
            "SET session wait_timeout = {}, net_read_timeout = {}",
            10_000 + n,
            30 + n
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

pub(super) fn charset(w: &mut Writer<'_>) {
    w.say(&[
        "SET NAMES latin1",
        "SET NAMES utf8mb4",
        "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
        "SET NAMES utf8mb3",
        "SET NAMES cp1251",
        "SET NAMES binary",
        "SET NAMES DEFAULT",
        "SET NAMES gbk",
        "SET NAMES ucs2",
        "SET character_set_results = ucs2",
        "SET CHARACTER SET DEFAULT",
        "SET collation_server = latin1_bin, character_set_filesystem = latin1",
        "SET NAMES nosuch",
        "SET CHARACTER SET latin1",
        "SET character_set_results = NULL",
        "SET collation_connection = utf8mb4_bin",
        "SET character_set_client = latin1, collation_connection = latin1_german1_ci",
    ]);
    w.say(&[
        "SELECT 'gr\u{fc}\u{df} dich', _utf8mb4'\u{1f9ad}', COLLATION('a'), CHARSET(DATABASE())",
        "SELECT b FROM {h}.t ORDER BY id",
        "SELECT _latin1 X'E4', N'n', _utf8mb3 'x' COLLATE utf8mb3_bin, CHARSET(_binary 'x'), x'61', 0x62",
        "CREATE OR REPLACE TABLE {h}.x1 (a VARCHAR(20) DEFAULT '\u{e4}')",
        "SELECT 'a' = 'A', 'a' = '\u{e4}'",
        "SELECT @@character_set_client, @@character_set_connection, @@character_set_results, @@collation_connection",
        "SELECT * FROM `nosuch_\u{e4}`",
    ]);
}

pub(super) fn set_statement(w: &mut Writer<'_>) {
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

/// A client that asks for other reports than the usual ones is given them as MariaDB makes them.
pub(super) fn tracker(w: &mut Writer<'_>) {
    w.say(&[
        "SET session_track_schema = OFF",
        "SET session_track_system_variables = 'autocommit,tx_isolation'",
        "SET session_track_system_variables = 'sql_mode,time_zone'",
        "SET session_track_state_change = ON",
        "SET session_track_transaction_info = 'CHARACTERISTICS'",
    ]);
    for _ in 0..=w.below(2) {
        w.say(&[
            "SET sql_mode = 'ANSI'",
            "SET @a = 1",
            "USE {o}",
            "SET TRANSACTION READ ONLY",
            "SET time_zone = '+01:00'",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        ]);
    }
    w.typed.fill(None);
    w.acts.push(Act::ResetConnection);
    w.acts.push(Act::InitDb("{h}".into()));
}

/// What RAND gives is known only where the seeds are; `@seeded` goes when the session does.
pub(super) fn random_numbers(w: &mut Writer<'_>) {
    let n = w.below(1000);
    w.sql(format!("SET rand_seed1 = {n}, rand_seed2 = {}, @seeded = 1", n * 7 + 1));
    for _ in 0..=w.below(2) {
        w.sql("SELECT IF(@seeded, RAND(), 'unknown'), RAND(5)");
    }
}
