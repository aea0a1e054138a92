//! COM_CHANGE_USER, which ends at the gateway.

use std::sync::Arc;

use mysql_wire::ok::ok_frame_with;
use tokio::time::timeout;

use super::login::{check_wishes, count_refused};
use super::{Client, Served, write};
use crate::activity::Counting;
use crate::auth::{self, AuthError, Claim, Proven};
use crate::error::{ErrorKind, Reported, TELL_TIME};
use crate::meter::Counter;
use crate::route::{Project, split_name};
use crate::session::{Identity, kept_attributes};

impl Served {
    /// COM_CHANGE_USER ends here: the client proves itself anew, the session begins anew, no compute hears of it. A name
    /// without a project stays in the present one, and so does every name at a listener of one project. When it fails the
    /// session goes on as the old user, reset.
    pub(super) async fn change_user(&mut self, packet: &[u8], mut sequence: u8) -> Result<(), Reported> {
        let Client {
            stream,
            session,
            project,
            address,
            nonce,
            registered,
            bound,
            ..
        } = &mut self.client;
        session.reset();
        let change = match mysql_wire::login::ChangeUser::decode(packet, session.capabilities) {
            Ok(change) => change,
            Err(e) => return Err(self.report(sequence, &AuthError::Malformed(e.to_string())).await),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = text(change.user);
        let (wanted, user) = match split_name(&name, bound.then_some(&*project.id)) {
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
            self.gateway.config().handshake.timeout,
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
                life,
            })) => {
                let max = self.gateway.config().accept.max_clients_per_project;
                let moves = !Arc::ptr_eq(&proven, project);
                let counted = match moves.then(|| Counting::client(&proven, max)) {
                    Some(None) => return Err(self.refuse(sequence, Some(&proven), AuthError::ProjectFull).await),
                    counted => counted.flatten(),
                };
                let admitted = match auth::admit(&proven, user, session.capabilities) {
                    Ok(admitted) => admitted,
                    Err(error) => return Err(self.refuse(sequence, Some(&proven), error).await),
                };
                let identity = Identity {
                    user: user.to_owned(),
                    database,
                    collation: change
                        .collation
                        .and_then(|id| u8::try_from(id).ok())
                        .unwrap_or(session.identity.collation),
                    attributes: kept_attributes(change.raw_attributes),
                    program_name: session.identity.program_name.clone(),
                };
                let before = session.change_identity(identity);
                if let Err(error) = check_wishes(&proven, session).await {
                    session.change_identity(before);
                    return Err(self.refuse(sequence, Some(&proven), error).await);
                }
                session.admit(admitted);
                session.life = life;
                registered.changes_hands(&proven.id, user);
                if let Some(counted) = counted {
                    session.share(&proven.shelf);
                    self.client._counted = counted;
                    self.tally = self
                        .gateway
                        .meter
                        .tally(&proven.id, proven.created_ms, self.metrics.thread);
                    self.client.project = proven;
                }
                self.tally.add(Counter::Logins, 1);
                let mut ok = Vec::new();
                let Client { stream, session, .. } = &mut self.client;
                let (status, capabilities) = (session.status(), session.capabilities);
                ok_frame_with(&mut ok, sequence, status, capabilities, &vouched);
                // A client that is gone is noticed at its next command; behind a part of an OK nothing can be said.
                match timeout(TELL_TIME, write(stream, &ok)).await {
                    Ok(_) => Ok(()),
                    Err(_elapsed) => Err(Reported {
                        kind: ErrorKind::Client,
                    }),
                }
            }
            Ok(Err(error)) => Err(self.refuse(sequence, wanted.as_ref(), error).await),
            Err(_elapsed) => Err(self.report(sequence, &AuthError::Left).await),
        }
    }

    async fn refuse(&mut self, sequence: u8, project: Option<&Arc<Project>>, error: AuthError) -> Reported {
        let reported = self.report(sequence, &error).await;
        count_refused(&self.gateway, project, &error);
        reported
    }
}
