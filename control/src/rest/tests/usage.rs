//! Usage over REST.

use control_api::{control as proto, rest::ComputeState};

use super::*;
use crate::{
    clock,
    name::ProjectId,
    store::{ComputeStates, Store, usage::HOUR_MS},
};

fn report(sequence: u64, start_ms: i64, selects: u64, ddl: u64) -> proto::UsageWindow {
    proto::UsageWindow {
        sequence,
        start_ms,
        end_ms: start_ms + 60_000,
        projects: vec![proto::ProjectUsage {
            project: "demo".into(),
            selects,
            ddl,
            rows: 3 * selects,
            bytes_out: 100 * selects,
            attached_us: 1_500_000,
            wakes_query: 1,
            ..Default::default()
        }],
    }
}

async fn with_usage() -> (Api, i64) {
    let api = Api::with_demo().await;
    let hour = clock::now().div_euclid(HOUR_MS) * HOUR_MS;
    let usage = proto::UsageReport {
        gateway_id: "g".into(),
        closed: vec![report(1, hour - 2 * HOUR_MS, 10, 1), report(2, hour, 20, 2)],
        open: Some(report(3, hour + 60_000, 4, 0)),
    };
    api.plane.projects.usage.report(usage).await.unwrap();
    (api, hour)
}

#[tokio::test]
async fn usage_is_by_the_hour_or_in_all_and_has_the_open_window() {
    let (api, hour) = with_usage().await;
    let (status, usage) = api.get("/api/v1/projects/demo/usage").await;
    assert_eq!((status, &usage["granularity"]), (200, &json!("hour")));
    let periods = usage["periods"].as_array().unwrap();
    let of = |period: &Value, name: &str| period[name].as_i64().unwrap();
    let selects: Vec<_> = periods.iter().map(|period| of(period, "selects")).collect();
    assert_eq!(selects[selects.len() - 3..], [10, 0, 24]);
    assert_eq!(periods.last().unwrap()["from"], json!(clock::rfc3339(hour)));
    let from = clock::rfc3339(hour - HOUR_MS);
    let (_, total) = api
        .get(&format!("/api/v1/projects/demo/usage?granularity=total&from={from}"))
        .await;
    assert_eq!(total["periods"].as_array().unwrap().len(), 1);
    let total = &total["periods"][0];
    for (name, value) in [
        ("selects", 24),
        ("ddl", 2),
        ("statements", 26),
        ("rows_out", 72),
        ("bytes_out", 2400),
        ("wakes", 2),
    ] {
        assert_eq!(of(total, name), value, "{name}");
    }
    assert_eq!(total["attached_seconds"], json!(3.0));
    assert_eq!(api.get("/api/v1/projects/none/usage").await.0, 404);
}

#[tokio::test]
async fn usage_is_a_table_for_who_wants_one() {
    let (api, _) = with_usage().await;
    let ask = async |query: &str, accept: &str| {
        let request = Request::get(format!("/api/v1/projects/demo/usage?granularity=total{query}"))
            .header("authorization", format!("Bearer {KEY}"))
            .header("accept", accept);
        let (status, kind, body) = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, 200);
        (kind, String::from_utf8(body).unwrap())
    };
    for (query, accept) in [("&format=csv", "*/*"), ("", "text/csv")] {
        let (kind, body) = ask(query, accept).await;
        assert_eq!(kind, "text/csv");
        let lines: Vec<Vec<_>> = body.lines().map(|line| line.split(',').collect()).collect();
        let column = |name: &str| lines[0].iter().position(|head| *head == name).unwrap();
        assert_eq!((lines.len(), lines[1].len()), (2, lines[0].len()));
        assert_eq!(
            (lines[1][column("selects")], lines[1][column("wakes_query")]),
            ("34", "3")
        );
    }
    assert_eq!(ask("&format=json", "text/csv").await.0, "application/json");
}

#[tokio::test]
async fn a_time_that_cannot_be_is_refused() {
    let api = Api::with_demo().await;
    for query in [
        "from=yesterday",
        "from=2026-11-25&to=2026-11-24",
        "from=2020-01-01",
        "granularity=week",
        "form=csv",
    ] {
        let (status, problem) = api.get(&format!("/api/v1/projects/demo/usage?{query}")).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_query")), "{query}");
    }
    let (status, days) = api
        .get("/api/v1/projects/demo/usage?from=2026-11-01&to=2026-11-04&granularity=day")
        .await;
    assert_eq!((status, days["periods"].as_array().unwrap().len()), (200, 3));
}

#[tokio::test(start_paused = true)]
async fn a_compute_is_in_the_usage_for_as_long_as_it_ran() {
    let api = Api::with_demo().await;
    api.post("/api/v1/projects/demo/compute/wake", json!(null)).await;
    let (_, usage) = api.get("/api/v1/projects/demo/usage?granularity=total").await;
    let running = usage["periods"][0]["compute_seconds"].as_f64().unwrap();
    api.post("/api/v1/projects/demo/compute/suspend", json!(null)).await;
    let (_, transitions) = api.get("/api/v1/projects/demo/compute/transitions").await;
    let at = |to: &str| {
        let all = transitions["transitions"].as_array().unwrap();
        let made = all.iter().find(|made| made["to"] == to).unwrap();
        humantime::parse_rfc3339(made["at"].as_str().unwrap()).unwrap()
    };
    let ran = at("suspended").duration_since(at("ready")).unwrap().as_secs_f64();
    let (_, usage) = api.get("/api/v1/projects/demo/usage?granularity=total").await;
    let total = &usage["periods"][0];
    assert_eq!(total["compute_seconds"], json!(ran));
    assert_eq!(total["cu_seconds"], json!(ran * 0.25));
    assert!(running <= ran);
}

#[tokio::test]
async fn a_compute_is_billed_by_the_size_that_each_start_had() {
    let api = Api::with_demo().await;
    let demo = ProjectId::new("demo").unwrap();
    let begin = clock::now() - 5 * HOUR_MS;
    for (at, seconds, next) in [(begin, 60, 2.0), (begin + HOUR_MS, 10, 8.0)] {
        let mut compute = api.plane.store.begin_start(&demo, at).await.unwrap().record.compute;
        for (state, since) in [
            (ComputeState::Ready, at),
            (ComputeState::Suspended, at + seconds * 1_000),
        ] {
            (compute.state, compute.since) = (state, since);
            api.plane.store.set_compute(&demo, &compute).await.unwrap();
        }
        let resized = api.call("PATCH", "/api/v1/projects/demo", Some(json!({"size_cu": next})));
        assert_eq!(resized.await.0, 200);
    }
    let (_, usage) = api.get("/api/v1/projects/demo/usage?granularity=total").await;
    let total = &usage["periods"][0];
    assert_eq!(total["compute_seconds"], json!(70.0), "{usage}");
    assert_eq!(total["cu_seconds"], json!(60.0 * 0.25 + 10.0 * 2.0), "{usage}");
}

/// A life of `demo` as it is billed: with a compute that ran for so long, and so many SELECTs of a gateway.
async fn used(api: &Api, sequence: u64, seconds: i64, selects: u64) -> String {
    let demo = ProjectId::new("demo").unwrap();
    let created = api.plane.store.project(&demo).await.unwrap().created;
    let at = clock::now() - 2 * HOUR_MS;
    let mut compute = api.plane.store.begin_start(&demo, at).await.unwrap().record.compute;
    for (state, since) in [
        (ComputeState::Ready, at),
        (ComputeState::Suspended, at + seconds * 1_000),
    ] {
        (compute.state, compute.since) = (state, since);
        api.plane.store.set_compute(&demo, &compute).await.unwrap();
    }
    let mut window = report(sequence, at, selects, 0);
    window.projects[0].created_ms = created;
    let usage = proto::UsageReport {
        gateway_id: "g".into(),
        closed: vec![window],
        open: None,
    };
    api.plane.projects.usage.report(usage).await.unwrap();
    clock::rfc3339(created)
}

#[tokio::test]
async fn the_bill_of_a_project_stays_when_it_is_deleted_and_is_not_of_the_next_of_its_name() {
    let api = Api::new().await;
    let ask = async |path: &str, created: &str| {
        let path = format!("/api/v1/projects/demo/{path}&created_at={created}");
        let (status, mut answer) = api.get(&path).await;
        assert_eq!(status, 200, "{answer}");
        answer.as_object_mut().unwrap().remove("as_of");
        answer
    };
    let make = async || {
        let (status, made) = api.post("/api/v1/projects", json!({"id": "demo"})).await;
        assert_eq!(status, 201, "{made}");
    };
    let paths = ["usage?granularity=hour", "usage/statement?format=json"];
    make().await;
    let first = used(&api, 1, 30, 2_500_000).await;
    let before = [ask(paths[0], &first).await, ask(paths[1], &first).await];
    assert_eq!(api.call("DELETE", "/api/v1/projects/demo", None).await.0, 204);
    let (_, gone) = api.get("/api/v1/deleted-projects").await;
    let gone = &gone["projects"][0];
    assert_eq!((&gone["id"], &gone["created_at"]), (&json!("demo"), &json!(first)));
    let same = async || {
        for (path, mut before) in paths.into_iter().zip(before.clone()) {
            before["deleted_at"] = gone["deleted_at"].clone();
            assert_eq!(ask(path, &first).await, before);
        }
    };
    same().await;
    let (_, last) = api.get("/api/v1/projects/demo/usage?granularity=total").await;
    assert_eq!(last["created_at"], json!(first), "without a time the last one is meant");
    make().await;
    let (_, fresh) = api.get("/api/v1/projects/demo/usage?granularity=total").await;
    assert_ne!(
        fresh["created_at"],
        json!(first),
        "without a time the one that there is is meant"
    );
    let nothing = |usage: &Value| usage["periods"][0]["statements"] == 0 && usage["periods"][0]["cu_seconds"] == 0.0;
    assert!(nothing(&fresh), "{fresh}");
    let second = used(&api, 2, 7, 11).await;
    same().await;
    let total = ask("usage?granularity=total", &second).await;
    assert_eq!(
        (&total["periods"][0]["selects"], &total["periods"][0]["compute_seconds"]),
        (&json!(11), &json!(7.0))
    );
    let (status, problem) = api.get("/api/v1/projects/demo/usage?created_at=2026-01-01").await;
    assert_eq!((status, &problem["code"]), (404, &json!("project_not_found")));
    let (status, problem) = api.get("/api/v1/projects/demo/usage/statement?created_at=once").await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_query")));
}

#[tokio::test]
async fn a_key_of_one_project_sees_none_that_is_gone() {
    let api = Api::with_demo().await;
    let first = used(&api, 1, 30, 1).await;
    assert_eq!(api.call("DELETE", "/api/v1/projects/demo", None).await.0, 204);
    let gone = format!("/api/v1/projects/demo/usage?created_at={first}");
    assert_eq!(api.post("/api/v1/projects", json!({"id": "demo"})).await.0, 201);
    let keys = [
        (json!({"name": "its", "scope": "project", "project": "demo"}), false),
        (json!({"name": "reads", "scope": "read-only", "project": "demo"}), false),
        (json!({"name": "books", "scope": "read-only"}), true),
    ];
    for (wish, sees) in keys {
        let (_, made) = api.post("/api/v1/keys", wish).await;
        let caller = api.with_key(made["key"].as_str().unwrap());
        for path in [
            gone.clone(),
            gone.replace("usage?", "usage/statement?"),
            gone.replace("usage?", "wakes?"),
        ] {
            assert_eq!(caller.get(&path).await.0, if sees { 200 } else { 404 }, "{made} {path}");
        }
        let (status, list) = caller.get("/api/v1/deleted-projects").await;
        assert_eq!(
            (status, list["projects"].as_array().unwrap().len()),
            (200, usize::from(sees)),
            "{made}"
        );
        let present = caller.get("/api/v1/projects/demo/usage").await.0;
        assert_eq!(present, 200, "{made}");
    }
    assert_eq!(api.post("/api/v1/projects", json!({"id": "later"})).await.0, 201);
    let wish = json!({"name": "later", "scope": "project", "project": "later"});
    let (_, made) = api.post("/api/v1/keys", wish).await;
    let later = ProjectId::new("later").unwrap();
    api.plane.store.begin_delete(&later, None).await.unwrap();
    let caller = api.with_key(made["key"].as_str().unwrap());
    assert_eq!(
        caller.get("/api/v1/projects/later/usage").await.0,
        200,
        "it is there while it is being deleted"
    );
    api.plane.store.finish_delete(&later).await.unwrap();
    assert_eq!(
        caller.get("/api/v1/projects/later/usage").await.0,
        401,
        "its keys go with it"
    );
}
