//! A session leaves its compute connection, by itself or because the database is suspended, and is given another: the
//! client notices nothing.

use harness::raw::{Login, caps};
use harness::{Project, Raw, Selkie, eventually};
use tokio::sync::OnceCell;

/// One where sessions park at once; its tests look at a whole gateway's metrics, so each waits for its turn.
pub(crate) async fn quick() -> &'static Selkie {
    static SHARED: OnceCell<Selkie> = OnceCell::const_new();
    SHARED
        .get_or_init(async || Selkie::start_with("gateway.park_after = \"50ms\"").await)
        .await
}

async fn thread_id(raw: &mut Raw) -> String {
    raw.query("SELECT CONNECTION_ID()").await.ok().text()
}

/// Asks until the session has been given another connection: the question itself gives it one.
pub(crate) async fn parks(raw: &mut Raw, after: &str) {
    let before = thread_id(raw).await;
    eventually(format_args!("the session parks after {after}"), async || {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        (thread_id(raw).await != before).then_some(())
    })
    .await;
}

const STATE: &str = "SELECT CONCAT_WS('|', @@sql_mode, @@time_zone, @@character_set_client, @@character_set_results, \
    @@collation_connection, @@autocommit, @@sort_buffer_size, @@lock_wait_timeout, @@sql_select_limit, @@timestamp, \
    DATABASE(), CURRENT_ROLE(), LAST_INSERT_ID(), @@insert_id, @i, @u, @d, @f, @s, HEX(@b), @n IS NULL, \
    COLLATION(@s), COERCIBILITY(@s))";

const SETTINGS: [&str; 8] = [
    "SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone='-02:30', sort_buffer_size=262144",
    "SET NAMES latin1 COLLATE latin1_german2_ci",
    "SET character_set_results=NULL",
    "SET lock_wait_timeout=7, sql_select_limit=1000, timestamp=1234567.25",
    "SET @i=-5, @u=18446744073709551615, @d=1.500, @f=2.5e-300, @s=_utf8mb4'\u{e4}''\\', @b=x'00ff27', @n=NULL",
    "USE other",
    "SET last_insert_id=77",
    "SET insert_id=88",
];

async fn sets_everything(raw: &mut Raw) {
    for statement in SETTINGS {
        raw.query(statement).await.ok();
    }
}

#[tokio::test]
async fn everything_a_session_has_set_follows_it_through_a_suspend() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("follows").await;
    project.database("other").await;
    for caps in [
        caps::USUAL,
        caps::USUAL & !caps::DEPRECATE_EOF,
        caps::USUAL & !caps::SESSION_TRACK,
    ] {
        let login = Login {
            caps,
            ..Login::default()
        };
        let mut raw = Raw::login_with(&project.endpoint, login).await;
        sets_everything(&mut raw).await;
        let before = raw.query(STATE).await.ok();
        project.suspend().await;
        let after = raw.query(STATE).await.ok();
        assert_eq!(before, after, "{caps:#x}");
        // Once more, from what was restored.
        project.suspend().await;
        assert_eq!(raw.query(STATE).await.ok(), before, "{caps:#x}");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn an_idle_session_leaves_its_connection_and_comes_back_as_it_was() {
    let selkie = quick().await;
    let project = selkie.project("idle").await;
    project.database("other").await;
    let mut raw = Raw::login(&project.endpoint).await;
    sets_everything(&mut raw).await;
    let before = raw.query(STATE).await.ok();
    for _ in 0..3 {
        parks(&mut raw, "settings").await;
        assert_eq!(raw.query(STATE).await.ok(), before);
    }
    selkie.logs.check();
}

#[tokio::test]
async fn what_a_client_hears_of_outlives_its_connection() {
    let selkie = quick().await;
    let project = selkie.project("hears").await;
    let login = Login {
        caps: caps::USUAL | caps::SESSION_TRACK,
        ..Login::default()
    };
    let mut raw = Raw::login_with(&project.endpoint, login).await;
    // With and without a connection.
    for asks in [
        "SET session_track_system_variables='autocommit,tx_isolation'",
        "SET session_track_system_variables='tx_isolation'",
    ] {
        raw.query(asks).await.ok();
        parks(&mut raw, asks).await;
        let heard = raw.query("SET time_zone='+01:00', tx_isolation='SERIALIZABLE'").await;
        let packet = &heard.packets[0].payload;
        let holds = |name: &[u8]| packet.windows(name.len()).any(|window| window == name);
        assert!(holds(b"tx_isolation") && !holds(b"time_zone"), "{heard:?}");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn what_belongs_to_the_connection_keeps_it() {
    let selkie = quick().await;
    let project = selkie.project("ties").await;
    let mut setup = Raw::login(&project.endpoint).await;
    for statement in [
        "CREATE TABLE t (a INT PRIMARY KEY)",
        "CREATE PROCEDURE makes() CREATE OR REPLACE TEMPORARY TABLE hidden SELECT 1 AS a",
        "CREATE FUNCTION takes() RETURNS INT DETERMINISTIC RETURN GET_LOCK('hidden', 0)",
    ] {
        setup.query(statement).await.ok();
    }
    for (ties, frees) in [
        ("BEGIN", Some("COMMIT")),
        ("SELECT GET_LOCK('l', 1)", Some("SELECT RELEASE_LOCK('l')")),
        ("SELECT takes()", Some("SELECT RELEASE_ALL_LOCKS()")),
        ("LOCK TABLES t READ", Some("UNLOCK TABLES")),
        ("XA START 'x'", Some("XA END 'x'; XA ROLLBACK 'x'")),
        ("CREATE TEMPORARY TABLE tmp (a INT)", None),
        ("CREATE TEMPORARY TABLE tmp SELECT 1 AS a", None),
        ("CALL makes()", None),
        ("PREPARE p FROM 'SELECT 1'", Some("DEALLOCATE PREPARE p")),
        ("HANDLER t OPEN", None),
        ("SET session_track_state_change=ON", None),
    ] {
        let mut raw = Raw::login(&project.endpoint).await;
        let before = thread_id(&mut raw).await;
        raw.query(ties).await;
        let pins = selkie.metric("selkie_gateway_pins_total").await;
        // It is asked, or known, and stays.
        eventually(format_args!("{ties} ties"), async || {
            (selkie.metric("selkie_gateway_pins_total").await > pins).then_some(())
        })
        .await;
        assert_eq!(thread_id(&mut raw).await, before, "{ties}");
        for statement in frees.iter().flat_map(|frees| frees.split("; ")) {
            raw.query(statement).await.ok();
        }
        if frees.is_none() {
            raw.command(0x1f, b"").await;
            assert_eq!(raw.packet().await.payload[0], 0);
        }
        parks(&mut raw, ties).await;
    }
    selkie.logs.check();
}

#[tokio::test]
async fn the_connection_closes_where_a_transaction_ends_with_release() {
    let selkie = quick().await;
    let project = selkie.project("releases").await;
    for (before, statement, parked) in [
        ("DO 1", "COMMIT RELEASE", false),
        ("BEGIN", "ROLLBACK AND NO CHAIN RELEASE", false),
        ("SET completion_type = 'RELEASE'", "COMMIT", false),
        ("SET completion_type = 2", "ROLLBACK", true),
    ] {
        let mut raw = Raw::login(&project.endpoint).await;
        raw.query(before).await.ok();
        if parked {
            parks(&mut raw, before).await;
        }
        raw.query(statement).await.ok();
        assert!(raw.ends().await.is_empty(), "{before}; {statement}: nothing is said");
    }
    // In a program MariaDB says that it did.
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("CREATE PROCEDURE releases() BEGIN COMMIT RELEASE; END")
        .await
        .ok();
    assert_eq!(raw.query("CALL releases()").await.error(), Some(1927));
    assert!(raw.ends().await.is_empty());
    selkie.logs.check();
}

#[tokio::test]
async fn a_role_outlives_a_reset_with_and_without_a_connection() {
    let selkie = quick().await;
    let project = selkie.project("roles").await;
    let admin = project.admin("boss", "a boss's password").await;
    let mut raw = Raw::login(&admin).await;
    raw.query("CREATE ROLE actor").await.ok();
    raw.query("SET ROLE actor").await.ok();
    parks(&mut raw, "a role was set").await;
    for asleep in [true, false] {
        if asleep {
            project.suspend().await;
        }
        raw.command(0x1f, b"").await;
        assert_eq!(raw.packet().await.payload[0], 0);
        assert_eq!(
            raw.query("SELECT CURRENT_ROLE()").await.ok().text(),
            "actor",
            "{asleep}"
        );
    }
    raw.query("SET DEFAULT ROLE actor").await.ok();
    raw.query("SET ROLE NONE").await.ok();
    project.suspend().await;
    assert_eq!(raw.query("SELECT CURRENT_ROLE() IS NULL").await.ok().text(), "1");
    selkie.logs.check();
}

#[tokio::test]
async fn the_next_transaction_is_as_it_was_asked_for() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("next").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("CREATE TABLE t (a INT)").await.ok();
    raw.query("SET TRANSACTION READ ONLY").await.ok();
    project.suspend().await;
    assert_eq!(raw.query("INSERT INTO t VALUES (1)").await.error(), Some(1792));
    raw.query("COMMIT").await.ok();
    raw.query("INSERT INTO t VALUES (1)").await.ok();
    selkie.logs.check();
}

#[tokio::test]
async fn clients_are_not_bounded_by_what_the_compute_can_hold() {
    let selkie = quick().await;
    let project = selkie.project("many").await;
    let mut first = Raw::login(&project.endpoint).await;
    first.query("CREATE TABLE t (a INT)").await.ok();
    let places: usize = first
        .query("SELECT @@max_connections")
        .await
        .ok()
        .text()
        .parse()
        .unwrap();
    let mut clients = Vec::new();
    for _ in 0..places + 20 {
        clients.push(Raw::login(&project.endpoint).await);
    }
    for client in &mut clients {
        client.query("INSERT INTO t VALUES (1)").await.ok();
    }
    let rows = first.query("SELECT COUNT(*) FROM t").await.ok().text();
    assert_eq!(rows, (places + 20).to_string());
    selkie.logs.check();
}

#[tokio::test]
async fn pings_keep_no_session_attached_and_a_reset_of_a_parked_one_wakes_nothing() {
    let selkie = quick().await;
    let project = selkie.project("pings").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("SET @a=1").await.ok();
    let parks = selkie.metric("selkie_gateway_parks_total").await;
    eventually("it parks although it pings", async || {
        raw.command(0x0e, b"").await;
        assert_eq!(raw.packet().await.payload[0], 0);
        (selkie.metric("selkie_gateway_parks_total").await > parks).then_some(())
    })
    .await;
    project.suspend().await;
    raw.command(0x1f, b"").await;
    assert_eq!(raw.packet().await.payload[0], 0);
    assert_eq!(project.compute().await.state, "suspended");
    assert_eq!(raw.query("SELECT @a IS NULL").await.ok().text(), "1");
    selkie.logs.check();
}

#[tokio::test]
async fn a_parked_client_that_is_silent_for_its_wait_timeout_is_let_go() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("silent").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("SELECT 1").await.ok();
    raw.query("SET wait_timeout=1").await.ok();
    project.suspend().await;
    assert_eq!(raw.packet().await.error(), Some(4031));
    assert!(raw.ends().await.is_empty());
    selkie.logs.check();
}

/// A compute that is killed, and what clients of it see.
#[tokio::test]
async fn sessions_outlive_a_crash_and_are_told_what_they_lost() {
    let selkie = Selkie::start().await;
    for part in ["crash", "signal", "mariadbd", "InnoDB", "did not answer"] {
        selkie.logs.allow(part);
    }
    let project = selkie.project("outlive").await;
    let mut plain = Raw::login(&project.endpoint).await;
    plain.query("CREATE TABLE t (a INT)").await.ok();
    plain.query("SET time_zone='+01:00'").await.ok();
    plain.query("SET NAMES latin1").await.ok();
    let mut variable = Raw::login(&project.endpoint).await;
    variable.query("SET @a=1").await.ok();
    let mut unreported = Raw::login(&project.endpoint).await;
    unreported.query("SET @@time_zone='+01:00'").await.ok();
    unreported.query("SELECT 1 FROM t").await.ok();
    unreported.query("SET @@time_zone='+02:00'").await.ok();
    let mut id = Raw::login(&project.endpoint).await;
    id.query("CREATE TABLE ids (id INT AUTO_INCREMENT PRIMARY KEY, a INT) AUTO_INCREMENT = 41")
        .await
        .ok();
    id.query("INSERT INTO ids (a) VALUES (1), (2)").await.ok();
    let mut asks = Raw::login(&project.endpoint).await;
    asks.query("SELECT 1 + 'a'").await.ok();
    let mut transaction = Raw::login(&project.endpoint).await;
    transaction.query("BEGIN").await.ok();
    transaction.query("INSERT INTO t VALUES (1)").await.ok();
    let mut asleep = Raw::login(&project.endpoint).await;
    asleep.command(0x03, b"SELECT SLEEP(600)").await;
    running(&project, "SLEEP").await;
    let [server] = selkie.servers()[..] else {
        panic!("not one server: {:?}", selkie.servers())
    };
    harness::process::signal(server, rustix::process::Signal::KILL);

    let told = asleep.packet().await;
    assert_eq!(told.error(), Some(1053), "what was under way is answered: {told:?}");
    assert_eq!(
        asleep.query("SELECT 1").await.ok().text(),
        "1",
        "and the session can be used"
    );
    let state = "SELECT CONCAT(@@time_zone, @@character_set_client)";
    assert_eq!(
        plain.query(state).await.ok().text(),
        "+01:00latin1",
        "who lost nothing notices nothing"
    );
    assert_eq!(
        id.query("SELECT LAST_INSERT_ID()").await.ok().text(),
        "41",
        "an OK told of the id"
    );
    let told = asks.query("SHOW WARNINGS").await;
    assert_eq!(told.error(), Some(1053), "nobody knows the warnings: {told:?}");
    asks.query("SHOW WARNINGS").await.ok();
    for (mut lost, what) in [
        (variable, "a user variable"),
        (unreported, "a variable of whose change the server did not tell"),
        (transaction, "a transaction"),
    ] {
        let told = lost.query("SELECT 1").await;
        assert_eq!(told.error(), Some(1053), "{what}: {told:?}");
        assert!(told.error_text().contains("lost"), "{told:?}");
        assert_eq!(lost.query("SELECT COUNT(*) FROM t").await.ok().text(), "0", "{what}");
    }
}

async fn running(project: &Project<'_>, text: &str) {
    let mut other = Raw::login(&project.endpoint).await;
    let question =
        format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT {text}%' AND STATE <> ''");
    eventually("the statement runs", async || {
        (other.query(&question).await.ok().text() != "0").then_some(())
    })
    .await;
}
