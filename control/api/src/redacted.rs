//! Debug of the gRPC messages that hold a secret: who or what they are about, and nothing that opens anything. The
//! generated one would show every byte wherever a message that contains one of them is logged.

use std::fmt;

use crate::{agent, control};

impl fmt::Debug for control::User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("admin", &self.admin)
            .field("locked", &self.locked)
            .field("granted_databases", &self.granted_databases)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for control::Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute")
            .field("state", &self.state())
            .field("incarnation", &self.incarnation)
            .field("socket_path", &self.socket_path)
            .field("reason", &self.reason)
            .field("forced", &self.forced)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for agent::Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .field("admin", &self.admin)
            .field("absent", &self.absent)
            .field("known", &self.known)
            .field("password_only", &self.password_only)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for agent::SeenAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeenAccount")
            .field("user", &self.user)
            .field("host", &self.host)
            .field("admin", &self.admin)
            .field("locked", &self.locked)
            .field("database_patterns", &self.database_patterns)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As text, and as Debug shows bytes.
    fn shows_a_secret(shown: &str) -> bool {
        shown.contains("\\xc7") || shown.contains("199, 199")
    }

    #[test]
    fn messages_show_whom_they_are_about_and_no_secret() {
        let secret = || vec![0xc7; 32];
        let user = control::User {
            name: "ann".into(),
            native_sha1: secret(),
            caching_sha2: secret(),
            more_native_sha1: vec![secret()],
            ed25519_keys: vec![secret()],
            ..Default::default()
        };
        let compute = control::Compute {
            socket_path: "ann's".into(),
            gateway_secret: secret(),
            ..Default::default()
        };
        let account = agent::Account {
            user: "ann".into(),
            native_sha1: secret(),
            ..Default::default()
        };
        let seen = agent::SeenAccount {
            user: "ann".into(),
            native_sha1: vec![secret()],
            ed25519_keys: vec![secret()],
            ..Default::default()
        };
        // Whatever holds one of them shows it by the same Debug.
        let whole = control::Project {
            users: vec![user],
            compute: Some(compute),
            ..Default::default()
        };
        let request = agent::ApplyRequest {
            accounts: vec![account],
            ..Default::default()
        };
        let server = agent::Server {
            accounts: vec![seen],
            ..Default::default()
        };
        for shown in [format!("{whole:?}"), format!("{request:#?}"), format!("{server:?}")] {
            assert!(shown.contains("ann"), "{shown}");
            assert!(!shows_a_secret(&shown), "{shown}");
        }
    }
}
