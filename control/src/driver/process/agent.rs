//! The conversation with an agent over its unix socket. Everything has a deadline: the other end may be a process that a
//! tenant has taken over, so what it says is taken as data about that tenant's project and nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};

use control_api::{
    agent::{
        self as proto, Account, Activity, AgentStatus, ApplyRequest, Database, LookRequest, Phase, QuiesceRequest,
        ResumeRequest, SeenAccount, Server, SettingsRequest, StatusRequest, StopRequest, agent_client::AgentClient,
    },
    settings::{self, Applies, Offer},
};
use tonic::{Response, Streaming, transport::Channel};

use super::{Doing, DriverError, Quiesce, Quiet};
use crate::{
    accounts::{Limits, ObservedAccount, Require},
    name::DatabaseName,
    secret::hex,
    store::{Access, Observed, Touched, UserRecord},
};

/// A local agent answers in a millisecond; on a machine that swaps, in a second.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Creating an account waits for whatever holds the privilege tables.
const APPLY_PATIENCE: Duration = Duration::from_secs(15);
/// The agent's own time limits for a look behind the shut door, and for opening it, are a little shorter. What a forced
/// one waits for on purpose comes on top.
const QUIESCE_PATIENCE: Duration = Duration::from_secs(10);
/// On top of the time that mariadbd itself is given to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// One status: the names of all databases and grants of a project.
const STATUS_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(super) struct Agent {
    client: AgentClient<Channel>,
}

impl Agent {
    /// `None`: nobody listens there.
    pub(super) async fn connect(socket: &Path) -> Option<Self> {
        // A missing file is by far the most frequent case and needs no connection attempt.
        if !socket.exists() {
            return None;
        }
        let endpoint = tonic::transport::Endpoint::from_shared(format!("unix:{}", socket.display())).ok()?;
        let connected = within(ANSWER_PATIENCE, endpoint.connect()).await?;
        let client = AgentClient::new(connected.ok()?).max_decoding_message_size(STATUS_BYTES_MAX);
        Some(Self { client })
    }

    pub(super) async fn status(&mut self) -> Option<AgentStatus> {
        within(ANSWER_PATIENCE, self.client.status(StatusRequest {}))
            .await?
            .ok()
            .map(tonic::Response::into_inner)
    }

    pub(super) async fn watch(&mut self) -> Option<Streaming<AgentStatus>> {
        within(ANSWER_PATIENCE, self.client.watch(StatusRequest {}))
            .await?
            .ok()
            .map(tonic::Response::into_inner)
    }

    pub(super) async fn settings(&mut self) -> Result<BTreeMap<String, String>, DriverError> {
        let reply = answered(within(ANSWER_PATIENCE, self.client.settings(SettingsRequest {})).await)?;
        Ok(reply.values.into_iter().collect())
    }

    pub(super) async fn apply(
        &mut self,
        access: &Access,
        touched: &Touched,
        offer: &Offer,
    ) -> Result<Observed, DriverError> {
        let request = apply_request(access, touched, offer);
        let reply = answered(within(APPLY_PATIENCE, self.client.apply(request)).await)?;
        Ok(observed(reply.server.unwrap_or_default()))
    }

    pub(super) async fn quiesce(&mut self, how: Quiesce) -> Result<Quiet, DriverError> {
        let patience = match how {
            Quiesce::IfIdle => Duration::ZERO,
            Quiesce::Forced(patience) => patience,
        };
        let request = QuiesceRequest {
            forced: how != Quiesce::IfIdle,
            patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
        };
        let asked = within(QUIESCE_PATIENCE + patience, self.client.quiesce(request)).await;
        let busy = answered(asked)?.busy;
        Ok(if busy.is_empty() {
            Quiet::Idle
        } else {
            Quiet::Busy(busy)
        })
    }

    pub(super) async fn resume(&mut self) -> Result<(), DriverError> {
        answered(within(QUIESCE_PATIENCE, self.client.resume(ResumeRequest {})).await).map(drop)
    }

    pub(super) async fn look(&mut self) -> Result<Observed, DriverError> {
        match within(ANSWER_PATIENCE, self.client.look(LookRequest {})).await {
            Some(Ok(reply)) => Ok(observed(reply.into_inner().server.unwrap_or_default())),
            Some(Err(status)) => Err(DriverError(status.message().to_owned())),
            None => Err(DriverError("the compute did not answer in time".into())),
        }
    }

    /// Answers when mariadbd has ended, one way or the other, with the last status.
    pub(super) async fn stop(&mut self, timeout: Duration) -> Option<AgentStatus> {
        let request = StopRequest {
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        };
        let stopped = within(timeout + STOP_PATIENCE, self.client.stop(request)).await?;
        stopped.ok().map(Response::into_inner)
    }
}

fn answered<T>(asked: Option<Result<Response<T>, tonic::Status>>) -> Result<T, DriverError> {
    match asked {
        Some(Ok(reply)) => Ok(reply.into_inner()),
        Some(Err(status)) => Err(DriverError(format!("the compute refused: {}", status.message()))),
        None => Err(DriverError("the compute did not answer in time".into())),
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(patience, work).await.ok()
}

/// Everything that exists with what was touched: a new database has to be granted to all users, a new user has to be
/// given all databases.
fn apply_request(access: &Access, touched: &Touched, offer: &Offer) -> ApplyRequest {
    let all_users = !touched.databases.is_empty();
    let all_databases = !touched.users.is_empty();
    let wanted_user = |user: &&UserRecord| (all_users && !user.by_sql) || touched.users.contains(&user.name);
    let wanted_database = |name: &&DatabaseName| all_databases || touched.databases.contains(name);
    let accounts = access.users.iter().filter(wanted_user).map(|user| Account {
        user: user.name.to_string(),
        native_sha1: user.verifiers.native_sha1.to_vec(),
        admin: user.admin,
        absent: false,
        known: user.known || !touched.users.contains(&user.name),
        password_only: user.had,
    });
    let gone_users = touched
        .users
        .iter()
        .filter(|name| access.users.iter().all(|user| user.name != **name));
    let databases = access.databases.iter().filter(wanted_database);
    let gone_databases = touched.databases.iter().filter(|name| !access.databases.contains(name));
    ApplyRequest {
        settings: live_settings(access, touched, offer),
        accounts: accounts
            .chain(gone_users.map(|name| Account {
                user: name.to_string(),
                absent: true,
                ..Account::default()
            }))
            .collect(),
        databases: databases
            .map(|name| Database {
                name: name.to_string(),
                absent: false,
            })
            .chain(gone_databases.map(|name| Database {
                name: name.to_string(),
                absent: true,
            }))
            .collect(),
    }
}

/// What a running server takes of the touched settings; those that are not set any more get their default. A change of
/// the character set changes the collation with it.
fn live_settings(access: &Access, touched: &Touched, offer: &Offer) -> HashMap<String, String> {
    let collation = touched.settings.iter().any(|name| name == "character_set_server");
    let names = touched.settings.iter().map(String::as_str);
    let live = names
        .chain(collation.then_some("collation_server"))
        .filter(|name| settings::find(name).is_ok_and(|setting| setting.applies == Applies::Live));
    live.filter_map(|name| Some((name.to_owned(), settings::resolved(name, &access.settings, offer)?)))
        .collect()
}

/// Whether it is that incarnation of that project, serving.
pub(super) fn serves(status: &AgentStatus, project: &str, incarnation: u64) -> bool {
    status.phase() == Phase::Ready && is_of(status, project, incarnation)
}

/// Whether it is that incarnation of that project.
pub(super) fn is_of(status: &AgentStatus, project: &str, incarnation: u64) -> bool {
    status.project == project && status.incarnation == incarnation
}

pub(super) fn doing(activity: Activity) -> Doing {
    Doing {
        running_statements: activity.running_statements,
        open_transactions: activity.open_transactions,
        running_events: activity.running_events,
        replication_threads: activity.replication_threads,
        background_tasks: activity.background_tasks,
    }
}

pub(super) fn observed(server: Server) -> Observed {
    Observed {
        version: server.version,
        variables: server.variables.into_iter().collect(),
        databases: server.databases,
        accounts: server.accounts.into_iter().map(account).collect(),
        look: server.look,
        left_out: Some(server.left_out).filter(|reason| !reason.is_empty()),
    }
}

fn account(seen: SeenAccount) -> ObservedAccount {
    // What only a later version knows was meant to keep somebody out.
    let is_unknown = proto::Require::try_from(seen.require).is_err();
    let limits = seen.limits.unwrap_or_default();
    ObservedAccount {
        native_sha1: seen.native_sha1.iter().map(|bytes| hex(bytes)).collect(),
        require: match seen.require() {
            proto::Require::None => Require::None,
            proto::Require::Ssl => Require::Ssl,
            proto::Require::X509 => Require::X509,
            proto::Require::Specified => Require::Specified,
        },
        require_cipher: seen.require_cipher,
        require_issuer: seen.require_issuer,
        require_subject: seen.require_subject,
        limits: Limits {
            queries_per_hour: limits.queries_per_hour,
            updates_per_hour: limits.updates_per_hour,
            connections_per_hour: limits.connections_per_hour,
            user_connections: limits.user_connections,
        },
        user: seen.user,
        host: seen.host,
        other_plugins: seen.other_plugins,
        locked: seen.locked || is_unknown,
        admin: seen.admin,
        patterns: seen.database_patterns,
        password_expired: seen.password_expired,
        password_expires_s: seen.password_expires_s,
        ed25519_keys: seen.ed25519_keys.iter().map(|bytes| hex(bytes)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        name::UserName,
        secret::{Password, Verifiers},
    };

    fn access() -> Access {
        let user = |name| UserRecord {
            name: UserName::new(name).unwrap(),
            verifiers: Verifiers::of(&Password::new("p".into()).unwrap()),
            admin: false,
            created: 0,
            known: false,
            had: false,
            by_sql: false,
        };
        let database = |name| DatabaseName::new(name).unwrap();
        Access {
            revision: 1,
            users: vec![user("ann"), user("bob")],
            databases: vec![database("one"), database("two")],
            ..Access::default()
        }
    }

    /// Names, each with whether it shall be absent.
    type Names = Vec<(String, bool)>;

    /// Of accounts and of databases.
    fn names(touched: &Touched) -> (Names, Names) {
        let request = apply_request(&access(), touched, &Offer::default());
        let accounts = request
            .accounts
            .into_iter()
            .map(|account| (account.user, account.absent));
        let databases = request
            .databases
            .into_iter()
            .map(|database| (database.name, database.absent));
        (accounts.collect(), databases.collect())
    }

    #[test]
    fn an_account_that_requires_what_only_a_later_version_knows_is_locked() {
        let requiring = |require| {
            let seen = SeenAccount {
                require,
                ..Default::default()
            };
            account(seen).locked
        };
        assert!(requiring(77) && !requiring(proto::Require::X509.into()));
    }

    #[test]
    fn new_user_goes_with_all_databases_and_no_other_user() {
        let touched = Touched {
            users: vec![UserName::new("bob").unwrap()],
            ..Touched::default()
        };
        let (accounts, databases) = names(&touched);
        assert_eq!(accounts, [("bob".into(), false)]);
        assert_eq!(databases, [("one".into(), false), ("two".into(), false)]);
        assert_eq!(
            apply_request(&access(), &touched, &Offer::default()).accounts[0]
                .native_sha1
                .len(),
            20
        );
    }

    #[test]
    fn what_is_not_in_the_store_any_more_is_removed() {
        let touched = Touched {
            users: vec![UserName::new("eve").unwrap()],
            databases: vec![DatabaseName::new("three").unwrap()],
            ..Touched::default()
        };
        let (accounts, databases) = names(&touched);
        assert!(accounts.contains(&("eve".into(), true)) && accounts.contains(&("ann".into(), false)));
        assert!(databases.contains(&("three".into(), true)));
    }

    #[test]
    fn settings_that_are_not_set_any_more_get_their_default() {
        fn pairs<T: FromIterator<(String, String)>>(pairs: &[(&str, &str)]) -> T {
            pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
        }
        let offer = Offer {
            defaults: pairs(&[("sql_mode", ""), ("wait_timeout", "28800"), ("ft_min_word_len", "4")]),
            character_sets: pairs(&[("latin1", "latin1_swedish_ci")]),
            ..Offer::default()
        };
        let mut access = access();
        access.settings = pairs(&[
            ("sql_mode", "ANSI_QUOTES"),
            ("character_set_server", "latin1"),
            ("max_error_count", "1"),
        ]);
        let touched = Touched {
            settings: ["sql_mode", "wait_timeout", "ft_min_word_len", "character_set_server"]
                .map(Into::into)
                .into(),
            ..Touched::default()
        };
        let expected = [
            ("character_set_server", "latin1"),
            ("collation_server", "latin1_swedish_ci"),
            ("sql_mode", "ANSI_QUOTES"),
            ("wait_timeout", "28800"),
        ];
        assert_eq!(
            live_settings(&access, &touched, &offer),
            pairs::<HashMap<_, _>>(&expected)
        );
    }
}
