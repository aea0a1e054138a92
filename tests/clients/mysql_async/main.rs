//! mysql_async: a Rust driver on tokio with a cache of prepared statements; native and caching_sha2.

use clients::contract::{Checks, Given, Outcome, TYPES, blob, equal, sha1_hex, text, wait_for_go};
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn, Error, InfileData, OptsBuilder, TxOpts, Value};

fn options() -> OptsBuilder {
    let given = Given::from_environment();
    OptsBuilder::default()
        .ip_or_hostname(given.host)
        .tcp_port(given.port)
        .user(Some(given.user))
        .pass(Some(given.password))
        .db_name(Some(given.database))
        .prefer_socket(false)
}

async fn run(conn: &mut Conn, statements: &[&str]) -> Outcome {
    for statement in statements {
        conn.query_drop(*statement).await.map_err(text)?;
    }
    Ok(())
}

async fn one<T: mysql_async::prelude::FromRow + Send + 'static>(conn: &mut Conn, sql: &str) -> Result<T, String> {
    conn.query_first(sql)
        .await
        .map_err(text)?
        .ok_or_else(|| format!("{sql}: no row"))
}

async fn types(conn: &mut Conn) -> Outcome {
    run(conn, &TYPES).await?;
    let text_row: Vec<Value> = one::<mysql_async::Row>(conn, "SELECT i, d, n, b, s, bi FROM types_rust")
        .await?
        .unwrap();
    let bytes = |text: &[u8]| Value::Bytes(text.to_vec());
    let expected = [
        bytes(b"-2147483648"),
        bytes(b"-12345678901234.567890"),
        Value::NULL,
        bytes(b"\x00\xff\n\r\\'"),
        bytes("selkie \u{1f9ad}".as_bytes()),
        bytes(&[2, 1]),
    ];
    equal(text_row, expected.to_vec())?;
    let row: Option<mysql_async::Row> = conn
        .exec_first("SELECT i, u, dt, n, f FROM types_rust WHERE 1 = ?", (1,))
        .await
        .map_err(text)?;
    let expected = vec![
        Value::Int(-2_147_483_648),
        Value::UInt(u64::MAX),
        Value::Date(2024, 2, 29, 23, 59, 59, 123_456),
        Value::NULL,
        Value::Double(0.1),
    ];
    equal(row.map(mysql_async::Row::unwrap), Some(expected))
}

async fn prepared(conn: &mut Conn) -> Outcome {
    run(conn, &["CREATE OR REPLACE TABLE ps_rust (a INT, b VARCHAR(20))"]).await?;
    let rows = (0..3).map(|n| (n, format!("row {n}")));
    conn.exec_batch("INSERT INTO ps_rust VALUES (?, ?)", rows)
        .await
        .map_err(text)?;
    let seen: Vec<(i32, String)> = conn
        .exec("SELECT a, b FROM ps_rust WHERE a >= ? ORDER BY a", (1,))
        .await
        .map_err(text)?;
    equal(seen, vec![(1, "row 1".to_owned()), (2, "row 2".to_owned())])
}

async fn transaction(conn: &mut Conn) -> Outcome {
    run(conn, &["CREATE OR REPLACE TABLE trx_rust (a INT PRIMARY KEY)"]).await?;
    for (value, commit) in [(1, false), (2, true)] {
        let mut transaction = conn.start_transaction(TxOpts::default()).await.map_err(text)?;
        transaction
            .exec_drop("INSERT INTO trx_rust VALUES (?)", (value,))
            .await
            .map_err(text)?;
        if commit {
            transaction.commit().await
        } else {
            transaction.rollback().await
        }
        .map_err(text)?;
    }
    equal(one::<String>(conn, "SELECT GROUP_CONCAT(a) FROM trx_rust").await?, "2")
}

async fn errors(conn: &mut Conn) -> Outcome {
    let code = |result: Result<(), Error>| match result {
        Err(Error::Server(told)) => told.code,
        _ => 0,
    };
    equal(code(conn.query_drop("SELEC 1").await), 1064)?;
    equal(code(conn.query_drop("SELECT * FROM no_such_table").await), 1146)?;
    equal(
        code(conn.exec_drop("INSERT INTO trx_rust VALUES (?)", (2,)).await),
        1062,
    )?;
    equal(code(Conn::new(options().pass(Some("wrong"))).await.map(drop)), 1045)?;
    equal(
        code(Conn::new(options().db_name(Some("no_such_db"))).await.map(drop)),
        1044,
    )
}

async fn large(conn: &mut Conn) -> Outcome {
    let sent = blob();
    run(conn, &["CREATE OR REPLACE TABLE blob_rust (a LONGBLOB)"]).await?;
    conn.exec_drop("INSERT INTO blob_rust VALUES (?)", (&sent,))
        .await
        .map_err(text)?;
    equal(
        one::<String>(conn, "SELECT SHA1(a) FROM blob_rust").await?,
        sha1_hex(&sent),
    )?;
    equal(
        sha1_hex(&one::<Vec<u8>>(conn, "SELECT a FROM blob_rust").await?),
        sha1_hex(&sent),
    )?;
    run(conn, &["DROP TABLE blob_rust"]).await
}

async fn load_data_local(conn: &mut Conn) -> Outcome {
    conn.set_infile_handler(async move {
        let lines = stream::iter((0..50_000).map(|n| Ok(format!("{n}\trow {n}\n").into())));
        let data: InfileData = lines.boxed();
        Ok(data)
    });
    let load = "LOAD DATA LOCAL INFILE 'a stream' INTO TABLE load_rust";
    run(
        conn,
        &["CREATE OR REPLACE TABLE load_rust (a INT, b VARCHAR(20))", load],
    )
    .await?;
    equal(
        one::<(u64, u64)>(conn, "SELECT COUNT(*), SUM(a) FROM load_rust").await?,
        (50_000, 1_249_975_000),
    )
}

async fn multi_results(conn: &mut Conn) -> Outcome {
    let mut result = conn
        .query_iter("SELECT 1; SELECT 'two'; DO 4; SELECT 5")
        .await
        .map_err(text)?;
    let mut seen: Vec<Vec<String>> = Vec::new();
    while !result.is_empty() || seen.is_empty() {
        seen.push(result.collect::<String>().await.map_err(text)?);
    }
    let flat: Vec<String> = seen.into_iter().flatten().collect();
    equal(flat, ["1", "two", "5"])
}

async fn reset(conn: &mut Conn) -> Outcome {
    run(conn, &["SET @left_over = 1"]).await?;
    conn.reset().await.map_err(text)?;
    equal(one::<Option<i32>>(conn, "SELECT @left_over").await?, None)
}

async fn change_user() -> Outcome {
    let given = Given::from_environment();
    let mut conn = Conn::new(options()).await.map_err(text)?;
    let to = ChangeUserOpts::new()
        .with_user(Some(given.other_user.clone()))
        .with_pass(Some(given.other_password.clone()))
        .with_db_name(Some(given.database.clone()));
    conn.change_user(to).await.map_err(text)?;
    let me = one::<String>(&mut conn, "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)").await?;
    equal(me.as_str(), given.other_bare_name())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut checks = Checks::default();
    let mut conn = Conn::new(options()).await.unwrap_or_else(|why| panic!("login: {why}"));
    wait_for_go();
    let first = one::<i32>(&mut conn, "SELECT 41 + 1")
        .await
        .and_then(|seen| equal(seen, 42));
    checks.line("wake_by_first_query", first);
    checks.line("types", types(&mut conn).await);
    checks.line("prepared_statement", prepared(&mut conn).await);
    checks.line("transaction", transaction(&mut conn).await);
    checks.line("errors", errors(&mut conn).boxed().await);
    checks.line("blob_20mb", large(&mut conn).await);
    checks.line("load_data_local", load_data_local(&mut conn).await);
    checks.line("multi_results", multi_results(&mut conn).await);
    checks.line("reset_connection", reset(&mut conn).await);
    checks.line("change_user", change_user().boxed().await);
    checks.line("ping", conn.ping().await.map_err(text));
    let _ = conn.disconnect().await;
    std::process::exit(checks.code());
}
