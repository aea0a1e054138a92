//! Inside TLS: both methods, with full authentication where the fast way cannot work, and everything after.

use harness::raw::{Login, Plugin, vouched};
use harness::{Endpoint, Raw, Selkie};

async fn login(endpoint: &Endpoint, plugin: Plugin) -> Raw {
    Raw::login_with(
        endpoint,
        Login {
            plugin,
            tls: true,
            ..Login::default()
        },
    )
    .await
}

#[tokio::test]
async fn every_method_works_inside_tls() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("tls").await;
    for plugin in [Plugin::Native, Plugin::CachingSha2, Plugin::CachingSha2Empty] {
        let mut raw = login(&project.endpoint, plugin).await;
        assert_eq!(raw.query("SELECT 'secret'").await.ok().text(), "secret");
        let large = raw.query("SELECT REPEAT('x', 20000000)").await.ok();
        assert_eq!(large.packets[2].payload.len(), 20_000_009);
    }
    selkie.logs.check();
}

/// Some drivers send a scramble that no server can verify and count on being asked for the password itself.
#[tokio::test]
async fn an_answer_that_cannot_be_verified_is_followed_by_full_authentication_inside_tls_only() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("tls-full").await;
    let wrong = project.endpoint.with_password("wrong");
    for (tls, endpoint, expected) in [
        (true, &project.endpoint, None),
        (true, &wrong, Some(1045)),
        (false, &project.endpoint, Some(1045)),
    ] {
        let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
        let login = Login {
            plugin: Plugin::CachingSha2,
            tls,
            ..Login::default()
        };
        raw.introduce(endpoint, &login).await;
        let switch = raw.packet().await;
        assert_eq!(switch.payload[0], 0xfe, "{switch:?}");
        raw.send(switch.seq + 1, &[7; 32]).await;
        let answer = raw.finish_login(endpoint, tls).await;
        assert_eq!(answer.error(), expected, "tls {tls}: {answer:?}");
        if expected.is_none() {
            raw.query("SELECT 1").await.ok();
        }
    }
    selkie.logs.check();
}

#[tokio::test]
async fn wrong_passwords_are_refused_inside_tls_as_outside() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("tls-wrong").await;
    for endpoint in [
        project.endpoint.with_password("wrong"),
        project.endpoint.with_user("nobody.app"),
    ] {
        for plugin in [Plugin::Native, Plugin::CachingSha2, Plugin::CachingSha2Empty] {
            let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
            let answer = raw
                .authenticate(
                    &endpoint,
                    &Login {
                        plugin,
                        tls: true,
                        ..Login::default()
                    },
                )
                .await;
            assert_eq!(answer.error(), Some(1045), "{plugin:?}: {answer:?}");
        }
    }
    assert_eq!(project.compute().await.incarnation, 0);
    selkie.logs.check();
}

/// Clients of MariaDB 11.4 take a certificate that they cannot verify where the OK shows that it belongs to whoever knows the
/// password.
#[tokio::test]
async fn the_ok_vouches_for_the_certificate_where_both_sides_have_a_hash_of_the_password() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("tls-vouch").await;
    let endpoint = &project.endpoint;
    let certificate = selkie.data_dir().join("tls/cert.pem");
    for (tls, plugin, vouches) in [
        (true, Plugin::Native, true),
        (true, Plugin::CachingSha2, false),
        (false, Plugin::Native, false),
    ] {
        let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
        let login = Login {
            tls,
            plugin,
            ..Login::default()
        };
        let ok = raw.authenticate(endpoint, &login).await;
        let text = vouched(&endpoint.password, &raw.greeting.nonce, &certificate);
        let expected = [&[text.len() as u8], text.as_bytes()].concat();
        // Behind the header, no rows, no id, two bytes of status and two of warnings.
        let expected = if vouches { &expected[..] } else { &[] };
        assert_eq!(&ok.payload[7..], expected, "tls {tls} {plugin:?}: {ok:?}");
        assert_eq!(ok.payload[0], 0, "{ok:?}");
    }
    selkie.logs.check();
}
