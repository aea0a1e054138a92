//! What may be changed of a project: its size, how long its clients wait, when it falls asleep, and where they may come from.

use std::time::Duration;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use control_api::{networks::Networks, rest};

use super::{
    Problem, Rest,
    decide::decided,
    problem::Body,
    projects::{changeable, check_size, check_wake_timeout, find, project},
    tag::{self, Conditions},
};
use crate::store::{Options, Sleep, SuspendAfter};

/// Every login looks through them; whoever needs more has a proxy for that.
const NETWORKS_MAX: usize = 256;
/// Shorter, a compute would sleep between two commands of one program; longer, "never" is meant.
const IDLE: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(7 * 86_400);

/// Changes the project's size, how long a wake may take, when it falls asleep and where its clients may come from. What is
/// not in the body stays as it is; null goes back to the default. Another size is that of the compute's next start, as
/// `compute.size_cu` shows it; the rest counts at once.
#[utoipa::path(
    patch, path = "/projects/{id}", tag = "projects", request_body = rest::ChangeProject,
    params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 200, body = rest::Project),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn change(
    State(state): State<Rest>,
    Path(id): Path<String>,
    conditions: Conditions,
    Body(body): Body<rest::ChangeProject>,
) -> Result<Response, Problem> {
    let rest::ChangeProject {
        size_cu,
        wake_timeout,
        suspend_after,
        pinned_idle_timeout,
        allowed_networks,
    } = body;
    let size_cu = size_cu
        .map(|wanted| check_size(wanted.unwrap_or(state.default_size_cu)))
        .transpose()?;
    let wake_timeout = wake_timeout
        .map(|wanted| wanted.as_deref().map(check_wake_timeout).transpose())
        .transpose()?;
    let suspend_after = suspend_after
        .map(|wanted| wanted.as_deref().map(check_suspend_after).transpose())
        .transpose()?;
    let pinned_idle_timeout = pinned_idle_timeout
        .map(|wanted| wanted.as_deref().map(check_pinned_idle_timeout).transpose())
        .transpose()?;
    let allowed_networks = allowed_networks.map(checked_networks).transpose()?;
    let changed = decided(
        &state,
        || find(&state, &id),
        |read| {
            conditions.allow(&changeable(&project(&state, &read))?)?;
            let now = read.options();
            let options = Options {
                size_cu: size_cu.unwrap_or(now.size_cu),
                wake_timeout_ms: wake_timeout.unwrap_or(now.wake_timeout_ms),
                sleep: Sleep {
                    suspend_after: suspend_after.unwrap_or(now.sleep.suspend_after),
                    pinned_idle_timeout_ms: pinned_idle_timeout.unwrap_or(now.sleep.pinned_idle_timeout_ms),
                },
                allowed_networks: allowed_networks.clone().unwrap_or(now.allowed_networks),
            };
            let changed = read.clone().with_options(options.clone());
            let projects = state.projects.clone();
            let set = async move { projects.set_options(&read, &options).await };
            Ok((set, changed))
        },
    );
    let changed = project(&state, &changed.await?);
    tag::changed(StatusCode::OK, &changed, &changeable(&changed)?)
}

/// `suspend_after` and `pinned_idle_timeout` as the project has them.
pub(super) fn told(sleep: Sleep) -> (Option<String>, Option<String>) {
    let text = |time: Duration| humantime::format_duration(time).to_string();
    let suspend_after = sleep.suspend_after.map(|after| match after {
        SuspendAfter::Never => "never".to_owned(),
        SuspendAfter::Idle(time) => text(time),
    });
    let pinned = sleep.pinned_idle_timeout_ms;
    (suspend_after, pinned.map(|ms| text(Duration::from_millis(ms.into()))))
}

/// Where clients may come from; from anywhere where nothing is said.
pub(super) fn checked_networks(wanted: Option<Vec<String>>) -> Result<Networks, Problem> {
    wanted.map_or_else(|| Ok(Networks::default()), |texts| check_networks(&texts))
}

/// An empty list could be meant for nobody as well as for everybody.
fn check_networks(texts: &[String]) -> Result<Networks, Problem> {
    let refuse = |why: String| Problem::invalid("invalid_network", format!("allowed_networks: {why}"));
    match texts.len() {
        0 => Err(refuse(
            "an empty list would let nobody in; null lets in from anywhere".into(),
        )),
        1..=NETWORKS_MAX => Networks::parse(texts).map_err(|error| refuse(error.to_string())),
        many => Err(refuse(format!("{many} networks; at most {NETWORKS_MAX}"))),
    }
}

fn check_suspend_after(text: &str) -> Result<SuspendAfter, Problem> {
    if text == "never" {
        return Ok(SuspendAfter::Never);
    }
    check_idle("suspend_after", text, ", or \"never\"").map(SuspendAfter::Idle)
}

fn check_pinned_idle_timeout(text: &str) -> Result<u32, Problem> {
    let time = check_idle("pinned_idle_timeout", text, "")?;
    Ok(u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
}

fn check_idle(field: &str, text: &str, otherwise: &str) -> Result<Duration, Problem> {
    let refuse = |why: &str| Problem::invalid("invalid_duration", format!("{field} = {text:?}: {why}{otherwise}"));
    let time = humantime::parse_duration(text).map_err(|_| refuse("must be a duration such as \"30s\""))?;
    if IDLE.contains(&time) {
        Ok(time)
    } else {
        Err(refuse("must be between 10s and 7d"))
    }
}
