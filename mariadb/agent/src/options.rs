//! mariadbd's own option file for one compute: quick to start, no network, tracked sessions, sized by CU.

use std::path::Path;

use control_api::settings::{self, Setting};
use control_api::spec::Spec;

use crate::confine::CU_BYTES;

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

/// How many the tenant may have.
fn connections(spec: &Spec) -> u32 {
    ((spec.size_cu * CONNECTIONS_PER_CU) as u32).max(CONNECTIONS_MIN)
}

/// With our own.
pub(crate) fn connections_max(spec: &Spec) -> u32 {
    connections(spec) + CONNECTIONS_OURS
}

/// The whole option file. Tenants' settings come last and win, but for what keeps the server in its place.
pub(crate) fn option_file(spec: &Spec, places: &Places<'_>) -> String {
    let pool = ((spec.size_cu * CU_BYTES * BUFFER_POOL_SHARE) as u64 / (1024 * 1024)).max(BUFFER_POOL_MIB_MIN);
    let connections = connections(spec);
    let mut lines = vec!["[mariadbd]".to_owned()];
    let mut set = |name: &str, value: String| lines.push(format!("{name}={value}"));
    // Character set: what every driver of today expects.
    set("character-set-server", "utf8mb4".into());
    // A project's own character set brings its own collation; with this one the server would not start.
    if !spec.settings.contains_key("character_set_server") {
        set("collation-server", "utf8mb4_general_ci".into());
    }
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
    // io_uring is refused to it (confine.rs); without this the server would try, and warn at each start.
    set("innodb-use-native-aio", "OFF".into());
    // Size.
    set("innodb-buffer-pool-size", format!("{pool}M"));
    set("max-connections", connections_max(spec).to_string());
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
    // Tells it of locks that a session holds, which no report does.
    set("plugin-load-add", "metadata_lock_info".into());
    // Without it no account can be made that is proven by ed25519. Both plugins are in MariaDB's own server packages.
    set("plugin-load-add", "auth_ed25519".into());
    // Aborted clients are the gateway's to report; errors and start-up warnings stay.
    set("log-warnings", "1".into());
    set("local-infile", "ON".into());
    for (name, value) in &spec.settings {
        let option = settings::find(name).map_or_else(|_| name.replace('_', "-"), Setting::option_name);
        set(&option, value.clone());
    }
    set("skip-networking", String::new());
    // Without a network there is no address to guess, and a server that could be part of a cluster warns of that.
    set("loose-wsrep-node-address", "127.0.0.1".into());
    set("loose-wsrep-node-incoming-address", "127.0.0.1".into());
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

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use control_api::spec::SpecAccount;

    use super::*;

    pub(crate) fn spec() -> Spec {
        Spec {
            project: "demo".into(),
            incarnation: 3,
            data_dir: "/d/data".into(),
            run_dir: "/r".into(),
            log_dir: "/l".into(),
            template_dir: "/t".into(),
            mariadbd: None,
            uid: Some(200_000),
            gid: Some(200_000),
            size_cu: 0.25,
            gateway_secret_hex: "ab".repeat(32),
            accounts: vec![
                SpecAccount {
                    user: "app".into(),
                    native_sha1_hex: "cd".repeat(20),
                    caching_sha2_hex: None,
                    admin: false,
                    known: false,
                    password_only: false,
                },
                SpecAccount {
                    user: "o'boss".into(),
                    native_sha1_hex: "ef".repeat(20),
                    caching_sha2_hex: None,
                    admin: true,
                    known: false,
                    password_only: false,
                },
            ],
            removed_accounts: vec!["gone".into()],
            databases: vec!["app".into(), "my_data".into()],
            new_databases: Vec::new(),
            settings: BTreeMap::new(),
            start_timeout_ms: 60_000,
            stop_timeout_ms: 60_000,
        }
    }

    fn written(spec: &Spec) -> String {
        let places = Places {
            socket: Path::new("/r/m.sock"),
            init_file: Path::new("/r/init.sql"),
            error_log: Path::new("/l/mariadbd.err"),
            files_dir: Path::new("/d/files"),
            tmp_dir: Path::new("/d/tmp"),
            pid_file: Path::new("/r/mariadbd.pid"),
        };
        option_file(spec, &places)
    }

    #[test]
    fn the_whole_option_file() {
        insta::assert_snapshot!(written(&spec()));
    }

    #[test]
    fn size_sets_buffer_pool_and_connections() {
        let sized = |size_cu| written(&Spec { size_cu, ..spec() });
        let small = sized(0.25);
        assert!(small.contains("innodb-buffer-pool-size=512M\n") && small.contains("max-connections=508\n"));
        let large = sized(8.0);
        assert!(large.contains("innodb-buffer-pool-size=16384M\n") && large.contains("max-connections=8008\n"));
        assert!(large.contains("back-log=4096\n"));
    }

    #[test]
    fn settings_of_a_project_win_but_for_what_keeps_the_server_in_its_place() {
        let mut spec = spec();
        spec.settings.insert("sql_mode".into(), "ANSI".into());
        spec.settings.insert("socket".into(), "/elsewhere".into());
        let written = written(&spec);
        assert!(written.contains("sql-mode=ANSI\n"));
        let last = written.lines().rfind(|line| line.starts_with("socket="));
        assert_eq!(last, Some("socket=/r/m.sock"));
    }
}
