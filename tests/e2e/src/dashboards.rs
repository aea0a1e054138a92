//! What operators look at, the dashboard and the alerts, against what a running Selkie exports: a metric that was renamed
//! leaves panels empty and alerts silent, and nothing else would say so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use harness::Selkie;
use harness::client::value;
use harness::http::request;
use serde_json::Value;

/// How the names of metrics begin.
const OURS: [&str; 2] = ["selkie_", "process_"];
/// Labels that Prometheus itself sets.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// Told where `control.grpc.tls` is set, which it is not here: services_tls.rs looks for it.
const WITH_CERTIFICATES: &str = "selkie_control_certificate_not_after_seconds";

#[tokio::test]
async fn every_metric_that_a_panel_or_an_alert_asks_for_is_exported() {
    let selkie = Selkie::shared().await;
    // What is counted by outcome or phase is on the page once it has happened.
    let project = selkie.project("watched").await;
    let mut conn = project.endpoint.connect().await;
    value(&mut conn, "SELECT 1").await;
    let control = selkie.api().replace("/api/v1", "");
    let ready = request("GET", &format!("{control}/readyz"), None, None).await;
    assert_eq!(ready.status, 200, "{ready:?}");
    let mut exported: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for base in [selkie.gateway_http(), control] {
        let page = request("GET", &format!("{base}/metrics"), None, None).await;
        for series in page
            .body
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(selectors)
        {
            let labels = exported.entry(series.name).or_default();
            labels.extend(
                series
                    .matchers
                    .into_iter()
                    .map(|matcher| (matcher.label, matcher.value)),
            );
        }
    }

    let alerts = deployed("alerts/selkie.yml");
    let dashboard: Value = serde_json::from_str(&deployed("dashboards/selkie.json")).expect("JSON");
    let mut texts = vec![alerts];
    strings(&dashboard, &mut texts);
    let asked: Vec<Selector> = texts.iter().flat_map(|text| selectors(text)).collect();
    // The alerts alone have twenty.
    assert!(asked.len() > 40, "the files were not understood: {asked:?}");
    for selector in asked.iter().filter(|selector| selector.name != WITH_CERTIFICATES) {
        let labels = exported
            .get(&selector.name)
            .unwrap_or_else(|| panic!("nothing exports {}: {:?}", selector.name, exported.keys()));
        for Matcher { label, operator, value } in &selector.matchers {
            let values: Vec<_> = labels.iter().filter(|(name, _)| name == label).collect();
            assert!(
                OF_PROMETHEUS.contains(&label.as_str()) || !values.is_empty(),
                "{} has no label {label}: {labels:?}",
                selector.name
            );
            // Of statuses only the good ones are there.
            if operator == "=" && label != "status" {
                assert!(
                    values.iter().any(|(_, known)| known == value),
                    "{} is never counted with {label}={value:?}: {labels:?}",
                    selector.name
                );
            }
        }
    }
    selkie.logs.check();
}

/// `name{label="value"}`, in an expression or on a page of metrics.
#[derive(Debug)]
struct Selector {
    name: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug)]
struct Matcher {
    label: String,
    operator: String,
    value: String,
}

/// All of Selkie's metrics that stand in a text.
fn selectors(text: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = OURS.iter().filter_map(|begin| rest.find(begin)).min() {
        let (before, from) = rest.split_at(at);
        let (name, after) = word(from);
        rest = after;
        if !before.ends_with(is_of_word) {
            found.push(Selector {
                name: name.to_owned(),
                matchers: after.strip_prefix('{').map(matchers).unwrap_or_default(),
            });
        }
    }
    found
}

/// What follows `{`, to the end of the labels.
fn matchers(mut text: &str) -> Vec<Matcher> {
    let mut found = Vec::new();
    loop {
        let (label, after) = word(text.trim_start_matches([',', ' ']));
        if label.is_empty() {
            return found;
        }
        let (operator, quoted) = after.split_once('"').expect("a quoted value");
        // None of ours holds a quote.
        let (value, after) = quoted.split_once('"').expect("the end of the value");
        found.push(Matcher {
            label: label.to_owned(),
            operator: operator.trim().to_owned(),
            value: value.to_owned(),
        });
        text = after;
    }
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|letter| !is_of_word(letter)).unwrap_or(text.len());
    text.split_at(end)
}

fn is_of_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn deployed(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
