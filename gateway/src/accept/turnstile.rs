//! Who may begin a login: bounds of logins that are not over, and of failed ones, for each source address, before
//! anything is done for it.
//!
//! In: an address. Out: [`Entered`], held until the login is over, or a refusal that is the same whatever the client
//! would have said, for nothing was read of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use tokio::time::Instant;

use crate::error::{ClientFacing, ErrorKind, Told};
use crate::source::{Address, Buckets, Rate};

/// Failed logins that an address may have at once, in seconds of its rate.
const BURST_SECONDS: f64 = 20.0;
/// When half of all half-open logins are taken, an address may have this part of its bound only: whoever floods from some
/// addresses leaves room for all others.
const SHARE_WHEN_BUSY: u32 = 8;

/// Settings of this step. 0: no bound.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) max_half_open: u32,
    pub(crate) max_half_open_per_address: u32,
    pub(crate) address_failures_per_second: u32,
}

/// Counts of those who are logging in, and of those who failed to.
pub(crate) struct Turnstile {
    half_open: Mutex<HalfOpen>,
    failures: Buckets,
    turned_away: [IntCounter; 2],
}

struct HalfOpen {
    max: u32,
    max_per_address: u32,
    total: u32,
    /// No larger than `total`.
    by_address: HashMap<Address, u32>,
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
            }),
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
        let address = Address::of(ip);
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
        let max_there = if half_open.total >= half_open.max / 2 {
            (half_open.max_per_address / SHARE_WHEN_BUSY).max(1)
        } else {
            half_open.max_per_address
        };
        let refusal = match () {
            () if there >= max_there => Some(TurnedAway::HalfOpenThere(ip)),
            () if half_open.total >= half_open.max => Some(TurnedAway::HalfOpen),
            () => None,
        };
        if let Some(refusal) = refusal {
            for_half_open.inc();
            return Err(refusal);
        }
        half_open.total += 1;
        *half_open.by_address.entry(address).or_default() += 1;
        Ok(Entered {
            turnstile: self,
            address,
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
    proven: bool,
}

impl Entered<'_> {
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
        } else if failures.spend(key, Instant::now()) {
            tracing::info!(address = %self.address, "too many failed logins from there: turned away for a while");
        }
        let mut half_open = self.turnstile.half_open();
        half_open.total -= 1;
        if let Some(there) = half_open.by_address.get_mut(&self.address) {
            *there -= 1;
            if *there == 0 {
                half_open.by_address.remove(&self.address);
            }
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
        assert!(
            turnstile.half_open().by_address.is_empty(),
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
