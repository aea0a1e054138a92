//! Buffers for bytes on their way: borrowed from a pool of the thread while a command is in flight, given back when the
//! connection falls idle, so that an idle client costs no buffer at all.

use std::cell::RefCell;

/// Enough for a command and a small result in one read; also the size of rustls' largest record.
const SMALL_BYTES: usize = 16 * 1024;
/// For a direction that keeps filling its buffer: fewer system calls per megabyte. Of 16, 32, 64, 128 and 256 KiB this took
/// the least processor time for a 10 MB result.
const LARGE_BYTES: usize = 64 * 1024;
/// A rest of at most this many bytes (the head of a command, a short command) is moved to the front to make room; more
/// waits until it is sent, so that no byte is copied over and over.
const COMPACT_BYTES_MAX: usize = 2 * 1024;
/// Spare buffers kept per thread: 1 MiB of either size. More are freed.
const SMALL_SPARES_MAX: usize = 64;
const LARGE_SPARES_MAX: usize = 16;

thread_local! {
    static SPARES: RefCell<Spares> = const { RefCell::new(Spares { small: Vec::new(), large: Vec::new() }) };
}

struct Spares {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
}

/// A window of filled bytes in a pooled block; goes back to the pool when dropped.
pub(crate) struct Buffer {
    block: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer of the small size.
    pub(crate) fn small() -> Self {
        let spare = SPARES.with_borrow_mut(|spares| spares.small.pop());
        Self::of(spare.unwrap_or_else(|| vec![0; SMALL_BYTES].into_boxed_slice()))
    }

    /// An empty buffer of the large size.
    pub(crate) fn large() -> Self {
        let spare = SPARES.with_borrow_mut(|spares| spares.large.pop());
        Self::of(spare.unwrap_or_else(|| vec![0; LARGE_BYTES].into_boxed_slice()))
    }

    fn of(block: Box<[u8]>) -> Self {
        Self {
            block,
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Free space behind the filled bytes.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.block.len() && self.start > 0 && self.end - self.start <= COMPACT_BYTES_MAX {
            self.block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.block[self.end..]
    }

    pub(crate) fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Moves the filled bytes to the front, however many they are: a packet that must be seen whole needs all the room.
    pub(crate) fn make_room(&mut self) {
        self.block.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Puts bytes in, at `at` from the first filled byte. False: there is no room for them.
    #[must_use]
    pub(crate) fn insert(&mut self, at: usize, bytes: &[u8]) -> bool {
        if self.capacity() - self.end < bytes.len() {
            self.make_room();
        }
        if self.capacity() - self.end < bytes.len() {
            return false;
        }
        let at = self.start + at;
        self.block.copy_within(at..self.end, at + bytes.len());
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
        true
    }

    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start == self.block.len()
    }

    /// Records that `n` bytes were written into [`Buffer::free`].
    pub(crate) fn extend(&mut self, n: usize) {
        debug_assert!(self.end + n <= self.block.len());
        self.end = (self.end + n).min(self.block.len());
    }

    /// Forgets the first `n` filled bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// Cuts `n` bytes out of the middle, at `at` from the first filled byte.
    pub(crate) fn cut(&mut self, at: usize, n: usize) {
        if at == 0 {
            return self.consume(n);
        }
        let filled = self.filled_mut();
        filled.copy_within(at + n.., at);
        self.end -= n;
    }

    /// Adds bytes behind the filled ones; what does not fit is an error of ours.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(self.free().len());
        debug_assert_eq!(n, bytes.len());
        self.free()[..n].copy_from_slice(&bytes[..n]);
        self.extend(n);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let block = std::mem::take(&mut self.block);
        SPARES.with_borrow_mut(|spares| {
            let (list, max) = match block.len() {
                SMALL_BYTES => (&mut spares.small, SMALL_SPARES_MAX),
                LARGE_BYTES => (&mut spares.large, LARGE_SPARES_MAX),
                _ => return,
            };
            if list.len() < max {
                list.push(block);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled_with(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::small();
        buffer.free()[..bytes.len()].copy_from_slice(bytes);
        buffer.extend(bytes.len());
        buffer
    }

    #[test]
    fn consuming_and_cutting_keep_the_rest() {
        let mut buffer = filled_with(b"abcdef");
        buffer.consume(1);
        buffer.cut(1, 2);
        assert_eq!(buffer.filled(), b"bef");
        buffer.cut(0, 1);
        assert_eq!(buffer.filled(), b"ef");
    }

    #[test]
    fn free_space_comes_back_when_the_front_is_consumed() {
        let mut buffer = filled_with(&[7; SMALL_BYTES]);
        assert!(buffer.is_full() && buffer.free().is_empty());
        buffer.consume(10);
        assert!(buffer.free().is_empty(), "a long rest is not moved");
        buffer.consume(SMALL_BYTES - 20);
        assert_eq!(buffer.free().len(), SMALL_BYTES - 10);
        assert_eq!(buffer.filled(), [7; 10]);
    }

    #[test]
    fn bytes_are_put_in_where_there_is_room() {
        let mut buffer = filled_with(b"xabef");
        buffer.consume(1);
        assert!(buffer.insert(2, b"cd"));
        assert_eq!(buffer.filled(), b"abcdef");
        let mut full = filled_with(&[7; SMALL_BYTES]);
        assert!(!full.insert(0, b"a"));
        full.consume(1);
        assert!(full.insert(SMALL_BYTES - 1, b"a"), "room in front is room");
        assert_eq!(full.filled().last(), Some(&b'a'));
    }

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let first = Buffer::small();
        let at = first.block.as_ptr();
        drop(first);
        assert_eq!(Buffer::small().block.as_ptr(), at);
    }
}
