//! One compute from start to end: mariadbd, the agent's connection to it, the socket for control.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use control_api::agent as proto;
use control_api::spec::Spec;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::accounts::Ours;
use crate::changes::Changes;
use crate::door::{self, Door};
use crate::error::Error;
use crate::life::Mark;
use crate::process::{self, Ended, Process};
use crate::server::Server;
use crate::service::{self, ASKED_MAX, Asked};
use crate::sql::{self, Account};
use crate::{Exit, accounts, observe};

/// Databases change by SQL too; logins are checked against what is seen here. Accounts are seen sooner, by [`Changes`].
const OBSERVE_EVERY: Duration = Duration::from_secs(2);
/// A look at a server that answers at all takes milliseconds.
const OBSERVE_PATIENCE: Duration = Duration::from_secs(5);
/// To bring changes to the server. Shorter than control's own patience (15 s), so that it hears why.
const APPLY_PATIENCE: Duration = Duration::from_secs(12);
/// Of it for whatever holds the privilege tables: a tenant may hold them for as long as it likes. The server itself gives up then, so
/// that nothing of the agent's is left to stand in the way of a suspend.
const APPLY_LOCKS: &str = "SET SESSION lock_wait_timeout=5";
/// Of the time that a look took, before the next that nobody asks for: a tenant with thousands of accounts that changes one again and
/// again costs the machine a tenth of a core, and no more.
const REST_FACTOR: u32 = 9;
/// Whoever kept the agent waiting, rather than at work, has it back soon.
const REST_MAX: Duration = Duration::from_secs(10);
/// A server that answers is looked at within a second; what is waited for on purpose comes on top.
const QUIESCE_PATIENCE: Duration = Duration::from_secs(8);
/// The default of Stop.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// A server whose connections are cut by its death has ended by then.
const DEATH_PATIENCE: Duration = Duration::from_secs(1);
/// For control to hear the last word, and for answers on their way.
const FAREWELL: Duration = Duration::from_secs(2);

/// See [`crate::run()`].
pub(crate) async fn run(spec: Spec, shutdown: CancellationToken) -> Result<Exit, Error> {
    let began = Instant::now();
    let server = Server::find(spec.mariadbd.as_deref())?;
    // Control makes it so that the project's user can put its socket there and nothing in our place.
    std::fs::create_dir_all(&spec.run_dir).map_err(Error::system("cannot make", &spec.run_dir))?;
    let _alone = alone(&spec.log_dir)?;
    let listener = service::listen(&spec.agent_socket())?;
    let life = Mark::begin(&spec);
    let (status, seen) = watch::channel(proto::AgentStatus {
        project: spec.project.clone(),
        incarnation: spec.incarnation,
        phase: proto::Phase::Starting.into(),
        socket_path: spec.server_socket().display().to_string(),
        ..Default::default()
    });
    let (asks, asked) = mpsc::channel(ASKED_MAX);
    let over = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(service::serve(listener, seen, asks, over.clone()));
    let mut beating = JoinSet::new();
    beating.spawn(life.beats());
    let mut compute = Compute {
        door: Door::new(spec.server_socket()),
        spec,
        server,
        began,
        status,
        asked,
        conn: None,
        ours: Ours::default(),
        rests_until: began,
    };
    let outcome = compute.live(shutdown).await;
    let exit = match &outcome {
        Ok(exit) => exit.clone(),
        Err(error) => Exit {
            status: error.to_string(),
            reason: String::new(),
            signal: error.signal(),
            was_asked_for: false,
        },
    };
    beating.abort_all();
    let how = if exit.reason.is_empty() {
        exit.status.clone()
    } else {
        format!("{}: {}", exit.status, exit.reason)
    };
    // Before anybody hears of it: what is told is also there to be read.
    life.ends(&how, exit.signal);
    compute.status.send_modify(|status| {
        status.set_phase(proto::Phase::Exited);
        status.exit = how;
        status.exit_signal = exit.signal.unwrap_or_default();
        status.exit_was_asked_for = exit.was_asked_for;
    });
    over.cancel();
    // Those who do not listen to the end do not hold the agent up.
    let _ = timeout(FAREWELL, serving.join_next()).await;
    let _ = process::remove(&compute.spec.agent_socket());
    let _ = door::remove(&compute.spec.server_socket());
    outcome
}

/// One agent per project, whatever a control plane believes that was frozen while another took over. Before the socket is
/// made: the other one's must stay. What is locked is a directory that the project's own user cannot open.
fn alone(log_dir: &Path) -> Result<File, Error> {
    std::fs::create_dir_all(log_dir).map_err(Error::system("cannot make", log_dir))?;
    let lock = File::open(log_dir).map_err(Error::system("cannot open", log_dir))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|errno| Error::system("another agent runs, it holds", log_dir)(errno.into()))?;
    Ok(lock)
}

struct Compute {
    spec: Spec,
    server: Server,
    began: Instant,
    status: watch::Sender<proto::AgentStatus>,
    asked: mpsc::Receiver<Asked>,
    conn: Option<Conn>,
    door: Door,
    ours: Ours,
    /// From when on it is looked at again without being asked to.
    rests_until: Instant,
}

/// Why a wait for the server's end is over.
enum Turn {
    Ended(Ended),
    Stop(Duration),
    Apply(proto::ApplyRequest, oneshot::Sender<Result<proto::Server, Status>>),
    /// The patience of one that is forced.
    Quiesce(Option<Duration>, oneshot::Sender<Result<String, Status>>),
    Resume(oneshot::Sender<Result<(), Status>>),
    Settings(oneshot::Sender<Result<BTreeMap<String, String>, Status>>),
    LookFor(oneshot::Sender<Result<proto::Server, Status>>),
    Look,
}

impl Compute {
    async fn live(&mut self, shutdown: CancellationToken) -> Result<Exit, Error> {
        let handler = |kind| signal(kind).map_err(Error::system("cannot handle signals of", &self.spec.run_dir));
        let (mut terminate, mut interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
        let secret = sql::bytes(&self.spec.gateway_secret_hex).ok_or_else(|| Error::Spec {
            field: "gateway_secret_hex",
            problem: "is not hexadecimal".into(),
        })?;
        let password = sql::hex(&rand::random::<[u8; 32]>());
        self.ours = Ours {
            gateway_hash: sql::gateway_hash(&secret),
            agent_hash: sql::native_hash(password.as_bytes()),
        };
        let mut process = process::start(&self.server, &self.spec, &password)?;
        self.publish(|status, since| {
            status.server_pid = process.pid;
            status.executed_ms = since;
        });
        let mut stop_patience = match self.spec.stop_timeout() {
            Duration::ZERO => STOP_PATIENCE,
            patience => patience,
        };
        let ready = {
            let become_ready = become_ready(&self.spec, &mut process, &password, &self.ours);
            tokio::select! {
                ready = become_ready => Some(ready?),
                () = shutdown.cancelled() => None,
                _ = terminate.recv() => None,
                _ = interrupt.recv() => None,
                patience = stop_asked(&mut self.asked) => {
                    stop_patience = patience.unwrap_or(stop_patience);
                    None
                }
            }
        };
        let Some((conn, said)) = ready else {
            return Ok(asked_for(process.stop_starting(stop_patience).await));
        };
        self.conn = Some(conn);
        self.publish(|status, since| {
            status.set_phase(proto::Phase::Ready);
            status.ready_ms = since;
            status.server = Some(numbered(said, None));
        });
        tracing::info!(project = %self.spec.project, incarnation = self.spec.incarnation, ready_ms = self.since(), "ready");
        let mut looks = interval(OBSERVE_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = Changes::of(&self.spec.data_dir);
        loop {
            let rests = Instant::now() < self.rests_until;
            let turn = tokio::select! {
                biased;
                ended = process.ended() => Turn::Ended(ended),
                () = shutdown.cancelled() => Turn::Stop(stop_patience),
                _ = terminate.recv() => Turn::Stop(stop_patience),
                _ = interrupt.recv() => Turn::Stop(stop_patience),
                Some(asked) = self.asked.recv() => match asked {
                    Asked::Stop { patience } => Turn::Stop(patience.unwrap_or(stop_patience)),
                    Asked::Apply { request, answer } => Turn::Apply(request, answer),
                    Asked::Settings { answer } => Turn::Settings(answer),
                    Asked::Quiesce { forced, patience, answer } => Turn::Quiesce(forced.then_some(patience), answer),
                    Asked::Resume { answer } => Turn::Resume(answer),
                    Asked::Look { answer } => Turn::LookFor(answer),
                },
                () = sleep_until(self.rests_until), if rests => continue,
                _ = looks.tick(), if !rests => Turn::Look,
                () = changes.next(), if !rests => Turn::Look,
            };
            match turn {
                Turn::Ended(Ended { status, signal }) => {
                    return Ok(Exit {
                        status,
                        reason: process.why_ended(),
                        signal,
                        was_asked_for: false,
                    });
                }
                Turn::Stop(patience) => {
                    // Databases made since the last look would be refused to logins while it sleeps.
                    self.look(&password).await;
                    return Ok(self.stop(&mut process, patience).await);
                }
                Turn::Apply(request, answer) => {
                    // Whoever asked may be gone.
                    let _ = answer.send(
                        self.apply(request, &password)
                            .await
                            .map_err(|error| Status::internal(error.to_string())),
                    );
                }
                Turn::Settings(answer) => {
                    let values = self
                        .settings(&password)
                        .await
                        .map_err(|error| Status::internal(error.to_string()));
                    let _ = answer.send(values);
                }
                Turn::Quiesce(forced, answer) => {
                    let quiesced = tokio::select! {
                        quiesced = self.quiesce(forced, &password) => quiesced,
                        // The next turn sees it again.
                        _ended = process.ended() => continue,
                    };
                    let _ = answer.send(quiesced.map_err(|error| Status::internal(error.to_string())));
                }
                Turn::Resume(answer) => {
                    let resumed = self.resume(&password).await;
                    let _ = answer.send(resumed.map_err(|error| Status::internal(error.to_string())));
                }
                Turn::Look => self.look(&password).await,
                Turn::LookFor(answer) => {
                    self.look(&password).await;
                    let _ = answer.send(match &self.conn {
                        Some(_) => Ok(self.status.borrow().server.clone().unwrap_or_default()),
                        None => Err(Status::unavailable("the server does not answer the agent")),
                    });
                }
            }
        }
    }

    /// What still runs, in words; see [`Door`].
    async fn quiesce(&mut self, forced: Option<Duration>, password: &str) -> Result<String, Error> {
        let work = async {
            let mut conn = self.connection(password).await?;
            let busy = match forced {
                Some(patience) => self.door.shut_anyhow(&mut conn, patience).await?,
                None => self.door.shut_if_idle(&mut conn).await?,
            };
            self.conn = Some(conn);
            Ok(busy.map(|busy| busy.to_string()).unwrap_or_default())
        };
        let patience = QUIESCE_PATIENCE + forced.unwrap_or_default();
        timeout(patience, work).await.unwrap_or(Err(Error::Silent))
    }

    async fn resume(&mut self, password: &str) -> Result<(), Error> {
        let work = async {
            let mut conn = self.connection(password).await?;
            self.door.open(&mut conn).await?;
            self.conn = Some(conn);
            Ok(())
        };
        timeout(OBSERVE_PATIENCE, work).await.unwrap_or(Err(Error::Silent))
    }

    /// The agent's own, or a new one where that was lost; to be put back when it was of use.
    async fn connection(&mut self, password: &str) -> Result<Conn, Error> {
        match self.conn.take() {
            Some(conn) => Ok(conn),
            None => observe::connect(&self.door.way_in(), password).await,
        }
    }

    fn since(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    fn publish(&self, change: impl FnOnce(&mut proto::AgentStatus, u32)) {
        let since = self.since();
        self.status.send_modify(|status| change(status, since));
    }

    async fn stop(&mut self, process: &mut Process, patience: Duration) -> Exit {
        self.publish(|status, _| status.set_phase(proto::Phase::Stopping));
        self.conn = None;
        asked_for(process.stop(patience).await)
    }

    /// Sees what has changed. A server that does not answer is seen by its end, or not at all.
    async fn look(&mut self, password: &str) {
        let began = Instant::now();
        self.look_once(password).await;
        self.rests_until = Instant::now() + rest_after(began.elapsed());
    }

    async fn look_once(&mut self, password: &str) {
        let looked = async {
            let mut conn = self.connection(password).await?;
            let seen = (
                observe::server(&mut conn, &self.ours).await?,
                observe::activity(&mut conn).await?,
            );
            self.conn = Some(conn);
            Ok::<_, Error>(seen)
        };
        match timeout(OBSERVE_PATIENCE, looked).await {
            Ok(Ok((server, activity))) => {
                self.status.send_if_modified(|status| {
                    let server = numbered(server, status.server.as_ref());
                    let same = status.server.as_ref() == Some(&server) && status.activity == Some(activity);
                    (status.server, status.activity) = (Some(server), Some(activity));
                    !same
                });
            }
            Ok(Err(error)) => tracing::info!(%error, "the server does not answer the agent"),
            Err(_elapsed) => tracing::info!("the server does not answer the agent in time"),
        }
    }

    async fn settings(&mut self, password: &str) -> Result<BTreeMap<String, String>, Error> {
        let work = async {
            let mut conn = self.connection(password).await?;
            let values = observe::settings(&mut conn).await?;
            self.conn = Some(conn);
            Ok(values)
        };
        timeout(OBSERVE_PATIENCE, work).await.unwrap_or(Err(Error::Silent))
    }

    /// On a failure the connection is given up with it: what was asked last may still be answered there.
    async fn apply(&mut self, request: proto::ApplyRequest, password: &str) -> Result<proto::Server, Error> {
        let work = async {
            let mut conn = self.connection(password).await?;
            for statement in [sql::PREAMBLE, APPLY_LOCKS] {
                conn.query_drop(statement).await?;
            }
            let mut statements = Vec::new();
            if !request.accounts.is_empty() || !request.databases.is_empty() {
                let asked = request.accounts.iter().map(|account| account.user.as_str());
                let there = accounts::there(&mut conn, asked).await?;
                statements.extend(self.statements(&request, &there));
            }
            statements.extend(sql::set_global(&request.settings.into_iter().collect())?);
            for statement in statements {
                conn.query_drop(statement).await?;
            }
            let server = observe::server(&mut conn, &self.ours).await?;
            self.conn = Some(conn);
            Ok::<_, Error>(server)
        };
        let server = timeout(APPLY_PATIENCE, work).await.unwrap_or(Err(Error::Silent))?;
        self.publish(|status, _| status.server = Some(numbered(server, status.server.as_ref())));
        Ok(self.status.borrow().server.clone().unwrap_or_default())
    }

    /// What makes the server be as asked; `there` are the accounts that it has.
    fn statements(&self, request: &proto::ApplyRequest, there: &BTreeSet<String>) -> Vec<String> {
        let mut statements = Vec::new();
        let mut databases = Vec::new();
        for database in &request.databases {
            if database.absent {
                statements.push(sql::drop_database(&database.name));
                let accounts = request.accounts.iter().filter(|account| !account.absent);
                statements.extend(accounts.map(|account| sql::revoke_database(&account.user, &database.name)));
            } else {
                statements.push(sql::create_database(&database.name));
                databases.push(database.name.clone());
            }
        }
        for account in &request.accounts {
            if account.absent {
                statements.push(sql::drop_account(&account.user));
            } else if !account.known && account.password_only {
                let native_sha1_hex = sql::hex(&account.native_sha1);
                statements.push(sql::password(&account.user, &native_sha1_hex, &self.ours.gateway_hash));
            } else if !account.known {
                let wanted = Account {
                    user: &account.user,
                    native_sha1_hex: &sql::hex(&account.native_sha1),
                    admin: account.admin,
                };
                statements.extend(sql::account(&wanted, &self.ours.gateway_hash, &databases));
            } else if there.contains(&account.user) {
                let grant = |database: &String| sql::grant(&account.user, account.admin, database);
                statements.extend(databases.iter().map(grant));
            }
        }
        // What a REVOKE would leave in memory, and what was written into a row.
        statements.push("FLUSH PRIVILEGES".into());
        statements
    }
}

/// Before the next look that nobody asks for.
fn rest_after(look: Duration) -> Duration {
    look.saturating_mul(REST_FACTOR).min(REST_MAX)
}

/// Gives what was seen its number: the next, unless nothing has changed since the last look.
fn numbered(mut server: proto::Server, last: Option<&proto::Server>) -> proto::Server {
    server.look = last.map_or(0, |last| last.look);
    if last != Some(&server) {
        server.look += 1;
    }
    server
}

async fn become_ready(
    spec: &Spec,
    process: &mut Process,
    password: &str,
    ours: &Ours,
) -> Result<(Conn, proto::Server), Error> {
    process.greeted(spec.start_timeout()).await?;
    let first_look = first_look(spec, password, ours);
    let looked = timeout(spec.start_timeout(), first_look)
        .await
        .unwrap_or(Err(Error::Silent));
    match looked {
        Ok(ready) => Ok(ready),
        // What the connection says of a server that died is not why it did not start.
        Err(error) => match timeout(DEATH_PATIENCE, process.ended()).await {
            Ok(ended) => Err(process.did_not_start(ended)),
            Err(_lives) => Err(error),
        },
    }
}

fn asked_for(Ended { status, signal }: Ended) -> Exit {
    Exit {
        status,
        reason: String::new(),
        signal,
        was_asked_for: true,
    }
}

/// Grants the databases that no server has had to the accounts that one has had, and looks at what there is.
async fn first_look(spec: &Spec, password: &str, ours: &Ours) -> Result<(Conn, proto::Server), Error> {
    let mut conn = observe::connect(&spec.server_socket(), password).await?;
    if !spec.new_databases.is_empty() {
        let known = spec.accounts.iter().filter(|account| account.known);
        let there = accounts::there(&mut conn, known.clone().map(|account| account.user.as_str())).await?;
        for account in known.filter(|account| there.contains(&account.user)) {
            for database in &spec.new_databases {
                conn.query_drop(sql::grant(&account.user, account.admin, database))
                    .await?;
            }
        }
    }
    let said = observe::server(&mut conn, ours).await?;
    Ok((conn, said))
}

fn starting() -> Status {
    Status::unavailable("the compute is starting")
}

/// Resolves when Stop is asked for; what else is asked for before the server is ready is refused.
async fn stop_asked(asked: &mut mpsc::Receiver<Asked>) -> Option<Duration> {
    loop {
        match asked.recv().await {
            Some(Asked::Stop { patience }) => return patience,
            Some(Asked::Apply { answer, .. }) => {
                let _ = answer.send(Err(starting()));
            }
            Some(Asked::Quiesce { answer, .. }) => {
                let _ = answer.send(Err(starting()));
            }
            Some(Asked::Resume { answer }) => {
                let _ = answer.send(Err(starting()));
            }
            Some(Asked::Settings { answer }) => {
                let _ = answer.send(Err(starting()));
            }
            Some(Asked::Look { answer }) => {
                let _ = answer.send(Err(starting()));
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_take_a_tenth_of_the_time_and_who_was_kept_waiting_looks_again_soon() {
        let usual = rest_after(Duration::from_millis(5));
        assert!(
            usual < OBSERVE_EVERY / 10,
            "a change is seen within a second: {usual:?}"
        );
        let large = Duration::from_millis(300);
        assert!(rest_after(large) >= 9 * large);
        assert!(rest_after(OBSERVE_PATIENCE) <= Duration::from_secs(10));
    }

    #[test]
    fn second_agent_of_a_project_does_not_start() {
        let dir = tempfile::tempdir().unwrap();
        let first = alone(dir.path()).unwrap();
        let refused = alone(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("another agent runs"), "{refused}");
        drop(first);
        alone(dir.path()).unwrap();
    }
}
