//! The wake ledger over REST.

use super::*;

#[tokio::test(start_paused = true)]
async fn ledger_tells_who_woke_it_and_for_how_long_it_ran() {
    let api = Api::with_demo().await;
    let (status, none) = api.get("/api/v1/projects/demo/wakes").await;
    assert_eq!((status, &none["wakes"]), (200, &json!([])));
    let id = crate::name::ProjectId::new("demo").unwrap();
    let by = control_api::rest::WokenBy {
        source: control_api::rest::WakeSource::Client,
        user: Some("ann".into()),
        client_address: Some("10.0.0.9:4711".into()),
        program_name: Some("shop".into()),
        command: Some("COM_QUERY".into()),
        key: None,
    };
    let told = json!({
        "source": "client", "user": "ann", "client_address": "10.0.0.9:4711", "program_name": "shop", "command": "COM_QUERY"
    });
    let second = std::time::Duration::from_secs(60);
    api.plane.computes().wake_for(&id, None, second, by).await.unwrap();
    let (_, awake) = api.get("/api/v1/projects/demo/wakes").await;
    assert_eq!(
        (&awake["wakes"][0]["by"], awake["wakes"][0].get("ended_at")),
        (&told, None)
    );
    assert!(!awake["kept_awake_by"].as_array().unwrap().is_empty(), "{awake}");
    api.post("/api/v1/projects/demo/compute/suspend", json!(null)).await;
    // Somebody who finds it awake wakes nobody.
    for _ in 0..2 {
        api.post("/api/v1/projects/demo/compute/wake", json!(null)).await;
    }
    let (_, ledger) = api.get("/api/v1/projects/demo/wakes").await;
    let wakes = ledger["wakes"].as_array().unwrap();
    let incarnations: Vec<_> = wakes.iter().map(|wake| wake["incarnation"].as_u64().unwrap()).collect();
    assert_eq!(incarnations, [2, 1]);
    assert_eq!(wakes[0]["by"], json!({"source": "api", "key": "test"}));
    assert_eq!(wakes[1]["by"], told);
    let moment = |name: &str| humantime::parse_rfc3339(wakes[1][name].as_str().unwrap()).unwrap();
    let ran = moment("ended_at")
        .duration_since(moment("ready_at"))
        .unwrap()
        .as_secs_f64();
    assert_eq!(wakes[1]["ran_seconds"], json!(ran));
    let (_, first) = api.get("/api/v1/projects/demo/wakes?limit=1").await;
    assert_eq!(
        (first["wakes"].as_array().unwrap().len(), &first["next"]),
        (1, &json!("2"))
    );
    let (_, last) = api.get("/api/v1/projects/demo/wakes?limit=1&after=2").await;
    assert_eq!((&last["wakes"][0]["incarnation"], last.get("next")), (&json!(1), None));
}

#[tokio::test]
async fn the_ledger_of_a_project_stays_when_it_is_deleted_and_is_not_of_the_next_of_its_name() {
    let api = Api::with_demo().await;
    let (_, made) = api.get("/api/v1/projects/demo").await;
    let first = made["created_at"].as_str().unwrap();
    for what in ["wake", "suspend", "wake"] {
        api.post(&format!("/api/v1/projects/demo/compute/{what}"), json!(null))
            .await;
    }
    let incarnations = async |path: &str| {
        let (status, ledger) = api.get(&format!("/api/v1/projects/demo/wakes{path}")).await;
        assert_eq!(status, 200, "{ledger}");
        let wakes = ledger["wakes"].as_array().unwrap().iter();
        let numbers: Vec<_> = wakes.map(|wake| wake["incarnation"].as_u64().unwrap()).collect();
        (numbers, ledger)
    };
    assert_eq!(api.call("DELETE", "/api/v1/projects/demo", None).await.0, 204);
    let (numbers, ledger) = incarnations("").await;
    assert_eq!(numbers, [2, 1], "without a time the last one is meant");
    assert!(ledger["wakes"][0]["ended_at"].is_string(), "{ledger}");
    assert_eq!(ledger["kept_awake_by"], json!([]));
    let (status, again) = api.post("/api/v1/projects", json!({"id": "demo"})).await;
    assert_eq!(status, 201, "{again}");
    assert_eq!(
        incarnations("").await.0,
        [0; 0],
        "without a time the one that there is is meant"
    );
    assert_eq!(incarnations(&format!("?created_at={first}&limit=1")).await.0, [2]);
    assert_eq!(
        incarnations(&format!("?created_at={first}&limit=1&after=2")).await.0,
        [1]
    );
    let (status, _) = api.get("/api/v1/projects/demo/wakes?created_at=2001-01-01").await;
    assert_eq!(status, 404);
}
