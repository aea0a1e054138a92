//! Leases: who of several control planes acts, and who stands by.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// The lease of the control plane that acts; every other name is one that stands by.
pub(crate) const LEADER: &str = "leader";

/// A control plane, and where the others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// New at every start of a process.
    pub(crate) id: String,
    /// `IP:PORT` of REST.
    pub(crate) http: String,
    /// `IP:PORT` of gRPC.
    pub(crate) grpc: String,
}

/// A lease that has not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRecord {
    pub(crate) name: String,
    pub(crate) term: i64,
    pub(crate) holder: Holder,
}

/// The part of a store that gives leases.
#[async_trait]
pub(crate) trait Leases {
    /// Takes a lease that nobody holds (any more); answers its new term, which is above every earlier one of that name.
    async fn take_lease(&self, name: &str, holder: &Holder, lasts: Duration) -> Result<Option<i64>, StoreError>;
    /// Extends it from now; `false`: the term is over. One that ran out and that nobody took since is still its holder's.
    async fn renew_lease(&self, name: &str, term: i64, lasts: Duration) -> Result<bool, StoreError>;
    /// Ends it at once, if it is still of that term.
    async fn release_lease(&self, name: &str, term: i64) -> Result<(), StoreError>;
    /// Those in force, by the store's clock.
    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError>;
}
