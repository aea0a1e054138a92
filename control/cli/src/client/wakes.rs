//! `selkie wakes`.

use control_api::rest::{Wake, WakeList, WakeSource};

use super::{PAGE_MAX, Rest, escaped, path, show, table};
use crate::arguments::{Common, Wakes};
use crate::failure::Failure;
use crate::small_runtime;

pub(crate) fn wakes(common: &Common, wish: &Wakes) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    let path = path(&["projects", &wish.project, "wakes"])?;
    small_runtime()?.block_on(async {
        let ledger = ledger(&rest, &path, wish).await?;
        show(common, &ledger, || {
            let head = ["AT", "BY", "FROM", "PROGRAM", "COMMAND", "RAN", "ENDED"];
            let mut text = table(&head, ledger.wakes.iter().map(row));
            for by in &ledger.kept_awake_by {
                text.push_str(&format!("kept awake by {by}\n"));
            }
            text
        })
    })
}

/// The latest so many wakes, and who keeps it awake.
async fn ledger(rest: &Rest, path: &str, wish: &Wakes) -> Result<WakeList, Failure> {
    let limit = wish.limit;
    let created = wish.created_at.as_ref();
    let created = created.map_or_else(String::new, |time| format!("&created_at={}", escaped(time)));
    let page = async |left: u32, after: String| {
        rest.get::<WakeList>(&format!("{path}?limit={}{created}{after}", left.min(PAGE_MAX)))
            .await
    };
    let mut ledger = page(limit, String::new()).await?;
    ledger.wakes.truncate(limit as usize);
    while let Some(after) = ledger.next.take() {
        let left = limit.saturating_sub(u32::try_from(ledger.wakes.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        let earlier = page(left, format!("&after={}", escaped(&after))).await?;
        ledger.wakes.extend(earlier.wakes);
        ledger.next = earlier.next;
    }
    Ok(ledger)
}

fn row(wake: &Wake) -> Vec<String> {
    let by = &wake.by;
    let who = match by.source {
        WakeSource::Client => by.user.clone().unwrap_or_default(),
        WakeSource::Api => format!("API key {}", by.key.as_deref().unwrap_or_default()),
        WakeSource::Control => "the control plane".into(),
    };
    vec![
        wake.at.clone(),
        who,
        by.client_address.clone().unwrap_or_default(),
        by.program_name.clone().unwrap_or_default(),
        by.command.clone().unwrap_or_default(),
        format!("{:.0} s", wake.ran_seconds),
        wake.ended_at.clone().unwrap_or_else(|| "runs".into()),
    ]
}
