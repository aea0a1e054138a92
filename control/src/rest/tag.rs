//! Entity tags: `GET` answers with one, `If-None-Match` saves reading the same again, `If-Match` on a change makes it hold
//! only for what the caller has read. A tag has two halves: the first is of what REST can change of the thing and is what
//! `If-Match` compares, the second is of the whole answer. So a compute that wakes does not spoil a change of its project.

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Problem, problem};
use crate::secret::hex;

/// Of each half: 64 bits tell apart what one thing ever was.
const HALF_BYTES: usize = 8;
/// A list of tags longer than this names no tag of ours.
const HEADER_BYTES_MAX: usize = 4096;

/// What the caller says of the thing that it knows.
pub(super) struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self {
            if_match: tags(&parts.headers, &header::IF_MATCH)?,
            if_none_match: tags(&parts.headers, &header::IF_NONE_MATCH)?,
        })
    }
}

fn tags(headers: &HeaderMap, name: &header::HeaderName) -> Result<Option<String>, Problem> {
    let refuse = || {
        Problem::invalid(
            "invalid_header",
            format!("{name} must be one or more entity tags, or *"),
        )
    };
    let values: Result<Vec<_>, _> = headers.get_all(name).iter().map(HeaderValue::to_str).collect();
    let text = values.map_err(|_| refuse())?.join(",");
    match text.len() {
        0 => Ok(None),
        1..=HEADER_BYTES_MAX => Ok(Some(text)),
        _ => Err(refuse()),
    }
}

impl Conditions {
    /// Whether a change holds for what the caller has read of `changeable`.
    pub(super) fn allow(&self, changeable: &impl Serialize) -> Result<(), Problem> {
        let Some(wanted) = &self.if_match else { return Ok(()) };
        let now = half(changeable)?;
        // Weak tags never match here (RFC 9110, 13.1.1).
        let fits = |tag: &str| {
            tag == "*"
                || tag
                    .strip_prefix('"')
                    .is_some_and(|tag| tag.split('-').next() == Some(&now))
        };
        if wanted.split(',').any(|tag| fits(tag.trim())) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition_failed",
            "it has changed",
            "it is not any more what `If-Match` says; GET it again and decide anew",
        ))
    }

    /// `body` with its tag, or 304 where the caller has it already.
    pub(super) fn answer(&self, body: &impl Serialize, changeable: &impl Serialize) -> Result<Response, Problem> {
        let tag = tag(body, changeable)?;
        let known = self.if_none_match.as_deref().unwrap_or_default().split(',');
        let mut known = known.map(|known| known.trim().trim_start_matches("W/"));
        if known.any(|known| known == "*" || known == tag) {
            return tagged(StatusCode::NOT_MODIFIED.into_response(), &tag);
        }
        tagged(Json(body).into_response(), &tag)
    }
}

/// The answer to a change, with the tag of what it led to.
pub(super) fn changed(
    status: StatusCode,
    body: &impl Serialize,
    changeable: &impl Serialize,
) -> Result<Response, Problem> {
    tagged((status, Json(body)).into_response(), &tag(body, changeable)?)
}

fn tag(body: &impl Serialize, changeable: &impl Serialize) -> Result<String, Problem> {
    Ok(format!("\"{}-{}\"", half(changeable)?, half(body)?))
}

fn tagged(mut response: Response, tag: &str) -> Result<Response, Problem> {
    let value = HeaderValue::from_str(tag).map_err(|error| problem::internal(&error))?;
    response.headers_mut().insert(header::ETAG, value);
    Ok(response)
}

fn half(value: &impl Serialize) -> Result<String, Problem> {
    let text = serde_json::to_vec(value).map_err(|error| problem::internal(&error))?;
    Ok(hex(&Sha256::digest(text)[..HALF_BYTES]))
}
