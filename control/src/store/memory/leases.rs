//! `store::leases` in memory.

use super::*;

#[async_trait]
impl Leases for MemoryStore {
    async fn take_lease(&self, name: &str, holder: &Holder, lasts: Duration) -> Result<Option<i64>, StoreError> {
        self.answers().await;
        let mut inner = self.lock();
        let now = Instant::now();
        let earlier = inner.leases.get(name);
        if earlier.is_some_and(|(_, expires)| *expires > now) {
            return Ok(None);
        }
        let term = earlier.map_or(0, |(lease, _)| lease.term) + 1;
        let lease = LeaseRecord {
            name: name.into(),
            term,
            holder: holder.clone(),
        };
        inner.leases.insert(name.into(), (lease, now + lasts));
        Ok(Some(term))
    }

    async fn renew_lease(&self, name: &str, term: i64, lasts: Duration) -> Result<bool, StoreError> {
        self.answers().await;
        let mut inner = self.lock();
        let held = inner.leases.get_mut(name).filter(|(lease, _)| lease.term == term);
        Ok(held.map(|(_, expires)| *expires = Instant::now() + lasts).is_some())
    }

    async fn release_lease(&self, name: &str, term: i64) -> Result<(), StoreError> {
        self.renew_lease(name, term, Duration::ZERO).await.map(drop)
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        self.answers().await;
        let inner = self.lock();
        let in_force = inner.leases.values().filter(|(_, expires)| *expires > Instant::now());
        Ok(in_force.map(|(lease, _)| lease.clone()).collect())
    }
}
