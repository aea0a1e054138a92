//! Logins while the database sleeps and while it runs: they must cost the same, as both end at the gateway.

use std::time::Instant;

use crate::client::Client;
use crate::report;
use crate::stage::Stage;

const LOGINS: usize = 500;
const ROUNDS: usize = 4;

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let target = stage.gateway()?;
    let project = stage.demo();
    let (mut asleep, mut awake) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        project.suspend().await;
        for times in [&mut asleep, &mut awake] {
            for _ in 0..LOGINS / ROUNDS {
                let began = Instant::now();
                let client = Client::log_in(&target)?;
                times.push(began.elapsed());
                client.quit()?;
            }
            project.wake().await;
        }
    }
    report::times("connect and login, database asleep", asleep);
    report::times("connect and login, database awake", awake);
    Ok(())
}
