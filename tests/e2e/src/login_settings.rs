//! What drivers send by themselves while connecting is answered without waking, byte for byte as the real server does,
//! and holds once the database is awake.

use harness::raw::{Login, Response, caps};
use harness::{Raw, Selkie};

use crate::oracle::{in_order, oracle};

/// What the drivers of tests/clients send, as a server's general log showed it.
const TEXTS: &[&str] = &[
    "SET NAMES utf8mb4",
    "SET NAMES utf8",
    "SET NAMES latin1",
    "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_general_ci'",
    "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
    "SET AUTOCOMMIT = 0",
    "SET AUTOCOMMIT = 1",
    "SET autocommit=0",
    "SET autocommit=1",
    "SET @@session.autocommit = OFF",
    "SET @@session.autocommit = ON",
    "SET sql_mode=(SELECT CONCAT(@@sql_mode, ',PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION')),time_zone='+00:00',NAMES utf8mb4",
    "SET character_set_server = 'utf8mb4'",
    "SET collation_connection = 'utf8mb4_unicode_ci'",
    "SET collation_server = 'utf8mb4_unicode_ci'",
    "set autocommit=1, sql_mode = concat(@@sql_mode,',STRICT_TRANS_TABLES')",
    "SELECT @@max_allowed_packet,@@system_time_zone,@@time_zone,@@auto_increment_increment",
    "SET SESSION SQL_AUTO_IS_NULL=0",
    "SELECT @@version_comment LIMIT 1",
    "select @@version_comment limit 1",
    "SELECT @@max_allowed_packet,@@wait_timeout",
    "SELECT @@max_allowed_packet",
];

#[tokio::test]
async fn settings_are_answered_asleep_with_the_real_servers_bytes() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("settings").await;
    let without_eof = caps::USUAL & !caps::DEPRECATE_EOF;
    for caps in [caps::USUAL, without_eof, caps::USUAL | caps::SESSION_TRACK] {
        for text in TEXTS {
            let login = Login {
                caps,
                ..Login::default()
            };
            let mut direct = Raw::login_with(oracle().await, login.clone()).await;
            let expected = direct.query(text).await;
            let mut gateway = Raw::login_with(&project.endpoint, login).await;
            let seen = gateway.query(text).await;
            assert!(expected.error().is_none(), "{text}: {expected:?}");
            let packets = |response: &Response| response.packets.iter().map(in_order).collect::<Vec<_>>();
            assert_eq!(packets(&seen), packets(&expected), "{text} with capabilities {caps:#x}");
        }
    }
    assert_eq!(project.compute().await.incarnation, 0, "none of them wakes");
    selkie.logs.check();
}

#[tokio::test]
async fn settings_answered_asleep_hold_after_the_wake() {
    const SHOWN: &str = "SELECT CONCAT_WS(' ', @@autocommit, @@character_set_client, @@character_set_results,
        @@collation_connection, @@time_zone, @@sql_mode, @@character_set_server, @@collation_server, DATABASE())";
    let selkie = Selkie::shared().await;
    let project = selkie.project("settings-hold").await;
    for texts in TEXTS.windows(3).chain([TEXTS]) {
        let mut shown = Vec::new();
        for endpoint in [&project.endpoint, oracle().await] {
            let mut raw = Raw::login(endpoint).await;
            for text in texts {
                raw.query(text).await.ok();
            }
            shown.push(raw.query(SHOWN).await.ok().text());
        }
        assert_eq!(shown[0], shown[1], "{texts:?}");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn a_variable_that_the_client_has_set_is_answered_as_it_set_it() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("settings-asked").await;
    for set in ["SET time_zone='+03:00'", "SET @@session.TIME_ZONE = '-01:30'"] {
        let mut zones = Vec::new();
        for endpoint in [&project.endpoint, oracle().await] {
            let mut raw = Raw::login(endpoint).await;
            raw.query(set).await.ok();
            zones.push(
                raw.query("SELECT @@time_zone,@@auto_increment_increment")
                    .await
                    .ok()
                    .text(),
            );
        }
        assert_eq!(zones[0], zones[1], "{set}");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn the_collation_of_the_login_packet_holds_after_the_wake() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("collation").await;
    for collation in [8, 33, 45, 63, 83, 224, 255, 192] {
        let mut shown = Vec::new();
        for endpoint in [&project.endpoint, oracle().await] {
            let mut raw = Raw::login_with(
                endpoint,
                Login {
                    collation,
                    ..Login::default()
                },
            )
            .await;
            let sql = "SELECT CONCAT_WS(' ', @@character_set_client, @@character_set_results, @@collation_connection)";
            shown.push(raw.query(sql).await.ok().text());
        }
        assert_eq!(shown[0], shown[1], "collation {collation}");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn character_sets_that_no_client_may_use_are_refused_as_the_real_server_refuses_them() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("charsets").await;
    for collation in 0..=255 {
        let mut answers = Vec::new();
        for endpoint in [&project.endpoint, oracle().await] {
            let login = Login {
                collation,
                ..Login::default()
            };
            let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
            let answer = raw.authenticate(endpoint, &login).await;
            answers.push(answer.error().map(|code| (code, answer.error_text())));
        }
        assert_eq!(answers[0], answers[1], "collation {collation}");
    }
    assert_eq!(project.compute().await.incarnation, 0, "none of them wakes");
    selkie.logs.check();
}
