//! KILL, and the end of a statement whose client is gone.
//!
//! In: what a client asks for ([`Kill`], read from its text), or a session that ends with a command under way. Out: what the
//! client is answered. Promises: a KILL wakes nothing, reaches nothing of another project, and does not say whether there is
//! something; it ends the statement that is under way when it comes, and never one of another session (see [`sessions`]).
//!
//! Ids of the gateway's are looked up in the table of [`sessions`]; those of a compute go there as they are, where it runs.
//! Everybody may end what is the own user's. More than that MariaDB allows with CONNECTION ADMIN, which no tenant has.

mod compute;
mod kill;
mod sessions;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

pub(crate) use compute::end_thread;
use kill::What;
pub(crate) use kill::{Kill, TEXT_BYTES_MAX, Whom};
pub(crate) use sessions::{Ask, Handle, Registered, Sessions};

use crate::compute::DialError;
use crate::error::{ClientFacing, ErrorKind, Told};
use crate::route::{ComputeView, Project};

/// A KILL takes a compute no longer than a login; where no connection is free it waits so long for one.
const PATIENCE: Duration = Duration::from_secs(10);
/// The session that is asked needs so much longer than its compute.
const PATIENCE_WITH_SESSION: Duration = PATIENCE.saturating_add(Duration::from_secs(2));
/// Of a user's sessions, of which there may be tens of thousands, so many are told in one go: others share the thread, and a client
/// may say KILL USER as often as it likes.
const TARGETS_AT_ONCE: usize = 64;
/// ER_NO_SUCH_THREAD.
const NO_SUCH_THREAD: u16 = 1094;

/// What became of a KILL.
#[must_use]
pub(crate) enum Outcome {
    /// Of so many connections, where that is told.
    Done(u64),
    Refused(Told),
    /// The connection that it came on is to end.
    Own,
}

/// What a KILL of one session has come to at once.
enum Begun {
    Is(Outcome),
    /// The session that is to end its statement tells.
    Waits(oneshot::Receiver<Result<(), Told>>),
}

/// A session's statement ends.
async fn ended(done: oneshot::Receiver<Result<(), Told>>) -> Outcome {
    match timeout(PATIENCE_WITH_SESSION, done).await {
        Ok(Ok(Err(told))) => Outcome::Refused(told),
        Ok(_) => Outcome::Done(0),
        Err(_elapsed) => refused(1105, "The database does not answer the KILL".into()),
    }
}

/// Whoever says KILL.
#[derive(Clone, Copy)]
pub(crate) struct Killer<'a> {
    pub(crate) sessions: &'a Sessions,
    pub(crate) own: &'a Handle,
    pub(crate) project: &'a Project,
    /// Where it comes from.
    pub(crate) from: IpAddr,
    /// Of its user ([`crate::route::User::life`]).
    pub(crate) life: u64,
}

impl Killer<'_> {
    /// Does what the KILL says, with the rights of `user`. Bounded in time. Not cancel-safe: what has begun goes on.
    pub(crate) async fn kill(&self, user: &str, kill: &Kill) -> Outcome {
        // Its session ends for the same reason, but may have read this before it has heard of it.
        if !self.project.admits(self.from) {
            return Outcome::Refused(Told::shut_out(self.from));
        }
        // Whoever has the name now is another, with sessions and threads of its own.
        if !self.project.knows(user, self.life) {
            return Outcome::Refused(Told::user_gone());
        }
        match &kill.whom {
            Whom::Session(id) => match self.sessions.find(*id) {
                Some(target) if !target.belongs_to(&self.project.id) => unknown(*id),
                Some(target) if !target.is_of(user) => refused(1095, format!("You are not owner of thread {id}")),
                Some(target) => self.end(&target, kill).await,
                None => unknown(*id),
            },
            Whom::User(name) => self.end_all(user, name, kill).await,
            Whom::Thread(id) => self.at_compute(user, kill).await.unwrap_or_else(|| unknown(*id)),
            Whom::Statement(id) => {
                let unknown = || refused(1957, format!("Unknown query id: {id}"));
                self.at_compute(user, kill).await.unwrap_or_else(unknown)
            }
        }
    }

    async fn end(&self, target: &Handle, kill: &Kill) -> Outcome {
        match self.begin(target, kill) {
            Begun::Is(outcome) => outcome,
            Begun::Waits(done) => ended(done).await,
        }
    }

    fn begin(&self, target: &Handle, kill: &Kill) -> Begun {
        let is_own = target.id == self.own.id;
        Begun::Is(match kill.what {
            What::Connection => {
                target.kill(kill.force);
                if is_own { Outcome::Own } else { Outcome::Done(0) }
            }
            What::Query if is_own => Outcome::Refused(interrupted()),
            What::Query => match target.interrupt(kill.clone()) {
                None => Outcome::Done(0),
                Some(done) => return Begun::Waits(done),
            },
        })
    }

    async fn end_all(&self, user: &str, name: &str, kill: &Kill) -> Outcome {
        if name != user {
            return match self.sessions.has_any_of(&self.project.id, name) {
                false => Outcome::Done(0),
                true => refused(1095, format!("Operation KILL USER failed for '{name}'@'%'")),
            };
        }
        let targets = self.sessions.of_user(&self.project.id, name);
        // The own comes last: it ends what is done here.
        let (own, others): (Vec<_>, Vec<_>) = targets.iter().partition(|target| target.id == self.own.id);
        let mut waits = Vec::new();
        for some in others.chunks(TARGETS_AT_ONCE) {
            for target in some {
                match self.begin(target, kill) {
                    Begun::Waits(done) => waits.push(ended(done)),
                    Begun::Is(Outcome::Refused(told)) => return Outcome::Refused(told),
                    Begun::Is(_) => {}
                }
            }
            yield_now().await;
        }
        for outcome in join_all(waits).await {
            if let Outcome::Refused(told) = outcome {
                return Outcome::Refused(told);
            }
        }
        match own.first() {
            Some(own) => self.end(own, kill).await,
            None => Outcome::Done(targets.len() as u64),
        }
    }

    /// None: nothing runs there that it could mean.
    async fn at_compute(&self, user: &str, kill: &Kill) -> Option<Outcome> {
        let ComputeView::Ready(running) = self.project.compute() else {
            return None;
        };
        let running: Arc<_> = running;
        Some(match compute::at_compute(&running, user, &kill.to_string()).await {
            Ok(()) => Outcome::Done(0),
            Err(error) => Outcome::Refused(told(&error)),
        })
    }
}

/// What whoever says KILL hears of a compute that does not do it.
pub(crate) fn told(error: &DialError) -> Told {
    error
        .told()
        .unwrap_or_else(|| Told::new(1105, "HY000", "The database does not answer the KILL"))
}

fn refused(code: u16, message: String) -> Outcome {
    Outcome::Refused(Told::new(code, "HY000", message))
}

fn unknown(id: impl std::fmt::Display) -> Outcome {
    refused(NO_SUCH_THREAD, format!("Unknown thread id: {id}"))
}

/// ER_QUERY_INTERRUPTED.
pub(crate) fn interrupted() -> Told {
    Told::new(1317, "70100", "Query execution was interrupted")
}

/// The connection was ended by a KILL.
#[derive(Debug, thiserror::Error)]
#[error("killed by a KILL CONNECTION")]
pub(crate) struct Killed;

impl ClientFacing for Killed {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Client
    }

    fn told(&self) -> Option<Told> {
        // ER_CONNECTION_KILLED.
        Some(Told::new(1927, "70100", "Connection was killed"))
    }
}

#[cfg(test)]
mod tests {
    use control_api::control as proto;

    use super::*;
    use crate::route::Routes;

    /// Users `u` of the project `p`, as control says them.
    fn user(created_ms: i64) -> proto::User {
        proto::User {
            name: "u".into(),
            created_ms,
            ..proto::User::default()
        }
    }

    #[tokio::test]
    async fn a_kill_by_a_user_that_was_made_again_ends_nothing_of_the_new_one() {
        let routes = Routes::default();
        let say = |created_ms: i64| {
            routes.apply(&proto::Project {
                id: "p".into(),
                users: vec![user(created_ms)],
                ..proto::Project::default()
            });
        };
        say(1);
        let project = routes.project("p").unwrap();
        let life = || project.access().user("u").unwrap().life();
        let sessions = Arc::new(Sessions::default());
        let (own, target) = (
            sessions.register(sessions.next_id(), "p", "u"),
            sessions.register(sessions.next_id(), "p", "u"),
        );
        let killer = |life| Killer {
            sessions: &sessions,
            own: &own.handle,
            project: &project,
            from: [192, 0, 2, 7].into(),
            life,
        };
        let before = life();
        say(2);
        for whom in [
            Whom::Session(target.handle.id),
            Whom::User("u".into()),
            Whom::Thread(3),
            Whom::Statement(3),
        ] {
            let kill = Kill {
                whom,
                ..Kill::connection(target.handle.id)
            };
            let Outcome::Refused(told) = killer(before).kill("u", &kill).await else {
                panic!("it was heard")
            };
            assert_eq!(told.message, "The user was deleted");
        }
        assert!(!target.handle.is_killed() && !own.handle.is_killed());
        let kill = Kill::connection(target.handle.id);
        assert!(matches!(killer(life()).kill("u", &kill).await, Outcome::Done(_)));
        assert!(target.handle.is_killed());
    }

    /// Else whoever has many sessions would hold up those of others by a word.
    #[tokio::test]
    async fn a_kill_of_very_many_sessions_lets_others_have_the_thread_in_between() {
        let routes = Routes::default();
        routes.apply(&proto::Project {
            id: "p".into(),
            users: vec![user(1)],
            ..proto::Project::default()
        });
        let project = routes.project("p").unwrap();
        let sessions = Arc::new(Sessions::default());
        let all: Vec<_> = (0..1_000)
            .map(|_| sessions.register(sessions.next_id(), "p", "u"))
            .collect();
        let killer = Killer {
            sessions: &sessions,
            own: &all[0].handle,
            project: &project,
            from: [192, 0, 2, 7].into(),
            life: project.access().user("u").unwrap().life(),
        };
        let kill = Kill {
            whom: Whom::User("u".into()),
            ..Kill::connection(0)
        };
        let others = async {
            let mut turns = 0;
            while !all.iter().skip(1).all(|session| session.handle.is_killed()) {
                turns += 1;
                yield_now().await;
            }
            turns
        };
        let (outcome, turns) = tokio::join!(killer.kill("u", &kill), others);
        assert!(matches!(outcome, Outcome::Own));
        assert!(turns >= 10, "{turns}");
    }

    #[tokio::test]
    async fn a_kill_from_where_the_project_lets_nobody_in_any_more_ends_nothing() {
        let routes = Routes::default();
        let say = |networks: &[&str]| {
            routes.apply(&proto::Project {
                id: "p".into(),
                users: vec![user(1)],
                allowed_networks: networks.iter().map(|network| (*network).to_owned()).collect(),
                ..proto::Project::default()
            });
        };
        say(&[]);
        let project = routes.project("p").unwrap();
        let sessions = Arc::new(Sessions::default());
        let own = sessions.register(sessions.next_id(), "p", "u");
        let target = sessions.register(sessions.next_id(), "p", "u");
        let killer = Killer {
            sessions: &sessions,
            own: &own.handle,
            project: &project,
            from: [192, 0, 2, 7].into(),
            life: project.access().user("u").unwrap().life(),
        };
        say(&["198.51.100.0/24"]);
        for whom in [Whom::Session(target.handle.id), Whom::User("u".into()), Whom::Thread(3)] {
            let kill = Kill {
                whom,
                ..Kill::connection(target.handle.id)
            };
            let Outcome::Refused(told) = killer.kill("u", &kill).await else {
                panic!("it was heard")
            };
            assert_eq!(told.code, 1053, "{}", told.message);
        }
        assert!(!target.handle.is_killed() && !own.handle.is_killed());
        say(&["192.0.2.0/24"]);
        let kill = Kill::connection(target.handle.id);
        assert!(matches!(killer.kill("u", &kill).await, Outcome::Done(_)));
        assert!(target.handle.is_killed());
    }
}
