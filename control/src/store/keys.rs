//! API keys as they are kept: what each may do and of which project. Of the key itself only the hash is here.

use async_trait::async_trait;
use control_api::rest::Scope;

use super::{EpochMs, StoreError};
use crate::name::ProjectId;

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) name: String,
    pub(crate) scope: Scope,
    /// The only project that it sees.
    pub(crate) project: Option<ProjectId>,
    pub(crate) created: EpochMs,
    pub(crate) expires: Option<EpochMs>,
    /// Coarse: written at most once an hour.
    pub(crate) last_used: Option<EpochMs>,
}

impl KeyRecord {
    /// Whether nothing but its use is different, and it is no later key of the same name.
    pub(crate) fn is_as(&self, read: &Self) -> bool {
        let changeable = |key: &Self| (key.scope, key.project.clone(), key.created, key.expires);
        changeable(self) == changeable(read)
    }
}

/// The part of a store that knows API keys.
#[async_trait]
pub(crate) trait Keys {
    /// Makes a key that may do everything, in the place of an older one of that name.
    async fn put_key(&self, name: &str, hash: [u8; 32], now: EpochMs) -> Result<(), StoreError>;
    /// `Exists("key")` and `NotFound("project")`.
    async fn add_key(&self, key: &KeyRecord, hash: [u8; 32]) -> Result<(), StoreError>;
    /// The key that has this hash, expired or not.
    async fn key(&self, hash: [u8; 32]) -> Result<Option<KeyRecord>, StoreError>;
    async fn key_named(&self, name: &str) -> Result<KeyRecord, StoreError>;
    /// In the order of names, after `after`.
    async fn keys(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>, StoreError>;
    /// This and the next: where the key is still as it was read (`KeyRecord::is_as`), else `Changed`.
    async fn set_key_expiry(&self, read: &KeyRecord, expires: Option<EpochMs>) -> Result<(), StoreError>;
    async fn remove_key(&self, read: &KeyRecord) -> Result<(), StoreError>;
    async fn key_used(&self, hash: [u8; 32], now: EpochMs) -> Result<(), StoreError>;
}
