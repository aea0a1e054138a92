//! One template for all tests of the process, and computes in directories of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use agent::{Error, Exit, TemplateSpec};
use control_api::agent::agent_client::AgentClient;
use control_api::agent::{AgentStatus, Phase, StatusRequest};
use control_api::spec::{Spec, SpecAccount, Template};
use mysql_async::{Conn, OptsBuilder};
use sha1::{Digest, Sha1};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Against hanging only.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn template_spec(dir: &Path) -> TemplateSpec {
    TemplateSpec {
        dir: dir.to_owned(),
        mariadbd: None,
        uid: None,
        gid: None,
    }
}

/// Made once, below the target directory, where the next run finds it.
pub(crate) async fn template() -> &'static Template {
    static TEMPLATE: OnceCell<Template> = OnceCell::const_new();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    TEMPLATE
        .get_or_init(|| async move { agent::template(template_spec(&dir)).await.unwrap() })
        .await
}

/// Directories and a spec; nothing started.
pub(crate) struct Stage {
    pub(crate) spec: Spec,
    /// Goes when the stage goes.
    pub(crate) dir: TempDir,
}

impl Stage {
    /// A project without accounts, already cloned.
    pub(crate) async fn new() -> Self {
        let stage = Self::uncloned().await;
        agent::prepare(&stage.spec).await.unwrap();
        stage
    }

    pub(crate) async fn uncloned() -> Self {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("log")).unwrap();
        let spec = Spec {
            project: "demo".into(),
            incarnation: 1,
            data_dir: at("data"),
            run_dir: at("run"),
            log_dir: at("log"),
            template_dir: template().await.template_dir.clone(),
            mariadbd: None,
            uid: None,
            gid: None,
            size_cu: 0.25,
            gateway_secret_hex: "ab".repeat(32),
            accounts: Vec::new(),
            removed_accounts: Vec::new(),
            databases: Vec::new(),
            new_databases: Vec::new(),
            settings: BTreeMap::new(),
            start_timeout_ms: 60_000,
            stop_timeout_ms: 60_000,
        };
        Self { spec, dir }
    }

    pub(crate) fn start(&self) -> Compute {
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(agent::run(self.spec.clone(), shutdown.clone()));
        Compute {
            spec: self.spec.clone(),
            shutdown,
            running,
        }
    }

    /// Started and ready.
    pub(crate) async fn ready(&self) -> Compute {
        let compute = self.start();
        let status = compute.reaches(Phase::Ready).await;
        assert_eq!(status.phase(), Phase::Ready, "{}", status.exit);
        compute
    }
}

pub(crate) fn account(user: &str, password: &str, admin: bool) -> SpecAccount {
    SpecAccount {
        user: user.into(),
        native_sha1_hex: hex(&native_sha1(password.as_bytes())),
        caching_sha2_hex: None,
        admin,
        known: false,
        password_only: false,
    }
}

pub(crate) fn native_sha1(password: &[u8]) -> Vec<u8> {
    Sha1::digest(Sha1::digest(password)).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An agent that runs in this process, with its mariadbd.
pub(crate) struct Compute {
    pub(crate) spec: Spec,
    shutdown: CancellationToken,
    running: JoinSet<Result<Exit, Error>>,
}

impl Compute {
    /// Its gRPC service, as soon as it serves.
    pub(crate) async fn agent(&self) -> AgentClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.spec.agent_socket().display())).unwrap();
        let connected = async {
            loop {
                if let Ok(channel) = endpoint.connect().await {
                    return AgentClient::new(channel);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, connected).await.expect("the agent serves")
    }

    /// The status that says this phase, or that it has exited.
    pub(crate) async fn reaches(&self, phase: Phase) -> AgentStatus {
        let mut agent = self.agent().await;
        let mut statuses = agent.watch(StatusRequest {}).await.unwrap().into_inner();
        let reached = async {
            loop {
                let status = statuses.message().await.unwrap().expect("no end before EXITED");
                if status.phase() == phase || status.phase() == Phase::Exited {
                    return status;
                }
            }
        };
        timeout(PATIENCE, reached).await.expect("the phase comes")
    }

    pub(crate) async fn stop(self) -> Exit {
        self.shutdown.cancel();
        self.end().await.unwrap()
    }

    /// However it ends.
    pub(crate) async fn end(mut self) -> Result<Exit, Error> {
        let ended = timeout(PATIENCE, self.running.join_next()).await.expect("it ends");
        ended.unwrap().unwrap()
    }

    pub(crate) async fn login(&self, user: &str, password: &[u8]) -> mysql_async::Result<Conn> {
        let options = OptsBuilder::default()
            .socket(Some(self.spec.server_socket().display().to_string()))
            .user(Some(user))
            .pass(Some(std::str::from_utf8(password).expect("text")))
            .prefer_socket(false);
        Conn::new(options).await
    }
}
