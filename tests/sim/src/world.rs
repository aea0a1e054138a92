//! One simulation: what there is, what goes wrong and when, and the end, when nothing goes wrong any more and everything
//! has to be well again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control::sim::{Control, Store, TOKEN};
use gateway::sim::Gateway;
use rand::random_range;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clients::{House, Houses, PASSWORD, Town, USER};
use crate::machine::{self, Machine};
use crate::net::{Link, Planes};
use crate::oracle::{Oracle, Verdict};

const PROJECTS: [&str; 3] = ["ash", "birch", "cedar"];
/// Nobody who logs in there sends anything.
const UNTOUCHED: &str = "untouched";
const GATEWAYS: usize = 2;
const CLIENTS_PER_PROJECT: usize = 2;
const SUSPEND_AFTER: Duration = Duration::from_secs(10);
const PINNED_IDLE: Duration = Duration::from_secs(20);
const TROUBLE_LASTS: Duration = Duration::from_secs(60);
/// Whatever was broken by the last fault has been noticed after this.
/// What a control plane may be away for, as somebody needs who has to be woken for it.
const AWAY: Duration = Duration::from_secs(600);
/// Of clients that come and go, before control goes: some projects are awake by then, some asleep.
const BEFORE: Duration = Duration::from_secs(30);
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// Idle for [`SUSPEND_AFTER`], called off once for somebody who only just left, and tried again. What a gateway said that
/// is gone since the troubles ended counts no more.
const ASLEEP_WITHIN: Duration = Duration::from_secs(25);
const TICK: Duration = Duration::from_millis(250);

struct World {
    oracle: Arc<Oracle>,
    store: Store,
    machine: Arc<Machine>,
    planes: Planes,
    links: Vec<Link>,
    houses: Houses,
    plane_names: AtomicU64,
}

impl World {
    async fn new(planes: usize) -> Arc<Self> {
        let oracle = Arc::new(Oracle::new());
        control::sim::begin_day();
        let (store, machine) = (Store::default(), Machine::new(oracle.clone()));
        for project in PROJECTS.into_iter().chain([UNTOUCHED]) {
            store.create_project(project, USER, PASSWORD, PINNED_IDLE).await;
        }
        let none: Planes = Arc::new(Mutex::new((0..planes).map(|_| None).collect()));
        let world = Self {
            oracle,
            store,
            machine,
            links: (0..GATEWAYS).map(|_| Link::new(none.clone())).collect(),
            planes: none,
            houses: Arc::new(Mutex::new((0..GATEWAYS).map(|_| None).collect())),
            plane_names: AtomicU64::new(0),
        };
        (0..planes).for_each(|number| world.begin_plane(number));
        (0..GATEWAYS).for_each(|number| world.begin_gateway(number));
        Arc::new(world)
    }

    fn begin_plane(&self, number: usize) {
        let name = format!("control {}", self.plane_names.fetch_add(1, Relaxed));
        self.oracle.note(&format!("{name} begins"));
        let plane = Control::start(&name, &self.store, machine::as_driver(&self.machine), SUSPEND_AFTER);
        self.planes.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(plane);
    }

    fn begin_gateway(&self, number: usize) {
        self.oracle.note(&format!("gateway {number} begins"));
        let gateway = Gateway::start(|to| self.links[number].channel(to), TOKEN, self.machine.clone());
        let house = House {
            gateway,
            sessions: JoinSet::new(),
        };
        self.houses.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(house);
    }

    fn with_plane<T>(&self, number: usize, act: impl FnOnce(&mut Option<Control>) -> T) -> T {
        act(&mut self.planes.lock().unwrap_or_else(PoisonError::into_inner)[number])
    }

    fn planes(&self) -> usize {
        self.planes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// One thing goes wrong; what has to come back comes back after a while.
    async fn trouble(self: Arc<Self>) {
        let project = PROJECTS[random_range(0..PROJECTS.len())];
        let gateway = random_range(0..GATEWAYS);
        let plane = random_range(0..self.planes());
        let after = Duration::from_millis(random_range(0..8_000));
        match random_range(0..100) {
            0..14 => self.kill_plane(plane, after).await,
            14..20 => self.cut_off_plane(plane, after).await,
            20..30 => self.kill_gateway(gateway, after).await,
            30..45 => self.machine.crash(project),
            45..52 => self.machine.crash_agent(project),
            52..60 => self.machine.hang_agent(project, after),
            60..75 => {
                self.oracle
                    .note(&format!("the connections of gateway {gateway} to control break"));
                self.links[gateway].breaks();
            }
            75..85 => self.stall(gateway, after * 3).await,
            85..92 => {
                let of_a_hundred = random_range(10..60);
                self.oracle.note(&format!("{of_a_hundred} of a hundred starts fail"));
                self.machine.starts_fail.store(of_a_hundred, Relaxed);
                sleep(after).await;
                self.machine.starts_fail.store(0, Relaxed);
            }
            _ => self.suspend(plane, project).await,
        }
    }

    async fn kill_plane(&self, number: usize, after: Duration) {
        let Some(plane) = self.with_plane(number, Option::take) else {
            return;
        };
        self.oracle.note(&format!("control at {number} is killed"));
        plane.kill();
        sleep(after).await;
        self.begin_plane(number);
    }

    async fn cut_off_plane(&self, number: usize, time: Duration) {
        self.oracle
            .note(&format!("control at {number} hears nothing of leases for {time:?}"));
        let set = |cut_off| {
            self.with_plane(number, |plane| {
                if let Some(plane) = plane {
                    plane.cut_off_from_leases(cut_off);
                }
            });
        };
        set(true);
        sleep(time).await;
        set(false);
    }

    async fn kill_gateway(&self, number: usize, after: Duration) {
        let house = self.houses.lock().unwrap_or_else(PoisonError::into_inner)[number].take();
        if house.is_some() {
            self.oracle.note(&format!("gateway {number} is killed"));
            drop(house);
            self.links[number].breaks();
            sleep(after).await;
            self.begin_gateway(number);
        }
    }

    async fn stall(&self, number: usize, time: Duration) {
        self.oracle.note(&format!(
            "nothing moves between gateway {number} and control for {time:?}"
        ));
        self.links[number].stalled.send_replace(true);
        sleep(time).await;
        self.links[number].stalled.send_replace(false);
        self.oracle
            .note(&format!("it moves again between gateway {number} and control"));
    }

    async fn suspend(&self, number: usize, project: &str) {
        let suspend = self.with_plane(number, |plane| plane.as_ref().map(|plane| plane.suspension(project)));
        self.oracle.note(&format!("{project}: somebody asks for its suspend"));
        if let Some(suspend) = suspend {
            let done = suspend.await;
            self.oracle.note(&format!("{project}: the suspend is done: {done}"));
        }
    }

    /// Sees who leads, for as long as it runs.
    async fn watch_leaders(self: Arc<Self>) {
        loop {
            let led = {
                let planes = self.planes.lock().unwrap_or_else(PoisonError::into_inner);
                planes.iter().flatten().any(Control::leads)
            };
            if !led {
                self.oracle.leaderless();
            }
            sleep(TICK).await;
        }
    }

    /// Things go wrong until it is enough; then what is under way ends.
    async fn troubles(self: &Arc<Self>) {
        let end = Instant::now() + TROUBLE_LASTS;
        let mut under_way = JoinSet::new();
        loop {
            sleep(Duration::from_millis(random_range(0..5_000))).await;
            if Instant::now() >= end {
                break;
            }
            under_way.spawn(self.clone().trouble());
        }
        while under_way.join_next().await.is_some() {}
        self.machine.heal();
        self.oracle.note("nothing goes wrong any more");
    }

    /// Nobody leads for [`AWAY`]; meanwhile servers and agents die, connections break, gateways are started anew.
    async fn control_goes(self: &Arc<Self>) {
        sleep(BEFORE).await;
        for number in 0..self.planes() {
            if let Some(plane) = self.with_plane(number, Option::take) {
                plane.kill();
            }
        }
        self.oracle.note("every control plane is killed");
        let end = Instant::now() + AWAY;
        let ran = self.oracle.commands_run();
        loop {
            sleep(Duration::from_millis(random_range(0..60_000))).await;
            if Instant::now() >= end {
                break;
            }
            let project = PROJECTS[random_range(0..PROJECTS.len())];
            match random_range(0..10) {
                0..2 => self.machine.crash(project),
                2 => self.machine.crash_agent(project),
                // One of them is left to take those who come: a new one knows of nobody.
                3 => self.kill_gateway(0, Duration::ZERO).await,
                _ => self.links[random_range(0..GATEWAYS)].breaks(),
            }
        }
        let served = self.oracle.commands_run() - ran;
        self.oracle.note(&format!("{served} commands ran without control"));
        (0..self.planes()).for_each(|number| self.begin_plane(number));
        self.oracle.note("nothing goes wrong any more");
    }

    async fn falls_asleep(&self) {
        let asleep = async {
            while !self.machine.is_asleep() {
                sleep(TICK).await;
            }
        };
        if timeout(ASLEEP_WITHIN, asleep).await.is_err() {
            self.oracle.breaks(&format!(
                "{:?} are awake although nobody needs them",
                self.machine.running()
            ));
        }
        // For whoever wakes them again.
        sleep(SUSPEND_AFTER).await;
    }

    async fn judge(&self) {
        if !self.machine.is_asleep() {
            self.oracle.breaks(&format!(
                "{:?} were woken although nobody needs them",
                self.machine.running()
            ));
        }
        self.oracle.judge_commands();
        for project in PROJECTS {
            self.oracle
                .judge_bill(project, &self.store.transitions(project).await, TICK);
        }
        if !self.store.transitions(UNTOUCHED).await.is_empty() {
            self.oracle
                .breaks("a project was woken whose clients never sent a command");
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// This and that, every few seconds of a minute.
    Anything,
    /// There is no control plane for ten minutes.
    ControlGone,
}

/// See the head of this file.
pub(crate) async fn simulate(trouble: Trouble) -> Verdict {
    let world = World::new(random_range(1..=2)).await;
    let town = Arc::new(Town {
        oracle: world.oracle.clone(),
        machine: world.machine.clone(),
        houses: world.houses.clone(),
        next_command: AtomicU64::new(1),
    });
    let mut watching = JoinSet::new();
    watching.spawn(world.clone().watch_leaders());
    let mut clients = JoinSet::new();
    for project in PROJECTS {
        for _ in 0..CLIENTS_PER_PROJECT {
            let town = town.clone();
            clients.spawn(async move { town.client(project).await });
        }
    }
    let stranger = town.clone();
    clients.spawn(async move { stranger.stranger(UNTOUCHED).await });
    match trouble {
        Trouble::Anything => world.troubles().await,
        Trouble::ControlGone => world.control_goes().await,
    }
    sleep(SETTLES_WITHIN).await;
    // Each of them leaves a fate that nobody knows behind, at most.
    clients.shutdown().await;
    let mut last = JoinSet::new();
    for project in PROJECTS {
        let town = town.clone();
        last.spawn(async move { town.finds_all_well(project).await });
    }
    let idle = last.join_all().await;
    // They stay, idle, and are in nobody's way.
    world.falls_asleep().await;
    idle.into_iter().flatten().for_each(|client| client.has_stayed());
    world.judge().await;
    world.oracle.verdict()
}
