//! `selkie audit`.

use control_api::rest::{AuditEntry, AuditList};

use super::{Rest, escaped, path, show, table};
use crate::arguments::{Audit, Common};
use crate::failure::Failure;
use crate::small_runtime;

/// REST gives at most this many at once.
const PAGE_MAX: u32 = 1000;

pub(crate) fn audit(common: &Common, wish: &Audit) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    let path = match &wish.project {
        Some(project) => path(&["projects", project, "audit"])?,
        None => "/audit".into(),
    };
    small_runtime()?.block_on(async {
        let entries = latest(&rest, &path, wish.limit).await?;
        let head = ["AT", "KEY", "METHOD", "PATH", "STATUS", "CHANGED"];
        show(common, &entries, || table(&head, entries.iter().map(row)))
    })
}

async fn latest(rest: &Rest, path: &str, limit: u32) -> Result<Vec<AuditEntry>, Failure> {
    let mut entries = Vec::new();
    let mut after = String::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        if left == 0 {
            return Ok(entries);
        }
        let page: AuditList = rest.get(&format!("{path}?limit={}{after}", left.min(PAGE_MAX))).await?;
        entries.extend(page.entries);
        match page.next {
            Some(next) => after = format!("&after={}", escaped(&next)),
            None => return Ok(entries),
        }
    }
}

fn row(entry: &AuditEntry) -> Vec<String> {
    vec![
        entry.at.clone(),
        entry.key.clone(),
        entry.method.clone(),
        entry.path.clone(),
        entry
            .status
            .map_or_else(|| "not ended".into(), |status| status.to_string()),
        entry.changed.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]
}
