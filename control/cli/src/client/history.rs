//! `selkie compute history`.

use control_api::rest::{Transition, TransitionList};

use super::{Rest, latest, path, show, table};
use crate::arguments::Common;
use crate::failure::Failure;

pub(super) async fn history(common: &Common, rest: &Rest, project: &str, limit: u32) -> Result<(), Failure> {
    let path = path(&["projects", project, "compute", "transitions"])?;
    let made = latest::<TransitionList>(rest, &path, limit).await?;
    let head = ["AT", "INCARNATION", "FROM", "TO", "BECAUSE"];
    show(common, &made, || table(&head, made.iter().map(row)))
}

fn row(made: &Transition) -> Vec<String> {
    vec![
        made.at.clone(),
        made.incarnation.to_string(),
        made.from.as_str().into(),
        made.to.as_str().into(),
        made.reason.clone().unwrap_or_default(),
    ]
}
