//! Who may call, and for what. Keys are looked up by their hash, so neither the store nor a timing tells anything about
//! them. A key that sees one project is answered for any other as if that did not exist; what its scope does not allow is
//! refused whatever the path names, so a refusal tells nothing either.

use axum::{
    extract::{MatchedPath, RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use control_api::rest::Scope;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Problem, Rest,
    change::after,
    problem::{self, no_such},
};
use crate::{
    clock,
    name::ProjectId,
    secret::key_hash,
    store::{EpochMs, keys::KeyRecord},
};

/// A use is written down when the last one is older: enough to find keys that nobody needs, without a write per request.
const USED_EVERY_MS: EpochMs = 60 * 60 * 1000;

/// Whose request it is.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) scope: Scope,
    /// The only project that it sees.
    pub(super) project: Option<ProjectId>,
    pub(super) hash: [u8; 32],
    /// What nobody without the key can compute.
    pub(super) secret_hash: [u8; 32],
}

impl Caller {
    /// Whether it may know that the project exists.
    pub(super) fn sees(&self, id: &str) -> bool {
        self.project.as_ref().is_none_or(|project| project.as_str() == id)
    }
}

pub(super) async fn require_key(
    State(rest): State<Rest>,
    path: MatchedPath,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let key = bearer(request.headers()).ok_or_else(problem::unauthorized)?;
    let (hash, now) = (key_hash(key), clock::now());
    let secret_hash = Sha256::new()
        .chain_update(b"selkie request\0")
        .chain_update(key)
        .finalize();
    let found = rest.projects.store.key(hash).await?;
    let record = found.filter(|record| record.expires.is_none_or(|expires| now < expires));
    let record = record.ok_or_else(problem::unauthorized)?;
    note_use(&rest, &record, hash, now).await;
    let caller = Caller {
        name: record.name,
        scope: record.scope,
        project: record.project,
        hash,
        secret_hash: secret_hash.into(),
    };
    // Also what is refused takes its time.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(project) = &caller.project
        && let Err(seconds) = rest.pace.ask(project, !reads, Instant::now())
    {
        let detail =
            "API keys of one project make 5 changes and 50 other requests a second, after 100 or 1,000 at once";
        let status = StatusCode::TOO_MANY_REQUESTS;
        return Ok(after(
            Problem::new(status, "too_many_requests", "too many requests", detail),
            seconds,
        ));
    }
    allow(caller.scope, request.method(), path.as_str())?;
    let parameters = parameters.map_err(|_| {
        Problem::invalid(
            "invalid_path",
            "a name in the path is no UTF-8 behind its percent signs",
        )
    })?;
    if path.as_str().starts_with("/api/v1/projects/{id}")
        && let Some((_, id)) = parameters.iter().find(|(name, _)| *name == "id")
        && !caller.sees(id)
    {
        return Err(no_such("project", id));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

async fn note_use(rest: &Rest, record: &KeyRecord, hash: [u8; 32], now: EpochMs) {
    if record.last_used.is_some_and(|last| now - last < USED_EVERY_MS) {
        return;
    }
    if let Err(error) = rest.projects.store.key_used(hash, now).await {
        tracing::warn!(key = record.name, %error, "the use of an API key is not written down");
    }
}

/// By the route's pattern: never by what exists.
fn allow(scope: Scope, method: &Method, path: &str) -> Result<(), Problem> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let of_admins = path.starts_with("/api/v1/keys")
        || path == "/api/v1/audit"
        || (path == "/api/v1/projects" && !reads)
        || (path == "/api/v1/projects/{id}" && *method == Method::DELETE);
    match scope {
        Scope::Admin => Ok(()),
        _ if of_admins => Err(forbidden("needs an API key with scope `admin`")),
        Scope::ReadOnly if !reads => Err(forbidden("needs an API key that is not `read-only`")),
        Scope::Project | Scope::ReadOnly => Ok(()),
    }
}

fn forbidden(detail: &'static str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "the API key's scope does not allow this",
        format!("this {detail}"),
    )
}

/// The scheme's name is written in any case (RFC 9110).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn what_each_scope_may_do() {
        let mut table = String::new();
        for (method, path) in [
            (Method::GET, "/api/v1/projects"),
            (Method::POST, "/api/v1/projects"),
            (Method::GET, "/api/v1/projects/{id}"),
            (Method::PATCH, "/api/v1/projects/{id}"),
            (Method::DELETE, "/api/v1/projects/{id}"),
            (Method::POST, "/api/v1/projects/{id}/users"),
            (Method::DELETE, "/api/v1/projects/{id}/users/{name}"),
            (Method::POST, "/api/v1/projects/{id}/compute/wake"),
            (Method::GET, "/api/v1/projects/{id}/audit"),
            (Method::GET, "/api/v1/operations/{id}"),
            (Method::GET, "/api/v1/audit"),
            (Method::GET, "/api/v1/keys"),
            (Method::DELETE, "/api/v1/keys/{name}"),
        ] {
            let allowed = Scope::ALL
                .into_iter()
                .filter(|scope| allow(*scope, &method, path).is_ok());
            let words: Vec<_> = allowed.map(Scope::as_str).collect();
            writeln!(table, "{method} {path}: {}", words.join(", ")).unwrap();
        }
        insta::assert_snapshot!(table, @r"
        GET /api/v1/projects: admin, project, read-only
        POST /api/v1/projects: admin
        GET /api/v1/projects/{id}: admin, project, read-only
        PATCH /api/v1/projects/{id}: admin, project
        DELETE /api/v1/projects/{id}: admin
        POST /api/v1/projects/{id}/users: admin, project
        DELETE /api/v1/projects/{id}/users/{name}: admin, project
        POST /api/v1/projects/{id}/compute/wake: admin, project
        GET /api/v1/projects/{id}/audit: admin, project, read-only
        GET /api/v1/operations/{id}: admin, project, read-only
        GET /api/v1/audit: admin
        GET /api/v1/keys: admin
        DELETE /api/v1/keys/{name}: admin
        ");
    }
}
