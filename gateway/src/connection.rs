//! The spine: one client connection from accept to close. Read this first.
//!
//! ```text
//! accept -> who is behind the proxy -> introduce (greeting, TLS, login packet) -> route -> authenticate -> OK
//!        -> answer what needs no database ... until a command needs one
//!        -> attach (wake, dial, log in, replay) -> relay until the client or the compute goes
//! ```
//! Each step is a function of its own that takes what the step before it produced; only this file knows their order. A
//! step that fails hands back enough to tell the client; it is told here, once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mysql_wire::command::Command;
use mysql_wire::ok::ok_frame_with;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::accept::proxied::client_of;
use crate::accept::turnstile::{Entered, TurnedAway};
use crate::accept::{Accepted, tell_at_the_door};
use crate::accounts::Accounts;
use crate::activity::{Counting, InFlight, Pins, Who};
use crate::answer::{self, AnswerError, Wanted};
use crate::auth::{self, AuthError, Authenticated, Claim, Proven, Routed};
use crate::buffer::Buffer;
use crate::cancel::{self, Handle, Killed, Killer, Registered};
use crate::compute::{self, ComputeConnection, DialError};
use crate::context::Gateway;
use crate::error::{ClientFacing, ErrorKind, Reported, Told, report};
use crate::handshake::{self, Broken, HandshakeError, Introduced, Welcome};
use crate::meter::{Counter, Tally};
use crate::metrics::CoreMetrics;
use crate::relay::{self, Ended, Surroundings};
use crate::route::{ComputeView, Project, Running, Seat, project_of_server_name, split_name};
use crate::session::{Identity, Session};
use crate::stream::ClientStream;
use crate::wake::{Cause, Phases, WakeError, Wakes, jittered};

/// How long a told client may take to read its error before the connection goes: closing at once would let the kernel
/// throw the error away together with what the client had sent.
const LINGER: Duration = Duration::from_secs(1);
/// The connection attribute by which a client may name its project.
const PROJECT_ATTRIBUTE: &[u8] = b"selkie_project";
/// Failed COM_CHANGE_USERs before the connection is closed, and the pause after each; MariaDB's own numbers.
const CHANGE_USER_TRIES: u32 = 3;
const CHANGE_USER_PAUSE: Duration = Duration::from_secs(1);
/// A compute that goes away whenever this session is restored will do so again.
const FRUITLESS_MAX: u32 = 3;
/// ER_ACCESS_DENIED_ERROR, ER_ACCOUNT_HAS_BEEN_LOCKED: a statement has changed the account, and the agent has not seen it yet.
const ACCOUNT_REFUSED: [u16; 2] = [1045, 4151];
/// Looks of the agent for one attach: an account is changed again right after a look now and then, not time after time.
const LOOKS_MAX: u32 = 3;
/// Pauses between tries to get a compute connection, before jitter.
const ATTACH_RETRY_MIN: Duration = Duration::from_millis(5);
const ATTACH_RETRY_MAX: Duration = Duration::from_millis(500);

/// Serves one client until one side closes.
pub(crate) async fn serve(gateway: Arc<Gateway>, metrics: Arc<CoreMetrics>, accepted: Accepted) {
    let id = gateway.sessions.next_id();
    // The login is short and large, the session long and small: its state is not carried along while a client idles.
    let Some(client) = Box::pin(log_in(&gateway, accepted, id)).await else {
        return;
    };
    tracing::debug!(session = id, project = %client.project.id, user = client.session.identity.user, peer = %client.address, "logged in");
    let tally = gateway.meter.tally(&client.project.id, metrics.thread);
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
    session: Session,
    /// Held for as long as the client is here.
    registered: Registered,
    _place: crate::accept::Place,
    _counted: Counting,
}

/// Greeting to OK, within the login's time. None: the client was told, or is gone.
async fn log_in(gateway: &Gateway, mut accepted: Accepted, id: u32) -> Option<Client> {
    let began = Instant::now();
    if let Err(error) = client_of(&mut accepted, &gateway.config.proxied).await {
        if error.kind() == ErrorKind::Malformed {
            tracing::info!(peer = %accepted.peer, reason = %error, "a trusted proxy does not say who its client is");
        }
        let refused = tell(ClientStream::Plain(accepted.stream), 0, &error).await;
        not_logged_in(gateway, id, accepted.peer, refused).await;
        return None;
    }
    let Accepted { peer, via_proxy, .. } = accepted;
    tracing::debug!(session = id, %peer, via_proxy, "accepted");
    // Held until all of the login is over, the time included in which a refused client reads why.
    let mut entered = match gateway.turnstile.enter(peer.ip(), began) {
        Ok(entered) => entered,
        Err(turned_away) => {
            turn_away(gateway, &accepted, &turned_away);
            return None;
        }
    };
    let outcome = timeout(
        gateway.config.handshake.timeout,
        prove_and_welcome(gateway, accepted, id, &mut entered),
    )
    .await;
    match outcome {
        Ok(Ok(client)) => {
            gateway.metrics.logged_in(began.elapsed());
            return Some(client);
        }
        Ok(Err(refused)) => not_logged_in(gateway, id, peer, refused).await,
        Err(_elapsed) => {
            tracing::debug!(session = id, %peer, "login took too long");
            gateway.metrics.login_failed(ErrorKind::Client);
        }
    }
    None
}

async fn not_logged_in(gateway: &Gateway, id: u32, peer: SocketAddr, refused: Refused) {
    gateway.metrics.login_failed(refused.reported.kind);
    tracing::debug!(session = id, %peer, reason = refused.reason, "not logged in");
    if let Some(stream) = refused.stream {
        linger(stream).await;
    }
}

fn turn_away(gateway: &Gateway, accepted: &Accepted, turned_away: &TurnedAway) {
    tracing::debug!(peer = %accepted.peer, reason = %turned_away, "turned away");
    gateway.metrics.login_failed(turned_away.kind());
    if let Some(told) = turned_away.told() {
        tell_at_the_door(&accepted.stream, &told);
    }
}

/// A login that came to nothing; the client has been told.
struct Refused {
    reported: Reported,
    reason: String,
    stream: Option<ClientStream>,
}

async fn prove_and_welcome(
    gateway: &Gateway,
    accepted: Accepted,
    id: u32,
    entered: &mut Entered<'_>,
) -> Result<Client, Refused> {
    let server = gateway.routes.server();
    let welcome = Welcome {
        server: server.as_deref(),
        connection_id: id,
        tls: &gateway.tls,
    };
    let introduced = match handshake::introduce(accepted, welcome).await {
        Ok(introduced) => introduced,
        Err(broken) => return Err(tell_broken(broken).await),
    };
    if let Err(error) = auth::check_transport(&introduced, gateway.config.tls.mode) {
        return Err(tell(introduced.stream, introduced.sequence, &error).await);
    }
    let routed = route(gateway, introduced);
    let known = routed.project.clone();
    let Authenticated {
        introduced,
        project,
        user,
        vouched,
    } = match auth::authenticate(routed, &gateway.decoy, &gateway.throttle).await {
        Ok(authenticated) => authenticated,
        Err((error, introduced)) => {
            count_refused(gateway, known.as_ref(), &error);
            return Err(tell(introduced.stream, introduced.sequence, &error).await);
        }
    };
    entered.proven();
    let Introduced {
        mut stream,
        peer,
        place,
        login,
        sequence,
        nonce,
        via_proxy: _,
    } = introduced;
    let identity = Identity {
        user,
        database: login.database,
        collation: login.collation,
        attributes: login.attributes,
        program_name: login.program_name,
    };
    let admitted = auth::admit(&project, &identity.user, login.capabilities);
    let mut session = Session::new(login.capabilities, login.max_packet_bytes, identity);
    match admitted {
        Ok(admitted) => session.admit(admitted),
        Err(error) => {
            count_refused(gateway, known.as_ref(), &error);
            return Err(tell(stream, sequence, &error).await);
        }
    }
    if let Err(error) = check_wishes(&project, &session).await {
        count_refused(gateway, known.as_ref(), &error);
        return Err(tell(stream, sequence, &error).await);
    }
    // Whoever has the OK may be killed.
    let registered = gateway.sessions.register(id, &project.id, &session.identity.user);
    let mut ok = Vec::new();
    ok_frame_with(&mut ok, sequence, session.status(), session.capabilities, &vouched);
    if let Err(e) = write(&mut stream, &ok).await {
        return Err(tell(stream, sequence, &HandshakeError::Io(e)).await);
    }
    let counted = Counting::client(&project);
    Ok(Client {
        stream,
        address: peer,
        nonce,
        project,
        session,
        registered,
        _place: place,
        _counted: counted,
    })
}

/// Can the session be as its login asks: the character set, the database? What control has pushed of databases may be
/// seconds old. So a compute that runs is asked before a client is refused; where none runs,
/// nothing has changed since.
async fn check_wishes(project: &Project, session: &Session) -> Result<(), AuthError> {
    auth::check_collation(session.identity.collation)?;
    let Err(refusal) = auth::check_database(&project.access(), &session.identity) else {
        return Ok(());
    };
    if let ComputeView::Ready(running) = project.compute()
        && let Ok(connection) = compute::connect(&running, session).await
    {
        connection.quit();
        return Ok(());
    }
    Err(refusal)
}

/// A login that was refused counts for the project it named, if there is such a one.
fn count_refused(gateway: &Gateway, project: Option<&Arc<Project>>, error: &AuthError) {
    if let Some(project) = project
        && matches!(error.kind(), ErrorKind::Denied | ErrorKind::Limited)
    {
        // Of no data-plane thread: whoever guesses passwords takes no counters of those that serve.
        let tally = gateway.meter.tally(&project.id, gateway.config.threads);
        tally.add(Counter::LoginsFailed, 1);
    }
}

/// Which project the client wants, by server name, by attribute, or by its login name; looked up.
fn route(gateway: &Gateway, introduced: Introduced) -> Routed {
    let server = introduced.stream.server_name();
    let by_server = server.and_then(|server| project_of_server_name(server, &gateway.config.sni_domains));
    let attributes = mysql_wire::login::attributes(&introduced.login.attributes);
    let by_attribute = attributes
        .filter(|(key, value)| *key == PROJECT_ATTRIBUTE && !value.is_empty())
        .find_map(|(_, value)| std::str::from_utf8(value).ok());
    let (project, user) = split_name(&introduced.login.name, by_server.or(by_attribute));
    let project = project.and_then(|project| gateway.routes.project(project));
    Routed {
        user: user.to_owned(),
        project,
        introduced,
    }
}

fn unexpected_end() -> std::io::Error {
    std::io::ErrorKind::UnexpectedEof.into()
}

async fn tell_broken(broken: Broken) -> Refused {
    let Broken {
        error,
        stream,
        sequence,
    } = broken;
    match stream {
        Some(stream) => tell(stream, sequence, &error).await,
        None => Refused {
            reported: Reported { kind: error.kind() },
            reason: error.to_string(),
            stream: None,
        },
    }
}

async fn tell(mut stream: ClientStream, sequence: u8, error: &impl ClientFacing) -> Refused {
    let reported = report(&mut stream, sequence, error).await;
    Refused {
        reported,
        reason: error.to_string(),
        stream: Some(stream),
    }
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
        let park = &self.gateway.config.park;
        let surroundings = Surroundings {
            session,
            running: &running,
            thread_id: connection.thread_id,
            killer: Killer {
                sessions: &self.gateway.sessions,
                own: &own,
                project,
            },
            drain: &self.gateway.drain,
            in_flight: InFlight::new(project, self.gateway.clock),
            metrics: &self.metrics,
            tally: &self.tally,
            park,
            capabilities: connection.capabilities,
            pinned_idle_timeout: project.pinned_idle_timeout().unwrap_or(park.pinned_idle_timeout),
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
                    ("asked", waited_before_asking),
                    ("started", waited_before_asking + started),
                    ("ready", waited_before_asking + ready),
                    ("greeting", greeted),
                    ("logged_in", logged_in),
                    ("first_row", first_row),
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
                // A client that is gone is noticed when it is next read from.
                let _ = write(&mut self.client.stream, &answers).await;
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

    /// COM_CHANGE_USER ends here: the client proves itself anew, the session begins anew, no compute hears of it. A name
    /// without a project stays in the present one. When it fails the session goes on as the old user, reset.
    async fn change_user(&mut self, packet: &[u8], mut sequence: u8) -> Result<(), Reported> {
        let Client {
            stream,
            session,
            project,
            address,
            nonce,
            registered,
            ..
        } = &mut self.client;
        session.reset();
        let change = match mysql_wire::login::ChangeUser::decode(packet, session.capabilities) {
            Ok(change) => change,
            Err(e) => return Err(self.report(sequence, &AuthError::Malformed(e.to_string())).await),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = text(change.user);
        let (wanted, user) = match split_name(&name, None) {
            (Some(wanted), user) if self.gateway.routes.project(wanted).is_some() => {
                (self.gateway.routes.project(wanted), user)
            }
            (Some(_), _) if project.access().user(&name).is_none() => (None, name.as_str()),
            _ => (Some(Arc::clone(project)), name.as_str()),
        };
        let database = change.database.filter(|name| !name.is_empty()).map(text);
        let plugin = change.auth_plugin.map(text);
        let claim = Claim {
            name: &name,
            address: address.ip(),
            project: wanted.as_ref(),
            user,
            plugin: plugin.as_deref(),
            // Clients differ in whether they answer here already, so all are asked, as MariaDB does.
            answer: None,
            nonce: *nonce,
        };
        match timeout(
            self.gateway.config.handshake.timeout,
            auth::prove(
                stream,
                &mut sequence,
                claim,
                &self.gateway.decoy,
                &self.gateway.throttle,
            ),
        )
        .await
        {
            Ok(Ok(Proven {
                project: proven,
                vouched,
            })) => {
                let admitted = match auth::admit(&proven, user, session.capabilities) {
                    Ok(admitted) => admitted,
                    Err(error) => {
                        count_refused(&self.gateway, Some(&proven), &error);
                        return Err(self.report(sequence, &error).await);
                    }
                };
                let identity = Identity {
                    user: user.to_owned(),
                    database,
                    collation: change
                        .collation
                        .and_then(|id| u8::try_from(id).ok())
                        .unwrap_or(session.identity.collation),
                    attributes: change.raw_attributes.to_vec(),
                    program_name: session.identity.program_name.clone(),
                };
                let before = session.change_identity(identity);
                if let Err(error) = check_wishes(&proven, session).await {
                    session.change_identity(before);
                    count_refused(&self.gateway, Some(&proven), &error);
                    return Err(self.report(sequence, &error).await);
                }
                session.admit(admitted);
                registered.handle.changes_hands(&proven.id, user);
                if !Arc::ptr_eq(&proven, project) {
                    self.client._counted = Counting::client(&proven);
                    self.tally = self.gateway.meter.tally(&proven.id, self.metrics.thread);
                    self.client.project = proven;
                }
                self.tally.add(Counter::Logins, 1);
                let mut ok = Vec::new();
                let Client { stream, session, .. } = &mut self.client;
                let (status, capabilities) = (session.status(), session.capabilities);
                ok_frame_with(&mut ok, sequence, status, capabilities, &vouched);
                // A client that is gone is noticed at its next command.
                let _ = write(stream, &ok).await;
                Ok(())
            }
            Ok(Err(error)) => {
                count_refused(&self.gateway, wanted.as_ref(), &error);
                Err(self.report(sequence, &error).await)
            }
            Err(_elapsed) => Err(self.report(sequence, &AuthError::Left).await),
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

/// How one try to connect to a compute goes: narrow, so that the loop around it runs in simulations, too.
pub(crate) trait Dial {
    type Connection;
    async fn dial(&mut self, running: &Running) -> Result<Self::Connection, DialError>;
    /// Its current database was dropped meanwhile; false: it has none, or has never used it.
    fn go_on_without_database(&mut self) -> bool;
}

impl Dial for Session {
    type Connection = ComputeConnection;

    async fn dial(&mut self, running: &Running) -> Result<ComputeConnection, DialError> {
        compute::connect(running, self).await
    }

    fn go_on_without_database(&mut self) -> bool {
        self.was_attached() && self.identity.database.take().is_some()
    }
}

/// Everything needed to get a compute connection.
pub(crate) struct Attach<'a, D> {
    pub(crate) wakes: &'a Wakes,
    /// Whom to ask where the compute refuses the account.
    pub(crate) accounts: &'a Accounts,
    pub(crate) project: &'a Arc<Project>,
    pub(crate) dial: &'a mut D,
    pub(crate) cause: Cause,
    pub(crate) deadline: Instant,
}

/// A session's compute connection.
pub(crate) struct Attached<C> {
    pub(crate) running: Arc<Running>,
    pub(crate) seat: Seat,
    pub(crate) connection: C,
    /// Where a wake was needed.
    phases: Option<Phases>,
    /// When control was first asked, where it had to be.
    asked: Instant,
}

/// Why none could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error(transparent)]
    Wake(#[from] WakeError),
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl ClientFacing for AttachError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Wake(_) => ErrorKind::Wake,
            Self::Dial(error) => error.kind(),
        }
    }

    fn told(&self) -> Option<Told> {
        match self {
            Self::Wake(error) => {
                let mut text = error.to_string();
                if let Some(first) = text.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                Some(Told::shutdown(text))
            }
            Self::Dial(error) => error.told(),
        }
    }
}

impl<D: Dial> Attach<'_, D> {
    /// Wake, dial, log in, under one deadline. What may be tried again is tried again until then.
    pub(crate) async fn run(self) -> Result<Attached<D::Connection>, AttachError> {
        let mut pause = ATTACH_RETRY_MIN;
        let mut unreachable = None;
        let mut denied_by = None;
        let mut looks = 0;
        let mut phases = None;
        let asked = Instant::now();
        loop {
            let woken = self
                .wakes
                .running(self.project, &self.cause, self.deadline, unreachable)
                .await?;
            phases = phases.or(woken.phases);
            let running = woken.running;
            // None: a drain has begun in this moment, and the view says so by now.
            let Some(seat) = running.seat() else { continue };
            let error = match timeout_at(self.deadline, self.dial.dial(&running)).await {
                Ok(Ok(connection)) => {
                    return Ok(Attached {
                        running,
                        seat,
                        connection,
                        phases,
                        asked,
                    });
                }
                Ok(Err(error)) => error,
                Err(_elapsed) => DialError::Unreachable(std::io::ErrorKind::TimedOut.into()),
            };
            drop(seat);
            unreachable = match &error {
                DialError::Unreachable(_) => Some(running.incarnation),
                // What a statement has just taken from the account, or put on it, the agent sets right as it looks. Or the
                // secret is older than the server that answers, because control was not heard since: it says so when it
                // is asked, and one that it calls the present one is believed.
                DialError::Refused(told) if ACCOUNT_REFUSED.contains(&told.code) && looks < LOOKS_MAX => {
                    looks += 1;
                    let looked = self.accounts.changed(&self.project.id, running.incarnation);
                    let _ = timeout_at(self.deadline, looked).await;
                    if self.project.access().user(&self.cause.user).is_none() {
                        return Err(error.into());
                    }
                    denied_by
                        .replace(running.incarnation)
                        .is_none_or(|before| before != running.incarnation)
                        .then_some(running.incarnation)
                }
                DialError::NoPlace(_) => {
                    running.want_place();
                    None
                }
                // Its current database was dropped meanwhile: it goes on with none, as on a connection of its own.
                DialError::NoDatabase(_) if self.dial.go_on_without_database() => continue,
                _ => return Err(error.into()),
            };
            let again = Instant::now() + jittered(pause);
            if again >= self.deadline {
                return Err(error.into());
            }
            tracing::debug!(project = %self.project.id, reason = %error, "dialling again");
            tokio::select! {
                () = sleep(again - Instant::now()) => {}
                () = running.place_freed(), if unreachable.is_none() => {}
            }
            pause = (pause * 2).min(ATTACH_RETRY_MAX);
        }
    }
}

#[cfg(test)]
mod tests;
