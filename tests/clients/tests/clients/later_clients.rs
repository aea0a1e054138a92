//! Command line clients that are later than this Debian's: MariaDB 11.8, which verifies certificates without being asked to,
//! and MySQL 9, which knows caching_sha2_password only.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Output;

use clients::installed;
use harness::client::run;
use harness::{Endpoint, Project, Selkie};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

/// What a client prints, and whether it thinks that all went well.
async fn asks(client: &str, endpoint: &Endpoint, more: &[&str]) -> Output {
    // Not by MYSQL_PWD: of a password in there MariaDB's client knows nothing when it decides whether to verify.
    let mut options = NamedTempFile::new().expect("an option file");
    writeln!(options, "[client]\npassword=\"{}\"", endpoint.password).expect("writing it");
    let mut command = Command::new(installed(&["foreign", client]));
    command
        .arg(format!("--defaults-file={}", options.path().display()))
        .args([
            "-h",
            &endpoint.host,
            "-P",
            &endpoint.port.to_string(),
            "-u",
            &endpoint.user,
        ])
        .args(["--protocol=tcp", "-N", "-B", "-e", "SELECT 41 + 1"])
        .args(more)
        .kill_on_drop(true);
    harness::wait::guarded(client, command.output())
        .await
        .expect("the client runs")
}

fn answered(output: &Output) -> Result<(), String> {
    match String::from_utf8_lossy(&output.stdout).trim() {
        "42" if output.status.success() => Ok(()),
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The gateway under an address that the client does not take for its own machine's: passes everything on.
async fn elsewhere(endpoint: &Endpoint, passing: &mut JoinSet<()>) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("an address");
    let address = listener.local_addr().expect("it");
    let gateway: SocketAddr = format!("{}:{}", endpoint.host, endpoint.port).parse().expect("it");
    passing.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.expect("a client");
            connections.spawn(async move {
                let mut gateway = TcpStream::connect(gateway).await.expect("the gateway");
                // Either side may leave as it likes.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
            });
        }
    });
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
        ..endpoint.clone()
    }
}

/// A user made by API and one made in SQL.
async fn users(project: &Project<'_>) -> [Endpoint; 2] {
    let mut boss = project.admin("boss", "boss pw").await.connect().await;
    run(&mut boss, "CREATE USER ann IDENTIFIED BY 'ann pw'").await;
    let ann = project
        .endpoint
        .with_user(&format!("{}.ann", project.id))
        .with_password("ann pw");
    [project.endpoint.clone(), ann]
}

#[tokio::test]
async fn mariadb_11_takes_a_certificate_that_it_cannot_verify_for_the_password_proves_it() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("mariadb11").await;
    let mut passing = JoinSet::new();
    for user in users(&project).await {
        let from_afar = elsewhere(&user, &mut passing).await;
        // The development authority is none of the client's; it was told of no other.
        answered(&asks("mariadb11", &from_afar, &[]).await).unwrap();
        let wrong = answered(&asks("mariadb11", &from_afar.with_password("wrong"), &[]).await).unwrap_err();
        assert!(wrong.contains("1045"), "{wrong}");
        // Where the two have no hash in common it does not.
        let unproven = asks("mariadb11", &from_afar, &["--default-auth=caching_sha2_password"]).await;
        let unproven = answered(&unproven).unwrap_err();
        assert!(unproven.contains("certificate"), "{unproven}");
        // Told whom to trust, it verifies as usual.
        let ca = format!(
            "--ssl-ca={}",
            user.ca.as_ref().expect("the development authority").display()
        );
        answered(&asks("mariadb11", &user, &[&ca]).await).unwrap();
    }
    selkie.logs.check();
}

/// An account that is proven by a key only.
async fn with_key(project: &Project<'_>) -> Endpoint {
    let mut boss = project.admin("keys", "boss pw").await.connect().await;
    run(
        &mut boss,
        "CREATE USER key_only IDENTIFIED VIA ed25519 USING PASSWORD('key pw')",
    )
    .await;
    project
        .endpoint
        .with_user(&format!("{}.key_only", project.id))
        .with_password("key pw")
        .with_database("")
}

#[tokio::test]
async fn a_key_of_ed25519_proves_the_user_and_the_certificate() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("ed25519").await;
    let mut passing = JoinSet::new();
    let by_key = ["--default-auth=client_ed25519"];
    let key_only = with_key(&project).await;
    let from_afar = elsewhere(&key_only, &mut passing).await;
    answered(&asks("mariadb11", &from_afar, &by_key).await).unwrap();
    let plain = [by_key[0], "--skip-ssl"];
    answered(&asks("mariadb11", &key_only, &plain).await).unwrap();
    let strangers = [
        key_only.with_password("wrong"),
        project.endpoint.clone(),
        key_only.with_user("nobody.key_only"),
    ];
    for stranger in strangers {
        let refused = answered(&asks("mariadb11", &stranger, &by_key).await).unwrap_err();
        assert!(refused.contains("1045"), "{}: {refused}", stranger.user);
    }
    // The exchange is the one that the client names.
    let refused = answered(&asks("mariadb11", &key_only, &[]).await).unwrap_err();
    assert!(refused.contains("1045"), "{refused}");
    selkie.logs.check();
}

#[tokio::test]
async fn a_password_itself_is_taken_inside_tls_only() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("clear").await;
    let key_only = with_key(&project).await;
    let [by_api, in_sql] = users(&project).await;
    let clear = "--default-auth=mysql_clear_password";
    for user in [&by_api, &in_sql, &key_only] {
        let ca = format!(
            "--ssl-ca={}",
            user.ca.as_ref().expect("the development authority").display()
        );
        let mysql = [clear, "--enable-cleartext-plugin", "--ssl-mode=REQUIRED"];
        for (client, options) in [("mariadb11", &[clear, &ca][..]), ("mysql9", &mysql)] {
            answered(&asks(client, user, options).await).unwrap();
            let wrong = asks(client, &user.with_password("wrong"), options).await;
            let wrong = answered(&wrong).unwrap_err();
            assert!(wrong.contains("1045"), "{client}: {wrong}");
        }
    }
    // What such a client sends in the clear proves nothing; it is asked for a hash, and of this account there is none.
    let in_the_clear = asks("mariadb11", &key_only, &[clear, "--skip-ssl"]).await;
    let refused = answered(&in_the_clear).unwrap_err();
    assert!(refused.contains("1045"), "{refused}");
    selkie.logs.check();
}

#[tokio::test]
async fn mysql_9_logs_in_users_made_by_api_and_in_sql() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("mysql9").await;
    let [by_api, in_sql] = users(&project).await;
    for user in [&by_api, &in_sql] {
        let ca = format!(
            "--ssl-ca={}",
            user.ca.as_ref().expect("the development authority").display()
        );
        answered(&asks("mysql9", user, &["--ssl-mode=REQUIRED"]).await).unwrap();
        answered(&asks("mysql9", user, &["--ssl-mode=VERIFY_CA", &ca]).await).unwrap();
        let wrong = user.with_password("wrong");
        let wrong = answered(&asks("mysql9", &wrong, &["--ssl-mode=REQUIRED"]).await).unwrap_err();
        assert!(wrong.contains("1045"), "{wrong}");
    }
    // Without TLS there is the fast way only, and a password set in SQL is not known in its form.
    answered(&asks("mysql9", &by_api, &["--ssl-mode=DISABLED"]).await).unwrap();
    let refused = answered(&asks("mysql9", &in_sql, &["--ssl-mode=DISABLED"]).await).unwrap_err();
    assert!(refused.contains("1045"), "{refused}");
    selkie.logs.check();
}
