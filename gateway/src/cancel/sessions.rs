//! The table of sessions, for KILL: who is under an id of the gateway's, what it is at, and how it hears that it is killed.
//!
//! A session's own task ends what is ended: it holds the compute connection, so that the thread it names to the compute is its
//! own until the KILL there is done, and never one that another session has got since.

use std::collections::HashMap;
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
    /// The same by whose they are: a look at all of them would hold up a thread that other projects share.
    by_account: DashMap<Account, HashMap<u32, Arc<Handle>>>,
}

/// A user of a project.
type Account = (Box<str>, Box<str>);

impl Default for Sessions {
    /// Ids begin anywhere: where several gateways serve one project, a KILL that comes to another gateway than it was meant for
    /// finds nothing there, instead of a session that was given the same number.
    fn default() -> Self {
        Self {
            next: AtomicU32::new(rand::random()),
            by_id: DashMap::new(),
            by_account: DashMap::new(),
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
                account: (project.into(), user.into()),
                stage: Stage::Detached,
            }),
            killed: AtomicU8::new(0),
            news: Notify::new(),
            asks: AtomicU32::new(0),
        });
        self.by_id.insert(id, Arc::clone(&handle));
        self.belongs((project.into(), user.into()), &handle);
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
        let of_account = self.by_account.get(&(project.into(), user.into()));
        of_account.map_or_else(Vec::new, |sessions| sessions.values().map(Arc::clone).collect())
    }

    pub(super) fn has_any_of(&self, project: &str, user: &str) -> bool {
        self.by_account.contains_key(&(project.into(), user.into()))
    }

    fn belongs(&self, account: Account, handle: &Arc<Handle>) {
        let mut sessions = self.by_account.entry(account).or_default();
        sessions.insert(handle.id, Arc::clone(handle));
    }

    fn belongs_no_more(&self, account: &Account, id: u32) {
        if let Some(mut sessions) = self.by_account.get_mut(account) {
            sessions.remove(&id);
        }
        self.by_account.remove_if(account, |_, sessions| sessions.is_empty());
    }
}

/// A session's entry, taken out when dropped.
pub(crate) struct Registered {
    sessions: Arc<Sessions>,
    pub(crate) handle: Arc<Handle>,
}

impl Registered {
    /// COM_CHANGE_USER: it is somebody else's.
    pub(crate) fn changes_hands(&self, project: &str, user: &str) {
        let account: Account = (project.into(), user.into());
        let before = self.handle.changes_hands(account.clone());
        self.sessions.belongs_no_more(&before, self.handle.id);
        self.sessions.belongs(account, &self.handle);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.sessions.by_id.remove(&self.handle.id);
        let account = self.handle.state().account.clone();
        self.sessions.belongs_no_more(&account, self.handle.id);
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
    account: Account,
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
        &*self.state().account.0 == project
    }

    pub(super) fn is_of(&self, user: &str) -> bool {
        &*self.state().account.1 == user
    }

    /// Answers whose it was.
    fn changes_hands(&self, account: Account) -> Account {
        std::mem::replace(&mut self.state().account, account)
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
    fn the_sessions_of_a_user_are_found_without_a_look_at_others_and_nothing_is_kept_of_those_who_left() {
        let sessions = Arc::new(Sessions::default());
        let register = |project: &str, user: &str| sessions.register(sessions.next_id(), project, user);
        let found = |project: &str, user: &str| {
            let mut ids: Vec<_> = sessions.of_user(project, user).iter().map(|handle| handle.id).collect();
            ids.sort_unstable();
            ids
        };
        let there = [
            register("p", "u"),
            register("p", "u"),
            register("p", "v"),
            register("q", "u"),
        ];
        let id = |n: usize| there[n].handle.id;
        let mut both = [id(0), id(1)];
        both.sort_unstable();
        assert_eq!(found("p", "u"), both);
        there[0].changes_hands("q", "u");
        assert_eq!(found("p", "u"), [id(1)]);
        let mut moved = [id(0), id(3)];
        moved.sort_unstable();
        assert_eq!((found("q", "u"), found("p", "v")), (moved.to_vec(), vec![id(2)]));
        assert!(there[0].handle.belongs_to("q") && there[0].handle.is_of("u"));
        drop(there);
        assert!(sessions.by_account.is_empty() && sessions.by_id.is_empty());
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
