//! News of one running compute: its agent's stream, held open and begun again when it breaks, becomes reports to the keeper.
//! The end of the agent is the end of the compute.

use std::sync::Arc;

use control_api::agent::{AgentStatus, Phase};
use tokio::sync::mpsc;
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

    /// The stream broke although the agent is still there.
    async fn reconnect(&self) -> Option<Streaming<AgentStatus>> {
        if !self.inner.serves(&self.id, self.incarnation).await {
            return None;
        }
        Agent::connect(&self.inner.paths.agent_socket(&self.id))
            .await?
            .watch()
            .await
    }

    /// The agent is gone without a word. Its mariadbd may live on, and nobody could stop it any more.
    async fn lost(self) {
        if self.sender.is_closed() {
            return;
        }
        if let Err(error) = self.inner.end_leftovers(&self.id).await {
            tracing::error!(project = %self.id, %error, "an agent is gone and its server is not");
        }
        drop(self.sender.send(Report::Exited("its agent ended".into())).await);
    }
}
