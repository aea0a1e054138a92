//! A service without a free file descriptor goes on with whom it has, and takes others again once there are some.

use harness::client::value;
use harness::{Raw, Selkie, eventually};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::net::TcpStream;

use super::descriptors_of;

/// More than there are descriptors for, fewer than the kernel's queue has places.
const TRIES: usize = 60;

fn limit(selkie: &Selkie, descriptors: u64) {
    let pid = Pid::from_raw(selkie.pid() as i32).expect("a process id");
    let limit = Rlimit {
        current: Some(descriptors),
        // As it is: nobody may need a right to raise it.
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limit).expect("a limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_descriptors_serves_whom_it_has_and_takes_others_again() {
    let selkie = Selkie::start().await;
    for part in [
        "clients that connect are not accepted",
        "gateways that connect are not accepted",
        "Too many open files",
    ] {
        selkie.logs.allow(part);
    }
    let project = selkie.project("full").await;
    let mut served = project.endpoint.connect().await;
    value(&mut served, "SELECT 1").await;
    let ports = [selkie.up().mysql.port, selkie.control_port()];
    for port in ports {
        limit(&selkie, descriptors_of(selkie.pid()) as u64 + 6);
        let mut crowd = Vec::new();
        for _ in 0..TRIES {
            // The kernel takes them all; nobody else does.
            crowd.push(
                TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("a place in the queue"),
            );
        }
        let word = if port == ports[0] { "clients" } else { "gateways" };
        eventually(format_args!("word of it for {word}"), async || {
            let said = format!("{word} that connect are not accepted");
            selkie.logs.text().contains(&said).then_some(())
        })
        .await;
        for n in 0..20 {
            assert_eq!(value(&mut served, &format!("SELECT {n}")).await, Some(n.to_string()));
        }
        drop(crowd);
        limit(&selkie, 1024);
        let mut new = Raw::login(&project.endpoint).await;
        assert_eq!(new.query("SELECT 41 + 1").await.ok().text(), "42");
    }
    // Each try counts, the log hears of it once a minute: from each of the gateway's threads, and from control. It is kept
    // twice, in a file and on stderr.
    assert!(selkie.metric("selkie_gateway_accepts_failed_total").await >= 1.0);
    let said = selkie.logs.text().matches("that connect are not accepted").count();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert!(said <= 2 * (threads + 1), "{said} lines");
    assert_eq!(selkie.rest("GET", "/projects", None).await.status, 200);
    let suspended = selkie
        .rest("POST", &format!("/projects/{}/compute/suspend", project.id), None)
        .await;
    assert_eq!(suspended.status, 200, "{suspended:?}");
    assert_eq!(value(&mut served, "SELECT 'woken'").await.as_deref(), Some("woken"));
}
