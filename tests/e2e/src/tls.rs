//! Inside TLS: both methods, with full authentication where the fast way cannot work, and everything after.

use harness::raw::{Login, Plugin};
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
        assert_eq!(large.packets[2].payload.len(), 20_000_004);
    }
    selkie.logs.check();
}

/// `SET PASSWORD` on the compute leaves only the native verifier, so that the fast way of caching_sha2 cannot work.
#[tokio::test]
async fn a_password_set_in_sql_works_by_full_authentication() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("tls-full").await;
    let mut raw = login(&project.endpoint, Plugin::Native).await;
    raw.query("SET PASSWORD = PASSWORD('changed in SQL')").await.ok();
    let changed = project.endpoint.with_password("changed in SQL");
    // The first login needs full authentication, the second finds the verifier that the first left.
    for _ in 0..2 {
        let mut raw = harness::eventually("the change is known to the gateway", async || {
            let mut raw = Raw::connect(&changed.host, changed.port).await;
            let login = Login {
                plugin: Plugin::CachingSha2Empty,
                tls: true,
                ..Login::default()
            };
            let answer = raw.authenticate(&changed, &login).await;
            (answer.payload[0] == 0).then_some(raw)
        })
        .await;
        raw.query("SELECT 1").await.ok();
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
