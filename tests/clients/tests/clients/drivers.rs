//! Every driver logs in without waking the database, wakes it with its first query, and then does all that its program
//! tries: types, prepared statements, transactions, errors, large values, LOAD DATA LOCAL, several results, reset, change
//! of user, TLS.

use clients::{folder, holds_to_the_contract, installed};
use tokio::process::Command;

fn python(driver: &str) -> Command {
    let mut command = Command::new(installed(&["python"]));
    command
        .arg(folder().join(driver).join("check.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn node(driver: &str) -> Command {
    let modules = installed(&["node", driver]);
    let mut command = Command::new("node");
    command
        .arg(folder().join(format!("node_{driver}/check.js")))
        .env("NODE_PATH", modules);
    command
}

/// Only PHP's settings allow LOAD DATA LOCAL, not a program.
fn php(driver: &str) -> Command {
    let mut command = Command::new("php");
    command
        .args(["-d", "mysqli.allow_local_infile=1"])
        .arg(folder().join(driver).join("check.php"));
    command
}

fn interpreted(interpreter: &str, program: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(folder().join(program));
    command
}

#[tokio::test]
async fn pymysql() {
    let names = [
        "types",
        "load_data_local",
        "multi_results",
        "reset_connection",
        "unknown_database",
    ];
    holds_to_the_contract("pymysql", python("pymysql"), &names).await;
}

#[tokio::test]
async fn mysqlclient() {
    let names = ["types", "load_data_local", "multi_results", "change_user"];
    holds_to_the_contract("mysqlclient", python("mysqlclient"), &names).await;
}

#[tokio::test]
async fn connector_python() {
    let names = [
        "types",
        "prepared_statement",
        "load_data_local",
        "multi_results",
        "reset_connection",
        "change_user",
    ];
    holds_to_the_contract("connector-python", python("connector_python"), &names).await;
}

#[tokio::test]
async fn aiomysql() {
    holds_to_the_contract("aiomysql", python("aiomysql"), &["many_at_once", "multi_results"]).await;
}

#[tokio::test]
async fn node_mysql2() {
    let names = [
        "types",
        "prepared_statement",
        "load_data_local",
        "multi_results",
        "reset_connection",
        "change_user",
    ];
    holds_to_the_contract("node-mysql2", node("mysql2"), &names).await;
}

#[tokio::test]
async fn node_mariadb() {
    let names = [
        "types",
        "prepared_statement",
        "bulk_execute",
        "pipelined",
        "load_data_local",
        "change_user",
    ];
    holds_to_the_contract("node-mariadb", node("mariadb"), &names).await;
}

#[tokio::test]
async fn odbc() {
    let names = [
        "types",
        "prepared_statement",
        "bulk",
        "multi_results",
        "catalog",
        "kill_query",
        "tls",
        "tls_of_another_ca",
    ];
    holds_to_the_contract("odbc", python("odbc"), &names).await;
}

#[tokio::test]
async fn php_mysqli() {
    let names = [
        "types",
        "prepared_statement",
        "cursor",
        "load_data_local",
        "multi_results",
        "change_user",
        "persistent",
        "kill_query",
        "tls",
        "tls_of_another_ca",
    ];
    holds_to_the_contract("php-mysqli", php("php_mysqli"), &names).await;
}

#[tokio::test]
async fn php_pdo() {
    let names = [
        "types",
        "prepared_statement",
        "load_data_local",
        "multi_results",
        "unbuffered",
        "persistent",
        "kill_query",
        "tls",
        "tls_of_another_ca",
    ];
    holds_to_the_contract("php-pdo", php("php_pdo"), &names).await;
}

#[tokio::test]
async fn perl_dbd_mariadb() {
    let names = [
        "types",
        "prepared_statement",
        "load_data_local",
        "multi_results",
        "kill_query",
        "tls",
        "tls_of_another_ca",
    ];
    holds_to_the_contract(
        "perl-dbd-mariadb",
        interpreted("perl", "perl_dbd_mariadb/check.pl"),
        &names,
    )
    .await;
}

#[tokio::test]
async fn ruby_mysql2() {
    let names = [
        "types",
        "prepared_statement",
        "load_data_local",
        "multi_results",
        "unbuffered",
        "async",
        "kill_query",
        "tls",
        "tls_of_another_ca",
    ];
    holds_to_the_contract("ruby-mysql2", interpreted("ruby", "ruby_mysql2/check.rb"), &names).await;
}

#[tokio::test]
async fn connector_j() {
    let mut command = Command::new("java");
    command
        // The program runs for seconds: what the second compiler would gain is less than it costs.
        .arg("-XX:TieredStopAtLevel=1")
        .arg("-cp")
        .arg(format!(
            "{}:/usr/share/java/mariadb-java-client.jar",
            installed(&["java"]).display()
        ))
        .arg("Check");
    let names = [
        "types",
        "prepared_statement",
        "bulk",
        "load_data_local",
        "multi_results",
        "unbuffered",
        "kill_query",
        "tls",
        "tls_of_another_ca",
    ];
    holds_to_the_contract("connector-j", command, &names).await;
}

#[tokio::test]
async fn go_sql_driver() {
    let names = [
        "types",
        "prepared_statement",
        "load_data_local",
        "multi_results",
        "cancelled",
    ];
    holds_to_the_contract("go", Command::new(installed(&["go"])), &names).await;
}

#[tokio::test]
async fn mysql_async() {
    let names = [
        "types",
        "prepared_statement",
        "load_data_local",
        "multi_results",
        "reset_connection",
        "change_user",
    ];
    holds_to_the_contract(
        "mysql-async",
        Command::new(env!("CARGO_BIN_EXE_client-mysql-async")),
        &names,
    )
    .await;
}

#[tokio::test]
async fn sqlx() {
    let names = ["types", "prepared_statement", "multi_results"];
    holds_to_the_contract("sqlx", Command::new(env!("CARGO_BIN_EXE_client-sqlx")), &names).await;
}

#[tokio::test]
async fn mariadb_command_line() {
    let mut command = Command::new("bash");
    command.arg(folder().join("mariadb_cli/check.sh"));
    let names = [
        "types",
        "prepared_statement",
        "load_data_local",
        "multi_results",
        "status",
    ];
    holds_to_the_contract("mariadb-cli", command, &names).await;
}
