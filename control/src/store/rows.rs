//! Rows as SQL has them, to and from what control works with. A row that does not parse is reported as corrupt, with the
//! column and never with its content.

use std::time::Duration;

use control_api::{
    networks::Networks,
    rest::{ComputeState, OperationKind, OperationState, Scope, WokenBy},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ComputeRecord, Observed, ProjectRecord, Sleep, StoreError, SuspendAfter, Transition, UserRecord,
    audit::{Attempt, AuditRecord},
    keys::KeyRecord,
    operations::OperationRecord,
    replays::{Answer, NewReplay, Replay},
    seal::{Keyring, Place, Unopened},
    usage::{Billed, PastProject},
};
use crate::{
    name::{NameError, ProjectId, UserName},
    secret::Verifiers,
};

#[derive(sqlx::FromRow)]
pub(super) struct ProjectRow {
    id: String,
    size_cu: f64,
    wake_timeout_ms: Option<i64>,
    suspend_after_ms: Option<i64>,
    pinned_idle_timeout_ms: Option<i64>,
    allowed_networks: Option<String>,
    os_uid: Option<i64>,
    created_ms: i64,
    #[sqlx(flatten)]
    compute: ComputeRow,
}

#[derive(sqlx::FromRow)]
pub(super) struct ComputeRow {
    pub(super) state: String,
    pub(super) incarnation: i64,
    pub(super) drain_round: i64,
    pub(super) drain_forced: bool,
    pub(super) since_ms: i64,
    pub(super) reason: Option<String>,
    /// Only read: a start alone writes it.
    pub(super) size_ucu: i64,
}

/// A row with the project that it belongs to.
#[derive(sqlx::FromRow)]
pub(super) struct Of<T> {
    pub(super) project_id: String,
    #[sqlx(flatten)]
    pub(super) row: T,
}

#[derive(sqlx::FromRow)]
pub(super) struct UserRow {
    name: String,
    verifiers: Option<Vec<u8>>,
    admin: bool,
    created_ms: i64,
    known: bool,
    had: bool,
    by_sql: bool,
}

#[derive(sqlx::FromRow)]
pub(super) struct KeyRow {
    name: String,
    scope: String,
    project_id: Option<String>,
    created_ms: i64,
    expires_ms: Option<i64>,
    last_used_ms: Option<i64>,
}

#[derive(sqlx::FromRow)]
pub(super) struct AuditRow {
    id: i64,
    at_ms: i64,
    key_name: String,
    method: String,
    path: String,
    project_id: Option<String>,
    changed: Option<String>,
    request_id: String,
    status: Option<i64>,
}

#[derive(sqlx::FromRow)]
pub(super) struct ReplayRow {
    request_sha256: Vec<u8>,
    lease_ms: i64,
    status: Option<i64>,
    content_type: Option<String>,
    etag: Option<String>,
    body: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct ServerRow {
    pub(super) version: String,
    pub(super) variables: String,
    pub(super) databases: String,
    pub(super) sealed_accounts: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
pub(super) struct OperationRow {
    id: String,
    project_id: String,
    kind: String,
    state: String,
    step: String,
    error: Option<String>,
    incarnation: Option<i64>,
    requested_by: String,
    created_ms: i64,
    updated_ms: i64,
    ended_ms: Option<i64>,
}

impl TryFrom<OperationRow> for OperationRecord {
    type Error = StoreError;

    fn try_from(row: OperationRow) -> Result<Self, StoreError> {
        let kind = OperationKind::ALL.into_iter().find(|kind| kind.as_str() == row.kind);
        let state = OperationState::ALL
            .into_iter()
            .find(|state| state.as_str() == row.state);
        let incarnation = row.incarnation.map(u64::try_from).transpose();
        Ok(Self {
            id: row.id,
            project: name(ProjectId::new(&row.project_id))?,
            kind: kind.ok_or_else(|| StoreError::Corrupt("operations.kind".into()))?,
            state: state.ok_or_else(|| StoreError::Corrupt("operations.state".into()))?,
            step: row.step,
            error: row.error,
            incarnation: incarnation.map_err(corrupt("operations.incarnation"))?,
            requested_by: row.requested_by,
            created: row.created_ms,
            updated: row.updated_ms,
            ended: row.ended_ms,
        })
    }
}

fn corrupt<E>(column: &'static str) -> impl FnOnce(E) -> StoreError {
    move |_| StoreError::Corrupt(column.into())
}

pub(super) fn name<T>(checked: Result<T, NameError>) -> Result<T, StoreError> {
    checked.map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) fn names<T>(texts: &[String], check: impl Fn(&str) -> Result<T, NameError>) -> Result<Vec<T>, StoreError> {
    texts.iter().map(|text| name(check(text))).collect()
}

impl TryFrom<ProjectRow> for ProjectRecord {
    type Error = StoreError;

    fn try_from(row: ProjectRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: name(ProjectId::new(&row.id))?,
            size_cu: row.size_cu,
            wake_timeout_ms: row
                .wake_timeout_ms
                .map(u32::try_from)
                .transpose()
                .map_err(corrupt("wake_timeout_ms"))?,
            sleep: Sleep {
                suspend_after: row.suspend_after_ms.map(suspend_after).transpose()?,
                pinned_idle_timeout_ms: row
                    .pinned_idle_timeout_ms
                    .map(u32::try_from)
                    .transpose()
                    .map_err(corrupt("pinned_idle_timeout_ms"))?,
            },
            allowed_networks: row
                .allowed_networks
                .map_or_else(|| Ok(Networks::default()), |text| networks(&text))?,
            uid: row.os_uid.map(u32::try_from).transpose().map_err(corrupt("os_uid"))?,
            created: row.created_ms,
            compute: row.compute.try_into()?,
        })
    }
}

fn state(text: &str, column: &'static str) -> Result<ComputeState, StoreError> {
    let state = ComputeState::ALL.into_iter().find(|state| state.as_str() == text);
    state.ok_or_else(|| StoreError::Corrupt(column.into()))
}

fn networks(text: &str) -> Result<Networks, StoreError> {
    let texts: Vec<String> = parse(text, "allowed_networks")?;
    Networks::parse(texts).map_err(corrupt("allowed_networks"))
}

/// None stands for anywhere.
pub(super) fn allowed_networks(networks: &Networks) -> Result<Option<String>, StoreError> {
    let texts = (!networks.is_empty()).then(|| networks.texts());
    texts.map(|texts| json(&texts, "allowed_networks")).transpose()
}

/// 0 stands for never.
fn suspend_after(ms: i64) -> Result<SuspendAfter, StoreError> {
    match u64::try_from(ms).map_err(corrupt("suspend_after_ms"))? {
        0 => Ok(SuspendAfter::Never),
        ms => Ok(SuspendAfter::Idle(Duration::from_millis(ms))),
    }
}

pub(super) fn suspend_after_ms(after: SuspendAfter) -> i64 {
    match after {
        SuspendAfter::Never => 0,
        SuspendAfter::Idle(time) => i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct TransitionRow {
    id: i64,
    incarnation: i64,
    from_state: String,
    to_state: String,
    at_ms: i64,
    reason: Option<String>,
    size_ucu: i64,
}

impl TryFrom<TransitionRow> for Transition {
    type Error = StoreError;

    fn try_from(row: TransitionRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            incarnation: u64::try_from(row.incarnation).map_err(corrupt("compute_transitions.incarnation"))?,
            from: state(&row.from_state, "compute_transitions.from_state")?,
            to: state(&row.to_state, "compute_transitions.to_state")?,
            at: row.at_ms,
            reason: row.reason,
            size_ucu: row.size_ucu,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct BilledRow {
    project_id: String,
    created_ms: i64,
    deleted_ms: Option<i64>,
    size_cu: f64,
}

impl TryFrom<BilledRow> for Billed {
    type Error = StoreError;

    fn try_from(row: BilledRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ProjectId::new(&row.project_id).map_err(corrupt("project_id"))?,
            created: row.created_ms,
            deleted: row.deleted_ms,
            size_cu: row.size_cu,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct PastProjectRow {
    number: i64,
    #[sqlx(flatten)]
    billed: BilledRow,
}

impl TryFrom<PastProjectRow> for PastProject {
    type Error = StoreError;

    fn try_from(row: PastProjectRow) -> Result<Self, StoreError> {
        Ok(Self {
            number: row.number,
            billed: row.billed.try_into()?,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct LifeRow {
    #[sqlx(flatten)]
    transition: TransitionRow,
    cause: Option<String>,
}

impl LifeRow {
    pub(super) fn life(self) -> Result<(Transition, Option<WokenBy>), StoreError> {
        let cause = self.cause.map(|text| parse(&text, "compute_transitions.cause"));
        Ok((self.transition.try_into()?, cause.transpose()?))
    }
}

impl TryFrom<ComputeRow> for ComputeRecord {
    type Error = StoreError;

    fn try_from(row: ComputeRow) -> Result<Self, StoreError> {
        Ok(Self {
            state: state(&row.state, "computes.state")?,
            round: u32::try_from(row.drain_round).map_err(corrupt("computes.drain_round"))?,
            forced: row.drain_forced,
            incarnation: u64::try_from(row.incarnation).map_err(corrupt("computes.incarnation"))?,
            since: row.since_ms,
            reason: row.reason,
            size_ucu: row.size_ucu,
        })
    }
}

impl TryFrom<&ComputeRecord> for ComputeRow {
    type Error = StoreError;

    fn try_from(record: &ComputeRecord) -> Result<Self, StoreError> {
        Ok(Self {
            state: record.state.as_str().into(),
            incarnation: i64::try_from(record.incarnation).map_err(corrupt("computes.incarnation"))?,
            drain_round: record.round.into(),
            drain_forced: record.forced,
            since_ms: record.since,
            // PostgreSQL keeps no zero byte in a text, and what a compute said may hold one.
            reason: record.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}")),
            size_ucu: record.size_ucu,
        })
    }
}

/// Where verifiers and what servers say of their accounts are kept sealed.
pub(super) const VERIFIERS: &str = "users.verifiers";
pub(super) const ACCOUNTS: &str = "servers.sealed_accounts";
/// What stands in the columns in which earlier versions kept verifiers in the clear.
pub(super) const IN_THE_CLEAR: &[u8] = b"";

/// `place` goes into the error, what stands there does not.
pub(super) fn opened(keys: &Keyring, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
    keys.open(place, sealed).map_err(|unopened| {
        let problem = match unopened {
            Unopened::Key(id) => format!("sealed by the key {id}, which is not in {}", keys.file().display()),
            Unopened::Damaged => "it is damaged, or was put there from elsewhere".into(),
        };
        StoreError::Corrupt(format!("{place}: {problem}"))
    })
}

/// What `Store::seal` has not come to yet does not count, whoever has put it there.
fn sealed<'a>(place: Place<'_>, value: Option<&'a Vec<u8>>) -> Result<&'a Vec<u8>, StoreError> {
    value.ok_or_else(|| StoreError::Corrupt(format!("{place}: it is not sealed")))
}

fn verifiers_of<'a>(project: &'a str, user: &'a str) -> Place<'a> {
    Place {
        column: VERIFIERS,
        project,
        row: user,
    }
}

pub(super) fn sealed_verifiers(keys: &Keyring, project: &ProjectId, user: &UserName, verifiers: &Verifiers) -> Vec<u8> {
    let plain = [&verifiers.native_sha1[..], &verifiers.caching_sha2].concat();
    keys.seal(verifiers_of(project.as_str(), user.as_str()), &plain)
}

impl UserRow {
    pub(super) fn opened(self, keys: &Keyring, project: &str) -> Result<UserRecord, StoreError> {
        let place = verifiers_of(project, &self.name);
        let plain = opened(keys, place, sealed(place, self.verifiers.as_ref())?)?;
        let corrupt = || StoreError::Corrupt(format!("{place}: it is of a strange length"));
        let (native_sha1, caching_sha2) = plain.split_at_checked(20).ok_or_else(corrupt)?;
        Ok(UserRecord {
            verifiers: Verifiers {
                native_sha1: native_sha1.try_into().map_err(|_| corrupt())?,
                caching_sha2: caching_sha2.try_into().map_err(|_| corrupt())?,
            },
            name: name(UserName::new(&self.name))?,
            admin: self.admin,
            created: self.created_ms,
            known: self.known,
            had: self.had,
            by_sql: self.by_sql,
        })
    }
}

impl TryFrom<KeyRow> for KeyRecord {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let scope = Scope::ALL.into_iter().find(|scope| scope.as_str() == row.scope);
        Ok(Self {
            name: row.name,
            scope: scope.ok_or_else(|| StoreError::Corrupt("api_keys.scope".into()))?,
            project: row.project_id.map(|id| name(ProjectId::new(&id))).transpose()?,
            created: row.created_ms,
            expires: row.expires_ms,
            last_used: row.last_used_ms,
        })
    }
}

impl TryFrom<AuditRow> for AuditRecord {
    type Error = StoreError;

    fn try_from(row: AuditRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            attempt: Attempt {
                at: row.at_ms,
                key_name: row.key_name,
                method: row.method,
                path: row.path,
                project: row.project_id,
                changed: row.changed,
                request_id: row.request_id,
            },
            status: row
                .status
                .map(u16::try_from)
                .transpose()
                .map_err(corrupt("audit.status"))?,
        })
    }
}

impl ReplayRow {
    /// What it means for who asks now; `Begun`: whoever began it is gone.
    pub(super) fn replay(self, new: &NewReplay) -> Result<Replay, StoreError> {
        if self.request_sha256 != new.request_hash {
            return Ok(Replay::Other);
        }
        let Some(status) = self.status else {
            return Ok(if self.lease_ms > new.now {
                Replay::InProgress
            } else {
                Replay::Begun
            });
        };
        Ok(Replay::Done(Answer {
            status: u16::try_from(status).map_err(corrupt("replays.status"))?,
            content_type: self.content_type,
            etag: self.etag,
            body: self.body.unwrap_or_default(),
        }))
    }
}

pub(super) fn json<T: Serialize>(value: &T, column: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(corrupt(column))
}

fn parse<T: DeserializeOwned>(text: &str, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(corrupt(column))
}

impl ServerRow {
    fn accounts_of(project: &str) -> Place<'_> {
        Place {
            column: ACCOUNTS,
            project,
            row: "",
        }
    }

    pub(super) fn sealed(observed: &Observed, keys: &Keyring, project: &ProjectId) -> Result<Self, StoreError> {
        let accounts = json(&observed.accounts, "servers.accounts")?;
        Ok(Self {
            version: observed.version.clone(),
            variables: json(&observed.variables, "servers.variables")?,
            databases: json(&observed.databases, "servers.databases")?,
            sealed_accounts: Some(keys.seal(Self::accounts_of(project.as_str()), accounts.as_bytes())),
        })
    }

    pub(super) fn opened(self, keys: &Keyring, project: &str) -> Result<Observed, StoreError> {
        let place = Self::accounts_of(project);
        let accounts = opened(keys, place, sealed(place, self.sealed_accounts.as_ref())?)?;
        Ok(Observed {
            variables: parse(&self.variables, "servers.variables")?,
            databases: parse(&self.databases, "servers.databases")?,
            accounts: serde_json::from_slice(&accounts).map_err(corrupt(ACCOUNTS))?,
            version: self.version,
            look: 0,
            left_out: None,
        })
    }
}
