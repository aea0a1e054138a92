//! Plays a case on both sides, step by step. The gateway's side goes first: where it ends a session, the command was not
//! run, so it is not run directly either, and both sides log in anew; a command that ran all the same shows in the
//! tables at the end.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::time::sleep;

use crate::compare::difference;
use crate::lane::{IDLE, Lane, PLACES, Stewards, ask, run};
use crate::oracle::{
    Exposure, Holds, asks_before, asks_in_vain, begins_anew, left_by, may_end, takes_its_place, touches_role,
};
use crate::side::{Names, Outcome, Side};
use crate::statements::{END, FOUND_ROWS};
use crate::step::{Act, Case, Disturbance, Opening, Step};

/// What happened on the way, so that a run can show that it tried something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) commands: u64,
    pub(crate) disturbances: u64,
    /// Sessions that went on after their compute was taken away.
    pub(crate) survived: u64,
    pub(crate) ended: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.commands += other.commands;
        self.disturbances += other.disturbances;
        self.survived += other.survived;
        self.ended += other.ended;
    }
}

struct Pair {
    gateway: Side,
    direct: Side,
    opening: Opening,
    names: Names,
    holds: Holds,
    exposure: Option<Exposure>,
    /// What was disturbed since a statement began that may be asked about.
    previous: Option<Exposure>,
    /// Another statement has taken that one's place, and left what it does not set as the connection had it.
    is_blurred: bool,
    /// Its role may not be the one it logged in with, which a reset leaves alone.
    touched_role: bool,
    /// FOUND_ROWS() is that of this session.
    found_rows: bool,
}

struct Player<'a> {
    lane: &'a Lane,
    pairs: Vec<Pair>,
    stewards: Stewards,
    tally: Tally,
}

/// Plays `case`; the first difference, in words. What panics on the way is one, too.
pub(crate) async fn play(lane: &Lane, case: &Case) -> Result<Tally, String> {
    match AssertUnwindSafe(play_through(lane, case)).catch_unwind().await {
        Ok(played) => played,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(text.unwrap_or_else(|| "panicked".to_owned()))
        }
    }
}

async fn play_through(lane: &Lane, case: &Case) -> Result<Tally, String> {
    assert!(
        case.sessions.len() <= PLACES,
        "more sessions than a lane has places for"
    );
    let mut stewards = lane.stewards().await;
    lane.start(&mut stewards).await;
    let mut pairs = Vec::new();
    for (opening, names) in case.sessions.iter().zip(&lane.names) {
        pairs.push(Pair::open(lane, *opening, names).await);
    }
    let mut player = Player {
        lane,
        pairs,
        stewards,
        tally: Tally::default(),
    };
    for (number, step) in case.steps.iter().enumerate() {
        player
            .step(step)
            .await
            .map_err(|what| format!("step {number} {step:?}\n{what}"))?;
    }
    player.end().await
}

impl Pair {
    async fn open(lane: &Lane, opening: Opening, names: &Names) -> Self {
        Self {
            gateway: Side::open(&lane.gateway, opening, names).await,
            direct: Side::open(&lane.direct, opening, names).await,
            opening,
            names: names.clone(),
            holds: Holds::Told,
            exposure: None,
            previous: None,
            is_blurred: false,
            touched_role: false,
            found_rows: false,
        }
    }
}

impl Player<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        if let Act::Disturb(disturbance) = step.act {
            self.tally.disturbances += 1;
            return self.disturb(disturbance).await;
        }
        self.tally.commands += 1;
        let pair = &self.pairs[step.session];
        let asks_for_rows = matches!(&step.act, Act::Query(sql) if sql.contains(FOUND_ROWS));
        if asks_for_rows && !pair.found_rows || asks_before(&step.act) && pair.is_blurred {
            return Ok(());
        }
        let pair = &mut self.pairs[step.session];
        let seen = match pair.gateway.run(&step.act).await {
            Outcome::Answered(packets) => packets,
            Outcome::Ended(said) => return self.ended(step, &said).await,
            Outcome::NotKept => return self.not_kept(step).await,
        };
        if matches!(step.act, Act::Sabotage(_)) {
            return Ok(());
        }
        // What has no answer is not known to have arrived.
        if !matches!(step.act, Act::CloseStatement { .. } | Act::LongData { .. }) {
            self.tally.survived += u64::from(pair.exposure.is_some());
            pair.exposure = None;
        }
        if takes_its_place(&step.act) {
            pair.is_blurred |= pair.previous.take().is_some();
        }
        pair.is_blurred &= !begins_anew(&step.act);
        pair.touched_role |= touches_role(&step.act);
        pair.found_rows = finds_rows(&step.act) || pair.found_rows && asks_before(&step.act);
        let kept = if pair.touched_role { Holds::Hidden } else { Holds::Told };
        pair.holds = left_by(&step.act).map_or(kept, |left| left.max(pair.holds));
        match pair.direct.run(&step.act).await {
            Outcome::Answered(expected) => match difference(&seen, &expected, pair.gateway.caps()) {
                Some(what) => Err(what),
                None => Ok(()),
            },
            other => Err(format!(
                "the direct connection {other:?}, the gateway answered {seen:?}"
            )),
        }
    }

    /// The gateway refuses to make up what the statement before left: the session has had another connection since, perhaps
    /// because it idled while this machine was busy. The command was run on neither side.
    async fn not_kept(&mut self, step: &Step) -> Result<(), String> {
        if !asks_in_vain(&step.act) {
            return Err("the gateway refused what it could have known".into());
        }
        self.renew(step.session).await;
        Ok(())
    }

    /// The gateway says that a session lost something: after a crash it goes on, and is reset; where the connection is
    /// closed, it logs in anew. The direct side always does.
    async fn ended(&mut self, step: &Step, said: &str) -> Result<(), String> {
        let pair = &mut self.pairs[step.session];
        let without_a_word = said.starts_with("not a word");
        if (without_a_word || pair.exposure.is_none())
            && let Outcome::Ended(_) = pair.direct.run(&step.act).await
        {
            // ROLLBACK RELEASE and the like.
        } else if pair.previous == Some(Exposure::Crashed) && asks_before(&step.act) {
            // Nobody knows what is asked.
        } else if !may_end(pair.exposure, pair.holds) {
            return Err(format!(
                "the gateway ended the session ({said}); it may hold {:?} and was {:?}",
                pair.holds, pair.exposure
            ));
        } else if without_a_word {
            return Err(format!("the gateway ended the session without a reason: {said}"));
        }
        self.renew(step.session).await;
        Ok(())
    }

    /// Both sides of a session begin anew.
    async fn renew(&mut self, session: usize) {
        self.tally.ended += 1;
        let pair = &mut self.pairs[session];
        let thread = pair.direct.thread_id();
        let new = Pair::open(self.lane, pair.opening, &pair.names.clone()).await;
        let Pair { gateway, direct, .. } = std::mem::replace(pair, new);
        direct.quit().await;
        // That the session can be used again is an end-to-end test's to see (e2e park); here both begin with a login.
        gateway.quit().await;
        self.lane.gone(&mut self.stewards.direct, thread).await;
    }

    async fn disturb(&mut self, disturbance: Disturbance) -> Result<(), String> {
        let exposure = match disturbance {
            Disturbance::Park => {
                sleep(IDLE).await;
                Exposure::Parked
            }
            Disturbance::Suspend => {
                self.lane.suspend().await;
                Exposure::Suspended
            }
            Disturbance::SuspendRacing => {
                self.lane.suspend_without_waiting().await;
                Exposure::Suspended
            }
            Disturbance::Crash => {
                self.count_in_flight(false).await?;
                self.lane.crash();
                Exposure::Crashed
            }
            Disturbance::CrashDuring => {
                self.count_in_flight(false).await?;
                self.count_in_flight(true).await?;
                Exposure::Crashed
            }
        };
        for session in 0..self.pairs.len() {
            let pair = &mut self.pairs[session];
            pair.exposure = pair.exposure.max(Some(exposure));
            pair.previous = pair.previous.max(Some(exposure));
            if exposure == Exposure::Crashed && pair.holds == Holds::Pinned {
                // What it holds may stand in another's way on the direct side. The gateway tells the session that it is lost,
                // or the answers differ.
                let act = Act::Query("DO 0".into());
                Box::pin(self.step(&Step { session, act }))
                    .await
                    .map_err(|what| format!("after a crash, session {session}: {what}"))?;
            }
        }
        Ok(())
    }

    /// A commit, so that the log is on disk up to here (what commands that were not committed wrote in passing, such as
    /// the counter of an AUTO_INCREMENT, is kept by a crash then); or one that the crash meets under way.
    async fn count_in_flight(&mut self, crash: bool) -> Result<(), String> {
        if !self.lane.is_awake() {
            return Ok(());
        }
        let lane = self.lane;
        self.renew_steward().await;
        let before = in_flight(&mut self.stewards.gateway).await;
        let up = Act::Query("UPDATE in_flight SET n = n + 1 + SLEEP(0.002)".into());
        // The command is on its way before the kill: the halves are polled in this order.
        let kill = async {
            if crash {
                lane.crash()
            }
        };
        let (outcome, ()) = tokio::join!(self.stewards.gateway.run(&up), kill);
        let done = match outcome {
            Outcome::Answered(packets) if packets.iter().all(|packet| packet.error().is_none()) => 1,
            outcome if !crash => return Err(format!("an UPDATE that nothing disturbed: {outcome:?}")),
            _ => {
                self.renew_steward().await;
                in_flight(&mut self.stewards.gateway).await - before
            }
        };
        if !(0..=1).contains(&done) {
            return Err(format!("one UPDATE in flight counted {done}"));
        }
        run(
            &mut self.stewards.direct,
            &format!("UPDATE in_flight SET n = n + {done}"),
        )
        .await;
        Ok(())
    }

    /// The gateway's steward may have lost its compute like anybody else.
    async fn renew_steward(&mut self) {
        let new = self.lane.steward_at_gateway().await;
        std::mem::replace(&mut self.stewards.gateway, new).quit().await;
    }

    /// All sessions look at themselves, leave, and what they did is compared.
    async fn end(mut self) -> Result<Tally, String> {
        for session in 0..self.pairs.len() {
            for act in [Act::Query("DO 0".into()), Act::UserVariables, Act::Variables] {
                let step = Step { session, act };
                self.step(&step)
                    .await
                    .map_err(|what| format!("at the end, {step:?}\n{what}"))?;
            }
        }
        for pair in self.pairs.drain(..) {
            pair.gateway.quit().await;
            pair.direct.quit().await;
        }
        self.renew_steward().await;
        let Stewards {
            mut gateway,
            mut direct,
        } = self.stewards;
        for steward in [&mut gateway, &mut direct] {
            self.lane.alone(steward).await;
        }
        for sql in self
            .lane
            .names
            .iter()
            .flat_map(|names| END.iter().map(|sql| names.fill(sql)))
        {
            let (seen, expected) = (run(&mut gateway, &sql).await, run(&mut direct, &sql).await);
            if let Some(what) = difference(&seen, &expected, gateway.caps()) {
                return Err(format!("what is left, {sql}\n{what}"));
            }
        }
        Stewards { gateway, direct }.leave().await;
        Ok(self.tally)
    }
}

/// A select that succeeds; it need not be seen in all.
fn finds_rows(act: &Act) -> bool {
    matches!(act, Act::Query(sql) if sql.starts_with("SELECT 1") || sql.starts_with("SELECT id FROM"))
}

async fn in_flight(steward: &mut Side) -> i64 {
    let rows = ask(steward, "SELECT n FROM in_flight").await;
    rows[0][0].parse().expect("a number")
}
