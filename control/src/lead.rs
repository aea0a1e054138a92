//! Who acts, where several control planes share a store: the one that holds the lease `leader`. The others stand by, each
//! with a lease of its own name so that the leader knows of them, and try to take it. A leader that cannot renew stops
//! acting before its lease runs out, by its own clock; should it be frozen and not notice, the store refuses its writes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use control_api::settings::Offer;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    driver::{Driver, DriverError, Found, Quiesce, Quiet, Running, StartError},
    name::ProjectId,
    store::{
        Access, Fault, Holder, LEADER, LeaseRecord, Observed, ProjectRecord, Store, StoreError, Touched, WholeProject,
    },
};

/// A lease lasts this long after it was renewed. A leader that is gone is followed after this and a look, well within
/// 10 s with the reading of 100,000 projects; a store that is away for less costs nothing.
pub(crate) const LASTS: Duration = Duration::from_secs(5);
/// Before the lease runs out, its holder has stopped: room for different speeds of clocks and a late timer.
const MARGIN: Duration = Duration::from_secs(1);
/// Two renewals may fail.
const RENEW_EVERY: Duration = Duration::from_millis(1300);
/// Between looks whether the lease is free.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// For one call to the store, so that a hanging one does not take the time of the next.
const CALL_PATIENCE: Duration = Duration::from_secs(1);

/// A control plane that may come to lead.
#[derive(Clone)]
pub(crate) struct Candidate {
    store: Arc<dyn Store>,
    holder: Holder,
    /// What is wrong with the store, while it cannot be seen who leads.
    fault: watch::Sender<Option<Fault>>,
}

/// Being the leader. Dropping it stops renewing.
pub(crate) struct Leadership {
    pub(crate) term: i64,
    pub(crate) hold: Hold,
    /// Fires when it is over, or cannot be told from that.
    pub(crate) over: CancellationToken,
    _renewing: JoinSet<()>,
}

/// Tells whether the lease may still be relied upon at this very moment, without asking anybody.
#[derive(Clone)]
pub(crate) struct Hold(watch::Receiver<Option<Instant>>);

impl Hold {
    /// Of a control plane that has no other beside it.
    pub(crate) fn alone() -> Self {
        Self(watch::channel(None).1)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.0.borrow().is_none_or(|until| Instant::now() < until)
    }
}

impl Candidate {
    pub(crate) fn new(store: Arc<dyn Store>, holder: Holder) -> Self {
        Self {
            store,
            holder,
            fault: watch::Sender::new(None),
        }
    }

    /// Says there what is wrong with the store.
    pub(crate) fn telling(self, fault: watch::Sender<Option<Fault>>) -> Self {
        Self { fault, ..self }
    }

    /// Stands by until it leads; `None`: `stop` has fired. `leader` is told who leads meanwhile.
    pub(crate) async fn lead(
        &self,
        leader: &watch::Sender<Option<Holder>>,
        stop: &CancellationToken,
    ) -> Option<Leadership> {
        let mut standing_by = None;
        let mut complained = false;
        let taken = loop {
            if stop.is_cancelled() {
                break None;
            }
            let began = Instant::now();
            let looked = within(self.look(&mut standing_by, leader)).await;
            self.fault
                .send_replace(looked.as_ref().err().and_then(StoreError::fault));
            match looked {
                Ok(Some(term)) => break Some(self.hold(term, began)),
                Ok(None) => complained = false,
                Err(error) => {
                    leader.send_replace(None);
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(%error, "cannot see who leads");
                    }
                }
            }
            let next_look = tokio::time::sleep_until(began + LOOK_EVERY);
            stop.run_until_cancelled(next_look).await;
        };
        leader.send_replace(None);
        if let Some(term) = standing_by {
            self.release(&self.standby_name(), term).await;
        }
        taken
    }

    async fn look(
        &self,
        standing_by: &mut Option<i64>,
        leader: &watch::Sender<Option<Holder>>,
    ) -> Result<Option<i64>, StoreError> {
        let taken = self.store.take_lease(LEADER, &self.holder, LASTS).await?;
        if taken.is_some() {
            return Ok(taken);
        }
        let name = self.standby_name();
        let renewed = match *standing_by {
            Some(term) => self.store.renew_lease(&name, term, LASTS).await?,
            None => false,
        };
        if !renewed {
            *standing_by = self.store.take_lease(&name, &self.holder, LASTS).await?;
        }
        let leases = self.store.leases().await?;
        let found = leases.into_iter().find(|lease| lease.name == LEADER);
        let found = found.map(|lease| lease.holder);
        leader.send_if_modified(|known| {
            let differs = *known != found;
            known.clone_from(&found);
            differs
        });
        Ok(None)
    }

    fn hold(&self, term: i64, began: Instant) -> Leadership {
        let over = CancellationToken::new();
        let (until, held) = watch::channel(Some(began + LASTS - MARGIN));
        let mut renewing = JoinSet::new();
        let (store, ended) = (self.store.clone(), over.clone().drop_guard());
        renewing.spawn(async move {
            let _ended = ended;
            renew(&*store, term, &until).await;
        });
        Leadership {
            term,
            hold: Hold(held),
            over,
            _renewing: renewing,
        }
    }

    /// Gives the lease up, so that the next need not wait for its end.
    pub(crate) async fn resign(&self, leadership: Leadership) {
        let term = leadership.term;
        drop(leadership);
        self.release(LEADER, term).await;
    }

    /// Whether another control plane would take over.
    pub(crate) async fn is_followed(&self) -> bool {
        let others = |lease: &LeaseRecord| lease.name != LEADER && lease.holder.id != self.holder.id;
        within(self.store.leases())
            .await
            .is_ok_and(|leases| leases.iter().any(others))
    }

    async fn release(&self, name: &str, term: i64) {
        // It runs out by itself.
        if let Err(error) = within(self.store.release_lease(name, term)).await {
            tracing::debug!(%error, name, "a lease was not released");
        }
    }

    fn standby_name(&self) -> String {
        format!("standby {}", self.holder.id)
    }
}

/// Returns when the lease is lost, or could be.
async fn renew(store: &dyn Store, term: i64, until: &watch::Sender<Option<Instant>>) {
    loop {
        let last = until.borrow().unwrap_or_else(Instant::now);
        tokio::time::sleep_until((Instant::now() + RENEW_EVERY).min(last)).await;
        let asked = Instant::now();
        if asked >= last {
            return tracing::error!(term, "the lease could not be renewed: this control plane leads no more");
        }
        let renewed = tokio::time::timeout_at(last, within(store.renew_lease(LEADER, term, LASTS))).await;
        match renewed {
            Ok(Ok(true)) => drop(until.send_replace(Some(asked + LASTS - MARGIN))),
            Ok(Ok(false)) => {
                until.send_replace(Some(asked));
                return tracing::warn!(term, "another control plane has taken over");
            }
            Ok(Err(error)) => tracing::warn!(term, %error, "the lease was not renewed"),
            // The next round sees that it is over.
            Err(_) => {}
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL_PATIENCE, call).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::silent()),
    }
}

/// The driver of a control plane that must lead: it does nothing once the lease may be another's.
pub(crate) struct LedDriver {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) hold: Hold,
}

impl LedDriver {
    fn driver(&self) -> Result<&dyn Driver, DriverError> {
        if self.hold.is_held() {
            Ok(&*self.driver)
        } else {
            Err(DriverError("another control plane leads now".into()))
        }
    }
}

#[async_trait]
impl Driver for LedDriver {
    async fn server(&self) -> Result<Observed, DriverError> {
        self.driver.server().await
    }

    async fn prepare(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        self.driver()?.prepare(project).await
    }

    async fn start(&self, whole: &WholeProject) -> Result<Running, StartError> {
        self.driver()?.start(whole).await
    }

    async fn adopt(&self, project: &ProjectRecord) -> Result<Found, DriverError> {
        self.driver()?.adopt(project).await
    }

    async fn running(&self) -> Result<Vec<ProjectId>, DriverError> {
        self.driver()?.running().await
    }

    async fn is_well(&self, id: &ProjectId, incarnation: u64) -> bool {
        self.driver.is_well(id, incarnation).await
    }

    async fn quiesce(&self, id: &ProjectId, how: Quiesce) -> Result<Quiet, DriverError> {
        self.driver()?.quiesce(id, how).await
    }

    async fn resume(&self, id: &ProjectId) -> Result<(), DriverError> {
        self.driver()?.resume(id).await
    }

    async fn apply(&self, id: &ProjectId, access: &Access, touched: &Touched) -> Result<Observed, DriverError> {
        self.driver()?.apply(id, access, touched).await
    }

    async fn offer(&self) -> Result<Arc<Offer>, DriverError> {
        self.driver.offer().await
    }

    async fn settings(&self, id: &ProjectId) -> Result<BTreeMap<String, String>, DriverError> {
        self.driver.settings(id).await
    }

    async fn look(&self, id: &ProjectId) -> Result<Observed, DriverError> {
        self.driver()?.look(id).await
    }

    async fn stop(&self, id: &ProjectId) -> Result<Option<Observed>, DriverError> {
        self.driver()?.stop(id).await
    }

    async fn remove(&self, project: &ProjectRecord) -> Result<(), DriverError> {
        self.driver()?.remove(project).await
    }
}

#[cfg(test)]
mod tests;
