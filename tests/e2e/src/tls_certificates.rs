//! Certificates of both sides: the operator's, renewed while clients come and go and chosen by server name, and clients'
//! own, which accounts require.

use std::path::Path;

use harness::client::run;
use harness::pki::{Authority, Identity};
use harness::raw::{Login, client_config};
use harness::{Endpoint, Raw, Selkie, eventually};

/// The certificate that a new client is shown which asks for this server, verified by one of these authorities.
async fn shown(endpoint: &Endpoint, cas: &[&Authority], server: &str) -> Vec<u8> {
    let files: Vec<_> = cas.iter().map(|ca| ca.file.clone()).collect();
    let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
    raw.caps = Login::default().caps;
    let shown = raw
        .upgrade(client_config(&files, None), server, &Login::default())
        .await;
    shown.expect("a certificate that can be verified").to_vec()
}

fn settings(main: &Identity, more: &str) -> String {
    let (cert, key) = (main.cert.display(), main.key.display());
    format!("gateway.tls.cert = \"{cert}\"\ngateway.tls.key = \"{key}\"\n{more}")
}

fn named(identity: &Identity) -> String {
    let (cert, key) = (identity.cert.display(), identity.key.display());
    format!("[[gateway.tls.certificates]]\ncert = \"{cert}\"\nkey = \"{key}\"\n")
}

#[tokio::test]
async fn certificates_are_chosen_by_server_name_and_renewed_with_nobody_dropped() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir: &Path = dir.path();
    let (old, new) = (Authority::new(dir, "old-ca"), Authority::new(dir, "new-ca"));
    let main = old.issue(dir, "main", &["127.0.0.1"]);
    let shop = old.issue(dir, "shop", &["shop.test"]);
    let selkie = Selkie::start_with(&settings(&main, &named(&shop))).await;
    let project = selkie.project("renewed").await;
    let endpoint = Endpoint {
        ca: Some(old.file.clone()),
        ..project.endpoint.clone()
    };
    let both = [&old, &new];
    let by_default = shown(&endpoint, &both, "127.0.0.1").await;
    assert_ne!(shown(&endpoint, &both, "shop.test").await, by_default);
    let inside = || Login {
        tls: true,
        ..Login::default()
    };
    let mut session = Raw::login_with(&endpoint, inside()).await;
    session.query("SELECT 1").await.ok();

    new.issue(dir, "main", &["127.0.0.1"]);
    let renewed = eventually("the new certificate", async || {
        let seen = shown(&endpoint, &both, "127.0.0.1").await;
        (seen != by_default).then_some(seen)
    })
    .await;
    assert_eq!(shown(&endpoint, &[&new], "127.0.0.1").await, renewed);
    session.query("SELECT 'still here'").await.ok();

    selkie
        .logs
        .allow("the changed certificates cannot be used; the old ones stay");
    std::fs::write(&main.cert, "no certificate").expect("writing");
    eventually("word of it", async || {
        let lines = std::fs::read_to_string(selkie.dir().join("selkie-0.log")).expect("the log");
        lines.contains("the old ones stay").then_some(())
    })
    .await;
    assert_eq!(shown(&endpoint, &both, "127.0.0.1").await, renewed);
    session.query("SELECT 'and still'").await.ok();
    selkie.logs.check();
}

#[tokio::test]
async fn accounts_that_require_a_certificate_take_the_one_that_they_ask_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir: &Path = dir.path();
    let ca = Authority::new(dir, "clients-ca");
    let (app, other) = (ca.issue(dir, "app", &[]), ca.issue(dir, "other", &[]));
    let settings = format!("gateway.tls.client_ca = \"{}\"", ca.file.display());
    let selkie = Selkie::start_with(&settings).await;
    let project = selkie.project("x509").await;
    let boss = project.admin("boss", "boss pw").await;
    let mut boss = boss.connect().await;
    run(
        &mut boss,
        "CREATE USER any IDENTIFIED BY 'x' REQUIRE X509; \
         CREATE USER subject IDENTIFIED BY 'x' REQUIRE SUBJECT '/CN=app'; \
         CREATE USER issuer IDENTIFIED BY 'x' REQUIRE ISSUER '/CN=clients-ca'; \
         CREATE USER both_ IDENTIFIED BY 'x' REQUIRE ISSUER '/CN=else' AND SUBJECT '/CN=app'; \
         CREATE USER cipher IDENTIFIED BY 'x' REQUIRE CIPHER 'TLS_AES_256_GCM_SHA384'; \
         CREATE USER strange IDENTIFIED BY 'x' REQUIRE CIPHER 'AES128-SHA'",
    )
    .await;
    // In the clear, inside TLS, with a certificate, with another one.
    for (name, let_in) in [
        ("any", [false, false, true, true]),
        ("subject", [false, false, true, false]),
        ("issuer", [false, false, true, true]),
        ("both_", [false, false, false, false]),
        ("cipher", [false, true, true, true]),
        ("strange", [false, false, false, false]),
    ] {
        let endpoint = project
            .endpoint
            .with_user(&format!("{}.{name}", project.id))
            .with_password("x")
            .with_database("");
        let logins = [
            (false, None),
            (true, None),
            (true, Some(app.clone())),
            (true, Some(other.clone())),
        ];
        for ((tls, identity), let_in) in logins.into_iter().zip(let_in) {
            let login = Login {
                tls,
                identity,
                ..Login::default()
            };
            let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
            let answer = raw.authenticate(&endpoint, &login).await;
            let expected = (!let_in).then_some(1045);
            assert_eq!(answer.error(), expected, "{name} with {login:?}: {answer:?}");
        }
    }
    selkie.logs.check();
}
