//! mariadbd's own option file for one compute: quick to start, no network, tracked sessions, sized by CU.

use std::path::Path;

use control_api::spec::Spec;

/// Memory of one CU.
const CU_BYTES: f64 = 4.0 * 1024.0 * 1024.0 * 1024.0;
/// Share of it for the buffer pool: the rest is for connections, temporary tables and the system.
const BUFFER_POOL_SHARE: f64 = 0.5;
/// Smaller pools make InnoDB complain.
const BUFFER_POOL_MIB_MIN: u64 = 32;
/// Connections per CU; each costs some 100 KiB when used.
const CONNECTIONS_PER_CU: f64 = 1000.0;
/// A storm of clients after a sleep is normal even for the smallest compute.
const CONNECTIONS_MIN: u32 = 500;

/// Besides the tenant's: the agent's own, and the control plane's look whether a server is well.
const CONNECTIONS_OURS: u32 = 8;

/// Where the pieces of one start are.
pub(crate) struct Places<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) init_file: &'a Path,
    pub(crate) error_log: &'a Path,
    pub(crate) files_dir: &'a Path,
    pub(crate) tmp_dir: &'a Path,
    pub(crate) pid_file: &'a Path,
}

/// The redo log of templates and computes; the same in both, since changing it costs a rewrite at start. 32 MiB keeps a
/// clone cheap and a crash recovery short.
pub(crate) const REDO_LOG: &str = "32M";

/// The whole option file. Tenants' settings come last and win, but for what keeps the server in its place.
pub(crate) fn option_file(spec: &Spec, places: &Places<'_>) -> String {
    let pool = ((spec.size_cu * CU_BYTES * BUFFER_POOL_SHARE) as u64 / (1024 * 1024)).max(BUFFER_POOL_MIB_MIN);
    let connections = ((spec.size_cu * CONNECTIONS_PER_CU) as u32).max(CONNECTIONS_MIN);
    let mut lines = vec!["[mariadbd]".to_owned()];
    let mut set = |name: &str, value: String| lines.push(format!("{name}={value}"));
    // Character set: what every driver of today expects.
    set("character-set-server", "utf8mb4".into());
    set("collation-server", "utf8mb4_general_ci".into());
    // Quick to start and to stop: nothing that a compute of this kind uses is left on.
    set("performance-schema", "OFF".into());
    set("innodb-buffer-pool-load-at-startup", "OFF".into());
    set("innodb-buffer-pool-dump-at-shutdown", "OFF".into());
    set("innodb-log-file-size", REDO_LOG.into());
    set("innodb-temp-data-file-path", "ibtmp1:1M:autoextend".into());
    set("innodb-stats-persistent", "ON".into());
    set("skip-log-bin", String::new());
    set("skip-slave-start", String::new());
    set("aria-log-file-size", "8M".into());
    set("aria-pagecache-buffer-size", "8M".into());
    set("key-buffer-size", "8M".into());
    set("skip-name-resolve", "ON".into());
    // Size.
    set("innodb-buffer-pool-size", format!("{pool}M"));
    set("max-connections", (connections + CONNECTIONS_OURS).to_string());
    // All of them may come at once, when it wakes; the kernel's own limit, 4096, is the other bound.
    set("back-log", connections.min(4096).to_string());
    set("table-open-cache", "2000".into());
    set("thread-cache-size", "64".into());
    // The protocol's own limit: what a tenant's server buffers is the tenant's memory.
    set("max-allowed-packet", "1G".into());
    // The gateway reads what it must carry from one connection to the next.
    set("session-track-system-variables", "*".into());
    set("session-track-state-change", "ON".into());
    set("session-track-schema", "ON".into());
    set("session-track-transaction-info", "CHARACTERISTICS".into());
    // Aborted clients are the gateway's to report; errors and start-up warnings stay.
    set("log-warnings", "1".into());
    set("local-infile", "ON".into());
    for (name, value) in &spec.settings {
        set(&name.replace('_', "-"), value.clone());
    }
    set("skip-networking", String::new());
    set("plugin-maturity", "stable".into());
    set("secure-file-priv", places.files_dir.display().to_string());
    set("socket", places.socket.display().to_string());
    set("pid-file", places.pid_file.display().to_string());
    set("log-error", places.error_log.display().to_string());
    set("init-file", places.init_file.display().to_string());
    set("tmpdir", places.tmp_dir.display().to_string());
    lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end_matches('=')))
        .collect()
}
