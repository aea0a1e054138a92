//! The template: a data directory prepared once per server version, from which projects are cloned.
//!
//! utf8mb4, time zones loaded, no anonymous accounts, no test database, shut down cleanly. It appears whole, by a rename
//! under a lock, so that any number of processes may ask for it at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use control_api::settings::Offer;
use control_api::spec::{Spec, Template};
use rustix::fs::{FlockOperation, flock};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::accounts::Ours;
use crate::error::Error;
use crate::options::REDO_LOG;
use crate::server::Server;
use crate::{TemplateSpec, observe, process};

/// Written last: a template without it is none.
const DESCRIPTION: &str = "template.json";
const DATA: &str = "data";
const ZONES: &str = "/usr/share/zoneinfo";
/// A first start on a slow disk.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(120);

/// See [`crate::template()`].
pub(crate) async fn make(spec: TemplateSpec) -> Result<Template, Error> {
    let server = Server::find(spec.mariadbd.as_deref())?;
    let version = server.version().await?;
    let dir = spec
        .dir
        .join(version.replace(|c: char| !c.is_ascii_alphanumeric() && !".-+".contains(c), "_"));
    if let Some(template) = read(&dir) {
        return Ok(template);
    }
    std::fs::create_dir_all(&spec.dir).map_err(Error::system("cannot make", &spec.dir))?;
    let lock_file = dir.with_extension("lock");
    let lock = File::create(&lock_file).map_err(Error::system("cannot make", &lock_file))?;
    let lock = tokio::task::spawn_blocking(move || flock(&lock, FlockOperation::LockExclusive).map(|()| lock)).await;
    let _lock = match lock {
        Ok(Ok(lock)) => lock,
        Ok(Err(errno)) => return Err(Error::system("cannot lock", &lock_file)(errno.into())),
        Err(_cancelled) => {
            return Err(Error::system("cannot lock", &lock_file)(
                std::io::ErrorKind::Interrupted.into(),
            ));
        }
    };
    // Another process may have made it while this one waited.
    if let Some(template) = read(&dir) {
        return Ok(template);
    }
    let unfinished = dir.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(Error::system("cannot remove", &unfinished))?;
    }
    std::fs::create_dir_all(&unfinished).map_err(Error::system("cannot make", &unfinished))?;
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o700))
        .map_err(Error::system("cannot restrict", &unfinished))?;
    let template = fill(&server, &unfinished, &dir).await?;
    if dir.exists() {
        // Of an earlier version of Selkie, which described it otherwise; clones do not need it any more.
        std::fs::remove_dir_all(&dir).map_err(Error::system("cannot replace", &dir))?;
    }
    std::fs::rename(&unfinished, &dir).map_err(Error::system("cannot rename", &unfinished))?;
    Ok(template)
}

fn read(dir: &Path) -> Option<Template> {
    let text = std::fs::read(dir.join(DESCRIPTION)).ok()?;
    serde_json::from_slice(&text).ok()
}

async fn fill(server: &Server, unfinished: &Path, dir: &Path) -> Result<Template, Error> {
    let data = unfinished.join(DATA);
    // Not the system's: a server that starts removes what looks like a temporary table there, also another server's.
    let tmp = unfinished.join("tmp");
    std::fs::create_dir(&tmp).map_err(Error::system("cannot make", &tmp))?;
    initialise(server, &data, &tmp).await?;
    std::fs::remove_dir_all(&tmp).map_err(Error::system("cannot remove", &tmp))?;
    let (version, variables, offer) = first_start(server, unfinished, &data).await?;
    let template = Template {
        template_dir: dir.join(DATA),
        version,
        variables,
        offer,
    };
    let text = serde_json::to_vec_pretty(&template).unwrap_or_default();
    let description = unfinished.join(DESCRIPTION);
    std::fs::write(&description, text).map_err(Error::system("cannot write", &description))?;
    Ok(template)
}

/// System tables, then time zones and the removals, both in mariadbd's bootstrap mode.
async fn initialise(server: &Server, data: &Path, tmp: &Path) -> Result<(), Error> {
    let mut install = Command::new(server.tool("mariadb-install-db"));
    install.args([
        "--no-defaults",
        "--skip-test-db",
        "--auth-root-authentication-method=socket",
    ]);
    install.args([
        "--character-set-server=utf8mb4",
        "--collation-server=utf8mb4_general_ci",
    ]);
    install
        .arg(format!("--innodb-log-file-size={REDO_LOG}"))
        .arg("--aria-log-file-size=8M");
    install.arg(format!("--datadir={}", data.display())).args(root_flag());
    install.env("TMPDIR", tmp);
    finished("mariadb-install-db", install, &[]).await?;
    let mut statements = b"USE mysql;\nDELETE FROM global_priv WHERE User='';\nDELETE FROM proxies_priv;\n".to_vec();
    statements.extend(time_zones(server).await?);
    let mut bootstrap = Command::new(&server.program);
    bootstrap.args(["--no-defaults", "--bootstrap", "--loose-skip-log-bin"]);
    bootstrap
        .arg(format!("--innodb-log-file-size={REDO_LOG}"))
        .arg("--aria-log-file-size=8M");
    bootstrap.arg(format!("--datadir={}", data.display())).args(root_flag());
    bootstrap.env("TMPDIR", tmp);
    finished("mariadbd --bootstrap", bootstrap, &statements).await
}

fn root_flag() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

/// The statements that load the machine's time zones; without zone files there are none to load.
async fn time_zones(server: &Server) -> Result<Vec<u8>, Error> {
    if !Path::new(ZONES).is_dir() {
        tracing::warn!("{ZONES} is not there: named time zones will be unknown");
        return Ok(Vec::new());
    }
    let tool = server.tool("mariadb-tzinfo-to-sql");
    let output = Command::new(&tool)
        .arg(ZONES)
        .output()
        .await
        .map_err(Error::system("cannot run", &tool))?;
    Ok(output.stdout)
}

async fn finished(tool: &str, mut command: Command, input: &[u8]) -> Result<(), Error> {
    let program = PathBuf::from(command.as_std().get_program());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::system("cannot start", &program))?;
    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A tool that ends early says why itself.
            let _ = stdin.write_all(input).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.map_err(Error::system("cannot wait for", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let last: Vec<_> = said.lines().rev().take(5).collect();
    let said = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
    Err(Error::Tool {
        tool: tool.to_owned(),
        status: output.status.to_string(),
        said,
    })
}

/// Starts the server as a compute would be started: proves that a clone will start, brings its files to the form they
/// keep, and asks what drivers will ask.
async fn first_start(
    server: &Server,
    unfinished: &Path,
    data: &Path,
) -> Result<(String, BTreeMap<String, String>, Offer), Error> {
    // Short, since it holds a socket; one process may prepare several at a time.
    let run_dir = std::env::temp_dir().join(format!("selkie-template-{:08x}", rand::random::<u32>()));
    let spec = Spec {
        project: "template".into(),
        incarnation: 0,
        data_dir: data.to_owned(),
        run_dir: run_dir.clone(),
        log_dir: unfinished.join("log"),
        template_dir: PathBuf::new(),
        mariadbd: None,
        uid: None,
        gid: None,
        size_cu: 0.25,
        // No account gets it.
        gateway_secret_hex: "00".into(),
        accounts: Vec::new(),
        removed_accounts: Vec::new(),
        new_databases: Vec::new(),
        databases: Vec::new(),
        settings: BTreeMap::new(),
        start_timeout_ms: 0,
        stop_timeout_ms: 0,
    };
    process::make_dir(&run_dir, &spec)?;
    let asked = async {
        let password = crate::sql::hex(&rand::random::<[u8; 16]>());
        let mut started = process::start(server, &spec, &password)?;
        started.greeted(START_PATIENCE).await?;
        let mut conn = observe::connect(&spec.server_socket(), &password).await?;
        let said = observe::server(&mut conn, &Ours::default()).await?;
        let offer = observe::offer(&mut conn).await?;
        // The next start makes it anew; a template has nobody's account.
        mysql_async::prelude::Queryable::query_drop(
            &mut conn,
            format!("DROP USER {}@'localhost'", crate::sql::AGENT_USER),
        )
        .await?;
        drop(conn);
        started.stop(STOP_PATIENCE).await;
        Ok((said.version, said.variables.into_iter().collect(), offer))
    };
    let asked = asked.await;
    // Only sockets and option files, in a directory of its own.
    let _ = std::fs::remove_dir_all(&run_dir);
    asked
}
