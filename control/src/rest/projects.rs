//! `/projects` and `/projects/{id}`.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use control_api::rest;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Problem, Rest, compute, databases,
    problem::{Body, Params, no_such},
    sleep, users,
};
use crate::{
    clock,
    config::SIZE_CU,
    name::{DatabaseName, ProjectId},
    store::{NewProject, ProjectRecord},
};

/// A project's page of 100 fits a screenful of a script; 1,000 is a body of a few hundred KiB.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

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
) -> Result<(StatusCode, Json<rest::ProjectCreated>), Problem> {
    let rest::CreateProject {
        id,
        size_cu,
        wake_timeout,
        user,
        database,
    } = body;
    let user = user.map(users::check).transpose()?;
    let new = NewProject {
        id: ProjectId::new(&id)?,
        size_cu: check_size(size_cu.unwrap_or(state.default_size_cu))?,
        wake_timeout_ms: wake_timeout.as_deref().map(check_wake_timeout).transpose()?,
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
    Ok((StatusCode::CREATED, Json(created)))
}

/// The page to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// The last id of the page before.
    pub(super) after: Option<String>,
    /// How many at most; 100 where absent, up to 1,000.
    limit: Option<u32>,
}

impl Page {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }

    /// How many to read: one more than the page, to see whether there is a next.
    pub(super) fn reads(&self) -> u32 {
        self.limit() + 1
    }

    /// This page of what was read, and what the next comes after.
    pub(super) fn cut<T>(&self, mut read: Vec<T>, name: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let more = read.len() > self.limit() as usize;
        read.truncate(self.limit() as usize);
        let next = read.last().filter(|_| more).map(name);
        (read, next)
    }
}

/// Projects in the order of their ids.
#[utoipa::path(
    get, path = "/projects", tag = "projects", params(Page),
    responses((status = 200, body = rest::ProjectList))
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Params(page): Params<Page>,
) -> Result<Json<rest::ProjectList>, Problem> {
    let read = state
        .projects
        .store
        .projects(page.after.as_deref(), page.reads())
        .await?;
    let (records, next) = page.cut(read, |record| record.id.to_string());
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
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(State(state): State<Rest>, Path(id): Path<String>) -> Result<Json<rest::Project>, Problem> {
    let record = find(&state, &id).await?;
    Ok(Json(project(&state, &record)))
}

/// Stops the project's compute and removes all of its data. There is no way back.
#[utoipa::path(
    delete, path = "/projects/{id}", tag = "projects", params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn delete(State(state): State<Rest>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let id = find(&state, &id).await?.id;
    let projects = state.projects.clone();
    state.finish(async move { projects.delete(&id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The project of a path. What cannot be a project's id is answered like one that is not there.
pub(super) async fn find(state: &Rest, id: &str) -> Result<ProjectRecord, Problem> {
    use crate::store::StoreError;
    let checked = ProjectId::new(id).map_err(|_| no_such("project", id))?;
    match state.projects.store.project(&checked).await {
        Err(StoreError::NotFound(_)) => Err(no_such("project", id)),
        found => Ok(found?),
    }
}

pub(super) fn project(state: &Rest, record: &ProjectRecord) -> rest::Project {
    let (suspend_after, pinned_idle_timeout) = sleep::told(record.sleep);
    rest::Project {
        id: record.id.to_string(),
        size_cu: record.size_cu,
        wake_timeout: record
            .wake_timeout_ms
            .map(|ms| humantime::format_duration(Duration::from_millis(ms.into())).to_string()),
        suspend_after,
        pinned_idle_timeout,
        created_at: clock::rfc3339(record.created),
        compute: compute::compute(state, record),
    }
}

fn check_size(size_cu: f64) -> Result<f64, Problem> {
    if SIZE_CU.contains(&size_cu) {
        return Ok(size_cu);
    }
    Err(Problem::invalid(
        "invalid_size",
        format!("size_cu = {size_cu}: must be between 0.05 and 256"),
    ))
}

fn check_wake_timeout(text: &str) -> Result<u32, Problem> {
    let refuse = |why: &str| Problem::invalid("invalid_duration", format!("wake_timeout = {text:?}: {why}"));
    let duration = humantime::parse_duration(text).map_err(|_| refuse("must be a duration such as \"30s\""))?;
    if !WAKE_TIMEOUT.contains(&duration) {
        return Err(refuse("must be between 1s and 10m"));
    }
    u32::try_from(duration.as_millis()).map_err(|_| refuse("is too long"))
}
