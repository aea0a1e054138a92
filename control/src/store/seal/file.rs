//! The file of keys: a key a line, 64 hex digits; `#` begins a comment. It is made at the first start. Whoever can read it
//! and the database reads everything, so it is taken only where nobody else can; and it is never changed by us.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Key, Keyring};
use crate::{
    secret::{hex, unhex},
    store::StoreError,
};

/// A file of a thousand keys is none of ours.
const BYTES_MAX: u64 = 64 << 10;
const HEAD: &str = "\
# Keys of the control plane's state, one a line: the first seals, all of them open.
# Without them the state and its backups cannot be used. Keep a copy, and not beside the copies of the state.
";

impl Keyring {
    /// `None`: there is no such file.
    pub(in crate::store) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let refused = |problem: String| StoreError::unusable(&path.display().to_string(), problem);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| refused(format!("cannot be read: {error}")))?,
        };
        let mut text = Zeroizing::new(String::new());
        let about = file
            .metadata()
            .map_err(|error| refused(format!("cannot be read: {error}")))?;
        if !about.is_file() {
            return Err(refused("is no file".into()));
        }
        must_be_ours(&about).map_err(refused)?;
        file.take(BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => refused("is no file of keys: put it back from its copy".into()),
                _ => refused(format!("cannot be read: {error}")),
            })?;
        let keys = parse(&text).map_err(refused)?;
        Ok(Some(Self::new(keys, path)))
    }

    /// Makes the file with one new key; one that somebody else makes at the same time counts for both.
    pub(in crate::store) fn make(path: &Path) -> Result<Self, StoreError> {
        let refused =
            |error: io::Error| StoreError::unusable(&path.display().to_string(), format!("cannot be made: {error}"));
        write_new(path).map_err(refused)?;
        Self::read(path)?.ok_or_else(|| refused(io::ErrorKind::NotFound.into()))
    }
}

/// Whole or not at all, and on disk when it returns: what is sealed by a key must not outlive it.
fn write_new(path: &Path) -> io::Result<()> {
    let key = Zeroizing::new(rand::random::<[u8; 32]>());
    let text = Zeroizing::new(format!("{HEAD}{}\n", *Zeroizing::new(hex(&*key))));
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let fresh = unfinished(path);
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| match std::fs::hard_link(&fresh, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = std::fs::remove_file(&fresh);
    written?;
    removed?;
    File::open(dir)?.sync_all()
}

/// Of this call alone.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", hex(&rand::random::<[u8; 8]>())));
    name.into()
}

/// As PostgreSQL has it for its keys: ours, or root's where a group may read what an orchestrator has put there.
fn must_be_ours(about: &std::fs::Metadata) -> Result<(), String> {
    let us = rustix::process::geteuid().as_raw();
    let open_to = about.mode() & 0o777 & if about.uid() == 0 { !0o640 } else { !0o600 };
    if about.uid() != us && about.uid() != 0 {
        return Err(format!("belongs to another user ({}): chown it to {us}", about.uid()));
    }
    if open_to & 0o077 != 0 {
        return Err(format!(
            "is open to others (mode {:04o}): chmod 600 it",
            about.mode() & 0o777
        ));
    }
    Ok(())
}

/// No refusal repeats anything of what stands there.
fn parse(text: &str) -> Result<Vec<Key>, String> {
    let mut keys: Vec<Key> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bytes = unhex(line).map(Zeroizing::new);
        let bytes: Option<&[u8; 32]> = bytes.as_ref().and_then(|bytes| bytes.as_slice().try_into().ok());
        let Some(bytes) = bytes else {
            return Err(format!(
                "line {} is no key (64 hex digits): put the file back from its copy",
                number + 1
            ));
        };
        let key = Key::new(bytes);
        if keys.iter().any(|other| other.id == key.id) {
            return Err(format!("line {} repeats the key {}", number + 1, key.id));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err("holds no key: put it back from its copy".into());
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn refusal(text: &[u8], mode: u32) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.keys");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = Keyring::read(&path).map(drop).unwrap_err().to_string();
        assert!(refused.contains("store.keys: "), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
        refused
    }

    #[test]
    fn is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.keys");
        assert!(Keyring::read(&path).unwrap().is_none());
        let made = Keyring::make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // As of two control planes that share the directory and start at once.
        let again = Keyring::make(&path).unwrap();
        assert_eq!(again.sealing(), made.sealing());
        assert_eq!(Keyring::read(&path).unwrap().unwrap().sealing(), made.sealing());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        let other = Keyring::make(&dir.path().join("other")).unwrap();
        assert_ne!(other.sealing(), made.sealing());
    }

    #[test]
    fn its_lines_are_keys_in_their_order() {
        let text = format!("# old\n\n{}\n  {}  \n", "AB".repeat(32), "cd".repeat(32));
        let keys = parse(&text).unwrap();
        let ids = [Key::new(&[0xab; 32]).id, Key::new(&[0xcd; 32]).id];
        assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn one_that_cannot_be_used_is_refused_with_its_line_and_without_what_stands_there() {
        let good = "5e".repeat(32);
        for (text, told) in [
            (format!("{good}\n{}\n", "5e".repeat(31)), "line 2 is no key"),
            (format!("{}zz\n", "5e".repeat(31)), "line 1 is no key"),
            (format!("\n{good}\n{good}\n"), "line 3 repeats"),
            ("# nothing\n".into(), "holds no key"),
            (String::new(), "holds no key"),
        ] {
            let refused = refusal(text.as_bytes(), 0o600);
            assert!(refused.contains(told) && !refused.contains("5e5e5e5e"), "{refused}");
        }
        let refused = refusal(&[0xff, 0xfe, 0], 0o600);
        assert!(refused.contains("no file of keys"), "{refused}");
    }

    #[test]
    fn one_that_others_can_read_is_refused() {
        for mode in [0o644, 0o604, 0o660, 0o620] {
            let refused = refusal("5e".repeat(32).as_bytes(), mode);
            assert!(
                refused.contains("is open to others") && refused.contains("chmod 600"),
                "{refused}"
            );
        }
    }

    #[test]
    fn one_that_is_no_file_or_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Keyring::read(dir.path()).map(drop).unwrap_err().to_string();
        assert!(refused.contains("is no file"), "{refused}");
        let missing = dir.path().join("none/store.keys");
        let refused = Keyring::make(&missing).map(drop).unwrap_err().to_string();
        assert!(refused.contains("none/store.keys: cannot be made"), "{refused}");
    }
}
