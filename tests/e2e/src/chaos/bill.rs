//! What a project is billed by: the changes of its compute's state, from the first to the last. One interval for each time
//! that it was ready, none inside another, each incarnation once.

use harness::Selkie;
use serde_json::Value;

/// REST's largest page.
const PAGE: usize = 1000;

/// The last change is written down; control tells gateways and REST of a change before it is.
pub(super) async fn ends_asleep(selkie: &Selkie, project: &str) -> bool {
    made(selkie, project)
        .await
        .last()
        .is_some_and(|last| last["to"] == "suspended")
}

/// What is wrong with them; nothing, where all is well.
pub(crate) async fn what_is_wrong(selkie: &Selkie, project: &str) -> Vec<String> {
    let made = made(selkie, project).await;
    made.windows(2)
        .filter_map(|pair| Some(format!("{} in {pair:?}", misfit(&pair[0], &pair[1])?)))
        .collect()
}

/// All changes, the first first.
async fn made(selkie: &Selkie, project: &str) -> Vec<Value> {
    let path = format!("/projects/{project}/compute/transitions?limit={PAGE}");
    let listed = selkie.rest("GET", &path, None).await.json();
    let mut made = listed["transitions"].as_array().expect("a list").clone();
    assert!(made.len() < PAGE, "more than a page: read the others, too");
    made.reverse();
    made
}

fn misfit(before: &Value, after: &Value) -> Option<&'static str> {
    let incarnation = |made: &Value| made["incarnation"].as_u64().expect("a number");
    // RFC 3339 in UTC sorts as text.
    let at = |made: &Value| made["at"].as_str().expect("a time").to_owned();
    let starts = after["to"] == "starting";
    let ready = after["to"] == "ready";
    if before["to"] != after["from"] {
        Some("a gap")
    } else if at(before) > at(after) {
        Some("time runs back")
    } else if starts && incarnation(after) <= incarnation(before) {
        Some("an incarnation comes again")
    } else if !starts && incarnation(after) != incarnation(before) {
        Some("an incarnation without a start")
    } else if ready && before["to"] == "suspended" {
        Some("ready without a start")
    } else {
        None
    }
}
