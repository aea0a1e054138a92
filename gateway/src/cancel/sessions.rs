//! The table of sessions, for KILL: who is under an id of the gateway's, what it is at, and how it hears that it is killed.
//!
//! A session's own task ends what is ended: it holds the compute connection, so that the thread it names to the compute is its
//! own until the KILL there is done, and never one that another session has got since.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::kill::{CONNECTION_IDS_BEGIN, Force, Kill};
use crate::error::Told;

/// KILLs of one statement that wait for it at a time; more are told that there is nothing to end.
const ASKED_MAX: usize = 16;

/// Values of [`Handle::killed`].
const HARD: u8 = 1;
const SOFT: u8 = 2;

/// All sessions of a gateway that are logged in.
pub(crate) struct Sessions {
    next: AtomicU32,
    by_id: DashMap<u32, Arc<Handle>>,
}

impl Default for Sessions {
    /// Ids begin anywhere: where several gateways serve one project, a KILL that comes to another gateway than it was meant for
    /// finds nothing there, instead of a session that was given the same number.
    fn default() -> Self {
        Self {
            next: AtomicU32::new(rand::random()),
            by_id: DashMap::new(),
        }
    }
}

impl Sessions {
    /// The id of a new client connection: 2^31 and up, round and round, past those that are still there.
    pub(crate) fn next_id(&self) -> u32 {
        loop {
            let id = CONNECTION_IDS_BEGIN | self.next.fetch_add(1, Relaxed);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    /// A client has logged in. It can be killed for as long as the returned value lives.
    pub(crate) fn register(self: &Arc<Self>, id: u32, project: &str, user: &str) -> Registered {
        let handle = Arc::new(Handle {
            id,
            state: Mutex::new(State {
                project: project.into(),
                user: user.into(),
                stage: Stage::Detached,
            }),
            killed: AtomicU8::new(0),
            news: Notify::new(),
            asks: AtomicU32::new(0),
        });
        self.by_id.insert(id, Arc::clone(&handle));
        Registered {
            sessions: Arc::clone(self),
            handle,
        }
    }

    /// So many are logged in.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.by_id.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn find(&self, id: u32) -> Option<Arc<Handle>> {
        self.by_id.get(&id).map(|handle| Arc::clone(&handle))
    }

    pub(super) fn of_user(&self, project: &str, user: &str) -> Vec<Arc<Handle>> {
        let all = self.by_id.iter();
        all.filter(|handle| handle.belongs_to(project) && handle.is_of(user))
            .map(|handle| Arc::clone(&handle))
            .collect()
    }
}

/// A session's entry, taken out when dropped.
pub(crate) struct Registered {
    sessions: Arc<Sessions>,
    pub(crate) handle: Arc<Handle>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.sessions.by_id.remove(&self.handle.id);
        // Whoever waits for the end of its statement has it.
        self.handle.detached();
    }
}

/// A session, as KILL sees it.
pub(crate) struct Handle {
    pub(crate) id: u32,
    state: Mutex<State>,
    /// The connection is to end: [`HARD`] or [`SOFT`].
    killed: AtomicU8,
    /// Something was asked of the session.
    news: Notify,
    /// How often; for those that look at every turn, at the price of a load.
    asks: AtomicU32,
}

struct State {
    project: Box<str>,
    user: Box<str>,
    stage: Stage,
}

/// What a session is at.
enum Stage {
    /// It has no compute, and nothing of it is anywhere.
    Detached,
    /// A command waits for a compute; cancelled, it waits no more.
    Waiting(CancellationToken),
    /// It has a compute connection. What it was asked to end there.
    Attached(Vec<Ask>),
}

/// To end a session's statement.
pub(crate) struct Ask {
    pub(crate) kill: Kill,
    /// Dropped where the statement has ended by itself.
    pub(crate) done: oneshot::Sender<Result<(), Told>>,
}

impl Handle {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can leave half of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn belongs_to(&self, project: &str) -> bool {
        &*self.state().project == project
    }

    pub(super) fn is_of(&self, user: &str) -> bool {
        &*self.state().user == user
    }

    /// COM_CHANGE_USER: it is somebody else's.
    pub(crate) fn changes_hands(&self, project: &str, user: &str) {
        let mut state = self.state();
        state.project = project.into();
        state.user = user.into();
    }

    /// Ends the connection.
    pub(crate) fn kill(&self, force: Option<Force>) {
        let how = if force == Some(Force::Soft) { SOFT } else { HARD };
        self.killed.store(how, Release);
        self.tell();
    }

    fn tell(&self) {
        self.asks.fetch_add(1, Release);
        self.news.notify_waiters();
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Acquire) != 0
    }

    /// What ends the session's thread at its compute, in the way that was asked for.
    pub(crate) fn end_of_thread(&self, thread_id: u32) -> Kill {
        Kill {
            force: (self.killed.load(Acquire) == SOFT).then_some(Force::Soft),
            ..Kill::connection(thread_id)
        }
    }

    /// Completes when the connection is to end. Cancel-safe.
    pub(crate) async fn killed(&self) {
        loop {
            let news = self.news.notified();
            if self.is_killed() {
                return;
            }
            news.await;
        }
    }

    /// Completes at the next thing that is asked. To be polled once before [`Self::asks`] is read.
    pub(crate) fn asked(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Differs when something was asked in between.
    pub(crate) fn asks(&self) -> u32 {
        self.asks.load(Acquire)
    }

    /// A statement is to end. None: there is none.
    pub(super) fn interrupt(&self, kill: Kill) -> Option<oneshot::Receiver<Result<(), Told>>> {
        let mut state = self.state();
        match &mut state.stage {
            Stage::Detached => None,
            Stage::Waiting(waiting) => {
                waiting.cancel();
                None
            }
            Stage::Attached(asked) if asked.len() < ASKED_MAX => {
                let (done, is_done) = oneshot::channel();
                asked.push(Ask { kill, done });
                drop(state);
                self.tell();
                Some(is_done)
            }
            Stage::Attached(_) => None,
        }
    }

    /// A command waits for a compute from here on; the token is cancelled when it is to wait no more.
    pub(crate) fn waits(&self) -> CancellationToken {
        let waiting = CancellationToken::new();
        self.state().stage = Stage::Waiting(waiting.clone());
        waiting
    }

    /// The compute is there. False: what waited for it was interrupted at the last moment.
    #[must_use]
    pub(crate) fn attached(&self) -> bool {
        let mut state = self.state();
        let goes_on = !matches!(&state.stage, Stage::Waiting(waiting) if waiting.is_cancelled());
        if goes_on {
            state.stage = Stage::Attached(Vec::new());
        }
        goes_on
    }

    /// It has no compute any more, or waits for none.
    pub(crate) fn detached(&self) {
        let before = std::mem::replace(&mut self.state().stage, Stage::Detached);
        // Outside of the lock: those who asked are woken by it.
        drop(before);
    }

    /// What was asked of its statement since it was last looked at.
    pub(crate) fn take_asked(&self) -> Vec<Ask> {
        match &mut self.state().stage {
            Stage::Attached(asked) => std::mem::take(asked),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kill::What;
    use super::*;

    fn query_kill() -> Kill {
        Kill {
            what: What::Query,
            ..Kill::connection(1)
        }
    }

    #[test]
    fn an_id_in_use_is_not_given_out_again() {
        let sessions = Arc::new(Sessions::default());
        let first = sessions.next_id();
        assert!(first >= CONNECTION_IDS_BEGIN);
        let registered = sessions.register(first, "p", "u");
        sessions.next.store(first, Relaxed);
        assert_ne!(sessions.next_id(), first);
        drop(registered);
        sessions.next.store(first, Relaxed);
        assert_eq!(sessions.next_id(), first);
    }

    #[test]
    fn a_wait_that_is_interrupted_as_it_ends_does_not_attach() {
        let sessions = Arc::new(Sessions::default());
        let session = sessions.register(sessions.next_id(), "p", "u");
        let waiting = session.handle.waits();
        assert!(session.handle.interrupt(query_kill()).is_none());
        assert!(waiting.is_cancelled());
        assert!(!session.handle.attached());
        // The next command waits anew.
        session.handle.detached();
        assert!(!session.handle.waits().is_cancelled());
        assert!(session.handle.attached());
    }

    #[tokio::test]
    async fn whoever_asks_hears_of_an_end_that_came_by_itself() {
        let sessions = Arc::new(Sessions::default());
        let session = sessions.register(sessions.next_id(), "p", "u");
        session.handle.waits();
        assert!(session.handle.attached());
        let before = session.handle.asks();
        let done = session.handle.interrupt(query_kill()).unwrap();
        assert_ne!(session.handle.asks(), before);
        session.handle.detached();
        assert!(done.await.is_err());
        assert!(session.handle.interrupt(query_kill()).is_none());
    }

    #[tokio::test]
    async fn a_kill_is_heard_whether_it_comes_before_or_after_the_wait_for_it() {
        let sessions = Arc::new(Sessions::default());
        let session = sessions.register(sessions.next_id(), "p", "u");
        let (handle, other) = (Arc::clone(&session.handle), Arc::clone(&session.handle));
        tokio::join!(handle.killed(), async move { other.kill(None) });
        session.handle.killed().await;
        assert!(session.handle.is_killed());
    }
}
