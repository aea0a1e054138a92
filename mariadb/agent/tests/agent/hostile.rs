//! A tenant that has made itself root of its server, and turns it against the agent: the agent goes on, says what is wrong, and
//! does in the end what it is asked for.

use std::time::Duration;

use control_api::agent::{ApplyRequest, Database, LookRequest, QuiesceRequest};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::timeout;

use crate::stage::{Compute, Stage, account};

/// Guards against hanging, and is shorter than any lock that the tenants here hold.
const SOON: Duration = Duration::from_secs(30);

/// A server and its root: with CREATE USER anybody can become that.
async fn taken_over() -> (Stage, Compute, Conn) {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("boss", "b", true)];
    stage.spec.databases = vec!["app".into()];
    let compute = stage.ready().await;
    let mut boss = compute.login("boss", b"b").await.unwrap();
    boss.query_drop("ALTER USER root@localhost IDENTIFIED BY 'r'")
        .await
        .unwrap();
    let root = compute.login("root", b"r").await.unwrap();
    (stage, compute, root)
}

async fn quiesced(compute: &Compute, forced: bool) -> Result<String, tonic::Status> {
    let request = QuiesceRequest {
        forced,
        patience_ms: 100,
    };
    let mut agent = compute.agent().await;
    let asked = timeout(SOON, agent.quiesce(request)).await.expect("an answer");
    asked.map(|reply| reply.into_inner().busy)
}

fn made(name: &str) -> ApplyRequest {
    ApplyRequest {
        databases: vec![Database {
            name: name.into(),
            absent: false,
        }],
        ..ApplyRequest::default()
    }
}

#[tokio::test]
async fn privilege_tables_of_other_types_than_they_should_have_are_read_as_far_as_they_can_be() {
    let (_stage, compute, mut root) = taken_over().await;
    for statement in [
        "ALTER TABLE mysql.global_priv MODIFY User VARBINARY(128) NOT NULL, MODIFY Priv LONGBLOB",
        "INSERT INTO mysql.global_priv VALUES ('%', X'FF', '{}'), ('%', 'null', NULL), ('%', 'array', '[]')",
        "INSERT INTO mysql.global_priv VALUES ('%', 'bytes', X'FF00')",
        "ALTER TABLE mysql.db MODIFY Db BLOB, DROP PRIMARY KEY",
        "INSERT INTO mysql.db (Host, Db, User) VALUES ('%', NULL, 'boss'), ('%', X'FE', 'boss')",
        "ALTER TABLE mysql.roles_mapping MODIFY Role VARBINARY(128) NULL",
        "INSERT INTO mysql.roles_mapping VALUES ('%', 'boss', NULL, 'N')",
    ] {
        root.query_drop(statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let boss = async || {
        let mut agent = compute.agent().await;
        let looked = agent.look(LookRequest {}).await.expect("the agent goes on");
        let accounts = looked.into_inner().server.unwrap().accounts;
        accounts.into_iter().find(|account| account.user == "boss")
    };
    assert_eq!(boss().await.unwrap().database_patterns, ["app"]);
    drop(root);
    assert_eq!(quiesced(&compute, true).await.unwrap(), "");
    // The server itself starts with none of these.
    compute.stop().await;
}

#[tokio::test]
async fn a_change_that_waits_for_the_tenant_s_locks_is_given_up_and_the_agent_goes_on() {
    let (_stage, compute, mut root) = taken_over().await;
    root.query_drop("FLUSH TABLES WITH READ LOCK").await.unwrap();
    let mut agent = compute.agent().await;
    let refused = timeout(SOON, agent.apply(made("fresh"))).await.expect("an answer");
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("Lock wait timeout"), "{refused}");
    let busy = quiesced(&compute, false).await.unwrap();
    assert!(busy.contains("of root"), "{busy}");
    root.query_drop("UNLOCK TABLES").await.unwrap();
    let server = agent.apply(made("fresh")).await.unwrap().into_inner().server.unwrap();
    assert!(server.databases.contains(&"fresh".to_owned()));
    root.query_drop("FLUSH TABLES WITH READ LOCK").await.unwrap();
    timeout(SOON, compute.stop()).await.expect("it ends");
}

#[tokio::test]
async fn what_a_tenant_puts_where_the_door_is_shut_is_in_nobody_s_way() {
    let (stage, compute, mut root) = taken_over().await;
    let away = stage.spec.run_dir.join("m.away");
    root.query_drop(format!(
        "CREATE TABLE app.t (a INT) ENGINE=InnoDB DATA DIRECTORY='{}'",
        away.display()
    ))
    .await
    .unwrap();
    assert!(away.is_dir(), "a directory of the tenant's");
    root.query_drop("DROP TABLE app.t").await.unwrap();
    drop(root);
    assert_eq!(quiesced(&compute, false).await.unwrap(), "");
    compute.stop().await;
    std::fs::create_dir_all(away.join("app")).unwrap();
    std::fs::create_dir_all(stage.spec.server_socket()).unwrap();
    let again = stage.ready().await;
    again.stop().await;
}
