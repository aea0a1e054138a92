//! What the gateway knows of each project: who may log in, which databases there are, where its compute runs.
//!
//! In: the watched events of control. Out: a [`Project`] by name, without a look-up anywhere else: a name that is not
//! here is unknown. Versions and incarnations fence: an older incarnation never replaces a newer one.

pub(crate) mod access;
mod known;
mod running;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use control_api::control as proto;
use control_api::networks::Networks;
use dashmap::DashMap;
use tokio::sync::Notify;

pub(crate) use self::access::{Access, DatabaseAccess, Require, User};
pub(crate) use self::known::ComputeView;
use self::known::Known;
pub(crate) use self::running::{Asked, Running, Seat};
use crate::activity::Activity;
use crate::quota::Quotas;
use crate::session::shelf::Shelf;
use crate::wake::Flight;

/// Every project this gateway knows.
#[derive(Default)]
pub(crate) struct Routes {
    projects: DashMap<Box<str>, Arc<Project>>,
    /// What the greeting says of the server, before a project is known: the one that control spoke of last.
    server: ArcSwapOption<Server>,
}

/// A project as this gateway knows it.
pub(crate) struct Project {
    pub(crate) id: Box<str>,
    /// When it was made, milliseconds since 1970, which tells it from others of its name; 0: control has not said.
    pub(crate) created_ms: i64,
    access: ArcSwap<Access>,
    server: ArcSwapOption<Server>,
    compute: RwLock<Known>,
    wake_timeout: ArcSwapOption<Duration>,
    pinned_idle_timeout: ArcSwapOption<Duration>,
    /// Where clients may come from. None: from anywhere.
    allowed_networks: ArcSwapOption<Networks>,
    /// Tells sessions without a compute to look at `allowed_networks`, and for their users and the project.
    doors_changed: Notify,
    /// The wake in flight, kept alive by those who wait for it.
    pub(crate) flight: Mutex<Weak<Flight>>,
    pub(crate) activity: Activity,
    pub(crate) quotas: Quotas,
    /// What its sessions keep of prepared statements, settings and variables.
    pub(crate) shelf: Arc<Shelf>,
}

/// Why a client may be here no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutOut {
    /// It comes from none of the allowed ones.
    Network,
    /// It was deleted, or made again since.
    User,
    /// The same of the project.
    Project,
}

/// Which project a login is for, and the user's name there. `named`: what the client has named besides its login name, by
/// server name or attribute; then the project may stand in front of the name once more. Otherwise the first dot splits, and a
/// name without one names no project.
pub(crate) fn split_name<'a>(name: &'a str, named: Option<&'a str>) -> (Option<&'a str>, &'a str) {
    let Some(project) = named else {
        return match name.split_once('.') {
            Some((project, user)) => (Some(project), user),
            None => (None, name),
        };
    };
    let again = name.strip_prefix(project).and_then(|rest| rest.strip_prefix('.'));
    (Some(project), again.unwrap_or(name))
}

/// The project that a server name asks for: the one label in front of a domain below which projects are.
pub(crate) fn project_of_server_name<'a>(server: &'a str, domains: &[String]) -> Option<&'a str> {
    let (project, below) = server.split_once('.')?;
    let known = domains.iter().any(|domain| domain.eq_ignore_ascii_case(below));
    (known && !project.is_empty()).then_some(project)
}

/// What a project's server says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// `@@version`.
    pub(crate) version: String,
    /// Global variables by lower-case name.
    pub(crate) variables: HashMap<String, String>,
}

impl Project {
    fn new(id: &str, created_ms: i64) -> Self {
        Self {
            id: id.into(),
            created_ms,
            access: ArcSwap::default(),
            server: ArcSwapOption::empty(),
            compute: RwLock::default(),
            wake_timeout: ArcSwapOption::empty(),
            pinned_idle_timeout: ArcSwapOption::empty(),
            allowed_networks: ArcSwapOption::empty(),
            doors_changed: Notify::new(),
            flight: Mutex::new(Weak::new()),
            activity: Activity::default(),
            quotas: Quotas::default(),
            shelf: Arc::default(),
        }
    }

    pub(crate) fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// Absent until control has said something of a server.
    pub(crate) fn server(&self) -> Option<Arc<Server>> {
        self.server.load_full()
    }

    pub(crate) fn wake_timeout(&self) -> Option<Duration> {
        self.wake_timeout.load().as_deref().copied()
    }

    /// How long a session that cannot leave its compute connection may idle.
    pub(crate) fn pinned_idle_timeout(&self) -> Option<Duration> {
        self.pinned_idle_timeout.load().as_deref().copied()
    }

    /// May a client come from there?
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        self.allowed_networks
            .load()
            .as_deref()
            .is_none_or(|networks| networks.contains(ip))
    }

    /// Is that user still who it was in that life?
    pub(crate) fn knows(&self, user: &str, life: u64) -> bool {
        self.access.load().lives(user, life)
    }

    /// Completes when a client from there may be here no more, or its user or the project is gone. Cancel-safe.
    pub(crate) async fn shuts_out(&self, ip: IpAddr, user: &str, life: u64) -> ShutOut {
        loop {
            // Before the look: a change right after it is not missed.
            let changed = self.doors_changed.notified();
            if !self.admits(ip) {
                return ShutOut::Network;
            }
            if !self.knows(user, life) {
                return ShutOut::User;
            }
            if matches!(self.compute(), ComputeView::Removed) {
                return ShutOut::Project;
            }
            changed.await;
        }
    }

    /// Where clients may come from, from now on.
    fn allow(&self, networks: &[String]) {
        let allowed = (!networks.is_empty()).then(|| {
            Networks::parse(networks).unwrap_or_else(|error| {
                // Control has checked them. What cannot be read lets nobody in: it was meant to keep somebody out.
                tracing::error!(project = %self.id, %error, "an allowed network that is none: nobody is let in");
                Networks::default()
            })
        });
        if self.allowed_networks.load().as_deref() == allowed.as_ref() {
            return;
        }
        self.allowed_networks.store(allowed.map(Arc::new));
        self.doors_have_changed();
    }

    /// Sessions look whether they may still be here.
    fn doors_have_changed(&self) {
        self.doors_changed.notify_waiters();
        if let Some(running) = self.known().running() {
            running.nudge();
        }
    }

    pub(crate) fn compute(&self) -> ComputeView {
        self.compute.read().unwrap_or_else(PoisonError::into_inner).view()
    }

    /// Takes over what control says of the compute, unless something newer is known. Returns a compute that is to be
    /// emptied for a suspend.
    pub(crate) fn apply_compute(&self, said: &proto::Compute) -> Option<Arc<Running>> {
        self.known().apply(said)
    }

    fn remove(&self) {
        self.known().remove("the project was deleted");
        self.doors_changed.notify_waiters();
    }

    /// For a change. Each is complete before anything can panic.
    fn known(&self) -> RwLockWriteGuard<'_, Known> {
        self.compute.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn apply(&self, said: &proto::Project) -> Option<Arc<Running>> {
        let before = self.access();
        let access = Arc::new(Access::following(&before, said));
        self.quotas.limits_are(|name| access.limits(name));
        let anybody_is_gone = !access.has_all_of(&before);
        self.access.store(access);
        if anybody_is_gone {
            self.doors_have_changed();
        }
        let own = |ms: u32| (ms > 0).then(|| Arc::new(Duration::from_millis(ms.into())));
        self.wake_timeout.store(own(said.wake_timeout_ms));
        self.pinned_idle_timeout.store(own(said.pinned_idle_timeout_ms));
        self.allow(&said.allowed_networks);
        said.compute.as_ref().and_then(|compute| self.apply_compute(compute))
    }
}

impl Routes {
    pub(crate) fn project(&self, id: &str) -> Option<Arc<Project>> {
        self.projects.get(id).map(|entry| Arc::clone(entry.value()))
    }

    /// The server that a client is greeted for, before its project is known.
    pub(crate) fn server(&self) -> Option<Arc<Server>> {
        self.server.load_full()
    }

    /// Takes over what control says of a project. Returns a compute that is to be emptied for a suspend.
    pub(crate) fn apply(&self, said: &proto::Project) -> Option<Arc<Running>> {
        let server = said.server.as_ref().map(|server| self.intern(server));
        // A control plane of an older version does not say.
        let is_another =
            |known: &Project| known.created_ms != said.created_ms && known.created_ms != 0 && said.created_ms != 0;
        if self.project(&said.id).is_some_and(|known| is_another(&known)) {
            // It was deleted and made again while nobody told this gateway: sessions of the one that is gone end.
            self.remove(&said.id);
        }
        let project = Arc::clone(
            self.projects
                .entry(said.id.as_str().into())
                .or_insert_with(|| Arc::new(Project::new(&said.id, said.created_ms)))
                .value(),
        );
        if server.is_some() {
            project.server.store(server);
        }
        project.apply(said)
    }

    /// Takes over what a wake's answer says of the server.
    pub(crate) fn apply_server(&self, project: &Project, said: &proto::ServerInfo) {
        project.server.store(Some(self.intern(said)));
    }

    /// Projects of one server version share one copy of what it says of itself.
    fn intern(&self, said: &proto::ServerInfo) -> Arc<Server> {
        let server = Server {
            version: said.version.clone(),
            variables: said.variables.clone(),
        };
        if let Some(known) = self.server.load_full().filter(|known| **known == server) {
            return known;
        }
        let server = Arc::new(server);
        self.server.store(Some(Arc::clone(&server)));
        server
    }

    pub(crate) fn remove(&self, id: &str) {
        if let Some((_, project)) = self.projects.remove(id) {
            project.remove();
        }
    }

    /// Forgets every project that a snapshot did not name.
    pub(crate) fn retain(&self, named: &HashSet<String>) {
        let gone: Vec<_> = self
            .projects
            .iter()
            .map(|e| e.key().clone())
            .filter(|id| !named.contains(id.as_ref()))
            .collect();
        gone.iter().for_each(|id| self.remove(id));
    }

    /// Every project, for reports; a copy, so that no lock is held while it is used.
    pub(crate) fn all(&self) -> Vec<Arc<Project>> {
        self.projects.iter().map(|entry| Arc::clone(entry.value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ComputeState::{Draining, Ready, Starting, Suspended};

    fn said(incarnation: u64, state: proto::ComputeState) -> proto::Compute {
        proto::Compute {
            incarnation,
            state: state.into(),
            socket_path: format!("/s{incarnation}"),
            ..Default::default()
        }
    }

    fn running(project: &Project) -> Option<Arc<Running>> {
        match project.compute() {
            ComputeView::Ready(running) => Some(running),
            _ => None,
        }
    }

    #[test]
    fn a_login_names_its_project_in_one_of_three_ways() {
        for (name, named, split) in [
            ("shop.ann", None, (Some("shop"), "ann")),
            ("shop.ann.b", None, (Some("shop"), "ann.b")),
            ("ann", None, (None, "ann")),
            (".ann", None, (Some(""), "ann")),
            ("ann", Some("shop"), (Some("shop"), "ann")),
            ("shop.ann", Some("shop"), (Some("shop"), "ann")),
            ("shopann", Some("shop"), (Some("shop"), "shopann")),
            ("other.ann", Some("shop"), (Some("shop"), "other.ann")),
            ("shop.shop.ann", Some("shop"), (Some("shop"), "shop.ann")),
        ] {
            assert_eq!(split_name(name, named), split, "{name} {named:?}");
        }
    }

    #[test]
    fn server_names_name_projects_below_known_domains_only() {
        let domains = ["db.example.org".to_owned(), "db.test".to_owned()];
        for (server, project) in [
            ("shop.db.example.org", Some("shop")),
            ("shop.DB.Test", Some("shop")),
            ("db.test", None),
            ("a.shop.db.test", None),
            ("shop.other.test", None),
            ("shop.xdb.test", None),
            ("shop", None),
            (".db.test", None),
        ] {
            assert_eq!(project_of_server_name(server, &domains), project, "{server}");
        }
        assert_eq!(project_of_server_name("shop.db.test", &[]), None);
    }

    #[test]
    fn an_older_incarnation_never_comes_back() {
        let project = Project::new("p", 1);
        project.apply_compute(&said(2, Ready));
        project.apply_compute(&said(1, Ready));
        project.apply_compute(&said(1, Draining));
        assert_eq!(running(&project).unwrap().incarnation, 2);
    }

    #[test]
    fn a_late_ready_does_not_undo_draining() {
        let project = Project::new("p", 1);
        project.apply_compute(&said(1, Ready));
        let first = running(&project).unwrap();
        let seat = first.seat().unwrap();
        let draining = project.apply_compute(&said(1, Draining)).unwrap();
        assert!(Arc::ptr_eq(&draining, &first) && first.seat().is_none());
        assert_eq!(first.asked(), Some(Asked::Drain));
        project.apply_compute(&said(1, Ready));
        assert!(running(&project).is_none() && !first.closing().is_raised());
        drop(seat);
        project.apply_compute(&said(1, Suspended));
        assert!(first.closing().is_raised());
        project.apply_compute(&said(2, Starting));
        project.apply_compute(&said(2, Ready));
        assert_eq!(running(&project).unwrap().incarnation, 2);
    }

    #[test]
    fn a_drain_that_is_called_off_keeps_the_sessions() {
        let project = Project::new("p", 1);
        project.apply_compute(&said(1, Ready));
        let first = running(&project).unwrap();
        let _seat = first.seat().unwrap();
        project.apply_compute(&said(1, Draining));
        let again = proto::Compute {
            round: 1,
            ..said(1, Ready)
        };
        project.apply_compute(&again);
        assert!(Arc::ptr_eq(&first, &running(&project).unwrap()));
        assert!(!first.closing().is_raised() && !first.is_wanted() && first.seat().is_some());
        project.apply_compute(&said(1, Draining));
        assert!(running(&project).is_some(), "an older round says nothing");
    }

    #[test]
    fn hearing_ready_twice_keeps_the_sessions() {
        let project = Project::new("p", 1);
        project.apply_compute(&said(1, Ready));
        let first = running(&project).unwrap();
        project.apply_compute(&said(1, Ready));
        assert!(Arc::ptr_eq(&first, &running(&project).unwrap()) && !first.closing().is_raised());
    }

    #[test]
    fn a_project_made_again_under_its_name_is_another_and_ends_the_sessions_of_the_one_before() {
        let routes = Routes::default();
        let told = |created_ms, incarnation| proto::Project {
            id: "shop".into(),
            created_ms,
            compute: Some(said(incarnation, Ready)),
            ..Default::default()
        };
        routes.apply(&told(1_000, 7));
        let first = routes.project("shop").unwrap();
        let at_first = running(&first).unwrap();
        // Control is told of it by its snapshot: the deletion went by unheard.
        routes.apply(&told(2_000, 1));
        let second = routes.project("shop").unwrap();
        assert!(!Arc::ptr_eq(&first, &second) && second.created_ms == 2_000);
        assert!(at_first.closing().is_raised() && matches!(first.compute(), ComputeView::Removed));
        assert_eq!(running(&second).unwrap().incarnation, 1, "its incarnations begin anew");
        routes.apply(&told(2_000, 2));
        assert!(Arc::ptr_eq(&second, &routes.project("shop").unwrap()));
    }

    #[test]
    fn a_snapshot_forgets_what_it_does_not_name() {
        let routes = Routes::default();
        for id in ["kept", "gone"] {
            routes.apply(&proto::Project {
                id: id.into(),
                compute: Some(said(1, Ready)),
                ..Default::default()
            });
        }
        let gone = running(&routes.project("gone").unwrap()).unwrap();
        routes.retain(&HashSet::from(["kept".to_owned()]));
        assert!(routes.project("gone").is_none() && routes.project("kept").is_some());
        assert!(gone.closing().is_raised());
    }
}
