//! `mariadb-dump` of one project into another gives the same data and the same views, triggers and routines.

use clients::option_file;
use harness::client::{run, value};
use harness::{Endpoint, cli};
use mysql_async::Conn;
use tokio::process::Command;

const SOURCE: &[&str] = &[
    "CREATE TABLE customer (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80) CHARACTER SET utf8mb4, data LONGBLOB,
     at DATETIME(6), amount DECIMAL(20,4), bits BIT(9), doc JSON, INDEX (name))",
    "INSERT INTO customer (name, data, at, amount, bits, doc)
     SELECT CONCAT('selkie \u{1f9ad} \\'', seq), UNHEX(SHA2(seq, 512)), '2024-02-29 23:59:59.5' + INTERVAL seq SECOND,
     seq / 7, seq % 512, JSON_OBJECT('n', seq) FROM seq_1_to_5000",
    "INSERT INTO customer (name, data) SELECT NULL, REPEAT(UNHEX(SHA2(seq, 512)), 60000) FROM seq_1_to_4",
    "CREATE TABLE audit (id INT PRIMARY KEY AUTO_INCREMENT, what TEXT)",
    "CREATE TABLE account (customer INT, FOREIGN KEY (customer) REFERENCES customer (id)) ENGINE=InnoDB",
    "INSERT INTO account SELECT id FROM customer WHERE id <= 100",
    "CREATE VIEW named AS SELECT id, name FROM customer WHERE name IS NOT NULL",
    "CREATE TRIGGER noted AFTER INSERT ON customer FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('new ', NEW.id))",
    "CREATE FUNCTION doubled(a INT) RETURNS INT DETERMINISTIC RETURN a * 2",
    "CREATE PROCEDURE counted(OUT n INT) BEGIN SELECT COUNT(*) INTO n FROM customer; END",
    "CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY DO DELETE FROM audit WHERE id < 0",
    "CREATE SEQUENCE numbers START WITH 10 NOCACHE",
    "SELECT NEXTVAL(numbers)",
];

#[tokio::test]
async fn a_dump_loads_into_another_project_unchanged() {
    let from = clients::Target::of("dump-from").await;
    let to = clients::Target::of("dump-to").await;
    let mut source = from.user().connect().await;
    for statement in SOURCE {
        run(&mut source, statement).await;
    }
    from.sleep().await;
    to.sleep().await;
    let file = tempfile::NamedTempFile::with_suffix(".sql").expect("a file for the dump");
    dump(from.user(), file.path()).await;
    load(to.user(), file.path()).await;
    let mut source = from.user().connect().await;
    let mut copy = to.user().connect().await;
    assert_eq!(picture(&mut copy).await, picture(&mut source).await);
    run(&mut copy, "INSERT INTO customer (name) VALUES ('after')").await;
    assert_eq!(
        value(&mut copy, "SELECT COUNT(*) FROM audit WHERE what LIKE 'new %'")
            .await
            .as_deref(),
        Some("1")
    );
    assert_eq!(value(&mut copy, "SELECT doubled(21)").await.as_deref(), Some("42"));
    from.check_logs().await;
}

async fn dump(endpoint: &Endpoint, file: &std::path::Path) {
    let options = option_file(endpoint);
    let mut command = Command::new("mariadb-dump");
    command
        .arg(format!("--defaults-file={}", options.path().display()))
        .args([
            "--single-transaction",
            "--routines",
            "--triggers",
            "--events",
            "--hex-blob",
            "--max-allowed-packet=1G",
        ])
        .arg(format!("--result-file={}", file.display()))
        .arg(&endpoint.database);
    cli::run(&mut command).await.ok();
}

async fn load(endpoint: &Endpoint, file: &std::path::Path) {
    let options = option_file(endpoint);
    let mut command = Command::new("mariadb");
    command
        .arg(format!("--defaults-file={}", options.path().display()))
        .args(["-A", "--max-allowed-packet=1G", &endpoint.database, "-e"])
        .arg(format!("source {}", file.display()));
    cli::run(&mut command).await.ok();
}

/// All that a dump must carry over, as text.
async fn picture(conn: &mut Conn) -> Vec<Option<String>> {
    let mut seen = Vec::new();
    for sql in [
        "SELECT CONCAT(COUNT(*), ' ', BIT_XOR(CRC32(CONCAT_WS('|', id, name, SHA2(data, 256), at, amount, bits + 0, doc))))
         FROM customer",
        "SELECT COUNT(*) FROM account",
        "SELECT CONCAT(COUNT(*), MAX(name)) FROM named",
        "SELECT GROUP_CONCAT(table_name, table_type ORDER BY table_name) FROM information_schema.tables
         WHERE table_schema = DATABASE()",
        "SELECT GROUP_CONCAT(trigger_name, action_statement) FROM information_schema.triggers
         WHERE trigger_schema = DATABASE()",
        "SELECT GROUP_CONCAT(routine_name, routine_definition ORDER BY routine_name) FROM information_schema.routines
         WHERE routine_schema = DATABASE()",
        "SELECT GROUP_CONCAT(event_name, event_definition) FROM information_schema.events WHERE event_schema = DATABASE()",
        "SELECT NEXTVAL(numbers)",
    ] {
        seen.push(value(conn, sql).await);
    }
    seen
}
