//! Why a server variable is not one that a project may set, in words for who tried.

/// Names, or beginnings of names where they end in `*`, each with what stands against them; the first that fits counts.
const REASONS: [(&[&str], &str); 9] = [
    (
        &["lower_case_table_names"],
        "is fixed when a project is made and cannot be changed",
    ),
    (
        &[
            "socket",
            "port",
            "extra_port",
            "bind_address",
            "skip_networking",
            "skip_name_resolve",
            "back_log",
            "require_secure_transport",
            "ssl_*",
            "tls_*",
            "have_*",
            "proxy_protocol_networks",
        ],
        "is the gateway's business: it is the only way to the server",
    ),
    (
        &[
            "datadir",
            "basedir",
            "tmpdir",
            "slave_load_tmpdir",
            "plugin_*",
            "secure_file_priv",
            "pid_file",
            "innodb_data_*",
            "innodb_undo_directory",
            "innodb_log_group_home_dir",
            "innodb_tmpdir",
            "innodb_temp_*",
            "character_sets_dir",
            "lc_messages_dir",
            "user",
            "chroot",
        ],
        "keeps the server within its own directories",
    ),
    (
        &["init_file", "init_connect", "init_slave", "init_rpl_role"],
        "would run statements as somebody else",
    ),
    (
        &["log_*", "general_log*", "slow_query_log*", "slow_launch_time"],
        "belongs to the server's logs, which the operator keeps",
    ),
    (
        &[
            "max_connections",
            "extra_max_connections",
            "innodb_buffer_pool_*",
            "innodb_log_*",
            "key_buffer_size",
            "aria_*",
            "table_open_cache*",
            "thread_*",
            "performance_schema*",
            "innodb_io_*",
            "innodb_read_io_threads",
            "innodb_write_io_threads",
            "query_cache_*",
        ],
        "follows from the project's size (size_cu)",
    ),
    (
        &[
            "innodb_flush_*",
            "innodb_doublewrite",
            "innodb_fast_shutdown",
            "innodb_force_recovery",
            "innodb_checksum_algorithm",
            "sync_*",
            "flush",
            "flush_time",
        ],
        "decides whether what was committed survives a crash",
    ),
    (
        &["session_track_*"],
        "carries what the gateway has to know of a session",
    ),
    (
        &[
            "server_id",
            "gtid_*",
            "slave_*",
            "rpl_*",
            "replicate_*",
            "relay_log*",
            "binlog_*",
            "max_binlog_*",
            "wsrep_*",
            "master_*",
            "read_only",
        ],
        "belongs to replication, which a project has none of",
    ),
];

const OTHERWISE: &str = "is not a setting that a project may have; GET /projects/{id}/settings lists those";

pub(super) fn why(spelled: &str) -> &'static str {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(beginning) => spelled.starts_with(beginning),
        None => spelled == *pattern,
    };
    let reason = REASONS.iter().find(|(patterns, _)| patterns.iter().any(fits));
    reason.map_or(OTHERWISE, |(_, why)| why)
}
