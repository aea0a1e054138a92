//! A project's data directory, cloned from a template: whole or not there at all.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::Error;

/// Copies a tree. `std::fs::copy` shares blocks where the file system can (copy_file_range); files of zeros stay as they
/// are, since a redo log with holes could meet a full disk in the middle of a commit.
pub(crate) fn clone(template: &Path, to: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    if to.exists() {
        return Ok(());
    }
    let unfinished = to.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(Error::system("cannot remove", &unfinished))?;
    }
    let copied = copy_tree(template, &unfinished, owner);
    if copied.is_err() {
        // What is left is removed at the next try if not here.
        let _ = std::fs::remove_dir_all(&unfinished);
    }
    copied?;
    std::fs::rename(&unfinished, to).map_err(Error::system("cannot rename", &unfinished))
}

fn copy_tree(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    std::fs::create_dir_all(to).map_err(Error::system("cannot make", to))?;
    let entries = std::fs::read_dir(from).map_err(Error::system("cannot read", from))?;
    for entry in entries {
        let entry = entry.map_err(Error::system("cannot read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::system("cannot read", &source))?;
        if kind.is_dir() {
            copy_tree(&source, &target, owner)?;
        } else if kind.is_file() {
            std::fs::copy(&source, &target).map_err(Error::system("cannot copy", &source))?;
            give(&target, 0o600, owner)?;
        }
    }
    give(to, 0o700, owner)
}

fn give(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let given = || -> std::io::Result<()> {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        match owner {
            Some((uid, gid)) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    };
    given().map_err(Error::system("cannot give away", path))
}
