//! From accept to the OK: who is behind the proxy, introduce, route, authenticate, admit, welcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mysql_wire::ok::ok_frame_with;
use tokio::time::{Instant, timeout};

use super::{Client, linger, write};
use crate::accept::proxied::client_of;
use crate::accept::turnstile::{Entered, TurnedAway};
use crate::accept::{Accepted, tell_at_the_door};
use crate::activity::Counting;
use crate::auth::{self, AuthError, Authenticated, Routed};
use crate::compute;
use crate::context::Gateway;
use crate::error::{ClientFacing, ErrorKind, Reported, report};
use crate::handshake::{self, Broken, HandshakeError, Introduced, Welcome};
use crate::meter::Counter;
use crate::route::{ComputeView, Project, project_of_server_name, split_name};
use crate::session::{Identity, Session, kept_attributes};
use crate::stream::ClientStream;

/// The connection attribute by which a client may name its project.
const PROJECT_ATTRIBUTE: &[u8] = b"selkie_project";

/// For a compute to say that it lets a client in: milliseconds. One that takes longer than half of a usual login's time says
/// nothing, so that there is time to tell the client.
const ASK_TIME: Duration = Duration::from_secs(5);

/// Greeting to OK, within the login's time. None: the client was told, or is gone. A drain ends it where it is: nothing has
/// begun yet, and a client that never goes on would hold the drain up for all of its time.
pub(super) async fn log_in(gateway: &Gateway, accepted: Accepted, id: u32) -> Option<Client> {
    let peer = accepted.peer;
    tokio::select! {
        biased;
        client = introduced(gateway, accepted, id) => client,
        () = gateway.drain.begun.raised() => {
            tracing::debug!(session = id, %peer, "the gateway goes down in the middle of its login");
            gateway.metrics.login_failed(ErrorKind::Ours);
            None
        }
    }
}

async fn introduced(gateway: &Gateway, mut accepted: Accepted, id: u32) -> Option<Client> {
    let began = Instant::now();
    let listener = accepted.listener;
    if let Err(error) = client_of(&mut accepted, &gateway.config().listener(listener).proxied).await {
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
        gateway.config().handshake.timeout,
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
    let listener = accepted.listener;
    let server = gateway.routes.server();
    let welcome = Welcome {
        server: server.as_deref(),
        connection_id: id,
        tls: &gateway.tls,
    };
    let introduced = match handshake::introduce(accepted, welcome, entered).await {
        Ok(introduced) => introduced,
        Err(broken) => return Err(tell_broken(broken).await),
    };
    let config = gateway.config();
    let listener = config.listener(listener);
    if let Err(error) = auth::check_transport(&introduced, listener.tls_mode) {
        return Err(tell(introduced.stream, introduced.sequence, &error).await);
    }
    let routed = route(gateway, listener.project.as_deref(), introduced);
    let known = routed.project.clone();
    let Authenticated {
        introduced,
        project,
        user,
        life,
        vouched,
    } = match auth::authenticate(routed, &gateway.decoy, &gateway.throttle).await {
        Ok(authenticated) => authenticated,
        Err((error, introduced)) => {
            // Told first: what is counted for a project that there is takes time that would tell it from one that there is not.
            let refused = tell(introduced.stream, introduced.sequence, &error).await;
            count_refused(gateway, known.as_ref(), &error);
            return Err(refused);
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
    let Some(counted) = Counting::client(&project, config.accept.max_clients_per_project) else {
        let refused = tell(stream, sequence, &AuthError::ProjectFull).await;
        count_refused(gateway, known.as_ref(), &AuthError::ProjectFull);
        return Err(refused);
    };
    let identity = Identity {
        user,
        database: login.database,
        collation: login.collation,
        attributes: kept_attributes(&login.attributes),
        program_name: login.program_name,
    };
    let admitted = auth::admit(&project, &identity.user, login.capabilities);
    let mut session = Session::new(login.capabilities, login.max_packet_bytes, identity);
    session.share(&project.shelf);
    let wishes = match admitted {
        Ok(admitted) => {
            session.admit(admitted);
            session.life = life;
            check_wishes(&project, &session).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = wishes {
        let refused = tell(stream, sequence, &error).await;
        count_refused(gateway, known.as_ref(), &error);
        return Err(refused);
    }
    // Whoever has the OK may be killed.
    let registered = gateway.sessions.register(id, &project.id, &session.identity.user);
    let mut ok = Vec::new();
    ok_frame_with(&mut ok, sequence, session.status(), session.capabilities, &vouched);
    if let Err(e) = write(&mut stream, &ok).await {
        return Err(tell(stream, sequence, &HandshakeError::Io(e)).await);
    }
    Ok(Client {
        stream,
        address: peer,
        nonce,
        project,
        bound: listener.project.is_some(),
        session,
        registered,
        _place: place,
        _counted: counted,
    })
}

/// Can the session be as its login asks: the character set, the database? What control has pushed of databases may be
/// seconds old. So a compute that runs is asked before a client is refused; where none runs,
/// nothing has changed since.
pub(super) async fn check_wishes(project: &Project, session: &Session) -> Result<(), AuthError> {
    auth::check_collation(session.identity.collation)?;
    let Err(refusal) = auth::check_database(&project.access(), &session.identity) else {
        return Ok(());
    };
    if let ComputeView::Ready(running) = project.compute()
        && let Ok(Ok(connection)) = timeout(ASK_TIME, compute::connect(&running, session)).await
    {
        connection.quit();
        return Ok(());
    }
    Err(refusal)
}

/// A login that was refused counts for the project it named, if there is such a one. Called once the client has been told.
pub(super) fn count_refused(gateway: &Gateway, project: Option<&Arc<Project>>, error: &AuthError) {
    if let Some(project) = project
        && matches!(error.kind(), ErrorKind::Denied | ErrorKind::Limited)
    {
        // Of no data-plane thread: whoever guesses passwords takes no counters of those that serve.
        let tally = gateway
            .meter
            .tally(&project.id, project.created_ms, gateway.config().threads);
        tally.add(Counter::LoginsFailed, 1);
    }
    if matches!(error, AuthError::ProjectFull) {
        gateway.metrics.project_was_full();
    }
}

/// Which project the client wants, by its listener, by server name, by attribute, or by its login name; looked up. Who comes to
/// a listener of one project and names another names none.
fn route(gateway: &Gateway, bound: Option<&str>, introduced: Introduced) -> Routed {
    let server = introduced.stream.server_name();
    let by_server = server.and_then(|server| project_of_server_name(server, &gateway.config().sni_domains));
    let attributes = mysql_wire::login::attributes(&introduced.login.attributes);
    let by_attribute = attributes
        .filter(|(key, value)| *key == PROJECT_ATTRIBUTE && !value.is_empty())
        .find_map(|(_, value)| std::str::from_utf8(value).ok());
    let (project, user) = split_name(&introduced.login.name, bound.or(by_server).or(by_attribute));
    let strays = bound.is_some_and(|bound| by_server.into_iter().chain(by_attribute).any(|named| named != bound));
    let project = project.filter(|_| !strays);
    let project = project.and_then(|project| gateway.routes.project(project));
    Routed {
        user: user.to_owned(),
        project,
        introduced,
    }
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

#[cfg(test)]
mod tests;
