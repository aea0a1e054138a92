//! Who uses which compute: what gateways reported last, what agents see, and since when each compute is ready. Kept in
//! memory, because it is worth nothing after a minute. The suspend scheduler and `kept_awake_by` read it. Only computes
//! that are ready are in here, so that a look at all of them costs what they are, not what the store holds.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use control_api::control::{PinnedSession, ProjectActivity};
use tokio::time::Instant;

use crate::{driver::Doing, name::ProjectId};

/// Gateways report every few seconds on projects that have clients; what is older comes from one that is connected and
/// hangs.
const STALE: Duration = Duration::from_secs(60);
/// What a gateway said counts for so long after its watch broke. One that lives tries again every 0.75 s at the most and
/// reports every 2 s, so it is back by then on any network that works; one that was killed keeps nothing awake. Should one
/// be alive and cut off for longer, the agent's own look behind the shut door still sees its connections.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// After the first suspend in a row that was called off, the next try; doubles with each.
const TRY_AGAIN_FIRST: Duration = Duration::from_secs(10);
/// Whatever stands in the way is not paid for much longer than it stands.
const TRY_AGAIN_MAX: Duration = Duration::from_secs(300);
/// Gateways that are listened to for one project; more than anybody runs, so that invented names fill no memory.
const GATEWAYS_MAX: usize = 256;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Activity {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ready: HashMap<ProjectId, Ready>,
    /// Gateways that watch now, each with how many times: a new watch may begin before the end of the old one is seen.
    watching: HashMap<String, usize>,
}

/// What is known of one ready compute.
struct Ready {
    incarnation: u64,
    since: Instant,
    /// When something last began or ended that counts; not before `since`, so that nobody is taken for idle whom nobody
    /// has had the time to speak of.
    active_at: Instant,
    doing: Doing,
    gateways: BTreeMap<String, Reported>,
    called_off: Option<CalledOff>,
}

/// The last suspend that was called off.
struct CalledOff {
    why: String,
    pause: Duration,
    again_at: Instant,
}

struct Reported {
    at: Instant,
    /// Since when the gateway does not watch; a report since then is a sign of life, too.
    left: Option<Instant>,
    activity: ProjectActivity,
}

/// One ready compute at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sight {
    pub(crate) incarnation: u64,
    /// Who uses it now; empty: it is idle.
    pub(crate) users: Vec<Use>,
    /// For how long nothing has happened; zero while somebody uses it.
    pub(crate) idle: Duration,
    /// Since it was last used: why its suspend was called off, and how long until it may be tried again.
    pub(crate) called_off: Option<(String, Duration)>,
}

/// Something that keeps a compute awake.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Use {
    /// At a gateway.
    Commands {
        gateway: String,
        count: u32,
    },
    /// A session of a gateway that is tied to its compute connection.
    Pinned {
        gateway: String,
        session: PinnedSession,
    },
    /// More of them, which the gateway did not list.
    MorePinned {
        gateway: String,
        count: u32,
    },
    /// Seen by the agent.
    Statements(u32),
    Events(u32),
    Replication,
    Background,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: &u32| if *count == 1 { "" } else { "s" };
        match self {
            Self::Commands { gateway, count } => {
                write!(f, "{count} command{} in flight at gateway {gateway}", plural(count))
            }
            Self::Pinned { gateway, session } => write!(
                f,
                "session {} of {} from {} (program {:?}) at gateway {gateway}: {}, idle for {} s",
                session.connection_id,
                session.user,
                session.client_address,
                session.program_name,
                session.reason,
                session.idle_ms / 1000
            ),
            Self::MorePinned { gateway, count } => {
                write!(f, "{count} more pinned session{} at gateway {gateway}", plural(count))
            }
            Self::Statements(count) => write!(f, "{count} running statement{}", plural(count)),
            Self::Events(count) => write!(f, "{count} event{} being executed", plural(count)),
            Self::Replication => f.write_str("replication from another server"),
            Self::Background => f.write_str("rows of INSERT DELAYED being written"),
        }
    }
}

impl Activity {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gateway's watch begins.
    pub(crate) fn watches(&self, gateway: &str) {
        let mut inner = self.lock();
        *inner.watching.entry(gateway.to_owned()).or_default() += 1;
        for reported in inner
            .ready
            .values_mut()
            .filter_map(|ready| ready.gateways.get_mut(gateway))
        {
            reported.left = None;
        }
    }

    /// A gateway's watch has ended: the connection broke, or its process did.
    pub(crate) fn left(&self, gateway: &str) {
        let now = Instant::now();
        let mut inner = self.lock();
        match inner.watching.get_mut(gateway) {
            Some(watches) if *watches > 1 => return *watches -= 1,
            _ => drop(inner.watching.remove(gateway)),
        }
        for ready in inner.ready.values_mut() {
            let Some(reported) = ready.gateways.get_mut(gateway) else {
                continue;
            };
            reported.left = Some(now);
            // What it said may have gone on to here.
            if is_used(&reported.activity) {
                ready.active_at = now;
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_watching(&self, gateway: &str) -> bool {
        self.lock().watching.contains_key(gateway)
    }

    /// A compute is ready, or was found so by this control plane: from here on its idle time counts.
    pub(crate) fn ready(&self, id: &ProjectId, incarnation: u64) {
        let now = Instant::now();
        let ready = Ready {
            incarnation,
            since: now,
            active_at: now,
            doing: Doing::default(),
            gateways: BTreeMap::new(),
            called_off: None,
        };
        self.lock().ready.insert(id.clone(), ready);
    }

    /// It is not ready any more.
    pub(crate) fn ended(&self, id: &ProjectId) {
        self.lock().ready.remove(id);
    }

    /// Takes a gateway's report. What it says of computes that are not ready is ignored, so that nothing piles up.
    pub(crate) fn report(&self, gateway: &str, projects: Vec<ProjectActivity>) {
        let at = Instant::now();
        let mut inner = self.lock();
        let left = (!inner.watching.contains_key(gateway)).then_some(at);
        for activity in projects {
            let Ok(id) = ProjectId::new(&activity.project) else {
                continue;
            };
            let Some(ready) = inner.ready.get_mut(&id) else {
                continue;
            };
            if ready.incarnation != activity.incarnation {
                continue;
            }
            let last = at.checked_sub(Duration::from_millis(activity.idle_ms));
            ready.active_at = ready.active_at.max(last.unwrap_or(ready.since));
            if is_used(&activity) {
                ready.active_at = at;
                ready.called_off = None;
            }
            ready.gateways.retain(|_, reported| reported.counts(at));
            if ready.gateways.len() < GATEWAYS_MAX || ready.gateways.contains_key(gateway) {
                ready
                    .gateways
                    .insert(gateway.to_owned(), Reported { at, left, activity });
            }
        }
    }

    /// What a compute's agent sees changed.
    pub(crate) fn doing(&self, id: &ProjectId, doing: Doing) {
        if let Some(ready) = self.lock().ready.get_mut(id) {
            // The end of something counts, too.
            if is_work(doing) || is_work(ready.doing) {
                ready.active_at = Instant::now();
                ready.called_off = None;
            }
            ready.doing = doing;
        }
    }

    /// Its suspend did not come about.
    pub(crate) fn called_off(&self, id: &ProjectId, incarnation: u64, why: String) {
        let mut inner = self.lock();
        if let Some(ready) = inner.ready.get_mut(id).filter(|ready| ready.incarnation == incarnation) {
            let last = ready.called_off.as_ref().map(|last| last.pause * 2);
            let pause = last.unwrap_or(TRY_AGAIN_FIRST).min(TRY_AGAIN_MAX);
            let again_at = Instant::now() + pause;
            ready.called_off = Some(CalledOff { why, pause, again_at });
        }
    }

    /// `None`: it is not ready.
    pub(crate) fn sight(&self, id: &ProjectId) -> Option<Sight> {
        let now = Instant::now();
        self.lock().ready.get(id).map(|ready| ready.sight(now))
    }

    /// All that are ready.
    pub(crate) fn sights(&self) -> Vec<(ProjectId, Sight)> {
        let now = Instant::now();
        let inner = self.lock();
        let sight = |(id, ready): (&ProjectId, &Ready)| (id.clone(), ready.sight(now));
        inner.ready.iter().map(sight).collect()
    }
}

fn is_used(activity: &ProjectActivity) -> bool {
    activity.commands_in_flight > 0 || activity.pinned > 0
}

/// Open transactions are not counted here: they belong to a gateway's pinned session, which has a time limit.
fn is_work(doing: Doing) -> bool {
    doing.running_statements + doing.running_events + doing.replication_threads + doing.background_tasks > 0
}

impl Reported {
    /// Whether what it says is believed.
    fn counts(&self, now: Instant) -> bool {
        now - self.at < STALE && self.left.is_none_or(|left| now - left < GONE_AFTER)
    }
}

impl Ready {
    fn sight(&self, now: Instant) -> Sight {
        let fresh = self.gateways.iter().filter(|(_, reported)| reported.counts(now));
        let mut users: Vec<Use> = fresh
            .filter(|(_, reported)| is_used(&reported.activity))
            .flat_map(|(gateway, reported)| uses(gateway, &reported.activity))
            .collect();
        // The gateway's word on the same statements says more.
        let known = users.iter().any(|used| matches!(used, Use::Commands { .. }));
        let Doing {
            running_statements,
            open_transactions: _,
            running_events,
            replication_threads,
            background_tasks,
        } = self.doing;
        users.extend((running_statements > 0 && !known).then_some(Use::Statements(running_statements)));
        users.extend((running_events > 0).then_some(Use::Events(running_events)));
        users.extend((replication_threads > 0).then_some(Use::Replication));
        users.extend((background_tasks > 0).then_some(Use::Background));
        let idle = if users.is_empty() {
            now - self.active_at
        } else {
            Duration::ZERO
        };
        Sight {
            incarnation: self.incarnation,
            users,
            idle,
            called_off: self
                .called_off
                .as_ref()
                .map(|last| (last.why.clone(), last.again_at.saturating_duration_since(now))),
        }
    }
}

fn uses(gateway: &str, activity: &ProjectActivity) -> Vec<Use> {
    let gateway = gateway.to_owned();
    let mut uses = Vec::new();
    if activity.commands_in_flight > 0 {
        uses.push(Use::Commands {
            gateway: gateway.clone(),
            count: activity.commands_in_flight,
        });
    }
    let listed = activity.pinned_sessions.iter().take(activity.pinned as usize);
    uses.extend(listed.map(|session| Use::Pinned {
        gateway: gateway.clone(),
        session: session.clone(),
    }));
    let more = activity
        .pinned
        .saturating_sub(u32::try_from(activity.pinned_sessions.len()).unwrap_or(u32::MAX));
    if more > 0 {
        uses.push(Use::MorePinned { gateway, count: more });
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(commands_in_flight: u32, idle: Duration) -> ProjectActivity {
        ProjectActivity {
            project: "demo".into(),
            incarnation: 2,
            attached: 1,
            commands_in_flight,
            idle_ms: u64::try_from(idle.as_millis()).unwrap(),
            ..ProjectActivity::default()
        }
    }

    fn ready() -> (Activity, ProjectId) {
        let (all, demo) = (Activity::default(), ProjectId::new("demo").unwrap());
        all.ready(&demo, 2);
        all.watches("one");
        all.watches("two");
        (all, demo)
    }

    fn users(all: &Activity, id: &ProjectId) -> Vec<String> {
        let sight = all.sight(id).unwrap();
        sight.users.iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn adds_up_gateways_and_forgets_those_that_went_silent() {
        let (all, demo) = ready();
        all.report("one", vec![activity(3, Duration::ZERO)]);
        tokio::time::advance(STALE / 2).await;
        all.report("two", vec![activity(1, Duration::ZERO)]);
        let both = [
            "3 commands in flight at gateway one",
            "1 command in flight at gateway two",
        ];
        assert_eq!(users(&all, &demo), both);
        tokio::time::advance(STALE / 2).await;
        assert_eq!(users(&all, &demo), both[1..]);
        all.report("two", vec![activity(0, Duration::ZERO)]);
        assert!(users(&all, &demo).is_empty(), "attached clients do not count");
        all.ended(&demo);
        assert!(all.sight(&demo).is_none() && all.sights().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_counts_from_the_last_of_all_that_happened_and_never_from_before_ready() {
        let (all, demo) = ready();
        let idle = || all.sight(&demo).unwrap().idle.as_secs();
        all.report("one", vec![activity(0, Duration::from_secs(1000))]);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(idle(), 100, "since ready");
        all.report("one", vec![activity(0, Duration::from_secs(30))]);
        all.report("two", vec![activity(0, Duration::from_secs(70))]);
        assert_eq!(idle(), 30);
        tokio::time::advance(Duration::from_secs(200)).await;
        assert_eq!(idle(), 230, "also of a gateway that speaks of it no more");
        let older = ProjectActivity {
            incarnation: 1,
            ..activity(9, Duration::ZERO)
        };
        all.report("one", vec![older]);
        assert_eq!(idle(), 230, "of an older incarnation");
        all.doing(
            &demo,
            Doing {
                running_events: 1,
                ..Doing::default()
            },
        );
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(idle(), 0);
        assert_eq!(users(&all, &demo), ["1 event being executed"]);
        all.doing(&demo, Doing::default());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(idle(), 5, "since its end");
        let only_open = Doing {
            open_transactions: 1,
            ..Doing::default()
        };
        all.doing(&demo, only_open);
        assert_eq!(idle(), 5, "an open transaction is a gateway's pinned session");
    }

    #[tokio::test(start_paused = true)]
    async fn killed_gateway_keeps_nothing_awake_and_idle_time_counts_from_its_end() {
        let (all, demo) = ready();
        all.report("one", vec![activity(3, Duration::ZERO)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        all.left("one");
        tokio::time::advance(GONE_AFTER - Duration::from_secs(1)).await;
        assert_eq!(
            users(&all, &demo),
            ["3 commands in flight at gateway one"],
            "it may come back"
        );
        assert_eq!(all.sight(&demo).unwrap().idle, Duration::ZERO);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(users(&all, &demo).is_empty());
        assert_eq!(all.sight(&demo).unwrap().idle, GONE_AFTER, "since it left");
    }

    #[tokio::test(start_paused = true)]
    async fn gateway_that_watches_again_in_time_is_believed_as_before() {
        let (all, demo) = ready();
        all.report("one", vec![activity(3, Duration::ZERO)]);
        all.left("one");
        tokio::time::advance(GONE_AFTER / 2).await;
        all.watches("one");
        // The end of its old connection may be seen after the beginning of the new one.
        all.watches("one");
        all.left("one");
        tokio::time::advance(GONE_AFTER * 2).await;
        assert_eq!(users(&all, &demo), ["3 commands in flight at gateway one"]);
    }

    #[tokio::test(start_paused = true)]
    async fn gateway_that_reports_without_a_watch_is_believed_for_as_long_as_it_reports() {
        let (all, demo) = ready();
        all.left("one");
        for _ in 0..5 {
            all.report("one", vec![activity(1, Duration::ZERO)]);
            tokio::time::advance(GONE_AFTER / 2).await;
            assert_eq!(users(&all, &demo), ["1 command in flight at gateway one"]);
        }
        tokio::time::advance(GONE_AFTER / 2).await;
        assert!(users(&all, &demo).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn pinned_sessions_are_told_with_all_that_helps_to_find_them() {
        let (all, demo) = ready();
        let session = PinnedSession {
            connection_id: 2_147_483_650,
            user: "app".into(),
            client_address: "10.0.0.9:4242".into(),
            program_name: "mariadb".into(),
            reason: "an open transaction".into(),
            idle_ms: 12_345,
        };
        let pinned = ProjectActivity {
            pinned: 3,
            pinned_sessions: vec![session],
            ..activity(0, Duration::from_secs(12))
        };
        all.report("one", vec![pinned]);
        assert_eq!(
            users(&all, &demo),
            [
                "session 2147483650 of app from 10.0.0.9:4242 (program \"mariadb\") at gateway one: an open transaction, \
                 idle for 12 s",
                "2 more pinned sessions at gateway one"
            ]
        );
    }
}
