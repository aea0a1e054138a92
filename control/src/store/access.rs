//! Users, databases and settings as they are kept: what REST changes of a project, what a server has of it, and what is still
//! to be brought to one.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{EpochMs, StoreError};
use crate::{
    accounts::ObservedAccount,
    name::{DatabaseName, ProjectId, UserName},
    secret::Verifiers,
};

/// A user to be made.
#[derive(Clone)]
pub(crate) struct NewUser {
    pub(crate) name: UserName,
    pub(crate) verifiers: Verifiers,
    pub(crate) admin: bool,
}

/// A user as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserRecord {
    pub(crate) name: UserName,
    pub(crate) verifiers: Verifiers,
    pub(crate) admin: bool,
    pub(crate) created: EpochMs,
    /// A server has had it as it is here; from then on what the server says of the account counts.
    pub(crate) known: bool,
    /// A server has had it, if with another password: its rights are what they are there.
    pub(crate) had: bool,
    /// Made in SQL; kept since a password was given to it here.
    pub(crate) by_sql: bool,
}

/// Who may come in and where to: the part of a project that REST changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Grows with every change, so that of two readings the later one is known.
    pub(crate) revision: i64,
    pub(crate) users: Vec<UserRecord>,
    pub(crate) databases: Vec<DatabaseName>,
    /// Of `databases` those that no server has been seen with.
    pub(crate) new_databases: Vec<DatabaseName>,
    /// Removed here, and a server may still have them.
    pub(crate) removed_databases: Vec<DatabaseName>,
    /// Server variables that were set, as the server reports them.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) removed_users: Vec<UserName>,
}

/// Of a change: it is made only where the access still has this revision. `None`: whatever was changed meanwhile.
pub(crate) type Expected = Option<i64>;

/// Names of users, databases and settings that have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) users: Vec<UserName>,
    pub(crate) databases: Vec<DatabaseName>,
    pub(crate) settings: Vec<String>,
}

impl Touched {
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.databases.is_empty() && self.settings.is_empty()
    }
}

/// What the agent said of the server: the part of a project that only the server knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Observed {
    pub(crate) version: String,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) databases: Vec<String>,
    pub(crate) accounts: Vec<ObservedAccount>,
    /// Of two that one agent said the later has the higher number; not kept.
    pub(crate) look: u64,
    /// Why databases and accounts are not in here: there are too many; not kept.
    pub(crate) left_out: Option<String>,
}

/// The part of a store that knows who may come in and where to.
#[async_trait]
pub(crate) trait Accesses {
    async fn access(&self, id: &ProjectId) -> Result<Access, StoreError>;
    /// This and the next seven answer the access as it is after the change. What makes the project too large is not added.
    async fn add_user(&self, id: &ProjectId, user: NewUser, now: EpochMs) -> Result<Access, StoreError>;
    async fn set_verifiers(
        &self,
        id: &ProjectId,
        name: &UserName,
        verifiers: &Verifiers,
        expected: Expected,
    ) -> Result<Access, StoreError>;
    /// Gives a password to a user that is none of `access.users`: one that the server has by SQL.
    async fn adopt_user(
        &self,
        id: &ProjectId,
        user: NewUser,
        now: EpochMs,
        expected: Expected,
    ) -> Result<Access, StoreError>;
    async fn remove_user(&self, id: &ProjectId, name: &UserName, expected: Expected) -> Result<Access, StoreError>;
    /// The same for one that the server has by SQL.
    async fn remove_sql_user(&self, id: &ProjectId, name: &UserName, expected: Expected) -> Result<Access, StoreError>;
    async fn add_database(&self, id: &ProjectId, name: &DatabaseName) -> Result<Access, StoreError>;
    async fn remove_database(
        &self,
        id: &ProjectId,
        name: &DatabaseName,
        expected: Expected,
    ) -> Result<Access, StoreError>;
    /// Those without a value are unset.
    async fn set_settings(
        &self,
        id: &ProjectId,
        changes: &BTreeMap<String, Option<String>>,
        expected: Expected,
    ) -> Result<Access, StoreError>;
    /// The changes that no running server is known to have, with the access that they led to.
    async fn pending(&self, id: &ProjectId) -> Result<(Access, Touched), StoreError>;
    /// A server has everything up to this revision.
    async fn applied(&self, id: &ProjectId, revision: i64) -> Result<(), StoreError>;
    /// Keeps what the agent said. A user that a server had and has no more was dropped in SQL: it is forgotten. A
    /// database that was made here, was reported once and now is not, was dropped in SQL:
    /// it is forgotten. Answers what is left. Where the project would be too large, nothing changes.
    async fn set_observed(&self, id: &ProjectId, observed: &Observed) -> Result<Access, StoreError>;
}
