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
