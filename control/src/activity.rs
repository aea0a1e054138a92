//! What gateways said last of who uses which project: kept in memory, because it is worth nothing after a minute. The
//! suspend scheduler and `kept_awake_by` read it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use control_api::control::ProjectActivity;
use tokio::time::Instant;

use crate::name::ProjectId;

/// Gateways report every few seconds what has changed; what is older comes from one that has gone.
const STALE: Duration = Duration::from_secs(60);

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Activity {
    /// By project, then by gateway.
    reports: Mutex<HashMap<String, HashMap<String, Reported>>>,
}

struct Reported {
    at: Instant,
    activity: ProjectActivity,
}

impl Activity {
    /// Takes a gateway's report. What it says of projects that are not there is ignored, so that nothing piles up.
    pub(crate) fn report(&self, gateway: &str, projects: Vec<ProjectActivity>, exists: impl Fn(&str) -> bool) {
        let at = Instant::now();
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        for activity in projects.into_iter().filter(|activity| exists(&activity.project)) {
            let of_project = reports.entry(activity.project.clone()).or_default();
            of_project.retain(|_, reported| at - reported.at < STALE);
            of_project.insert(gateway.to_owned(), Reported { at, activity });
        }
    }

    /// A project is gone.
    pub(crate) fn forget(&self, id: &ProjectId) {
        self.reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id.as_str());
    }

    /// Who uses this incarnation, in words; empty when nobody does.
    pub(crate) fn kept_awake_by(&self, id: &ProjectId, incarnation: u64) -> Vec<String> {
        let now = Instant::now();
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let of_project = reports.get(id.as_str()).into_iter().flat_map(HashMap::values);
        let fresh = of_project.filter(|r| now - r.at < STALE && r.activity.incarnation == incarnation);
        let (mut running, mut attached) = (0_u64, 0_u64);
        for Reported { activity, .. } in fresh {
            running += u64::from(activity.commands_in_flight);
            attached += u64::from(activity.attached);
        }
        let words = [
            (running, "command in flight", "commands in flight"),
            (attached, "attached client", "attached clients"),
        ];
        let some = words.into_iter().filter(|(count, ..)| *count > 0);
        some.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(project: &str, attached: u32, commands_in_flight: u32) -> ProjectActivity {
        ProjectActivity {
            project: project.into(),
            incarnation: 2,
            attached,
            commands_in_flight,
            ..ProjectActivity::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn adds_up_gateways_and_forgets_those_that_went_silent() {
        let (reports, demo) = (Activity::default(), ProjectId::new("demo").unwrap());
        reports.report(
            "one",
            vec![activity("demo", 3, 0), activity("unknown", 1, 1)],
            |project| project == "demo",
        );
        tokio::time::advance(STALE / 2).await;
        reports.report("two", vec![activity("demo", 1, 1)], |_| true);
        assert_eq!(
            reports.kept_awake_by(&demo, 2),
            ["1 command in flight", "4 attached clients"]
        );
        assert!(reports.kept_awake_by(&demo, 3).is_empty(), "of an older incarnation");
        assert!(reports.kept_awake_by(&ProjectId::new("unknown").unwrap(), 2).is_empty());
        tokio::time::advance(STALE / 2).await;
        assert_eq!(
            reports.kept_awake_by(&demo, 2),
            ["1 command in flight", "1 attached client"]
        );
        reports.forget(&demo);
        assert!(reports.kept_awake_by(&demo, 2).is_empty());
    }
}
