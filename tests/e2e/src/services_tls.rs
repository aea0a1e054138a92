//! Services on different machines: gateways and control prove themselves to each other by certificates.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use harness::http::request;
use harness::selkie::binary;
use harness::{Endpoint, Raw, Selkie};

use crate::service::Service;

/// What `selkie certificates` prints is what the settings take.
pub(crate) fn certificates(dir: &Path) -> String {
    let made = Command::new(binary())
        .arg("certificates")
        .arg(dir)
        .output()
        .expect("selkie runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_reach_control_by_certificates_that_selkie_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = certificates(dir.path());
    let before = std::fs::read(dir.path().join("ca.pem")).expect("an authority");
    assert_eq!(certificates(dir.path()), settings);
    assert_eq!(
        std::fs::read(dir.path().join("ca.pem")).expect("an authority"),
        before,
        "an authority stays"
    );
    let selkie = Selkie::start_with(&settings).await;
    let control = selkie.control_port();
    let other = Service::start(&selkie, "gateway", |[mysql, http]| {
        format!(
            "gateway.listen = \"127.0.0.1:{mysql}\"\ngateway.http.listen = \"127.0.0.1:{http}\"\n\
             gateway.control.address = \"https://127.0.0.1:{control}\"\n{}",
            settings.split_once("\n\n").expect("two parts").1
        )
    });
    other.serves().await;
    let through = Endpoint {
        port: other.ports[0],
        ..selkie.demo()
    };
    for endpoint in [through, selkie.demo()] {
        assert_eq!(Raw::login(&endpoint).await.query("SELECT 1").await.ok().text(), "1");
    }
    let page = request("GET", &selkie.api().replace("/api/v1", "/metrics"), None, None).await;
    let in_a_month = SystemTime::now() + Duration::from_secs(30 * 86_400);
    let in_a_month = in_a_month
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64();
    for setting in ["control.grpc.tls.cert", "control.grpc.tls.client_ca"] {
        let series = format!("selkie_control_certificate_not_after_seconds{{setting=\"{setting}\"}} ");
        let ends = page.body.lines().find_map(|line| line.strip_prefix(series.as_str()));
        let ends: f64 = ends.expect("its end").parse().expect("a number");
        assert!(ends > in_a_month, "{setting} ends at {ends}");
    }
    other.stop();
    selkie.logs.check();
}
