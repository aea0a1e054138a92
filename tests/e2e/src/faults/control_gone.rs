//! The control plane is killed, or frozen, while clients work: databases that run are served, everybody known logs in, what
//! needs it waits to its deadline, and when it is back all is reconciled.

use std::time::Duration;

use harness::client::{error_code, run, value};
use harness::pki::Authority;
use harness::raw::{Login, Plugin, caps};
use harness::wait::GUARD;
use harness::{Endpoint, Project, Raw, Selkie, eventually, http, process};
use mysql_async::prelude::Queryable;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use super::{descriptors_of, metric};
use crate::chaos::bill;
use crate::chaos::service::Service;

const WAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// A statement that changes accounts waits a second for control to hear of it.
const CHANGE_WITHIN: Duration = Duration::from_millis(2500);
/// What else a gateway opens and keeps meanwhile.
const DESCRIPTORS_MORE: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Away {
    Killed,
    /// Its ports take connections, and nobody answers.
    Frozen,
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_work_on_while_control_is_killed_and_all_is_reconciled_when_it_is_back() {
    clients_work_on_while_control_is(Away::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_work_on_while_control_is_frozen_and_all_is_reconciled_when_it_is_back() {
    clients_work_on_while_control_is(Away::Frozen).await;
}

/// What clients of a project did that is billed.
#[derive(Default)]
struct Done {
    inserts: i64,
    logins: i64,
    failed: i64,
}

impl Done {
    async fn inserts(&mut self, raw: &mut Raw) {
        raw.query("INSERT INTO t VALUES (1)").await.ok();
        self.inserts += 1;
    }

    async fn arrives(&mut self, endpoint: &Endpoint, login: Login) {
        let mut raw = Raw::login_with(endpoint, login).await;
        self.logins += 1;
        self.inserts(&mut raw).await;
    }

    /// Through the server name alone, which names the project.
    async fn arrives_by_server_name(&mut self, project: &str, endpoint: &Endpoint) {
        let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
        let login = Login {
            tls: true,
            ..Login::default()
        };
        raw.introduce_to(&format!("{project}.db.test"), endpoint, &login).await;
        let answer = raw.finish_login(endpoint, true).await;
        assert_eq!(answer.error(), None, "{answer:?}");
        self.logins += 1;
        self.inserts(&mut raw).await;
    }

    async fn is_refused(&mut self, endpoint: &Endpoint) {
        assert_eq!(error_code(endpoint.try_connect().await), 1045, "{endpoint:?}");
        self.failed += 1;
    }

    async fn is_on_the_bill(&self, selkie: &Selkie, project: &str) {
        let expected = [
            ("inserts", self.inserts),
            ("logins", self.logins),
            ("logins_failed", self.failed),
        ];
        eventually(format_args!("usage is {expected:?}"), async || {
            let path = format!("/projects/{project}/usage?granularity=total");
            let usage = selkie.rest("GET", &path, None).await.json()["periods"][0].clone();
            let of = |name: &str| usage[name].as_i64().unwrap_or_default();
            for (name, value) in expected {
                assert!(of(name) <= value, "{name} is {}, and clients did {value}", of(name));
            }
            expected.iter().all(|(name, value)| of(name) == *value).then_some(())
        })
        .await;
    }
}

/// Its database does not start, and it is told when the time is over, no sooner and hardly later.
async fn waits_to_the_deadline(client: &mut mysql_async::Conn) {
    let began = Instant::now();
    let told = client
        .query_drop("SELECT 1")
        .await
        .expect_err("nobody starts a database");
    let (text, waited) = (told.to_string(), began.elapsed());
    assert_eq!(error_code::<()>(Err(told)), 1053);
    assert!(text.contains("did not start within"), "{text}");
    let most = WAKE_TIMEOUT + Duration::from_secs(1);
    assert!((WAKE_TIMEOUT..most).contains(&waited), "{waited:?}");
}

fn of_project(project: &Project<'_>, name: &str, password: &str) -> Endpoint {
    let user = format!("{}.{name}", project.id);
    project
        .endpoint
        .with_user(&user)
        .with_password(password)
        .with_database("")
}

async fn clients_work_on_while_control_is(away: Away) {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(dir.path(), "ca");
    let identity = authority.issue(dir.path(), "main", &["127.0.0.1", "*.db.test"]);
    let selkie = Selkie::start_with(&format!(
        "gateway.wake_timeout = \"{}s\"\ngateway.sni_domains = [\"db.test\"]\n\
         gateway.tls.cert = \"{}\"\ngateway.tls.key = \"{}\"\n",
        WAKE_TIMEOUT.as_secs(),
        identity.cert.display(),
        identity.key.display(),
    ))
    .await;
    for part in ["the compute ended without being asked", "usage: counted by a gateway"] {
        selkie.logs.allow(part);
    }
    let busy = selkie.project("busy").await;
    let asleep = selkie.project("asleep").await;
    let dying = selkie.project("dying").await;
    let doomed = selkie.project("doomed").await;
    let body = json!({
        "id": "patient", "user": {"name": "app", "password": "patience"}, "database": "app", "wake_timeout": "50s",
    });
    let made = selkie.rest("POST", "/projects", Some(&body)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let patient = Endpoint {
        password: "patience".into(),
        ..busy.endpoint.with_user("patient.app")
    };
    let boss = busy.admin("boss", "boss pw").await;
    selkie.stop();
    let control = Service::new("control", &selkie, selkie.up().rest.url.clone());
    let gateway = Service::new("gateway", &selkie, selkie.gateway_http());
    control.starts().await;
    gateway.starts().await;

    let mut done = Done::default();
    let mut boss = boss.connect().await;
    let mut client = Raw::login(&busy.endpoint).await;
    done.logins += 2;
    client.query("CREATE TABLE t (a INT)").await.ok();
    done.inserts(&mut client).await;
    run(&mut boss, "CREATE USER changes IDENTIFIED BY 'old'").await;
    let [mut sleeps, mut waits, mut dies, mut ends] = [
        asleep.endpoint.connect().await,
        patient.connect().await,
        dying.endpoint.connect().await,
        doomed.endpoint.connect().await,
    ];
    for client in [&mut dies, &mut ends] {
        value(client, "SELECT 1").await;
    }
    let server = |project: &Project<'_>| {
        let of = process::of_directory(&selkie.data_dir().join("projects").join(&project.id));
        process::running(&of, "mariadbd")
    };
    let descriptors = descriptors_of(gateway.pid());

    match away {
        Away::Killed => drop(control.kill()),
        Away::Frozen => {
            // What it was at when it froze was slow, to itself.
            for part in ["time to acquire exceeded slow threshold", "slow statement"] {
                selkie.logs.allow(part);
            }
            process::signal(control.pid(), Signal::STOP);
        }
    }
    // All that a gateway does by itself.
    let ca = Some(authority.file.clone());
    let secure = Endpoint {
        ca,
        ..busy.endpoint.clone()
    };
    let inside = |plugin| Login {
        plugin,
        tls: true,
        ..Login::default()
    };
    for _ in 0..5 {
        done.inserts(&mut client).await;
        done.arrives(&busy.endpoint, Login::default()).await;
        done.arrives(&secure, inside(Plugin::Native)).await;
        done.arrives(&secure, inside(Plugin::CachingSha2)).await;
        let named = Login {
            caps: caps::USUAL | caps::CONNECT_ATTRS,
            attributes: vec![("selkie_project".into(), busy.id.clone())],
            ..Login::default()
        };
        done.arrives(&busy.endpoint.with_user("app"), named).await;
        done.arrives_by_server_name(&busy.id, &secure.with_user("app")).await;
    }
    done.is_refused(&busy.endpoint.with_password("wrong")).await;
    // What it cannot do: know what SQL changes of accounts, and start databases.
    let began = Instant::now();
    run(
        &mut boss,
        "CREATE USER late IDENTIFIED BY 'late pw'; ALTER USER changes IDENTIFIED BY 'new'",
    )
    .await;
    assert!(began.elapsed() < CHANGE_WITHIN, "{:?}", began.elapsed());
    done.is_refused(&of_project(&busy, "late", "late pw")).await;
    done.is_refused(&of_project(&busy, "changes", "new")).await;
    drop(of_project(&busy, "changes", "old").connect().await);
    done.logins += 1;
    for pid in server(&dying) {
        process::signal(pid, Signal::KILL);
        let ended = tokio::task::spawn_blocking(move || process::wait_for_exit(pid, GUARD)).await;
        assert!(ended.expect("waiting for an exit"));
    }
    let mut comes = dying.endpoint.connect().await;
    tokio::join!(waits_to_the_deadline(&mut sleeps), waits_to_the_deadline(&mut comes));

    // Kept twice, in a file and on stderr; and the gateway of `selkie up` may have said it when that was stopped.
    let said = selkie.logs.text().matches("control is away").count();
    assert!(said <= 4, "it is said {said} times");

    let (answer, ()) = tokio::join!(value(&mut waits, "SELECT 41 + 1"), async {
        match away {
            Away::Killed => control.starts().await,
            Away::Frozen => process::signal(control.pid(), Signal::CONT),
        }
    });
    assert_eq!(answer.as_deref(), Some("42"), "it waits until control is back");
    // A wake goes its own way; what is pushed comes once this does, and then at once.
    eventually("the gateway hears of changes again", async || {
        let connected = metric(&selkie.gateway_http(), "selkie_gateway_control_connected").await;
        (connected == 1.0).then_some(())
    })
    .await;
    let deleted = selkie.rest("DELETE", &format!("/projects/{}", doomed.id), None).await;
    assert!([200, 202, 204].contains(&deleted.status), "{deleted:?}");
    let told = ends.query_drop("SELECT 1").await;
    assert!(told.is_err(), "of a project that is no more");
    assert!(server(&doomed).is_empty(), "something of it runs");
    assert_eq!(error_code(doomed.endpoint.try_connect().await), 1045);

    // Who was told in vain comes again; who only waited notices nothing.
    drop((sleeps, comes));
    for mut client in [asleep.endpoint.connect().await, dying.endpoint.connect().await, dies] {
        assert_eq!(value(&mut client, "SELECT 41 + 1").await.as_deref(), Some("42"));
    }
    assert_eq!(dying.compute().await.incarnation, 2, "it was started anew");
    assert_eq!(busy.compute().await.incarnation, 1, "it was never stopped");
    for (name, password) in [("late", "late pw"), ("changes", "new")] {
        let user = of_project(&busy, name, password);
        eventually(format_args!("{name} is known"), async || {
            let conn = user.try_connect().await;
            if conn.is_err() {
                done.failed += 1;
            }
            conn.ok().map(drop)
        })
        .await;
        done.logins += 1;
    }
    done.is_refused(&of_project(&busy, "changes", "old")).await;
    done.inserts(&mut client).await;
    let rows = client.query("SELECT COUNT(*) FROM t").await.ok().text();
    assert_eq!(rows, done.inserts.to_string(), "acknowledged, and once each");

    done.is_on_the_bill(&selkie, &busy.id).await;
    for project in [&busy.id, &asleep.id, "patient", &dying.id] {
        let wrong = bill::what_is_wrong(&selkie, project).await;
        assert!(wrong.is_empty(), "{project} is billed {wrong:#?}");
    }
    drop((client, boss, waits, ends));
    eventually("the gateway has let everybody go", async || {
        let clients = metric(&selkie.gateway_http(), "selkie_gateway_clients").await;
        (clients == 0.0).then_some(())
    })
    .await;
    let watchers = metric(&selkie.api().replace("/api/v1", ""), "selkie_control_watchers").await;
    assert_eq!(watchers, 1.0);
    eventually(
        format_args!("no more than the {descriptors} descriptors of before"),
        async || (descriptors_of(gateway.pid()) <= descriptors + DESCRIPTORS_MORE).then_some(()),
    )
    .await;
    gateway.stops();
    control.stops();
}

/// It has nothing to tell who may log in by: it takes nobody until it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_while_control_is_away_takes_clients_once_it_is_there() {
    let selkie = Selkie::start().await;
    let project = selkie.project("later").await;
    selkie.stop();
    let control = Service::new("control", &selkie, selkie.up().rest.url.clone());
    let gateway = Service::new("gateway", &selkie, selkie.gateway_http());
    gateway.launch();
    eventually("it lives, and is not ready", async || {
        let url = selkie.gateway_http();
        let lives = http::status(&format!("{url}/healthz")).await == Some(200);
        (lives && http::status(&format!("{url}/readyz")).await == Some(503)).then_some(())
    })
    .await;
    let (early, ()) = tokio::join!(project.endpoint.try_connect(), async {
        // Who connects now waits, in the kernel's queue.
        control.starts().await;
    });
    let mut early = early.expect("it is served when control is there");
    assert_eq!(value(&mut early, "SELECT 41 + 1").await.as_deref(), Some("42"));
    gateway.is_ready().await;
    let mut client = project.endpoint.connect().await;
    assert_eq!(value(&mut client, "SELECT 41 + 1").await.as_deref(), Some("42"));
    drop((early, client));
    gateway.stops();
    control.stops();
}
