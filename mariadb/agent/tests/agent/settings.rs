use std::collections::BTreeMap;

use control_api::agent::{ApplyRequest, SettingsRequest};
use control_api::settings::{self, Applies, Kind, Value};
use mysql_async::prelude::Queryable;

use crate::stage::{Compute, Stage, account, template};

async fn reported(compute: &Compute) -> BTreeMap<String, String> {
    let mut agent = compute.agent().await;
    let reply = agent.settings(SettingsRequest {}).await.unwrap().into_inner();
    reply.values.into_iter().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// For each setting two values, as somebody would write them.
fn wishes(setting: &settings::Setting) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    match setting.kind {
        Kind::Switch => texts(&["on", "0"]),
        Kind::Whole { min, max, .. } => vec![min.to_string(), max.to_string()],
        Kind::Seconds { max } => vec!["0.25".into(), max.to_string()],
        Kind::Choice(words) => texts(words),
        Kind::Modes => texts(&[
            "",
            "ANSI",
            "TRADITIONAL",
            "ORACLE,MSSQL",
            "DB2,MAXDB,MYSQL40",
            "POSTGRESQL,MYSQL323",
        ]),
        Kind::TimeZone => texts(&["system", "-00:00", "+2:30", "europe/berlin"]),
        Kind::CharacterSet => texts(&["latin1", "utf8mb4"]),
        Kind::Collation => texts(&["utf8mb4_bin", "utf8mb4_uca1400_ai_ci"]),
    }
}

#[tokio::test]
async fn every_setting_is_reported_as_it_was_checked_live_and_after_a_start() {
    let offer = &template().await.offer;
    let mut stage = Stage::new().await;
    let compute = stage.ready().await;
    assert_eq!(reported(&compute).await, offer.defaults, "nothing is set yet");
    assert_eq!(offer.defaults.len(), settings::ALL.len(), "the server knows them all");
    let mut agent = compute.agent().await;
    let mut last = BTreeMap::new();
    for setting in settings::ALL {
        for wish in wishes(setting) {
            let value = setting.check(&Value::Text(wish.clone()), offer).unwrap();
            if setting.applies == Applies::Live {
                let request = ApplyRequest {
                    settings: [(setting.name.to_owned(), value.clone())].into(),
                    ..ApplyRequest::default()
                };
                agent
                    .apply(request)
                    .await
                    .unwrap_or_else(|why| panic!("{} = {value}: {why}", setting.name));
                assert_eq!(
                    reported(&compute).await[setting.name],
                    value,
                    "{} = {wish}",
                    setting.name
                );
            }
            last.insert(setting.name.to_owned(), value);
        }
    }
    compute.stop().await;
    stage.spec.settings = last.clone();
    let compute = stage.ready().await;
    assert_eq!(reported(&compute).await, last, "by the option file");
    compute.stop().await;
}

#[tokio::test]
async fn a_character_set_alone_brings_its_collation() {
    let mut stage = Stage::new().await;
    stage.spec.settings = pairs(&[("character_set_server", "latin1")]);
    let compute = stage.ready().await;
    assert_eq!(reported(&compute).await["collation_server"], "latin1_swedish_ci");
    compute.stop().await;
}

/// The smallest values end sessions and statements early; the agent's own go on, and so does its work.
#[tokio::test]
async fn settings_of_tenants_do_not_bind_the_agent() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("app", "a", false)];
    stage.spec.settings = pairs(&[
        ("max_statement_time", "0.000001"),
        ("sql_mode", "PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ORACLE"),
        ("wait_timeout", "1"),
        ("idle_transaction_timeout", "1"),
    ]);
    let compute = stage.ready().await;
    let mut app = compute.login("app", b"a").await.unwrap();
    let row: Option<(u32, f64)> = app
        .query_first("SET STATEMENT max_statement_time=0 FOR SELECT @@wait_timeout, @@global.max_statement_time")
        .await
        .unwrap();
    assert_eq!(row, Some((1, 0.000_001)));
    drop(app);
    // Once the server has ended a session of ours for idling, it would have ended the agent's as well.
    let _idle = compute.login("app", b"a").await.unwrap();
    let mut watcher = compute.login("app", b"a").await.unwrap();
    watcher.query_drop("SET SESSION max_statement_time=0").await.unwrap();
    let sessions = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE SLEEP(0.2) = 0";
    while watcher.query_first::<u32, _>(sessions).await.unwrap() != Some(1) {}
    assert_eq!(reported(&compute).await["wait_timeout"], "1");
    let mut agent = compute.agent().await;
    let request = ApplyRequest {
        databases: vec![control_api::agent::Database {
            name: "fresh".into(),
            absent: false,
        }],
        ..ApplyRequest::default()
    };
    let server = agent.apply(request).await.unwrap().into_inner().server.unwrap();
    assert_eq!(server.databases, ["fresh"]);
    compute.stop().await;
}

#[tokio::test]
async fn what_a_running_server_does_not_take_is_refused_whole() {
    let stage = Stage::new().await;
    let compute = stage.ready().await;
    let mut agent = compute.agent().await;
    let before = reported(&compute).await;
    for (name, value) in [("ft_min_word_len", "2"), ("socket", "/tmp/x"), ("wait_timeout", "'1'")] {
        let request = ApplyRequest {
            settings: [(name.to_owned(), value.to_owned())].into(),
            ..ApplyRequest::default()
        };
        assert!(agent.apply(request).await.is_err(), "{name}");
    }
    assert_eq!(reported(&compute).await, before);
    compute.stop().await;
}
