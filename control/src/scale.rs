//! Figures for 100,000 projects of which 500 are awake, on both stores; run on request:
//!
//! ```text
//! cargo test --release -p control scale -- --ignored --nocapture
//! ```

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use harness::Postgres;
use tokio::time::Instant;

use crate::{
    Config, RawConfig,
    compute::{Computes, Parts},
    config::StoreConfig,
    metrics::Metrics,
    name::ProjectId,
    publish::Publisher,
    store::{self, Store},
    testing::FakeDriver,
};

const PROJECTS: u32 = 100_000;
const AWAKE: u32 = 500;
const ROUNDS: u32 = 200;
const MINUTE: Duration = Duration::from_secs(60);

/// Statements that both databases understand. Every project has a user, a database and what its server said.
fn filling(bytes: impl Fn(usize) -> String) -> Vec<String> {
    let all = format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PROJECTS})");
    let id = "'p' || CAST(1000000 + i AS TEXT)";
    vec![
        format!("{all} INSERT INTO projects (id, size_cu, os_uid, created_ms) SELECT {id}, 0.25, 200000 + i, 1 FROM n"),
        format!(
            "{all} INSERT INTO users (project_id, name, native_sha1, caching_sha2, admin, created_ms) \
             SELECT {id}, 'app', {}, {}, TRUE, 1 FROM n",
            bytes(20),
            bytes(32)
        ),
        format!("{all} INSERT INTO databases (project_id, name, seen) SELECT {id}, 'app', TRUE FROM n"),
        format!(
            "{all} INSERT INTO computes (project_id, state, incarnation, since_ms) \
             SELECT {id}, CASE WHEN i <= {AWAKE} THEN 'ready' ELSE 'suspended' END, 1, 1 FROM n"
        ),
        format!(
            "{all} INSERT INTO servers (project_id, version, variables, databases, accounts) SELECT {id}, \
             '10.11.19-MariaDB-0+deb12u1', '{{\"version_comment\":\"Debian 12\",\"max_allowed_packet\":\"16777216\"}}', \
             '[\"app\"]', '[]' FROM n"
        ),
    ]
}

fn project(number: u32) -> ProjectId {
    ProjectId::new(&format!("p{}", 1_000_000 + number)).unwrap()
}

/// Measures `ROUNDS` calls spread over all projects.
async fn measure<'a>(what: &str, call: impl Fn(u32) -> BoxFuture<'a, ()>) {
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let number = AWAKE + 1 + (round * 7919) % (PROJECTS - AWAKE);
        let began = Instant::now();
        call(number).await;
        times.push(began.elapsed());
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let at = |share: usize| ms(times[(times.len() - 1) * share / 100]);
    println!(
        "  {what:<42} p50 {:8.3} ms   p99 {:8.3} ms   max {:8.3} ms",
        at(50),
        at(99),
        at(100)
    );
}

async fn figures(name: &str, store: Arc<dyn Store>) {
    println!("{name}: {PROJECTS} projects, {AWAKE} awake");
    let publisher = Arc::new(Publisher::new());
    for what in ["all sealed after an upgrade", "nothing left to be sealed"] {
        let began = Instant::now();
        store.seal().await.unwrap();
        println!("  {what:<42} {:8.3} s", began.elapsed().as_secs_f64());
    }
    let began = Instant::now();
    let mut after = None;
    loop {
        let page = store.whole_projects(after.as_deref(), 1000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.record.id.to_string());
        for whole in page {
            publisher.put(whole);
        }
    }
    println!(
        "  {:<42} {:8.3} s",
        "all read when a control plane begins",
        began.elapsed().as_secs_f64()
    );
    let driver = Arc::new(FakeDriver::default());
    let computes = Computes::new(Parts::new(
        store.clone(),
        driver,
        publisher.clone(),
        Arc::default(),
        Metrics::new().unwrap(),
    ));

    measure("list page of 100", |number| {
        let (store, after) = (store.clone(), project(number));
        Box::pin(async move { drop(store.projects(Some(after.as_str()), 101).await.unwrap()) })
    })
    .await;
    measure("one project", |number| {
        let store = store.clone();
        Box::pin(async move { drop(store.whole_project(&project(number)).await.unwrap()) })
    })
    .await;
    measure("wake look-up: incarnation taken, durable", |number| {
        let store = store.clone();
        Box::pin(async move { drop(store.begin_start(&project(number), 2).await.unwrap()) })
    })
    .await;
    measure("wake without mariadbd (100 ms of it faked)", |number| {
        let computes = computes.clone();
        Box::pin(async move { drop(computes.wake(&project(number), None, MINUTE).await.unwrap()) })
    })
    .await;
    measure("wake of one that is awake", |number| {
        let computes = computes.clone();
        Box::pin(async move { drop(computes.wake(&project(number), None, MINUTE).await.unwrap()) })
    })
    .await;
    measure("counting computes for /metrics", |_| {
        let publisher = publisher.clone();
        Box::pin(async move { drop(publisher.count()) })
    })
    .await;
    computes.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: two minutes, prints figures"]
async fn scale_of_both_stores() {
    let dir = tempfile::tempdir().unwrap();
    let (file, keys) = (dir.path().join("control.sqlite"), dir.path().join("store.keys"));
    let sqlite = store::open(&StoreConfig::Sqlite, &file, &keys).await.unwrap();
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display()))
        .await
        .unwrap();
    for statement in filling(|bytes| format!("X'{}'", "ab".repeat(bytes))) {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;
    figures("SQLite", sqlite).await;

    let server = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
    let url = server.database();
    let config = RawConfig {
        store: serde_json::from_value(serde_json::json!({ "url": url })).unwrap(),
        ..RawConfig::default()
    };
    let config = Config::check(dir.path().into(), config).unwrap();
    let postgres = store::open(&config.store, &file, &keys).await.unwrap();
    for statement in filling(|bytes| format!("decode('{}', 'hex')", "ab".repeat(bytes))) {
        server.sql(url.rsplit('/').next().unwrap(), &statement);
    }
    server.sql(url.rsplit('/').next().unwrap(), "ANALYZE");
    figures("PostgreSQL (fsync off)", postgres).await;
}
