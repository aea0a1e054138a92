//! What an account may use up: MAX_USER_CONNECTIONS, MAX_CONNECTIONS_PER_HOUR, MAX_QUERIES_PER_HOUR and
//! MAX_UPDATES_PER_HOUR, counted as MariaDB counts them, but by this gateway: sessions that have no compute count, and each
//! of several gateways has counters of its own.
//!
//! In: an account's limits, as control has pushed them. Out: a [`Quota`] that a session holds while it lives, where its
//! account has limits; it says what more is refused. As at MariaDB, a session that logged in before its account had any
//! limit is not counted. Sessions without one pay a look at a `None`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Told;
use crate::text::{Words, first_statement, is_one_of};

/// What "per hour" means: counters begin anew when they are this old.
const HOUR: Duration = Duration::from_secs(3600);

/// Of one account. 0: no limit. Only `user_connections` may be below 0: nobody may log in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) queries_per_hour: i64,
    pub(crate) updates_per_hour: i64,
    pub(crate) connections_per_hour: i64,
    pub(crate) user_connections: i64,
}

/// A limit is reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("user '{user}' has exceeded the '{resource}' resource (current value: {limit})")]
pub(crate) struct Exceeded {
    user: String,
    resource: &'static str,
    limit: i64,
}

impl Exceeded {
    /// ER_USER_LIMIT_REACHED.
    pub(crate) fn told(&self) -> Told {
        let Self { user, resource, limit } = self;
        let text = format!("User '{user}' has exceeded the '{resource}' resource (current value: {limit})");
        Told::new(1226, "42000", text)
    }
}

/// The accounts of one project that have limits and are in use, or were within the hour.
#[derive(Default)]
pub(crate) struct Quotas {
    accounts: Mutex<BTreeMap<Box<str>, Arc<Account>>>,
}

struct Account {
    user: Box<str>,
    counters: Mutex<Counters>,
}

struct Counters {
    limits: Limits,
    connections: i64,
    connected: i64,
    queries: i64,
    updates: i64,
    /// When the three above were zero.
    since: Instant,
}

impl Counters {
    fn reset(&mut self) {
        (self.connected, self.queries, self.updates) = (0, 0, 0);
    }

    /// As MariaDB's `time_out_user_resource_limits`.
    fn begin_hour(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= HOUR {
            self.reset();
            self.since = now;
        }
    }
}

impl Account {
    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exceeded(&self, resource: &'static str, limit: i64) -> Exceeded {
        Exceeded {
            user: self.user.to_string(),
            resource,
            limit,
        }
    }
}

impl Quotas {
    fn accounts(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more session of that account, where it may have one. None: the account has no limits.
    pub(crate) fn log_in(&self, user: &str, limits: Limits, now: Instant) -> Result<Option<Quota>, Exceeded> {
        if limits == Limits::default() {
            return Ok(None);
        }
        let account = {
            let mut accounts = self.accounts();
            // What nobody uses and no hour counts on is not kept.
            accounts.retain(|_, account| {
                let counters = account.counters();
                counters.connections > 0 || now.saturating_duration_since(counters.since) < HOUR
            });
            let account = accounts.entry(user.into()).or_insert_with(|| {
                Arc::new(Account {
                    user: user.into(),
                    counters: Mutex::new(Counters {
                        limits,
                        connections: 0,
                        connected: 0,
                        queries: 0,
                        updates: 0,
                        since: now,
                    }),
                })
            });
            Arc::clone(account)
        };
        let mut counters = account.counters();
        counters.begin_hour(now);
        let Limits {
            user_connections,
            connections_per_hour,
            ..
        } = limits;
        if user_connections != 0 && user_connections < counters.connections + 1 {
            return Err(account.exceeded("max_user_connections", user_connections));
        }
        if connections_per_hour != 0 && connections_per_hour <= counters.connected {
            return Err(account.exceeded("max_connections_per_hour", connections_per_hour));
        }
        counters.connected += 1;
        counters.connections += 1;
        drop(counters);
        Ok(Some(Quota {
            account,
            counted_ahead: false,
        }))
    }

    /// Control says what accounts there are; `limits` answers for a name. Where they changed, counting begins anew, as
    /// after a GRANT ... WITH.
    pub(crate) fn limits_are(&self, limits: impl Fn(&str) -> Limits) {
        for account in self.accounts().values() {
            let now = limits(&account.user);
            let mut counters = account.counters();
            if counters.limits != now {
                counters.limits = now;
                counters.reset();
            }
        }
    }

    /// FLUSH USER_RESOURCES.
    pub(crate) fn flush(&self) {
        for account in self.accounts().values() {
            account.counters().reset();
        }
    }
}

/// A session of an account that has limits; counted while it lives.
pub(crate) struct Quota {
    account: Arc<Account>,
    /// The command at hand is counted already.
    pub(crate) counted_ahead: bool,
}

impl Quota {
    /// The session wants to run these statements: all or none of them. Of one text they count together, so that the last
    /// allowed text may go over the limit; the next is refused.
    pub(crate) fn spend(&self, statements: Statements, now: Instant) -> Result<(), Exceeded> {
        let mut counters = self.account.counters();
        counters.begin_hour(now);
        let limits = counters.limits;
        if limits.queries_per_hour != 0 && counters.queries >= limits.queries_per_hour {
            return Err(self.account.exceeded("max_queries_per_hour", limits.queries_per_hour));
        }
        // A statement that is refused for what it changes has been asked, too.
        counters.queries += statements.all;
        if limits.updates_per_hour != 0 && statements.updates > 0 {
            if counters.updates >= limits.updates_per_hour {
                return Err(self.account.exceeded("max_updates_per_hour", limits.updates_per_hour));
            }
            counters.updates += statements.updates;
        }
        Ok(())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.account.counters().connections -= 1;
    }
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quota")
            .field("user", &self.account.user)
            .finish_non_exhaustive()
    }
}

/// How many statements a text holds, and how many of them change data: those for which MariaDB's own table says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statements {
    all: i64,
    updates: i64,
}

impl Statements {
    /// Of a COM_QUERY. Without multi-statements a text is one, whatever it holds.
    pub(crate) fn of(text: &[u8], multi: bool, backslash_escapes: bool) -> Self {
        let mut statements = Self::default();
        let mut rest = text;
        loop {
            let whole = !multi || holds_others(rest);
            let (statement, more) = match whole {
                true => (rest, &[][..]),
                false => first_statement(rest, backslash_escapes),
            };
            if statements.all == 0 || Words(statement).next().is_some() {
                statements.all += 1;
                statements.updates += i64::from(changes_data(statement));
            }
            if more.is_empty() {
                return statements;
            }
            rest = more;
        }
    }
}

/// A statement with statements in it: its semicolons end none of its own kind, so all that follows is taken for its.
fn holds_others(text: &[u8]) -> bool {
    let mut words = Words(text);
    let first = words.next();
    if !is_one_of(first, &[b"create"]) {
        return is_one_of(first, &[b"begin", b"if", b"case", b"loop", b"repeat", b"while", b"for"])
            && words.next().is_some();
    }
    // Between CREATE and the kind may stand OR REPLACE, DEFINER=..., AGGREGATE: a name that is equal to a kind costs
    // nobody more than a statement that is not counted.
    let head = &text[..text.len().min(512)];
    [&b"procedure"[..], b"function", b"trigger", b"event", b"package"]
        .iter()
        .any(|kind| head.windows(kind.len()).any(|window| window.eq_ignore_ascii_case(kind)))
}

/// The statements that MariaDB 10.11 marks with CF_CHANGES_DATA, by their first words.
fn changes_data(statement: &[u8]) -> bool {
    let mut words = Words(statement);
    let mut first = words.next();
    // An explained statement is one of its kind.
    while is_one_of(
        first,
        &[b"explain", b"describe", b"desc", b"analyze", b"extended", b"partitions"],
    ) {
        first = words.next();
    }
    const CHANGES: [&[u8]; 13] = [
        b"insert",
        b"replace",
        b"update",
        b"delete",
        b"load",
        b"truncate",
        b"rename",
        b"create",
        b"alter",
        b"grant",
        b"revoke",
        b"optimize",
        b"drop",
    ];
    if is_one_of(first, &[b"drop"]) {
        // The same as DEALLOCATE.
        return !words.next_is_one_of(&[b"prepare"]);
    }
    is_one_of(first, &CHANGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Limits = Limits {
        queries_per_hour: 0,
        updates_per_hour: 0,
        connections_per_hour: 0,
        user_connections: 0,
    };

    fn of(text: &str) -> (i64, i64) {
        let Statements { all, updates } = Statements::of(text.as_bytes(), true, true);
        (all, updates)
    }

    fn resource(refused: Result<impl Sized, Exceeded>) -> (&'static str, i64) {
        let exceeded = refused.err().expect("refused");
        (exceeded.resource, exceeded.limit)
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_without_limits_is_not_counted() {
        let quotas = Quotas::default();
        assert!(quotas.log_in("u", NONE, Instant::now()).unwrap().is_none());
        assert!(quotas.accounts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_at_one_time_are_limited_and_those_that_end_make_room() {
        let (quotas, now) = (Quotas::default(), Instant::now());
        let limits = Limits {
            user_connections: 2,
            ..NONE
        };
        let log_in = |user| quotas.log_in(user, limits, now);
        let (first, second) = (log_in("u").unwrap(), log_in("u").unwrap());
        let refused = log_in("u").unwrap_err();
        assert_eq!(refused.told().code, 1226);
        assert_eq!(
            refused.told().message,
            "User 'u' has exceeded the 'max_user_connections' resource (current value: 2)"
        );
        log_in("other").unwrap();
        drop(first);
        let third = log_in("u").unwrap();
        assert!(log_in("u").is_err(), "one place was free");
        drop((second, third));
        let nobody = Limits {
            user_connections: -1,
            ..NONE
        };
        assert_eq!(resource(quotas.log_in("u", nobody, now)), ("max_user_connections", -1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_hours_logins_and_statements_are_limited_until_the_hour_is_over() {
        let quotas = Quotas::default();
        let limits = Limits {
            queries_per_hour: 3,
            updates_per_hour: 1,
            connections_per_hour: 2,
            user_connections: 0,
        };
        quotas.limits_are(|_| limits);
        let log_in = || quotas.log_in("u", limits, Instant::now());
        drop(log_in().unwrap());
        let quota = log_in().unwrap().unwrap();
        assert_eq!(resource(log_in()), ("max_connections_per_hour", 2));
        let spend = |text: &str| quota.spend(Statements::of(text.as_bytes(), true, true), Instant::now());
        spend("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(resource(spend("DELETE FROM t")), ("max_updates_per_hour", 1));
        spend("SELECT 1").unwrap();
        assert_eq!(resource(spend("SELECT 1")), ("max_queries_per_hour", 3));
        tokio::time::advance(HOUR - Duration::from_millis(1)).await;
        assert!(spend("SELECT 1").is_err() && log_in().is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        spend("UPDATE t SET a=1").unwrap();
        log_in().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_changed_holds_for_those_who_are_logged_in_and_counts_anew() {
        let (quotas, now) = (Quotas::default(), Instant::now());
        let limits = |queries_per_hour| Limits {
            queries_per_hour,
            ..NONE
        };
        let quota = quotas.log_in("u", limits(1), now).unwrap().unwrap();
        let one = Statements { all: 1, updates: 0 };
        quota.spend(one, now).unwrap();
        quotas.limits_are(|_| limits(1));
        assert!(quota.spend(one, now).is_err(), "nothing has changed");
        quotas.limits_are(|_| limits(2));
        quota.spend(one, now).unwrap();
        quota.spend(one, now).unwrap();
        assert!(quota.spend(one, now).is_err());
        quotas.flush();
        quota.spend(one, now).unwrap();
        quotas.limits_are(|_| NONE);
        for _ in 0..9 {
            quota.spend(one, now).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_for_an_hour_is_forgotten() {
        let quotas = Quotas::default();
        let limits = Limits {
            connections_per_hour: 9,
            ..NONE
        };
        drop(quotas.log_in("gone", limits, Instant::now()).unwrap());
        let stays = quotas.log_in("stays", limits, Instant::now()).unwrap();
        tokio::time::advance(HOUR).await;
        drop(quotas.log_in("new", limits, Instant::now()).unwrap());
        let names: Vec<_> = quotas.accounts().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["new", "stays"]);
        drop(stays);
    }

    #[test]
    fn statements_are_counted_as_the_server_would() {
        for (text, expected) in [
            ("SELECT 1", (1, 0)),
            ("", (1, 0)),
            ("SELECT 1;", (1, 0)),
            ("SELECT 1; SELECT 2;\n", (2, 0)),
            ("INSERT INTO t VALUES (';'); DELETE FROM t", (2, 2)),
            ("/* x */ insert into t values (1)", (1, 1)),
            ("/*!50003 UPDATE t SET a=1 */", (1, 1)),
            ("EXPLAIN UPDATE t SET a=1", (1, 1)),
            ("ANALYZE TABLE t", (1, 0)),
            ("DROP PREPARE s", (1, 0)),
            ("DROP TABLE t", (1, 1)),
            ("CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END", (1, 1)),
            ("BEGIN NOT ATOMIC SELECT 1; SELECT 2; END", (1, 0)),
            ("BEGIN; SELECT 1", (2, 0)),
            ("SET @a = 1", (1, 0)),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        let one = Statements::of(b"SELECT 1; SELECT 2", false, true);
        assert_eq!(one.all, 1, "without multi-statements it is one that fails");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>, multi: bool) {
            proptest::prop_assert!(Statements::of(&text, multi, true).all > 0);
        }
    }
}
