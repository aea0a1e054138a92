//! A seed becomes a case; the same seed the same case, wherever it is played.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::statements::{SLOTS, Writer, add_theme};
use crate::step::{Act, Case, Disturbance, Opening, Step};

/// Steps of all sessions of a case together, about: long enough that state piles up, short enough to be read.
const STEPS: std::ops::Range<usize> = 15..60;

/// How often, of 1,000 steps, each comes before one.
const DISTURBANCES: [(u32, Disturbance); 5] = [
    (30, Disturbance::Park),
    (14, Disturbance::Suspend),
    (5, Disturbance::SuspendRacing),
    (8, Disturbance::Crash),
    (4, Disturbance::CrashDuring),
];

/// The collations of logins: of the character sets that drivers name. Not one that MariaDB does not know (255): a reset
/// then gives the session what the thread's session before it had (10.11).
const COLLATIONS: [u8; 5] = [45, 45, 33, 8, 63];

/// The case of `seed`.
pub(crate) fn case(seed: u64) -> Case {
    let mut random = StdRng::seed_from_u64(seed);
    let sessions: Vec<Opening> = (0..=usize::from(random.random_bool(0.4)))
        .map(|_| opening(&mut random))
        .collect();
    let length = random.random_range(STEPS);
    let mut typed = vec![[None; SLOTS]; sessions.len()];
    // Apart from what the world holds, and different in every session, as a lock's name may hold it.
    let mut next_id = 1000;
    let mut steps = Vec::new();
    while steps.len() < length {
        let session = random.random_range(0..sessions.len());
        let mut writer = Writer {
            random: &mut random,
            acts: Vec::new(),
            typed: &mut typed[session],
            next_id: &mut next_id,
        };
        add_theme(&mut writer);
        for act in writer.acts {
            if let Some(disturbance) = disturbance(&mut random) {
                steps.push(Step {
                    session,
                    act: Act::Disturb(disturbance),
                });
            }
            steps.push(Step { session, act });
        }
    }
    Case { sessions, steps }
}

/// The same without disturbances: what the gateway must pass through unchanged.
pub(crate) fn undisturbed(seed: u64) -> Case {
    let mut case = case(seed);
    case.steps.retain(|step| !matches!(step.act, Act::Disturb(_)));
    case
}

fn opening(random: &mut StdRng) -> Opening {
    Opening {
        session_track: random.random_bool(0.5),
        deprecate_eof: random.random_bool(0.7),
        found_rows: random.random_bool(0.3),
        collation: COLLATIONS[random.random_range(0..COLLATIONS.len())],
    }
}

fn disturbance(random: &mut StdRng) -> Option<Disturbance> {
    let mut left = random.random_range(0..1000);
    for (weight, disturbance) in DISTURBANCES {
        if left < weight {
            return Some(disturbance);
        }
        left -= weight;
    }
    None
}

#[test]
fn a_seed_always_makes_the_same_case() {
    assert_eq!(case(7), case(7));
    assert_ne!(case(7), case(8));
}
