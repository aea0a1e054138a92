//! The spine: one client connection from accept to close. Read this first.
//!
//! ```text
//! accept -> who is behind the proxy -> introduce (greeting, TLS, login packet) -> route -> authenticate -> OK
//!        -> answer what needs no database ... until a command needs one
//!        -> attach (wake, dial, log in, replay) -> relay until the client or the compute goes
//! ```
//! Each step is a function of its own that takes what the step before it produced; only this module knows their order. A
//! step that fails hands back enough to tell the client; it is told here, once.

pub(crate) mod attach;
mod change_user;
mod login;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mysql_wire::command::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use self::attach::{Attach, Attached};
use self::login::log_in;
use crate::accept::{Accepted, Place};
use crate::activity::{Counting, InFlight, Pins, Who};
use crate::answer::{self, AnswerError, Wanted};
use crate::buffer::Buffer;
use crate::cancel::{self, Handle, Killed, Killer, Registered};
use crate::compute::{ComputeConnection, DialError};
use crate::context::Gateway;
use crate::error::{ClientFacing, ErrorKind, Reported, Told, report};
use crate::meter::{Counter, Tally};
use crate::metrics::CoreMetrics;
use crate::relay::{self, Ended, Surroundings};
use crate::route::{Project, Running};
use crate::session::Session;
use crate::stream::ClientStream;
use crate::wake::{Cause, Phases};

/// How long a told client may take to read its error before the connection goes: closing at once would let the kernel
/// throw the error away together with what the client had sent.
const LINGER: Duration = Duration::from_secs(1);
/// Failed COM_CHANGE_USERs before the connection is closed, and the pause after each; MariaDB's own numbers.
const CHANGE_USER_TRIES: u32 = 3;
const CHANGE_USER_PAUSE: Duration = Duration::from_secs(1);
/// A compute that goes away whenever this session is restored will do so again.
const FRUITLESS_MAX: u32 = 3;
/// For what a database that died had answered: its client may be slow, in the middle of a result, and reads on. MariaDB's own
/// `net_write_timeout`.
const ANSWERS_TIME: Duration = Duration::from_secs(60);

/// Serves one client until one side closes.
pub(crate) async fn serve(gateway: Arc<Gateway>, metrics: Arc<CoreMetrics>, accepted: Accepted) {
    let id = gateway.sessions.next_id();
    // The login is short and large, the session long and small: its state is not carried along while a client idles.
    let Some(client) = Box::pin(log_in(&gateway, accepted, id)).await else {
        return;
    };
    tracing::debug!(session = id, project = %client.project.id, user = client.session.identity.user, peer = %client.address, "logged in");
    let tally = gateway
        .meter
        .tally(&client.project.id, client.project.created_ms, metrics.thread);
    tally.add(Counter::Logins, 1);
    let mut served = Served {
        gateway,
        metrics,
        tally,
        id,
        client,
        fruitless: 0,
    };
    let reported = served.run().await;
    let Served { client, gateway, .. } = served;
    // What it is told is the last of it: there is nothing left to kill.
    drop(client.registered);
    match reported {
        None => tracing::debug!(session = id, project = %client.project.id, "closed"),
        Some(Reported { kind }) => {
            gateway.metrics.error(kind);
            linger(client.stream).await;
        }
    }
}

/// A client that is logged in.
struct Client {
    stream: ClientStream,
    address: SocketAddr,
    /// Of the greeting.
    nonce: [u8; 20],
    project: Arc<Project>,
    /// It has come to a listener of this project only, and may become nobody of another.
    bound: bool,
    session: Session,
    /// Held for as long as the client is here.
    registered: Registered,
    _place: Place,
    _counted: Counting,
}

fn unexpected_end() -> std::io::Error {
    std::io::ErrorKind::UnexpectedEof.into()
}

async fn write(stream: &mut ClientStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Sends the end of our side and reads the client's away, so that the last packet arrives.
async fn linger(mut stream: ClientStream) {
    let drained = async {
        let _ = stream.shutdown().await;
        let mut sink = [0; 1024];
        while matches!(stream.read(&mut sink).await, Ok(1..)) {}
    };
    // Whether the client was quick enough or not, it is over.
    let _ = timeout(LINGER, drained).await;
}

/// A logged-in client being served.
struct Served {
    gateway: Arc<Gateway>,
    metrics: Arc<CoreMetrics>,
    /// Of the present project.
    tally: Arc<Tally>,
    id: u32,
    client: Client,
    /// Times in a row that a compute went away before it answered anything.
    fruitless: u32,
}

/// How an attached stretch of a session ended, for the loop over stretches.
enum After {
    /// Without a compute again, with what the client sent since, and what its next command is to be answered with.
    Detached(Option<Buffer>, Option<Told>),
    Closed(Option<Reported>),
}

impl Served {
    /// Commands answered here, and stretches with a compute, in turns. Some: it ended in an error that was told.
    async fn run(&mut self) -> Option<Reported> {
        let (mut bytes, mut owed) = (None, None);
        let mut change_user_failures = 0;
        loop {
            let Client {
                stream,
                session,
                project,
                registered,
                address,
                ..
            } = &mut self.client;
            let drain = &self.gateway.drain;
            let killer = Killer {
                sessions: &self.gateway.sessions,
                own: &registered.handle,
                project,
                from: address.ip(),
                life: session.life,
            };
            let (bytes_here, owed_here) = (bytes.take(), owed.take());
            let from = address.ip();
            let wanted =
                answer::until_more_is_wanted(stream, session, killer, from, drain, bytes_here, owed_here).await;
            let wanted = match wanted {
                Ok(wanted) => wanted,
                Err(error) => return Some(self.report(1, &error).await),
            };
            bytes = match wanted {
                Wanted::Nothing => return None,
                Wanted::Compute { command, bytes } => match Box::pin(self.attached(command, bytes)).await {
                    After::Detached(bytes, told) => {
                        owed = told;
                        bytes
                    }
                    After::Closed(reported) => return reported,
                },
                Wanted::ChangeUser {
                    packet,
                    sequence,
                    bytes,
                } => {
                    match Box::pin(self.change_user(&packet, sequence)).await {
                        Ok(()) => change_user_failures = 0,
                        Err(reported) => {
                            change_user_failures += 1;
                            if change_user_failures >= CHANGE_USER_TRIES || reported.kind != ErrorKind::Denied {
                                return Some(reported);
                            }
                            self.gateway.metrics.error(reported.kind);
                            sleep(CHANGE_USER_PAUSE).await;
                        }
                    }
                    Some(bytes)
                }
            };
        }
    }

    async fn report(&mut self, sequence: u8, error: &impl ClientFacing) -> Reported {
        self.note(error);
        report(&mut self.client.stream, sequence, error).await
    }

    fn note(&self, error: &impl ClientFacing) {
        let project = &self.client.project.id;
        match error.kind() {
            ErrorKind::Ours | ErrorKind::Client | ErrorKind::Denied | ErrorKind::Limited => {
                tracing::debug!(session = self.id, %project, reason = %error, "session ends");
            }
            _ => tracing::info!(session = self.id, %project, reason = %error, "session ends"),
        }
    }

    /// A stretch of the session with a compute: attach, relay.
    async fn attached(&mut self, command: Command, mut bytes: Buffer) -> After {
        // It may have sent its command before it heard.
        if let Some(reported) = self.shut_out().await {
            return After::Closed(Some(reported));
        }
        let asked = Instant::now();
        let cause = self.cause(command);
        let attach = Attach {
            wakes: &self.gateway.wakes,
            accounts: &self.gateway.accounts,
            project: &self.client.project,
            dial: &mut self.client.session,
            cause,
            deadline: self.gateway.wakes.deadline(&self.client.project),
        };
        let own = Arc::clone(&self.client.registered.handle);
        let waiting = own.waits();
        let attached = tokio::select! {
            attached = attach.run() => attached,
            () = own.killed() => return After::Closed(Some(self.report(1, &Killed).await)),
            () = self.gateway.drain.over.raised() => {
                self.gateway.drain.cuts();
                return After::Closed(Some(self.report(1, &AnswerError::Draining).await));
            }
            () = waiting.cancelled() => return self.interrupted(bytes),
            () = client_left(&mut self.client.stream, &mut bytes) => {
                tracing::debug!(session = self.id, project = %self.client.project.id, "left while the database was waking");
                return After::Closed(None);
            }
        };
        let Attached {
            running,
            seat,
            mut connection,
            phases,
            asked: asked_control,
        } = match attached {
            Ok(attached) => attached,
            Err(error) => return After::Closed(Some(self.report(1, &error).await)),
        };
        if !own.attached() {
            connection.quit();
            return self.interrupted(bytes);
        }
        // Much may have happened meanwhile; and the compute has let in whoever has the name by now.
        if let Some(reported) = self.shut_out().await {
            connection.quit();
            return After::Closed(Some(reported));
        }
        let Client {
            stream,
            session,
            project,
            address,
            ..
        } = &mut self.client;
        let _counted = Counting::attached(project);
        let _attached = self.tally.attached();
        let _seat = seat;
        let replay = session.replay();
        let who = Who {
            connection_id: self.id,
            user: session.identity.user.as_str().into(),
            client_address: address.to_string().into(),
            program_name: session.identity.program_name.as_str().into(),
        };
        let config = self.gateway.config();
        let park = &config.park;
        let life = session.life;
        let surroundings = Surroundings {
            session,
            running: &running,
            thread_id: connection.thread_id,
            killer: Killer {
                sessions: &self.gateway.sessions,
                own: &own,
                project,
                from: address.ip(),
                life,
            },
            drain: &self.gateway.drain,
            in_flight: InFlight::new(project, self.gateway.clock),
            metrics: &self.metrics,
            tally: &self.tally,
            park,
            capabilities: connection.capabilities,
            pinned_idle_timeout: project.pinned_idle_timeout().unwrap_or(park.pinned_idle_timeout),
            last_command: config.drain.timeout,
            pins: Pins {
                project: Arc::clone(project),
                who,
            },
            accounts: &self.gateway.accounts,
            from: address.ip(),
        };
        let on_first_byte = {
            let (gateway, project, id) = (&self.gateway, &*project, self.id);
            let waited_before_asking = asked_control - asked;
            let (greeted, logged_in) = (connection.greeted - asked, connection.logged_in - asked);
            move || {
                let Some(Phases { started, ready }) = phases else {
                    return;
                };
                let first_row = asked.elapsed();
                gateway.metrics.woken([
                    waited_before_asking,
                    waited_before_asking + started,
                    waited_before_asking + ready,
                    greeted,
                    logged_in,
                    first_row,
                ]);
                tracing::info!(
                    session = id, project = %project.id,
                    started_ms = started.as_millis(), ready_ms = ready.as_millis(), greeting_ms = greeted.as_millis(),
                    logged_in_ms = logged_in.as_millis(), first_row_ms = first_row.as_millis(), "woken"
                );
            }
        };
        self.metrics.attached();
        let ended = relay::run(
            stream,
            &mut connection.stream,
            replay,
            bytes,
            surroundings,
            on_first_byte,
        )
        .await;
        self.metrics.detached();
        own.detached();
        self.after_relay(ended, connection, &running).await
    }

    /// Some: the client may be here no more, and has been told: its network was taken away, or its user was deleted, by whose name
    /// another is let in now.
    async fn shut_out(&mut self) -> Option<Reported> {
        let Client {
            project,
            session,
            address,
            ..
        } = &self.client;
        let error = match () {
            () if !project.admits(address.ip()) => AnswerError::ShutOut(address.ip()),
            () if !project.knows(&session.identity.user, session.life) => AnswerError::UserGone,
            () => return None,
        };
        Some(self.report(1, &error).await)
    }

    /// A KILL QUERY came while the command waited for the database: it is answered with that.
    fn interrupted(&self, bytes: Buffer) -> After {
        self.client.registered.handle.detached();
        After::Detached(Some(bytes), Some(cancel::interrupted()))
    }

    async fn after_relay(&mut self, ended: Ended, connection: ComputeConnection, running: &Running) -> After {
        match ended {
            Ended::ClientQuit => {
                connection.quit();
                After::Closed(None)
            }
            Ended::ChangeUser { bytes } => {
                connection.quit();
                // Settings made on the compute are gone with it, as COM_CHANGE_USER wants it.
                self.client.session.reset();
                After::Detached(Some(bytes), None)
            }
            Ended::Parked { bytes } => {
                connection.quit();
                self.fruitless = 0;
                self.metrics.parked();
                After::Detached(bytes, None)
            }
            Ended::Lost { bytes, answers, owed } => {
                drop(connection);
                // Nothing was answered: the same command goes to the next compute, but not for ever.
                let again = bytes.is_some() && answers.is_empty();
                self.fruitless = if again { self.fruitless + 1 } else { 0 };
                if self.fruitless > FRUITLESS_MAX {
                    return After::Closed(Some(self.report(1, &DialError::Unreachable(unexpected_end())).await));
                }
                self.metrics.compute_lost();
                tracing::info!(session = self.id, project = %self.client.project.id, "goes on without its compute");
                // A client that is gone is noticed when it is next read from; behind a part of an ERR nothing can be said.
                let telling = write(&mut self.client.stream, &answers);
                if timeout(ANSWERS_TIME, telling).await.is_err() {
                    return After::Closed(None);
                }
                After::Detached(bytes, owed)
            }
            Ended::Failed { error, under_way } => {
                let ending = async {
                    if under_way {
                        end_statement(
                            &self.metrics,
                            &self.client.registered.handle,
                            &self.client.session,
                            &connection,
                            running,
                        )
                        .await;
                    }
                };
                let sequence = error.sequence();
                self.note(&error);
                // A client that does not read keeps nobody from ending its statement.
                let telling = report(&mut self.client.stream, sequence, &error);
                let (reported, ()) = tokio::join!(telling, ending);
                drop(connection);
                After::Closed(Some(reported))
            }
        }
    }

    fn cause(&self, command: Command) -> Cause {
        let identity = &self.client.session.identity;
        Cause {
            user: identity.user.clone(),
            client_address: self.client.address.to_string(),
            program_name: identity.program_name.clone(),
            command: command.name(),
        }
    }
}

/// Nobody waits for what the compute is at any more: it would notice when it next writes, which may be in an hour. The
/// connection is held meanwhile: its thread is this session's until then.
async fn end_statement(
    metrics: &CoreMetrics,
    handle: &Handle,
    session: &Session,
    connection: &ComputeConnection,
    running: &Running,
) {
    let kill = handle.end_of_thread(connection.thread_id);
    match cancel::end_thread(running, &session.identity.user, &kill).await {
        Ok(()) => metrics.killed_at_compute(),
        // A compute that goes down ends its statements itself.
        Err(_) if running.closing().is_raised() => {}
        Err(error) => {
            tracing::info!(session = handle.id, reason = %error, "a statement goes on without its client");
        }
    }
}

/// Completes when the client is gone without a goodbye; keeps what it sends meanwhile, as far as the buffer holds it.
async fn client_left(stream: &mut ClientStream, bytes: &mut Buffer) {
    loop {
        if bytes.free().is_empty() {
            // What more there is stays in the socket; then only the kernel can tell that the client is gone.
            let readiness = stream.tcp().ready(tokio::io::Interest::READABLE);
            if !matches!(readiness.await, Ok(ready) if !ready.is_read_closed()) {
                return;
            }
            sleep(Duration::from_millis(250)).await;
            continue;
        }
        match stream.read(bytes.free()).await {
            Ok(n @ 1..) => bytes.extend(n),
            // It wants its commands done, and no answer.
            Ok(0) if relay::ends_in_goodbye(bytes) => std::future::pending().await,
            _ => return,
        }
    }
}
