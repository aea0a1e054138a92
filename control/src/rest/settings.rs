//! `/projects/{id}/settings`: the server variables of a project. What may be set and to what is `control_api::settings`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use control_api::{
    rest::{self, ComputeState},
    settings::{self, Offer, SettingError, Value},
};

use super::{
    Problem, Rest,
    decide::decided,
    page::Page,
    problem::{Body, Params},
    projects::{access, find},
    tag::{self, Conditions},
};
use crate::{name::ProjectId, store::Access};

/// The template may be in the making, which takes seconds: a GET goes without what only that knows.
const OFFER_PATIENCE: Duration = Duration::from_millis(500);

/// The settings that there are, with what the project has. `ETag` is of all that is set.
#[utoipa::path(
    get, path = "/projects/{id}/settings", tag = "settings",
    params(("id" = String, Path, description = "The project."), Page),
    responses(
        (status = 200, body = rest::SettingList),
        (status = 304, description = "As `If-None-Match` says."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Params(page): Params<Page>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let (id, access) = access(&state, &id).await?;
    let known = Known::of(&state, &id).await;
    let (page, next) = page.of(settings::ALL, |setting| setting.name.to_owned());
    let settings = page.into_iter().map(|setting| known.show(setting, &access)).collect();
    conditions.answer(&rest::SettingList { settings, next }, &access.settings)
}

/// One setting.
#[utoipa::path(
    get, path = "/projects/{id}/settings/{name}", tag = "settings",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The setting.")),
    responses(
        (status = 200, body = rest::Setting),
        (status = 304, description = "As `If-None-Match` says."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 422, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let (id, access) = access(&state, &id).await?;
    let setting = settings::find(&name)?;
    let shown = Known::of(&state, &id).await.show(setting, &access);
    conditions.answer(&shown, &changeable(&access, setting))
}

/// Sets these and no others. A running compute takes at once what it can; sessions that have begun keep what they have.
#[utoipa::path(
    put, path = "/projects/{id}/settings", tag = "settings",
    params(("id" = String, Path, description = "The project.")), request_body = rest::ReplaceSettings,
    responses(
        (status = 200, body = rest::SettingList, description = "Those that are set now."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json"),
        (status = 422, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn replace(
    State(state): State<Rest>,
    Path(id): Path<String>,
    conditions: Conditions,
    Body(body): Body<rest::ReplaceSettings>,
) -> Result<Response, Problem> {
    let offer = state.projects.driver.offer().await.map_err(not_ready)?;
    let wanted = checked(body.0.into_iter().map(|(name, value)| (name, Some(value))), &offer)?;
    let changes = |access: &Access| {
        let unset = access.settings.keys().map(|name| (name.clone(), None));
        unset.chain(wanted.clone()).collect()
    };
    let (id, after) = change_settings(&state, &id, &offer, &conditions, changes, |access| {
        access.settings.clone()
    })
    .await?;
    those_set(&state, &id, &after).await
}

/// Sets these, or unsets those that are `null`.
#[utoipa::path(
    patch, path = "/projects/{id}/settings", tag = "settings",
    params(("id" = String, Path, description = "The project.")), request_body = rest::ChangeSettings,
    responses(
        (status = 200, body = rest::SettingList, description = "Those that are set now."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json"),
        (status = 422, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn change(
    State(state): State<Rest>,
    Path(id): Path<String>,
    conditions: Conditions,
    Body(body): Body<rest::ChangeSettings>,
) -> Result<Response, Problem> {
    let offer = state.projects.driver.offer().await.map_err(not_ready)?;
    let wanted = checked(body.0, &offer)?;
    let (id, after) = change_settings(
        &state,
        &id,
        &offer,
        &conditions,
        |_| wanted.clone(),
        |access| access.settings.clone(),
    )
    .await?;
    those_set(&state, &id, &after).await
}

/// Sets one.
#[utoipa::path(
    put, path = "/projects/{id}/settings/{name}", tag = "settings",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The setting.")),
    request_body = rest::SetSetting,
    responses(
        (status = 200, body = rest::Setting),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json"),
        (status = 422, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn set(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
    conditions: Conditions,
    Body(body): Body<rest::SetSetting>,
) -> Result<Response, Problem> {
    one(&state, &id, &name, Some(body.value), &conditions).await
}

/// Gives one its default again.
#[utoipa::path(
    delete, path = "/projects/{id}/settings/{name}", tag = "settings",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The setting.")),
    responses(
        (status = 200, body = rest::Setting),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json"),
        (status = 422, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn unset(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    one(&state, &id, &name, None, &conditions).await
}

async fn one(
    state: &Rest,
    id: &str,
    name: &str,
    value: Option<Value>,
    conditions: &Conditions,
) -> Result<Response, Problem> {
    find(state, id).await?;
    let setting = settings::find(name)?;
    let offer = state.projects.driver.offer().await.map_err(not_ready)?;
    let wanted = checked([(name.to_owned(), value)], &offer)?;
    let of_one = |access: &Access| changeable(access, setting);
    let (id, after) = change_settings(state, id, &offer, conditions, |_| wanted.clone(), of_one).await?;
    let shown = Known::of(state, &id).await.show(setting, &after);
    tag::changed(StatusCode::OK, &shown, &changeable(&after, setting))
}

type Changes = BTreeMap<String, Option<String>>;

/// Makes the changes that follow from what is set, where the whole of it can be: against what is set at that moment.
async fn change_settings<T: serde::Serialize>(
    state: &Rest,
    id: &str,
    offer: &Offer,
    conditions: &Conditions,
    changes: impl Fn(&Access) -> Changes,
    changeable: impl Fn(&Access) -> T,
) -> Result<(ProjectId, Access), Problem> {
    let changed = decided(
        state,
        || access(state, id),
        |(id, mut access)| {
            conditions.allow(&changeable(&access))?;
            let changes = changes(&access);
            for (name, value) in &changes {
                match value {
                    Some(value) => access.settings.insert(name.clone(), value.clone()),
                    None => access.settings.remove(name),
                };
            }
            settings::check_together(&access.settings, offer)?;
            let (projects, changed) = (state.projects.clone(), id.clone());
            let expected = Some(access.revision);
            let change = async move { projects.set_settings(&changed, &changes, expected).await };
            Ok((change, (id, access)))
        },
    );
    changed.await
}

/// Names as the server spells them, values as it reports them; the first that is wrong is told.
fn checked(wishes: impl IntoIterator<Item = (String, Option<Value>)>, offer: &Offer) -> Result<Changes, SettingError> {
    let one = |(name, value): (String, Option<Value>)| {
        let setting = settings::find(&name)?;
        let value = value.map(|value| setting.check(&value, offer)).transpose()?;
        Ok((setting.name.to_owned(), value))
    };
    wishes.into_iter().map(one).collect()
}

async fn those_set(state: &Rest, id: &ProjectId, access: &Access) -> Result<Response, Problem> {
    let known = Known::of(state, id).await;
    let set = settings::ALL
        .iter()
        .filter(|setting| access.settings.contains_key(setting.name));
    let list = rest::SettingList {
        settings: set.map(|setting| known.show(setting, access)).collect(),
        next: None,
    };
    tag::changed(StatusCode::OK, &list, &access.settings)
}

fn changeable(access: &Access, setting: &settings::Setting) -> Option<String> {
    access.settings.get(setting.name).cloned()
}

fn not_ready(error: crate::driver::DriverError) -> Problem {
    let detail = format!("settings cannot be checked yet: {error}");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not_ready",
        "computes cannot start yet",
        detail,
    )
}

/// What servers say.
struct Known {
    offer: Arc<Offer>,
    running: BTreeMap<String, String>,
}

impl Known {
    /// What cannot be learnt now is left out.
    async fn of(state: &Rest, id: &ProjectId) -> Self {
        let offer = tokio::time::timeout(OFFER_PATIENCE, state.projects.driver.offer()).await;
        let ready = state
            .publisher()
            .compute(id)
            .is_some_and(|compute| compute.state == ComputeState::Ready);
        let running = match ready {
            true => state.projects.driver.settings(id).await.unwrap_or_else(|error| {
                tracing::info!(project = %id, %error, "the running settings are not known");
                BTreeMap::new()
            }),
            false => BTreeMap::new(),
        };
        let offer = offer.ok().and_then(Result::ok).unwrap_or_default();
        Self { offer, running }
    }

    fn show(&self, setting: &settings::Setting, access: &Access) -> rest::Setting {
        let others: BTreeMap<_, _> = access
            .settings
            .iter()
            .filter(|(name, _)| *name != setting.name)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        rest::Setting {
            name: setting.name.into(),
            value: settings::resolved(setting.name, &access.settings, &self.offer),
            is_set: access.settings.contains_key(setting.name),
            default: settings::resolved(setting.name, &others, &self.offer),
            running: self.running.get(setting.name).cloned(),
            applies: setting.applies,
            takes: setting.takes(),
            description: setting.what.into(),
        }
    }
}

impl From<SettingError> for Problem {
    fn from(error: SettingError) -> Self {
        let (code, title) = match error {
            SettingError::NotAllowed { .. } => ("setting_not_allowed", "the setting is not a project's"),
            SettingError::Invalid { .. } => ("invalid_setting", "the setting does not take this value"),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, error.to_string())
    }
}
