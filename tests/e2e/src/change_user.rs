//! COM_CHANGE_USER ends at the gateway: it needs no running database, checks the new user there, and afterwards the
//! session is as fresh as after a login.

use harness::client::Endpoint;
use harness::raw::{Packet, native_answer};
use harness::{Raw, Selkie};

/// Sends COM_CHANGE_USER with an answer to the greeting's nonce, follows what the server asks, and returns the last packet.
async fn change(raw: &mut Raw, to: &Endpoint) -> Packet {
    let answer = native_answer(&to.password, &raw.greeting.nonce);
    let mut packet = vec![0x11];
    packet.extend(to.user.as_bytes());
    packet.push(0);
    packet.push(answer.len() as u8);
    packet.extend(&answer);
    packet.extend(to.database.as_bytes());
    packet.extend(b"\0\x2d\0mysql_native_password\0");
    raw.send(0, &packet).await;
    raw.finish_login(to, false).await
}

#[tokio::test]
async fn changes_user_asleep_without_waking() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("change-asleep").await;
    let other = project.user("other", "other password").await;
    let mut raw = Raw::login(&project.endpoint).await;
    assert_eq!(change(&mut raw, &other).await.payload[0], 0);
    assert_eq!(project.compute().await.incarnation, 0);
    assert_eq!(raw.query("SELECT CURRENT_USER()").await.ok().text(), "other@%");
    selkie.logs.check();
}

#[tokio::test]
async fn changes_user_awake_and_leaves_nothing_of_the_old_session() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("change-awake").await;
    let other = project.user("other", "other password").await;
    let mut raw = Raw::login(&project.endpoint).await;
    raw.query("SET @left = 1, sql_mode = 'ANSI', NAMES latin1").await.ok();
    raw.query("CREATE TEMPORARY TABLE left_over (a INT)").await.ok();
    // Without a project, the name is looked for in the present one.
    assert_eq!(change(&mut raw, &other.with_user("other")).await.payload[0], 0);
    assert_eq!(raw.query("SELECT CURRENT_USER()").await.ok().text(), "other@%");
    let left =
        "SELECT CONCAT_WS(' ', IFNULL(@left, 'none'), @@sql_mode LIKE '%ANSI%', @@character_set_client, DATABASE())";
    assert_eq!(raw.query(left).await.ok().text(), "none 0 utf8mb4 app");
    assert_eq!(raw.query("SELECT * FROM left_over").await.error(), Some(1146));
    assert_eq!(change(&mut raw, &project.endpoint).await.payload[0], 0);
    assert_eq!(raw.query("SELECT CURRENT_USER()").await.ok().text(), "app@%");
    selkie.logs.check();
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_names_no_user() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("change-refused").await;
    let other = project.user("other", "other password").await;
    for to in [
        other.with_password("wrong"),
        other.with_user("nobody"),
        other.with_user("no-such-project.other"),
    ] {
        let mut raw = Raw::login(&project.endpoint).await;
        let answer = change(&mut raw, &to).await;
        assert_eq!(answer.error(), Some(1045), "{to:?}: {answer:?}");
    }
    assert_eq!(project.compute().await.incarnation, 0);
    selkie.logs.check();
}

#[tokio::test]
async fn changes_to_a_user_of_another_project() {
    let selkie = Selkie::shared().await;
    let (one, two) = (selkie.project("change-one").await, selkie.project("change-two").await);
    let mut raw = Raw::login(&one.endpoint).await;
    raw.query("CREATE TABLE of_one (a INT)").await.ok();
    assert_eq!(change(&mut raw, &two.endpoint).await.payload[0], 0);
    assert_eq!(raw.query("SELECT * FROM of_one").await.error(), Some(1146));
    assert_eq!(two.compute().await.incarnation, 1);
    selkie.logs.check();
}
