//! A file system of its own, small enough to be filled.

use std::path::Path;
use std::process::Command;

/// Of so many bytes, for as long as it lives.
#[derive(Debug)]
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`: this process may not mount one.
    pub fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory to mount it at");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .output();
        let mounted = mounted.is_ok_and(|mounted| mounted.status.success());
        mounted.then_some(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no byte free, in a file that [`SmallDisk::free`] removes.
    pub fn fill(&self) {
        let chunk = vec![0; 1 << 16];
        let mut filler = std::fs::File::create(self.filler()).expect("a file that fills it");
        while std::io::Write::write_all(&mut filler, &chunk).is_ok() {}
    }

    /// Makes room again.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the file that fills it");
    }

    /// Takes no changes from now on.
    pub fn make_read_only(&self) {
        let mounted = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path())
            .status();
        assert!(mounted.is_ok_and(|mounted| mounted.success()), "remounting");
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "unmounting");
    }
}
