//! What projects used: the windows that gateways tell of, and the time that computes ran, by the hour.
//!
//! A closed window is counted once, in the store. What a gateway says of its open one is kept in memory and replaced by
//! whatever it says next; it counts in an answer only while the store does not have that window.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use control_api::{control as proto, rest::ComputeState};
use tokio::time::Instant;

use crate::{
    clock,
    name::ProjectId,
    store::{
        EpochMs, Store, StoreError, Transition,
        usage::{self, Billed, Counts, HOUR_MS, Share, UsageWindow, WindowId},
    },
};

/// Names of windows are kept for so long; a gateway that was away from control for longer is not believed any more.
pub(crate) const WINDOWS_KEPT_MS: i64 = 35 * 24 * HOUR_MS;
/// A day less, so that no window is taken whose name may have been forgotten.
const WINDOWS_TAKEN_MS: i64 = 34 * 24 * HOUR_MS;
/// An open window that nobody speaks of any more: its gateway is gone for good, or will bring it when it is back.
const OPEN_KEPT: Duration = Duration::from_secs(600);
/// Gateways that are listened to; more than anybody runs, so that invented names fill no memory.
const GATEWAYS_MAX: usize = 1024;

/// See the head of this file.
pub(crate) struct Usage {
    store: Arc<dyn Store>,
    open: Mutex<HashMap<String, Open>>,
}

/// The open window of a gateway.
struct Open {
    window: UsageWindow,
    heard: Instant,
}

/// What a project used within an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) counts: Counts,
    /// That its compute ran, from `ready` to its end.
    pub(crate) compute_ms: i64,
    /// The same times the size that it had: millionths of a CU times milliseconds.
    pub(crate) cu: i128,
}

impl Used {
    pub(crate) fn add(&mut self, other: &Self) {
        self.compute_ms += other.compute_ms;
        self.cu += other.cu;
        usage::add(&mut self.counts, &other.counts);
    }
}

impl Usage {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            open: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it returns, every closed window is counted. Cancel-safe: what is sent again counts once.
    pub(crate) async fn report(&self, report: proto::UsageReport) -> Result<(), StoreError> {
        let proto::UsageReport {
            gateway_id,
            closed,
            open,
        } = report;
        let oldest = clock::now() - WINDOWS_TAKEN_MS;
        for window in closed {
            let window = taken_over(&gateway_id, window);
            if window.id.start < oldest {
                tracing::error!(
                    gateway = gateway_id,
                    sequence = window.id.sequence,
                    "usage of more than 34 days ago is not counted: it may have been, once"
                );
                continue;
            }
            self.store.add_usage(&window).await?;
        }
        let mut kept = self.open();
        kept.retain(|_, open| open.heard.elapsed() < OPEN_KEPT);
        match open {
            Some(window) if kept.contains_key(&gateway_id) || kept.len() < GATEWAYS_MAX => {
                let window = taken_over(&gateway_id, window);
                let heard = Instant::now();
                // Of two calls that overtake each other the later window stays, and the fuller one. Which is later its number
                // tells: the gateway's clock may have been set back.
                let is_older =
                    |kept: &Open| (kept.window.id.sequence, kept.window.end) > (window.id.sequence, window.end);
                if !kept.get(&gateway_id).is_some_and(is_older) {
                    kept.insert(gateway_id, Open { window, heard });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What the project used in the hours that begin within `hours`, which are whole ones; up to now, or to its end.
    pub(crate) async fn read(
        &self,
        project: &Billed,
        hours: Range<EpochMs>,
    ) -> Result<BTreeMap<EpochMs, Used>, StoreError> {
        let (id, created) = (&project.id, project.created);
        // Before the store: what it takes over meanwhile, it knows.
        let open: Vec<_> = {
            let kept = self.open();
            let current = kept.values().filter(|open| open.heard.elapsed() < OPEN_KEPT);
            let windows = current.filter_map(|open| of_name(&open.window, id));
            windows.collect()
        };
        let counted = self.store.usage(id, created, hours.clone(), &open).await?;
        let mut used: BTreeMap<EpochMs, Used> = BTreeMap::new();
        let mut add = |hour: EpochMs, new: Used| used.entry(hour).or_default().add(&new);
        for (hour, counts) in counted {
            let clients_did = Used {
                counts,
                ..Used::default()
            };
            add(hour, clients_did);
        }
        let transitions = self.store.transitions_within(id, created, hours.clone()).await?;
        // Of a control plane that was killed while it deleted the project nobody has written down when the compute ended.
        let until = project.deleted.unwrap_or_else(clock::now);
        for (hour, ran) in running(&transitions, hours.start..hours.end.min(until)) {
            add(hour, ran);
        }
        Ok(used)
    }
}

/// What projects of that name have of it; None: nothing.
fn of_name(window: &UsageWindow, id: &ProjectId) -> Option<UsageWindow> {
    let shares = window.shares.iter().filter(|share| share.project == *id);
    let shares: Vec<_> = shares.cloned().collect();
    (!shares.is_empty()).then(|| UsageWindow {
        id: window.id.clone(),
        end: window.end,
        shares,
    })
}

/// As the store takes it. What is no project's id is no project's use.
fn taken_over(gateway_id: &str, window: proto::UsageWindow) -> UsageWindow {
    let projects = window.projects.into_iter().filter_map(|used| {
        let id = ProjectId::new(&used.project)
            .inspect_err(|error| tracing::error!(%error, gateway_id, "usage of no project"))
            .ok()?;
        // In the order of `store::usage::COLUMNS`.
        let counts = [
            used.selects,
            used.inserts,
            used.updates,
            used.deletes,
            used.ddl,
            used.others,
            used.rows,
            used.bytes_out,
            used.bytes_in,
            used.logins,
            used.logins_failed,
            used.attached_us,
            used.wakes_query,
            used.wakes_prepare,
            used.wakes_execute,
            used.wakes_other,
        ];
        let counts = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        Some(((id, used.created_ms), counts))
    });
    // In one order everywhere: transactions that meet wait for each other and never in a circle.
    let projects: BTreeMap<_, _> = projects.collect();
    let share = |((project, created), counts)| Share {
        project,
        created,
        counts,
    };
    UsageWindow {
        id: WindowId {
            gateway_id: gateway_id.to_owned(),
            sequence: i64::try_from(window.sequence).unwrap_or(i64::MAX),
            start: window.start_ms,
        },
        end: window.end_ms,
        shares: projects.into_iter().map(share).collect(),
    }
}

/// How long the compute ran in each hour of `time`, at which size: from `ready` to the next state that is neither `ready` nor
/// `draining`.
fn running(transitions: &[Transition], time: Range<EpochMs>) -> BTreeMap<EpochMs, Used> {
    let mut hours: BTreeMap<_, Used> = BTreeMap::new();
    let ends = transitions.iter().skip(1).map(|next| next.at).chain([time.end]);
    for (made, end) in transitions.iter().zip(ends) {
        if !matches!(made.to, ComputeState::Ready | ComputeState::Draining) {
            continue;
        }
        let (mut at, end) = (made.at.max(time.start), end.min(time.end));
        while at < end {
            let hour = at.div_euclid(HOUR_MS) * HOUR_MS;
            let until = end.min(hour + HOUR_MS);
            hours.entry(hour).or_default().add(&Used {
                compute_ms: until - at,
                cu: i128::from(until - at) * i128::from(made.size_ucu),
                ..Used::default()
            });
            at = until;
        }
    }
    hours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::{ComputeStates, NewProject, suite, usage::UsageHours},
        testing::Plane,
    };

    const NOON: i64 = 1_700_000_000_000 / HOUR_MS * HOUR_MS;

    fn made(to: ComputeState, at: i64) -> Transition {
        Transition {
            id: at,
            incarnation: 1,
            from: ComputeState::Suspended,
            to,
            at,
            reason: None,
            size_ucu: 250_000,
        }
    }

    fn ran(minutes: i64, minute_ucu: i128) -> Used {
        Used {
            compute_ms: minutes * 60_000,
            cu: minute_ucu * 60_000,
            ..Used::default()
        }
    }

    #[test]
    fn a_compute_is_billed_from_ready_to_its_end_in_the_hours_in_which_it_ran() {
        let minute = 60_000;
        let life = [
            made(ComputeState::Ready, NOON - 90 * minute),
            made(ComputeState::Draining, NOON + 10 * minute),
            made(ComputeState::Suspended, NOON + 12 * minute),
            made(ComputeState::Starting, NOON + 20 * minute),
            made(ComputeState::Ready, NOON + 50 * minute),
        ];
        let hours = running(&life, NOON - 60 * minute..NOON + 75 * minute);
        let expected = [(NOON - HOUR_MS, 60), (NOON, 12 + 10), (NOON + HOUR_MS, 15)];
        let expected = expected.map(|(hour, minutes)| (hour, ran(minutes, i128::from(minutes) * 250_000)));
        assert_eq!(hours, expected.into());
        assert_eq!(running(&[], NOON..NOON + HOUR_MS), BTreeMap::new());
    }

    #[test]
    fn a_compute_is_billed_by_the_size_that_it_was_started_with() {
        let minute = 60_000;
        let of = |size_ucu, to, at| Transition {
            size_ucu,
            ..made(to, at)
        };
        let life = [
            of(250_000, ComputeState::Ready, NOON),
            of(250_000, ComputeState::Suspended, NOON + 10 * minute),
            of(2_000_000, ComputeState::Starting, NOON + 15 * minute),
            of(2_000_000, ComputeState::Ready, NOON + 20 * minute),
            of(2_000_000, ComputeState::Draining, NOON + 70 * minute),
        ];
        let hours = running(&life, NOON..NOON + 80 * minute);
        let expected = [
            (NOON, ran(50, 10 * 250_000 + 40 * 2_000_000)),
            (NOON + HOUR_MS, ran(20, 20 * 2_000_000)),
        ];
        assert_eq!(hours, expected.into());
    }

    fn window(sequence: u64, start_ms: i64, selects: u64) -> proto::UsageWindow {
        proto::UsageWindow {
            sequence,
            start_ms,
            end_ms: start_ms + 1_000,
            projects: vec![proto::ProjectUsage {
                project: "demo".into(),
                selects,
                ..Default::default()
            }],
        }
    }

    fn report(closed: Vec<proto::UsageWindow>, open: Option<proto::UsageWindow>) -> proto::UsageReport {
        proto::UsageReport {
            gateway_id: "g".into(),
            closed,
            open,
        }
    }

    async fn selects(plane: &Plane) -> i64 {
        let project = plane
            .store
            .billed(&ProjectId::new("demo").unwrap(), None)
            .await
            .unwrap();
        let hour = clock::now().div_euclid(HOUR_MS) * HOUR_MS;
        let used = plane
            .projects
            .usage
            .read(&project, hour - HOUR_MS..hour + HOUR_MS)
            .await;
        used.unwrap().values().map(|used| used.counts[0]).sum()
    }

    #[tokio::test]
    async fn open_window_is_replaced_not_added_and_counts_until_it_is_closed() {
        let (plane, _) = Plane::with_demo().await;
        let usage = &plane.projects.usage;
        let now = clock::now();
        usage.report(report(vec![], Some(window(1, now, 3)))).await.unwrap();
        usage.report(report(vec![], Some(window(1, now, 5)))).await.unwrap();
        assert_eq!(selects(&plane).await, 5);
        // Closed by a call of which no answer came, and told again.
        for _ in 0..2 {
            usage.report(report(vec![window(1, now, 6)], None)).await.unwrap();
            assert_eq!(selects(&plane).await, 6);
        }
        let next = report(vec![window(1, now, 6)], Some(window(2, now + 1, 1)));
        usage.report(next).await.unwrap();
        assert_eq!(selects(&plane).await, 7);
        usage.report(report(vec![], Some(window(1, now, 5)))).await.unwrap();
        assert_eq!(selects(&plane).await, 7, "a call that was overtaken takes nothing away");
    }

    #[tokio::test]
    async fn a_gateway_whose_clock_is_set_back_loses_nothing_and_is_heard_at_once() {
        let (plane, _) = Plane::with_demo().await;
        let usage = &plane.projects.usage;
        let now = clock::now();
        // A little is enough: all of it shall be in the hours that are read.
        let ahead = now + 10;
        usage.report(report(vec![], Some(window(7, ahead, 3)))).await.unwrap();
        let set_back = report(vec![window(7, ahead, 4)], Some(window(8, now, 2)));
        usage.report(set_back).await.unwrap();
        assert_eq!(selects(&plane).await, 6);
    }

    #[tokio::test]
    async fn a_compute_whose_end_nobody_wrote_down_is_billed_until_its_project_was_gone() {
        let (plane, demo) = Plane::with_demo().await;
        let minutes_ago = clock::now() - 5 * 60_000;
        let mut compute = plane
            .store
            .begin_start(&demo, minutes_ago)
            .await
            .unwrap()
            .record
            .compute;
        (compute.state, compute.since) = (ComputeState::Ready, minutes_ago);
        plane.store.set_compute(&demo, &compute).await.unwrap();
        plane.store.begin_delete(&demo, None).await.unwrap();
        plane.store.finish_delete(&demo).await.unwrap();
        let mut billed = plane.store.billed(&demo, None).await.unwrap();
        let hour = clock::now().div_euclid(HOUR_MS) * HOUR_MS;
        let ran = async |billed: &Billed| {
            let used = plane.projects.usage.read(billed, hour - HOUR_MS..hour + HOUR_MS).await;
            used.unwrap().values().map(|used| used.compute_ms).sum::<i64>()
        };
        let deleted = billed.deleted.unwrap();
        assert_eq!(ran(&billed).await, deleted - minutes_ago);
        billed.deleted = Some(minutes_ago + 7);
        assert_eq!(ran(&billed).await, 7, "however long ago that is");
    }

    #[tokio::test]
    async fn an_open_window_is_of_the_project_that_it_says() {
        let (plane, demo) = Plane::with_demo().await;
        let first = plane.store.billed(&demo, None).await.unwrap();
        let mut open = window(1, clock::now(), 3);
        open.projects[0].created_ms = first.created;
        plane.store.begin_delete(&demo, None).await.unwrap();
        plane.store.finish_delete(&demo).await.unwrap();
        let again = NewProject {
            now: clock::now(),
            ..suite::new_project("demo")
        };
        plane.projects.create(again).await.unwrap();
        plane.projects.usage.report(report(vec![], Some(open))).await.unwrap();
        assert_eq!(selects(&plane).await, 0, "the second has nothing of it");
        let hour = clock::now().div_euclid(HOUR_MS) * HOUR_MS;
        let used = plane.projects.usage.read(&first, hour - HOUR_MS..hour + HOUR_MS).await;
        assert_eq!(used.unwrap().values().map(|used| used.counts[0]).sum::<i64>(), 3);
    }

    #[tokio::test]
    async fn usage_whose_name_may_be_forgotten_is_not_counted() {
        let (plane, _) = Plane::with_demo().await;
        let old = clock::now() - WINDOWS_TAKEN_MS - 1_000;
        plane
            .projects
            .usage
            .report(report(vec![window(1, old, 3)], None))
            .await
            .unwrap();
        let kept = plane.store.prune_usage(i64::MAX / 2, i64::MAX / 2).await.unwrap();
        assert_eq!(kept, 0);
    }
}
