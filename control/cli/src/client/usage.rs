//! `selkie usage`.

use control_api::rest::{Statement, StatementLine, Usage, UsagePeriod};
use reqwest::Method;

use super::{Rest, details, escaped, path, print, show, table};
use crate::arguments::{Common, StatementWish, UsageOf, UsageVerb, UsageWish};
use crate::failure::Failure;
use crate::small_runtime;

pub(crate) fn usage(common: &Common, verb: &UsageVerb) -> Result<(), Failure> {
    match &verb.of {
        Some(UsageOf::Statement(wish)) => statement(common, wish),
        None => periods(common, &verb.wish),
    }
}

fn statement(common: &Common, wish: &StatementWish) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    let mut path = path(&["projects", &wish.project, "usage", "statement"])?;
    path.push_str(if wish.csv { "?format=csv" } else { "?format=json" });
    for (name, wish) in [("month", &wish.month), ("created_at", &wish.created_at)] {
        if let Some(wish) = wish {
            path.push_str(&format!("&{name}={}", escaped(wish)));
        }
    }
    small_runtime()?.block_on(async {
        if wish.csv {
            return as_it_is(&rest, &path).await;
        }
        let statement: Statement = rest.get(&path).await?;
        show(common, &statement, || told(&statement))
    })
}

fn told(statement: &Statement) -> String {
    let month = match statement.open {
        true => format!("{}, open: until {}", statement.month, statement.as_of),
        false => statement.month.clone(),
    };
    let mut rows = vec![
        ("project", statement.project.clone()),
        ("created", statement.created_at.clone()),
    ];
    rows.extend(statement.deleted_at.clone().map(|deleted| ("deleted", deleted)));
    rows.push(("month", month));
    let mut text = details(&rows);
    let money = |amount: &Option<String>| match (amount, &statement.currency) {
        (Some(amount), Some(currency)) => format!("{amount} {currency}"),
        _ => "-".into(),
    };
    let row = |line: &StatementLine| {
        let quantity = format!("{} {}", line.quantity, line.unit);
        vec![line.item.clone(), quantity, money(&line.price), money(&line.amount)]
    };
    text.push_str(&table(
        &["ITEM", "QUANTITY", "PRICE", "AMOUNT"],
        statement.lines.iter().map(row),
    ));
    text.push_str(&match &statement.total {
        Some(_) => format!("total  {}\n", money(&statement.total)),
        None => "no prices are set (control.prices)\n".into(),
    });
    text
}

async fn as_it_is(rest: &Rest, path: &str) -> Result<(), Failure> {
    let response = rest.send(Method::GET, path, None::<&()>).await?;
    let text = Rest::checked(response).await?.bytes().await;
    print(&text.map_err(|e| Failure::of("the control plane's answer", e))?)
}

fn periods(common: &Common, wish: &UsageWish) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    let mut path = path(&["projects", wish.project.as_deref().unwrap_or_default(), "usage"])?;
    path.push_str(&format!("?granularity={}", wish.by.as_str()));
    for (name, time) in [("from", &wish.from), ("to", &wish.to), ("created_at", &wish.created_at)] {
        if let Some(time) = time {
            path.push_str(&format!("&{name}={}", escaped(time)));
        }
    }
    small_runtime()?.block_on(async {
        if wish.csv {
            return as_it_is(&rest, &format!("{path}&format=csv")).await;
        }
        let usage: Usage = rest.get(&path).await?;
        show(common, &usage, || {
            let head = [
                "FROM",
                "CU HOURS",
                "STATEMENTS",
                "ROWS OUT",
                "BYTES OUT",
                "BYTES IN",
                "LOGINS",
                "REFUSED",
                "WAKES",
            ];
            table(&head, usage.periods.iter().map(row))
        })
    })
}

fn row(period: &UsagePeriod) -> Vec<String> {
    vec![
        period.from.clone(),
        format!("{:.4}", period.cu_seconds / 3600.0),
        period.statements.to_string(),
        period.rows_out.to_string(),
        period.bytes_out.to_string(),
        period.bytes_in.to_string(),
        period.logins.to_string(),
        period.logins_failed.to_string(),
        period.wakes.to_string(),
    ]
}
