//! What gateways call: watch, wake, activity. Every call proves itself with the token of the authenticated local channel
//! before it is looked at, because a watch hands out verifiers and secrets; over the network by a certificate, too.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use control_api::control::{
    AccountsChangedReply, AccountsChangedRequest, ActivityReply, ActivityReport, UsageReply, UsageReport, WakeCause,
    WakeReply, WakeRequest, WatchEvent, WatchRequest,
    gateways_server::{Gateways, GatewaysServer},
};
use control_api::incoming::patient;
use control_api::rest::{WakeSource, WokenBy};
use futures::{Stream, StreamExt};
use subtle::ConstantTimeEq;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    service::interceptor::InterceptedService,
    transport::server::{Connected, ServerTlsConfig, TcpIncoming},
};

use crate::{
    activity::Activity,
    compute::{Computes, WakeError},
    name::ProjectId,
    publish::Publisher,
    secret::key_hash,
    usage::Usage,
};

mod prompt;
#[cfg(test)]
mod tests;
mod watch;

use prompt::Prompt;

/// The largest message of a gateway: an activity report on very many projects.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A connection over which nothing comes is probed after so long, and given up when as long again brings no answer: a gateway
/// whose machine is gone says no goodbye, and until it is known to be gone every suspend waits for it. It reports every 2 s.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Where a caller does not say how long it waits.
pub(crate) const WAKE_PATIENCE: Duration = Duration::from_secs(60);

/// See the head of this file.
#[derive(Clone)]
pub(crate) struct GatewayService {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) computes: Arc<Computes>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) usage: Arc<Usage>,
    /// Owns what runs beside a call.
    pub(crate) tasks: TaskTracker,
}

/// Serves until `end` fires and the calls that run then have ended.
pub(crate) async fn serve(
    gateways: Arc<impl Gateways>,
    listener: TcpListener,
    tls: Option<ServerTlsConfig>,
    token: &str,
    end: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    // The builder's own option does not reach connections that it is given; without it an answer to a wake waited for
    // the client's delayed acknowledgement, 40 ms.
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    serve_on(gateways, connections, tls, Some(KEEPALIVE), token, end).await
}

/// The same on whatever connections come; `keepalive` is for those over which silence may be an end.
pub(crate) async fn serve_on<C>(
    gateways: Arc<impl Gateways>,
    connections: impl Stream<Item = io::Result<C>>,
    tls: Option<ServerTlsConfig>,
    keepalive: Option<Duration>,
    token: &str,
    end: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let expected = key_hash(token);
    let gateways = GatewaysServer::from_arc(gateways).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let authenticated = InterceptedService::new(gateways, move |request: Request<()>| {
        check_token(request.metadata(), &expected).map(|()| request)
    });
    let mut server = tonic::transport::Server::builder()
        .http2_keepalive_interval(keepalive)
        .http2_keepalive_timeout(keepalive);
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let connections = patient("gateways", connections).map(|connection| connection.map(Prompt::new));
    server
        .add_service(authenticated)
        .serve_with_incoming_shutdown(connections, end.cancelled_owned())
        .await
}

/// Compares hashes in constant time, so that neither length nor prefix of the token can be felt out.
fn check_token(metadata: &MetadataMap, expected: &[u8; 32]) -> Result<(), Status> {
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|header| header.strip_prefix("Bearer "))
        .unwrap_or_default();
    if bool::from(key_hash(token).ct_eq(expected)) {
        Ok(())
    } else {
        Err(Status::unauthenticated(
            "the gateway's token is missing or not the one of this control plane",
        ))
    }
}

#[tonic::async_trait]
impl Gateways for GatewayService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        watch::begin(&self.publisher, &self.activity, request.into_inner(), &self.tasks)
            .await
            .map(Response::new)
    }

    async fn wake(&self, request: Request<WakeRequest>) -> Result<Response<WakeReply>, Status> {
        let request = request.into_inner();
        // A name that is no project's id cannot be a project.
        let id = ProjectId::new(&request.project).map_err(|_| wake_status(&WakeError::NotFound))?;
        let unreachable = (request.unreachable_incarnation != 0).then_some(request.unreachable_incarnation);
        let patience = match request.deadline_ms {
            0 => WAKE_PATIENCE,
            ms => Duration::from_millis(ms.into()),
        };
        let cause = request.cause.unwrap_or_default();
        tracing::debug!(
            project = %id, user = cause.user, client = cause.client_address, program = cause.program_name,
            command = cause.command, unreachable, "a gateway asks for a compute"
        );
        let woken = self
            .computes
            .wake_for(&id, unreachable, patience, woken_by(cause))
            .await
            .map_err(|error| wake_status(&error))?;
        Ok(Response::new(WakeReply {
            compute: woken.project.compute.clone(),
            server: woken.project.server.clone(),
            started_ms: woken.executed_ms,
            ready_ms: woken.ready_ms,
        }))
    }

    async fn report_activity(&self, request: Request<ActivityReport>) -> Result<Response<ActivityReply>, Status> {
        let ActivityReport { gateway_id, projects } = request.into_inner();
        self.activity.report(&gateway_id, projects);
        Ok(Response::new(ActivityReply {}))
    }

    async fn report_usage(&self, request: Request<UsageReport>) -> Result<Response<UsageReply>, Status> {
        let counted = self.usage.report(request.into_inner()).await;
        counted.map_err(|error| {
            // Nothing is lost: it stays in the gateway's spool. As after a change of the leader, mostly.
            tracing::info!(%error, "usage of a gateway is not written down now; it comes again");
            Status::unavailable("usage cannot be written down now")
        })?;
        Ok(Response::new(UsageReply {}))
    }

    async fn accounts_changed(
        &self,
        request: Request<AccountsChangedRequest>,
    ) -> Result<Response<AccountsChangedReply>, Status> {
        let request = request.into_inner();
        let unknown = || wake_status(&WakeError::NotFound);
        let id = ProjectId::new(&request.project).map_err(|_| unknown())?;
        self.computes.look(&id).await.map_err(|error| wake_status(&error))?;
        let (project, version) = self.publisher.versioned(&id).ok_or_else(unknown)?;
        Ok(Response::new(AccountsChangedReply {
            project: Some((*project).clone()),
            version,
        }))
    }
}

/// A client says what it likes of itself; that much of it is kept.
const TOLD_CHARS_MAX: usize = 256;

fn woken_by(cause: WakeCause) -> WokenBy {
    let kept = |text: String| (!text.is_empty()).then(|| text.chars().take(TOLD_CHARS_MAX).collect());
    let WakeCause {
        user,
        client_address,
        program_name,
        command,
    } = cause;
    WokenBy {
        source: WakeSource::Client,
        user: kept(user),
        client_address: kept(client_address),
        program_name: kept(program_name),
        command: kept(command),
        key: None,
    }
}

fn wake_status(error: &WakeError) -> Status {
    match error {
        WakeError::NotFound => Status::not_found("no such project"),
        WakeError::CannotStart(reason) => Status::failed_precondition(reason.clone()),
        WakeError::Unavailable(reason) => Status::unavailable(*reason),
        WakeError::Deadline => Status::deadline_exceeded(error.to_string()),
    }
}
