//! 500 clients of one sleeping project send their first command at the same moment.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use harness::Raw;
use harness::raw::Kind;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::report;
use crate::stage::Stage;

const CLIENTS: usize = 500;
const ROUNDS: usize = 5;

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let project = stage.demo();
    let mut times = Vec::new();
    let (mut starts, mut errors) = (0, 0);
    for _ in 0..ROUNDS {
        project.suspend().await;
        let before = project.compute().await.incarnation;
        let begin = Arc::new(Barrier::new(CLIENTS));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let mut raw = Raw::login(&project.endpoint).await;
            let begin = Arc::clone(&begin);
            clients.spawn(async move {
                begin.wait().await;
                let began = Instant::now();
                raw.command(3, b"SELECT 1").await;
                let response = raw.response(Kind::Query).await;
                (response.error(), began.elapsed(), raw)
            });
        }
        // All are kept until the last has its answer, as clients with a pool are.
        for (error, took, _) in clients.join_all().await {
            errors += usize::from(error.is_some());
            times.push(took);
        }
        starts += project.compute().await.incarnation - before;
    }
    ensure!(starts == ROUNDS as u64, "{starts} starts in {ROUNDS} storms");
    report::times(
        &format!("storm of {CLIENTS} clients, {errors} errors, one start each"),
        times,
    );
    Ok(())
}
