//! Who falls asleep when: looks at every ready compute once a second and asks for the suspend of those that were idle for
//! as long as their project allows. What is idle is decided by `activity.rs`, whether it may really sleep by the
//! hand-shake; a suspend that is called off is tried again later, each time after a longer pause.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::Sight,
    name::ProjectId,
    projects::Projects,
    store::{Sleep, SuspendAfter},
};

/// The shortest time that a compute may be idle is a few seconds; a look costs microseconds for each ready compute.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Suspends under way at the same time: a clean stop writes to disk, and more only make each other and the starts slow.
const SUSPENDS_MAX: usize = 16;

/// See the head of this file.
pub(crate) struct Scheduler {
    projects: Arc<Projects>,
    /// Where a project does not say; `None`: never.
    default: Option<Duration>,
    under_way: HashSet<ProjectId>,
    suspends: JoinSet<ProjectId>,
}

/// When a compute is to be suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// Somebody uses it.
    InUse,
    Never,
    /// It has not been idle for long enough; what is missing.
    In(Duration),
    /// The last suspend was called off; why, and how long until the next try.
    CalledOff(String, Duration),
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("it is about to be suspended"),
            Self::InUse => f.write_str("it is in use"),
            Self::Never => f.write_str("suspend_after is never"),
            Self::In(left) => write!(f, "not idle for long enough: {} s left", seconds(*left)),
            Self::CalledOff(why, left) => {
                write!(f, "its suspend was called off: {why}; next try in {} s", seconds(*left))
            }
        }
    }
}

/// Rounded up, so that nobody reads of 0 s and waits.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// Pure: what was seen and what is allowed go in.
pub(crate) fn due(sight: &Sight, after: Option<Duration>) -> Due {
    let Some(after) = after else { return Due::Never };
    if !sight.users.is_empty() {
        return Due::InUse;
    }
    if sight.idle < after {
        return Due::In(after - sight.idle);
    }
    match &sight.called_off {
        Some((why, left)) if !left.is_zero() => Due::CalledOff(why.clone(), *left),
        _ => Due::Now,
    }
}

/// What a project's settings come to.
pub(crate) fn idle_allowed(sleep: Sleep, default: Option<Duration>) -> Option<Duration> {
    match sleep.suspend_after {
        None => default,
        Some(SuspendAfter::Never) => None,
        Some(SuspendAfter::Idle(time)) => Some(time),
    }
}

impl Scheduler {
    pub(crate) fn new(projects: Arc<Projects>, default: Option<Duration>) -> Self {
        Self {
            projects,
            default,
            under_way: HashSet::new(),
            suspends: JoinSet::new(),
        }
    }

    /// Runs until dropped or told to end. Suspends that it has asked for go on.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                Some(ended) = self.suspends.join_next() => match ended {
                    Ok(id) => drop(self.under_way.remove(&id)),
                    Err(error) => tracing::error!(%error, "a suspend panicked"),
                },
                _ = looks.tick() => {
                    for (id, sight) in self.due() {
                        self.suspend(id, sight);
                    }
                }
            }
        }
    }

    /// All whose time has come, those that have been idle for longest first, as many as may go at once.
    fn due(&self) -> Vec<(ProjectId, Sight)> {
        let mut due: Vec<_> = self.projects.activity.sights();
        due.retain(|(id, sight)| !self.under_way.contains(id) && self.is_due(id, sight));
        due.sort_by_key(|(_, sight)| std::cmp::Reverse(sight.idle));
        due.truncate(SUSPENDS_MAX.saturating_sub(self.suspends.len()));
        due
    }

    fn is_due(&self, id: &ProjectId, sight: &Sight) -> bool {
        let sleep = self.projects.publisher.sleep(id);
        sleep.is_some_and(|sleep| due(sight, idle_allowed(sleep, self.default)) == Due::Now)
    }

    fn suspend(&mut self, id: ProjectId, sight: Sight) {
        self.under_way.insert(id.clone());
        let projects = self.projects.clone();
        self.suspends.spawn(async move {
            let reason = format!("it was idle for {} s", sight.idle.as_secs());
            match projects.computes.suspend_if_idle(&id, &reason).await {
                Ok(Ok(())) => tracing::info!(project = %id, reason, "suspended"),
                Ok(Err(why)) => projects.activity.called_off(&id, sight.incarnation, why.0),
                Err(error) => projects.activity.called_off(&id, sight.incarnation, error.to_string()),
            }
            id
        });
    }
}

#[cfg(test)]
mod tests;
