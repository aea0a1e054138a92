//! Every command and every form of response passes through unchanged: each packet is compared with what a plain
//! `mariadbd` sends for the same commands.

use harness::raw::{Kind, caps, frames};
use harness::{Raw, Selkie};

use crate::oracle::same_on_both;

const OLD: u64 = caps::USUAL & !caps::DEPRECATE_EOF;

#[tokio::test]
async fn results_of_every_type_are_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("types").await;
    for caps in [caps::USUAL, OLD, caps::USUAL | caps::EXTENDED_METADATA] {
        same_on_both(&project, caps, async |raw| {
            let mut seen = Vec::new();
            for sql in [
                "CREATE OR REPLACE TABLE relay_types (a TINYINT, b BIGINT UNSIGNED ZEROFILL, c DECIMAL(30,10), d FLOAT, e DOUBLE,
                 f DATE, g TIME(6), h DATETIME(3), i TIMESTAMP NULL, j YEAR, k CHAR(10), l VARCHAR(300), m BLOB, n LONGTEXT,
                 o ENUM('x','y'), p SET('u','v'), q BIT(17), r JSON, s INET6, t UUID, u GEOMETRY)",
                "INSERT INTO relay_types () VALUES ()",
                "INSERT INTO relay_types VALUES (-1, 1, 1.5, 1.5, 1.5e300, '2024-02-29', '-838:59:59.999999', '2024-02-29 1:2:3.456',
                 '2024-02-29 1:2:3', 2024, 'a', REPEAT('b', 300), x'00ff', REPEAT('c', 70000), 'y', 'u,v', b'1', '[1]', '::1',
                 '123e4567-e89b-12d3-a456-426655440000', POINT(1, 2))",
                "SELECT * FROM relay_types",
                "SELECT * FROM relay_types WHERE a > 100",
                "SELECT '' AS empty, NULL AS nothing, REPEAT('x', 250), REPEAT('x', 251), REPEAT('x', 65536)",
                "UPDATE relay_types SET a = 1",
                "DELETE FROM relay_types",
                "SELECT CONVERT('a\u{1f9ad}' USING latin1)",
                "SHOW WARNINGS",
                "SELECT * FROM no_such_table",
                "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'told', MYSQL_ERRNO = 31000",
                "BEGIN",
                "SAVEPOINT s",
                "ROLLBACK",
                "SELECT seq FROM seq_1_to_10000",
            ] {
                seen.push(raw.query(sql).await);
            }
            seen
        })
        .await;
    }
    selkie.logs.check();
}

#[tokio::test]
async fn several_statements_and_several_results_are_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("multi").await;
    for caps in [caps::USUAL, OLD] {
        same_on_both(&project, caps, async |raw| {
            let mut seen = Vec::new();
            for sql in [
                "SELECT 1; DO 2; SELECT 3, 4; SET @a = 5; SELECT @a",
                "SELECT 1; SELEC 2; SELECT 3",
                "SELECT 1; SELECT * FROM no_such_table; SELECT 3",
                "CREATE OR REPLACE PROCEDURE relay_multi(IN a INT, OUT b INT)
                 BEGIN SELECT a; SELECT seq FROM seq_1_to_5; SELECT 1 WHERE FALSE; SET b = a + 1; END",
                "CALL relay_multi(1, @b); SELECT @b",
                "CREATE OR REPLACE PROCEDURE relay_fails() BEGIN SELECT 1; SIGNAL SQLSTATE '45000'; END",
                "CALL relay_fails(); SELECT 2",
                "DROP PROCEDURE relay_fails; DROP PROCEDURE relay_multi",
                ";",
                "SELECT 1;",
                "",
            ] {
                seen.push(raw.query(sql).await);
            }
            seen
        })
        .await;
    }
    let single = caps::USUAL & !(caps::MULTI_STATEMENTS | caps::MULTI_RESULTS | caps::PS_MULTI_RESULTS);
    same_on_both(&project, single, async |raw| {
        let mut seen = vec![raw.query("SELECT 1; SELECT 2").await];
        for option in [[0, 0], [1, 0], [0, 0], [9, 0]] {
            raw.command(0x1b, &option).await; // COM_SET_OPTION: 0 turns several statements on, 1 off
            seen.push(raw.response(Kind::Single).await);
            seen.push(raw.query("DO 1; DO 2").await);
        }
        seen
    })
    .await;
    selkie.logs.check();
}

#[tokio::test]
async fn load_data_local_is_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("load").await;
    let rows: String = (0..20_000).map(|n| format!("{n}\trow {n}\n")).collect();
    let rows = rows.as_bytes();
    for caps in [caps::USUAL, OLD] {
        same_on_both(&project, caps, async |raw| {
            let load = "LOAD DATA LOCAL INFILE '/anything' INTO TABLE relay_load";
            let mut seen = vec![
                raw.query("CREATE OR REPLACE TABLE relay_load (a INT, b VARCHAR(20))")
                    .await,
            ];
            let parts: Vec<&[u8]> = rows.chunks(7000).collect();
            for (sql, file) in [
                (load.to_owned(), &parts[..]),
                (load.to_owned(), &[]), // the client refuses: an empty file
                (
                    format!("SELECT 1; {load}; SELECT COUNT(*) FROM relay_load; {load}; SELECT 'end'"),
                    &parts[..3],
                ),
                (format!("{load} (a, no_such_column)"), &parts[..2]),
                (
                    "LOAD DATA LOCAL INFILE '/anything' INTO TABLE no_such_table".to_owned(),
                    &parts[..1],
                ),
                ("SELECT COUNT(*), SUM(a) FROM relay_load".to_owned(), &[]),
            ] {
                raw.command(0x03, sql.as_bytes()).await;
                seen.push(raw.response_with(Kind::Query, file).await);
            }
            seen
        })
        .await;
    }
    same_on_both(&project, caps::USUAL & !caps::LOCAL_FILES, async |raw| {
        vec![
            raw.query("LOAD DATA LOCAL INFILE '/anything' INTO TABLE relay_load")
                .await,
            raw.query("SELECT 1").await,
        ]
    })
    .await;
    selkie.logs.check();
}

#[tokio::test]
async fn rare_commands_are_unchanged() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("rare").await;
    for caps in [caps::USUAL, OLD] {
        same_on_both(&project, caps, async |raw| {
            let mut seen = vec![
                raw.query("CREATE OR REPLACE TABLE relay_rare (a INT DEFAULT 5, b VARCHAR(9) DEFAULT 'x', c BLOB)")
                    .await,
            ];
            for what in [
                "relay_rare\0",
                "relay_rare\0b%",
                "relay_rare\0nothing%",
                "no_such_table\0",
            ] {
                raw.command(0x04, what.as_bytes()).await; // COM_FIELD_LIST
                seen.push(raw.response(Kind::FieldList).await);
            }
            for (command, rest) in [
                (0x0e, ""),    // COM_PING
                (0x02, "app"), // COM_INIT_DB
                (0x02, "no_such_db"),
                (0x02, ""),
                (0x07, "\x01"),       // COM_REFRESH, not allowed
                (0x08, "\0"),         // COM_SHUTDOWN, not allowed
                (0x0d, ""),           // COM_DEBUG, not allowed
                (0x0c, "\x01\0\0\0"), // COM_PROCESS_KILL of nothing
                (0x00, ""),           // COM_SLEEP
                (0x0f, ""),           // COM_TIME
                (0x50, "unknown"),
                (0x1f, ""), // COM_RESET_CONNECTION
            ] {
                raw.command(command, rest.as_bytes()).await;
                seen.push(raw.response(Kind::Single).await);
            }
            raw.command(0x0a, b"").await; // COM_PROCESS_INFO: only its form can be equal
            let list = raw.response(Kind::Query).await;
            assert!(list.packets.len() > 10, "{list:?}");
            raw.command(0x09, b"").await; // COM_STATISTICS: a bare text
            let statistics = raw.response(Kind::Single).await;
            assert!(statistics.packets[0].payload.starts_with(b"Uptime: "), "{statistics:?}");
            seen.push(raw.query("SELECT @@session.sql_mode, DATABASE()").await);
            seen
        })
        .await;
    }
    selkie.logs.check();
}

#[tokio::test]
async fn commands_sent_without_waiting_are_answered_in_order() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("pipelined").await;
    same_on_both(&project, caps::USUAL, async |raw| {
        let texts = [
            "SELECT 1",
            "SELEC 2",
            "SELECT seq FROM seq_1_to_2000",
            "SET @a = 4",
            "SELECT @a; SELECT 5",
            "DO 6",
        ];
        let mut bytes = Vec::new();
        for _ in 0..20 {
            for sql in texts {
                bytes.extend(frames(0, &[b"\x03", sql.as_bytes()].concat()));
            }
            bytes.extend(frames(0, b"\x0e"));
        }
        raw.write(&bytes).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..20 {
            for _ in texts {
                seen.push(raw.response(Kind::Query).await);
            }
            seen.push(raw.response(Kind::Single).await);
        }
        seen
    })
    .await;
    selkie.logs.check();
}

#[tokio::test]
async fn progress_reports_reach_the_client() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("progress").await;
    let login = harness::raw::Login {
        caps: caps::USUAL | caps::PROGRESS,
        ..Default::default()
    };
    for endpoint in [&project.endpoint, crate::oracle::oracle().await] {
        let mut raw = Raw::login_with(endpoint, login.clone()).await;
        raw.query("CREATE OR REPLACE TABLE relay_progress AS SELECT seq FROM seq_1_to_2000")
            .await
            .ok();
        raw.query("SET progress_report_time = 1").await.ok();
        let slow = "ALTER TABLE relay_progress ADD b TEXT AS (SHA2(REPEAT(seq, 250000), 512)) STORED, ALGORITHM=COPY";
        let response = raw.query(slow).await.ok();
        let reports = response
            .packets
            .iter()
            .filter(|packet| packet.error() == Some(0xffff))
            .count();
        assert!(reports > 0, "{endpoint:?}: {response:?}");
        assert_eq!(response.packets.len(), reports + 1);
        raw.query("SELECT 1").await.ok();
    }
    selkie.logs.check();
}

#[tokio::test]
async fn session_tracking_tells_the_client_what_it_asked_for() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("tracking").await;
    same_on_both(&project, caps::USUAL | caps::SESSION_TRACK, async |raw| {
        let mut seen = Vec::new();
        for sql in [
            "SET NAMES latin1",
            "SET time_zone = '+01:00'",
            "SET autocommit = 0",
            "SET sql_mode = ''",
            "SET @mine = 1",
            "USE app",
            "SELECT 1",
            "BEGIN",
            "COMMIT",
            "CREATE TEMPORARY TABLE relay_tracking (a INT)",
            "SET session_track_system_variables = 'sql_mode,lock_wait_timeout'",
            "SET sql_mode = 'ANSI', lock_wait_timeout = 5",
            "SET session_track_state_change = ON",
            "SET @mine = 2",
        ] {
            seen.push(raw.query(sql).await);
        }
        seen
    })
    .await;
    selkie.logs.check();
}

#[tokio::test]
async fn a_driver_that_asks_for_other_reports_hears_those_and_ties_nothing() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("hears").await;
    // As MariaDB's ODBC driver sends it while connecting.
    let asks = "SET session_track_schema= ON;SET session_track_system_variables='autocommit,tx_isolation'";
    same_on_both(&project, caps::USUAL | caps::SESSION_TRACK, async |raw| {
        let mut seen = Vec::new();
        for sql in [
            "SET SESSION SQL_AUTO_IS_NULL=0;SET autocommit=1",
            asks,
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET time_zone = '+01:00'",
            "SELECT @@tx_isolation, @@time_zone, @@sql_auto_is_null",
            "SET time_zone = '+02:00', tx_isolation = 'SERIALIZABLE'",
            "USE app",
            "SELECT 1 UNION SELECT 2",
            "SET session_track_schema=0, session_track_system_variables='time_zone'",
            "SELECT ROW_COUNT()",
            "USE app",
            "SET time_zone = '+03:00', tx_isolation = 'READ-COMMITTED'",
            asks,
            "SET autocommit=0",
        ] {
            seen.push(raw.query(sql).await);
        }
        // From here on the tracker is the client's own.
        seen.push(raw.query("SET session_track_system_variables='sql_mode'").await);
        seen.push(raw.query("USE app").await);
        seen.push(raw.query("SET sql_mode='ANSI', time_zone='+04:00'").await);
        seen
    })
    .await;
    selkie.logs.check();
}
