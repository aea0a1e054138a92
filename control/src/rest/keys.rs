//! `/keys`: who may use this API. A key is told once, when it is made.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use control_api::rest::{self, Scope};

use super::{
    Problem, Rest,
    auth::Caller,
    change,
    decide::decided,
    page::Page,
    problem::{Body, Params, no_such},
    tag::{self, Conditions},
};
use crate::{
    clock,
    name::ProjectId,
    secret::{key_hash, random_token},
    store::{EpochMs, StoreError, keys::KeyRecord},
};

const NAME_BYTES_MAX: usize = 64;
/// Shorter is a mistake, longer is never.
const LIFE: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Makes an API key. The answer is the only one that has it.
#[utoipa::path(
    post, path = "/keys", tag = "keys", request_body = rest::CreateKey,
    responses(
        (status = 201, body = rest::KeyCreated),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 409, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(State(state): State<Rest>, Body(body): Body<rest::CreateKey>) -> Result<Response, Problem> {
    let now = clock::now();
    let record = KeyRecord {
        project: check_project(body.scope, body.project.as_deref())?,
        name: check_name(body.name)?,
        scope: body.scope,
        created: now,
        expires: body
            .expires_in
            .as_deref()
            .map(|text| check_life(text, now))
            .transpose()?,
        last_used: None,
    };
    let token = random_token("key");
    state.projects.store.add_key(&record, key_hash(&token)).await?;
    tracing::info!(key = record.name, scope = record.scope.as_str(), "API key made");
    let created = |key| rest::KeyCreated {
        about: key_of(&record),
        key,
    };
    let response = tag::changed(StatusCode::CREATED, &created(Some(token)), &key_of(&record))?;
    change::replayed_as(response, &created(None))
}

/// The keys, in the order of their names.
#[utoipa::path(
    get, path = "/keys", tag = "keys", params(Page),
    responses((status = 200, body = rest::KeyList))
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Params(page): Params<Page>,
) -> Result<Json<rest::KeyList>, Problem> {
    let read = state.projects.store.keys(page.after.as_deref(), page.reads()).await?;
    let (keys, next) = page.cut(read, |key| key.name.clone());
    let keys = keys.iter().map(key_of).collect();
    Ok(Json(rest::KeyList { keys, next }))
}

/// One key, without its secret.
#[utoipa::path(
    get, path = "/keys/{name}", tag = "keys", params(("name" = String, Path, description = "The key's name.")),
    responses(
        (status = 200, body = rest::Key),
        (status = 304, description = "As `If-None-Match` says."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<Rest>,
    Path(name): Path<String>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let key = find(&state, &name).await?;
    conditions.answer(&key_of(&key), &changeable(&key))
}

/// Sets until when a key is accepted.
#[utoipa::path(
    patch, path = "/keys/{name}", tag = "keys", params(("name" = String, Path, description = "The key's name.")),
    request_body = rest::ChangeKey,
    responses(
        (status = 200, body = rest::Key),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn change(
    State(state): State<Rest>,
    Path(name): Path<String>,
    conditions: Conditions,
    Body(body): Body<rest::ChangeKey>,
) -> Result<Response, Problem> {
    let now = clock::now();
    let life = body.expires_in.as_deref().map(|text| check_life(text, now));
    let expires = life.transpose()?;
    let changed = decided(
        &state,
        || find(&state, &name),
        |read| {
            conditions.allow(&changeable(&read))?;
            let changed = KeyRecord {
                expires,
                ..read.clone()
            };
            let store = state.projects.store.clone();
            Ok((async move { store.set_key_expiry(&read, expires).await }, changed))
        },
    );
    let key = changed.await?;
    tag::changed(StatusCode::OK, &key_of(&key), &changeable(&key))
}

/// Ends a key at once. The one that asks cannot end itself, so that somebody always can.
#[utoipa::path(
    delete, path = "/keys/{name}", tag = "keys", params(("name" = String, Path, description = "The key's name.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 409, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn delete(
    State(state): State<Rest>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    conditions: Conditions,
) -> Result<StatusCode, Problem> {
    let deleted = decided(
        &state,
        || find(&state, &name),
        |read| {
            conditions.allow(&changeable(&read))?;
            if caller.name == read.name {
                let detail = "this key is the one that you use; delete it with another";
                return Err(Problem::new(
                    StatusCode::CONFLICT,
                    "key_in_use",
                    "the key is in use",
                    detail,
                ));
            }
            let store = state.projects.store.clone();
            Ok((async move { store.remove_key(&read).await }, ()))
        },
    );
    deleted.await?;
    tracing::info!(key = name, "API key deleted");
    Ok(StatusCode::NO_CONTENT)
}

async fn find(state: &Rest, name: &str) -> Result<KeyRecord, Problem> {
    match state.projects.store.key_named(name).await {
        Err(StoreError::NotFound(_)) => Err(no_such("key", name)),
        found => Ok(found?),
    }
}

fn key_of(record: &KeyRecord) -> rest::Key {
    rest::Key {
        name: record.name.clone(),
        scope: record.scope,
        project: record.project.as_ref().map(ToString::to_string),
        created_at: clock::rfc3339(record.created),
        expires_at: record.expires.map(clock::rfc3339),
        last_used_at: record.last_used.map(clock::rfc3339),
    }
}

/// Its being used is no change.
fn changeable(record: &KeyRecord) -> rest::Key {
    rest::Key {
        last_used_at: None,
        ..key_of(record)
    }
}

fn check_name(name: String) -> Result<String, Problem> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest_fits = name.bytes().all(|byte| fits(byte) || b"-_.".contains(&byte));
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().next().is_some_and(fits) && rest_fits {
        return Ok(name);
    }
    let shown: String = name.chars().take(80).collect();
    let detail =
        format!("key name {shown:?} must be 1 to 64 of a-z, 0-9, -, _ and ., and begin with a letter or digit");
    Err(Problem::invalid("invalid_name", detail))
}

fn check_project(scope: Scope, project: Option<&str>) -> Result<Option<ProjectId>, Problem> {
    let refuse = |detail: &str| Problem::invalid("invalid_scope", detail);
    match (scope, project) {
        (Scope::Admin, Some(_)) => Err(refuse("scope `admin` is of all projects: leave `project` out")),
        (Scope::Project, None) => Err(refuse("scope `project` needs `project`")),
        (_, None) => Ok(None),
        (_, Some(id)) => Ok(Some(ProjectId::new(id)?)),
    }
}

fn check_life(text: &str, now: EpochMs) -> Result<EpochMs, Problem> {
    let refuse = |why: &str| Problem::invalid("invalid_duration", format!("expires_in = {text:?}: {why}"));
    let life = humantime::parse_duration(text).map_err(|_| refuse("must be a duration such as \"90d\""))?;
    if !LIFE.contains(&life) {
        return Err(refuse("must be between 1m and 10 years"));
    }
    let life = EpochMs::try_from(life.as_millis()).map_err(|_| refuse("is too long"))?;
    Ok(now.saturating_add(life))
}
