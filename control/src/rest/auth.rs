//! Who may call: anyone with an API key that is in the store. Keys are looked up by their hash, so neither the store nor
//! a timing tells anything about them.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};

use super::{Problem, Rest, problem};
use crate::secret::key_hash;

pub(super) async fn require_key(State(rest): State<Rest>, request: Request, next: Next) -> Result<Response, Problem> {
    let key = bearer(request.headers()).ok_or_else(problem::unauthorized)?;
    match rest.projects.store.key_name(key_hash(key)).await? {
        Some(_) => Ok(next.run(request).await),
        None => Err(problem::unauthorized()),
    }
}

/// The scheme's name is written in any case (RFC 9110).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
