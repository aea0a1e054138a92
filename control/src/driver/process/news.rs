//! News of one running compute: its agent's stream, held open and begun again when it breaks, becomes reports to the keeper.
//! The end of the agent is the end of the compute.

use std::{sync::Arc, time::Duration};

use control_api::agent::{AgentStatus, Phase};
use tokio::{sync::mpsc, time::Instant};
use tonic::Streaming;

use super::{
    Inner,
    agent::{self, Agent},
};
use crate::{
    driver::{Doing, Report},
    name::ProjectId,
    store::Observed,
};

/// An agent that lives and is not reached for so long hangs, or cannot be talked to any more, and its server cannot be stopped
/// cleanly then: longer than a want of descriptors or memory lasts. Its clients are served meanwhile.
const SILENCE_PATIENCE: Duration = Duration::from_secs(60);
/// Between the tries to reach it again: each looks through the machine's processes.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Between the tries to end what it has left.
const END_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Carries what an agent says to the compute's keeper, until either is gone.
pub(super) struct News {
    pub(super) inner: Arc<Inner>,
    pub(super) id: ProjectId,
    pub(super) incarnation: u64,
    pub(super) last: Observed,
    pub(super) last_doing: Doing,
    pub(super) sender: mpsc::Sender<Report>,
}

impl News {
    pub(super) async fn forward(mut self, mut stream: Streaming<AgentStatus>) {
        loop {
            let status = tokio::select! {
                () = self.sender.closed() => return,
                status = stream.message() => status,
            };
            match status {
                Ok(Some(status)) if status.phase() == Phase::Exited => return self.exited(status.exit).await,
                Ok(Some(status)) => self.observed(status).await,
                Ok(None) | Err(_) => match self.reconnect().await {
                    Some(again) => stream = again,
                    None => return self.lost().await,
                },
            }
        }
    }

    async fn observed(&mut self, status: AgentStatus) {
        let doing = status.activity.map(agent::doing).unwrap_or_default();
        if doing != self.last_doing {
            self.last_doing = doing;
            drop(self.sender.send(Report::Doing(doing)).await);
        }
        let Some(observed) = status.server.map(agent::observed) else {
            return;
        };
        if observed != self.last {
            self.last = observed.clone();
            // An error means that the keeper is not interested any more; the loop sees that.
            drop(self.sender.send(Report::Observed(observed)).await);
        }
    }

    async fn exited(self, how: String) {
        drop(self.sender.send(Report::Exited(how)).await);
    }

    /// The stream broke. `None`: the agent is gone, or is another's, or was not reached in time.
    async fn reconnect(&self) -> Option<Streaming<AgentStatus>> {
        let broke = Instant::now();
        let mut said = false;
        loop {
            match self.stream_again().await {
                Again::Stream(stream) => {
                    if said {
                        tracing::info!(project = %self.id, "the agent is reached again");
                    }
                    return Some(*stream);
                }
                Again::Another => return None,
                Again::Unreached => {}
            }
            if !self.inner.agent_lives(&self.id).await || broke.elapsed() >= SILENCE_PATIENCE {
                return None;
            }
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(project = %self.id, "an agent that lives is not reached; its server serves on, and it is tried again");
            }
            tokio::select! {
                () = self.sender.closed() => return None,
                () = tokio::time::sleep(AGAIN_AFTER) => {}
            }
        }
    }

    async fn stream_again(&self) -> Again {
        let Some(mut agent) = Agent::connect(&self.inner.paths.agent_socket(&self.id)).await else {
            return Again::Unreached;
        };
        match agent.status().await {
            Some(status) if !agent::is_of(&status, self.id.as_str(), self.incarnation) => return Again::Another,
            Some(_) => {}
            None => return Again::Unreached,
        }
        agent
            .watch()
            .await
            .map_or(Again::Unreached, |stream| Again::Stream(Box::new(stream)))
    }

    /// The agent is gone without a word, or as good as gone. Its mariadbd may live on, and nobody could stop it any more.
    async fn lost(self) {
        if self.sender.is_closed() {
            return;
        }
        let how = if self.inner.agent_lives(&self.id).await {
            "its agent did not answer any more"
        } else {
            "its agent ended"
        };
        // What may run is not told to have ended: it would be neither watched nor billed any more.
        let mut said = false;
        while let Err(error) = self.inner.end_leftovers(&self.id).await {
            if !std::mem::replace(&mut said, true) {
                tracing::error!(project = %self.id, %error, "an agent is gone and its server is not; it is tried again");
            }
            tokio::select! {
                () = self.sender.closed() => return,
                () = tokio::time::sleep(END_AGAIN_AFTER) => {}
            }
        }
        drop(self.sender.send(Report::Exited(how.into())).await);
    }
}

/// What a try to reach an agent again came to.
enum Again {
    /// What it says from here on, beginning with how things stand.
    Stream(Box<Streaming<AgentStatus>>),
    /// Who answers there is another incarnation's.
    Another,
    Unreached,
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        process::{Child, Command, Stdio},
    };

    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{Config, config::RawConfig, driver::process::ProcessDriver};

    fn news(data_dir: &Path) -> (News, mpsc::Receiver<Report>) {
        let config = Config::check(data_dir.into(), RawConfig::default()).unwrap();
        // Its directories must be open to other users, where it runs as root.
        let driver = ProcessDriver::new(&config, TaskTracker::new()).unwrap();
        let (sender, reports) = mpsc::channel(1);
        let news = News {
            inner: driver.inner.clone(),
            id: ProjectId::new("demo").unwrap(),
            incarnation: 1,
            last: Observed::default(),
            last_doing: Doing::default(),
            sender,
        };
        (news, reports)
    }

    /// Started as that project's agent is, without a socket; lives until it is killed.
    async fn agent_without_socket(news: &News, dir: &Path) -> Child {
        std::fs::write(dir.join("agent"), "read word").unwrap();
        let mut command = Command::new("sh");
        command
            .args(["agent", "run", "--spec"])
            .arg(news.inner.paths.spec(&news.id));
        let agent = command.current_dir(dir).stdin(Stdio::piped()).spawn().unwrap();
        // The kernel shows what it was started with a moment later.
        while !news.inner.agent_lives(&news.id).await {}
        agent
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_lives_and_is_not_reached_is_given_a_minute_and_one_that_is_gone_nothing() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (news, _reports) = news(dir.path());
        let mut agent = agent_without_socket(&news, dir.path()).await;
        let began = Instant::now();
        assert!(news.reconnect().await.is_none());
        let after = began.elapsed();
        assert!(
            (SILENCE_PATIENCE..SILENCE_PATIENCE + AGAIN_AFTER * 2).contains(&after),
            "{after:?}"
        );
        agent.kill().unwrap();
        agent.wait().unwrap();
        let began = Instant::now();
        assert!(news.reconnect().await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_an_agent_whose_news_nobody_wants() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (news, reports) = news(dir.path());
        let mut agent = agent_without_socket(&news, dir.path()).await;
        drop(reports);
        let began = Instant::now();
        assert!(news.reconnect().await.is_none());
        assert!(began.elapsed() < AGAIN_AFTER, "{:?}", began.elapsed());
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
}
