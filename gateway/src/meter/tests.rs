//! Counting under kills: a meter is dropped in the middle of what it does, which leaves the files as a killed process
//! leaves them, and opened again.

use std::collections::{BTreeSet, HashMap};

use super::*;

/// A whole minute.
const NOON: i64 = 1_700_000_040_000;

fn config(dir: &tempfile::TempDir) -> Config {
    Config {
        dir: dir.path().to_owned(),
        spool_bytes_max: 1 << 20,
    }
}

fn windows(meter: &Meter) -> Vec<proto::UsageWindow> {
    meter.spool().oldest(u64::MAX)
}

#[test]
fn statements_are_told_apart_by_their_first_word() {
    for (text, class) in [
        ("SELECT 1", Class::Select),
        ("  (select 1) union select 2", Class::Select),
        ("/* shop */ (select 1)", Class::Select),
        ("with x as (select 1) select * from x", Class::Select),
        ("insert into t values (1)", Class::Insert),
        ("REPLACE t VALUES (1)", Class::Insert),
        ("Update t set a=1", Class::Update),
        ("/* shop */ delete from t", Class::Delete),
        ("create table t (a int)", Class::Ddl),
        ("TRUNCATE t", Class::Ddl),
        ("show tables", Class::Other),
        ("selectx", Class::Other),
        ("", Class::Other),
    ] {
        assert_eq!(Class::of(text.as_bytes()), class, "{text}");
    }
}

#[tokio::test]
async fn what_was_counted_before_a_kill_is_a_window_of_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let meter = Meter::open(&config(&dir), NOON).unwrap();
    let id = meter.gateway_id.clone();
    let (here, there) = (meter.tally("demo", 1, 0), meter.tally("demo", 1, 1));
    here.statement(Class::Select);
    there.statement(Class::Select);
    there.add(Counter::Rows, 7);
    drop((here, there, meter));
    let again = Meter::open(&config(&dir), NOON + 5_000).unwrap();
    assert_eq!(again.gateway_id, id, "control knows it by the same name");
    let told = windows(&again);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].sequence, told[0].start_ms, told[0].end_ms),
        (1, NOON, NOON + 5_000)
    );
    let usage = proto::ProjectUsage {
        project: "demo".into(),
        created_ms: 1,
        selects: 2,
        rows: 7,
        ..Default::default()
    };
    assert_eq!(told[0].projects, [usage]);
    drop(again);
    let third = Meter::open(&config(&dir), NOON + 9_000).unwrap();
    assert_eq!(windows(&third), told, "and it is told once");
}

#[tokio::test]
async fn a_window_of_a_gateway_that_was_away_ends_with_its_minute() {
    let dir = tempfile::tempdir().unwrap();
    let meter = Meter::open(&config(&dir), NOON + 10_000).unwrap();
    meter.tally("demo", 1, 0).add(Counter::Logins, 1);
    drop(meter);
    let again = Meter::open(&config(&dir), NOON + 86_400_000).unwrap();
    assert_eq!(windows(&again)[0].end_ms, NOON + 60_000);
}

#[tokio::test]
async fn open_window_is_what_the_closed_one_will_be() {
    let dir = tempfile::tempdir().unwrap();
    let meter = Meter::open(&config(&dir), NOON).unwrap();
    assert_eq!(meter.open_window(NOON + 1), None, "nothing happened");
    let tally = meter.tally("demo", 1, 0);
    tally.add(Counter::BytesOut, 10);
    let open = meter.open_window(NOON + 60_000).unwrap();
    assert!(!meter.is_due(NOON + 59_999));
    assert!(meter.is_due(NOON + 60_000));
    meter.close_window(NOON + 60_000).unwrap();
    assert_eq!(windows(&meter), [open]);
    assert_eq!(meter.open_window(NOON + 61_000), None);
    tally.add(Counter::BytesOut, 1);
    let next = meter.open_window(NOON + 61_000).unwrap();
    assert_eq!(
        (next.sequence, next.start_ms, next.projects[0].bytes_out),
        (2, NOON + 60_000, 1)
    );
}

#[tokio::test]
async fn a_clock_that_jumps_closes_the_window_and_each_count_is_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let meter = Meter::open(&config(&dir), NOON).unwrap();
    let tally = meter.tally("demo", 1, 0);
    let hour = 3_600_000;
    for now in [NOON + 5 * hour, NOON - 7 * hour, NOON - 6 * hour] {
        tally.add(Counter::Logins, 1);
        assert!(meter.is_due(now), "at {now}");
        meter.close_window(now).unwrap();
        assert!(!meter.is_due(now), "the next one begins at {now}");
    }
    let told = windows(&meter);
    let logins = told.iter().map(|window| window.projects[0].logins);
    assert_eq!(logins.collect::<Vec<_>>(), [1, 1, 1]);
    let times: Vec<_> = told.iter().map(|window| (window.start_ms, window.end_ms)).collect();
    let (ahead, behind) = (NOON + 5 * hour, NOON - 7 * hour);
    assert_eq!(times, [(NOON, ahead), (ahead, ahead), (behind, behind + hour)]);
}

/// A file system of so many bytes, for as long as it lives; None: this process may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .output();
        mounted
            .is_ok_and(|mounted| mounted.status.success())
            .then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
        assert!(unmounted.is_ok_and(|status| status.success()), "unmounting");
    }
}

#[tokio::test]
async fn a_full_disk_loses_no_count_and_the_window_is_written_down_once_there_is_space() {
    let Some(disk) = SmallDisk::mount(6 << 20) else {
        println!("SKIPPED: this process may not mount a file system; run it as root");
        return;
    };
    let meter = Meter::open(&config(&disk.0), NOON).unwrap();
    let tally = meter.tally("demo", 1, 0);
    tally.add(Counter::Logins, 2);
    let filler = disk.0.path().join("filler");
    let full = std::fs::write(&filler, vec![0; 6 << 20]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    for minute in 1..=2 {
        let refused = meter.close_window(NOON + minute * WINDOW_MS).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        // Counting goes on, and control still hears of it.
        tally.add(Counter::Logins, 1);
        let open = meter.open_window(NOON + minute * WINDOW_MS).unwrap();
        assert_eq!((open.sequence, open.projects[0].logins), (1, 2 + minute.unsigned_abs()));
    }
    assert!(meter.text().contains("selkie_gateway_usage_write_errors_total 2"));
    std::fs::remove_file(filler).unwrap();
    meter.close_window(NOON + 3 * WINDOW_MS).unwrap();
    let told = windows(&meter);
    assert_eq!((told.len(), told[0].projects[0].logins), (1, 4));
    assert_eq!(meter.open_window(NOON + 3 * WINDOW_MS), None, "and nothing twice");
}

#[tokio::test(start_paused = true)]
async fn attached_time_is_the_sum_over_sessions_up_to_the_moment() {
    let dir = tempfile::tempdir().unwrap();
    let meter = Meter::open(&config(&dir), NOON).unwrap();
    let tally = meter.tally("demo", 1, 0);
    let attached_us = || {
        meter
            .open_window(NOON)
            .map_or(0, |window| window.projects[0].attached_us)
    };
    let second = std::time::Duration::from_secs(1);
    let first = tally.attached();
    tokio::time::advance(second).await;
    let other = tally.attached();
    tokio::time::advance(second * 2).await;
    assert_eq!(attached_us(), 5_000_000);
    drop(first);
    tokio::time::advance(second).await;
    drop(other);
    tokio::time::advance(second * 9).await;
    assert_eq!(attached_us(), 6_000_000);
}

#[tokio::test]
async fn counters_of_projects_that_nobody_uses_are_free_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let meter = Meter::open(&config(&dir), NOON).unwrap();
    for round in 0..3 {
        for number in 0..ROWS - 1 {
            let tally = meter.tally(&format!("p{number}-of-{round}"), 1, 0);
            assert!(tally.row.is_some(), "round {round}: no row for project {number}");
            tally.add(Counter::Logins, 1);
        }
        assert_eq!(meter.tally("one-too-many", 1, 0).row, None);
        meter.tally("one-too-many", 1, 0).add(Counter::Logins, 1);
        meter.close_window(NOON + 60_000).unwrap();
        assert_eq!(
            windows(&meter).last().unwrap().projects.len(),
            ROWS,
            "it is counted as well"
        );
    }
}

#[test]
fn full_spool_drops_its_oldest_windows() {
    let dir = tempfile::tempdir().unwrap();
    let window = |sequence| proto::UsageWindow {
        sequence,
        start_ms: NOON,
        ..Default::default()
    };
    let len = prost::Message::encode_to_vec(&window(1)).len() as u64;
    let mut spool = Spool::open(dir.path().into(), 3 * len).unwrap();
    (1..=5).for_each(|sequence| spool.append(&window(sequence)).unwrap());
    assert_eq!((spool.dropped, spool.bytes()), (2, 3 * len));
    let mut again = Spool::open(dir.path().into(), 3 * len).unwrap();
    let left: Vec<_> = again.oldest(u64::MAX).iter().map(|window| window.sequence).collect();
    assert_eq!(left, [3, 4, 5]);
    assert_eq!(again.oldest(1).len(), 1, "one goes however large it is");
}

#[test]
fn two_gateways_on_one_directory_count_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (
        Meter::open(&config(&dir), NOON).unwrap(),
        Meter::open(&config(&dir), NOON).unwrap(),
    );
    assert_ne!(one.gateway_id, other.gateway_id);
    let id = one.gateway_id.clone();
    drop(one);
    assert_eq!(Meter::open(&config(&dir), NOON).unwrap().gateway_id, id);
}

#[test]
fn a_place_is_free_at_once_though_a_process_being_started_shares_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (first, place) = place(dir.path()).unwrap().unwrap();
    let shared_as_by_fork = place.0.try_clone().unwrap();
    drop(place);
    let (again, _place) = super::place(dir.path()).unwrap().unwrap();
    assert_eq!(again, first);
    drop(shared_as_by_fork);
}

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Takes a window once, by its name.
#[derive(Default)]
struct Ledger {
    taken: BTreeSet<(String, u64, i64)>,
    /// By project and when it was made.
    sums: HashMap<(String, i64), u64>,
    /// Everything that was ever on the wire, to come again.
    wire: Vec<(String, proto::UsageWindow)>,
}

impl Ledger {
    fn take(&mut self, id: &str, window: &proto::UsageWindow) {
        self.wire.push((id.to_owned(), window.clone()));
        if self.taken.insert((id.to_owned(), window.sequence, window.start_ms)) {
            for project in &window.projects {
                let whose = (project.project.clone(), project.created_ms);
                *self.sums.entry(whose).or_default() += project.selects;
            }
        }
    }
}

/// The oracle: whatever is killed, repeated or overtaken, control's sums are what clients did.
#[tokio::test]
async fn sums_are_what_clients_did_whatever_is_killed_repeated_or_overtaken() {
    let mut seen = BTreeSet::new();
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, mut did) = (Ledger::default(), HashMap::new());
        let mut now = NOON;
        let mut meter = Some(Meter::open(&config(&dir), now).unwrap());
        for _ in 0..40 {
            now += 20_000;
            // Dies before the so-manieth step, where there are as many.
            let mut fuse = dice.below(12);
            let mut step = |name| match fuse {
                0 => {
                    seen.insert(name);
                    Err(io::Error::other("killed"))
                }
                _ => {
                    fuse -= 1;
                    Ok(())
                }
            };
            let Some(living) = meter.take() else {
                let (place_dir, lock) = place(dir.path()).unwrap().unwrap();
                meter = Meter::begin(&place_dir, 1 << 20, lock, now, &mut step).ok();
                continue;
            };
            for _ in 0..dice.below(6) {
                // Two of each name: one was deleted, and made again.
                let (project, created_ms) = (format!("p{}", dice.below(2)), 1 + dice.below(2) as i64);
                let n = 1 + dice.below(9);
                living
                    .tally(&project, created_ms, dice.below(2) as usize)
                    .add(Counter::Select, n);
                *did.entry((project, created_ms)).or_default() += n;
            }
            let survives = match dice.below(3) {
                0 => living.close_steps(now, &mut step).is_ok(),
                1 => {
                    let waiting = living.spool().oldest(dice.below(400));
                    for window in waiting {
                        ledger.take(&living.gateway_id, &window);
                        // The answer may be lost.
                        if dice.below(3) > 0 {
                            living.spool().remove(window.sequence).unwrap();
                        }
                    }
                    // What was under way for long arrives now.
                    if !ledger.wire.is_empty() {
                        let (id, window) = ledger.wire[dice.below(ledger.wire.len() as u64) as usize].clone();
                        ledger.take(&id, &window);
                    }
                    dice.below(3) > 0
                }
                _ => dice.below(4) > 0,
            };
            meter = survives.then_some(living);
        }
        drop(meter);
        let last = Meter::open(&config(&dir), now).unwrap();
        last.close_window(now).unwrap();
        for window in windows(&last) {
            ledger.take(&last.gateway_id, &window);
        }
        assert_eq!(ledger.sums, did, "seed {seed}");
    }
    let steps = ["append", "banks", "begin", "count", "counters", "next bank"];
    assert_eq!(Vec::from_iter(seen), steps, "it was killed before each");
}

/// Control that takes everything.
#[derive(Default)]
struct Taken(Mutex<Vec<proto::UsageReport>>);

#[async_trait::async_trait]
impl UsageSink for &Taken {
    async fn report_usage(&self, report: proto::UsageReport, _: std::time::Duration) -> Result<(), tonic::Status> {
        self.0.lock().unwrap().push(report);
        Ok(())
    }
}

#[tokio::test]
async fn what_another_gateway_has_left_is_told_once_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let stays = Arc::new(Meter::open(&config(&dir), NOON).unwrap());
    let goes = Meter::open(&config(&dir), NOON).unwrap();
    let id = goes.gateway_id.clone();
    let tally = goes.tally("demo", 1, 0);
    tally.statement(Class::Select);
    goes.close_window(NOON + WINDOW_MS).unwrap();
    tally.statement(Class::Select);
    let taken = Taken::default();
    send::inherit(&stays, &&taken).await.unwrap();
    assert!(taken.0.lock().unwrap().is_empty(), "it is not gone");
    drop((tally, goes));
    for _ in 0..2 {
        send::inherit(&stays, &&taken).await.unwrap();
    }
    let told = std::mem::take(&mut *taken.0.lock().unwrap());
    let windows_of: Vec<_> = told
        .iter()
        .flat_map(|report| {
            report
                .closed
                .iter()
                .map(|window| (&*report.gateway_id, window.sequence))
        })
        .collect();
    assert_eq!(
        windows_of,
        [(&*id, 1), (&*id, 2)],
        "each once, by the name it was counted by"
    );
    let selects: u64 = told
        .iter()
        .flat_map(|report| &report.closed)
        .map(|window| window.projects[0].selects)
        .sum();
    assert_eq!(selects, 2);
    let again = Meter::open(&config(&dir), NOON + 3 * WINDOW_MS).unwrap();
    assert_eq!(again.gateway_id, id, "its place is free");
    again.tally("demo", 1, 0).statement(Class::Select);
    again.close_window(NOON + 4 * WINDOW_MS).unwrap();
    assert_eq!(windows(&again)[0].sequence, 3, "no name is used twice");
}
