//! Every request that may change something goes through here, in this order: its body is read, an answer that was given
//! already is given again (`Idempotency-Key`), it is written into the audit log, done, and its result is written down.
//! Nothing is done that the log does not know. What has begun is finished even when the client goes away.

use std::time::Duration;

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{MatchedPath, RawPathParams, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{BODY_BYTES_MAX, Problem, RequestId, Rest, auth::Caller, problem};
use crate::{
    clock,
    name::ProjectId,
    store::{
        audit::Attempt,
        replays::{Answer, NewReplay, Replay, ReplayId},
    },
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longer than any UUID or hash; it is a primary key.
const KEY_BYTES_MAX: usize = 255;
/// A client that has not tried again within a day will not.
pub(crate) const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// Of one API key within a day: one change every nine seconds.
const KEPT_MAX: u32 = 10_000;
/// A control plane that died in the middle of a change keeps others from trying it again for this long.
const LEASE: Duration = Duration::from_secs(60);
/// Three times per lease, so that one write may fail.
const EXTEND_EVERY: Duration = Duration::from_secs(20);
/// Answers to changes are smaller than their requests; a longer one is not kept.
const ANSWER_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// What is kept of an answer in the place of its body, because that holds a secret.
#[derive(Clone)]
struct ReplayedAs(String);

/// `response`, whose body is kept and given again as `body`: without the secret that it told.
pub(super) fn replayed_as(mut response: Response, body: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_string(body).map_err(|error| problem::internal(&error))?;
    response.extensions_mut().insert(ReplayedAs(text));
    Ok(response)
}

pub(super) async fn write_down(
    State(rest): State<Rest>,
    Extension(caller): Extension<Caller>,
    Extension(request_id): Extension<RequestId>,
    path: MatchedPath,
    parameters: RawPathParams,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(next.run(request).await);
    }
    let (parts, body) = request.into_parts();
    let body = problem::whole_body(body).await?;
    let replay = idempotency_key(&parts.headers)?.map(|key| replay_id(&caller, key));
    if let Some(id) = &replay
        && let Some(answer) = begin_replay(&rest, id, request_hash(&caller, &parts, &body)).await?
    {
        return Ok(answer);
    }
    let of_project = path.as_str().starts_with("/api/v1/projects/{id}");
    let project = parameters.iter().find(|(name, _)| *name == "id" && of_project);
    let attempt = Attempt {
        at: clock::now(),
        key_name: caller.name,
        method: parts.method.to_string(),
        path: parts.uri.path().chars().take(PATH_CHARS).collect(),
        project: project.map(|(_, id)| id.chars().take(SHOWN_CHARS).collect()),
        changed: summary(&body),
        request_id: request_id.0,
    };
    let makes_project = (path.as_str() == "/api/v1/projects")
        .then(|| made_project(&body))
        .flatten();
    let request = Request::from_parts(parts, Body::from(body));
    let change = Change {
        rest: rest.clone(),
        replay,
        attempt,
        makes_project,
    };
    let done = rest.tasks.spawn(change.run(next, request)).await;
    done.map_err(|error| problem::internal(&error))?
}

/// A change that is not answered from memory.
struct Change {
    rest: Rest,
    replay: Option<ReplayId>,
    attempt: Attempt,
    makes_project: Option<ProjectId>,
}

impl Change {
    async fn run(self, next: Next, request: Request) -> Result<Response, Problem> {
        let store = &self.rest.projects.store;
        let row = match store.begin_audit(&self.attempt).await {
            Ok(row) => row,
            Err(error) => {
                self.drop_replay().await;
                return Err(error.into());
            }
        };
        let response = self.while_leased(next.run(request)).await;
        let status = response.status();
        let made = self.makes_project.as_ref().filter(|_| status == StatusCode::CREATED);
        if let Err(error) = store.finish_audit(row, status.as_u16(), made).await {
            tracing::error!(%error, row, %status, "the result of a change is not in the audit log");
        }
        self.keep(response).await
    }

    async fn while_leased(&self, work: impl Future<Output = Response>) -> Response {
        let mut work = std::pin::pin!(work);
        let Some(id) = &self.replay else { return work.await };
        loop {
            match tokio::time::timeout(EXTEND_EVERY, work.as_mut()).await {
                Ok(response) => return response,
                Err(_elapsed) => {
                    let extended = self.rest.projects.store.extend_replay(id, lease(clock::now())).await;
                    if let Err(error) = extended {
                        tracing::warn!(%error, "a long change may be begun a second time");
                    }
                }
            }
        }
    }

    /// Keeps the answer to be given again. What failed inside or is over there may be tried again.
    async fn keep(self, mut response: Response) -> Result<Response, Problem> {
        let Some(id) = &self.replay else { return Ok(response) };
        let told = response.extensions_mut().remove::<ReplayedAs>();
        if response.status().is_server_error() {
            self.drop_replay().await;
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, ANSWER_BYTES_MAX)
            .await
            .map_err(|error| problem::internal(&error))?;
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let answer = Answer {
            status: parts.status.as_u16(),
            content_type: header(header::CONTENT_TYPE).map(ToOwned::to_owned),
            etag: header(header::ETAG).map(ToOwned::to_owned),
            body: told.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), |told| told.0),
        };
        if let Err(error) = self.rest.projects.store.finish_replay(id, &answer).await {
            tracing::error!(%error, "an answer cannot be given again");
        }
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    async fn drop_replay(&self) {
        let Some(id) = &self.replay else { return };
        if let Err(error) = self.rest.projects.store.drop_replay(id).await {
            tracing::warn!(%error, "a failed request can be tried again only later");
        }
    }
}

fn lease(now: i64) -> i64 {
    now.saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let fits =
        |text: &&str| (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let refuse = || {
        Problem::invalid(
            "invalid_idempotency_key",
            "Idempotency-Key must be 1 to 255 visible ASCII characters",
        )
    };
    value.to_str().ok().filter(fits).ok_or_else(refuse).map(Some)
}

fn replay_id(caller: &Caller, key: &str) -> ReplayId {
    ReplayId {
        key_hash: caller.hash,
        idempotency_key: key.into(),
    }
}

/// Mixed with the API key, which is kept nowhere: a password in the body cannot be guessed from what is kept.
fn request_hash(caller: &Caller, parts: &Parts, body: &Bytes) -> [u8; 32] {
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let if_match = parts
        .headers
        .get(header::IF_MATCH)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let mut hash = Sha256::new();
    for part in [
        &caller.secret_hash[..],
        parts.method.as_str().as_bytes(),
        path.as_bytes(),
        if_match,
        body,
    ] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// `None`: the request is ours to do.
async fn begin_replay(rest: &Rest, id: &ReplayId, request_hash: [u8; 32]) -> Result<Option<Response>, Problem> {
    let now = clock::now();
    let new = NewReplay {
        id: id.clone(),
        request_hash,
        now,
        lease: lease(now),
        expired: now - KEPT_MS,
        rows_max: KEPT_MAX,
    };
    Ok(match rest.projects.store.begin_replay(&new).await? {
        Replay::Begun => None,
        Replay::Done(answer) => Some(replayed(answer)?),
        Replay::InProgress => {
            let detail = "the request with this Idempotency-Key is being done; ask again for its answer";
            let problem = Problem::new(StatusCode::CONFLICT, "in_progress", "the request is being done", detail);
            Some(after(problem, 1))
        }
        Replay::Other => {
            let detail =
                "this Idempotency-Key belongs to another request of the last 24 hours; a new request needs a new key";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(Problem::new(
                status,
                "idempotency_key_reused",
                "the key belongs to another request",
                detail,
            ));
        }
        Replay::Full => {
            let detail = format!("this API key has used {KEPT_MAX} Idempotency-Keys within 24 hours");
            let status = StatusCode::TOO_MANY_REQUESTS;
            Some(after(
                Problem::new(status, "too_many_idempotency_keys", "too many keys", detail),
                3600,
            ))
        }
    })
}

pub(super) fn after(problem: Problem, seconds: u16) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

fn replayed(answer: Answer) -> Result<Response, Problem> {
    let status = StatusCode::from_u16(answer.status).map_err(|error| problem::internal(&error))?;
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in [(header::CONTENT_TYPE, answer.content_type), (header::ETAG, answer.etag)] {
        if let Some(value) = value {
            let value = HeaderValue::from_str(&value).map_err(|error| problem::internal(&error))?;
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Fields whose values are told in the audit log. Of any other only the name is: whoever misspells `password` must not
/// have it kept.
const TOLD: [&str; 12] = [
    "id",
    "name",
    "size_cu",
    "wake_timeout",
    "suspend_after",
    "pinned_idle_timeout",
    "allowed_networks",
    "database",
    "admin",
    "scope",
    "project",
    "expires_in",
];
/// Of one text in the log; names are shorter.
const SHOWN_CHARS: usize = 200;
/// Longer paths name nothing.
const PATH_CHARS: usize = 500;
/// Of one request in the log: more fields than any request has.
const FIELDS_MAX: usize = 64;

/// Of one request in the log as a whole: a change of every setting there is fits. Whoever is refused is written down, too,
/// and must not fill the log with one request.
const SUMMARY_BYTES_MAX: usize = 4096;

/// What a request changes, as JSON; `None`: nothing that can be read. Of too much of it the first fields are told, and how many
/// are not.
fn summary(body: &[u8]) -> Option<String> {
    let Value::Object(fields) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    let told = told(&fields, 0);
    let mut kept = Map::new();
    // For the braces and the field that says what is left out.
    let mut bytes = 64;
    for (name, value) in &told {
        // Quotes, colon and comma with it.
        bytes += Value::from(name.as_str()).to_string().len() + value.to_string().len() + 2;
        if bytes > SUMMARY_BYTES_MAX {
            break;
        }
        kept.insert(name.clone(), value.clone());
    }
    match fields.len() - kept.len() {
        0 => {}
        left_out => drop(kept.insert("...".into(), format!("{left_out} more fields").into())),
    }
    Some(Value::Object(kept).to_string())
}

fn told(fields: &Map<String, Value>, depth: usize) -> Map<String, Value> {
    let hidden = || Value::String("...".into());
    let one = |(name, value): (&String, &Value)| {
        let setting = control_api::settings::find(name).is_ok();
        let value = match value {
            Value::Object(fields) if depth == 0 => Value::Object(told(fields, 1)),
            Value::Array(texts) if TOLD.contains(&name.as_str()) => {
                let texts = texts.iter().take(FIELDS_MAX);
                Value::Array(texts.map(|text| text.as_str().map_or_else(hidden, cut)).collect())
            }
            Value::String(text) if setting || TOLD.contains(&name.as_str()) => cut(text),
            Value::Null | Value::Bool(_) | Value::Number(_) if setting || TOLD.contains(&name.as_str()) => {
                value.clone()
            }
            _ => hidden(),
        };
        (name.chars().take(SHOWN_CHARS).collect(), value)
    };
    fields.iter().take(FIELDS_MAX).map(one).collect()
}

fn cut(text: &str) -> Value {
    Value::String(text.chars().take(SHOWN_CHARS).collect())
}

fn made_project(body: &[u8]) -> Option<ProjectId> {
    let body: Value = serde_json::from_slice(body).ok()?;
    ProjectId::new(body.get("id")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is kept of a request is a hash, and a password in it could be tried against that.
    #[test]
    fn what_is_kept_of_a_request_nobody_can_compute_who_has_not_its_api_key() {
        let caller = |secret_hash| Caller {
            name: "ci".into(),
            scope: control_api::rest::Scope::Admin,
            project: None,
            hash: [1; 32],
            secret_hash,
        };
        let (parts, ()) = Request::post("/api/v1/projects").body(()).unwrap().into_parts();
        let body = Bytes::from_static(b"{}");
        let hash = |secret_hash| request_hash(&caller(secret_hash), &parts, &body);
        assert_eq!(hash([2; 32]), hash([2; 32]));
        assert_ne!(hash([2; 32]), hash([3; 32]));
    }

    #[test]
    fn log_tells_fields_and_no_secret() {
        let told = |body: Value| serde_json::from_str::<Value>(&summary(body.to_string().as_bytes()).unwrap()).unwrap();
        let body = json!({
            "id": "demo", "size_cu": 0.5, "pasword": "hunter2", "password": "hunter2", "list": ["hunter2"],
            "user": {"name": "app", "admin": true, "password": "hunter2", "deep": {"name": "hunter2"}},
        });
        let expected = json!({
            "id": "demo", "size_cu": 0.5, "pasword": "...", "password": "...", "list": "...",
            "user": {"name": "app", "admin": true, "password": "...", "deep": "..."},
        });
        assert_eq!(told(body), expected);
        assert_eq!(
            told(json!({"allowed_networks": ["10.0.0.0/8", {"password": "hunter2"}]})),
            json!({"allowed_networks": ["10.0.0.0/8", "..."]})
        );
        assert_eq!(
            told(json!({"sql_mode": "ANSI", "wait_timeout": null, "value": "x"})),
            json!({"sql_mode": "ANSI", "wait_timeout": null, "value": "..."})
        );
        let junk: Map<String, Value> = (0..60)
            .map(|n| (format!("{n:0>3}{}", "x".repeat(800)), json!("x")))
            .collect();
        let kept = summary(Value::Object(junk).to_string().as_bytes()).unwrap();
        assert!(kept.len() <= 4096, "{}", kept.len());
        assert!(kept.contains(" more fields"), "{kept}");
        assert_eq!(summary(b""), None);
        assert_eq!(summary(b"[1]"), None);
        assert!(
            summary(json!({"id": "x".repeat(9_999)}).to_string().as_bytes())
                .unwrap()
                .len()
                < 300
        );
    }
}
