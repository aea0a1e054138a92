//! `/projects/{id}/usage/statement`: what a project used in a month, and what that costs by `control.prices`.

use std::ops::Range;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use control_api::rest::{self, StatementLine, UsagePeriod};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Problem, Rest,
    auth::Caller,
    problem::Params,
    usage::{Format, billed, moment, period, wants_csv},
};
use crate::{
    clock,
    config::{Price, Prices, decimal, divided},
    prune::TRANSITIONS_KEPT_MS,
    store::EpochMs,
    usage::Used,
};

/// Quantities are shown to the millionth; amounts are reckoned from what was counted, not from what is shown.
const QUANTITY_DECIMALS: u32 = 6;
/// A CU for an hour, in what [`Used::cu`] is reckoned in: a millionth of a CU for a millisecond.
const CU_HOUR: i128 = 3_600_000 * MILLION;
const MILLION: i128 = 1_000_000;
const GIB: i128 = 1 << 30;

/// Which month, and as what.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// As 2026-11, UTC; the present one where absent.
    month: Option<String>,
    /// `json` or `csv`; where absent, as the header `Accept` says.
    #[serde(default)]
    format: Option<Format>,
    /// `created_at` of the project, where several had the name. Where absent, the one that there is, else the last one.
    created_at: Option<String>,
}

/// What a project used in a month, by the present prices. The statement of a month that is not over is `open`. Also of a
/// project that is gone, for a key that is not of one project only.
#[utoipa::path(
    get, path = "/projects/{id}/usage/statement", tag = "usage",
    params(("id" = String, Path, description = "The project."), Wish),
    responses(
        (status = 200, content((rest::Statement = "application/json"), (String = "text/csv"))),
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
    let now = clock::now();
    let (month, time) = month(wish.month, now)?;
    let project = billed(&state, &caller, &id, wish.created_at.as_deref()).await?;
    let mut used = Used::default();
    let hours = state.projects.usage.read(&project, time.clone()).await?;
    hours.values().for_each(|hour| used.add(hour));
    let counted = period(time.clone(), &used);
    let (lines, total) = lines(used.cu, &counted, &state.prices);
    let statement = rest::Statement {
        project: id,
        created_at: clock::rfc3339(project.created),
        deleted_at: project.deleted.map(clock::rfc3339),
        month,
        from: clock::rfc3339(time.start),
        to: clock::rfc3339(time.end),
        open: now < time.end,
        as_of: clock::rfc3339(now),
        currency: state.prices.currency.clone(),
        lines,
        total,
    };
    Ok(match wants_csv(wish.format, &headers) {
        true => csv(&statement),
        false => Json(statement).into_response(),
    })
}

/// The month's name and time.
fn month(wish: Option<String>, now: EpochMs) -> Result<(String, Range<EpochMs>), Problem> {
    let month = wish.unwrap_or_else(|| clock::rfc3339(now).chars().take(7).collect());
    let refuse = |why: &str| Err(Problem::invalid("invalid_query", format!("month = {month:?} {why}")));
    let numbers = month.split_once('-').and_then(|(year, number)| {
        let digits = |text: &str, many| text.len() == many && text.bytes().all(|byte| byte.is_ascii_digit());
        let well = digits(year, 4) && digits(number, 2);
        well.then(|| Some((year.parse::<u32>().ok()?, number.parse::<u32>().ok()?)))?
    });
    let Some((year, number @ 1..=12)) = numbers else {
        return refuse("must be a month such as 2026-11");
    };
    let (next_year, next) = if number == 12 {
        (year + 1, 1)
    } else {
        (year, number + 1)
    };
    let begins = |year, number| moment("month", &format!("{year:04}-{number:02}-01"));
    let time = begins(year, number)?..begins(next_year, next)?;
    if time.start > now {
        return refuse("has not begun");
    }
    if time.start < now - TRANSITIONS_KEPT_MS {
        return refuse("began more than 400 days ago, and what was used is kept for so long");
    }
    Ok((month, time))
}

/// A line for each that has, or could have, a price; the sum of the amounts where there is any.
fn lines(compute: i128, counted: &UsagePeriod, prices: &Prices) -> (Vec<StatementLine>, Option<String>) {
    let mut total = None;
    let mut line = |item: &str, unit: &str, counted: i128, each: i128, price: Option<Price>| {
        let amount = price.map(|price| price.amount(counted, each, prices.decimals));
        total = match (total, amount) {
            (Some(sum), Some(amount)) => Some(sum + amount),
            (sum, amount) => sum.or(amount),
        };
        StatementLine {
            item: item.into(),
            quantity: decimal(divided(counted.saturating_mul(MILLION), each), QUANTITY_DECIMALS),
            unit: unit.into(),
            price: price.map(|price| price.to_string()),
            amount: amount.map(|amount| decimal(amount, prices.decimals)),
        }
    };
    let lines = vec![
        line("compute", "CU hour", compute, CU_HOUR, prices.cu_hour),
        line(
            "statements",
            "million",
            counted.statements.into(),
            MILLION,
            prices.million_statements,
        ),
        line("bytes_out", "GiB", counted.bytes_out.into(), GIB, prices.gib_out),
    ];
    (lines, total.map(|total| decimal(total, prices.decimals)))
}

/// A head, a line for each, and the total. No value holds a comma or a quote.
fn csv(statement: &rest::Statement) -> Response {
    let mut text = String::from("project,project_created_at,month,open,item,quantity,unit,price,amount,currency\n");
    let rest::Statement {
        project,
        created_at,
        month,
        open,
        ..
    } = statement;
    let currency = statement.currency.as_deref().unwrap_or_default();
    let mut row = |item: &str, quantity: &str, unit: &str, price: &Option<String>, amount: &Option<String>| {
        let [price, amount] = [price, amount].map(|text| text.as_deref().unwrap_or_default());
        text.push_str(&format!(
            "{project},{created_at},{month},{open},{item},{quantity},{unit},{price},{amount},{currency}\n"
        ));
    };
    for line in &statement.lines {
        row(&line.item, &line.quantity, &line.unit, &line.price, &line.amount);
    }
    row("total", "", "", &None, &statement.total);
    ([(header::CONTENT_TYPE, "text/csv")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: EpochMs = 1_795_600_000_000; // 2026-11-25

    fn asked(text: &str) -> Result<Range<EpochMs>, Problem> {
        month(Some(text.into()), NOW).map(|(_, time)| time)
    }

    #[test]
    fn a_month_is_the_calendar_s_in_utc() {
        let told = |text| {
            asked(text)
                .map(|time| (clock::rfc3339(time.start), clock::rfc3339(time.end)))
                .unwrap()
        };
        let times = |from: &str, to: &str| (format!("{from}T00:00:00.000Z"), format!("{to}T00:00:00.000Z"));
        assert_eq!(told("2026-02"), times("2026-02-01", "2026-03-01"));
        assert_eq!(told("2025-12"), times("2025-12-01", "2026-01-01"));
        assert_eq!(month(None, NOW).unwrap().0, "2026-11");
        for bad in [
            "2026-13", "2026-00", "2026-1", "11-2026", "+026-11", "", "2026-12", "2025-10",
        ] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }
}
