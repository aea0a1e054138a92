//! sqlx's MySQL driver: sends its settings while connecting, prepares everything that has parameters.

use clients::contract::{Checks, Given, Outcome, TYPES, blob, equal, sha1_hex, text, wait_for_go};
use sqlx_core::connection::{ConnectOptions, Connection};
use sqlx_core::query::query;
use sqlx_core::query_as::query_as;
use sqlx_core::query_scalar::query_scalar;
use sqlx_core::raw_sql::raw_sql;
use sqlx_core::row::Row;
use sqlx_core::sql_str::AssertSqlSafe;
use sqlx_mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};

fn options() -> MySqlConnectOptions {
    let given = Given::from_environment();
    MySqlConnectOptions::new()
        .host(&given.host)
        .port(given.port)
        .username(&given.user)
        .password(&given.password)
        .database(&given.database)
        .ssl_mode(MySqlSslMode::Disabled)
}

async fn run(conn: &mut MySqlConnection, statements: &[&'static str]) -> Outcome {
    for statement in statements {
        raw_sql(*statement).execute(&mut *conn).await.map_err(text)?;
    }
    Ok(())
}

async fn types(conn: &mut MySqlConnection) -> Outcome {
    run(conn, &TYPES).await?;
    let sql = "SELECT i, u, CAST(d AS CHAR), CAST(dt AS CHAR), n, b, s, bi + 0, f FROM types_rust WHERE 1 = ?";
    type Types = (i32, u64, String, String, Option<i32>, Vec<u8>, String, u64, f64);
    let row: Types = query_as(sql).bind(1).fetch_one(&mut *conn).await.map_err(text)?;
    let expected: Types = (
        i32::MIN,
        u64::MAX,
        "-12345678901234.567890".into(),
        "2024-02-29 23:59:59.123456".into(),
        None,
        b"\x00\xff\n\r\\'".to_vec(),
        "selkie \u{1f9ad}".into(),
        513,
        0.1,
    );
    equal(row, expected)
}

async fn prepared(conn: &mut MySqlConnection) -> Outcome {
    run(conn, &["CREATE OR REPLACE TABLE ps_sqlx (a INT, b VARCHAR(20))"]).await?;
    for n in 0..3 {
        let insert = query("INSERT INTO ps_sqlx VALUES (?, ?)")
            .bind(n)
            .bind(format!("row {n}"));
        insert.execute(&mut *conn).await.map_err(text)?;
    }
    let select = query_as("SELECT a, b FROM ps_sqlx WHERE a >= ? ORDER BY a").bind(1);
    let seen: Vec<(i32, String)> = select.fetch_all(&mut *conn).await.map_err(text)?;
    equal(seen, vec![(1, "row 1".to_owned()), (2, "row 2".to_owned())])
}

async fn transaction(conn: &mut MySqlConnection) -> Outcome {
    run(conn, &["CREATE OR REPLACE TABLE trx_sqlx (a INT PRIMARY KEY)"]).await?;
    for (value, commit) in [(1, false), (2, true)] {
        let mut transaction = conn.begin().await.map_err(text)?;
        let insert = query("INSERT INTO trx_sqlx VALUES (?)").bind(value);
        insert.execute(&mut *transaction).await.map_err(text)?;
        if commit {
            transaction.commit().await
        } else {
            transaction.rollback().await
        }
        .map_err(text)?;
    }
    let seen: i32 = query_scalar("SELECT a FROM trx_sqlx")
        .fetch_one(&mut *conn)
        .await
        .map_err(text)?;
    equal(seen, 2)
}

fn code<T>(result: Result<T, sqlx_core::Error>) -> u16 {
    let Err(sqlx_core::Error::Database(told)) = result else {
        return 0;
    };
    told.try_downcast_ref::<sqlx_mysql::MySqlDatabaseError>()
        .map_or(0, sqlx_mysql::MySqlDatabaseError::number)
}

async fn errors(conn: &mut MySqlConnection) -> Outcome {
    equal(code(raw_sql("SELEC 1").execute(&mut *conn).await), 1064)?;
    equal(
        code(query("SELECT * FROM no_such_table").execute(&mut *conn).await),
        1146,
    )?;
    equal(
        code(
            query("INSERT INTO trx_sqlx VALUES (?)")
                .bind(2)
                .execute(&mut *conn)
                .await,
        ),
        1062,
    )?;
    equal(code(options().password("wrong").connect().await), 1045)?;
    equal(code(options().database("no_such_db").connect().await), 1044)
}

async fn large(conn: &mut MySqlConnection) -> Outcome {
    let sent = blob();
    run(conn, &["CREATE OR REPLACE TABLE blob_sqlx (a LONGBLOB)"]).await?;
    query("INSERT INTO blob_sqlx VALUES (?)")
        .bind(&sent[..])
        .execute(&mut *conn)
        .await
        .map_err(text)?;
    let sql = "SELECT CAST(SHA1(a) AS CHAR), a FROM blob_sqlx WHERE 1 = ?";
    let row = query(sql).bind(1).fetch_one(&mut *conn).await.map_err(text)?;
    equal(row.try_get::<String, _>(0).map_err(text)?, sha1_hex(&sent))?;
    equal(sha1_hex(&row.try_get::<Vec<u8>, _>(1).map_err(text)?), sha1_hex(&sent))?;
    run(conn, &["DROP TABLE blob_sqlx"]).await
}

async fn multi_results(conn: &mut MySqlConnection) -> Outcome {
    let rows = raw_sql("SELECT 1; SELECT 2; DO 4; SELECT 5")
        .fetch_all(&mut *conn)
        .await
        .map_err(text)?;
    let seen: Vec<i32> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    equal(seen, vec![1, 2, 5])
}

/// More statements than the driver's cache holds, so that it closes some.
async fn statement_cache(conn: &mut MySqlConnection) -> Outcome {
    for n in 0..250 {
        let select = query_scalar(AssertSqlSafe(format!("SELECT CAST(? + {n} AS SIGNED)"))).bind(n);
        let seen: i64 = select.fetch_one(&mut *conn).await.map_err(text)?;
        equal(seen, 2 * i64::from(n))?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut checks = Checks::default();
    let mut conn = options().connect().await.unwrap_or_else(|why| panic!("login: {why}"));
    wait_for_go();
    let first = query_scalar("SELECT 41 + 1").fetch_one(&mut conn).await.map_err(text);
    checks.line("wake_by_first_query", first.and_then(|seen: i64| equal(seen, 42)));
    checks.line("types", types(&mut conn).await);
    checks.line("prepared_statement", prepared(&mut conn).await);
    checks.line("transaction", transaction(&mut conn).await);
    checks.line("errors", errors(&mut conn).await);
    checks.line("blob_20mb", large(&mut conn).await);
    checks.line("multi_results", multi_results(&mut conn).await);
    checks.line("statement_cache", statement_cache(&mut conn).await);
    checks.line("ping", conn.ping().await.map_err(text));
    let _ = conn.close().await;
    std::process::exit(checks.code());
}
