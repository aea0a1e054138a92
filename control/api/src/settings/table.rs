//! The allow-list. Ranges are the server's own, but for the upper ends of what one session may take of the memory, and
//! for the lower ends below which a server cannot be worked with.

use super::{
    Applies::{Live, NextStart},
    Kind::{self, CharacterSet, Choice, Collation, Modes, Seconds, Switch, TimeZone, Whole},
    Setting,
};

/// The server's own limit of times in seconds: a year.
const YEAR: u64 = 31_536_000;
/// Of one session's buffer: a quarter of the memory of one CU.
const BUFFER_MAX: u64 = 1 << 30;

const fn whole(min: u64, max: u64) -> Kind {
    Whole { min, max, multiple: 1 }
}

const fn sized(min: u64, max: u64, multiple: u64) -> Kind {
    Whole { min, max, multiple }
}

macro_rules! settings {
    ($($name:literal, $kind:expr, $applies:ident, $what:literal;)*) => {
        &[$(Setting { name: $name, kind: $kind, applies: $applies, what: $what }),*]
    };
}

/// In the order of names.
pub const ALL: &[Setting] = settings! {
    "auto_increment_increment", whole(1, 65_535), Live, "The step between AUTO_INCREMENT values.";
    "auto_increment_offset", whole(1, 65_535), Live, "Where AUTO_INCREMENT values begin.";
    "character_set_server", CharacterSet, Live, "Character set of databases that name none.";
    "collation_server", Collation, Live, "Collation of databases that name none.";
    "default_storage_engine", Choice(&["InnoDB", "Aria", "MyISAM"]), Live, "Engine of tables that name none.";
    "default_week_format", whole(0, 7), Live, "The mode of WEEK() where it is called without one.";
    "div_precision_increment", whole(0, 30), Live, "Digits that a division adds.";
    "eq_range_index_dive_limit", whole(0, 4_294_967_295), Live, "Up to so many equal ranges the index itself is asked.";
    "event_scheduler", Choice(&["OFF", "ON"]), Live, "Run EVENTs while the compute is awake.";
    "explicit_defaults_for_timestamp", Switch, Live, "TIMESTAMP columns have no defaults of their own.";
    "ft_min_word_len", whole(1, 84), NextStart, "The shortest word in a full-text index of Aria or MyISAM.";
    "group_concat_max_len", whole(4, 1_073_741_824), Live, "The longest result of GROUP_CONCAT(), in bytes.";
    "idle_readonly_transaction_timeout", whole(0, YEAR), Live, "Seconds that a reading transaction may idle; 0 is forever.";
    "idle_transaction_timeout", whole(0, YEAR), Live, "Seconds that any transaction may idle; 0 is forever.";
    "idle_write_transaction_timeout", whole(0, YEAR), Live, "Seconds that a writing transaction may idle; 0 is forever.";
    "innodb_autoinc_lock_mode", whole(0, 2), NextStart, "How AUTO_INCREMENT values are reserved.";
    "innodb_default_row_format", Choice(&["redundant", "compact", "dynamic"]), Live, "Row format of tables that name none.";
    "innodb_ft_max_token_size", whole(10, 84), NextStart, "The longest word in a full-text index of InnoDB.";
    "innodb_ft_min_token_size", whole(1, 16), NextStart, "The shortest word in a full-text index of InnoDB.";
    "innodb_lock_wait_timeout", whole(0, 100_000_000), Live, "Seconds that a statement waits for a row.";
    "innodb_rollback_on_timeout", Switch, NextStart, "A row that was not got in time rolls back the whole transaction.";
    "innodb_snapshot_isolation", Switch, Live, "Locking a row that changed since the snapshot is an error.";
    "innodb_strict_mode", Switch, Live, "Wrong table options are errors, not warnings.";
    "interactive_timeout", whole(1, YEAR), Live, "Seconds that an interactive session may idle.";
    "join_buffer_size", sized(128, BUFFER_MAX, 128), Live, "Bytes for a join without an index, per join.";
    "local_infile", Switch, Live, "LOAD DATA LOCAL is allowed.";
    "lock_wait_timeout", whole(0, YEAR), Live, "Seconds that a statement waits for a table or its definition.";
    "long_query_time", Seconds { max: 31_536_000 }, Live, "From here on a statement counts as slow.";
    // Less would keep gateway and agent from working.
    "max_allowed_packet", sized(65_536, 1 << 30, 1024), Live, "The longest statement or value, in bytes.";
    "max_error_count", whole(0, 65_535), Live, "How many warnings SHOW WARNINGS keeps.";
    "max_heap_table_size", sized(16_384, 4 * BUFFER_MAX, 1024), Live, "Bytes that a MEMORY table may have.";
    "max_length_for_sort_data", whole(4, 8_388_608), Live, "Rows up to this length are sorted whole.";
    "max_prepared_stmt_count", whole(0, 4_294_967_295), Live, "Prepared statements of all sessions together.";
    "max_recursive_iterations", whole(0, 4_294_967_295), Live, "Rounds of a recursive WITH.";
    "max_sort_length", whole(64, 8_388_608), Live, "Bytes of a long value that sorting looks at.";
    "max_sp_recursion_depth", whole(0, 255), Live, "How deep a stored procedure may call itself.";
    "max_statement_time", Seconds { max: 31_536_000 }, Live, "Seconds after which a statement is ended; 0 is never.";
    "optimizer_search_depth", whole(0, 62), Live, "How many tables are put in order together.";
    "optimizer_use_condition_selectivity", whole(1, 5), Live, "How closely the optimizer estimates conditions.";
    "read_buffer_size", sized(8192, BUFFER_MAX, 4096), Live, "Bytes for reading a table from end to end.";
    "read_rnd_buffer_size", whole(1, BUFFER_MAX), Live, "Bytes for reading rows in sorted order.";
    "sort_buffer_size", whole(1024, BUFFER_MAX), Live, "Bytes for a sort, per session.";
    "sql_mode", Modes, Live, "What SQL is accepted and how it is understood.";
    "table_definition_cache", whole(400, 2_097_152), Live, "Table definitions that are kept open.";
    "time_zone", TimeZone, Live, "Time zone of sessions that set none.";
    "tmp_table_size", sized(16_384, 4 * BUFFER_MAX, 16_384), Live, "Bytes that a temporary table may have in memory.";
    "tx_isolation", Choice(&["READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"]), Live, "Isolation of transactions that name none.";
    "use_stat_tables", Choice(&["NEVER", "COMPLEMENTARY", "PREFERABLY", "COMPLEMENTARY_FOR_QUERIES", "PREFERABLY_FOR_QUERIES"]), Live, "Whether the optimizer uses collected statistics.";
    "wait_timeout", whole(1, YEAR), Live, "Seconds that a session may idle.";
};
