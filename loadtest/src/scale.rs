//! 100,000 projects: how long a control plane reads them when it begins, a page of the list over REST, how long a gateway
//! takes for its snapshot of them and how much memory it then has. Real processes on a PostgreSQL of their own; the rows are
//! put there by SQL, because making a project also makes its data directory.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::keeper::Keeper;
use harness::ports::free_port;
use harness::process::{resident_bytes, resident_bytes_max};
use harness::selkie::binary;
use harness::{Postgres, http, process};

use crate::report;

const PROJECTS: usize = 100_000;
const PAGES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(120);

/// A service that ends with its value.
struct Service {
    process: Child,
    began: Instant,
}

impl Service {
    fn start(dir: &Path, service: &str, settings: &str) -> anyhow::Result<Self> {
        let file = dir.join(format!("{service}.toml"));
        std::fs::write(&file, settings)?;
        let began = Instant::now();
        let process = Command::new(binary())
            .arg(service)
            .arg("--config")
            .arg(&file)
            .arg("--data-dir")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join(format!("{service}.log")))?)
            .spawn()?;
        Ok(Self { process, began })
    }

    /// Looks until `is` says so; the time since the start.
    async fn until(&mut self, what: &str, is: impl AsyncFn() -> bool) -> anyhow::Result<Duration> {
        while !is().await {
            ensure!(self.process.try_wait()?.is_none(), "it ended before {what}");
            ensure!(self.began.elapsed() < PATIENCE, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(self.began.elapsed())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        process::stop(self.process.id(), Duration::from_secs(20));
        let _ = self.process.wait();
    }
}

/// `None`: nobody listens there yet.
async fn get(port: u16, path: &str, key: Option<&str>) -> Option<http::Response> {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    Some(http::request("GET", &format!("http://127.0.0.1:{port}{path}"), key, None).await)
}

/// By its own counting, which knows only what was read.
async fn knows(port: u16, projects: usize) -> bool {
    let Some(metrics) = get(port, "/metrics", None).await else {
        return false;
    };
    let suspended = metrics
        .body
        .lines()
        .find_map(|line| line.strip_prefix("selkie_control_computes{state=\"suspended\"} "));
    suspended.and_then(|count| count.trim().parse().ok()) == Some(projects)
}

pub(crate) async fn measure() -> anyhow::Result<()> {
    with(PROJECTS).await
}

async fn with(projects: usize) -> anyhow::Result<()> {
    let server = tokio::task::spawn_blocking(Postgres::shared).await?;
    let (url, keeper) = (server.database(), Keeper::new("selkie-scale-"));
    let [rest, grpc, mysql, admin] = [free_port(), free_port(), free_port(), free_port()];
    let control = format!(
        "control.store.url = \"{url}\"\ncontrol.http.listen = \"127.0.0.1:{rest}\"\n\
         control.grpc.listen = \"127.0.0.1:{grpc}\"\n"
    );
    let mut first = Service::start(keeper.dir(), "control", &control)?;
    first
        .until("its tables are there", async || {
            get(rest, "/healthz", None).await.is_some()
        })
        .await?;
    drop(first);
    fill(
        server,
        url.rsplit('/').next().context("a database in the URL")?,
        projects,
    );

    let mut control = Service::start(keeper.dir(), "control", &control)?;
    let read = control
        .until("all is read", async || knows(rest, projects).await)
        .await?;
    report::times("control plane, start to all projects known", vec![read]);
    let memory = megabytes(resident_bytes_max(control.process.id()));
    report::figure("control plane, most resident memory", projects, &memory);

    let key = std::fs::read_to_string(keeper.dir().join("data/control/api.key"))?;
    let mut pages = Vec::new();
    for page in 0..PAGES {
        let after = 1_000_000 + page * 7919 % projects;
        let began = Instant::now();
        let answer = get(rest, &format!("/api/v1/projects?after=p{after}"), Some(key.trim())).await;
        pages.push(began.elapsed());
        ensure!(
            answer.is_some_and(|answer| answer.status == 200),
            "a page was not answered"
        );
    }
    report::times("REST: a page of 100 projects", pages);

    let settings = format!(
        "gateway.listen = \"127.0.0.1:{mysql}\"\ngateway.http.listen = \"127.0.0.1:{admin}\"\n\
         gateway.control.address = \"http://127.0.0.1:{grpc}\"\n"
    );
    let mut gateway = Service::start(keeper.dir(), "gateway", &settings)?;
    let ready = async || {
        get(admin, "/readyz", None)
            .await
            .is_some_and(|answer| answer.status == 200)
    };
    let took = gateway.until("it has the snapshot", ready).await?;
    report::times("gateway, start to snapshot of all projects", vec![took]);
    let memory = megabytes(resident_bytes(gateway.process.id()));
    report::figure("gateway, resident memory with it", projects, &memory);
    Ok(())
}

/// Each with a user, a database and what its server said of itself and of the user.
fn fill(server: &Postgres, database: &str, projects: usize) {
    let each = format!("FROM generate_series(1, {projects}) i");
    let id = "'p' || (1000000 + i)";
    let statements = [
        format!("INSERT INTO projects (id, size_cu, os_uid, created_ms) SELECT {id}, 0.25, 200000 + i, 1 {each}"),
        format!(
            "INSERT INTO users (project_id, name, native_sha1, caching_sha2, admin, created_ms, known) \
             SELECT {id}, 'app', decode(repeat('ab', 20), 'hex'), decode(repeat('ab', 32), 'hex'), TRUE, 1, TRUE {each}"
        ),
        format!("INSERT INTO databases (project_id, name, seen) SELECT {id}, 'app', TRUE {each}"),
        format!(
            "INSERT INTO computes (project_id, state, incarnation, since_ms) SELECT {id}, 'suspended', 1, 1 {each}"
        ),
        format!(
            "INSERT INTO servers (project_id, version, variables, databases, accounts) SELECT {id}, \
             '10.11.19-MariaDB-0+deb12u1', '{VARIABLES}', '[\"app\"]', '{ACCOUNTS}' {each}"
        ),
        "ANALYZE".to_owned(),
    ];
    for statement in statements {
        server.sql(database, &statement);
    }
}

const VARIABLES: &str = r#"{"version_comment":"Debian 12","max_allowed_packet":"16777216","sql_mode":"STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION"}"#;

/// As the agent reports the user that was made by API.
const ACCOUNTS: &str = r#"[{"user":"app","host":"%","native_sha1":["abababababababababababababababababababab"],"other_plugins":[],"locked":false,"require":"None","limits":{"queries_per_hour":0,"updates_per_hour":0,"connections_per_hour":0,"user_connections":0},"admin":true,"patterns":["app"]}]"#;

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

#[cfg(test)]
mod tests {
    /// The rows are put there by SQL of our own, which must fit the store's tables.
    #[tokio::test(flavor = "multi_thread")]
    async fn its_rows_are_what_a_control_plane_and_a_gateway_read() {
        super::with(100).await.unwrap();
    }
}
