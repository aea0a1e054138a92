//! Projects, their users and databases.

use super::*;

#[tokio::test]
async fn project_is_made_shown_listed_and_removed() {
    let api = Api::new().await;
    let body = json!({
        "id": "demo", "size_cu": 0.5, "wake_timeout": "30s",
        "user": {"name": "app", "admin": true}, "database": "shop"
    });
    let (status, created) = api.post("/api/v1/projects", body).await;
    assert_eq!(status, 201);
    assert_eq!(created["user"]["name"], "app");
    assert_eq!(
        created["user"]["password"].as_str().unwrap().len(),
        24,
        "generated, so told"
    );
    assert_eq!(created["database"], json!({"name": "shop", "made_by_api": true}));

    let (status, shown) = api.get("/api/v1/projects/demo").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&shown["size_cu"], &shown["wake_timeout"]),
        (&json!(0.5), &json!("30s"))
    );
    assert_eq!(
        (&shown["compute"]["state"], &shown["compute"]["incarnation"]),
        (&json!("suspended"), &json!(0))
    );
    assert!(shown.get("user").is_none());
    let whole = api.plane.store.whole_projects(None, 1).await.unwrap();
    assert_eq!(whole[0].record.uid, Some(200_000));

    api.post("/api/v1/projects", json!({"id": "another"})).await;
    let (_, page) = api.get("/api/v1/projects?limit=1").await;
    assert_eq!(
        (&page["projects"][0]["id"], &page["next"]),
        (&json!("another"), &json!("another"))
    );
    let (_, page) = api.get("/api/v1/projects?after=another").await;
    assert_eq!(page["projects"][0]["id"], "demo");
    assert!(page.get("next").is_none());

    assert_eq!(api.call("DELETE", "/api/v1/projects/demo", None).await.0, 204);
    assert_eq!(api.get("/api/v1/projects/demo").await.0, 404);
}

#[tokio::test]
async fn users_are_made_shown_and_removed_and_passwords_are_told_only_when_generated() {
    let api = Api::with_demo().await;
    let users = "/api/v1/projects/demo/users";
    let (status, created) = api
        .post(users, json!({"name": "first.last", "password": "secret"}))
        .await;
    assert_eq!(
        (status, &created["name"], &created["admin"]),
        (201, &json!("first.last"), &json!(false))
    );
    assert!(created.get("password").is_none());
    let (_, generated) = api.post(users, json!({"name": "app"})).await;
    assert!(generated["password"].is_string());
    assert_eq!(api.post(users, json!({"name": "app"})).await.1["code"], "user_exists");

    let (_, list) = api.get(users).await;
    let names: Vec<_> = list["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["name"].clone())
        .collect();
    assert_eq!(names, ["app", "first.last"]);
    assert_eq!(api.get(&format!("{users}/app")).await.1["name"], "app");
    assert_eq!(api.call("DELETE", &format!("{users}/app"), None).await.0, 204);
    assert_eq!(api.get(&format!("{users}/app")).await.1["code"], "user_not_found");
    assert_eq!(
        api.call("DELETE", &format!("{users}/app"), None).await.1["code"],
        "user_not_found"
    );
}

#[tokio::test]
async fn databases_are_made_listed_and_removed() {
    let api = Api::with_demo().await;
    let databases = "/api/v1/projects/demo/databases";
    let (status, created) = api.post(databases, json!({"name": "shop"})).await;
    assert_eq!((status, created), (201, json!({"name": "shop", "made_by_api": true})));
    assert_eq!(
        api.post(databases, json!({"name": "shop"})).await.1["code"],
        "database_exists"
    );
    let id = crate::name::ProjectId::new("demo").unwrap();
    api.plane
        .store
        .set_observed(&id, &crate::testing::observed(&["by_sql", "shop"]))
        .await
        .unwrap();
    let (_, list) = api.get(databases).await;
    let expected = json!([{"name": "by_sql", "made_by_api": false}, {"name": "shop", "made_by_api": true}]);
    assert_eq!(list["databases"], expected);
    assert_eq!(api.call("DELETE", &format!("{databases}/shop"), None).await.0, 204);
    let (_, list) = api.get(databases).await;
    assert_eq!(list["databases"], json!([{"name": "by_sql", "made_by_api": false}]));
    assert_eq!(
        api.call("DELETE", &format!("{databases}/shop"), None).await.1["code"],
        "database_not_found"
    );
}

#[tokio::test]
async fn a_project_that_is_full_takes_no_more_users_and_databases_and_says_why() {
    let api = Api::with_demo().await;
    let id = crate::name::ProjectId::new("demo").unwrap();
    let large = crate::accounts::ObservedAccount {
        user: "large".into(),
        host: "%".into(),
        native_sha1: vec!["11".repeat(20)],
        patterns: vec!["d".repeat(crate::weight::PROJECT_BYTES_MAX - 100)],
        ..Default::default()
    };
    let observed = crate::store::Observed {
        accounts: vec![large],
        ..Default::default()
    };
    api.plane.store.set_observed(&id, &observed).await.unwrap();
    let project = "/api/v1/projects/demo";
    for (what, name) in [("users", "u".repeat(80)), ("databases", "d".repeat(64))] {
        let (status, problem) = api.post(&format!("{project}/{what}"), json!({ "name": name })).await;
        assert_eq!(
            (status, &problem["code"]),
            (409, &json!("project_too_large")),
            "{problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("4194304"), "{detail}");
        let (_, list) = api.get(&format!("{project}/{what}")).await;
        assert!(!list.to_string().contains(&name), "{list}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_project_sleeps_is_changed_field_by_field_and_goes_back_to_the_default() {
    let api = Api::new().await;
    api.post("/api/v1/projects", json!({"id": "demo"})).await;
    let patch = async |body: Value| api.call("PATCH", "/api/v1/projects/demo", Some(body)).await;
    let (status, made) = api.get("/api/v1/projects/demo").await;
    assert_eq!((status, made.get("suspend_after")), (200, None));
    let (status, never) = patch(json!({"suspend_after": "never"})).await;
    assert_eq!((status, never["suspend_after"].as_str()), (200, Some("never")));
    let (_, pinned) = patch(json!({"pinned_idle_timeout": "90s"})).await;
    assert_eq!(pinned["pinned_idle_timeout"], "1m 30s");
    assert_eq!(pinned["suspend_after"], "never", "what is absent stays");
    let demo = crate::name::ProjectId::new("demo").unwrap();
    let told = api.plane.publisher().message(&demo).unwrap();
    assert_eq!(told.pinned_idle_timeout_ms, 90_000);
    let (_, default) = patch(json!({"suspend_after": null, "pinned_idle_timeout": null})).await;
    assert!(default.get("suspend_after").is_none() && default.get("pinned_idle_timeout").is_none());
    for (bad, part) in [
        (json!({"suspend_after": "9s"}), "between 10s and 7d, or \"never\""),
        (json!({"suspend_after": "8d"}), "suspend_after"),
        (json!({"pinned_idle_timeout": "never"}), "pinned_idle_timeout"),
    ] {
        let (status, told) = patch(bad).await;
        assert_eq!((status, told["code"].as_str()), (400, Some("invalid_duration")));
        assert!(told["detail"].as_str().unwrap().contains(part), "{told}");
    }
    assert_eq!(api.call("PATCH", "/api/v1/projects/none", Some(json!({}))).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn another_size_is_that_of_the_next_start_and_another_wake_timeout_holds_at_once() {
    let api = Api::with_demo().await;
    let patch = async |body: Value| api.call("PATCH", "/api/v1/projects/demo", Some(body)).await;
    let compute = async |what: &str| {
        api.post(&format!("/api/v1/projects/demo/compute/{what}"), json!(null))
            .await
    };
    let sizes = |shown: &Value| (shown["size_cu"].as_f64(), shown["compute"]["size_cu"].as_f64());
    let cu = || api.plane.publisher().count().1;
    compute("wake").await;
    let (status, changed) = patch(json!({"size_cu": 2, "wake_timeout": "90s"})).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(sizes(&changed), (Some(2.0), Some(0.25)), "it runs on as it is");
    assert_eq!(cu(), 0.25);
    let wake_timeout = || {
        let demo = crate::name::ProjectId::new("demo").unwrap();
        api.plane.publisher().message(&demo).unwrap().wake_timeout_ms
    };
    assert_eq!(
        (changed["wake_timeout"].as_str(), wake_timeout()),
        (Some("1m 30s"), 90_000)
    );
    let (_, asleep) = compute("suspend").await;
    assert_eq!(asleep["size_cu"], 2.0, "that of the next start");
    let (_, woken) = compute("wake").await;
    assert_eq!((woken["size_cu"].as_f64(), cu()), (Some(2.0), 2.0));
    let (_, other) = patch(json!({"suspend_after": "10s"})).await;
    assert_eq!(
        (sizes(&other), wake_timeout()),
        ((Some(2.0), Some(2.0)), 90_000),
        "what is absent stays"
    );
    for (bad, code, part) in [
        (json!({"size_cu": 0}), "invalid_size", "between 0.05 and 256"),
        (
            json!({"size_cu": 257, "wake_timeout": "5s"}),
            "invalid_size",
            "size_cu = 257",
        ),
        (json!({"wake_timeout": "11m"}), "invalid_duration", "between 1s and 10m"),
        (
            json!({"wake_timeout": "soon", "size_cu": 1}),
            "invalid_duration",
            "wake_timeout",
        ),
    ] {
        let (status, told) = patch(bad).await;
        assert_eq!((status, told["code"].as_str()), (400, Some(code)));
        assert!(told["detail"].as_str().unwrap().contains(part), "{told}");
    }
    assert_eq!(wake_timeout(), 90_000, "what is refused in one part changes nothing");
    let (_, default) = patch(json!({"size_cu": null, "wake_timeout": null})).await;
    assert_eq!(sizes(&default), (Some(0.25), Some(2.0)));
    assert!(
        default.get("wake_timeout").is_none() && wake_timeout() == 0,
        "{default}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_clients_may_come_from_is_changed_and_told_to_gateways() {
    let api = Api::new().await;
    api.post("/api/v1/projects", json!({"id": "demo"})).await;
    let patch = async |body: Value| api.call("PATCH", "/api/v1/projects/demo", Some(body)).await;
    let told = || {
        let demo = crate::name::ProjectId::new("demo").unwrap();
        api.plane.publisher().message(&demo).unwrap().allowed_networks.clone()
    };
    let (_, made) = api.get("/api/v1/projects/demo").await;
    assert!(
        made.get("allowed_networks").is_none() && told().is_empty(),
        "from anywhere"
    );
    let (status, changed) = patch(json!({"allowed_networks": ["192.0.2.7/32", "10.0.0.0/8", "10.0.0.0/8"]})).await;
    assert_eq!(
        (status, &changed["allowed_networks"]),
        (200, &json!(["10.0.0.0/8", "192.0.2.7"]))
    );
    assert_eq!(told(), ["10.0.0.0/8", "192.0.2.7"]);
    let (_, other) = patch(json!({"suspend_after": "10s"})).await;
    assert_eq!(
        other["allowed_networks"], changed["allowed_networks"],
        "what is absent stays"
    );
    for (bad, part) in [
        (json!([]), "null lets in from anywhere"),
        (json!(["10.1.2.3/8"]), "write \"10.0.0.0/8\""),
        (json!(["localhost"]), "is not a network"),
        (json!(vec!["10.0.0.0/8"; 257]), "at most 256"),
    ] {
        let (status, told) = patch(json!({"allowed_networks": bad})).await;
        assert_eq!((status, told["code"].as_str()), (400, Some("invalid_network")));
        assert!(told["detail"].as_str().unwrap().contains(part), "{told}");
    }
    assert_eq!(told().len(), 2, "a refused list changes nothing");
    let (_, anywhere) = patch(json!({"allowed_networks": null})).await;
    assert!(anywhere.get("allowed_networks").is_none() && told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_project_may_be_made_closed_to_all_networks_but_some() {
    let api = Api::new().await;
    let create = async |id: &str, networks: Value| {
        let body = json!({"id": id, "allowed_networks": networks});
        api.post("/api/v1/projects", body).await
    };
    let (status, made) = create("closed", json!(["192.0.2.7/32", "10.0.0.0/8"])).await;
    assert_eq!(
        (status, &made["allowed_networks"]),
        (201, &json!(["10.0.0.0/8", "192.0.2.7"]))
    );
    for (bad, part) in [
        (json!([]), "null lets in from anywhere"),
        (json!(["10.1.2.3/8"]), "write \"10.0.0.0/8\""),
    ] {
        let (status, refused) = create("refused", bad).await;
        assert_eq!((status, refused["code"].as_str()), (400, Some("invalid_network")));
        assert!(refused["detail"].as_str().unwrap().contains(part), "{refused}");
        assert_eq!(api.get("/api/v1/projects/refused").await.0, 404, "and is not there");
    }
    let (_, open) = create("open", Value::Null).await;
    assert!(open.get("allowed_networks").is_none());
    let closed = crate::name::ProjectId::new("closed").unwrap();
    assert_eq!(
        api.plane.publisher().message(&closed).unwrap().allowed_networks.len(),
        2
    );
}
