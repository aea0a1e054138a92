//! The desk that every call comes to. A control plane that leads answers by itself. One that stands by hands the call to
//! the leader, so that REST and gateways may use any of them, and waits for the next leader where there is none; what it
//! can read by itself it answers when no leader does.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use control_api::control::{
    AccountsChangedReply, AccountsChangedRequest, ActivityReply, ActivityReport, UsageReply, UsageReport, WakeReply,
    WakeRequest, WatchEvent, WatchRequest, gateways_client::GatewaysClient, gateways_server::Gateways,
};
use futures::{Stream, StreamExt};
use tokio::{sync::watch, time::Instant};
use tonic::{
    Code, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tower::ServiceExt;

use crate::{
    grpc::{GatewayService, MESSAGE_BYTES_MAX, WAKE_PATIENCE},
    rest::{Problem, faulty, whole_body},
    store::{Fault, Holder},
};

/// For the next leader: longer than a takeover takes.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
/// On the way to a leader, which is near.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// A read that the leader has not answered by then is answered from the store.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// The longest that a change takes: a wake's own limit and a stop.
const CHANGE_PATIENCE: Duration = Duration::from_secs(660);
/// The largest answer that is handed on: a page of 1,000 projects is a few hundred KiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Until the leader that does not answer is known to be gone.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A leader that is frozen holds its connections open.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Set on what is handed on, so that two who take each other for the leader do not play ball.
const RELAYED: HeaderName = HeaderName::from_static("x-selkie-relayed");

/// What this control plane serves while it leads.
#[derive(Clone)]
pub(crate) struct Led {
    pub(crate) rest: Router,
    pub(crate) gateways: GatewayService,
}

/// See the head of this file.
pub(crate) struct Desk {
    led: watch::Sender<Option<Led>>,
    /// Who leads, while this one does not.
    pub(crate) leader: watch::Sender<Option<Holder>>,
    /// What is wrong with the store, while nobody can lead for its sake.
    pub(crate) fault: watch::Sender<Option<Fault>>,
    /// Answers from the store alone.
    own: Router,
    http: reqwest::Client,
    token: MetadataValue<Ascii>,
    /// What gRPC between control planes is proven with, where it goes over the network.
    tls: Option<ClientTlsConfig>,
    channel: Mutex<Option<(Holder, Channel)>>,
}

enum Place {
    Here(Box<Led>),
    There(Holder),
}

impl Desk {
    /// `own` is the REST of one that stands by; `token` is the gateways'; `tls` is for the leader's gRPC.
    pub(crate) fn new(own: Router, token: &str, tls: Option<ClientTlsConfig>) -> Result<Self, std::io::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            // A kept connection may end with its leader just when it is used: then nobody knows what was heard of a change.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(std::io::Error::other)?;
        let mut token: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(std::io::Error::other)?;
        token.set_sensitive(true);
        Ok(Self {
            led: watch::Sender::new(None),
            leader: watch::Sender::new(None),
            fault: watch::Sender::new(None),
            own,
            http,
            token,
            tls,
            channel: Mutex::new(None),
        })
    }

    /// From now on calls are answered here, or (`None`) by another.
    pub(crate) fn serve(&self, led: Option<Led>) {
        self.led.send_replace(led);
    }

    /// Who answers now; waits until somebody does. Cancel-safe.
    async fn place(&self, deadline: Instant) -> Option<Place> {
        let (mut led, mut leader) = (self.led.subscribe(), self.leader.subscribe());
        loop {
            if let Some(led) = led.borrow_and_update().clone() {
                return Some(Place::Here(Box::new(led)));
            }
            if let Some(holder) = leader.borrow_and_update().clone() {
                return Some(Place::There(holder));
            }
            tokio::select! {
                _ = led.changed() => {}
                _ = leader.changed() => {}
                () = tokio::time::sleep_until(deadline) => return None,
            }
        }
    }
}

/// All of REST.
pub(crate) fn rest(desk: Arc<Desk>) -> Router {
    Router::new().fallback(answer).with_state(desk)
}

async fn answer(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let led = desk.led.borrow().clone();
    if let Some(led) = led {
        return pass(led.rest, request).await;
    }
    if !request.uri().path().starts_with("/api/") {
        return pass(desk.own.clone(), request).await;
    }
    if request.headers().contains_key(RELAYED) {
        return no_leader("this control plane does not lead").into_response();
    }
    let (parts, body) = request.into_parts();
    let body = match whole_body(body).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    if parts.method == Method::GET || parts.method == Method::HEAD {
        return desk.read(Request::from_parts(parts, Body::from(body))).await;
    }
    desk.change(
        &parts.method,
        parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        parts.headers.clone(),
        body,
    )
    .await
    .unwrap_or_else(IntoResponse::into_response)
}

async fn pass(router: Router, request: Request) -> Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn no_leader(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_leader", "try again", detail)
}

enum Failed {
    /// It has not heard of the request.
    Unreached,
    /// It may have heard of it.
    Unknown(reqwest::Error),
}

impl Desk {
    /// The leader knows more (who keeps a compute awake); the store knows enough.
    async fn read(&self, request: Request) -> Response {
        let leader = self.leader.borrow().clone();
        if let Some(leader) = leader {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let sent = self.send(
                &leader,
                request.method(),
                path,
                request.headers().clone(),
                Bytes::new(),
                READ_PATIENCE,
            );
            match sent.await {
                Ok(response) if response.status() != StatusCode::SERVICE_UNAVAILABLE => return response,
                _ => tracing::debug!(leader = leader.http, "read from the store instead"),
            }
        }
        pass(self.own.clone(), request).await
    }

    /// A change is handed on once: it is tried again only where the leader has not heard of it.
    async fn change(&self, method: &Method, path: &str, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
        let deadline = Instant::now() + LEADER_PATIENCE;
        loop {
            let place = tokio::select! {
                biased;
                place = self.place(deadline) => place,
                fault = self.store_takes_no_changes() => return Err(faulty(fault)),
            };
            let leader = match place {
                None => return Err(self.nobody_leads()),
                Some(Place::There(leader)) => leader,
                Some(Place::Here(led)) => {
                    let mut request = Request::builder().method(method).uri(path).body(Body::from(body));
                    if let Ok(request) = &mut request {
                        *request.headers_mut() = headers;
                    }
                    return match request {
                        Ok(request) => Ok(pass(led.rest, request).await),
                        Err(error) => Err(crate::rest::internal(&error)),
                    };
                }
            };
            match self
                .send(&leader, method, path, headers.clone(), body.clone(), CHANGE_PATIENCE)
                .await
            {
                Ok(response) => return Ok(response),
                Err(Failed::Unreached) if Instant::now() < deadline => tokio::time::sleep(AGAIN_AFTER).await,
                Err(Failed::Unreached) => return Err(no_leader("the control plane that leads cannot be reached")),
                Err(Failed::Unknown(error)) => {
                    tracing::warn!(%error, leader = leader.http, "the leader went away during a change");
                    return Err(no_leader(
                        "the leading control plane went away while it was at it: look whether it was done",
                    ));
                }
            }
        }
    }

    fn nobody_leads(&self) -> Problem {
        let fault = *self.fault.borrow();
        fault.map_or_else(|| no_leader("no control plane leads at the moment"), faulty)
    }

    /// Completes when nobody can come to lead, by what waiting seldom mends. Cancel-safe.
    async fn store_takes_no_changes(&self) -> Fault {
        let mut fault = self.fault.subscribe();
        let stays = |fault: &Option<Fault>| fault.is_some_and(|fault| fault != Fault::Away);
        let seen = fault.wait_for(stays).await.ok().and_then(|fault| *fault);
        match seen {
            Some(fault) => fault,
            // The sender lives as long as this.
            None => std::future::pending().await,
        }
    }

    async fn send(
        &self,
        leader: &Holder,
        method: &Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Result<Response, Failed> {
        for of_this_hop in [
            header::HOST,
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::TE,
        ] {
            headers.remove(of_this_hop);
        }
        headers.insert(RELAYED, header::HeaderValue::from_static("1"));
        let request = self
            .http
            .request(method.clone(), format!("http://{}{path}", leader.http))
            .headers(headers)
            .timeout(patience)
            .body(body);
        let failed = |error: reqwest::Error| {
            if error.is_connect() {
                Failed::Unreached
            } else {
                Failed::Unknown(error)
            }
        };
        let mut answer = request.send().await.map_err(failed)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        for (name, value) in answer.headers() {
            if ![header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
                response.headers_mut().append(name, value.clone());
            }
        }
        let mut whole = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(Failed::Unknown)? {
            whole.extend_from_slice(&chunk);
            if whole.len() > ANSWER_BYTES_MAX {
                return Ok(
                    crate::rest::internal(&"an answer of the leader is too large to be handed on").into_response(),
                );
            }
        }
        *response.body_mut() = Body::from(whole);
        Ok(response)
    }

    /// A connection to the leader, kept for as long as it leads.
    async fn channel(&self, leader: &Holder) -> Result<Channel, tonic::transport::Error> {
        {
            let kept = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((holder, channel)) = &*kept
                && holder == leader
            {
                return Ok(channel.clone());
            }
        }
        let mut endpoint = match &self.tls {
            Some(tls) => Endpoint::from_shared(format!("https://{}", leader.grpc))?.tls_config(tls.clone())?,
            None => Endpoint::from_shared(format!("http://{}", leader.grpc))?,
        };
        endpoint = endpoint
            .connect_timeout(CONNECT_PATIENCE)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await?;
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some((leader.clone(), channel.clone()));
        Ok(channel)
    }

    fn forget_channel(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn call<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    /// This one, or a client of the leader that could be reached.
    async fn gateways(&self, deadline: Instant) -> Result<Server, Status> {
        loop {
            let leader = match self.place(deadline).await {
                None => return Err(Status::unavailable("no control plane leads at the moment")),
                Some(Place::Here(led)) => return Ok(Server::Here(led.gateways)),
                Some(Place::There(leader)) => leader,
            };
            match self.channel(&leader).await {
                Ok(channel) => {
                    let client = GatewaysClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
                    return Ok(Server::There(client));
                }
                Err(_) if Instant::now() < deadline => tokio::time::sleep(AGAIN_AFTER).await,
                Err(_) => return Err(Status::unavailable("the control plane that leads cannot be reached")),
            }
        }
    }
}

enum Server {
    Here(GatewayService),
    There(GatewaysClient<Channel>),
}

/// The connection broke; a status that the leader sent has no cause of ours.
fn is_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

#[tonic::async_trait]
impl Gateways for Desk {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(
        &self,
        request: tonic::Request<Streaming<WatchRequest>>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let mut client = match self.gateways(Instant::now() + LEADER_PATIENCE).await? {
            Server::Here(service) => return service.watch(request).await,
            Server::There(client) => client,
        };
        let said = tokio_stream::StreamExt::map_while(request.into_inner(), Result::ok);
        let events = client
            .watch(self.call(said))
            .await
            .inspect_err(|_| self.forget_channel())?;
        // When this one comes to lead, the gateway must come back and be served here: the old leader may be frozen.
        let (mut led, mut leader) = (self.led.subscribe(), self.leader.subscribe());
        leader.borrow_and_update();
        led.borrow_and_update();
        let changed = async move {
            tokio::select! {
                _ = led.changed() => {}
                _ = leader.changed() => {}
            }
        };
        let last = futures::stream::once(async { Err(Status::unavailable("another control plane leads: begin anew")) });
        Ok(tonic::Response::new(Box::pin(
            events.into_inner().take_until(Box::pin(changed)).chain(last),
        )))
    }

    /// A wake that the leader's end interrupts goes on with the next one: asking twice starts nothing twice.
    async fn wake(&self, request: tonic::Request<WakeRequest>) -> Result<tonic::Response<WakeReply>, Status> {
        let message = request.into_inner();
        let patience = match message.deadline_ms {
            0 => WAKE_PATIENCE,
            ms => Duration::from_millis(ms.into()),
        };
        let deadline = Instant::now() + patience;
        loop {
            let mut client = match self.gateways(deadline.min(Instant::now() + LEADER_PATIENCE)).await? {
                Server::Here(service) => return service.wake(tonic::Request::new(message)).await,
                Server::There(client) => client,
            };
            let mut call = self.call(message.clone());
            call.set_timeout(deadline.saturating_duration_since(Instant::now()));
            match client.wake(call).await {
                Err(status) if is_broken(&status) && Instant::now() + AGAIN_AFTER < deadline => {
                    self.forget_channel();
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(status) if status.code() == Code::Cancelled => {
                    return Err(Status::deadline_exceeded("no answer in time"));
                }
                answer => return answer,
            }
        }
    }

    async fn report_activity(
        &self,
        request: tonic::Request<ActivityReport>,
    ) -> Result<tonic::Response<ActivityReply>, Status> {
        match self.gateways(Instant::now() + CONNECT_PATIENCE).await? {
            Server::Here(service) => service.report_activity(request).await,
            Server::There(mut client) => {
                let mut call = self.call(request.into_inner());
                call.set_timeout(READ_PATIENCE);
                client.report_activity(call).await.inspect_err(|status| {
                    if is_broken(status) {
                        self.forget_channel();
                    }
                })
            }
        }
    }

    async fn report_usage(&self, request: tonic::Request<UsageReport>) -> Result<tonic::Response<UsageReply>, Status> {
        match self.gateways(Instant::now() + CONNECT_PATIENCE).await? {
            Server::Here(service) => service.report_usage(request).await,
            Server::There(mut client) => {
                let mut call = self.call(request.into_inner());
                call.set_timeout(READ_PATIENCE);
                client.report_usage(call).await.inspect_err(|status| {
                    if is_broken(status) {
                        self.forget_channel();
                    }
                })
            }
        }
    }

    async fn accounts_changed(
        &self,
        request: tonic::Request<AccountsChangedRequest>,
    ) -> Result<tonic::Response<AccountsChangedReply>, Status> {
        match self.gateways(Instant::now() + CONNECT_PATIENCE).await? {
            Server::Here(service) => service.accounts_changed(request).await,
            Server::There(mut client) => {
                let mut call = self.call(request.into_inner());
                call.set_timeout(READ_PATIENCE);
                client.accounts_changed(call).await.inspect_err(|status| {
                    if is_broken(status) {
                        self.forget_channel();
                    }
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
