//! `selkie usage`.

use control_api::rest::{Usage, UsagePeriod};
use reqwest::Method;

use super::{Rest, escaped, path, print, show, table};
use crate::arguments::{Common, UsageWish};
use crate::failure::Failure;
use crate::small_runtime;

pub(crate) fn usage(common: &Common, wish: &UsageWish) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    let mut path = path(&["projects", &wish.project, "usage"])?;
    path.push_str(&format!("?granularity={}", wish.by.as_str()));
    for (name, time) in [("from", &wish.from), ("to", &wish.to)] {
        if let Some(time) = time {
            path.push_str(&format!("&{name}={}", escaped(time)));
        }
    }
    small_runtime()?.block_on(async {
        if wish.csv {
            let response = rest
                .send(Method::GET, &format!("{path}&format=csv"), None::<&()>)
                .await?;
            let text = Rest::checked(response).await?.bytes().await;
            return print(&text.map_err(|e| Failure::of("the control plane's answer", e))?);
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
