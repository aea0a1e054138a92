//! A gateway's calls over a real loopback connection.

use std::net::SocketAddr;

use control_api::control::{
    self as proto, ComputeState, ProjectActivity, WatchHello, gateways_client::GatewaysClient, watch_event::Event,
    watch_request::Message,
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::*;
use crate::testing::{Plane, Start};

mod bad_input;

const TOKEN: &str = "selkie_gateway_test";

struct Server {
    plane: Plane,
    id: ProjectId,
    address: SocketAddr,
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    async fn start_with(tls: Option<ServerTlsConfig>) -> Self {
        let (plane, id) = Plane::with_demo().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, end, tasks) = (
            listener.local_addr().unwrap(),
            CancellationToken::new(),
            TaskTracker::new(),
        );
        let service = GatewayService {
            publisher: plane.publisher().clone(),
            computes: plane.computes().clone(),
            activity: plane.projects.activity.clone(),
            usage: plane.projects.usage.clone(),
            tasks: tasks.clone(),
        };
        let served = end.clone();
        tasks.spawn(async move { serve(Arc::new(service), listener, tls, TOKEN, served).await });
        Self {
            plane,
            id,
            address,
            end,
            tasks,
        }
    }

    async fn client(&self) -> GatewaysClient<Channel> {
        GatewaysClient::connect(format!("http://{}", self.address))
            .await
            .unwrap()
    }

    async fn watch(&self) -> Watch {
        let (requests, receiver) = mpsc::channel(16);
        let hello = Message::Hello(WatchHello {
            gateway_id: "test".into(),
        });
        requests.send(WatchRequest { message: Some(hello) }).await.unwrap();
        let call = with_token(ReceiverStream::new(receiver), TOKEN);
        let events = self.client().await.watch(call).await.unwrap().into_inner();
        Watch { requests, events }
    }

    async fn stop(self) {
        self.end.cancel();
        self.plane.publisher().disconnect_all();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(10), self.tasks.wait())
            .await
            .expect("all calls end with the server");
    }
}

struct Watch {
    requests: mpsc::Sender<WatchRequest>,
    events: Streaming<WatchEvent>,
}

impl Watch {
    async fn next(&mut self) -> WatchEvent {
        let next = tokio::time::timeout(Duration::from_secs(10), self.events.message());
        next.await.expect("an event comes").unwrap().unwrap()
    }

    async fn acknowledge(&self, version: u64) {
        let message = Some(Message::AckVersion(version));
        self.requests.send(WatchRequest { message }).await.unwrap();
    }

    async fn snapshot(&mut self) -> (u64, Vec<String>) {
        let mut ids = Vec::new();
        loop {
            let event = self.next().await;
            match event.event.unwrap() {
                Event::Project(project) => ids.push(project.id),
                Event::SnapshotEnd(_) => return (event.version, ids),
                Event::RemovedProject(id) => panic!("{id} removed in a snapshot"),
            }
        }
    }
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn wake(project: &str) -> WakeRequest {
    WakeRequest {
        project: project.into(),
        deadline_ms: 10_000,
        ..WakeRequest::default()
    }
}

#[tokio::test]
async fn what_only_a_later_gateway_says_is_passed_over() {
    let server = Server::start().await;
    let mut watch = server.watch().await;
    watch.snapshot().await;
    watch.requests.send(WatchRequest { message: None }).await.unwrap();
    let create = server.plane.create("other");
    let heard = async {
        let event = watch.next().await;
        watch.acknowledge(event.version).await;
        event
    };
    let (_, event) = tokio::join!(create, heard);
    assert!(matches!(event.event.unwrap(), Event::Project(project) if project.id == "other"));
    let acknowledged = server
        .plane
        .publisher()
        .acknowledged(event.version, Duration::from_secs(10));
    assert!(acknowledged.await, "what it says next is heard");
    drop(watch);
    server.stop().await;
}

#[tokio::test]
async fn no_call_works_without_the_token() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for token in ["", "wrong", "selkie_gateway_tes", "selkie_gateway_testt"] {
        let refused = client.wake(with_token(wake("demo"), token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{token:?}");
    }
    assert_eq!(
        client.wake(wake("demo")).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let watch = client.watch(tokio_stream::iter([WatchRequest::default()])).await;
    assert_eq!(watch.unwrap_err().code(), Code::Unauthenticated);
    assert!(server.plane.driver.log().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn watch_is_a_snapshot_and_then_changes_that_rest_waits_for() {
    let server = Server::start().await;
    let mut watch = server.watch().await;
    let (version, ids) = watch.snapshot().await;
    assert_eq!(ids, ["demo"]);
    watch.acknowledge(version).await;

    let create = server.plane.create("other");
    let gateway = async {
        let event = watch.next().await;
        assert!(event.version > version);
        watch.acknowledge(event.version).await;
        event.event.unwrap()
    };
    let began = tokio::time::Instant::now();
    let (_, event) = tokio::join!(create, gateway);
    assert!(matches!(event, Event::Project(project) if project.id == "other"));
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "answered on acknowledgement, not on time-out"
    );

    let other = server.plane.read(&ProjectId::new("other").unwrap()).await;
    server.plane.projects.delete(&other).await.unwrap();
    assert_eq!(watch.next().await.event, Some(Event::RemovedProject("other".into())));
    server.stop().await;
}

#[tokio::test]
async fn watch_without_hello_is_refused() {
    let server = Server::start().await;
    let ack = WatchRequest {
        message: Some(Message::AckVersion(1)),
    };
    let refused = server
        .client()
        .await
        .watch(with_token(tokio_stream::iter([ack]), TOKEN))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn gateway_that_leaves_is_not_waited_for() {
    let server = Server::start().await;
    let mut watch = server.watch().await;
    watch.snapshot().await;
    assert_eq!(server.plane.publisher().watchers(), 1);
    drop(watch);
    let gone = async {
        while server.plane.publisher().watchers() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("the watch ends with its call");
    server.stop().await;
}

#[tokio::test]
async fn wake_answers_with_address_and_server() {
    let server = Server::start().await;
    let reply = server
        .client()
        .await
        .wake(with_token(wake("demo"), TOKEN))
        .await
        .unwrap()
        .into_inner();
    let compute = reply.compute.unwrap();
    assert_eq!((compute.state(), compute.incarnation), (ComputeState::Ready, 1));
    assert_eq!(compute.socket_path, "/run/demo/m.sock");
    assert_eq!(compute.gateway_secret.len(), 32);
    assert_eq!(reply.server.unwrap().version, "10.11.19-MariaDB");
    assert!(reply.started_ms >= 10 && reply.ready_ms >= 100);
    server.stop().await;
}

#[tokio::test]
async fn failed_wake_tells_its_kind_and_reason() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for unknown in ["nobody", "No Such", ""] {
        let refused = client.wake(with_token(wake(unknown), TOKEN)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{unknown:?}");
    }
    server
        .plane
        .driver
        .starts
        .lock()
        .unwrap()
        .push_back(Start::Fails(Duration::ZERO, "the disk is full"));
    let failed = client.wake(with_token(wake("demo"), TOKEN)).await.unwrap_err();
    assert_eq!(failed.code(), Code::FailedPrecondition);
    assert!(failed.message().contains("the disk is full"), "{}", failed.message());
    server.stop().await;
}

#[tokio::test]
async fn call_that_is_cancelled_stops_waiting() {
    let server = Server::start().await;
    server
        .plane
        .driver
        .starts
        .lock()
        .unwrap()
        .push_back(Start::Fails(Duration::ZERO, "no"));
    let mut client = server.client().await;
    client.wake(with_token(wake("demo"), TOKEN)).await.unwrap_err();
    // Now it backs off for 500 ms; a caller that leaves before takes its wake with it.
    let left = tokio::time::timeout(Duration::from_millis(50), client.wake(with_token(wake("demo"), TOKEN))).await;
    assert!(left.is_err());
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(server.plane.driver.log(), ["start demo 1"]);
    server.stop().await;
}

#[tokio::test]
async fn accepts_that_fail_end_nothing() {
    let (plane, _) = Plane::with_demo().await;
    let tasks = TaskTracker::new();
    let service = GatewayService {
        publisher: plane.publisher().clone(),
        computes: plane.computes().clone(),
        activity: plane.projects.activity.clone(),
        usage: plane.projects.usage.clone(),
        tasks: tasks.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let no_descriptors = || Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()));
    let connections = futures::StreamExt::chain(
        futures::stream::iter([no_descriptors(), no_descriptors()]),
        TcpIncoming::from(listener),
    );
    let (end, ended) = (CancellationToken::new(), tasks.clone());
    let served = end.clone();
    tasks.spawn(async move { serve_on(Arc::new(service), connections, None, None, TOKEN, served).await });
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let refused = GatewaysClient::new(channel)
        .wake(with_token(wake("unknown"), TOKEN))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    end.cancel();
    ended.close();
    ended.wait().await;
}

#[tokio::test]
async fn activity_is_kept_for_ready_computes() {
    let server = Server::start().await;
    let activity = &server.plane.projects.activity;
    activity.ready(&server.id, 1);
    let busy = |project: &str| ProjectActivity {
        project: project.into(),
        incarnation: 1,
        commands_in_flight: 1,
        ..ProjectActivity::default()
    };
    let report = ActivityReport {
        gateway_id: "test".into(),
        projects: vec![busy("demo"), busy("unknown"), busy("no id at all!")],
    };
    server
        .client()
        .await
        .report_activity(with_token(report, TOKEN))
        .await
        .unwrap();
    let used = activity.sight(&server.id).unwrap().users;
    assert_eq!(used[0].to_string(), "1 command in flight at gateway test");
    assert_eq!(activity.sights().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn answers_to_a_drain_come_in_by_the_watch() {
    let server = Server::start().await;
    server
        .plane
        .computes()
        .wake(&server.id, None, WAKE_PATIENCE)
        .await
        .unwrap();
    let Watch { requests, mut events } = server.watch().await;
    let (suspended, ()) = tokio::join!(server.plane.computes().suspend_if_idle(&server.id, "asked"), async {
        loop {
            let event = events.message().await.unwrap().unwrap();
            let Some(Event::Project(project)) = event.event else {
                continue;
            };
            let compute = project.compute.unwrap();
            if compute.state() == proto::ComputeState::Draining {
                let drained = proto::Drained {
                    project: project.id,
                    incarnation: compute.incarnation,
                    round: compute.round,
                    refused: "session 7 holds a lock".into(),
                };
                let message = Some(Message::Drained(drained));
                return requests.send(WatchRequest { message }).await.unwrap();
            }
        }
    });
    assert_eq!(suspended.unwrap().unwrap_err().0, "session 7 holds a lock");
    server.stop().await;
}

#[tokio::test]
async fn gateway_whose_connection_ends_is_known_to_be_gone() {
    let server = Server::start().await;
    let activity = server.plane.projects.activity.clone();
    let mut watch = server.watch().await;
    watch.snapshot().await;
    assert!(activity.is_watching("test"));
    drop(watch);
    let gone = async {
        while activity.is_watching("test") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("it is told by the connection's end");
    server.stop().await;
}

/// Signs certificates; its own in PEM form.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_pem(&self.1)
    }

    fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let made = params.signed_by(&key, &self.0).unwrap();
        Identity::from_pem(made.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn over_tls_only_who_shows_a_certificate_of_the_authority_is_heard() {
    let (ours, other) = (Authority::new(), Authority::new());
    let tls = ServerTlsConfig::new()
        .identity(ours.identity())
        .client_ca_root(ours.certificate());
    let server = Server::start_with(Some(tls)).await;
    let ask = async |tls: Option<ClientTlsConfig>| {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", server.address)).unwrap();
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).unwrap();
        }
        let mut client = GatewaysClient::new(endpoint.connect_lazy());
        let code = client.wake(with_token(wake("nobody"), TOKEN)).await.unwrap_err().code();
        // The answer of the service itself, or none at all.
        code == Code::NotFound
    };
    let trusting = || ClientTlsConfig::new().ca_certificate(ours.certificate());
    assert!(ask(Some(trusting().identity(ours.identity()))).await);
    assert!(!ask(None).await, "in the clear");
    assert!(!ask(Some(trusting())).await, "without a certificate");
    assert!(
        !ask(Some(trusting().identity(other.identity()))).await,
        "with a stranger's"
    );
    let fooled = ClientTlsConfig::new().ca_certificate(other.certificate());
    assert!(
        !ask(Some(fooled.identity(ours.identity()))).await,
        "a gateway that trusts another"
    );
    server.stop().await;
}
