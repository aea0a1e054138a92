//! Where clients come from, and how much of something each place has used up: token buckets in maps of a fixed size.
//!
//! In: an address, a moment. Out: whether more is left. A bucket knows its key by a hash with a secret of this process, so
//! that names of any length cost the same, and nobody can aim at another's bucket. Not a keyed limiter of `governor`: that
//! takes at the look, while here a look takes nothing, only a failure does, and a success gives back; and what is forgotten
//! when a map is full matters to security.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Locks of one map; data-plane threads meet on one now and then.
const SHARDS: usize = 64;
/// Buckets of one lock: 65,536 in all, some 3 MiB, of places that have failed lately. Finding one to forget reads them
/// all, in microseconds.
const SHARD_MAX: usize = 1024;

/// One holder of addresses: an IPv4 address, or a /64 of IPv6, which is what a single host is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Address(IpAddr);

/// Its neighbours, often the same organisation: a /24 of IPv4, a /56 of IPv6, which is what a customer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

/// All that one holder may have: one address of IPv4, a /48 of IPv6, the most that is given to a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Site(IpAddr);

impl Site {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(masked(ip, 32, 48))
    }
}

impl Address {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(masked(ip, 32, 64))
    }
}

impl Network {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(masked(ip, 24, 56))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The network part of an address; an IPv4 address inside of IPv6 is one of IPv4.
fn masked(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !u32::MAX.unbounded_shr(v4_bits)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::MAX.unbounded_shr(v6_bits)).into(),
    }
}

/// How much a place may use. Nothing at all at one time: there is no bound, and nothing is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// At one time, when nothing was used for a while.
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
}

impl Rate {
    fn is_bound(self) -> bool {
        self.burst > 0.0
    }
}

/// What one place has used.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    spent: f64,
    /// When `spent` was right; it shrinks since.
    at: Instant,
    /// It was said that nothing is left; said again only after half of it has come back.
    said: bool,
}

impl Bucket {
    fn settle(&mut self, rate: Rate, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.spent = (self.spent - since * rate.per_second).max(0.0);
        self.at = self.at.max(now);
        self.said &= self.spent > rate.burst / 2.0;
    }

    fn is_spent(&self, rate: Rate) -> bool {
        self.spent + 1.0 > rate.burst
    }
}

/// Buckets by key.
pub(crate) struct Buckets {
    /// The bits of a [`Rate`]. Read while it changes, one half may be the old one's: one look is judged by neither.
    burst: AtomicU64,
    per_second: AtomicU64,
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<u64, Bucket>>]>,
}

impl Buckets {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            burst: AtomicU64::new(rate.burst.to_bits()),
            per_second: AtomicU64::new(rate.per_second.to_bits()),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Another rate from now on. What was used stays used.
    pub(crate) fn set_rate(&self, rate: Rate) {
        self.burst.store(rate.burst.to_bits(), Relaxed);
        self.per_second.store(rate.per_second.to_bits(), Relaxed);
    }

    fn rate(&self) -> Rate {
        Rate {
            burst: f64::from_bits(self.burst.load(Relaxed)),
            per_second: f64::from_bits(self.per_second.load(Relaxed)),
        }
    }

    /// The key of anything that can be told apart.
    pub(crate) fn key(&self, of: impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, Bucket>> {
        let at = (key % SHARDS as u64) as usize;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is nothing left? Takes nothing.
    pub(crate) fn is_spent(&self, key: u64, now: Instant) -> bool {
        let rate = self.rate();
        match self.shard(key).get_mut(&key) {
            Some(bucket) if rate.is_bound() => {
                bucket.settle(rate, now);
                bucket.is_spent(rate)
            }
            _ => false,
        }
    }

    /// Takes one. True: with it nothing is left, for the first time in a while.
    pub(crate) fn spend(&self, key: u64, now: Instant) -> bool {
        let rate = self.rate();
        if !rate.is_bound() {
            return false;
        }
        let mut shard = self.shard(key);
        if shard.len() >= SHARD_MAX && !shard.contains_key(&key) {
            make_room(&mut shard, rate, now);
        }
        let bucket = shard.entry(key).or_insert(Bucket {
            spent: 0.0,
            at: now,
            said: false,
        });
        bucket.settle(rate, now);
        // What is beyond the burst does not count: whoever stops is heard again after one step of the rate.
        bucket.spent = (bucket.spent + 1.0).min(rate.burst);
        let news = bucket.is_spent(rate) && !bucket.said;
        bucket.said |= news;
        news
    }

    /// Gives one back, as far as one was taken.
    pub(crate) fn give_back(&self, key: u64) {
        let mut shard = self.shard(key);
        let Some(bucket) = shard.get_mut(&key) else { return };
        bucket.spent -= 1.0;
        if bucket.spent <= 0.0 {
            shard.remove(&key);
        }
    }

    /// How long until one is left again.
    pub(crate) fn seconds_until_one(&self, key: u64, now: Instant) -> f64 {
        let rate = self.rate();
        if !rate.is_bound() {
            return 0.0;
        }
        let mut shard = self.shard(key);
        let Some(bucket) = shard.get_mut(&key) else { return 0.0 };
        bucket.settle(rate, now);
        (bucket.spent + 1.0 - rate.burst).max(0.0) / rate.per_second
    }
}

/// Forgets what says nothing any more; failing that, whoever has used least. So a flood from ever new places pushes itself
/// out, not those that are being held back.
fn make_room(shard: &mut HashMap<u64, Bucket>, rate: Rate, now: Instant) {
    shard.retain(|_, bucket| {
        bucket.settle(rate, now);
        bucket.spent > 0.0
    });
    if shard.len() >= SHARD_MAX {
        let least = shard
            .iter()
            .min_by(|(_, one), (_, other)| one.spent.total_cmp(&other.spent));
        if let Some(key) = least.map(|(key, _)| *key) {
            shard.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate {
        burst: 3.0,
        per_second: 0.5,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_share_a_network_and_not_an_address() {
        for (one, other, far) in [
            ("192.0.2.1", "192.0.2.255", "192.0.3.1"),
            ("2001:db8:0:100::1", "2001:db8:0:1ff::1", "2001:db8:0:200::1"),
        ] {
            assert_ne!(Address::of(ip(one)), Address::of(ip(other)));
            assert_eq!(Network::of(ip(one)), Network::of(ip(other)));
            assert_ne!(Network::of(ip(one)), Network::of(ip(far)));
        }
        assert_eq!(Site::of(ip("2001:db8:0:100::1")), Site::of(ip("2001:db8:0:ff00::1")));
        assert_ne!(Site::of(ip("2001:db8:0:100::1")), Site::of(ip("2001:db8:1:100::1")));
        assert_ne!(
            Site::of(ip("192.0.2.1")),
            Site::of(ip("192.0.2.2")),
            "whose it is, nobody knows"
        );
        // A host with IPv6 has a whole /64 to choose addresses from.
        assert_eq!(Address::of(ip("2001:db8::1")), Address::of(ip("2001:db8::ffff:1")));
        assert_eq!(Address::of(ip("::ffff:192.0.2.1")), Address::of(ip("192.0.2.1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_the_rate() {
        let buckets = Buckets::new(RATE);
        let key = buckets.key("a");
        let begin = Instant::now();
        for _ in 0..3 {
            assert!(!buckets.is_spent(key, begin));
            buckets.spend(key, begin);
        }
        assert!(buckets.is_spent(key, begin));
        assert!(
            !buckets.is_spent(buckets.key("b"), begin),
            "another place is another bucket"
        );
        assert_eq!(buckets.seconds_until_one(key, begin), 2.0);
        assert!(buckets.is_spent(key, begin + Duration::from_millis(1_900)));
        assert!(!buckets.is_spent(key, begin + Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_while_nothing_was_left_does_not_count() {
        let buckets = Buckets::new(RATE);
        let (key, begin) = (buckets.key("a"), Instant::now());
        for _ in 0..100 {
            buckets.spend(key, begin);
        }
        assert!(!buckets.is_spent(key, begin + Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_that_nothing_is_left() {
        let buckets = Buckets::new(RATE);
        let (key, begin) = (buckets.key("a"), Instant::now());
        let said = |at: Instant| (0..3).filter(|_| buckets.spend(key, at)).count();
        assert_eq!(said(begin), 1);
        assert_eq!(said(begin + Duration::from_secs(2)), 0, "the same attack");
        assert_eq!(said(begin + Duration::from_secs(60)), 1, "another one");
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_judges_by_what_was_used_before_it() {
        let buckets = Buckets::new(Rate {
            burst: 0.0,
            per_second: 0.0,
        });
        let (key, now) = (buckets.key("a"), Instant::now());
        assert!(!buckets.spend(key, now) && !buckets.is_spent(key, now), "no bound");
        buckets.set_rate(RATE);
        for _ in 0..3 {
            assert!(
                !buckets.is_spent(key, now),
                "what was not counted is not held against it"
            );
            buckets.spend(key, now);
        }
        assert!(buckets.is_spent(key, now));
        buckets.set_rate(Rate { burst: 5.0, ..RATE });
        assert!(!buckets.is_spent(key, now));
        buckets.set_rate(Rate { burst: 2.0, ..RATE });
        assert!(buckets.is_spent(key, now));
        assert_eq!(buckets.seconds_until_one(key, now), 4.0);
    }

    #[tokio::test(start_paused = true)]
    async fn given_back_is_as_if_not_taken() {
        let buckets = Buckets::new(RATE);
        let (key, now) = (buckets.key("a"), Instant::now());
        for _ in 0..100 {
            buckets.spend(key, now);
            buckets.give_back(key);
        }
        assert!(!buckets.is_spent(key, now));
        assert!(buckets.shard(key).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_places_is_bounded_and_frees_nobody_who_is_held_back() {
        let buckets = Buckets::new(RATE);
        let now = Instant::now();
        // All behind one lock: the others are no different.
        let mut keys = (0..).map(|n| n * SHARDS as u64);
        let held: Vec<_> = keys.by_ref().take(SHARD_MAX - 1).collect();
        for key in &held {
            for _ in 0..3 {
                buckets.spend(*key, now);
            }
        }
        for key in keys.take(2 * SHARD_MAX) {
            buckets.spend(key, now);
        }
        assert_eq!(buckets.shard(0).len(), SHARD_MAX);
        assert!(held.iter().all(|key| buckets.is_spent(*key, now)));
    }
}
