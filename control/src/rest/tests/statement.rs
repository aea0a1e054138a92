//! Statements over REST.

use control_api::control as proto;

use super::*;
use crate::clock;

const PATH: &str = "/api/v1/projects/demo/usage/statement";

/// With 2.5 million statements and 1.5 GiB out this month.
async fn with_usage() -> Api {
    let api = Api::with_demo().await;
    let window = proto::UsageWindow {
        sequence: 1,
        start_ms: clock::now(),
        end_ms: clock::now() + 60_000,
        projects: vec![proto::ProjectUsage {
            project: "demo".into(),
            selects: 2_000_000,
            others: 500_000,
            bytes_out: 3 << 29,
            ..Default::default()
        }],
    };
    let usage = proto::UsageReport {
        gateway_id: "g".into(),
        closed: vec![window],
        open: None,
    };
    api.plane.projects.usage.report(usage).await.unwrap();
    api
}

#[tokio::test]
async fn statement_of_this_month_is_open_and_reckons_by_the_prices() {
    let api = with_usage().await;
    let (status, statement) = api.get(PATH).await;
    assert_eq!(status, 200, "{statement}");
    assert_eq!(
        (&statement["open"], &statement["currency"], &statement["month"]),
        (&json!(true), &json!("EUR"), &json!(clock::rfc3339(clock::now())[..7]))
    );
    let line = |item: &str, quantity: &str, unit: &str, price: &str, amount: &str| json!({"item": item, "quantity": quantity, "unit": unit, "price": price, "amount": amount});
    let expected = json!([
        line("compute", "0.000000", "CU hour", "0.16", "0.00"),
        line("statements", "2.500000", "million", "0.2", "0.50"),
        // 0.135
        line("bytes_out", "1.500000", "GiB", "0.09", "0.14"),
    ]);
    assert_eq!(statement["lines"], expected);
    assert_eq!(statement["total"], "0.64", "the sum of what is shown");
}

#[tokio::test]
async fn statement_of_a_month_that_is_over_is_closed_and_has_nothing_of_others() {
    let api = with_usage().await;
    let last = clock::rfc3339(clock::now() - 31 * 24 * 3_600_000);
    let (status, statement) = api.get(&format!("{PATH}?month={}", &last[..7])).await;
    assert_eq!(
        (status, &statement["open"], &statement["total"]),
        (200, &json!(false), &json!("0.00"))
    );
    for (query, words) in [
        ("month=2099-01", "has not begun"),
        ("month=2020-01", "400 days"),
        ("month=november", "must be a month such as 2026-11"),
        ("mont=2026-11", "mont"),
    ] {
        let (status, problem) = api.get(&format!("{PATH}?{query}")).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_query")), "{query}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    assert_eq!(api.get("/api/v1/projects/none/usage/statement").await.0, 404);
}

#[tokio::test]
async fn statement_is_a_table_for_who_wants_one() {
    let api = with_usage().await;
    let request = Request::get(format!("{PATH}?format=csv")).header("authorization", format!("Bearer {KEY}"));
    let (status, kind, body) = api.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((status, kind.as_str()), (200, "text/csv"));
    let body = String::from_utf8(body).unwrap();
    let lines: Vec<Vec<_>> = body.lines().map(|line| line.split(',').collect()).collect();
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{body}");
    assert_eq!(
        lines[2][3..],
        ["true", "statements", "2.500000", "million", "0.2", "0.50", "EUR"]
    );
    assert_eq!(lines[4][4..], ["total", "", "", "", "0.64", "EUR"]);
}
