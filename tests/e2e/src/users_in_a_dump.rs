//! `mariadb-dump --system=users` and what becomes of it: in the project that it is of, in another one, and in a project
//! that somebody moves to from a server of their own. The users keep their passwords; nobody else's secret comes along.

use std::path::Path;

use harness::cli::{self, Output};
use harness::client::{error_code, run, value};
use harness::{Direct, Endpoint, Project, Selkie};
use mysql_async::prelude::Queryable;
use tokio::process::Command;

fn user(project: &Project<'_>, name: &str, password: &str) -> Endpoint {
    project
        .endpoint
        .with_user(&format!("{}.{name}", project.id))
        .with_password(password)
        .with_database("")
}

/// A client program of MariaDB's at that endpoint.
fn program(name: &str, at: &Endpoint) -> Command {
    let mut command = Command::new(name);
    command
        .args(["--no-defaults", "--host", &at.host, "--port", &at.port.to_string()])
        .args(["--user", &at.user])
        .env("MYSQL_PWD", &at.password);
    command
}

async fn dump(at: &Endpoint, how: &str, file: &Path) -> Output {
    let mut command = program("mariadb-dump", at);
    command
        .args(["--system=users", how])
        .arg(format!("--result-file={}", file.display()));
    cli::run(&mut command).await
}

/// Goes on where a statement is refused; what was refused.
async fn restore(at: &Endpoint, file: &Path) -> String {
    let mut command = program("mariadb", at);
    command
        .args(["-A", "--force", "-e"])
        .arg(format!("source {}", file.display()));
    cli::run(&mut command).await.stderr
}

/// A project whose admin has made a user, and itself the owner of its server: dumping users takes rights on `mysql`, which
/// no tenant is given.
async fn with_owner<'a>(selkie: &'a Selkie, name: &str) -> (Project<'a>, Endpoint, mysql_async::Conn) {
    let project = selkie.project(name).await;
    let mut boss = project.admin("boss", "boss pw").await.connect().await;
    run(
        &mut boss,
        "CREATE USER ann IDENTIFIED BY 'ann pw'; GRANT SELECT ON app.* TO ann; \
         ALTER USER root@localhost IDENTIFIED BY 'own'; RENAME USER root@localhost TO chief",
    )
    .await;
    let chief = user(&project, "chief", "own");
    (project, chief, boss)
}

/// The authentication methods of the account that is logged in, as SHOW CREATE USER tells them.
async fn methods(conn: &mut mysql_async::Conn) -> Vec<String> {
    let text = value(conn, "SHOW CREATE USER").await.expect("a text");
    let (_, methods) = text.split_once(" IDENTIFIED VIA ").expect("two methods");
    methods.split(" OR ").map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_dump_taken_by_a_projects_admin_restores_its_users_in_another_project() {
    let selkie = Selkie::shared().await;
    let (from, chief, _boss) = with_owner(selkie, "dump-from").await;
    let refused = dump(
        &user(&from, "boss", "boss pw"),
        "--insert-ignore",
        Path::new("/dev/null"),
    )
    .await;
    assert!(
        refused.stderr.contains("1142"),
        "an admin has no rights on `mysql`: {}",
        refused.stderr
    );
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.sql");
    dump(&chief, "--insert-ignore", &file).await.ok();
    let mut ann_there = user(&from, "ann", "ann pw").connect().await;
    let [own, secret]: [String; 2] = methods(&mut ann_there).await.try_into().expect("two methods");
    assert!(
        std::fs::read_to_string(&file).expect("the dump").contains(&secret),
        "of the gateway's"
    );

    let to = selkie.project("dump-to").await;
    let boss = to.admin("boss", "boss pw").await;
    let said = restore(&boss, &file).await;
    assert!(
        said.contains("Access denied"),
        "rights that an admin has not got: {said}"
    );
    let ann = user(&to, "ann", "ann pw");
    for _ in 0..2 {
        let mut conn = ann.connect().await;
        let [first, second]: [String; 2] = methods(&mut conn).await.try_into().expect("two methods");
        assert_eq!(first, own);
        assert_ne!(second, secret, "the other project's gateway could log in");
        conn.query_drop("SELECT 1 FROM app.nothing")
            .await
            .expect_err("there is no such table");
        assert_eq!(error_code(conn.query_drop("CREATE TABLE app.t (a INT)").await), 1142);
        drop(conn);
        to.suspend().await;
    }
    assert_eq!(error_code(user(&to, "ann", "no").try_connect().await), 1045);
    to.endpoint.connect().await;
    assert_eq!(error_code(user(&to, "chief", "wrong").try_connect().await), 1045);
    let mut chief = user(&to, "chief", "own").connect().await;
    assert_eq!(
        error_code(chief.query_drop("SELECT * FROM mysql.global_priv").await),
        1142
    );
    for reserved in ["root", "selkie_agent", "mariadb.sys"] {
        assert_eq!(
            error_code(user(&to, reserved, "own").try_connect().await),
            1045,
            "{reserved}"
        );
    }
    selkie.logs.check();
}

#[tokio::test]
async fn an_old_dump_restored_over_the_same_project_leaves_it_in_working_order() {
    let selkie = Selkie::shared().await;
    let (project, chief, mut boss) = with_owner(selkie, "dump-same").await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.sql");
    dump(&chief, "--insert-ignore", &file).await.ok();
    run(
        &mut boss,
        "ALTER USER ann IDENTIFIED BY 'new pw'; CREATE USER late IDENTIFIED BY 'late pw'",
    )
    .await;
    // Another incarnation: the secrets of agent and gateway that stand in the dump are of the one before.
    project.suspend().await;
    assert_eq!(
        restore(&chief, &file).await,
        "",
        "nothing is refused to who owns the server"
    );
    let ann = user(&project, "ann", "ann pw");
    assert_eq!(error_code(user(&project, "ann", "new pw").try_connect().await), 1045);
    assert_eq!(value(&mut ann.connect().await, "SELECT 1").await.as_deref(), Some("1"));
    project.endpoint.connect().await;
    user(&project, "late", "late pw").connect().await;

    // The agent comes in again after its connection is cut, and keeps up what it keeps up.
    let mut owner = chief.connect().await;
    let agents = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER='selkie_agent'";
    let ids: Vec<u64> = owner.query(agents).await.expect("the processlist");
    assert!(!ids.is_empty(), "the agent's connection");
    for id in ids {
        run(&mut owner, &format!("KILL CONNECTION {id}")).await;
    }
    run(&mut boss, "CREATE USER next IDENTIFIED BY 'next pw'").await;
    harness::eventually("the agent is back", async || {
        user(&project, "next", "next pw").try_connect().await.ok()
    })
    .await;
    drop((owner, boss));
    project.suspend().await;
    assert_eq!(value(&mut ann.connect().await, "SELECT 2").await.as_deref(), Some("2"));
    selkie.logs.check();
}

#[tokio::test]
async fn users_of_a_server_of_ones_own_move_with_their_passwords() {
    let selkie = Selkie::shared().await;
    let server = Direct::start().await;
    let ann = server.account("app");
    server.sql(
        "DELETE FROM mysql.global_priv WHERE Host NOT IN ('localhost', '%'); FLUSH PRIVILEGES; \
         CREATE USER shut IDENTIFIED BY 'x' ACCOUNT LOCK; \
         CREATE USER few IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 1; CREATE ROLE readers; GRANT readers TO few",
    );
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.sql");
    let mut command = Command::new("mariadb-dump");
    command
        .args([
            "--no-defaults",
            "--user=root",
            "--system=users",
            "--insert-ignore",
            "--socket",
        ])
        .arg(server.socket())
        .arg(format!("--result-file={}", file.display()));
    cli::run(&mut command).await.ok();

    let to = selkie.project("dump-moved").await;
    let mut boss = to.admin("boss", "boss pw").await.connect().await;
    run(&mut boss, "DROP USER app").await;
    let said = restore(&user(&to, "boss", "boss pw"), &file).await;
    assert!(said.contains("Access denied") && said.contains("root"), "{said}");
    let moved = user(&to, "app", &ann.password).with_database("app");
    run(&mut moved.connect().await, "CREATE TABLE moved (a INT)").await;
    assert_eq!(error_code(user(&to, "shut", "x").try_connect().await), 4151);
    let _first = user(&to, "few", "x").connect().await;
    assert_eq!(error_code(user(&to, "few", "x").try_connect().await), 1226);
    selkie.logs.check();
}
