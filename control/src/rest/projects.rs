//! `/projects` and `/projects/{id}`.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use control_api::rest;

use super::{
    Problem, Rest,
    auth::Caller,
    change, compute, databases,
    decide::decided,
    options,
    page::Page,
    problem::{self, Body, Params, no_such},
    tag::{self, Conditions},
    users,
};
use crate::{
    clock,
    config::SIZE_CU,
    name::{DatabaseName, ProjectId},
    store::{Access, NewProject, ProjectRecord, StoreError, WholeProject},
};

/// Wake timeouts outside of this are mistakes: shorter than any start, longer than any client waits.
const WAKE_TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// Makes a project, with a first user and database where they are named. Takes under a second.
#[utoipa::path(
    post, path = "/projects", tag = "projects", request_body = rest::CreateProject,
    responses(
        (status = 201, body = rest::ProjectCreated),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 409, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    State(state): State<Rest>,
    Body(body): Body<rest::CreateProject>,
) -> Result<Response, Problem> {
    let rest::CreateProject {
        id,
        size_cu,
        wake_timeout,
        allowed_networks,
        user,
        database,
    } = body;
    let user = user.map(users::check).transpose()?;
    let new = NewProject {
        id: ProjectId::new(&id)?,
        size_cu: check_size(size_cu.unwrap_or(state.default_size_cu))?,
        wake_timeout_ms: wake_timeout.as_deref().map(check_wake_timeout).transpose()?,
        allowed_networks: options::checked_networks(allowed_networks)?,
        uids: state.uids,
        user: user.as_ref().map(|checked| checked.user.clone()),
        database: database.as_deref().map(DatabaseName::new).transpose()?,
        now: clock::now(),
    };
    let projects = state.projects.clone();
    let whole = state.finish(async move { projects.create(new).await }).await?;
    let first_user = whole.access.users.first().zip(user);
    let created = rest::ProjectCreated {
        project: project(&state, &whole.record),
        user: first_user.map(|(record, checked)| checked.created(record)),
        database: whole.access.databases.first().map(databases::made_here),
    };
    let response = tag::changed(StatusCode::CREATED, &created, &changeable(&created.project)?)?;
    let user = created.user.clone().map(users::without_password);
    change::replayed_as(response, &rest::ProjectCreated { user, ..created })
}

/// Projects in the order of their ids; with a key of one project, that one.
#[utoipa::path(
    get, path = "/projects", tag = "projects", params(Page),
    responses((status = 200, body = rest::ProjectList))
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Extension(caller): Extension<Caller>,
    Params(page): Params<Page>,
) -> Result<Json<rest::ProjectList>, Problem> {
    let (records, next) = match &caller.project {
        Some(id) => {
            let one = match state.projects.store.project(id).await {
                Err(StoreError::NotFound(_)) => None,
                found => Some(found?),
            };
            page.of(one, |record| record.id.to_string())
        }
        None => {
            let read = state
                .projects
                .store
                .projects(page.after.as_deref(), page.reads())
                .await?;
            page.cut(read, |record| record.id.to_string())
        }
    };
    Ok(Json(rest::ProjectList {
        projects: records.iter().map(|record| project(&state, record)).collect(),
        next,
    }))
}

/// One project.
#[utoipa::path(
    get, path = "/projects/{id}", tag = "projects", params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 200, body = rest::Project),
        (status = 304, description = "As `If-None-Match` says."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<Rest>,
    Path(id): Path<String>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let shown = project(&state, &find(&state, &id).await?);
    conditions.answer(&shown, &changeable(&shown)?)
}

/// Stops the project's compute and removes all of its data. There is no way back.
#[utoipa::path(
    delete, path = "/projects/{id}", tag = "projects", params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn delete(
    State(state): State<Rest>,
    Path(id): Path<String>,
    conditions: Conditions,
) -> Result<StatusCode, Problem> {
    let deleted = decided(
        &state,
        || find(&state, &id),
        |read| {
            conditions.allow(&changeable(&project(&state, &read))?)?;
            let projects = state.projects.clone();
            Ok((async move { projects.delete(&read).await }, ()))
        },
    );
    deleted.await.map(|()| StatusCode::NO_CONTENT)
}

/// The project of a path. What cannot be a project's id is answered like one that is not there.
pub(super) async fn find(state: &Rest, id: &str) -> Result<ProjectRecord, Problem> {
    let checked = ProjectId::new(id).map_err(|_| no_such("project", id))?;
    match state.projects.store.project(&checked).await {
        Err(StoreError::NotFound(_)) => Err(no_such("project", id)),
        found => Ok(found?),
    }
}

/// The access of a path's project.
pub(super) async fn access(state: &Rest, id: &str) -> Result<(ProjectId, Access), Problem> {
    let checked = ProjectId::new(id).map_err(|_| no_such("project", id))?;
    match state.projects.store.access(&checked).await {
        Err(StoreError::NotFound(_)) => Err(no_such("project", id)),
        found => Ok((checked, found?)),
    }
}

/// A path's project with its access and what its server has been seen with.
pub(super) async fn whole(state: &Rest, id: &str) -> Result<WholeProject, Problem> {
    let checked = ProjectId::new(id).map_err(|_| no_such("project", id))?;
    match state.projects.store.whole_project(&checked).await {
        Err(StoreError::NotFound(_)) => Err(no_such("project", id)),
        found => Ok(found?),
    }
}

/// The project without its compute, which changes by itself.
pub(super) fn changeable(project: &rest::Project) -> Result<serde_json::Value, Problem> {
    let mut value = serde_json::to_value(project).map_err(|error| problem::internal(&error))?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("compute");
    }
    Ok(value)
}

pub(super) fn project(state: &Rest, record: &ProjectRecord) -> rest::Project {
    let (suspend_after, pinned_idle_timeout) = options::told(record.sleep);
    rest::Project {
        id: record.id.to_string(),
        size_cu: record.size_cu,
        wake_timeout: record
            .wake_timeout_ms
            .map(|ms| humantime::format_duration(Duration::from_millis(ms.into())).to_string()),
        suspend_after,
        pinned_idle_timeout,
        allowed_networks: (!record.allowed_networks.is_empty()).then(|| record.allowed_networks.texts()),
        created_at: clock::rfc3339(record.created),
        compute: compute::compute(state, record),
    }
}

pub(super) fn check_size(size_cu: f64) -> Result<f64, Problem> {
    if SIZE_CU.contains(&size_cu) {
        return Ok(size_cu);
    }
    Err(Problem::invalid(
        "invalid_size",
        format!("size_cu = {size_cu}: must be between 0.05 and 256"),
    ))
}

pub(super) fn check_wake_timeout(text: &str) -> Result<u32, Problem> {
    let refuse = |why: &str| Problem::invalid("invalid_duration", format!("wake_timeout = {text:?}: {why}"));
    let duration = humantime::parse_duration(text).map_err(|_| refuse("must be a duration such as \"30s\""))?;
    if !WAKE_TIMEOUT.contains(&duration) {
        return Err(refuse("must be between 1s and 10m"));
    }
    u32::try_from(duration.as_millis()).map_err(|_| refuse("is too long"))
}
