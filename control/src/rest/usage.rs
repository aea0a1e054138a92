//! `/projects/{id}/usage`.

use std::{ops::Range, time::SystemTime};

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use control_api::rest::{self, Granularity, UsagePeriod};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Problem, Rest,
    auth::Caller,
    problem::{Params, no_such},
};
use crate::{
    clock,
    name::ProjectId,
    store::{
        EpochMs, StoreError,
        usage::{Billed, HOUR_MS},
    },
    usage::Used,
};

const DAY_MS: i64 = 24 * HOUR_MS;
/// Rows of one answer: 31 days by the hour, more than a year by the day.
const PERIODS_MAX: i64 = 800;

/// Which time, and in what pieces.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// RFC 3339, or a day such as 2026-11-25; goes back to the beginning of its hour. A day before `to` where absent.
    from: Option<String>,
    /// As `from`; goes on to the end of its hour. Now where absent.
    to: Option<String>,
    /// `hour`, `day` or `total`; `hour` where absent.
    #[serde(default)]
    granularity: Granularity,
    /// `json` or `csv`; where absent, as the header `Accept` says.
    #[serde(default)]
    format: Option<Format>,
    /// `created_at` of the project, where several had the name. Where absent, the one that there is, else the last one.
    created_at: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Json,
    Csv,
}

/// What a project used: what its clients did, and how long its compute ran. Up to five seconds ago; also of a project that is
/// gone, for a key that is not of one project only.
#[utoipa::path(
    get, path = "/projects/{id}/usage", tag = "usage",
    params(("id" = String, Path, description = "The project."), Wish),
    responses(
        (status = 200, content((rest::Usage = "application/json"), (String = "text/csv"))),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<Rest>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Params(wish): Params<Wish>,
) -> Result<Response, Problem> {
    let time = time(&wish, clock::now())?;
    let project = billed(&state, &caller, &id, wish.created_at.as_deref()).await?;
    let periods = periods(&time, wish.granularity)?;
    let hours = state.projects.usage.read(&project, time).await?;
    let periods = periods.into_iter().map(|time| {
        let mut sum = Used::default();
        hours.range(time.clone()).for_each(|(_, used)| sum.add(used));
        period(time, &sum)
    });
    let usage = rest::Usage {
        project: id,
        created_at: clock::rfc3339(project.created),
        deleted_at: project.deleted.map(clock::rfc3339),
        size_cu: project.size_cu,
        granularity: wish.granularity,
        periods: periods.collect(),
    };
    Ok(match wants_csv(wish.format, &headers) {
        true => csv(&usage.periods),
        false => Json(usage).into_response(),
    })
}

/// The project of a path that there is, or was. A key of one project sees none that is gone: the name may have been another
/// tenant's.
pub(super) async fn billed(
    state: &Rest,
    caller: &Caller,
    id: &str,
    created_at: Option<&str>,
) -> Result<Billed, Problem> {
    let none = || no_such("project", id);
    let created = created_at.map(|text| moment("created_at", text)).transpose()?;
    let checked = ProjectId::new(id).map_err(|_| none())?;
    match state.projects.store.billed(&checked, created).await {
        Err(StoreError::NotFound(_)) => Err(none()),
        Ok(billed) if billed.deleted.is_some() && caller.project.is_some() => Err(none()),
        found => Ok(found?),
    }
}

/// As it is asked for, else as the header says.
pub(super) fn wants_csv(format: Option<Format>, headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let accepts = || accept.is_some_and(|accept| accept.trim_start().starts_with("text/csv"));
    format.map_or_else(accepts, |format| format == Format::Csv)
}

/// Whole hours.
fn time(wish: &Wish, now: EpochMs) -> Result<Range<EpochMs>, Problem> {
    let given = |name: &str, text: &Option<String>| text.as_ref().map(|text| moment(name, text)).transpose();
    let to = given("to", &wish.to)?.unwrap_or(now);
    let from = given("from", &wish.from)?.unwrap_or(to - DAY_MS);
    let to = (to + HOUR_MS - 1).div_euclid(HOUR_MS) * HOUR_MS;
    let from = from.div_euclid(HOUR_MS) * HOUR_MS;
    if from >= to {
        return Err(Problem::invalid("invalid_query", "from must be before to"));
    }
    Ok(from..to)
}

pub(super) fn moment(name: &str, text: &str) -> Result<EpochMs, Problem> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    let parsed = humantime::parse_rfc3339(&whole).ok();
    let since = parsed.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .ok_or_else(|| {
            let detail =
                format!("{name} = {text:?} must be a day such as 2026-11-25, or a time such as 2026-11-25T09:00:00Z");
            Problem::invalid("invalid_query", detail)
        })
}

fn periods(time: &Range<EpochMs>, granularity: Granularity) -> Result<Vec<Range<EpochMs>>, Problem> {
    let length = match granularity {
        Granularity::Hour => HOUR_MS,
        Granularity::Day => DAY_MS,
        Granularity::Total => return Ok(vec![time.clone()]),
    };
    let first = time.start.div_euclid(length);
    let end = (time.end + length - 1).div_euclid(length);
    if end - first > PERIODS_MAX {
        let detail = format!(
            "{} periods are more than {PERIODS_MAX}: ask for less time, or for days",
            end - first
        );
        return Err(Problem::invalid("invalid_query", detail));
    }
    let period = |n: i64| time.start.max(n * length)..time.end.min((n + 1) * length);
    Ok((first..end).map(period).collect())
}

/// What was used, as people read it.
pub(super) fn period(time: Range<EpochMs>, used: &Used) -> UsagePeriod {
    // In the order of `store::usage::COLUMNS`.
    let [
        selects,
        inserts,
        updates,
        deletes,
        ddl,
        others,
        rows_out,
        bytes_out,
        bytes_in,
        logins,
        logins_failed,
        attached_us,
        wakes_query,
        wakes_prepare,
        wakes_execute,
        wakes_other,
    ] = used.counts;
    UsagePeriod {
        from: clock::rfc3339(time.start),
        to: clock::rfc3339(time.end),
        compute_seconds: used.compute_ms as f64 / 1e3,
        cu_seconds: used.cu as f64 / 1e9,
        statements: selects + inserts + updates + deletes + ddl + others,
        selects,
        inserts,
        updates,
        deletes,
        ddl,
        others,
        rows_out,
        bytes_out,
        bytes_in,
        logins,
        logins_failed,
        attached_seconds: attached_us as f64 / 1e6,
        wakes: wakes_query + wakes_prepare + wakes_execute + wakes_other,
        wakes_query,
        wakes_prepare,
        wakes_execute,
        wakes_other,
    }
}

/// A head and a line for each. No value holds a comma or a quote.
fn csv(periods: &[UsagePeriod]) -> Response {
    let mut text = String::from(
        "from,to,compute_seconds,cu_seconds,statements,selects,inserts,updates,deletes,ddl,others,rows_out,bytes_out,\
         bytes_in,logins,logins_failed,attached_seconds,wakes,wakes_query,wakes_prepare,wakes_execute,wakes_other\n",
    );
    for p in periods {
        text.push_str(&format!(
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n",
            p.from,
            p.to,
            p.compute_seconds,
            p.cu_seconds,
            p.statements,
            p.selects,
            p.inserts,
            p.updates,
            p.deletes,
            p.ddl,
            p.others,
            p.rows_out,
            p.bytes_out,
            p.bytes_in,
            p.logins,
            p.logins_failed,
            p.attached_seconds,
            p.wakes,
            p.wakes_query,
            p.wakes_prepare,
            p.wakes_execute,
            p.wakes_other
        ));
    }
    ([(header::CONTENT_TYPE, "text/csv")], text).into_response()
}
