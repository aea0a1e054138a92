//! `selkie operations`.

use control_api::rest::{Operation, OperationList};

use super::{Rest, details, latest, path, show, table};
use crate::arguments::{Common, OperationsVerb};
use crate::failure::Failure;
use crate::small_runtime;

pub(crate) fn operations(common: &Common, verb: &OperationsVerb) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    small_runtime()?.block_on(async {
        match verb {
            OperationsVerb::List { project, limit } => {
                let path = path(&["projects", project, "operations"])?;
                let operations = latest::<OperationList>(&rest, &path, *limit).await?;
                let head = ["OPERATION", "KIND", "STATE", "STEP", "CREATED", "ENDED", "ERROR"];
                show(common, &operations, || table(&head, operations.iter().map(row)))
            }
            OperationsVerb::Show { operation } => {
                let found: Operation = rest.get(&path(&["operations", operation])?).await?;
                show(common, &found, || details(&operation_details(&found)))
            }
        }
    })
}

fn row(operation: &Operation) -> Vec<String> {
    vec![
        operation.id.clone(),
        operation.kind.as_str().into(),
        operation.state.as_str().into(),
        operation.step.clone(),
        operation.created_at.clone(),
        operation.ended_at.clone().unwrap_or_else(|| "not ended".into()),
        operation.error.clone().unwrap_or_default(),
    ]
}

fn operation_details(operation: &Operation) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("operation", operation.id.clone()),
        ("project", operation.project.clone()),
        ("kind", operation.kind.as_str().into()),
        ("state", operation.state.as_str().into()),
        ("step", operation.step.clone()),
    ];
    rows.extend(operation.error.clone().map(|error| ("error", error)));
    let incarnation = operation.incarnation;
    rows.extend(incarnation.map(|incarnation| ("incarnation", incarnation.to_string())));
    rows.push(("requested by", operation.requested_by.clone()));
    rows.push(("created", operation.created_at.clone()));
    rows.push(("updated", operation.updated_at.clone()));
    rows.extend(operation.ended_at.clone().map(|ended| ("ended", ended)));
    rows
}
