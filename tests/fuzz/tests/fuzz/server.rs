//! What the gateway answers in a server's place, or takes a text for, beside what a real MariaDB does with the text.

use fuzz::Mutator;
use gateway::fuzz::{Answered, is_feared, killed, recognised};
use harness::raw::{Kind, Login, Response, caps};
use harness::{Direct, Endpoint, Raw};
use mysql_wire::capabilities::Capabilities;
use mysql_wire::column::ColumnDefinition;
use mysql_wire::ok::OkPacket;
use mysql_wire::session_track::{Change, changes};
use mysql_wire::status::StatusFlags;

/// What the client is to hear of, so that every report of the gateway's can be compared.
const HEARD: &str =
    "autocommit,character_set_client,character_set_connection,character_set_results,time_zone,tx_isolation";

/// Settings and questions that are answered without a database.
const SETTINGS: &[&str] = &[
    "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
    "SET SESSION autocommit = 1, sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_DATE'",
    "SET @@session.time_zone = '+05:30', LOCAL unique_checks = OFF",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET sql_mode = (SELECT CONCAT(@@sql_mode, ',PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION')), time_zone = '-00:00', NAMES latin1",
    "set autocommit=1, sql_mode = concat(@@sql_mode,',STRICT_TRANS_TABLES')",
    "SET wait_timeout = 28800, net_read_timeout = 31536000",
    "SET character_set_server = 'utf8mb3', collation_server = latin1_bin, collation_connection = 'binary'",
    "SET SESSION SQL_AUTO_IS_NULL=0;SET autocommit=0",
    "SET session_track_schema= ON;SET session_track_system_variables='autocommit,tx_isolation'",
    "SELECT @@version_comment, @@session.max_allowed_packet LIMIT 1",
    "SELECT @@global.time_zone, @@wait_timeout, @@auto_increment_increment",
];
/// Variables whose values the gateway knows (docs/wire.md).
const VARIABLES: &[&str] = &[
    "version_comment",
    "version",
    "socket",
    "max_allowed_packet",
    "wait_timeout",
    "interactive_timeout",
    "system_time_zone",
    "time_zone",
    "auto_increment_increment",
];
const KILLS: &[&str] = &[
    "KILL 77",
    "KILL HARD QUERY 2147483649",
    "KILL SOFT CONNECTION 4294967296 ;",
    "KILL QUERY ID 5",
    "KILL /* it */ 18446744073709551615",
    "KILL USER nobody",
    "KILL QUERY USER 'no body'@'%'",
    "KILL SOFT USER `no``body`",
];
/// Statements that change accounts, and some that seem to. Rows of the tables where accounts are kept count for nothing until
/// they are read again, so that statements which change rows are not among them.
const ACCOUNTS: &[&str] = &[
    "CREATE USER u IDENTIFIED BY 'x'",
    "CREATE OR REPLACE USER IF NOT EXISTS u, v REQUIRE SSL",
    "ALTER USER u ACCOUNT LOCK",
    "DROP USER IF EXISTS u",
    "RENAME USER u TO w",
    "CREATE ROLE r WITH ADMIN CURRENT_USER",
    "GRANT SELECT ON app.* TO u",
    "GRANT r TO u WITH ADMIN OPTION",
    "REVOKE ALL PRIVILEGES, GRANT OPTION FROM u",
    "SET PASSWORD FOR u = PASSWORD('y')",
    "SET DEFAULT ROLE r FOR u",
    "SET STATEMENT max_statement_time = 1 FOR DROP USER u",
    "/*!50003 CREATE USER u */",
    "/*M!100100 GRANT r TO u */; SELECT 1",
    "DO 1; DROP ROLE r",
    "BEGIN NOT ATOMIC CREATE USER u; END",
    "EXECUTE IMMEDIATE 'CREATE USER u'",
    "SELECT 'GRANT r TO u', `DROP` FROM (SELECT 1 AS `DROP`) AS t -- DROP USER u",
];

/// The account the texts are said by.
struct Said {
    _server: Direct,
    endpoint: Endpoint,
}

impl Said {
    async fn by(rights: &str) -> Self {
        let server = Direct::start().await;
        let endpoint = server.account("app");
        server.sql(&format!("GRANT {rights} TO app@`%` WITH GRANT OPTION"));
        Self {
            _server: server,
            endpoint,
        }
    }

    async fn login(&self) -> Raw {
        let login = Login {
            caps: caps::USUAL | caps::SESSION_TRACK,
            ..Login::default()
        };
        Raw::login_with(&self.endpoint, login).await
    }
}

/// The seeds, then up to `count` others made of their words, each once.
fn texts(seeds: &[&str], count: usize) -> impl Iterator<Item = String> {
    let corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    let mut words = fuzz::Words::new(1, seeds);
    let mut mutator = Mutator::new(1, corpus);
    let mut seen = std::collections::HashSet::new();
    let seeds: Vec<String> = seeds.iter().map(|seed| (*seed).to_owned()).collect();
    let made = (0..count).map(move |n| match n % 3 {
        0 => String::from_utf8_lossy(&mutator.input()).into_owned(),
        _ => words.text(),
    });
    seeds
        .into_iter()
        .chain(made)
        .filter(move |text| seen.insert(text.clone()))
}

/// A question for others goes to the server.
fn are_known(answer: &Answered) -> bool {
    let Answered::Variables(names) = answer else {
        return true;
    };
    names.iter().all(|name| {
        let name = name.strip_prefix("@@").unwrap_or_default();
        let variable =
            name.split_once('.')
                .map_or(name, |(scope, variable)| match scope.to_ascii_lowercase().as_str() {
                    "session" | "local" | "global" => variable,
                    _ => name,
                });
        VARIABLES.iter().any(|known| known.eq_ignore_ascii_case(variable))
    })
}

async fn begins_anew(raw: &mut Raw) {
    raw.command(0x1f, b"").await;
    assert_eq!(raw.packet().await.payload[0], 0);
}

/// An OK's report of what is heard of, in the order of names.
fn told(ok: &OkPacket<'_>) -> Vec<(String, String)> {
    let mut told: Vec<_> = changes(ok.session_track.unwrap_or_default())
        .map(|change| change.expect("a report"))
        .filter_map(|change| match change {
            Change::SystemVariable { name, value } => {
                Some([name, value].map(|bytes| String::from_utf8(bytes.to_vec()).expect("text")))
            }
            _ => None,
        })
        .map(|[name, value]| (name, value))
        .collect();
    told.sort();
    told
}

fn compare(text: &str, answers: &[Answered], response: &Response, capabilities: Capabilities) {
    assert_eq!(response.error(), None, "{text:?}: {}", response.error_text());
    let mut packets = response.packets.iter();
    for answer in answers {
        let first = packets.next().unwrap_or_else(|| panic!("{text}: {response:?}"));
        match answer {
            Answered::Setting { tracked, autocommit } => {
                let ok = OkPacket::decode(&first.payload, capabilities).unwrap_or_else(|why| panic!("{text:?}: {why}"));
                let mut ours: Vec<_> = tracked
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect();
                ours.sort();
                assert_eq!(ours, told(&ok), "{text:?}");
                let on = ok.status.contains(StatusFlags::AUTOCOMMIT);
                assert!(autocommit.is_none_or(|ours| ours == on), "{text:?}");
            }
            Answered::Variables(names) => {
                assert_eq!(usize::from(first.payload[0]), names.len(), "{text:?}");
                for name in names {
                    let definition = packets.next().expect("a column");
                    let definition = ColumnDefinition::decode(&definition.payload, capabilities).expect("a column");
                    assert_eq!(String::from_utf8_lossy(&definition.name), *name, "{text:?}");
                }
                // What is left of the result is the server's to say.
                return;
            }
        }
    }
    assert_eq!(packets.next(), None, "{text:?}");
}

#[tokio::test]
async fn what_is_answered_in_the_server_s_place_is_what_it_answers() {
    let said = Said::by("SELECT ON app.*").await;
    let mut raw = said.login().await;
    let capabilities = Capabilities(raw.caps);
    let mut compared = [0, 0];
    for text in texts(SETTINGS, 60_000) {
        let Some(answers) = recognised(text.as_bytes(), true).filter(|answers| answers.iter().all(are_known)) else {
            continue;
        };
        begins_anew(&mut raw).await;
        let heard = format!("SET session_track_system_variables = '{HEARD}'");
        raw.query(&heard).await.ok();
        let response = raw.query(&text).await;
        compare(&text, &answers, &response, capabilities);
        compared[usize::from(matches!(answers[0], Answered::Variables(_)))] += 1;
    }
    assert!(
        compared[0] > 300 && compared[1] > 50,
        "too few were compared: {compared:?}"
    );
}

#[tokio::test]
async fn a_kill_that_is_read_is_one_to_the_server() {
    let said = Said::by("SELECT ON app.*").await;
    let mut raw = said.login().await;
    let own = raw.query("SELECT CONNECTION_ID()").await.ok().text();
    let mut compared = 0;
    for text in texts(KILLS, 60_000) {
        let Some(written) = killed(text.as_bytes()) else {
            continue;
        };
        // It would be its own end.
        let upper = text.to_ascii_uppercase();
        if upper.contains("CURRENT_USER") || upper.contains("APP") || written.split(' ').any(|word| word == own) {
            continue;
        }
        // A word that the server reserves is no user's name without quotes; nobody is called so.
        if written.to_ascii_uppercase().ends_with("USER `KILL`") {
            continue;
        }
        // An id of the gateway's as Connector/J writes it, which is none of a server's.
        if text.contains('-') && !text.contains("--") {
            continue;
        }
        let one = raw.query(&text).await;
        let other = raw.query(&written).await;
        let outcome = |response: &Response| (response.error(), response.error_text());
        assert_eq!(outcome(&one), outcome(&other), "{text:?}, written as {written:?}");
        assert_ne!(one.error(), Some(1064), "{text:?}: {}", one.error_text());
        compared += 1;
    }
    assert!(compared > 300, "too few were compared: {compared}");
}

#[tokio::test]
async fn what_is_not_feared_changes_no_account() {
    let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, CREATE USER, EXECUTE, CREATE ROUTINE ON *.*";
    let said = Said::by(rights).await;
    let mut raw = said.login().await;
    for sql in ["CREATE USER u", "CREATE ROLE r", "GRANT r TO u"] {
        raw.query(sql).await.ok();
    }
    let tables = [
        "global_priv",
        "db",
        "tables_priv",
        "columns_priv",
        "procs_priv",
        "proxies_priv",
        "roles_mapping",
    ];
    let state = format!(
        "CHECKSUM TABLE {}",
        tables.map(|table| format!("mysql.{table}")).join(", ")
    );
    let mut witness = said.login().await;
    let before = witness.query(&state).await.ok();
    let mut done = 0;
    for text in texts(ACCOUNTS, 6_000) {
        if is_feared(text.as_bytes()) {
            continue;
        }
        // Those that wait for something end by themselves.
        raw.query("SET max_statement_time = 1").await.ok();
        raw.command(0x03, text.as_bytes()).await;
        let (response, broken) = raw.try_response(Kind::Query, &[]).await;
        assert!(broken.is_none(), "{text}: {broken:?} after {response:?}");
        done += usize::from(response.error() != Some(1064));
        assert_eq!(witness.query(&state).await.ok(), before, "{text:?}");
        begins_anew(&mut raw).await;
    }
    assert!(done > 20, "too few were understood: {done}");
}
