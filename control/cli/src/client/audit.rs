//! `selkie audit`.

use control_api::rest::{AuditEntry, AuditList};

use super::{Rest, latest, path, show, table};
use crate::arguments::{Audit, Common};
use crate::failure::Failure;
use crate::small_runtime;

pub(crate) fn audit(common: &Common, wish: &Audit) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    let path = match &wish.project {
        Some(project) => path(&["projects", project, "audit"])?,
        None => "/audit".into(),
    };
    small_runtime()?.block_on(async {
        let entries = latest::<AuditList>(&rest, &path, wish.limit).await?;
        let head = ["AT", "KEY", "METHOD", "PATH", "STATUS", "CHANGED"];
        show(common, &entries, || table(&head, entries.iter().map(row)))
    })
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
