//! What clients did is on the bill, exactly once, whatever is killed.

use harness::{Selkie, eventually};
use serde_json::Value;

async fn total(selkie: &Selkie, project: &str) -> Value {
    let path = format!("/projects/{project}/usage?granularity=total");
    let answer = selkie.rest("GET", &path, None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["periods"][0].clone()
}

/// Waits until usage has these numbers; and it has them still when the command line is asked.
async fn amounts_to(selkie: &Selkie, project: &str, expected: &[(&str, i64)]) {
    let is = |usage: &Value| {
        expected
            .iter()
            .all(|(name, value)| usage[name].as_i64() == Some(*value))
    };
    let mut seen = Value::Null;
    eventually(format_args!("usage is {expected:?}"), async || {
        seen = total(selkie, project).await;
        for (name, value) in expected {
            let seen = seen[name].as_i64().unwrap_or_default();
            assert!(seen <= *value, "{name} is {seen}, and clients did {value}");
        }
        is(&seen).then_some(())
    })
    .await;
    let said = selkie.cli(&["usage", project, "--by", "total", "--json"]).await.json();
    assert!(is(&said["periods"][0]), "{said}");
}

#[tokio::test]
async fn usage_is_what_clients_did_and_has_the_last_seconds() {
    let selkie = Selkie::start().await;
    let project = selkie.project("meter").await;
    let mut client = project.endpoint.connect().await;
    for statement in [
        "CREATE TABLE t (a INT)",
        "INSERT INTO t VALUES (1), (2), (3)",
        "UPDATE t SET a = a + 1",
        "SELECT * FROM t",
        "/* a word */ DELETE FROM t WHERE a = 4",
        "SHOW TABLES",
    ] {
        harness::client::run(&mut client, statement).await;
    }
    let mut wrong = project.endpoint.clone();
    wrong.password = "wrong".into();
    assert!(wrong.try_connect().await.is_err());
    let expected = [
        ("ddl", 1),
        ("inserts", 1),
        ("updates", 1),
        ("selects", 1),
        ("deletes", 1),
        ("others", 1),
        ("rows_out", 4),
        ("logins", 1),
        ("logins_failed", 1),
        ("wakes", 1),
        ("wakes_query", 1),
    ];
    amounts_to(&selkie, &project.id, &expected).await;
    let usage = total(&selkie, &project.id).await;
    assert!(usage["bytes_out"].as_i64() > Some(100), "{usage}");
    assert!(usage["cu_seconds"].as_f64() > Some(0.0), "{usage}");
    let csv = selkie.cli(&["usage", &project.id, "--csv"]).await.ok();
    assert!(csv.starts_with("from,to,compute_seconds,"), "{csv}");
}

#[tokio::test]
async fn usage_is_what_clients_did_after_kills_at_any_moment() {
    let mut selkie = Selkie::start().await;
    let (id, endpoint) = {
        let project = selkie.project("killed").await;
        (project.id.clone(), project.endpoint.clone())
    };
    let mut done = 0;
    for round in 1..=3 {
        let mut client = endpoint.connect().await;
        for _ in 0..round * 7 {
            harness::client::run(&mut client, "DO 1").await;
            done += 1;
        }
        // At another moment of the gateway's two seconds each time.
        selkie.crash();
        selkie.restart().await;
    }
    amounts_to(&selkie, &id, &[("others", done), ("logins", 3)]).await;
    let (clean, code) = selkie.stop();
    assert_eq!((clean, code), (true, Some(0)));
    selkie.restart().await;
    let waiting = selkie.metric("selkie_gateway_usage_windows_waiting").await;
    assert_eq!(waiting, 0.0, "a clean stop has told all");
}

#[tokio::test]
async fn statement_has_what_a_month_costs() {
    // A millisecond of a CU for one.
    let prices = "control.prices.currency = \"EUR\"\ncontrol.prices.cu_hour = 3600000\n\
                  control.prices.million_statements = \"100000.5\"\n";
    let selkie = Selkie::start_with(prices).await;
    let project = selkie.project("billed").await;
    let mut client = project.endpoint.connect().await;
    for _ in 0..3 {
        harness::client::run(&mut client, "DO 1").await;
    }
    client.disconnect().await.unwrap();
    project.suspend().await;
    amounts_to(&selkie, &project.id, &[("others", 3)]).await;
    let used = total(&selkie, &project.id).await;

    let statement = selkie.cli(&["usage", "statement", &project.id, "--json"]).await.json();
    assert_eq!(statement["open"], true, "{statement}");
    let line = |item: &str| {
        let lines = statement["lines"].as_array().unwrap();
        lines.iter().find(|line| line["item"] == item).unwrap().clone()
    };
    let compute = (used["cu_seconds"].as_f64().unwrap() * 1e3).round();
    let told: f64 = line("compute")["amount"].as_str().unwrap().parse().unwrap();
    assert!((told - compute).abs() <= 1.0 && told > 0.0, "{statement} of {used}");
    assert_eq!(line("statements")["amount"], "0.30", "{statement}");
    assert_eq!(line("bytes_out").get("amount"), None, "it has no price");

    let said = selkie.cli(&["usage", "statement", &project.id]).await.ok();
    assert!(said.contains(", open: until ") && said.contains("0.30 EUR"), "{said}");
    let csv = selkie.cli(&["usage", "statement", &project.id, "--csv"]).await.ok();
    assert!(
        csv.contains(",statements,0.000003,million,100000.5,0.30,EUR\n"),
        "{csv}"
    );
    let refused = selkie
        .cli(&["usage", "statement", &project.id, "--month", "2099-01"])
        .await;
    assert!(
        refused.code == Some(1) && refused.stderr.contains("has not begun"),
        "{refused:?}"
    );
}
