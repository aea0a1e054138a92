//! Two desks on one store over real loopback connections: one of a control plane that leads, one that stands by.

use control_api::control::{WatchHello, watch_event::Event, watch_request::Message};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::name::ProjectId;
use crate::{rest::Rest, secret::key_hash, store::keys::Keys, testing::Plane};

const KEY: &str = "selkie_key_test";
const TOKEN: &str = "selkie_gateway_test";

/// A control plane that listens.
struct Instance {
    plane: Plane,
    desk: Arc<Desk>,
    holder: Holder,
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Instance {
    async fn start(plane: Plane) -> Self {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (http, grpc) = (listen().await, listen().await);
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let holder = Holder {
            id: address(&http),
            http: address(&http),
            grpc: address(&grpc),
        };
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        let desk = Arc::new(Desk::new(led(&plane).rest, TOKEN, None).unwrap());
        tasks.spawn(crate::http::serve(http, rest(desk.clone()), end.clone()));
        let (gateways, grpc_end) = (desk.clone(), end.clone());
        tasks.spawn(async move { crate::grpc::serve(gateways, grpc, None, TOKEN, grpc_end).await });
        Self {
            plane,
            desk,
            holder,
            end,
            tasks,
        }
    }

    fn lead(&self) {
        self.desk.leader.send_replace(None);
        self.desk.serve(Some(led(&self.plane)));
    }

    async fn call(&self, method: Method, path: &str, body: Option<&str>) -> (u16, serde_json::Value) {
        let mut request = reqwest::Client::new()
            .request(method, format!("http://{}/api/v1{path}", self.holder.http))
            .header("authorization", format!("Bearer {KEY}"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn stop(&self) {
        self.end.cancel();
        self.plane.publisher().disconnect_all();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(30), self.tasks.wait())
            .await
            .expect("all calls end");
    }
}

fn led(plane: &Plane) -> Led {
    let tasks = TaskTracker::new();
    let rest = Rest {
        projects: plane.projects.clone(),
        metrics: plane.metrics.clone(),
        default_size_cu: 0.25,
        suspend_after: Some(std::time::Duration::from_secs(300)),
        prices: Arc::default(),
        uids: None,
        tasks: tasks.clone(),
        pace: Arc::default(),
        tag_secret: Arc::default(),
        over: CancellationToken::new(),
    };
    let gateways = GatewayService {
        publisher: plane.publisher().clone(),
        computes: plane.computes().clone(),
        activity: plane.projects.activity.clone(),
        usage: plane.projects.usage.clone(),
        tasks,
    };
    Led {
        rest: crate::rest::router(rest),
        gateways,
    }
}

/// The first leads, the second stands by and knows it.
async fn two() -> (Instance, Instance) {
    let first = Plane::new();
    first.store.put_key("test", key_hash(KEY), 1).await.unwrap();
    let second = Plane::on(first.driver.clone(), first.store.clone());
    let (one, two) = (Instance::start(first).await, Instance::start(second).await);
    one.lead();
    two.desk.leader.send_replace(Some(one.holder.clone()));
    (one, two)
}

const DEMO: Option<&str> = Some(r#"{"id": "demo"}"#);

#[tokio::test]
async fn change_at_one_that_stands_by_is_made_by_the_leader() {
    let (one, two) = two().await;
    let (status, made) = two.call(Method::POST, "/projects", DEMO).await;
    assert_eq!((status, made["id"].as_str()), (201, Some("demo")));
    let id = ProjectId::new("demo").unwrap();
    assert!(one.plane.publisher().compute(&id).is_some() && two.plane.publisher().compute(&id).is_none());
    let (status, refused) = two.call(Method::POST, "/projects", DEMO).await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("project_exists")));
    let (status, woken) = two.call(Method::POST, "/projects/demo/compute/wake", None).await;
    assert_eq!((status, woken["state"].as_str()), (200, Some("ready")));
    let (_, read) = two.call(Method::GET, "/projects/demo", None).await;
    assert_eq!(read["compute"]["incarnation"], 1);
}

#[tokio::test]
async fn reads_are_answered_from_the_store_when_no_leader_is_there() {
    let (one, two) = two().await;
    one.call(Method::POST, "/projects", DEMO).await;
    one.stop().await;
    let (status, read) = two.call(Method::GET, "/projects/demo", None).await;
    assert_eq!((status, read["id"].as_str()), (200, Some("demo")));
    two.desk.leader.send_replace(None);
    let (status, list) = two.call(Method::GET, "/projects", None).await;
    assert_eq!((status, list["projects"].as_array().unwrap().len()), (200, 1));
}

#[tokio::test(start_paused = true)]
async fn change_is_told_what_is_wrong_with_the_store_where_nobody_can_lead_for_its_sake() {
    let desk = Desk::new(led(&Plane::new()).rest, TOKEN, None).unwrap();
    for (fault, status, code, waits) in [
        (None, 503, "not_leader", true),
        (Some(Fault::Away), 503, "state_unavailable", true),
        (Some(Fault::ReadOnly), 503, "state_read_only", false),
        (Some(Fault::Full), 507, "state_full", false),
    ] {
        desk.fault.send_replace(fault);
        let began = Instant::now();
        let changed = desk.change(&Method::POST, "/api/v1/projects", HeaderMap::new(), Bytes::new());
        let told = changed.await.unwrap_err().into_response();
        // What is away may be back in a moment.
        let expected = if waits { LEADER_PATIENCE } else { Duration::ZERO };
        assert!(began.elapsed() - expected < Duration::from_millis(100), "{fault:?}");
        assert_eq!(told.status().as_u16(), status);
        let body = axum::body::to_bytes(told.into_body(), 4096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], code);
    }
}

#[tokio::test]
async fn change_waits_for_the_next_leader() {
    let (one, two) = two().await;
    one.stop().await;
    let change = two.call(Method::POST, "/projects", DEMO);
    let takes_over = async {
        // The change finds nobody at the old leader's address first, then no leader at all.
        two.desk.leader.send_replace(None);
        tokio::task::yield_now().await;
        two.lead();
    };
    let ((status, _), ()) = tokio::join!(change, takes_over);
    assert_eq!(status, 201);
    assert!(
        two.plane
            .publisher()
            .compute(&ProjectId::new("demo").unwrap())
            .is_some()
    );
}

#[tokio::test]
async fn two_that_take_each_other_for_the_leader_do_not_play_ball() {
    let (one, two) = two().await;
    one.desk.serve(None);
    one.desk.leader.send_replace(Some(two.holder.clone()));
    let (status, refused) = two.call(Method::POST, "/projects", DEMO).await;
    assert_eq!((status, refused["code"].as_str()), (503, Some("not_leader")));
}

async fn client(at: &Instance) -> GatewaysClient<Channel> {
    GatewaysClient::connect(format!("http://{}", at.holder.grpc))
        .await
        .unwrap()
}

#[tokio::test]
async fn gateway_at_one_that_stands_by_is_served_and_sent_back_when_the_leader_changes() {
    let (one, two) = two().await;
    one.call(Method::POST, "/projects", DEMO).await;
    let (says, said) = mpsc::channel(4);
    let hello = Message::Hello(WatchHello {
        gateway_id: "test".into(),
    });
    says.send(WatchRequest { message: Some(hello) }).await.unwrap();
    let mut gateway = client(&two).await;
    let watch = two.desk.call(ReceiverStream::new(said));
    let mut events = gateway.watch(watch).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap();
    assert!(matches!(&first.event, Some(Event::Project(project)) if project.id == "demo"));
    events.message().await.unwrap().unwrap();
    // The acknowledgement goes the whole way: without it this would take the leader's full patience.
    says.send(WatchRequest {
        message: Some(Message::AckVersion(first.version)),
    })
    .await
    .unwrap();
    assert!(
        one.plane
            .publisher()
            .acknowledged(first.version, Duration::from_secs(30))
            .await
    );

    let wake = WakeRequest {
        project: "demo".into(),
        deadline_ms: 30_000,
        ..WakeRequest::default()
    };
    let woken = gateway.wake(two.desk.call(wake.clone())).await.unwrap().into_inner();
    assert_eq!(woken.compute.unwrap().incarnation, 1);

    // The old leader is still there, frozen; its watch must not go on.
    two.plane.load().await;
    two.lead();
    let ended = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
}
