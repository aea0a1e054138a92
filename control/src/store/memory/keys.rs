//! `store::keys` in memory.

use super::*;

#[async_trait]
impl Keys for MemoryStore {
    async fn put_key(&self, name: &str, hash: [u8; 32], now: EpochMs) -> Result<(), StoreError> {
        let key = KeyRecord {
            name: name.into(),
            scope: Scope::Admin,
            project: None,
            created: now,
            expires: None,
            last_used: None,
        };
        self.lock_in_term()?.keys.insert(name.into(), (key, hash));
        Ok(())
    }

    async fn add_key(&self, key: &KeyRecord, hash: [u8; 32]) -> Result<(), StoreError> {
        if let Some(project) = &key.project {
            self.with(project, |_| Ok(()))?;
        }
        let mut inner = self.lock_in_term()?;
        if inner.keys.contains_key(&key.name) {
            return Err(StoreError::Exists("key"));
        }
        inner.keys.insert(key.name.clone(), (key.clone(), hash));
        Ok(())
    }

    async fn key(&self, hash: [u8; 32]) -> Result<Option<KeyRecord>, StoreError> {
        let inner = self.lock();
        let mut kept = inner.keys.values();
        Ok(kept.find(|(_, kept)| *kept == hash).map(|(key, _)| key.clone()))
    }

    async fn key_named(&self, name: &str) -> Result<KeyRecord, StoreError> {
        let inner = self.lock();
        let key = inner.keys.get(name).map(|(key, _)| key.clone());
        key.ok_or(StoreError::NotFound("key"))
    }

    async fn keys(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>, StoreError> {
        let inner = self.lock();
        let page = inner
            .keys
            .values()
            .filter(|(key, _)| key.name.as_str() > after.unwrap_or_default());
        Ok(page.take(limit as usize).map(|(key, _)| key.clone()).collect())
    }

    async fn set_key_expiry(&self, read: &KeyRecord, expires: Option<EpochMs>) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        inner.expected_key(read)?.expires = expires;
        Ok(())
    }

    async fn remove_key(&self, read: &KeyRecord) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        inner.expected_key(read)?;
        inner.keys.remove(&read.name);
        Ok(())
    }

    async fn key_used(&self, hash: [u8; 32], now: EpochMs) -> Result<(), StoreError> {
        let mut inner = self.lock_in_term()?;
        if let Some((key, _)) = inner.keys.values_mut().find(|(_, kept)| *kept == hash) {
            key.last_used = Some(now);
        }
        Ok(())
    }
}
