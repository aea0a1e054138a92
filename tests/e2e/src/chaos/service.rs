//! `selkie control` or `selkie gateway` on its own, killed and started again on the same port and data.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use harness::selkie::binary;
use harness::{Selkie, eventually, http, process};

pub(crate) struct Service<'a> {
    name: &'static str,
    selkie: &'a Selkie,
    /// `http://` and the address of its `/readyz`.
    url: String,
    running: Mutex<Running>,
}

struct Running {
    process: Option<Child>,
    starts: u32,
}

impl<'a> Service<'a> {
    pub(crate) fn new(name: &'static str, selkie: &'a Selkie, url: String) -> Self {
        let running = Mutex::new(Running {
            process: None,
            starts: 0,
        });
        Self {
            name,
            selkie,
            url,
            running,
        }
    }

    /// Starts it and waits until it is ready. Where it was killed or stopped meanwhile, it need not be.
    pub(crate) async fn starts(&self) {
        self.launch();
        self.is_ready().await;
    }

    /// Waits until it is; see [`Service::starts`].
    pub(crate) async fn is_ready(&self) {
        eventually(format_args!("selkie {} is ready", self.name), async || {
            if self.has_ended() {
                self.launch();
            }
            let ready = http::status(&format!("{}/readyz", self.url)).await;
            (ready == Some(200)).then_some(())
        })
        .await;
    }

    /// Starts it and waits for nothing.
    pub(crate) fn launch(&self) {
        let mut running = self.running.lock().expect("what runs");
        let dir = self.selkie.dir();
        let log = format!("{}-{}.log", self.name, running.starts);
        let process = Command::new(binary())
            .arg(self.name)
            .arg("--config")
            .arg(dir.join("selkie.toml"))
            .arg("--data-dir")
            .arg(self.selkie.data_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join(log)).expect("a log file"))
            .spawn()
            .expect("starting selkie");
        running.starts += 1;
        running.process = Some(process);
    }

    /// An outgoing connection may hold its port for a moment; anything else that ends it is a bug.
    fn has_ended(&self) -> bool {
        let mut running = self.running.lock().expect("what runs");
        let log = format!("{}-{}.log", self.name, running.starts.saturating_sub(1));
        let Some(process) = &mut running.process else {
            return false;
        };
        let Some(status) = process.try_wait().expect("the state of selkie") else {
            return false;
        };
        let said = std::fs::read_to_string(self.selkie.dir().join(log)).unwrap_or_default();
        assert!(
            said.contains("in use") || said.contains("listens there"),
            "selkie {} ended: {status}\n{said}",
            self.name
        );
        true
    }

    /// With SIGKILL; false where it does not run.
    pub(crate) fn kill(&self) -> bool {
        let process = self.running.lock().expect("what runs").process.take();
        let Some(mut process) = process else { return false };
        let _ = process.kill();
        let _ = process.wait();
        true
    }

    pub(crate) fn runs(&self) -> bool {
        self.running.lock().expect("what runs").process.is_some()
    }

    /// Its process id, while it runs.
    pub(crate) fn pid(&self) -> u32 {
        let running = self.running.lock().expect("what runs");
        running.process.as_ref().expect("it runs").id()
    }

    /// With SIGTERM; it must end by itself.
    pub(crate) fn stops(&self) {
        let process = self.running.lock().expect("what runs").process.take();
        let mut process = process.expect("it runs");
        assert!(
            process::stop(process.id(), Duration::from_secs(40)),
            "selkie {} ends when asked",
            self.name
        );
        let _ = process.wait();
    }
}
