//! Where cases are played one after the other: a project of a Selkie that all lanes share, and databases of the same
//! names on a MariaDB that all lanes share. Lanes do not see each other.

use std::path::PathBuf;
use std::time::Duration;

use harness::process::{self, wait_for_exit};
use harness::raw::Packet;
use harness::{Direct, Endpoint, Project, Selkie, eventually};
use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::side::{Names, Outcome, Side};
use crate::statements::{START, WORLD};
use crate::step::{Act, Opening};

/// Sessions of a case at most.
pub(crate) const PLACES: usize = 2;

/// For the kernel to clear away a killed mariadbd.
const DEATH_PATIENCE: Duration = Duration::from_secs(20);

/// Idle sessions leave their connections at once, so that they do wherever a step takes its time.
const SETTINGS: &str = "gateway.park_after = \"40ms\"";

/// Long enough for that: it is the idleness itself that is waited for.
pub(crate) const IDLE: Duration = Duration::from_millis(150);

/// Of the stewards: nothing special.
const PLAIN: Opening = Opening {
    session_track: false,
    deprecate_eof: true,
    found_rows: false,
    collation: 45,
};

pub(crate) struct Lane {
    selkie: &'static Selkie,
    project: Project<'static>,
    name: String,
    pub(crate) gateway: Endpoint,
    pub(crate) direct: Endpoint,
    /// By the place of the session.
    pub(crate) names: Vec<Names>,
}

/// A connection on each side that makes and looks after the world of a case.
pub(crate) struct Stewards {
    pub(crate) gateway: Side,
    pub(crate) direct: Side,
}

async fn selkie() -> &'static Selkie {
    static SHARED: OnceCell<Selkie> = OnceCell::const_new();
    SHARED.get_or_init(async || Selkie::start_with(SETTINGS).await).await
}

async fn direct(selkie: &'static Selkie, project: &str) -> &'static Direct {
    static SHARED: OnceCell<Direct> = OnceCell::const_new();
    SHARED
        .get_or_init(async || Direct::like_compute(&selkie.data_dir(), project).await)
        .await
}

impl Lane {
    pub(crate) async fn open() -> Self {
        let selkie = selkie().await;
        // Killed servers say so at their next start, and whoever sees them go.
        for part in ["crash", "signal", "mariadbd", "InnoDB", "Aria"] {
            selkie.logs.allow(part);
        }
        let project = selkie.project("lane").await;
        let name = format!("{}_", project.id.replace('-', ""));
        let names: Vec<Names> = (0..PLACES)
            .map(|place| Names {
                home: format!("{name}home{place}"),
                other: format!("{name}other{place}"),
                lane: name.clone(),
            })
            .collect();
        for database in names.iter().flat_map(|names| [&names.home, &names.other]) {
            project.database(database).await;
        }
        let gateway = project.admin(&name, &format!("pw {name}")).await;
        project.wake().await;
        let oracle = direct(selkie, &project.id).await;
        make_account(oracle, &name, &names, &gateway.password);
        let direct = Endpoint {
            host: oracle.socket().display().to_string(),
            port: 0,
            user: name.clone(),
            ..gateway.clone()
        };
        let lane = Self {
            selkie,
            project,
            name,
            gateway,
            direct,
            names,
        };
        let mut stewards = lane.stewards().await;
        for names in &lane.names {
            stewards.both(&lane, names, WORLD).await;
        }
        stewards.leave().await;
        lane
    }

    pub(crate) async fn stewards(&self) -> Stewards {
        Stewards {
            gateway: self.steward_at_gateway().await,
            direct: Side::open(&self.direct, PLAIN, &self.names[0]).await,
        }
    }

    pub(crate) async fn steward_at_gateway(&self) -> Side {
        Side::open(&self.gateway, PLAIN, &self.names[0]).await
    }

    /// The same data on both sides, whatever the case before left.
    pub(crate) async fn start(&self, stewards: &mut Stewards) {
        for side in [&mut stewards.gateway, &mut stewards.direct] {
            self.alone(side).await;
            self.end_prepared(side).await;
        }
        for names in &self.names {
            stewards.both(self, names, START).await;
        }
    }

    /// Waits until the steward's is the lane's only connection: what the others held is given back.
    pub(crate) async fn alone(&self, steward: &mut Side) {
        let count = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}' AND ID <> CONNECTION_ID()",
            self.name
        );
        eventually("the sessions of the case are gone", async || {
            (ask(steward, &count).await == [["0"]]).then_some(())
        })
        .await;
    }

    /// Rolls back what was prepared by XA and outlived its session.
    async fn end_prepared(&self, steward: &mut Side) {
        for row in ask(steward, "XA RECOVER").await {
            let id = row.last().cloned().unwrap_or_default();
            if id.starts_with(&self.name) {
                run(steward, &format!("XA ROLLBACK '{id}'")).await;
            }
        }
    }

    /// Waits until the server has cleared away a session that is closed on our side.
    pub(crate) async fn gone(&self, steward: &mut Side, thread: u32) {
        let count = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {thread}");
        eventually("the server noticed that a session is closed", async || {
            (ask(steward, &count).await == [["0"]]).then_some(())
        })
        .await;
    }

    pub(crate) async fn suspend(&self) {
        self.project.suspend().await;
    }

    pub(crate) async fn suspend_without_waiting(&self) {
        self.project.suspend_without_waiting().await;
    }

    /// kill -9 of its mariadbd, if it runs.
    pub(crate) fn crash(&self) {
        if let Some(pid) = self.server() {
            process::signal(pid, Signal::KILL);
            assert!(wait_for_exit(pid, DEATH_PATIENCE), "mariadbd {pid} outlives kill -9");
        }
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.server().is_some()
    }

    fn server(&self) -> Option<u32> {
        let run_dir: PathBuf = self.selkie.data_dir().join("run").join(&self.project.id);
        process::running(&process::of_directory(&run_dir), "mariadbd")
            .first()
            .copied()
    }
}

fn make_account(oracle: &Direct, name: &str, names: &[Names], password: &str) {
    let mut sql =
        format!("CREATE USER `{name}`@`%` IDENTIFIED BY '{password}'; GRANT CREATE USER ON *.* TO `{name}`@`%`;");
    for database in names.iter().flat_map(|names| [&names.home, &names.other]) {
        let pattern = database.replace('_', "\\_");
        sql += &format!("CREATE DATABASE `{database}`; GRANT ALL ON `{pattern}`.* TO `{name}`@`%`;");
    }
    oracle.sql(&sql);
}

impl Stewards {
    /// Runs the same on both sides; all of it must succeed.
    async fn both(&mut self, lane: &Lane, names: &Names, statements: &[&str]) {
        for statement in statements {
            let sql = names.fill(statement);
            assert!(!sql.contains("{h}"), "{sql} in {}", lane.name);
            run(&mut self.gateway, &sql).await;
            run(&mut self.direct, &sql).await;
        }
    }

    pub(crate) async fn leave(self) {
        self.gateway.quit().await;
        self.direct.quit().await;
    }
}

/// Runs a statement that must succeed.
pub(crate) async fn run(side: &mut Side, sql: &str) -> Vec<Packet> {
    match side.run(&Act::Query(sql.into())).await {
        Outcome::Answered(packets) => {
            let failed = packets.iter().find(|packet| packet.error().is_some());
            assert!(failed.is_none(), "{sql}: {failed:?}");
            packets
        }
        other => panic!("{sql}: the connection {other:?}"),
    }
}

/// The rows of a text result; NULL is an empty text.
pub(crate) async fn ask(side: &mut Side, sql: &str) -> Vec<Vec<String>> {
    let packets = run(side, sql).await;
    let columns = usize::from(packets[0].payload[0]);
    let rows = &packets[1 + columns..packets.len() - 1];
    rows.iter().map(|row| cells(&row.payload)).collect()
}

fn cells(mut row: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let [length, rest @ ..] = row {
        let length = if *length == 0xfb { 0 } else { usize::from(*length) };
        let (cell, after) = rest.split_at(length);
        found.push(String::from_utf8_lossy(cell).into_owned());
        row = after;
    }
    found
}
