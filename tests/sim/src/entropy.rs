//! All randomness of a simulation's thread comes from its seed: the keys of hash maps, tokio's choices between branches
//! that are ready together, secrets, jitter. They all ask the C library's `getrandom`; here is another one of that name,
//! which the linker prefers. Threads that simulate nothing get the system's.

use std::cell::Cell;
use std::io::Read;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread is told what follows from `seed`. To be called before anything on it has asked.
pub(crate) fn seed(seed: u64) {
    STATE.set(Some(seed));
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn fill(bytes: &mut [u8]) -> bool {
    let Ok(Some(mut state)) = STATE.try_with(Cell::get) else {
        let system = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes));
        return system.is_ok();
    };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next(&mut state).to_le_bytes()[..chunk.len()]);
    }
    STATE.set(Some(state));
    true
}

#[expect(
    unsafe_code,
    reason = "it has the C library's name and form, so that everybody's question comes here"
)]
mod symbol {
    /// As getrandom(2).
    ///
    /// # Safety
    /// `bytes` must be writable for `count` bytes, as for the C function.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn getrandom(bytes: *mut u8, count: usize, _flags: u32) -> isize {
        if count == 0 {
            return 0;
        }
        // SAFETY: the caller promises what the C function asks for.
        let bytes = unsafe { std::slice::from_raw_parts_mut(bytes, count) };
        if super::fill(bytes) {
            isize::try_from(count).unwrap_or(isize::MAX)
        } else {
            -1
        }
    }
}
