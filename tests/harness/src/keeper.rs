//! The keeper: a small process that outlives the test process and cleans up after it, however it ends.
//!
//! Test binaries have no hook at their end, and a killed one runs no destructor; the pipe between them closes in every
//! case. Then the keeper stops what runs from the directory, by process id, and removes the directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

// $1: the directory. A process belongs to it when its command line names it. Selkie itself goes first, as it stops its
// computes cleanly.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
dir=$1
read -r _
# The ids are listed before the subshell that reads them exists, as its command line names the directory too.
mine() {
    set -- "$1" /proc/[0-9]*/cmdline
    found=$(name=$1; shift; grep -laF -- "$name" "$@" 2>/dev/null | tr -dc '0-9\n' | grep -vx "$$")
}
each() { mine "$2"; for pid in $found; do kill "-$1" "$pid" 2>/dev/null; done; }
wait_for_end() {
    for _ in $(seq "$1"); do
        mine "$dir"
        [ -z "$found" ] && return
        sleep 0.1
    done
}
each TERM "$dir/selkie.toml"
wait_for_end 200
each TERM "$dir"
wait_for_end 50
each KILL "$dir"
rm -rf -- "$dir"
"#;

/// A directory for one server and the keeper that will clear it away.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    process: Child,
}

impl Keeper {
    /// Makes a directory with a short path, as unix sockets inside allow no more than 107 bytes.
    pub fn new(prefix: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in("/tmp")
            .expect("a directory in /tmp")
            .keep();
        // Computes run as users of their own and must reach what is theirs below it.
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("the directory's mode");
        let process = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "keeper"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .expect("the keeper process");
        Self { dir, process }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
