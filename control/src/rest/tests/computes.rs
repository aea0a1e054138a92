//! Computes and operations.

use super::*;

#[tokio::test]
async fn wake_and_suspend_answer_when_done() {
    let api = Api::with_demo().await;
    let compute = "/api/v1/projects/demo/compute";
    let (status, woken) = api.call("POST", &format!("{compute}/wake"), None).await;
    assert_eq!(
        (status, &woken["state"], &woken["incarnation"]),
        (200, &json!("ready"), &json!(1))
    );
    assert_eq!(api.get(compute).await.1["state"], "ready");
    let (status, suspended) = api.call("POST", &format!("{compute}/suspend"), None).await;
    assert_eq!((status, &suspended["state"]), (200, &json!("suspended")));
    assert_eq!(suspended["kept_awake_by"], json!([]));
    assert_eq!(
        api.call("POST", "/api/v1/projects/nope/compute/wake", None).await.1["code"],
        "project_not_found"
    );
}

#[tokio::test]
async fn failed_wake_is_a_problem_with_the_reason() {
    let api = Api::with_demo().await;
    let fails = Start::Fails(std::time::Duration::ZERO, "mariadbd: not found");
    api.plane.driver.starts.lock().unwrap().push_back(fails);
    let (status, problem) = api.call("POST", "/api/v1/projects/demo/compute/wake", None).await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("compute_failed")));
    assert!(problem["detail"].as_str().unwrap().contains("mariadbd: not found"));
    let (_, compute) = api.get("/api/v1/projects/demo/compute").await;
    assert_eq!(
        (&compute["state"], &compute["reason"]),
        (&json!("failed"), &json!("mariadbd: not found"))
    );
}

#[tokio::test]
async fn operations_are_listed_the_latest_first_and_shown_also_when_the_project_is_gone() {
    let api = Api::with_demo().await;
    api.post("/api/v1/projects/demo/compute/wake", Value::Null).await;
    let ended = async || {
        while !api.plane.store.open_operations().await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended())
        .await
        .unwrap();
    let (status, page) = api.get("/api/v1/projects/demo/operations?limit=1").await;
    assert_eq!(status, 200);
    let start = &page["operations"][0];
    assert_eq!(
        (&start["kind"], &start["state"], &start["incarnation"]),
        (&json!("start"), &json!("done"), &json!(1))
    );
    assert!(start["ended_at"].is_string() && start.get("error").is_none());
    let next = page["next"].as_str().unwrap();
    let (_, rest) = api.get(&format!("/api/v1/projects/demo/operations?after={next}")).await;
    assert_eq!(
        (&rest["operations"][0]["kind"], &rest["next"]),
        (&json!("create"), &Value::Null)
    );

    api.call("DELETE", "/api/v1/projects/demo", None).await;
    assert_eq!(api.get("/api/v1/projects/demo/operations").await.0, 404);
    let (status, shown) = api
        .get(&format!("/api/v1/operations/{}", start["id"].as_str().unwrap()))
        .await;
    assert_eq!((status, &shown["project"]), (200, &json!("demo")));
    let (status, problem) = api.get("/api/v1/operations/none").await;
    assert_eq!((status, &problem["code"]), (404, &json!("operation_not_found")));
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_compute_awake_and_what_it_did_are_told() {
    let api = Api::new().await;
    api.post("/api/v1/projects", json!({"id": "demo"})).await;
    api.post("/api/v1/projects/demo/compute/wake", json!({})).await;
    let (_, ready) = api.get("/api/v1/projects/demo/compute").await;
    assert_eq!(ready["kept_awake_by"], json!(["not idle for long enough: 300 s left"]));
    api.post("/api/v1/projects/demo/compute/suspend", json!({})).await;
    let (_, log) = api.get("/api/v1/projects/demo/compute/transitions?limit=2").await;
    assert_eq!(log["transitions"][0]["to"], "suspended");
    assert_eq!(
        log["transitions"][1]["reason"],
        "the compute is being suspended on request"
    );
    let next = log["next"].as_str().unwrap();
    let path = "/api/v1/projects/demo/compute/transitions";
    let (_, rest) = api.get(&format!("{path}?after={next}")).await;
    assert_eq!(
        (&rest["transitions"][0]["to"], &rest["next"]),
        (&json!("ready"), &Value::Null)
    );
    let (status, refused) = api.get(&format!("{path}?after=x")).await;
    assert_eq!((status, refused["code"].as_str()), (400, Some("invalid_query")));
}

#[tokio::test]
async fn a_key_of_a_project_sees_nothing_of_an_earlier_one_of_its_name() {
    let api = Api::with_demo().await;
    let demo = "/api/v1/projects/demo";
    api.post(&format!("{demo}/compute/wake"), Value::Null).await;
    let (_, before) = api.get(&format!("{demo}/operations")).await;
    let old = format!("/api/v1/operations/{}", before["operations"][0]["id"].as_str().unwrap());
    let (_, transitions) = api.get(&format!("{demo}/compute/transitions")).await;
    assert!(!transitions["transitions"].as_array().unwrap().is_empty());
    api.call("DELETE", demo, None).await;

    assert_eq!(api.post("/api/v1/projects", json!({"id": "demo"})).await.0, 201);
    let (_, key) = api
        .post(
            "/api/v1/keys",
            json!({"name": "tenant", "scope": "project", "project": "demo"}),
        )
        .await;
    let tenant = api.with_key(key["key"].as_str().unwrap());
    let (_, transitions) = tenant.get(&format!("{demo}/compute/transitions")).await;
    assert_eq!(transitions["transitions"], json!([]));
    let (_, operations) = tenant.get(&format!("{demo}/operations")).await;
    let kinds: Vec<_> = operations["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(kinds, ["create"]);
    let own = format!(
        "/api/v1/operations/{}",
        operations["operations"][0]["id"].as_str().unwrap()
    );
    assert_eq!((tenant.get(&own).await.0, tenant.get(&old).await.0), (200, 404));
    assert_eq!(api.get(&old).await.0, 200, "operators see it");
}
