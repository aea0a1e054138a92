//! What is measured: one MariaDB, started by `selkie up`, reached directly, through HAProxy and through the gateway.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::pki::{Authority, Identity};
use harness::ports::free_port;
use harness::raw::client_config;
use harness::{Endpoint, Project, Selkie};
use rustls::ClientConfig;

/// Where clients connect.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Tcp(u16),
    Unix(PathBuf),
}

/// One way to the database.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    /// None: in the clear.
    pub(crate) tls: Option<Tls>,
    /// The process in the middle, where there is one.
    pub(crate) pid: Option<u32>,
}

/// How a client comes to TLS.
#[derive(Debug, Clone)]
pub(crate) enum Tls {
    /// As MySQL's protocol has it: after the greeting.
    OnRequest(ClientConfig),
    /// Before anything else, which is all that HAProxy can do.
    FromTheStart(ClientConfig),
}

impl Target {
    /// The same for one more client, that shares no TLS session with others.
    pub(crate) fn for_one_client(&self, resumption: Resumption) -> Self {
        let mut target = self.clone();
        if let Some(Tls::OnRequest(config) | Tls::FromTheStart(config)) = &mut target.tls {
            config.resumption = match resumption {
                Resumption::Never => rustls::client::Resumption::disabled(),
                Resumption::Always => rustls::client::Resumption::in_memory_sessions(1),
            };
        }
        target
    }
}

/// Whether clients take up an earlier TLS session again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumption {
    Never,
    Always,
}

/// Everything that runs; ends with this value.
pub(crate) struct Stage {
    pub(crate) selkie: Selkie,
    haproxy: Child,
    haproxy_port: u16,
    haproxy_tls_port: u16,
    /// Who signed HAProxy's certificate.
    haproxy_ca: PathBuf,
    _dir: tempfile::TempDir,
}

/// The compute must hold the largest number of clients measured, each with a connection of its own.
const SIZE_CU: f64 = 0.5;

impl Stage {
    /// Starts Selkie, wakes its demo project and puts HAProxy before the same socket.
    pub(crate) async fn set() -> anyhow::Result<Self> {
        let selkie = Selkie::start_with(&format!("control.default_size_cu = {SIZE_CU}")).await;
        let mut conn = selkie.demo().connect().await;
        harness::client::run(&mut conn, "DO 1").await;
        drop(conn);
        let dir = tempfile::tempdir()?;
        let (haproxy_port, haproxy_tls_port) = (free_port(), free_port());
        let authority = Authority::new(dir.path(), "authority");
        let identity = authority.issue(dir.path(), "haproxy", &["localhost"]);
        let ports = [haproxy_port, haproxy_tls_port];
        let haproxy = start_haproxy(dir.path(), ports, &identity, &socket(&selkie)?)?;
        Ok(Self {
            selkie,
            haproxy,
            haproxy_port,
            haproxy_tls_port,
            haproxy_ca: authority.file,
            _dir: dir,
        })
    }

    /// Direct, HAProxy, gateway.
    pub(crate) fn targets(&self) -> anyhow::Result<[Target; 3]> {
        let Endpoint {
            port,
            user,
            password,
            database,
            ..
        } = self.selkie.demo();
        let bare = user.split_once('.').context("a login name with a project")?.1;
        let target = |address, user: &str, pid| Target {
            address,
            user: user.to_owned(),
            password: password.clone(),
            database: database.clone(),
            tls: None,
            pid,
        };
        Ok([
            target(Address::Unix(socket(&self.selkie)?), bare, None),
            target(Address::Tcp(self.haproxy_port), bare, Some(self.haproxy.id())),
            target(Address::Tcp(port), &user, Some(self.selkie.pid())),
        ])
    }

    /// The same, with TLS before HAProxy and the gateway, both with a certificate of the same kind.
    pub(crate) fn targets_over_tls(&self) -> anyhow::Result<[Target; 3]> {
        let [direct, mut haproxy, mut gateway] = self.targets()?;
        haproxy.address = Address::Tcp(self.haproxy_tls_port);
        haproxy.tls = Some(Tls::FromTheStart(client_config(
            std::slice::from_ref(&self.haproxy_ca),
            None,
        )));
        let ca = self.selkie.up().mysql.ca.clone().context("the gateway's authority")?;
        gateway.tls = Some(Tls::OnRequest(client_config(&[ca], None)));
        Ok([direct, haproxy, gateway])
    }

    /// The project that is measured.
    pub(crate) fn demo(&self) -> Project<'_> {
        self.selkie.demo_project()
    }

    pub(crate) fn gateway(&self) -> anyhow::Result<Target> {
        let [_, _, gateway] = self.targets()?;
        Ok(gateway)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.haproxy.kill();
        let _ = self.haproxy.wait();
    }
}

/// The one socket that a mariadbd of this Selkie listens on.
fn socket(selkie: &Selkie) -> anyhow::Result<PathBuf> {
    let servers = selkie.servers();
    ensure!(servers.len() == 1, "one compute expected: {servers:?}");
    let options = std::fs::read_to_string(format!("/proc/{}/cmdline", servers[0]))?;
    let file = options
        .split('\0')
        .find_map(|argument| argument.strip_prefix("--defaults-file="))
        .context("mariadbd's option file")?;
    let text = std::fs::read_to_string(file)?;
    let socket = text.lines().find_map(|line| line.strip_prefix("socket="));
    Ok(socket.context("mariadbd's socket")?.into())
}

/// TCP mode with as many threads as it likes, and time-outs that do not matter here.
fn start_haproxy(dir: &Path, [port, tls_port]: [u16; 2], identity: &Identity, socket: &Path) -> anyhow::Result<Child> {
    let config = dir.join("haproxy.cfg");
    // It wants certificate and key in one file.
    let pem = dir.join("haproxy-both.pem");
    std::fs::write(
        &pem,
        [std::fs::read(&identity.cert)?, std::fs::read(&identity.key)?].concat(),
    )?;
    let mut file = std::fs::File::create(&config)?;
    writeln!(
        file,
        "global\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
         listen mysql\n  bind 127.0.0.1:{port}\n  bind 127.0.0.1:{tls_port} ssl crt {}\n  server compute unix@{}",
        pem.display(),
        socket.display()
    )?;
    let mut child = Command::new("haproxy")
        .args(["-db", "-f"])
        .arg(&config)
        .stdin(Stdio::null())
        .spawn()
        .context("starting haproxy")?;
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(child.try_wait()?.is_none(), "haproxy ended");
        ensure!(Instant::now() < end, "haproxy does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}
