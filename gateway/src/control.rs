//! The gateway's side of its talk with control: the watch that fills [`Routes`], the wake, the activity reports.
//!
//! Promises: the routes hold a whole snapshot before the first client is accepted; when control is away the gateway goes
//! on with what it knows and asks again with jittered pauses; a version is acknowledged once it is in force here.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use control_api::control as proto;
use control_api::services_tls::{Files, Texts, UnusableFile};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prost::Message;
use proto::gateways_client::GatewaysClient;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::accept::Complaints;
use crate::accounts::AccountSource;
use crate::activity::{Changes, Clock};
use crate::config::{ControlConfig, ControlTls};
use crate::meter::{Meter, UsageSink, wake_counter};
use crate::metrics::Link;
use crate::route::{ComputeView, Routes, Running};
use crate::tls::{Ends, TlsError, first_end};
use crate::wake::{Ask, AskError, ComputeSource, jittered};

/// Pause before the watch is tried again, before jitter.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Acknowledgements on their way to control; each replaces the one before, so a few are plenty.
const ACKS_MAX: usize = 64;
/// Control hears of activity this often; its scheduler works in steps of seconds.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// A message of activity is no larger, but for its last project, which is 32 KiB at most: its pinned sessions are counted, and
/// 16 of them are named, by texts that are bounded at their login. Control takes messages of 16 MiB; a small one holds nothing up.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// A connection over which nothing comes is probed after so long, and given up when as long again brings no answer: until then
/// wakes that were asked for over it wait, and nothing is heard of changes. As control does with its gateways.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Control sends no project of more than an eighth of this, whatever its tenant makes (`control/src/publish.rs`).
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Why control cannot be talked to at all.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The token file is missing or unreadable.
    #[error("control's gateway token {path}: {source}", path = path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The token holds bytes that no header may hold.
    #[error("control's gateway token {path} is not a token", path = path.display())]
    NotAToken {
        /// Which file.
        path: PathBuf,
    },
    /// The address is no URL.
    #[error("control's address or certificates: {0}")]
    Address(#[from] tonic::transport::Error),
    /// A file of `gateway.control.tls` cannot be used.
    #[error("gateway.control.tls: {0}")]
    Tls(#[from] UnusableFile),
    /// A file of `gateway.control.tls` holds no certificate.
    #[error(transparent)]
    Certificate(#[from] TlsError),
}

type Client = GatewaysClient<InterceptedService<Channel, Credentials>>;

/// Adds the token to every call.
#[derive(Clone)]
struct Credentials(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection to control, made when first used and again after it broke.
#[derive(Clone)]
pub(crate) struct Control {
    client: Client,
    gateway_id: Arc<str>,
    routes: Arc<Routes>,
    /// The version of control that the routes hold; locked while they take one over, so that of two answers that come at
    /// once the later version stays.
    version: Arc<Mutex<u64>>,
    /// Where wakes are counted, and on which thread's tallies: those of no data-plane thread.
    meter: Option<(Arc<Meter>, usize)>,
    /// Where operators see whether control is there.
    link: Arc<Link>,
}

impl Control {
    pub(crate) fn new(config: &ControlConfig, routes: Arc<Routes>) -> Result<Self, ControlError> {
        let mut endpoint = endpoint(&config.address)?;
        if let Some(tls) = &config.tls {
            endpoint = endpoint.tls_config(certificates(tls)?)?;
        }
        let channel = endpoint.connect_lazy();
        Ok(Self::over(channel, token(&config.token_file)?, routes))
    }

    pub(crate) fn over(channel: Channel, token: MetadataValue<Ascii>, routes: Arc<Routes>) -> Self {
        let client =
            GatewaysClient::with_interceptor(channel, Credentials(token)).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self {
            client,
            gateway_id: format!("{:016x}", rand::random::<u64>()).into(),
            routes,
            version: Arc::default(),
            meter: None,
            link: Arc::default(),
        }
    }

    /// What becomes of the connection is noted there.
    pub(crate) fn seen_by(mut self, link: Arc<Link>) -> Self {
        self.link = link;
        self
    }

    /// Wakes are counted there.
    pub(crate) fn counting(mut self, meter: Arc<Meter>, thread: usize) -> Self {
        self.meter = Some((meter, thread));
        self
    }

    /// Keeps the routes true for as long as it runs; `known` turns true with the first snapshot. Cancel-safe.
    pub(crate) async fn watch(self, known: watch::Sender<bool>) {
        // It may be away for hours, and is asked every half a second.
        let mut complaints = Complaints::default();
        loop {
            let ended = self.watch_once(&known).await;
            if self.link.is_down() {
                complaints = Complaints::default();
            }
            match ended {
                Ok(()) => tracing::info!("control ended the watch"),
                Err(status) if !complaints.is_due() => {
                    tracing::debug!(reason = status.message(), "control is still away")
                }
                Err(status) if status.code() == Code::Unauthenticated => {
                    tracing::error!(reason = status.message(), "control refuses this gateway's token");
                }
                Err(status) => tracing::info!(reason = status.message(), "control is away; serving what is known"),
            }
            sleep(jittered(RECONNECT_PAUSE)).await;
        }
    }

    async fn watch_once(&self, known: &watch::Sender<bool>) -> Result<(), Status> {
        let (says, said) = mpsc::channel(ACKS_MAX);
        let hello = proto::WatchHello {
            gateway_id: self.gateway_id.to_string(),
        };
        let hello = proto::WatchRequest {
            message: Some(proto::watch_request::Message::Hello(hello)),
        };
        // The channel is new and empty: there is room.
        let _ = says.try_send(hello);
        let mut events = self.client.clone().watch(ReceiverStream::new(said)).await?.into_inner();
        let mut snapshot = Some(HashSet::new());
        let mut drains = FuturesUnordered::new();
        loop {
            let event = tokio::select! {
                event = events.message() => event?,
                Some(drained) = drains.next() => {
                    say(&says, proto::watch_request::Message::Drained(drained)).await?;
                    continue;
                }
            };
            let Some(event) = event else { return Ok(()) };
            self.link.heard();
            match event.event {
                Some(proto::watch_event::Event::Project(project)) => {
                    // A snapshot's version holds when all of it is here.
                    let reached = if snapshot.is_none() { event.version } else { 0 };
                    let running = self.take_over(reached, |routes| routes.apply(&project));
                    let compute = project.compute.as_ref();
                    drains.extend(compute.and_then(|compute| drain(&project.id, compute, running)));
                    if let Some(named) = &mut snapshot {
                        named.insert(project.id);
                    }
                }
                Some(proto::watch_event::Event::RemovedProject(id)) => {
                    self.take_over(event.version, |routes| routes.remove(&id));
                }
                Some(proto::watch_event::Event::SnapshotEnd(_)) => {
                    if let Some(named) = snapshot.take() {
                        tracing::info!(projects = named.len(), version = event.version, "snapshot taken over");
                        self.take_over(event.version, |routes| routes.retain(&named));
                        known.send_replace(true);
                        self.link.is_up();
                    }
                }
                None => {}
            }
            if snapshot.is_none() {
                say(&says, proto::watch_request::Message::AckVersion(event.version)).await?;
            }
        }
    }

    fn take_over<T>(&self, version: u64, change: impl FnOnce(&Routes) -> T) -> T {
        let mut reached = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&self.routes);
        *reached = version.max(*reached);
        changed
    }

    /// Tells control what moved, every [`REPORT_EVERY`]. Cancel-safe.
    pub(crate) async fn report(self, routes: Arc<Routes>, clock: Clock) {
        let mut told: HashMap<Box<str>, Changes> = HashMap::new();
        let mut refuses = false;
        loop {
            sleep(REPORT_EVERY).await;
            let mut moved = Vec::new();
            let mut refused = None;
            let mut now_told = HashMap::new();
            for project in routes.all() {
                let changes = project.activity.changes();
                if changes == Changes::default() {
                    continue;
                }
                now_told.insert(project.id.clone(), changes);
                if told.get(&project.id) != Some(&changes) || project.activity.is_in_use() {
                    let incarnation = match project.compute() {
                        ComputeView::Ready(running) => running.incarnation,
                        _ => 0,
                    };
                    moved.push(project.activity.report(&project.id, incarnation, clock));
                }
            }
            let mut parts = parts(moved).into_iter();
            for part in parts.by_ref() {
                let names: Vec<_> = part.iter().map(|activity| activity.project.clone()).collect();
                let Err(status) = self.report_part(part).await else {
                    continue;
                };
                for name in names {
                    now_told.remove(name.as_str());
                }
                if !is_refusal(&status) {
                    // It is away: the rest would wait for it as well.
                    tracing::debug!(
                        reason = status.message(),
                        "activity not reported; the next report has it all"
                    );
                    break;
                }
                refused = Some(status);
            }
            for activity in parts.flatten() {
                now_told.remove(activity.project.as_str());
            }
            match refused {
                // Of databases that it hears nothing of control thinks that nobody uses them.
                Some(status) if !std::mem::replace(&mut refuses, true) => {
                    tracing::warn!(
                        reason = status.message(),
                        "control refuses what this gateway reports of databases in use"
                    );
                }
                Some(_) => {}
                None => refuses = false,
            }
            told = now_told;
        }
    }

    async fn report_part(&self, projects: Vec<proto::ProjectActivity>) -> Result<(), Status> {
        let mut request = Request::new(proto::ActivityReport {
            gateway_id: self.gateway_id.to_string(),
            projects,
        });
        request.set_timeout(REPORT_EVERY * 2);
        let reported = self.client.clone().report_activity(request).await;
        match &reported {
            Ok(_) => self.link.heard(),
            Err(_) => self.link.report_failed(),
        }
        reported.map(drop)
    }
}

/// Reports that are small enough each; none where there is nothing to report.
fn parts(all: Vec<proto::ProjectActivity>) -> Vec<Vec<proto::ProjectActivity>> {
    let mut parts: Vec<Vec<_>> = Vec::new();
    let mut bytes = REPORT_BYTES_MAX;
    for activity in all {
        if bytes >= REPORT_BYTES_MAX {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += activity.encoded_len();
        if let Some(part) = parts.last_mut() {
            part.push(activity);
        }
    }
    parts
}

/// Control has answered, and would answer the same to the same again; otherwise it is away or busy. A token that it does not
/// know is what the watch complains of.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

async fn say(says: &mpsc::Sender<proto::WatchRequest>, message: proto::watch_request::Message) -> Result<(), Status> {
    let message = Some(message);
    says.send(proto::WatchRequest { message })
        .await
        .map_err(|_| Status::aborted("closed"))
}

/// What is to be answered to a DRAINING, once it is so. `running`: the compute that sessions hold connections to; without
/// one, none does.
fn drain(
    project: &str,
    said: &proto::Compute,
    running: Option<Arc<Running>>,
) -> Option<impl Future<Output = proto::Drained> + use<>> {
    if said.state() != proto::ComputeState::Draining {
        return None;
    }
    let mut drained = proto::Drained {
        project: project.to_owned(),
        incarnation: said.incarnation,
        round: said.round,
        refused: String::new(),
    };
    Some(async move {
        if let Some(running) = running {
            tokio::select! {
                biased;
                () = running.empty() => {}
                refused = running.refused() => drained.refused = refused,
                // It is gone without waiting for us.
                () = running.closing().raised() => {}
            }
        }
        drained
    })
}

#[async_trait::async_trait]
impl ComputeSource for Control {
    async fn wake(&self, ask: Ask) -> Result<proto::WakeReply, AskError> {
        let deadline_ms = u32::try_from(ask.deadline.as_millis()).unwrap_or(u32::MAX);
        let mut request = Request::new(proto::WakeRequest {
            project: ask.project.to_string(),
            deadline_ms,
            unreachable_incarnation: ask.unreachable.unwrap_or(0),
            cause: Some(proto::WakeCause {
                user: ask.cause.user,
                client_address: ask.cause.client_address,
                program_name: ask.cause.program_name,
                command: ask.cause.command.to_owned(),
            }),
        });
        request.set_timeout(ask.deadline);
        match self.client.clone().wake(request).await {
            Ok(reply) => {
                self.link.heard();
                let reply = reply.into_inner();
                // 0: it was awake.
                if let Some((meter, thread)) = self.meter.as_ref().filter(|_| reply.ready_ms > 0) {
                    meter
                        .tally(&ask.project, ask.created_ms, *thread)
                        .add(wake_counter(ask.cause.command), 1);
                }
                Ok(reply)
            }
            Err(status) => Err(match status.code() {
                Code::FailedPrecondition => AskError::Refused(status.message().to_owned()),
                Code::NotFound => AskError::NoSuchProject,
                // tonic's own message for a refused connection names a transport; say what it means here.
                Code::Unavailable if status.message().contains("tcp connect") => {
                    AskError::Unavailable("the control plane cannot be reached".into())
                }
                _ => AskError::Unavailable(status.message().to_owned()),
            }),
        }
    }
}

#[async_trait::async_trait]
impl UsageSink for Control {
    async fn report_usage(&self, report: proto::UsageReport, within: Duration) -> Result<(), Status> {
        let mut request = Request::new(report);
        request.set_timeout(within);
        self.client.clone().report_usage(request).await?;
        self.link.heard();
        Ok(())
    }
}

#[async_trait::async_trait]
impl AccountSource for Control {
    async fn accounts_changed(&self, project: &str, incarnation: u64) {
        let request = proto::AccountsChangedRequest {
            project: project.to_owned(),
            incarnation,
        };
        let reply = match self.client.clone().accounts_changed(request).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => {
                tracing::info!(
                    project,
                    reason = status.message(),
                    "control has not looked at changed accounts"
                );
                return;
            }
        };
        let mut reached = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        // As a rule the watch was faster. Where it hangs, its older events are all that may still come.
        if let Some(project) = reply.project.filter(|_| *reached < reply.version) {
            self.routes.apply(&project);
            *reached = reply.version;
        }
    }
}

pub(crate) fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(address.to_owned())?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .connect_timeout(Duration::from_secs(5)))
}

fn certificates(tls: &ControlTls) -> Result<ClientTlsConfig, ControlError> {
    let files = Files {
        cert: &tls.cert,
        key: &tls.key,
        authority: &tls.ca,
    };
    let Texts { cert, key, authority } = files.read(SystemTime::now())?;
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .identity(Identity::from_pem(cert, key)))
}

/// When the certificates end that the connection is proven with; nothing where there are none.
pub(crate) fn certificates_end(config: &ControlConfig) -> Result<Ends, ControlError> {
    let Some(ControlTls { ca, cert, key: _ }) = &config.tls else {
        return Ok(Ends::new());
    };
    Ok(vec![
        ("gateway.control.tls.ca".into(), first_end(ca)?),
        ("gateway.control.tls.cert".into(), first_end(cert)?),
    ])
}

fn token(path: &Path) -> Result<MetadataValue<Ascii>, ControlError> {
    let text = std::fs::read_to_string(path).map_err(|source| ControlError::Token {
        path: path.to_owned(),
        source,
    })?;
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", text.trim())
        .parse()
        .map_err(|_| ControlError::NotAToken { path: path.to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a gateway names of one, as long as it can be.
    fn activity(name: String) -> proto::ProjectActivity {
        let session = proto::PinnedSession {
            connection_id: u32::MAX,
            user: "\u{10ffff}".repeat(128),
            client_address: "x".repeat(64),
            program_name: "\u{10ffff}".repeat(256),
            reason: "x".repeat(64),
            idle_ms: u64::MAX,
        };
        proto::ProjectActivity {
            project: name,
            pinned: 16,
            pinned_sessions: vec![session; 16],
            ..Default::default()
        }
    }

    #[test]
    fn reports_are_small_however_much_there_is_to_say_and_together_say_it_all() {
        let all: Vec<_> = (0..1000).map(|n| activity(format!("p{n}"))).collect();
        let one = all[999].encoded_len();
        assert!(one <= 32 << 10, "{one}");
        let parts = parts(all.clone());
        assert!(parts.len() > 10, "{}", parts.len());
        for part in &parts {
            let report = proto::ActivityReport {
                gateway_id: "g".repeat(16),
                projects: part.clone(),
            };
            // With the few bytes that say how long each project's is.
            let len = report.encoded_len();
            assert!(len < REPORT_BYTES_MAX + (64 << 10), "{len}");
        }
        assert_eq!(parts.concat(), all);
        assert!(super::parts(Vec::new()).is_empty());
    }
}
