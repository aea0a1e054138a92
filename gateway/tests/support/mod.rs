//! A control plane in a few lines for tests of the gateway: projects by hand, the real gRPC over loopback.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod client;
pub mod compute;
pub mod metrics;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use control_api::control as proto;
use futures::Stream;
use proto::gateways_server::{Gateways, GatewaysServer};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub const TOKEN: &str = "test-token";
pub const SECRET: [u8; 32] = [0x5e; 32];

/// What the fake control knows and was asked.
#[derive(Default)]
pub struct Script {
    pub projects: Mutex<HashMap<String, proto::Project>>,
    /// Wakes asked for.
    pub asked: Mutex<Vec<proto::WakeRequest>>,
    watchers: Mutex<Vec<mpsc::Sender<Result<proto::WatchEvent, Status>>>>,
    /// Nobody may watch.
    is_away: AtomicBool,
    version: Mutex<u64>,
    /// Answers to drains that nobody has looked at.
    drained: Mutex<VecDeque<proto::Drained>>,
    drained_came: Notify,
    /// Reports of activity that were taken.
    pub reports: Mutex<Vec<proto::ActivityReport>>,
    /// None is taken while it is set.
    pub refuses_reports: AtomicBool,
    /// What it was told of usage, in the order in which it came.
    pub usage: Mutex<Vec<proto::UsageReport>>,
    pub usage_came: Notify,
    /// A wake that was not answered is waited for no more.
    pub given_up: Notify,
    /// What the next wakes answer, by project: a compute, or a refusal.
    pub wakes: Mutex<HashMap<String, Result<proto::Compute, String>>>,
}

struct NotifiesWhenDropped<'a>(&'a Notify);

impl Drop for NotifiesWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Script {
    /// The gateway's next answer to a drain.
    pub async fn drained(&self) -> proto::Drained {
        loop {
            let came = self.drained_came.notified();
            if let Some(drained) = self.drained.lock().unwrap().pop_front() {
                return drained;
            }
            came.await;
        }
    }

    pub async fn publish(&self, project: proto::Project) {
        self.projects
            .lock()
            .unwrap()
            .insert(project.id.clone(), project.clone());
        self.says(Some(proto::watch_event::Event::Project(project))).await;
    }

    /// Sends an event of the next version; None: one that only a later version knows.
    pub async fn says(&self, event: Option<proto::watch_event::Event>) {
        let version = {
            let mut version = self.version.lock().unwrap();
            *version += 1;
            *version
        };
        let event = proto::WatchEvent { version, event };
        let watchers = self.watchers.lock().unwrap().clone();
        for watcher in watchers {
            let _ = watcher.send(Ok(event.clone())).await;
        }
    }
}

impl Script {
    /// Ends all watches and takes no other.
    pub fn leave(&self) {
        self.is_away.store(true, Ordering::Relaxed);
        self.watchers.lock().unwrap().clear();
    }

    /// Takes watches again.
    pub fn come_back(&self) {
        self.is_away.store(false, Ordering::Relaxed);
    }

    pub async fn remove(&self, id: &str) {
        self.projects.lock().unwrap().remove(id);
        self.says(Some(proto::watch_event::Event::RemovedProject(id.into())))
            .await;
    }
}

pub struct FakeControl(pub Arc<Script>);

#[async_trait::async_trait]
impl Gateways for FakeControl {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::WatchEvent, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<proto::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let token = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if token != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("wrong token"));
        }
        if self.0.is_away.load(Ordering::Relaxed) {
            return Err(Status::unavailable("away"));
        }
        let (sender, events) = mpsc::channel(64);
        let version = *self.0.version.lock().unwrap();
        let projects: Vec<_> = self.0.projects.lock().unwrap().values().cloned().collect();
        for project in projects {
            let event = proto::WatchEvent {
                version,
                event: Some(proto::watch_event::Event::Project(project)),
            };
            sender.send(Ok(event)).await.unwrap();
        }
        let end = proto::watch_event::Event::SnapshotEnd(proto::SnapshotEnd {});
        sender
            .send(Ok(proto::WatchEvent {
                version,
                event: Some(end),
            }))
            .await
            .unwrap();
        self.0.watchers.lock().unwrap().push(sender);
        let mut says = request.into_inner();
        let acknowledged = async_stream_drain({
            let script = Arc::clone(&self.0);
            async move {
                while let Some(Ok(said)) = says.next().await {
                    if let Some(proto::watch_request::Message::Drained(drained)) = said.message {
                        script.drained.lock().unwrap().push_back(drained);
                        script.drained_came.notify_one();
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(events).map(move |event| {
            let _ = &acknowledged;
            event
        }))))
    }

    async fn wake(&self, request: Request<proto::WakeRequest>) -> Result<Response<proto::WakeReply>, Status> {
        let request = request.into_inner();
        let project = request.project.clone();
        self.0.asked.lock().unwrap().push(request);
        let answer = self.0.wakes.lock().unwrap().get(&project).cloned();
        match answer {
            Some(Ok(compute)) => Ok(Response::new(proto::WakeReply {
                compute: Some(compute),
                ready_ms: 5,
                ..Default::default()
            })),
            Some(Err(reason)) => Err(Status::failed_precondition(reason)),
            None => {
                let _given_up = NotifiesWhenDropped(&self.0.given_up);
                std::future::pending().await
            }
        }
    }

    async fn report_activity(
        &self,
        request: Request<proto::ActivityReport>,
    ) -> Result<Response<proto::ActivityReply>, Status> {
        if self.0.refuses_reports.load(Ordering::Relaxed) {
            return Err(Status::out_of_range("too large"));
        }
        self.0.reports.lock().unwrap().push(request.into_inner());
        Ok(Response::new(proto::ActivityReply {}))
    }

    async fn report_usage(&self, request: Request<proto::UsageReport>) -> Result<Response<proto::UsageReply>, Status> {
        self.0.usage.lock().unwrap().push(request.into_inner());
        self.0.usage_came.notify_one();
        Ok(Response::new(proto::UsageReply {}))
    }

    async fn accounts_changed(
        &self,
        request: Request<proto::AccountsChangedRequest>,
    ) -> Result<Response<proto::AccountsChangedReply>, Status> {
        let project = self
            .0
            .projects
            .lock()
            .unwrap()
            .get(&request.into_inner().project)
            .cloned();
        Ok(Response::new(proto::AccountsChangedReply {
            project,
            version: *self.0.version.lock().unwrap(),
        }))
    }
}

/// Runs a future for as long as the returned value lives.
fn async_stream_drain(future: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(future);
    tasks
}

/// Settings as a file of the operator's would have them; or what is wrong with that file.
pub struct Settings(pub Mutex<Result<gateway::Written, String>>);

impl Settings {
    /// Writes others.
    pub fn change(&self, adjust: impl FnOnce(&mut gateway::RawConfig)) {
        adjust(&mut self.0.lock().unwrap().as_mut().unwrap().gateway);
    }
}

impl gateway::SettingsSource for Settings {
    fn read(&self) -> Result<gateway::Reread, String> {
        let written = self.0.lock().unwrap().clone()?;
        Ok(gateway::Reread {
            written,
            needs_restart: Vec::new(),
        })
    }
}

/// A gateway on free ports with a fake control, stopped when dropped.
pub struct World {
    pub script: Arc<Script>,
    pub mysql: SocketAddr,
    pub listeners: Vec<gateway::Listener>,
    pub http: SocketAddr,
    pub dir: tempfile::TempDir,
    /// What a reload reads.
    pub settings: Arc<Settings>,
    reload: watch::Sender<u64>,
    ended: CancellationToken,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl World {
    /// Asks for a reload, as a signal does.
    pub fn reload(&self) {
        self.reload.send_modify(|count| *count += 1);
    }

    /// Completes when the gateway has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Begins the shut-down.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub async fn start(projects: impl IntoIterator<Item = proto::Project>) -> Self {
        Self::start_with(projects, |_| {}).await
    }

    pub async fn start_with(
        projects: impl IntoIterator<Item = proto::Project>,
        adjust: impl FnOnce(&mut gateway::RawConfig),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = Arc::new(Script::default());
        for project in projects {
            script.projects.lock().unwrap().insert(project.id.clone(), project);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let service = GatewaysServer::new(FakeControl(Arc::clone(&script)));
        tasks.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, TOKEN).unwrap();
        let mut raw = gateway::RawConfig {
            listen: "127.0.0.1:0".into(),
            threads: 2,
            ..Default::default()
        };
        raw.http.listen = "127.0.0.1:0".into();
        raw.control.address = format!("http://{control}");
        raw.control.token_file = Some(token_file);
        adjust(&mut raw);
        let config = raw.clone().check(dir.path()).unwrap();
        let settings = Arc::new(Settings(Mutex::new(Ok(gateway::Written {
            gateway: raw,
            data_dir: dir.path().to_owned(),
        }))));
        let (reload, asked) = watch::channel(0);
        let reloading = gateway::Reloading {
            source: Arc::clone(&settings) as Arc<dyn gateway::SettingsSource>,
            asked,
        };
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let running = gateway::run(config, reloading, stop.clone(), ready);
        let ended = CancellationToken::new();
        let has_ended = ended.clone();
        tasks.spawn(async move {
            running.await.unwrap();
            has_ended.cancel();
        });
        let listening = is_ready.await.unwrap();
        Self {
            script,
            mysql: listening.mysql,
            listeners: listening.listeners,
            http: listening.http,
            dir,
            settings,
            reload,
            ended,
            stop,
            _tasks: tasks,
        }
    }
}

/// A project with a user `u` whose password is `p`, and a database `demo`; asleep.
pub fn project(id: &str) -> proto::Project {
    let variables = [
        ("version_comment", "Debian 12"),
        ("max_allowed_packet", "16777216"),
        ("wait_timeout", "28800"),
    ];
    proto::Project {
        id: id.into(),
        users: vec![proto::User {
            name: "u".into(),
            native_sha1: Sha1::digest(Sha1::digest(b"p")).to_vec(),
            caching_sha2: Sha256::digest(Sha256::digest(b"p")).to_vec(),
            granted_databases: vec!["demo".into()],
            ..Default::default()
        }],
        databases: vec!["demo".into()],
        server: Some(proto::ServerInfo {
            version: "10.11.19-MariaDB-0+deb12u1".into(),
            variables: variables
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }),
        compute: Some(proto::Compute {
            state: proto::ComputeState::Suspended.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A compute that can be dialled.
pub fn ready(incarnation: u64, socket: &Path) -> proto::Compute {
    proto::Compute {
        state: proto::ComputeState::Ready.into(),
        incarnation,
        socket_path: socket.display().to_string(),
        gateway_secret: SECRET.to_vec(),
        ..Default::default()
    }
}
