//! A project of a running Selkie: made over REST, used by clients, put to sleep and woken.

use serde_json::{Value, json};

use crate::client::Endpoint;
use crate::selkie::Selkie;
use crate::wait::eventually;

/// What REST says of a project's compute.
#[derive(Debug, Clone, PartialEq)]
pub struct Compute {
    /// `suspended`, `starting`, `ready`, `draining` or `failed`.
    pub state: String,
    /// How often it was started.
    pub incarnation: u64,
    /// The whole answer.
    pub whole: Value,
}

/// A project and its first user.
#[derive(Debug)]
pub struct Project<'a> {
    selkie: &'a Selkie,
    /// Its id.
    pub id: String,
    /// How its user logs in.
    pub endpoint: Endpoint,
}

impl<'a> Project<'a> {
    pub(crate) fn new(selkie: &'a Selkie, id: String, endpoint: Endpoint) -> Self {
        Self { selkie, id, endpoint }
    }

    /// Makes another user with rights on all databases; how it logs in.
    pub async fn user(&self, name: &str, password: &str) -> Endpoint {
        self.make_user(name, password, false).await
    }

    /// Makes another user, who may also CREATE USER; how it logs in.
    pub async fn admin(&self, name: &str, password: &str) -> Endpoint {
        self.make_user(name, password, true).await
    }

    async fn make_user(&self, name: &str, password: &str, admin: bool) -> Endpoint {
        self.post("users", &json!({"name": name, "password": password, "admin": admin}))
            .await;
        Endpoint {
            user: format!("{}.{name}", self.id),
            password: password.into(),
            ..self.endpoint.clone()
        }
    }

    /// Makes another database.
    pub async fn database(&self, name: &str) {
        self.post("databases", &json!({"name": name})).await;
    }

    /// The state of its compute.
    pub async fn compute(&self) -> Compute {
        let whole = self
            .selkie
            .rest("GET", &format!("/projects/{}/compute", self.id), None)
            .await;
        assert_eq!(whole.status, 200, "{whole:?}");
        let whole = whole.json();
        Compute {
            state: whole["state"]
                .as_str()
                .unwrap_or_else(|| panic!("no state in {whole}"))
                .to_owned(),
            incarnation: whole["incarnation"]
                .as_u64()
                .unwrap_or_else(|| panic!("no incarnation in {whole}")),
            whole,
        }
    }

    /// Waits until its compute is in `state`.
    pub async fn reaches(&self, state: &str) -> Compute {
        eventually(format_args!("{} becomes {state}", self.id), async || {
            Some(self.compute().await).filter(|compute| compute.state == state)
        })
        .await
    }

    /// Asks for it to be put to sleep.
    pub async fn suspend_without_waiting(&self) {
        self.post("compute/suspend", &Value::Null).await;
    }

    /// Puts it to sleep and waits until it sleeps.
    pub async fn suspend(&self) {
        self.suspend_without_waiting().await;
        self.reaches("suspended").await;
    }

    /// Wakes it over REST and waits until it is ready.
    pub async fn wake(&self) -> Compute {
        self.post("compute/wake", &Value::Null).await;
        self.reaches("ready").await
    }

    async fn post(&self, what: &str, body: &Value) {
        let path = format!("/projects/{}/{what}", self.id);
        let answer = self
            .selkie
            .rest("POST", &path, Some(body).filter(|body| !body.is_null()))
            .await;
        assert!((200..300).contains(&answer.status), "POST {path}: {answer:?}");
    }
}
