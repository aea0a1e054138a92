//! How much the API keys of one project may ask for: they are a tenant's, and every answer takes the control plane's time, every
//! change the one writer of its state. Keys that see all projects are the operator's and are not counted.
//!
//! One moment per project is all there is to keep. `governor` keeps the same, by a clock of its own that tests cannot pause together
//! with all else here.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::name::ProjectId;

/// A change writes to the state several times: five in a second are a hundredth of what it takes.
const CHANGE: Duration = Duration::from_millis(200);
/// A read is at worst a page of a project as large as one may be.
const READ: Duration = Duration::from_millis(20);
/// What may be asked for at once by who has asked for nothing for as long: a hundred changes, or a thousand reads. Whoever sets a
/// project up by a script is not held up.
const AT_ONCE: Duration = Duration::from_secs(20);
/// From here on those that have asked for nothing for a while are forgotten.
const KEPT: usize = 1024;

/// Per project, the moment at which all that it has asked for is paid.
#[derive(Default)]
pub(crate) struct Pace(Mutex<HashMap<ProjectId, Instant>>);

impl Pace {
    /// `Err`: too much was asked for; after so many seconds there is room again.
    pub(super) fn ask(&self, project: &ProjectId, changes: bool, now: Instant) -> Result<(), u16> {
        let mut paid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paid.len() >= KEPT {
            paid.retain(|_, at| *at > now);
        }
        let before = paid.get(project).copied().unwrap_or(now).max(now);
        let after = before + if changes { CHANGE } else { READ };
        match after.duration_since(now).checked_sub(AT_ONCE) {
            None | Some(Duration::ZERO) => {
                paid.insert(project.clone(), after);
                Ok(())
            }
            // Whole seconds, and not before there is room.
            Some(over) => Err(u16::try_from(over.as_secs()).unwrap_or(u16::MAX).saturating_add(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ProjectId {
        ProjectId::new(name).unwrap()
    }

    #[test]
    fn a_hundred_changes_at_once_then_five_a_second_and_others_are_not_held_up() {
        let (pace, now) = (Pace::default(), Instant::now());
        let (one, other) = (id("one"), id("other"));
        let at_once = (0..200).take_while(|_| pace.ask(&one, true, now).is_ok()).count();
        assert_eq!(at_once, 100);
        assert_eq!(pace.ask(&one, true, now), Err(1));
        assert_eq!(pace.ask(&other, true, now), Ok(()));
        let later = now + Duration::from_secs(1);
        let then = (0..200).take_while(|_| pace.ask(&one, true, later).is_ok()).count();
        assert_eq!(then, 5);
        let much_later = now + Duration::from_secs(3600);
        let reads = (0..2000)
            .take_while(|_| pace.ask(&one, false, much_later).is_ok())
            .count();
        assert_eq!(reads, 1000, "no more than at first, however long it was silent");
    }

    #[test]
    fn those_that_are_silent_are_forgotten() {
        let (pace, now) = (Pace::default(), Instant::now());
        for n in 0..3 * KEPT {
            let later = now + AT_ONCE * u32::try_from(n).unwrap();
            assert_eq!(pace.ask(&id(&format!("project-{n}")), true, later), Ok(()));
        }
        assert!(pace.0.lock().unwrap().len() <= KEPT);
    }
}
