//! Every error as REST tells it: RFC 9457, a status, a stable code, and a detail that says what is wrong and where. What
//! the store or the file system said goes to the log, not to the client.

use std::{fmt, time::Duration};

use axum::{
    Json, body,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::JsonRejection},
    http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use control_api::rest;
use serde::de::DeserializeOwned;

use super::BODY_BYTES_MAX;
use crate::{
    compute::WakeError,
    name::NameError,
    projects::ChangeError,
    secret::PasswordError,
    store::{Fault, StoreError},
};

/// For a body, once the head is there: the largest, over a line as slow as a modem's.
const BODY_PATIENCE: Duration = Duration::from_secs(15);

const CHANGED_MEANWHILE: &str = "changed_meanwhile";

/// What handlers fail with.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
        }
    }

    /// Whether reading again and trying again may help.
    pub(super) fn is_changed_meanwhile(&self) -> bool {
        self.code == CHANGED_MEANWHILE
    }

    pub(super) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            code,
            "the request cannot be understood",
            detail,
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = rest::Problem {
            kind: format!("urn:selkie:problem:{}", self.code),
            title: self.title.into(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.into(),
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(crate) fn internal(error: &dyn fmt::Display) -> Problem {
    tracing::error!(%error, "a REST request failed inside");
    let detail = "the control plane failed; its log says why";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error", detail)
}

pub(super) fn unauthorized() -> Problem {
    let detail = "send `Authorization: Bearer KEY` with an API key of this control plane";
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "the API key is missing, unknown or expired",
        detail,
    )
}

pub(super) fn no_such_route(uri: &Uri) -> Problem {
    let detail = format!("there is nothing at {}; /openapi.json lists what there is", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "route_not_found", "no such route", detail)
}

pub(super) fn method_not_allowed(method: &Method, uri: &Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "method not allowed",
        detail,
    )
}

pub(super) fn no_such(what: &'static str, name: &str) -> Problem {
    let (code, title) = match what {
        "user" => ("user_not_found", "no such user"),
        "database" => ("database_not_found", "no such database"),
        "operation" => ("operation_not_found", "no such operation"),
        "key" => ("key_not_found", "no such API key"),
        _ => ("project_not_found", "no such project"),
    };
    let name: String = name.chars().take(80).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        code,
        title,
        format!("there is no {what} {name:?}"),
    )
}

fn exists(what: &'static str) -> Problem {
    let code = match what {
        "user" => "user_exists",
        "database" => "database_exists",
        "key" => "key_exists",
        _ => "project_exists",
    };
    Problem::new(
        StatusCode::CONFLICT,
        code,
        "it exists already",
        format!("a {what} of this name exists already"),
    )
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::invalid("invalid_name", error.to_string())
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        Self::invalid("invalid_password", error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => {
                let mut problem = no_such(what, "");
                problem.detail = format!("there is no such {what}");
                problem
            }
            StoreError::Exists(what) => exists(what),
            StoreError::Changed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                CHANGED_MEANWHILE,
                "it has changed",
                error.to_string(),
            ),
            StoreError::TooLarge(_) => Self::new(
                StatusCode::CONFLICT,
                "project_too_large",
                "the project has no room for it",
                error.to_string(),
            ),
            StoreError::NoFreeUid => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "no_free_uid",
                "no room for a project",
                error.to_string(),
            ),
            StoreError::NotLeader => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_leader",
                "try again",
                error.to_string(),
            ),
            StoreError::Faulty { fault, .. } => {
                tracing::error!(%error, "a REST request failed for the state's sake");
                faulty(fault)
            }
            StoreError::Corrupt(_) | StoreError::Unusable { .. } | StoreError::Backend(_) => internal(&error),
        }
    }
}

/// What its caller may know of it.
pub(crate) fn faulty(fault: Fault) -> Problem {
    let (status, code, title, detail) = match fault {
        Fault::Full => (
            StatusCode::INSUFFICIENT_STORAGE,
            "state_full",
            "no space for the control plane's state",
            "it was not written down: there is no space left where the control plane keeps its state. It goes on by itself once there is",
        ),
        Fault::ReadOnly => (
            StatusCode::SERVICE_UNAVAILABLE,
            "state_read_only",
            "the control plane's state cannot be changed",
            "it was not written down: where the control plane keeps its state, nothing can be written now",
        ),
        Fault::Damaged => (
            StatusCode::SERVICE_UNAVAILABLE,
            "state_damaged",
            "the control plane's state is damaged",
            "the control plane cannot read its state; its log says more",
        ),
        Fault::Away => (
            StatusCode::SERVICE_UNAVAILABLE,
            "state_unavailable",
            "try again",
            "the control plane does not reach its state; try again",
        ),
    };
    Problem::new(status, code, title, detail)
}

impl From<WakeError> for Problem {
    fn from(error: WakeError) -> Self {
        let detail = error.to_string();
        match error {
            WakeError::NotFound => no_such("project", ""),
            WakeError::CannotStart(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "compute_failed",
                "the compute cannot start",
                detail,
            ),
            WakeError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again", detail),
            WakeError::Deadline => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "wake_timeout",
                "the compute was not ready in time",
                detail,
            ),
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let detail = error.to_string();
        let unavailable = |code, title| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail);
        match error {
            ChangeError::Store(error) => error.into(),
            ChangeError::Prepare(_) => unavailable("prepare_failed", "the project cannot be made"),
            ChangeError::Apply(_) => unavailable("not_applied", "kept, but not applied yet"),
            ChangeError::Suspend(_) => unavailable("suspend_failed", "the compute was not stopped"),
            ChangeError::Remove(_) => unavailable("remove_failed", "the project's data is not removed yet"),
        }
    }
}

/// A body that is a JSON object, or a problem that says where it is wrong. serde would take an array for a struct as well,
/// field by field.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state)
            .await
            .map_err(|rejection| refuse_body(&rejection.into()))?;
        let is_object = bytes.trim_ascii_start().starts_with(b"{");
        match Json::from_request(Request::from_parts(parts, bytes.into()), state).await {
            Ok(Json(body)) if is_object => Ok(Self(body)),
            Ok(_) => Err(Problem::invalid("invalid_body", "the body is no JSON object")),
            Err(rejection) => Err(refuse_body(&rejection)),
        }
    }
}

fn refuse_body(rejection: &JsonRejection) -> Problem {
    let title = "the body cannot be used";
    // The text names field, line and column.
    match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            let detail = "send the body with `Content-Type: application/json`";
            Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                title,
                detail,
            )
        }
        StatusCode::PAYLOAD_TOO_LARGE => body_too_large(),
        _ => Problem::invalid("invalid_body", rejection.body_text()),
    }
}

/// The body of a request, if it is not too large and comes in time.
pub(crate) async fn whole_body(body: body::Body) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_PATIENCE, body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(read) => read.map_err(|_| body_too_large()),
        Err(_elapsed) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "the body cannot be used",
            format!("the body was not there within {} s", BODY_PATIENCE.as_secs()),
        )),
    }
}

fn body_too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "the body cannot be used",
        "the body is longer than 64 KiB, or was cut short",
    )
}

/// A query string, or a problem.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(params)| Self(params))
            .map_err(|error| Problem::invalid("invalid_query", error.body_text()))
    }
}
