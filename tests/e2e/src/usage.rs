//! What clients did is on the bill, exactly once, whatever is killed.

use harness::{Endpoint, Selkie, eventually};
use serde_json::{Value, json};

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

/// Total and statement of the project of that name made then, without the moment at which they were asked for.
async fn bill(selkie: &Selkie, project: &str, created: &str) -> [Value; 2] {
    let created = created.replace(':', "%3A");
    let mut bill = [Value::Null, Value::Null];
    for (at, path) in ["usage?granularity=total", "usage/statement?format=json"]
        .iter()
        .enumerate()
    {
        let path = format!("/projects/{project}/{path}&created_at={created}");
        let answer = selkie.rest("GET", &path, None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        bill[at] = answer.json();
        bill[at].as_object_mut().unwrap().remove("as_of");
    }
    bill
}

/// Makes the project and has a client do these; when it was made.
async fn live(selkie: &Selkie, id: &str, endpoint: &Endpoint, statements: &[&str]) -> String {
    let user = json!({"name": "app", "password": endpoint.password});
    let body = json!({"id": id, "user": user, "database": "app", "size_cu": 0.5});
    let made = selkie.rest("POST", "/projects", Some(&body)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let mut client = endpoint.connect().await;
    for statement in statements {
        harness::client::run(&mut client, statement).await;
    }
    client.disconnect().await.unwrap();
    made.json()["created_at"].as_str().unwrap().to_owned()
}

async fn delete(selkie: &Selkie, id: &str) {
    let gone = selkie.cli(&["project", "delete", id, "--yes"]).await;
    assert_eq!(gone.code, Some(0), "{gone:?}");
}

/// As a clean stop tells all, nothing is to come after it.
async fn settle(selkie: &mut Selkie) {
    assert_eq!(selkie.stop(), (true, Some(0)));
    selkie.restart().await;
}

#[tokio::test]
async fn a_bill_outlives_its_project_and_is_not_of_the_next_of_its_name() {
    let mut selkie = Selkie::start_with("control.prices.currency = \"EUR\"\ncontrol.prices.cu_hour = 3600000\n").await;
    let id = "again";
    let endpoint = Endpoint {
        user: format!("{id}.app"),
        password: "of every again".into(),
        database: "app".into(),
        ..selkie.demo()
    };
    let first = live(
        &selkie,
        id,
        &endpoint,
        &["CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1), (2)"],
    )
    .await;
    let asleep = selkie.cli(&["compute", "suspend", id]).await;
    assert_eq!(asleep.code, Some(0), "{asleep:?}");
    settle(&mut selkie).await;
    let mut before = bill(&selkie, id, &first).await;
    let ran = |bill: &[Value; 2]| bill[0]["periods"][0]["cu_seconds"].as_f64().unwrap();
    assert!(ran(&before) > 0.0, "{before:?}");

    delete(&selkie, id).await;
    let gone = selkie.cli(&["project", "list", "--deleted", "--json"]).await.json();
    assert_eq!(
        (&gone[0]["id"], &gone[0]["created_at"]),
        (&json!(id), &json!(first)),
        "{gone}"
    );
    for of in &mut before {
        of["deleted_at"] = gone[0]["deleted_at"].clone();
    }
    assert_eq!(bill(&selkie, id, &first).await, before);

    // One after the other, in one minute of the gateway as a rule, and each with a compute that its deletion stops.
    let second = live(&selkie, id, &endpoint, &["SELECT 1", "SELECT 2"]).await;
    delete(&selkie, id).await;
    let third = live(&selkie, id, &endpoint, &["DO 1"]).await;
    delete(&selkie, id).await;
    settle(&mut selkie).await;
    let [second, third] = [bill(&selkie, id, &second).await, bill(&selkie, id, &third).await];
    for (bill, counts) in [(&second, (2, 0)), (&third, (0, 1))] {
        let total = &bill[0]["periods"][0];
        assert_eq!(
            (&total["selects"], &total["others"]),
            (&json!(counts.0), &json!(counts.1)),
            "{total}"
        );
        assert_eq!(
            (&total["logins"], &total["wakes"], &total["ddl"]),
            (&json!(1), &json!(1), &json!(0)),
            "{total}"
        );
        assert!(ran(bill) > 0.0, "{total}");
    }
    assert_eq!(bill(&selkie, id, &first).await, before, "to the last unit");
    let args = ["usage", "statement", id, "--created-at", &first];
    let said = selkie.cli(&args).await.ok();
    assert!(
        said.contains(&format!("created  {first}")) && said.contains("deleted  "),
        "{said}"
    );
}
