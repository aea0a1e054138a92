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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proto::agent_client::AgentClient;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::time::timeout;
    use tonic::Code;

    use super::*;

    /// Guards against hanging.
    const SOON: Duration = Duration::from_secs(20);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    async fn client(socket: &Path) -> AgentClient<tonic::transport::Channel> {
        AgentClient::connect(format!("unix:{}", socket.display()))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn whatever_comes_in_on_its_socket_control_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("a.sock");
        let listener = listen(&socket).unwrap();
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "for control only");
        let told = proto::AgentStatus {
            incarnation: 7,
            ..Default::default()
        };
        let (_status, status) = watch::channel(told);
        let (asks, asked) = mpsc::channel(ASKED_MAX);
        let over = CancellationToken::new();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(serve(listener, status, asks, over.clone()));
        let mut control = client(&socket).await;
        let noise: Vec<u8> = (0..20_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let begun = |more: &[u8]| [PREFACE, more].concat();
        for (what, bytes) in [
            ("nothing", vec![]),
            ("HTTP/1", b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n".to_vec()),
            ("noise", noise.clone()),
            ("half a preface", PREFACE[..11].to_vec()),
            ("noise for frames", begun(&noise)),
            ("half a frame", begun(b"\0\0\x64\x01\x04\0\0\0\x01\x82")),
            ("a frame of 16 MiB", begun(b"\xff\xff\xff\0\0\0\0\0\x01")),
            ("fields that are none", begun(b"\0\0\x03\x01\x04\0\0\0\x01\xff\xff\xff")),
            ("data of no stream", begun(b"\0\0\x01\0\0\0\0\0\x07x")),
        ] {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            let ends = async {
                // The other side may close before all is sent.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            };
            timeout(SOON, ends)
                .await
                .unwrap_or_else(|_| panic!("{what}: the connection stays"));
        }
        // Beyond what it takes in one message, 4 MiB.
        let huge = proto::ApplyRequest {
            settings: [("sql_mode".to_owned(), "x".repeat(5 << 20))].into(),
            ..Default::default()
        };
        let refused = timeout(SOON, control.apply(huge)).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        assert!(asked.is_empty(), "nobody was asked for anything");
        let status = timeout(SOON, control.status(proto::StatusRequest {}))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status.into_inner().incarnation, 7);
        drop(control);
        over.cancel();
        timeout(SOON, serving.join_next()).await.unwrap().unwrap().unwrap();
    }
}
