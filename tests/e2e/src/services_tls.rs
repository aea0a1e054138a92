//! Services on different machines: gateways and control prove themselves to each other by certificates.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use harness::http::request;
use harness::keeper::Keeper;
use harness::selkie::{binary, write_settings};
use harness::{Endpoint, Raw, Selkie, cli};

use crate::service::Service;

/// What `selkie certificates` prints is what the settings take.
pub(crate) fn certificates(dir: &Path) -> String {
    let made = Command::new(binary())
        .arg("certificates")
        .arg(dir)
        .arg("--force")
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

/// One line, with the setting and the file.
#[tokio::test]
async fn certificates_that_cannot_be_used_are_named_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = certificates(dir.path());
    let keeper = Keeper::new("selkie-t-");
    write_settings(keeper.dir(), "");
    let ports = std::fs::read_to_string(keeper.dir().join("selkie.toml")).expect("the settings");
    let ports = ports.replace("http://127.0.0.1", "https://127.0.0.1");
    std::fs::write(keeper.dir().join("selkie.toml"), ports + &settings).expect("the settings");
    for (setting, file) in [
        ("gateway.control.tls", "gateway.pem"),
        ("gateway.control.tls", "gateway.key"),
        ("control.grpc.tls", "control.pem"),
        ("control.grpc.tls", "control.key"),
    ] {
        let path = dir.path().join(file);
        let good = std::fs::read(&path).expect("a file");
        for bad in [Some(b"no PEM".as_slice()), None] {
            match bad {
                Some(text) => std::fs::write(&path, text).expect("writing"),
                None => std::fs::remove_file(&path).expect("removing"),
            }
            let service = setting.split('.').next().expect("a service");
            let mut command = tokio::process::Command::new(binary());
            command
                .args([service, "--config"])
                .arg(keeper.dir().join("selkie.toml"));
            command.arg("--data-dir").arg(keeper.dir().join("data"));
            // Where a gateway finds what it proves itself by otherwise.
            std::fs::create_dir_all(keeper.dir().join("data/control")).expect("a directory");
            std::fs::write(keeper.dir().join("data/control/gateway.token"), "token").expect("a token");
            let ended = cli::run(&mut command).await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains(file)).collect();
            assert_eq!(lines.len(), 1, "{file}: {}", ended.stderr);
            assert!(
                lines[0].contains(setting) && lines[0].contains(&path.display().to_string()),
                "{lines:?}"
            );
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        }
        std::fs::write(&path, good).expect("writing");
    }
}
