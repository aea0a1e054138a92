//! What all sessions of one project keep together, in bytes, whether or not they hold a connection: without a bound one
//! project's idle sessions would fill the memory that all projects share.
//!
//! In: how much a session wants to keep. Out: whether there is room. What finds none is not kept: a statement's text, a setting,
//! or all that would let the session leave its connection, so that it is the compute that keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// 1,000 sessions with 64 KiB each, which are some 100 statements of a driver's cache.
const BYTES_MAX: usize = 64 << 20;
/// So much a session may keep besides its statements whatever others keep: what restores an ordinary one, and the settings
/// that a driver sends, are half of it. An idle client costs several times as much in any case.
const FREE_BYTES: usize = 1024;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Shelf {
    taken: AtomicUsize,
    bytes_max: usize,
}

impl Default for Shelf {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl Shelf {
    /// One with room for so many bytes.
    pub(super) fn of(bytes_max: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            bytes_max,
        }
    }

    /// Whether there was room.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let room = |taken: usize| taken.checked_add(bytes).filter(|&sum| sum <= self.bytes_max);
        self.taken.fetch_update(Relaxed, Relaxed, room).is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }
}

/// One session's part of a shelf, its statements aside; given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Kept {
    shelf: Arc<Shelf>,
    taken: usize,
}

impl Kept {
    /// On this shelf from here on, where nothing is kept yet.
    pub(super) fn share(&mut self, shelf: &Arc<Shelf>) {
        self.clear();
        self.shelf = Arc::clone(shelf);
    }

    /// So much is kept from here on. False: there is no room for it, and as much is kept as before.
    #[must_use]
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(FREE_BYTES);
        match wanted.checked_sub(self.taken) {
            Some(more) if !self.shelf.take(more) => return false,
            Some(_) => {}
            None => self.shelf.give_back(self.taken - wanted),
        }
        self.taken = wanted;
        true
    }

    /// Nothing is kept from here on.
    pub(super) fn clear(&mut self) {
        self.shelf.give_back(std::mem::take(&mut self.taken));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_a_little_of_its_own_and_the_rest_from_the_shelf_which_gets_all_of_it_back() {
        let shelf = Arc::new(Shelf::of(1000));
        let (mut one, mut other) = (Kept::default(), Kept::default());
        one.share(&shelf);
        other.share(&shelf);
        assert!(one.resize(FREE_BYTES) && other.resize(FREE_BYTES));
        assert_eq!(shelf.taken(), 0);
        assert!(one.resize(FREE_BYTES + 900));
        assert!(!other.resize(FREE_BYTES + 101), "there are 100 left");
        assert_eq!(shelf.taken(), 900);
        assert!(other.resize(FREE_BYTES + 100) && one.resize(FREE_BYTES + 300) && other.resize(FREE_BYTES + 700));
        assert_eq!(shelf.taken(), 1000);
        one.share(&Arc::default());
        assert_eq!(shelf.taken(), 700);
        drop(other);
        assert_eq!(shelf.taken(), 0);
    }
}
