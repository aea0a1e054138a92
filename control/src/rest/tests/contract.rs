//! Every answer in every test of REST is held against `/openapi.json`: its path and method must be there, with its status,
//! its content type and, field by field, its body. Fields that the document does not know are refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What is wrong with an answer; `None`: nothing, or no route of the document is meant.
pub(super) fn breach(
    document: &Value,
    method: &str,
    path: &str,
    status: u16,
    kind: &str,
    body: &[u8],
) -> Option<String> {
    let operation = operation(document, method, path)?;
    let Some(answer) = operation["responses"].get(status.to_string()) else {
        return Some(format!("status {status} is not in the document"));
    };
    let Some(content) = answer.get("content").and_then(Value::as_object) else {
        return (!body.is_empty()).then(|| "a body that is not in the document".into());
    };
    let Some(media) = content.get(kind) else {
        return Some(format!("content type {kind:?} is not in the document"));
    };
    if !kind.ends_with("json") {
        return None;
    }
    match serde_json::from_slice(body) {
        Ok(body) => misfit(document, &media["schema"], &body).map(|why| format!("body{why}: {body}")),
        Err(error) => Some(format!("no JSON: {error}")),
    }
}

/// By the pattern with the fewest placeholders; `None`: no such route, or it does not take the method.
fn operation<'a>(document: &'a Value, method: &str, path: &str) -> Option<&'a Value> {
    let path: Vec<_> = path.split('/').collect();
    let fits = |pattern: &str| {
        let pattern: Vec<_> = pattern.split('/').collect();
        let same = |(wanted, got): (&&str, &&str)| wanted == got || wanted.starts_with('{');
        pattern.len() == path.len() && pattern.iter().zip(&path).all(same)
    };
    let patterns = document["paths"].as_object()?.iter();
    let found = patterns.filter(|(pattern, _)| fits(pattern));
    let (_, methods) = found.min_by_key(|(pattern, _)| pattern.matches('{').count())?;
    methods.get(method.to_lowercase())
}

/// Where and why `value` is not as `schema` says.
fn misfit(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let schema = resolved(document, schema);
    if let Some(one_of) = ["oneOf", "anyOf"].iter().find_map(|of| schema.get(*of)?.as_array()) {
        let misfits: Option<Vec<_>> = one_of.iter().map(|one| misfit(document, one, value)).collect();
        return misfits.map(|misfits| format!(" fits none: {}", misfits.join("; ")));
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        return (!allowed.contains(value)).then(|| format!(" is {value}, not one of {allowed:?}"));
    }
    if let Some(types) = schema.get("type")
        && !named(types).any(|name| has_type(value, name))
    {
        return Some(format!(" is {value}, not {types}"));
    }
    match value {
        Value::Array(items) => {
            let item = schema.get("items")?;
            let mut misfits = items.iter().enumerate();
            misfits.find_map(|(at, one)| Some(format!("[{at}]{}", misfit(document, item, one)?)))
        }
        Value::Object(fields) => fields_misfit(document, schema, fields),
        _ => None,
    }
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let pointer = reference.trim_start_matches('#');
            let target = document
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{reference} leads nowhere"));
            resolved(document, target)
        }
        None => schema,
    }
}

fn named(types: &Value) -> impl Iterator<Item = &str> {
    let one = types.as_str().into_iter();
    one.chain(types.as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("a type {other:?} that is not known here"),
    }
}

/// What a schema says of an object, with all that it is made of.
#[derive(Default)]
struct Fields<'a> {
    known: BTreeMap<&'a str, &'a Value>,
    required: Vec<&'a str>,
    /// Of fields that have no name in the document; absent: there may be none.
    others: Option<&'a Value>,
    /// It says anything at all of fields.
    says: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, document: &'a Value, schema: &'a Value) {
        let schema = resolved(document, schema);
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.take(document, part);
        }
        if let Some(known) = schema.get("properties").and_then(Value::as_object) {
            self.says = true;
            self.known
                .extend(known.iter().map(|(name, schema)| (name.as_str(), schema)));
        }
        let required = schema.get("required").and_then(Value::as_array);
        self.required
            .extend(required.into_iter().flatten().filter_map(Value::as_str));
        if let Some(others) = schema.get("additionalProperties") {
            self.says = true;
            self.others = Some(others);
        }
    }
}

fn fields_misfit(document: &Value, schema: &Value, fields: &Map<String, Value>) -> Option<String> {
    let mut said = Fields::default();
    said.take(document, schema);
    if !said.says {
        return None;
    }
    if let Some(missing) = said.required.iter().find(|name| !fields.contains_key(**name)) {
        return Some(format!(" has no {missing:?}"));
    }
    fields.iter().find_map(|(name, value)| {
        let Some(schema) = said.known.get(name.as_str()).copied().or(said.others) else {
            return Some(format!(" has {name:?}, which is not in the document"));
        };
        Some(format!(".{name}{}", misfit(document, schema, value)?))
    })
}

#[test]
fn breaches_are_seen() {
    let key = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string"}, "scope": {"$ref": "#/schemas/Scope"}, "until": {"type": ["string", "null"]},
            "of": {"oneOf": [{"type": "null"}, {"$ref": "#/schemas/Scope"}]},
        }
    });
    let list = json!({"allOf": [{"$ref": "#/schemas/Key"}, {
        "type": "object", "required": ["more"], "properties": {"more": {"type": "array", "items": {"type": "integer"}}}
    }]});
    let said = |schema: &Value| json!({"200": {"content": {"application/json": {"schema": schema}}}, "204": {}});
    let document = json!({
        "paths": {
            "/keys/{name}": {"get": {"responses": said(&json!({"$ref": "#/schemas/Key"}))}},
            "/keys/all": {"get": {"responses": said(&list)}},
        },
        "schemas": {"Key": key, "Scope": {"type": "string", "enum": ["admin", "none"]}},
    });
    let told = |path: &str, status, body: Value| {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        breach(&document, "GET", path, status, "application/json", &body)
    };
    for good in [
        json!({"name": "a"}),
        json!({"name": "a", "scope": "admin", "until": null, "of": "none"}),
        json!({"name": "a", "until": "b", "of": null}),
    ] {
        assert_eq!(told("/keys/a", 200, good.clone()), None, "{good}");
    }
    assert_eq!(told("/keys/a", 204, Value::Null), None);
    assert_eq!(told("/keys/all", 200, json!({"name": "a", "more": [1, 2]})), None);
    assert_eq!(told("/other", 200, json!(1)), None, "no route of the document");
    for (path, status, bad, why) in [
        ("/keys/a", 200, json!({}), "has no \"name\""),
        ("/keys/a", 200, json!({"name": 1}), "body.name is 1"),
        (
            "/keys/a",
            200,
            json!({"name": "a", "key": "b"}),
            "has \"key\", which is not in the document",
        ),
        (
            "/keys/a",
            200,
            json!({"name": "a", "scope": "root"}),
            "body.scope is \"root\"",
        ),
        ("/keys/a", 200, json!({"name": "a", "of": "root"}), "body.of fits none"),
        ("/keys/a", 418, json!({"name": "a"}), "status 418"),
        ("/keys/a", 204, json!({"name": "a"}), "a body"),
        (
            "/keys/all",
            200,
            json!({"name": "a", "more": [1, "2"]}),
            "body.more[1] is \"2\"",
        ),
        ("/keys/all", 200, json!({"more": []}), "has no \"name\""),
    ] {
        let said = told(path, status, bad.clone()).unwrap_or_else(|| panic!("{bad} passes"));
        assert!(said.contains(why), "{said}");
    }
}
