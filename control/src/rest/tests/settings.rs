//! Settings over REST.

use serde_json::json;

use super::Api;

const SETTINGS: &str = "/api/v1/projects/demo/settings";

#[tokio::test(start_paused = true)]
async fn settings_are_listed_set_applied_and_unset() {
    let api = Api::with_demo().await;
    let (status, list) = api.get(SETTINGS).await;
    assert_eq!(status, 200);
    let names: Vec<_> = list["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), control_api::settings::ALL.len());
    assert!(names.is_sorted());

    let one = format!("{SETTINGS}/wait_timeout");
    let (_, unset) = api.get(&one).await;
    assert_eq!(
        (
            &unset["value"],
            &unset["is_set"],
            &unset["default"],
            unset.get("running")
        ),
        (&json!("28800"), &json!(false), &json!("28800"), None)
    );
    let (status, set) = api.call("PUT", &one, Some(json!({"value": 60}))).await;
    assert_eq!(
        (status, &set["value"], &set["is_set"]),
        (200, &json!("60"), &json!(true))
    );

    api.post("/api/v1/projects/demo/compute/wake", json!(null)).await;
    assert_eq!(api.get(&one).await.1["running"], "60", "the start brings it");
    let (status, changed) = api
        .call(
            "PATCH",
            SETTINGS,
            Some(json!({"wait_timeout": "61", "Ft-Min-Word-Len": 3})),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(changed["settings"].as_array().unwrap().len(), 2);
    assert_eq!(api.get(&one).await.1["running"], "61", "live");
    let (_, word) = api.get(&format!("{SETTINGS}/ft_min_word_len")).await;
    assert_eq!(
        (&word["value"], &word["running"], &word["applies"]),
        (&json!("3"), &json!("4"), &json!("next_start"))
    );

    let (_, left) = api
        .call("PUT", SETTINGS, Some(json!({"sql_mode": "ansi_quotes"})))
        .await;
    assert_eq!(left["settings"][0]["value"], "ANSI_QUOTES");
    assert_eq!(left["settings"].as_array().unwrap().len(), 1, "all others are unset");
    assert_eq!(api.get(&one).await.1["running"], "28800");
    let (status, gone) = api.call("DELETE", &format!("{SETTINGS}/sql_mode"), None).await;
    assert_eq!(
        (status, &gone["value"], &gone["is_set"]),
        (200, &json!(""), &json!(false))
    );
}

#[tokio::test]
async fn wrong_settings_are_refused_by_name_and_nothing_is_kept() {
    let api = Api::with_demo().await;
    for (body, code, word) in [
        (json!({"socket": "/tmp/x"}), "setting_not_allowed", "`socket`"),
        (
            json!({"innodb_buffer_pool_size": "1G"}),
            "setting_not_allowed",
            "size_cu",
        ),
        (
            json!({"wait_timeout": 60, "sql_mode": "NONE_SUCH"}),
            "invalid_setting",
            "NONE_SUCH",
        ),
        (
            json!({"max_allowed_packet": 70_000}),
            "invalid_setting",
            "multiple of 1024",
        ),
        (
            json!({"collation_server": "latin1_swedish_ci"}),
            "invalid_setting",
            "change both",
        ),
        (json!({"time_zone": "Mars/Olympus"}), "invalid_setting", "Mars/Olympus"),
    ] {
        for method in ["PUT", "PATCH"] {
            let (status, problem) = api.call(method, SETTINGS, Some(body.clone())).await;
            assert_eq!(
                (status, problem["code"].as_str()),
                (422, Some(code)),
                "{method} {body}: {problem}"
            );
            assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
        }
    }
    let both = json!({"character_set_server": "latin1", "collation_server": "latin1_swedish_ci"});
    assert_eq!(api.call("PATCH", SETTINGS, Some(both)).await.0, 200);
    let (status, problem) = api
        .call("DELETE", &format!("{SETTINGS}/character_set_server"), None)
        .await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (422, Some("invalid_setting")),
        "its collation would be left"
    );
    assert_eq!(api.get(&format!("{SETTINGS}/socket")).await.0, 422);
    assert_eq!(api.call("PATCH", SETTINGS, Some(json!({"sql_mode": []}))).await.0, 400);
    assert_eq!(
        api.get("/api/v1/projects/nope/settings").await.1["code"],
        "project_not_found"
    );
    let access = api.plane.store_access().await;
    assert_eq!(access.settings.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_gateways_answer_for_a_sleeping_server_is_what_the_next_start_says() {
    let api = Api::with_demo().await;
    let said = |name: &str| {
        let id = crate::name::ProjectId::new("demo").unwrap();
        let message = api.plane.publisher().message(&id).unwrap();
        message.server.as_ref().unwrap().variables.get(name).cloned()
    };
    let mut observed = crate::testing::observed(&[]);
    let variables = [
        ("wait_timeout", "28800"),
        ("collation_connection", "utf8mb4_general_ci"),
        ("license", "GPL"),
    ];
    observed.variables = variables.map(|(name, value)| (name.into(), value.into())).into();
    api.plane
        .publisher()
        .set_fresh_server(&observed, std::sync::Arc::new(crate::testing::offer()));
    assert_eq!(said("wait_timeout").as_deref(), Some("28800"));
    let body = json!({"wait_timeout": 60, "character_set_server": "latin1"});
    assert_eq!(api.call("PATCH", SETTINGS, Some(body)).await.0, 200);
    assert_eq!(said("wait_timeout").as_deref(), Some("60"));
    assert_eq!(said("collation_connection").as_deref(), Some("latin1_swedish_ci"));
    assert_eq!(said("license").as_deref(), Some("GPL"));
    api.call("PUT", SETTINGS, Some(json!({}))).await;
    assert_eq!(said("wait_timeout").as_deref(), Some("28800"));
}
