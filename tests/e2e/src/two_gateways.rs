//! Two gateways of one project: what is changed through one holds for the sessions of the other, and ends none of them.

use harness::client::{error_code, run};
use harness::{Endpoint, Raw, Selkie};

use crate::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_attaches_right_after_its_account_was_changed_elsewhere() {
    let selkie = Selkie::start().await;
    let other = Service::gateway(&selkie, selkie.control_port());
    other.serves().await;
    let project = selkie.project("both").await;
    let mut boss = project.admin("boss", "boss pw").await.connect().await;
    // By a procedure, no gateway knows of it before the agent looks: what ALTER USER takes from the account, and the lock,
    // would refuse the other gateway.
    for statement in [
        "CREATE USER ann IDENTIFIED BY 'pw 0'",
        "CREATE PROCEDURE app.change(n INT) EXECUTE IMMEDIATE CONCAT('ALTER USER ann IDENTIFIED BY \"pw ', n, '\"')",
        "CREATE PROCEDURE app.lock_it() ALTER USER ann ACCOUNT LOCK",
        "CREATE PROCEDURE app.drop_it() DROP USER ann",
    ] {
        run(&mut boss, statement).await;
    }
    let ann = |n: usize| Endpoint {
        port: other.ports[0],
        user: format!("{}.ann", project.id),
        password: format!("pw {n}"),
        database: String::new(),
        ..selkie.demo()
    };
    let mut sessions = Vec::new();
    for _ in 0..7 {
        sessions.push(Raw::login(&ann(0)).await);
    }
    let mut next = || sessions.pop().expect("a session");
    for n in 1..=5 {
        run(&mut boss, &format!("CALL app.change({n})")).await;
        assert_eq!(next().query("SELECT 1").await.ok().text(), "1", "{n}");
        // The look that let it in has told this gateway of the password, too.
        assert_eq!(error_code(ann(n - 1).try_connect().await), 1045);
        Raw::login(&ann(n)).await;
    }
    run(&mut boss, "CALL app.lock_it()").await;
    assert_eq!(next().query("SELECT 1").await.ok().text(), "1", "a lock is for logins");
    run(&mut boss, "CALL app.drop_it()").await;
    assert_eq!(
        next().query("SELECT 1").await.error(),
        Some(1045),
        "there is no account to attach as"
    );
    other.stop();
    selkie.logs.check();
}
