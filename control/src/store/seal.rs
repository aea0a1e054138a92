//! What must not be read by who has only the database or a copy of it: it goes in sealed and comes out opened, by keys that
//! stand in a file of their own (`seal/file.rs`). A sealed value is bound to its place: moved to another row or project, it
//! does not open.
//!
//! ```text
//! version 1 | key id 4 | salt 24 | ciphertext | tag 16
//! ```
//!
//! ChaCha20-Poly1305 under a key of the value's own, HKDF-SHA256(key of the file, salt): with 192 random bits no key and
//! nonce come twice, however much is written, which the 96 bits of the nonce alone would not promise. By ring, which TLS
//! brings along anyway.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use ring::{aead, hkdf};

use crate::secret::hex;

#[cfg(test)]
mod at_rest;
mod file;

/// Of this layout; another one that ever comes has another.
const VERSION: u8 = 1;
const ID_BYTES: usize = 4;
const SALT_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Version and key id: what tells by which key a value is sealed.
pub(super) const HEAD_BYTES: usize = 1 + ID_BYTES;
const BYTES_MIN: usize = HEAD_BYTES + SALT_BYTES + TAG_BYTES;

/// Names a key without telling anything of it; it is the same wherever the key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyId([u8; ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

struct Key {
    id: KeyId,
    prk: hkdf::Prk,
}

impl Key {
    fn new(bytes: &[u8; 32]) -> Self {
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, bytes);
        let mut id = [0; ID_BYTES];
        // Shorter than what one block gives: it cannot fail.
        let filled = prk
            .expand(&[b"selkie store key id"], Length(ID_BYTES))
            .and_then(|okm| okm.fill(&mut id));
        debug_assert!(filled.is_ok());
        Self { id: KeyId(id), prk }
    }

    /// The key of one value.
    fn of_value(&self, salt: &[u8]) -> Result<aead::LessSafeKey, Unopened> {
        let info: [&[u8]; 2] = [b"selkie store value", salt];
        let okm = self
            .prk
            .expand(&info, &aead::CHACHA20_POLY1305)
            .map_err(|_| Unopened::Damaged)?;
        Ok(aead::LessSafeKey::new(aead::UnboundKey::from(okm)))
    }
}

/// Of what is derived from a key.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The keys of one file: the first seals, all of them open. It has no Debug.
pub(crate) struct Keyring {
    /// At least one.
    keys: Vec<Key>,
    file: PathBuf,
}

/// Where a sealed value stands; it opens nowhere else.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// `table.column`.
    pub(super) column: &'static str,
    pub(super) project: &'a str,
    /// Which row of the project; empty where there is one.
    pub(super) row: &'a str,
}

impl Place<'_> {
    /// Each part with its length in front, so that no two places give the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let parts = [self.column, self.project, self.row];
        let mut bytes = Vec::with_capacity(64);
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, project, row } = self;
        match *row {
            "" => write!(f, "{column} of {project}"),
            row => write!(f, "{column} of {project}.{row}"),
        }
    }
}

/// Why a sealed value does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It is sealed by a key that is not here.
    Key(KeyId),
    /// It is not what was sealed there.
    Damaged,
}

impl Keyring {
    fn new(keys: Vec<Key>, file: &Path) -> Self {
        Self {
            keys,
            file: file.into(),
        }
    }

    /// Of the key that seals.
    pub(super) fn sealing(&self) -> KeyId {
        self.keys[0].id
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|key| key.id)
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.ids().any(|known| known.to_string() == id)
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// How what the first key has sealed begins.
    pub(super) fn head(&self) -> [u8; HEAD_BYTES] {
        let mut head = [VERSION; HEAD_BYTES];
        head[1..].copy_from_slice(&self.sealing().0);
        head
    }

    pub(super) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        self.seal_with(place, plain, rand::random())
    }

    fn seal_with(&self, place: Place<'_>, plain: &[u8], salt: [u8; SALT_BYTES]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(BYTES_MIN + plain.len());
        sealed.extend_from_slice(&self.head());
        sealed.extend_from_slice(&salt);
        let mut text = plain.to_vec();
        // Neither can fail: both are of fixed lengths, and what is sealed here is far below 256 GiB.
        let key = self.keys[0].of_value(&salt).expect("a key of 32 bytes can be derived");
        key.seal_in_place_append_tag(nonce(), aead::Aad::from(place.bytes()), &mut text)
            .expect("a value fits");
        sealed.append(&mut text);
        sealed
    }

    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        if sealed.len() < BYTES_MIN || sealed[0] != VERSION {
            return Err(Unopened::Damaged);
        }
        let (head, rest) = sealed.split_at(HEAD_BYTES);
        let (salt, text) = rest.split_at(SALT_BYTES);
        let mut id = KeyId([0; ID_BYTES]);
        id.0.copy_from_slice(&head[1..]);
        let key = self.keys.iter().find(|key| key.id == id).ok_or(Unopened::Key(id))?;
        let mut text = text.to_vec();
        let opened = key
            .of_value(salt)?
            .open_in_place(nonce(), aead::Aad::from(place.bytes()), &mut text)
            .map_err(|_| Unopened::Damaged)?
            .len();
        text.truncate(opened);
        Ok(text)
    }
}

/// Each value has a key of its own, which is used once.
fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

#[cfg(test)]
impl Keyring {
    /// One that no file has.
    pub(crate) fn of_test(seed: u8) -> Self {
        Self::new(vec![Key::new(&[seed; 32])], Path::new("store.keys"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::unhex;

    const PLACE: Place<'_> = Place {
        column: "users.verifiers",
        project: "demo",
        row: "app",
    };

    #[test]
    fn what_is_sealed_opens_in_its_place_and_in_no_other() {
        let ring = Keyring::of_test(1);
        let sealed = ring.seal(PLACE, b"a verifier");
        assert_eq!(ring.open(PLACE, &sealed).unwrap(), b"a verifier");
        for elsewhere in [
            Place {
                project: "other",
                ..PLACE
            },
            Place { row: "root", ..PLACE },
            Place {
                column: "servers.sealed_accounts",
                ..PLACE
            },
            Place {
                project: "demoa",
                row: "pp",
                ..PLACE
            },
        ] {
            assert_eq!(ring.open(elsewhere, &sealed), Err(Unopened::Damaged));
        }
    }

    #[test]
    fn whatever_byte_is_changed_or_cut_off_it_does_not_open() {
        let ring = Keyring::of_test(1);
        let sealed = ring.seal(PLACE, b"a verifier");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ring.open(PLACE, &changed).is_err(), "byte {at}");
            assert!(ring.open(PLACE, &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(ring.open(PLACE, b"").is_err());
    }

    #[test]
    fn the_same_is_sealed_differently_each_time() {
        let ring = Keyring::of_test(1);
        let (one, other) = (ring.seal(PLACE, b"a verifier"), ring.seal(PLACE, b"a verifier"));
        assert_ne!(
            one[HEAD_BYTES..HEAD_BYTES + SALT_BYTES],
            other[HEAD_BYTES..HEAD_BYTES + SALT_BYTES]
        );
        assert_ne!(one[HEAD_BYTES + SALT_BYTES..], other[HEAD_BYTES + SALT_BYTES..]);
        let text = one.windows(4).any(|part| part == b"veri");
        assert!(!text, "in the clear");
    }

    #[test]
    fn every_key_opens_what_it_has_sealed_and_the_first_one_seals() {
        let (old, new) = (Keyring::of_test(1), Keyring::of_test(2));
        let sealed = old.seal(PLACE, b"a verifier");
        assert_eq!(new.open(PLACE, &sealed), Err(Unopened::Key(old.sealing())));
        let both = Keyring::new(vec![Key::new(&[2; 32]), Key::new(&[1; 32])], Path::new("store.keys"));
        assert_eq!(both.open(PLACE, &sealed).unwrap(), b"a verifier");
        let again = both.seal(PLACE, b"a verifier");
        assert!(again.starts_with(&both.head()) && !sealed.starts_with(&both.head()));
        assert_eq!(new.open(PLACE, &again).unwrap(), b"a verifier");
    }

    /// Values of earlier versions must open for ever. Computed apart from this code, by Python's `hmac` and `cryptography`.
    #[test]
    fn layout_is_the_one_that_is_kept_already() {
        let ring = Keyring::of_test(7);
        let sealed = "0136d10520090909090909090909090909090909090909090909090909216548d162931662db2aee13054418e6245a4f0b0410d94faff6";
        assert_eq!(hex(&ring.seal_with(PLACE, b"a verifier", [9; SALT_BYTES])), sealed);
        assert_eq!(ring.open(PLACE, &unhex(sealed).unwrap()).unwrap(), b"a verifier");
    }
}
