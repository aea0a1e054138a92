//! `selkie settings`.

use std::collections::BTreeMap;

use control_api::rest::{ChangeSettings, Setting, SettingList};
use control_api::settings::{Applies, Value};

use super::{Rest, all, details, path, show, table};
use crate::arguments::{Common, SettingsVerb};
use crate::failure::Failure;
use crate::small_runtime;

pub(crate) fn settings(common: &Common, verb: &SettingsVerb) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    small_runtime()?.block_on(async {
        match verb {
            SettingsVerb::List { project, all: whole } => {
                let mut settings = all::<SettingList>(&rest, &path(&["projects", project, "settings"])?).await?;
                settings.retain(|setting| *whole || setting.is_set);
                show(common, &settings, || rows(&settings))
            }
            SettingsVerb::Get { project, name } => {
                let found: Setting = rest.get(&path(&["projects", project, "settings", name])?).await?;
                show(common, &found, || details(&setting_details(&found)))
            }
            SettingsVerb::Set { project, settings } => {
                let wanted = settings.iter().cloned();
                let wanted = wanted.map(|(name, value)| (name, Some(Value::Text(value)))).collect();
                change(common, &rest, project, wanted).await
            }
            SettingsVerb::Unset { project, names } => {
                let wanted = names.iter().map(|name| (name.clone(), None)).collect();
                change(common, &rest, project, wanted).await
            }
        }
    })
}

/// Answers what is set after it.
async fn change(
    common: &Common,
    rest: &Rest,
    project: &str,
    wanted: BTreeMap<String, Option<Value>>,
) -> Result<(), Failure> {
    let path = path(&["projects", project, "settings"])?;
    let after: SettingList = rest.patch(&path, &ChangeSettings(wanted)).await?;
    show(common, &after.settings, || rows(&after.settings))
}

/// As it is written to set it.
pub(super) fn assignment(setting: &Setting) -> String {
    format!("{}={}", setting.name, setting.value.as_deref().unwrap_or_default())
}

fn rows(settings: &[Setting]) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let row = |setting: &Setting| {
        vec![
            setting.name.clone(),
            text(&setting.value),
            text(&setting.default),
            text(&setting.running),
            applies(setting).into(),
        ]
    };
    table(
        &["SETTING", "VALUE", "DEFAULT", "RUNNING", "APPLIES"],
        settings.iter().map(row),
    )
}

fn applies(setting: &Setting) -> &'static str {
    match setting.applies {
        Applies::Live => "live",
        Applies::NextStart => "next start",
    }
}

fn setting_details(setting: &Setting) -> Vec<(&'static str, String)> {
    let mut rows = vec![("setting", setting.name.clone())];
    let values = [
        ("value", &setting.value),
        ("default", &setting.default),
        ("running", &setting.running),
    ];
    rows.extend(
        values
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?))),
    );
    rows.push(("is set", if setting.is_set { "yes" } else { "no" }.into()));
    rows.push(("applies", applies(setting).into()));
    rows.push(("takes", setting.takes.clone()));
    rows.push(("what", setting.description.clone()));
    rows
}
