//! The agent's gRPC service: what it knows stands in a watch channel; what is asked of it goes to the one that runs the
//! server, by a channel of one.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use control_api::agent as proto;
use control_api::incoming::patient;
use futures::{Stream, StreamExt};
use proto::agent_server::{Agent, AgentServer};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::process;

/// What control asks for.
pub(crate) enum Asked {
    Apply {
        request: proto::ApplyRequest,
        answer: oneshot::Sender<Result<proto::Server, Status>>,
    },
    Settings {
        answer: oneshot::Sender<Result<BTreeMap<String, String>, Status>>,
    },
    Quiesce {
        forced: bool,
        patience: Duration,
        answer: oneshot::Sender<Result<String, Status>>,
    },
    Resume {
        answer: oneshot::Sender<Result<(), Status>>,
    },
    Look {
        answer: oneshot::Sender<Result<proto::Server, Status>>,
    },
    Stop {
        patience: Option<Duration>,
    },
}

/// Control asks for one thing at a time; a few more may wait.
pub(crate) const ASKED_MAX: usize = 8;

struct Service {
    status: watch::Receiver<proto::AgentStatus>,
    asks: mpsc::Sender<Asked>,
}

/// Serves until `over`; then answers what was asked before and ends.
pub(crate) async fn serve(
    listener: UnixListener,
    status: watch::Receiver<proto::AgentStatus>,
    asks: mpsc::Sender<Asked>,
    over: CancellationToken,
) {
    let service = AgentServer::new(Service { status, asks });
    let served = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(
            patient("control planes", UnixListenerStream::new(listener)),
            over.cancelled(),
        );
    if let Err(error) = served.await {
        tracing::error!(%error, "the agent's socket");
    }
}

/// A socket for control only.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, Error> {
    process::remove(path)?;
    let bound = || -> std::io::Result<UnixListener> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(listener)
    };
    bound().map_err(Error::system("cannot listen on", path))
}

impl Service {
    /// Hands it to the one that runs the server and waits for the answer; the caller's deadline ends the wait.
    async fn ask<T>(&self, asked: impl FnOnce(oneshot::Sender<Result<T, Status>>) -> Asked) -> Result<T, Status> {
        let ended = || Status::unavailable("the compute has ended");
        let (answer, answered) = oneshot::channel();
        self.asks.send(asked(answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

#[tonic::async_trait]
impl Agent for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::AgentStatus, Status>> + Send>>;

    async fn status(&self, _: Request<proto::StatusRequest>) -> Result<Response<proto::AgentStatus>, Status> {
        Ok(Response::new(self.status.borrow().clone()))
    }

    async fn watch(&self, _: Request<proto::StatusRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut ended = false;
        // Ends after the status that says EXITED.
        let statuses = WatchStream::new(self.status.clone()).take_while(move |status| {
            let goes_on = !ended;
            ended = status.phase() == proto::Phase::Exited;
            std::future::ready(goes_on)
        });
        Ok(Response::new(Box::pin(statuses.map(Ok))))
    }

    async fn apply(&self, request: Request<proto::ApplyRequest>) -> Result<Response<proto::ApplyReply>, Status> {
        let request = request.into_inner();
        let server = self.ask(|answer| Asked::Apply { request, answer }).await?;
        Ok(Response::new(proto::ApplyReply { server: Some(server) }))
    }

    async fn quiesce(&self, request: Request<proto::QuiesceRequest>) -> Result<Response<proto::QuiesceReply>, Status> {
        let proto::QuiesceRequest { forced, patience_ms } = request.into_inner();
        let patience = Duration::from_millis(patience_ms.into());
        let asked = |answer| Asked::Quiesce {
            forced,
            patience,
            answer,
        };
        let busy = self.ask(asked).await?;
        Ok(Response::new(proto::QuiesceReply { busy }))
    }

    async fn resume(&self, _: Request<proto::ResumeRequest>) -> Result<Response<proto::ResumeReply>, Status> {
        self.ask(|answer| Asked::Resume { answer }).await?;
        Ok(Response::new(proto::ResumeReply {}))
    }

    async fn settings(&self, _: Request<proto::SettingsRequest>) -> Result<Response<proto::SettingsReply>, Status> {
        let values = self.ask(|answer| Asked::Settings { answer }).await?;
        Ok(Response::new(proto::SettingsReply {
            values: values.into_iter().collect(),
        }))
    }

    async fn look(&self, _: Request<proto::LookRequest>) -> Result<Response<proto::LookReply>, Status> {
        let server = self.ask(|answer| Asked::Look { answer }).await?;
        Ok(Response::new(proto::LookReply { server: Some(server) }))
    }

    async fn stop(&self, request: Request<proto::StopRequest>) -> Result<Response<proto::AgentStatus>, Status> {
        let patience = Duration::from_millis(request.into_inner().timeout_ms.into());
        let asked = Asked::Stop {
            patience: (!patience.is_zero()).then_some(patience),
        };
        // If nobody takes it, the server has ended already.
        let _ = self.asks.send(asked).await;
        let mut status = self.status.clone();
        let exited = status.wait_for(|status| status.phase() == proto::Phase::Exited).await;
        exited
            .map(|status| Response::new(status.clone()))
            .map_err(|_| Status::unavailable("the agent has ended"))
    }
}
