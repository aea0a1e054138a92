//! What the bytes of one direction of a connection suffer, and how that is drawn.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// How a direction, and mostly its connection, ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Both sides are closed.
    End,
    /// Both sides are reset.
    Reset,
    /// The reader sees the end, the other direction goes on.
    HalfClose,
    /// What comes is taken and thrown away, and no end is told: the way has a hole.
    Silence,
    /// Nothing is read any more, so that the writer's buffers fill.
    StopReading,
}

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Before what came at once is passed on.
    pub delay: Duration,
    /// So many bytes are written at a time.
    pub piece: usize,
    /// After so many bytes `then` happens; never without.
    pub until: Option<u64>,
    /// See `until`.
    pub then: Then,
}

impl Way {
    /// Bytes pass as they come.
    pub const FREE: Self = Self {
        delay: Duration::ZERO,
        piece: usize::MAX,
        until: None,
        then: Then::End,
    };
}

/// What connections may suffer.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// With the number of a connection it says all.
    pub seed: u64,
    /// How they end; one in four does not.
    pub ends: &'static [Then],
    /// The bytes after which; small numbers are drawn as often as large ones.
    pub until_max: u64,
    /// The longest delay.
    pub delay_max: Duration,
}

impl Trouble {
    /// Up and down.
    pub(super) fn draw(&self, number: u64) -> (Way, Way) {
        let random = &mut StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut ways = [self.way(random), self.way(random)];
        // One reason is enough: only one direction ends by itself.
        if let Some(then) = self.ends.choose(random)
            && random.random_bool(0.75)
        {
            let bits = random.random_range(0.0..=(self.until_max as f64).log2());
            let way = &mut ways[random.random_range(0..2)];
            (way.until, way.then) = (Some(bits.exp2() as u64), *then);
        }
        let [up, down] = ways;
        (up, down)
    }

    fn way(&self, random: &mut StdRng) -> Way {
        let delayed = random.random_bool(0.5);
        Way {
            delay: if delayed {
                self.delay_max.mul_f64(random.random())
            } else {
                Duration::ZERO
            },
            piece: match random.random_range(0..3) {
                0 => 1,
                1 => random.random_range(2..1500),
                _ => usize::MAX,
            },
            ..Way::FREE
        }
    }
}
