//! Services that run beside a `selkie up`, as on a machine of their own.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::ports::free_port;
use harness::selkie::binary;
use harness::{Selkie, eventually, http, process};
use tokio::net::TcpStream;

/// A service of its own beside a `selkie up`, on the same data directory.
pub(crate) struct Service {
    process: Child,
    pub(crate) ports: [u16; 2],
}

impl Service {
    pub(crate) fn start(selkie: &Selkie, service: &str, settings: impl Fn([u16; 2]) -> String) -> Self {
        let ports = [free_port(), free_port()];
        let file = selkie.dir().join(format!("{service}.toml"));
        std::fs::write(&file, settings(ports)).expect("the settings file");
        let log = File::create(selkie.dir().join(format!("{service}.log"))).expect("a log file");
        let process = Command::new(binary())
            // The tests' own; Selkie would take it for a setting.
            .env_remove("SELKIE_SEED")
            .arg(service)
            .arg("--config")
            .arg(&file)
            .arg("--data-dir")
            .arg(selkie.data_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting selkie");
        Self { process, ports }
    }

    /// Another gateway, which asks the control plane at that port.
    pub(crate) fn gateway(selkie: &Selkie, control: u16) -> Self {
        Self::start(selkie, "gateway", |[mysql, http]| {
            format!(
                "gateway.listen = \"127.0.0.1:{mysql}\"\ngateway.http.listen = \"127.0.0.1:{http}\"\n\
                 gateway.control.address = \"http://127.0.0.1:{control}\"\n"
            )
        })
    }

    /// Waits until a gateway takes clients.
    pub(crate) async fn serves(&self) {
        eventually("the gateway serves", async || {
            let ready = format!("http://127.0.0.1:{}/readyz", self.ports[1]);
            TcpStream::connect(("127.0.0.1", self.ports[1])).await.ok()?;
            (http::request("GET", &ready, None, None).await.status == 200).then_some(())
        })
        .await;
    }

    /// A request to a control plane.
    pub(crate) async fn rest(
        &self,
        selkie: &Selkie,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> http::Response {
        let url = format!("http://127.0.0.1:{}/api/v1{path}", self.ports[0]);
        http::request(method, &url, Some(&selkie.up().rest.api_key), body).await
    }

    pub(crate) fn stop(mut self) {
        assert!(
            process::stop(self.process.id(), Duration::from_secs(40)),
            "it ends when asked"
        );
        let _ = self.process.wait();
    }
}
