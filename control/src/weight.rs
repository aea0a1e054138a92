//! What one project may weigh: how many users and databases it has, and how much gateways are told of it. Checked where it
//! grows, in the transaction that would make it grow, so that whoever is asked hears of it and nobody else does.

use control_api::control as proto;
use prost::Message;

use crate::{
    accounts,
    store::{Access, Observed},
};

/// Of a project's users and databases as gateways are told them. Every gateway holds all projects and is told the whole of
/// one whenever it changes. A thousand users with a hundred databases each are half of it; a gateway takes messages of
/// sixteen times as much.
pub(crate) const PROJECT_BYTES_MAX: usize = 4 << 20;
/// Users of a project, those that its server has by itself and those that are still to be removed from it with them: more
/// than people or programs of one database need, and few enough to be compared with each other.
pub(crate) const USERS_MAX: usize = 10_000;
/// The same for databases.
pub(crate) const DATABASES_MAX: usize = 10_000;

/// A project that is or would be too large; fit for people to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// What gateways would be told.
    #[error(
        "its users and databases would take {0} bytes of what every gateway is told, and {PROJECT_BYTES_MAX} are the most; \
         a user made by API counts each database once, so a few users or databases less make much room"
    )]
    Bytes(usize),
    /// Too many users.
    #[error("it would have {0} users, and {USERS_MAX} are the most; those made in SQL count, too")]
    Users(usize),
    /// Too many databases.
    #[error("it would have {0} databases, and {DATABASES_MAX} are the most; those made in SQL count, too")]
    Databases(usize),
}

/// Whether a project with these users and databases is one that gateways can be told of.
pub(crate) fn weigh(access: &Access, observed: Option<&Observed>) -> Result<(), TooLarge> {
    let seen = observed.map_or(0, |observed| observed.accounts.len());
    // Those made by API that the server has are in both.
    let made = access.users.iter().filter(|user| !user.had).count();
    let users = seen + made + access.removed_users.len();
    if users > USERS_MAX {
        return Err(TooLarge::Users(users));
    }
    let databases = accounts::databases(access, observed);
    let all = databases.len() + access.removed_databases.len();
    if all > DATABASES_MAX {
        return Err(TooLarge::Databases(all));
    }
    let told = proto::Project {
        users: accounts::users(access, observed),
        databases,
        ..proto::Project::default()
    };
    match told.encoded_len() {
        bytes if bytes > PROJECT_BYTES_MAX => Err(TooLarge::Bytes(bytes)),
        _ => Ok(()),
    }
}
