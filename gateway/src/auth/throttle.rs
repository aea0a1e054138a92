//! How often somebody may guess a password.
//!
//! In: who claims to be whom, from where, and whether the answer was right. Out: whether it counts as right. Only wrong
//! answers use anything up. Where a source has none left its answers are checked all the same and then count as wrong, so
//! that it is told, in the same time, what a wrong password is told, and cannot learn from being held back.
//!
//! What is counted, and why it locks no user out: `docs/decisions/2026-11-25-throttles.md`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::time::Instant;

use crate::source::{Address, Buckets, Network, Rate};

/// A network may be wrong as often as so many addresses: one machine with an old password does not use up what its
/// neighbours have.
const ADDRESSES_OF_A_NETWORK: f64 = 5.0;
/// Who logged in within a day from an address has guesses of its own there. Applications log in more often than that.
const FAMILIAR_FOR: Duration = Duration::from_secs(24 * 3600);
/// Locks and entries of the list of those: 65,536 in all, in 2 MiB. The one seen longest ago makes room.
const SHARDS: usize = 64;
const SHARD_MAX: usize = 1024;

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Wrong passwords for one project from one address, at once and per minute. 0: no bound.
    pub(crate) failures_per_minute: u32,
}

/// All that is counted of wrong passwords.
pub(crate) struct Throttle {
    /// By project and address.
    addresses: Buckets,
    /// By project and network.
    networks: Buckets,
    /// By project, user and address, of those who are familiar there.
    familiar: Buckets,
    seen: Seen,
    refused: IntCounter,
}

/// One login, or one COM_CHANGE_USER.
pub(crate) struct Attempt<'a> {
    throttle: &'a Throttle,
    project: Option<&'a str>,
    ip: IpAddr,
    /// Clients may come from there.
    admitted: bool,
    familiarity: u64,
    /// What it uses up when it is wrong.
    uses: [Option<(&'a Buckets, u64)>; 2],
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unjudged,
    /// Its source had none left.
    HeldBack,
    /// Was wrong once, and has used that up.
    Wrong,
}

impl Throttle {
    /// `refused` counts the answers that were not listened to.
    pub(crate) fn new(config: &Config, refused: IntCounter) -> Self {
        Self {
            addresses: Buckets::new(rate(config, 1.0)),
            networks: Buckets::new(rate(config, ADDRESSES_OF_A_NETWORK)),
            familiar: Buckets::new(rate(config, 1.0)),
            seen: Seen::default(),
            refused,
        }
    }

    /// Other bounds from now on; what was wrong stays counted.
    pub(crate) fn adjust(&self, config: &Config) {
        self.addresses.set_rate(rate(config, 1.0));
        self.networks.set_rate(rate(config, ADDRESSES_OF_A_NETWORK));
        self.familiar.set_rate(rate(config, 1.0));
    }

    /// `project`: None for one that is not there. All those share what a source has: else names that nobody knows would
    /// be a way to fill the maps.
    /// `admitted`: false where no answer counts as right, because of where the client is.
    pub(crate) fn attempt<'a>(
        &'a self,
        project: Option<&'a str>,
        user: &str,
        ip: IpAddr,
        admitted: bool,
        now: Instant,
    ) -> Attempt<'a> {
        let (address, network) = (Address::of(ip), Network::of(ip));
        let familiarity = self.seen.key(project, user, address);
        let uses = if self.seen.lately(familiarity, now) {
            [Some((&self.familiar, familiarity)), None]
        } else {
            let (addresses, networks) = (&self.addresses, &self.networks);
            [
                Some((addresses, addresses.key((project, address)))),
                Some((networks, networks.key((project, network)))),
            ]
        };
        Attempt {
            throttle: self,
            project,
            ip,
            admitted,
            familiarity,
            uses,
            state: State::Unjudged,
        }
    }
}

fn rate(config: &Config, times: f64) -> Rate {
    let at_once = f64::from(config.failures_per_minute) * times;
    Rate {
        burst: at_once,
        per_second: at_once / 60.0,
    }
}

impl Attempt<'_> {
    /// An answer of the client was checked: does it count as right? Once held back, it stays so; a second answer, after a
    /// wrong first one, costs nothing more, and if it is right the first is forgiven.
    pub(crate) fn judge(&mut self, right: bool, now: Instant) -> bool {
        let right = right & self.admitted;
        let mut uses = self.uses.iter().flatten();
        match (self.state, right) {
            (State::HeldBack, _) => {}
            (State::Unjudged, _) if uses.any(|(buckets, key)| buckets.is_spent(*key, now)) => {
                self.state = State::HeldBack;
                self.throttle.refused.inc();
            }
            (State::Unjudged, false) => {
                self.state = State::Wrong;
                // Both are to be used up, so not the short way of `any`.
                let emptied = self
                    .uses
                    .iter()
                    .flatten()
                    .filter(|(buckets, key)| buckets.spend(*key, now));
                if emptied.count() > 0 {
                    tracing::info!(
                        project = self.project, address = %self.ip,
                        "too many wrong passwords from there: logins are refused unheard until some time has passed"
                    );
                }
            }
            (State::Wrong, false) => {}
            (State::Unjudged, true) => return true,
            (State::Wrong, true) => {
                for (buckets, key) in uses {
                    buckets.give_back(*key);
                }
                return true;
            }
        }
        false
    }

    /// The client is let in: it is familiar from now on.
    pub(crate) fn succeeded(self, now: Instant) {
        self.throttle.seen.now(self.familiarity, now);
    }
}

/// Who has logged in lately, from which address.
struct Seen {
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<u64, Instant>>]>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Seen {
    fn key(&self, project: Option<&str>, user: &str, address: Address) -> u64 {
        self.hasher.hash_one((project, user, address))
    }

    fn shard(&self, key: u64) -> std::sync::MutexGuard<'_, HashMap<u64, Instant>> {
        let at = (key % SHARDS as u64) as usize;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lately(&self, key: u64, now: Instant) -> bool {
        let at = self.shard(key).get(&key).copied();
        at.is_some_and(|at| now.saturating_duration_since(at) < FAMILIAR_FOR)
    }

    fn now(&self, key: u64, now: Instant) {
        let mut shard = self.shard(key);
        if shard.len() >= SHARD_MAX && !shard.contains_key(&key) {
            let oldest = shard.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                shard.remove(&oldest);
            }
        }
        shard.insert(key, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: u32 = 30;

    fn throttle(failures_per_minute: u32) -> Throttle {
        Throttle::new(
            &Config { failures_per_minute },
            IntCounter::new("refused", "refused").unwrap(),
        )
    }

    /// One login with one answer.
    fn log_in(throttle: &Throttle, project: Option<&str>, user: &str, ip: &str, right: bool) -> bool {
        let now = Instant::now();
        let mut attempt = throttle.attempt(project, user, ip.parse().unwrap(), true, now);
        let judged = attempt.judge(right, now);
        if judged {
            attempt.succeeded(now);
        }
        judged
    }

    fn fail(throttle: &Throttle, project: Option<&str>, ip: &str, times: u32) {
        for _ in 0..times {
            log_in(throttle, project, "stranger", ip, false);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn right_passwords_use_nothing_up() {
        let throttle = throttle(FAILURES);
        for _ in 0..10_000 {
            assert!(log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_too_many_wrong_ones_even_the_right_one_is_wrong_for_a_while() {
        let throttle = throttle(FAILURES);
        fail(&throttle, Some("shop"), "192.0.2.1", FAILURES - 1);
        assert!(log_in(&throttle, Some("shop"), "a", "192.0.2.1", true), "one is left");
        fail(&throttle, Some("shop"), "192.0.2.1", 1_000);
        assert!(!log_in(&throttle, Some("shop"), "b", "192.0.2.1", true));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(log_in(&throttle, Some("shop"), "b", "192.0.2.1", true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_locks_out_neither_other_networks_nor_its_neighbours() {
        let throttle = throttle(FAILURES);
        fail(&throttle, Some("shop"), "192.0.2.1", 100_000);
        assert!(
            log_in(&throttle, Some("shop"), "app", "192.0.3.1", true),
            "another network"
        );
        assert!(log_in(&throttle, Some("shop"), "app", "192.0.2.2", true), "a neighbour");
        assert!(
            log_in(&throttle, Some("bank"), "app", "192.0.2.1", true),
            "another project"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_network_has_no_more_than_some_addresses() {
        let throttle = throttle(FAILURES);
        for last in 1..=20 {
            fail(&throttle, Some("shop"), &format!("192.0.2.{last}"), FAILURES);
        }
        assert!(!log_in(&throttle, Some("shop"), "app", "192.0.2.200", true));
        assert!(log_in(&throttle, Some("shop"), "app", "192.0.3.200", true));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_logged_in_before_is_not_held_back_for_others() {
        let throttle = throttle(FAILURES);
        assert!(log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
        fail(&throttle, Some("shop"), "192.0.2.1", 1_000);
        assert!(log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
        assert!(
            !log_in(&throttle, Some("shop"), "other", "192.0.2.1", true),
            "not seen there yet"
        );
        // Its own wrong ones count on their own.
        for _ in 0..FAILURES {
            log_in(&throttle, Some("shop"), "app", "192.0.2.1", false);
        }
        assert!(!log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_familiar_user_is_a_stranger_after_a_day() {
        let throttle = throttle(FAILURES);
        assert!(log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
        tokio::time::advance(FAMILIAR_FOR).await;
        fail(&throttle, Some("shop"), "192.0.2.1", 1_000);
        assert!(!log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_nobody_knows_share_what_a_source_has() {
        let throttle = throttle(FAILURES);
        fail(&throttle, None, "192.0.2.1", 1_000);
        let key = throttle
            .addresses
            .key((None::<&str>, Address::of("192.0.2.1".parse().unwrap())));
        assert!(throttle.addresses.is_spent(key, Instant::now()));
        assert!(
            log_in(&throttle, Some("shop"), "app", "192.0.2.1", true),
            "and use up nobody else's"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn many_answers_at_once_are_judged_one_after_the_other() {
        let throttle = throttle(FAILURES);
        let now = Instant::now();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let mut open: Vec<_> = (0..1_000)
            .map(|_| throttle.attempt(Some("shop"), "app", ip, true, now))
            .collect();
        for attempt in &mut open[1..] {
            attempt.judge(false, now);
        }
        assert!(
            !open[0].judge(true, now),
            "it was begun before the wrong ones, and answered after them"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_first_answer_counts_at_once_and_is_forgiven_by_a_right_second() {
        let throttle = throttle(FAILURES);
        let now = Instant::now();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..1_000 {
            let mut attempt = throttle.attempt(Some("shop"), "app", ip, true, now);
            assert!(!attempt.judge(false, now));
            assert!(attempt.judge(true, now));
        }
        for _ in 0..FAILURES {
            // Left without a second one.
            throttle.attempt(Some("shop"), "app", ip, true, now).judge(false, now);
        }
        let mut attempt = throttle.attempt(Some("shop"), "app", ip, true, now);
        assert!(!attempt.judge(false, now));
        assert!(
            !attempt.judge(true, now),
            "held back at the first, held back at the second"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_nobody_is_held_back() {
        let throttle = throttle(0);
        fail(&throttle, Some("shop"), "192.0.2.1", 1_000);
        assert!(log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
    }

    #[tokio::test(start_paused = true)]
    async fn other_bounds_hold_for_what_was_wrong_before() {
        let throttle = throttle(FAILURES);
        fail(&throttle, Some("shop"), "192.0.2.1", FAILURES);
        assert!(!log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
        throttle.adjust(&Config {
            failures_per_minute: FAILURES * 2,
        });
        assert!(log_in(&throttle, Some("shop"), "app", "192.0.2.1", true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_of_familiar_users_is_bounded() {
        let seen = Seen::default();
        let now = Instant::now();
        // All behind one lock: the others are no different.
        let keys = (0..3 * SHARD_MAX as u64).map(|n| n * SHARDS as u64);
        for (seconds, key) in keys.clone().enumerate() {
            seen.now(key, now + Duration::from_secs(seconds as u64));
        }
        assert_eq!(seen.shard(0).len(), SHARD_MAX);
        let later = now + Duration::from_secs(3 * SHARD_MAX as u64);
        assert!(
            keys.rev().take(SHARD_MAX).all(|key| seen.lately(key, later)),
            "the last ones stay"
        );
    }
}
