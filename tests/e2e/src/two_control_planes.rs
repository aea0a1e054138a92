//! Two control planes on one PostgreSQL: whoever is asked, it is done; and when the one that leads is killed, the other
//! takes over what runs.

use harness::client::{run, value};
use harness::http::request;
use harness::{Endpoint, Postgres, Selkie, eventually};
use serde_json::json;

use crate::service::Service;

/// Whether the control plane whose page that is says that it leads.
pub(crate) async fn leads(http: &str) -> bool {
    let page = request("GET", &format!("{http}/metrics"), None, None).await;
    let value = page
        .body
        .lines()
        .find_map(|line| line.strip_prefix("selkie_control_leads "));
    value.expect("a page of a control plane") == "1"
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_leader_is_followed_and_what_ran_goes_on() {
    let database = tokio::task::spawn_blocking(|| Postgres::shared().database())
        .await
        .expect("a database");
    let store = format!("control.store.url = \"{database}\"");
    let selkie = Selkie::start_with(&store).await;
    // The gateway of `selkie up` goes with it; that of its own loses its control plane's leader.
    for part in ["went away", "cannot be reached", "control is away"] {
        selkie.logs.allow(part);
    }
    let second = Service::start(&selkie, "control", |[http, grpc]| {
        format!("{store}\ncontrol.http.listen = \"127.0.0.1:{http}\"\ncontrol.grpc.listen = \"127.0.0.1:{grpc}\"\n")
    });
    let gateway = Service::gateway(&selkie, second.ports[1]);
    eventually("the second control plane answers", async || {
        let up = tokio::net::TcpStream::connect(("127.0.0.1", second.ports[0])).await;
        up.ok()
    })
    .await;

    // Made at the one that stands by, awake through a gateway that watches it.
    let body = json!({"id": "shared", "user": {"name": "app", "password": "sesame"}, "database": "app"});
    let made = second.rest(&selkie, "POST", "/projects", Some(&body)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let body = json!({"id": "asleep", "user": {"name": "app", "password": "sesame"}, "database": "app"});
    assert_eq!(selkie.rest("POST", "/projects", Some(&body)).await.status, 201);
    let through = |project: &str| Endpoint {
        port: gateway.ports[0],
        user: format!("{project}.app"),
        password: "sesame".into(),
        database: "app".into(),
        ..selkie.demo()
    };
    gateway.serves().await;
    let mut client = through("shared").connect().await;
    run(&mut client, "CREATE TABLE t (a INT)").await;
    run(&mut client, "INSERT INTO t VALUES (1)").await;
    let servers = selkie.servers();
    assert_eq!(servers.len(), 1);

    let of_second = format!("http://127.0.0.1:{}", second.ports[0]);
    let of_first = selkie.api().replace("/api/v1", "");
    assert_eq!((leads(&of_first).await, leads(&of_second).await), (true, false));
    selkie.crash();
    // It waits for the next leader for as long as a takeover may take, 10 s, and no longer.
    let woken = second
        .rest(&selkie, "POST", "/projects/shared/compute/wake", None)
        .await;
    assert_eq!(woken.status, 200, "{woken:?}");
    assert_eq!(woken.json()["incarnation"], 1, "taken over, not started again");
    assert!(leads(&of_second).await);
    assert_eq!(value(&mut client, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
    assert_eq!(selkie.servers(), servers);

    let mut late = through("asleep").connect().await;
    assert_eq!(
        value(&mut late, "SELECT 41 + 1").await.as_deref(),
        Some("42"),
        "and it starts others"
    );
    let suspended = second
        .rest(&selkie, "POST", "/projects/shared/compute/suspend", None)
        .await;
    assert_eq!(suspended.status, 200, "{suspended:?}");
    drop((client, late));
    gateway.stop();
    second.stop();
    assert!(selkie.servers().is_empty(), "the last one to go suspends what is awake");
}
