//! Where a project's things are on this machine. Data and logs are below the data directory; sockets are there, too,
//! where their paths stay short enough for the kernel, and else below a short directory that belongs to this data directory.

use std::{
    ffi::OsStr,
    fs::DirBuilder,
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use control_api::spec::{AGENT_SOCKET, SERVER_SOCKET, SOCKET_PATH_BYTES_MAX};
use sha2::{Digest, Sha256};

use crate::{name::ProjectId, secret::hex};

/// Others may pass through but not look: the projects' own OS users have to get to their directories.
const PASS: u32 = 0o711;

/// See the head of this file.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    data_dir: PathBuf,
    short_run_dir: PathBuf,
}

impl Paths {
    pub(super) fn new(data_dir: &Path, is_root: bool) -> Self {
        let digest = hex(&Sha256::digest(data_dir.as_os_str().as_bytes())[..6]);
        let parent = if is_root { "/run" } else { "/tmp" };
        Self {
            data_dir: data_dir.into(),
            short_run_dir: Path::new(parent).join(format!("selkie-{digest}")),
        }
    }

    pub(super) fn templates(&self) -> PathBuf {
        self.data_dir.join("templates")
    }

    /// Everything of a project that lasts.
    pub(super) fn project(&self, id: &ProjectId) -> PathBuf {
        self.data_dir.join("projects").join(id.as_str())
    }

    /// mariadbd's own directory.
    pub(super) fn data(&self, id: &ProjectId) -> PathBuf {
        self.project(id).join("data")
    }

    pub(super) fn log(&self, id: &ProjectId) -> PathBuf {
        self.project(id).join("log")
    }

    pub(super) fn spec(&self, id: &ProjectId) -> PathBuf {
        self.project(id).join("spec.json")
    }

    /// What the agent itself says, not its mariadbd.
    pub(super) fn agent_output(&self, id: &ProjectId) -> PathBuf {
        self.project(id).join("agent.log")
    }

    /// The sockets' directory; the same at every call.
    pub(super) fn run(&self, id: &ProjectId) -> PathBuf {
        let near = self.data_dir.join("run").join(id.as_str());
        let longest = AGENT_SOCKET.len().max(SERVER_SOCKET.len());
        if near.as_os_str().len() + 1 + longest <= SOCKET_PATH_BYTES_MAX {
            near
        } else {
            self.short_run_dir.join(id.as_str())
        }
    }

    pub(super) fn agent_socket(&self, id: &ProjectId) -> PathBuf {
        self.run(id).join(AGENT_SOCKET)
    }

    pub(super) fn server_socket(&self, id: &ProjectId) -> PathBuf {
        self.run(id).join(SERVER_SOCKET)
    }

    /// Projects that have a socket of an agent or a server here: those that run, and those that were killed.
    pub(super) fn with_socket(&self) -> io::Result<Vec<ProjectId>> {
        let mut found = Vec::new();
        for parent in [self.data_dir.join("run"), self.short_run_dir.clone()] {
            let entries = match std::fs::read_dir(&parent) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let dir = entry?.path();
                let id = dir
                    .file_name()
                    .and_then(OsStr::to_str)
                    .and_then(|name| ProjectId::new(name).ok());
                let has_socket = [AGENT_SOCKET, SERVER_SOCKET].iter().any(|name| dir.join(name).exists());
                found.extend(id.filter(|_| has_socket));
            }
        }
        Ok(found)
    }

    /// Makes the directories of a project; `owner` is its OS user where it has one.
    pub(super) fn make(&self, id: &ProjectId, owner: Option<u32>) -> io::Result<()> {
        let run = self.run(id);
        for dir in [self.data_dir.join("projects"), self.project(id), self.log(id)] {
            make_dir(&dir, PASS)?;
        }
        if let Some(parent) = run.parent() {
            make_dir(parent, PASS)?;
        }
        make_dir(&run, 0o700)?;
        if let Some(uid) = owner {
            // mariadbd may make its socket here; thanks to the sticky bit it cannot put another in the agent's place. Others
            // are let through by the agent, once that socket is for gateways only.
            std::os::unix::fs::chown(&run, None, Some(uid))?;
            std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o1770))?;
        }
        Ok(())
    }

    /// Removes all that a project has on this machine.
    pub(super) fn remove(&self, id: &ProjectId) -> io::Result<()> {
        for dir in [self.project(id), self.run(id)] {
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes a directory, or takes the one that is there if it is ours: in `/tmp` somebody else might have been faster.
fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(dir)?;
            let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
            if ours {
                Ok(())
            } else {
                Err(io::Error::other(format!("{} is not ours", dir.display())))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = dir
                .parent()
                .filter(|parent| parent.as_os_str() != OsStr::new(""))
                .ok_or(error)?;
            make_dir(parent, PASS)?;
            make_dir(dir, mode)
        }
        Err(error) => Err(error),
    }
}

/// The first directory on the way to `dir` that another OS user cannot pass through.
pub(super) fn first_barrier(dir: &Path) -> Option<PathBuf> {
    let blocks = |dir: &&Path| std::fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0);
    dir.ancestors().find(blocks).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ProjectId {
        ProjectId::new("demo").unwrap()
    }

    #[test]
    fn sockets_always_fit() {
        let near = Paths::new(Path::new("/var/lib/selkie"), true);
        assert_eq!(near.agent_socket(&id()), Path::new("/var/lib/selkie/run/demo/a.sock"));
        let deep = Paths::new(Path::new(&format!("/{}", "d".repeat(90))), false);
        assert!(
            deep.agent_socket(&id()).starts_with("/tmp"),
            "{:?}",
            deep.agent_socket(&id())
        );
        let longest = ProjectId::new(&"p".repeat(40)).unwrap();
        for data_dir_len in 1..200 {
            let paths = Paths::new(Path::new(&format!("/{}", "d".repeat(data_dir_len))), true);
            assert!(paths.server_socket(&longest).as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        }
    }

    #[test]
    fn two_data_directories_never_share_sockets() {
        let run = |name: &str| Paths::new(Path::new(&format!("/{name}{}", "d".repeat(90))), true).run(&id());
        assert_ne!(run("a"), run("b"));
        assert_eq!(run("a"), run("a"));
    }

    #[test]
    fn directories_are_made_once_and_removed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), false);
        paths.make(&id(), None).unwrap();
        paths.make(&id(), None).unwrap();
        std::fs::write(paths.log(&id()).join("x"), "x").unwrap();
        assert_eq!(
            std::fs::metadata(paths.run(&id())).unwrap().permissions().mode() & 0o777,
            0o700
        );
        paths.remove(&id()).unwrap();
        assert!(!paths.project(&id()).exists() && !paths.run(&id()).exists());
        paths.remove(&id()).unwrap();
    }

    #[test]
    fn refuses_a_directory_that_is_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("run")).unwrap();
        assert!(Paths::new(dir.path(), false).make(&id(), None).is_err());
    }

    #[test]
    fn names_the_directory_that_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let below = dir.path().join("data");
        std::fs::create_dir(&below).unwrap();
        assert_eq!(first_barrier(&below).as_deref(), Some(dir.path()));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        assert_ne!(first_barrier(&below).as_deref(), Some(dir.path()));
    }
}
