//! `selkie key`.

use control_api::rest::{CreateKey, Key, KeyCreated, KeyList, Scope};

use super::{Gone, Rest, all, confirm, details, path, show, table};
use crate::arguments::{Common, KeyScope, KeyVerb};
use crate::failure::Failure;
use crate::small_runtime;

pub(crate) fn key(common: &Common, verb: &KeyVerb) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    small_runtime()?.block_on(async {
        match verb {
            KeyVerb::List => {
                let keys = all::<KeyList>(&rest, "/keys").await?;
                let head = ["KEY", "SCOPE", "PROJECT", "EXPIRES", "LAST USED"];
                show(common, &keys, || table(&head, keys.iter().map(row)))
            }
            KeyVerb::Show { name } => {
                let key: Key = rest.get(&path(&["keys", name])?).await?;
                let names = ["key", "scope", "project", "expires", "last used"];
                show(common, &key, || {
                    let rows: Vec<_> = names.into_iter().zip(row(&key)).collect();
                    details(&rows)
                })
            }
            KeyVerb::Create {
                name,
                scope,
                project,
                expires_in,
            } => {
                let body = CreateKey {
                    name: name.clone(),
                    scope: match scope {
                        KeyScope::Admin => Scope::Admin,
                        KeyScope::Project => Scope::Project,
                        KeyScope::ReadOnly => Scope::ReadOnly,
                    },
                    project: project.clone(),
                    expires_in: expires_in.clone(),
                };
                let made: KeyCreated = rest.post("/keys", &body).await?;
                let key = made.key.clone().unwrap_or_default();
                show(common, &made, || format!("key {name}; it is told only now\n{key}\n"))
            }
            KeyVerb::Delete { name, sure } => {
                let path = path(&["keys", name])?;
                confirm::sure(*sure, "key", name, "whoever uses it is refused at once")?;
                rest.delete(&path).await?;
                show(common, &Gone { deleted: name }, || format!("key {name} is gone\n"))
            }
        }
    })
}

fn row(key: &Key) -> Vec<String> {
    let text = |value: &Option<String>, absent: &str| value.clone().unwrap_or_else(|| absent.into());
    vec![
        key.name.clone(),
        key.scope.as_str().into(),
        text(&key.project, "all"),
        text(&key.expires_at, "never"),
        text(&key.last_used_at, "not yet"),
    ]
}
