//! Who may begin a login: bounds of logins that are not over, and of failed ones, for each source address, before
//! anything is done for it.
//!
//! In: an address. Out: [`Entered`], held until the login is over, or a refusal that is the same whatever the client
//! would have said, for nothing was read of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use tokio::time::Instant;

use crate::error::{ClientFacing, ErrorKind, Told};
use crate::source::{Address, Buckets, Rate, Site};

/// Failed logins that an address may have at once, in seconds of its rate.
const BURST_SECONDS: f64 = 20.0;
/// When half of all half-open logins are taken, an address or a site may have this part of its bound only: whoever floods from
/// some of them leaves room for all others.
const SHARE_WHEN_BUSY: u32 = 8;
/// A site may have this part of all half-open logins, or what one of its addresses may have: with IPv6 one machine may have more
/// addresses than there are places.
const SHARE_OF_A_SITE: u32 = 4;

/// Settings of this step. 0: no bound.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) max_half_open: u32,
    pub(crate) max_half_open_per_address: u32,
    pub(crate) address_failures_per_second: u32,
}

/// A login packet of a driver of today is shorter: names, an answer, a handful of attributes.
const USUAL_LOGIN_BYTES: usize = 4 * 1024;
/// What all longer ones under way may take together: some hundred of the longest.
const LONG_LOGINS_BYTES_MAX: usize = 16 << 20;

/// Of half-open logins so many may be there however few clients there may be: as many as applications that start open at once.
const HALF_OPEN_ANYWAY: u32 = 128;

impl Config {
    /// At a gateway for so many clients. Logins under way have no more than half of its places, and one address no more than half
    /// of those: who connects from there and says nothing does not keep all others out. What is not bounded stays so.
    pub(crate) fn within(self, max_clients: u32) -> Self {
        let part = |bound: u32, whole: u32| bound.min((whole / 2).max(HALF_OPEN_ANYWAY));
        let max_half_open = part(self.max_half_open, max_clients);
        let max_half_open_per_address = match max_half_open {
            0 => self.max_half_open_per_address,
            all => part(self.max_half_open_per_address, all),
        };
        Self {
            max_half_open,
            max_half_open_per_address,
            ..self
        }
    }
}

/// Counts of those who are logging in, and of those who failed to.
pub(crate) struct Turnstile {
    half_open: Mutex<HalfOpen>,
    long_logins_bytes: AtomicUsize,
    failures: Buckets,
    turned_away: [IntCounter; 2],
}

struct HalfOpen {
    max: u32,
    max_per_address: u32,
    total: u32,
    /// These are no larger than `total`.
    by_address: HashMap<Address, u32>,
    by_site: HashMap<Site, u32>,
}

impl HalfOpen {
    /// How many may be under way from one address, and from one site, as things stand.
    fn bounds(&self) -> [u32; 2] {
        let of_a_site = (self.max / SHARE_OF_A_SITE).max(self.max_per_address);
        [self.max_per_address, of_a_site].map(|bound| match self.total >= self.max / 2 {
            true => (bound / SHARE_WHEN_BUSY).max(1),
            false => bound,
        })
    }
}

/// Nothing was done for this client.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TurnedAway {
    #[error("too many failed logins from {ip}; again in {seconds} s")]
    Failures { ip: IpAddr, seconds: u64 },
    #[error("too many logins from {0} are under way")]
    HalfOpenThere(IpAddr),
    #[error("too many logins are under way")]
    HalfOpen,
}

impl ClientFacing for TurnedAway {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Limited
    }

    fn told(&self) -> Option<Told> {
        Some(match self {
            // ER_HOST_IS_BLOCKED, as at MariaDB, where it takes a FLUSH HOSTS to end it; here time does.
            Self::Failures { ip, seconds } => {
                let text = format!("Host '{ip}' is blocked because of many failed logins; try again in {seconds} s");
                Told::new(1129, "HY000", text)
            }
            // ER_CON_COUNT_ERROR: drivers know that it passes.
            Self::HalfOpenThere(ip) => {
                let text = format!("Too many connections: too many logins from '{ip}' are under way");
                Told::new(1040, "08004", text)
            }
            Self::HalfOpen => Told::new(1040, "08004", "Too many connections: too many logins are under way"),
        })
    }
}

impl Turnstile {
    /// The counters count who was turned away: for half-open logins, for failures.
    pub(crate) fn new(config: &Config, turned_away: [IntCounter; 2]) -> Self {
        Self {
            half_open: Mutex::new(HalfOpen {
                max: or_any(config.max_half_open),
                max_per_address: or_any(config.max_half_open_per_address),
                total: 0,
                by_address: HashMap::new(),
                by_site: HashMap::new(),
            }),
            long_logins_bytes: AtomicUsize::new(0),
            failures: Buckets::new(rate(config)),
            turned_away,
        }
    }

    /// Other bounds from now on, for those who are counted already as well; nobody who is in is sent away.
    pub(crate) fn adjust(&self, config: &Config) {
        let mut half_open = self.half_open();
        half_open.max = or_any(config.max_half_open);
        half_open.max_per_address = or_any(config.max_half_open_per_address);
        self.failures.set_rate(rate(config));
    }

    fn half_open(&self) -> MutexGuard<'_, HalfOpen> {
        self.half_open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client from `ip` wants to log in.
    pub(crate) fn enter(&self, ip: IpAddr, now: Instant) -> Result<Entered<'_>, TurnedAway> {
        let ip = ip.to_canonical();
        let (address, site) = (Address::of(ip), Site::of(ip));
        let [for_half_open, for_failures] = &self.turned_away;
        let key = self.failures.key(address);
        if self.failures.is_spent(key, now) {
            for_failures.inc();
            // Rounded up: at the time that is told it has one.
            let seconds = self.failures.seconds_until_one(key, now).ceil().max(1.0) as u64;
            return Err(TurnedAway::Failures { ip, seconds });
        }
        let mut half_open = self.half_open();
        let there = half_open.by_address.get(&address).copied().unwrap_or_default();
        let near = half_open.by_site.get(&site).copied().unwrap_or_default();
        let [max_there, max_near] = half_open.bounds();
        let refusal = match () {
            () if there >= max_there || near >= max_near => Some(TurnedAway::HalfOpenThere(ip)),
            () if half_open.total >= half_open.max => Some(TurnedAway::HalfOpen),
            () => None,
        };
        if let Some(refusal) = refusal {
            for_half_open.inc();
            return Err(refusal);
        }
        half_open.total += 1;
        *half_open.by_address.entry(address).or_default() += 1;
        *half_open.by_site.entry(site).or_default() += 1;
        Ok(Entered {
            turnstile: self,
            address,
            site,
            long_bytes: 0,
            crowded: false,
            proven: false,
        })
    }
}

/// 0 in the settings: no bound.
fn or_any(bound: u32) -> u32 {
    if bound == 0 { u32::MAX } else { bound }
}

fn rate(config: &Config) -> Rate {
    let per_second = f64::from(config.address_failures_per_second);
    Rate {
        burst: per_second * BURST_SECONDS,
        per_second,
    }
}

/// A login under way. Dropped without [`Self::proven`], it has failed.
#[must_use]
pub(crate) struct Entered<'a> {
    turnstile: &'a Turnstile,
    address: Address,
    site: Site,
    /// Of its packets, beyond what is usual.
    long_bytes: usize,
    /// There was no room for it, which is not its address's fault.
    crowded: bool,
    proven: bool,
}

impl Entered<'_> {
    /// The client is about to send so much, which is kept until the login is over. None: those who are logging in take as much as
    /// they may. One with a packet of a usual length always has room.
    pub(crate) fn sends(&mut self, bytes: usize) -> Option<()> {
        let more = bytes.saturating_sub(USUAL_LOGIN_BYTES);
        let taken = &self.turnstile.long_logins_bytes;
        let room = |taken: usize| taken.checked_add(more).filter(|&sum| sum <= LONG_LOGINS_BYTES_MAX);
        if taken.fetch_update(Relaxed, Relaxed, room).is_err() {
            self.turnstile.turned_away[0].inc();
            self.crowded = true;
            return None;
        }
        self.long_bytes += more;
        Some(())
    }

    /// The client is who it says. Makes up for a failure: an address of many clients, one of which has an old password, is
    /// not blocked for the others.
    pub(crate) fn proven(&mut self) {
        self.proven = true;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let failures = &self.turnstile.failures;
        let key = failures.key(self.address);
        if self.proven {
            failures.give_back(key);
        } else if !self.crowded && failures.spend(key, Instant::now()) {
            tracing::info!(address = %self.address, "too many failed logins from there: turned away for a while");
        }
        self.turnstile.long_logins_bytes.fetch_sub(self.long_bytes, Relaxed);
        let mut half_open = self.turnstile.half_open();
        half_open.total -= 1;
        one_less(&mut half_open.by_address, self.address);
        one_less(&mut half_open.by_site, self.site);
    }
}

fn one_less<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn turnstile(max_half_open: u32, max_half_open_per_address: u32, address_failures_per_second: u32) -> Turnstile {
        let config = Config {
            max_half_open,
            max_half_open_per_address,
            address_failures_per_second,
        };
        let counter = || IntCounter::new("turned_away", "turned away").unwrap();
        Turnstile::new(&config, [counter(), counter()])
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn half_open_logins_take_no_more_than_a_part_of_the_places_there_are() {
        let within = |half_open, per_address, max_clients| {
            let config = Config {
                max_half_open: half_open,
                max_half_open_per_address: per_address,
                address_failures_per_second: 50,
            };
            let config = config.within(max_clients);
            (config.max_half_open, config.max_half_open_per_address)
        };
        for (max_clients, expected) in [
            (50_000, (8192, 1024)),
            (16_000, (8000, 1024)),
            (1_000, (500, 250)),
            (300, (150, 128)),
            (10, (128, 128)),
        ] {
            assert_eq!(within(8192, 1024, max_clients), expected, "{max_clients}");
        }
        assert_eq!(within(10, 2, 1_000), (10, 2), "what is set lower stays");
        assert_eq!(within(0, 0, 1_000), (0, 0), "what is not bounded is not bounded");
        assert_eq!(within(0, 1024, 1_000), (0, 1024));
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_logins_of_one_address_are_bounded_and_others_come_in() {
        let turnstile = turnstile(100, 3, 0);
        let now = Instant::now();
        let mut held: Vec<_> = (0..3).map(|_| turnstile.enter(ip(1), now).ok().unwrap()).collect();
        let refused = turnstile.enter(ip(1), now).err().unwrap();
        assert_eq!(refused, TurnedAway::HalfOpenThere(ip(1)));
        assert!(turnstile.enter(ip(2), now).is_ok());
        held.pop();
        assert!(turnstile.enter(ip(1), now).is_ok(), "one is over");
        assert_eq!(turnstile.turned_away[0].get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn all_half_open_logins_are_bounded() {
        let turnstile = turnstile(10, 0, 0);
        let now = Instant::now();
        let held: Vec<_> = (0..10).map(|n| turnstile.enter(ip(n), now).ok().unwrap()).collect();
        assert_eq!(turnstile.enter(ip(99), now).err(), Some(TurnedAway::HalfOpen));
        drop(held);
        assert!(turnstile.enter(ip(99), now).is_ok());
        let half_open = turnstile.half_open();
        assert!(
            half_open.by_address.is_empty() && half_open.by_site.is_empty(),
            "nothing is kept of those who are gone"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_some_addresses_leaves_room_for_others() {
        let turnstile = turnstile(100, 40, 0);
        let now = Instant::now();
        let mut held = Vec::new();
        for round in 0..250 {
            held.extend(turnstile.enter(ip(round % 5), now));
        }
        assert!(held.len() < 60, "{} are in", held.len());
        assert!(turnstile.enter(ip(99), now).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_with_any_number_of_addresses_leaves_room_for_others() {
        let turnstile = turnstile(800, 40, 0);
        let now = Instant::now();
        let flood = |site: u16| {
            let from = move |n: u16| IpAddr::from([0x2001, 0xdb8, site, n, 0, 0, 0, 1]);
            (0..2_000)
                .filter_map(|n| turnstile.enter(from(n), now).ok())
                .collect::<Vec<_>>()
        };
        let held = flood(1);
        assert_eq!(held.len(), 200);
        assert_eq!(flood(2).len(), 200, "they are gone again");
        let others: Vec<_> = (2..5).map(flood).collect();
        assert_eq!(
            others.iter().map(Vec::len).collect::<Vec<_>>(),
            [200, 25, 25],
            "half of all are taken"
        );
        assert!(turnstile.enter(ip(9), now).is_ok());
        drop((held, others));
        assert!(turnstile.half_open().by_site.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn long_login_packets_have_so_much_room_together_and_usual_ones_always_have_some() {
        let turnstile = turnstile(0, 0, 0);
        let enter = |n| turnstile.enter(ip(n), Instant::now()).ok().unwrap();
        let mut held = Vec::new();
        let refused = loop {
            let mut entered = enter(1);
            match entered.sends(128 * 1024) {
                Some(()) => held.push(entered),
                None => break entered,
            }
        };
        assert!((100..200).contains(&held.len()), "{}", held.len());
        assert!(enter(2).sends(USUAL_LOGIN_BYTES).is_some());
        assert!(
            enter(2).sends(128 * 1024).is_none(),
            "nothing was taken for who was refused"
        );
        drop((refused, held.pop()));
        assert!(enter(2).sends(128 * 1024).is_some());
        drop(held);
        assert_eq!(turnstile.long_logins_bytes.load(Relaxed), 0);
        assert_eq!(turnstile.turned_away[0].get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_only_fails_is_turned_away_for_a_while() {
        let turnstile = turnstile(0, 0, 5);
        for _ in 0..100 {
            drop(turnstile.enter(ip(1), Instant::now()).ok().unwrap());
        }
        let refused = turnstile.enter(ip(1), Instant::now()).err().unwrap();
        assert_eq!(refused, TurnedAway::Failures { ip: ip(1), seconds: 1 });
        let told = refused.told().unwrap();
        assert_eq!(told.code, 1129);
        assert!(
            told.message.contains("'192.0.2.1'") && told.message.contains("1 s"),
            "{}",
            told.message
        );
        assert!(
            turnstile.enter(ip(2), Instant::now()).is_ok(),
            "another address is another"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(turnstile.enter(ip(1), Instant::now()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_with_an_old_password_does_not_block_the_others_of_its_address() {
        let turnstile = turnstile(0, 0, 5);
        for _ in 0..10_000 {
            drop(turnstile.enter(ip(1), Instant::now()).ok().unwrap());
            turnstile.enter(ip(1), Instant::now()).ok().unwrap().proven();
        }
    }
}
