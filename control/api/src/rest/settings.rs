//! Server variables that projects may set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::settings::{self, Applies};

/// GET /projects/{id}/settings/{name}: a server variable that a project may set.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// As the server spells it.
    pub name: String,
    /// What the project has, as the server reports it: the value that was set, or the default. Absent where the default
    /// is not known yet, because the server's template is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// It was set; otherwise `value` is the default.
    pub is_set: bool,
    /// Where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What the running server says at this moment; absent while none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// When a change is in force.
    pub applies: Applies,
    /// What values it takes.
    pub takes: String,
    /// What it does.
    pub description: String,
}

/// GET /projects/{id}/settings, in the order of names; pages as those of GET /projects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SettingList {
    /// This page.
    pub settings: Vec<Setting>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// PUT /projects/{id}/settings: these are set, all others are not. Names may be written as in option files.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ReplaceSettings(
    /// Values by name.
    pub BTreeMap<String, settings::Value>,
);

/// PATCH /projects/{id}/settings: these are set, or unset where they are `null`; others stay as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ChangeSettings(
    /// Values by name.
    pub BTreeMap<String, Option<settings::Value>>,
);

/// PUT /projects/{id}/settings/{name}
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSetting {
    /// Text, a number or a truth value.
    pub value: settings::Value,
}
