//! Who woke a database, for how long it ran, and who keeps it awake now, is written down.

use harness::raw::{Kind, Login, caps};
use harness::{Raw, Selkie, eventually};
use serde_json::{Value, json};

async fn ledger(selkie: &Selkie, project: &str, query: &str) -> Value {
    let answer = selkie
        .rest("GET", &format!("/projects/{project}/wakes{query}"), None)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn ledger_names_the_client_that_woke_it_and_the_key_that_did() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("ledger").await;
    let login = Login {
        caps: caps::USUAL | caps::CONNECT_ATTRS,
        attributes: vec![("program_name".into(), "shop-web".into())],
        ..Login::default()
    };
    let mut shop = Raw::login_with(&project.endpoint, login).await;
    shop.command(0x16, b"SELECT ?").await; // COM_STMT_PREPARE
    assert_eq!(shop.response(Kind::Prepare).await.error(), None);

    let now = ledger(selkie, &project.id, "").await;
    let [wake] = &now["wakes"].as_array().unwrap()[..] else {
        panic!("not one wake: {now}")
    };
    let by = &wake["by"];
    assert_eq!(
        [&by["source"], &by["user"], &by["program_name"], &by["command"]],
        ["client", "app", "shop-web", "COM_STMT_PREPARE"],
        "{now}"
    );
    let address = by["client_address"].as_str().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!(
        (wake["incarnation"].as_u64(), wake.get("ended_at")),
        (Some(1), None),
        "{now}"
    );

    // What it is needed for stands in the ledger as long as it lasts.
    shop.query("BEGIN").await.ok();
    shop.query("DO GET_LOCK('ledger', 0)").await.ok();
    let needs = eventually("the ledger says who keeps it awake", async || {
        let now = ledger(selkie, &project.id, "").await;
        let by = now["kept_awake_by"].as_array().unwrap().clone();
        by.into_iter()
            .find(|by| by.as_str().unwrap().contains("of app from 127.0.0.1:"))
    })
    .await;
    let said = selkie.cli(&["wakes", &project.id]).await.ok();
    assert!(
        said.contains("shop-web") && said.contains("COM_STMT_PREPARE") && said.contains(" runs"),
        "{said}"
    );
    assert!(said.contains("kept awake by session "), "{said}; REST said {needs}");

    drop(shop);
    project.suspend().await;
    project.wake().await;
    let after = ledger(selkie, &project.id, "").await;
    let wakes = after["wakes"].as_array().unwrap();
    assert_eq!(wakes[0]["by"], json!({"source": "api", "key": "up"}), "{after}");
    assert_eq!(wakes[1]["by"], wake["by"], "{after}");
    assert!(wakes[1]["ran_seconds"].as_f64().unwrap() > 0.0, "{after}");
    assert!(wakes[1]["ended_at"].is_string(), "{after}");
    // Whatever was asked for comes in as many pages as it takes.
    let first = ledger(selkie, &project.id, "?limit=1").await;
    let second = ledger(
        selkie,
        &project.id,
        &format!("?limit=1&after={}", first["next"].as_str().unwrap()),
    )
    .await;
    // How long it ran has grown meanwhile.
    let told = |wake: &Value| (wake["incarnation"].clone(), wake["by"].clone());
    assert_eq!(
        [told(&first["wakes"][0]), told(&second["wakes"][0])],
        [told(&wakes[0]), told(&wakes[1])]
    );
    let said = selkie
        .cli(&["wakes", &project.id, "--limit", "1", "--json"])
        .await
        .json();
    assert_eq!(said["wakes"].as_array().unwrap().len(), 1, "{said}");
    let said = selkie.cli(&["wakes", &project.id]).await.ok();
    assert!(said.contains("API key up") && said.contains("shop-web"), "{said}");
    selkie.logs.check();
}
