use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::super::{Mode, Named};
use super::*;
use crate::stream::{ClientStream, Secured};

/// A certificate authority, and the directory of the gateway's files.
struct World {
    dir: TempDir,
    ca: Issuer<'static, KeyPair>,
    ca_der: CertificateDer<'static>,
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, CertificateDer<'static>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate.der().clone(), certificate.pem())
}

impl World {
    fn new() -> Self {
        let (ca, ca_der, pem) = authority("ca");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
        Self { dir, ca, ca_der }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key` for these server names; replaces what is there.
    fn make(&self, name: &str, servers: &[&str]) -> CertificateDer<'static> {
        self.make_with(name, servers, |_| {})
    }

    fn make_with(
        &self,
        name: &str,
        servers: &[&str],
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(servers.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        adjust(&mut params);
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    fn config(&self) -> Config {
        Config {
            mode: Mode::Required,
            source: Source::Operator {
                cert: self.path("main.pem"),
                key: self.path("main.key"),
            },
            named: Vec::new(),
            client_ca: None,
        }
    }

    fn named(&self, name: &str, names: &[&str]) -> Named {
        Named {
            cert: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// A client that trusts the authority and keeps tickets.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], identity: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = chain(&self.path(&format!("{name}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }
}

type ClientTls = tokio_rustls::client::TlsStream<TcpStream>;

/// A client and the gateway's end of its connection; a byte has gone each way, so that tickets have arrived.
async fn connected(
    certificates: &Certificates,
    client: &Arc<ClientConfig>,
    server: &str,
) -> io::Result<(ClientTls, TlsStream<TcpStream>, Fingerprint)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let connector = TlsConnector::from(Arc::clone(client));
    let name = ServerName::try_from(server.to_owned()).unwrap();
    let connecting = async {
        let mut tls = connector.connect(name, TcpStream::connect(address).await?).await?;
        tls.read_u8().await?;
        tls.write_u8(2).await?;
        io::Result::Ok(tls)
    };
    let accepting = async {
        let (tcp, _) = listener.accept().await?;
        let (mut tls, fingerprint) = certificates.upgrade(tcp).await?;
        tls.write_u8(1).await?;
        tls.flush().await?;
        tls.read_u8().await?;
        io::Result::Ok((tls, fingerprint))
    };
    let (client, server) = tokio::join!(connecting, accepting);
    let (server, fingerprint) = server?;
    Ok((client?, server, fingerprint))
}

/// The certificate that a client is shown which asks for this server.
async fn shown(certificates: &Certificates, world: &World, server: &str) -> CertificateDer<'static> {
    let client = Arc::new(world.client(&[&TLS13], None));
    let (client, _, fingerprint) = connected(certificates, &client, server).await.unwrap();
    let leaf = client.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    assert_eq!(
        fingerprint,
        <[u8; 32]>::from(Sha256::digest(&leaf)),
        "of what was shown"
    );
    leaf
}

#[tokio::test]
async fn each_server_name_gets_its_certificate_and_others_the_default() {
    let world = World::new();
    let main = world.make(
        "main",
        &["main.test", "other.test", "a.b.wild.test", "wild.test", "127.0.0.1"],
    );
    let one = world.make("one", &["one.test", "*.wild.test"]);
    let given = world.make("given", &["given.test", "not-given.test"]);
    let mut config = world.config();
    config.named = vec![world.named("one", &[]), world.named("given", &["given.test"])];
    let certificates = Certificates::load(&config).unwrap();
    for (server, expected) in [
        ("one.test", &one),
        ("ONE.test", &one),
        ("x.wild.test", &one),
        ("given.test", &given),
        ("main.test", &main),
        ("other.test", &main),
        ("a.b.wild.test", &main),
        ("wild.test", &main),
        ("127.0.0.1", &main),
    ] {
        assert!(shown(&certificates, &world, server).await == *expected, "{server}");
    }
}

#[test]
fn two_certificates_for_one_name_and_one_for_none_are_refused() {
    let world = World::new();
    world.make("main", &["main.test"]);
    world.make("one", &["one.test"]);
    world.make("nameless", &[]);
    let problem = |named: Vec<Named>| {
        let mut config = world.config();
        config.named = named;
        Certificates::load(&config).err().expect("refused").to_string()
    };
    let twice = problem(vec![world.named("one", &[]), world.named("main", &["ONE.test"])]);
    assert!(twice.contains("main.pem") && twice.contains("ONE.test"), "{twice}");
    let nameless = problem(vec![world.named("nameless", &[])]);
    assert!(
        nameless.contains("nameless.pem") && nameless.contains("`names`"),
        "{nameless}"
    );
}

#[tokio::test]
async fn a_reload_serves_new_clients_and_drops_nobody() {
    let world = World::new();
    world.make("main", &["main.test"]);
    let certificates = Certificates::load(&world.config()).unwrap();
    let config = Arc::new(world.client(&[&TLS13], None));
    let (mut client, mut server, _) = connected(&certificates, &config, "main.test").await.unwrap();
    let renewed = world.make("main", &["main.test"]);
    certificates.reload().unwrap();
    assert!(shown(&certificates, &world, "main.test").await == renewed);
    client.write_all(b"still here").await.unwrap();
    client.flush().await.unwrap();
    let mut heard = [0; 10];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still here");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_and_the_old_ones_stay() {
    let world = World::new();
    let good = world.make("main", &["main.test"]);
    let certificates = Certificates::load(&world.config()).unwrap();
    let key = std::fs::read(world.path("main.key")).unwrap();
    let pem = std::fs::read(world.path("main.pem")).unwrap();
    let breaks: [(&str, &dyn Fn()); 6] = [
        ("another key", &|| {
            world.make("other", &["main.test"]);
            std::fs::copy(world.path("other.key"), world.path("main.key")).unwrap();
        }),
        ("no key", &|| std::fs::remove_file(world.path("main.key")).unwrap()),
        ("an empty certificate", &|| {
            std::fs::write(world.path("main.pem"), "").unwrap()
        }),
        ("no certificate", &|| {
            std::fs::remove_file(world.path("main.pem")).unwrap()
        }),
        ("something else", &|| {
            let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
            std::fs::write(world.path("main.pem"), pem).unwrap();
        }),
        ("an expired one", &|| {
            world.make_with("main", &["main.test"], |params| {
                params.not_after = rcgen::date_time_ymd(2020, 1, 1)
            });
        }),
    ];
    for (what, break_it) in breaks {
        break_it();
        let error = certificates.reload().expect_err(what).to_string();
        assert!(
            error.contains("main.pem") || error.contains("main.key"),
            "{what}: {error}"
        );
        std::fs::write(world.path("main.key"), &key).unwrap();
        std::fs::write(world.path("main.pem"), &pem).unwrap();
        assert!(shown(&certificates, &world, "main.test").await == good, "{what}");
    }
    certificates.reload().unwrap();
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_noticed_once_they_belong_together() {
    let world = World::new();
    let first = world.make("main", &["main.test"]);
    let certificates = Arc::new(Certificates::load(&world.config()).unwrap());
    let current = || certificates.current.load().names.default.certified.cert[0].clone();
    let mut following = tokio::task::JoinSet::new();
    let follows = Arc::clone(&certificates);
    following.spawn(async move { follows.follow().await });
    sleep(LOOK_EVERY * 3).await;
    // The certificate first, its key later: in between they do not belong together.
    let second = world.make("main", &["main.test"]);
    let key = std::fs::read(world.path("main.key")).unwrap();
    std::fs::remove_file(world.path("main.key")).unwrap();
    sleep(LOOK_EVERY * 3).await;
    assert!(current() == first, "a key is missing");
    std::fs::write(world.path("main.key"), key).unwrap();
    sleep(LOOK_EVERY * 3).await;
    assert!(current() == second);
}

#[tokio::test]
async fn clients_resume_by_tickets_alone_also_after_a_reload() {
    for version in [&TLS12, &TLS13] {
        let world = World::new();
        world.make("main", &["main.test"]);
        let certificates = Certificates::load(&world.config()).unwrap();
        let client = Arc::new(world.client(&[version], None));
        let mut kinds = Vec::new();
        for round in 0..4 {
            if round == 2 {
                certificates.reload().unwrap();
            }
            let (_, server, _) = connected(&certificates, &client, "main.test").await.unwrap();
            kinds.push(server.get_ref().1.handshake_kind().unwrap());
        }
        let resumed = HandshakeKind::Resumed;
        assert_eq!(kinds, [HandshakeKind::Full, resumed, resumed, resumed], "{version:?}");
    }
}

#[tokio::test]
async fn a_ticket_is_worth_nothing_once_another_authority_vouches_for_clients() {
    let world = World::new();
    world.make("main", &["main.test"]);
    world.make("app", &[]);
    std::fs::copy(world.path("ca.pem"), world.path("clients.pem")).unwrap();
    let mut config = world.config();
    config.client_ca = Some(world.path("clients.pem"));
    let certificates = Certificates::load(&config).unwrap();
    let client = Arc::new(world.client(&[&TLS13], Some("app")));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (_, server, _) = connected(&certificates, &client, "main.test").await.unwrap();
        assert_eq!(server.get_ref().1.handshake_kind(), Some(kind));
        assert!(server.get_ref().1.peer_certificates().is_some(), "{kind:?}");
    }
    std::fs::write(world.path("clients.pem"), authority("another").2).unwrap();
    certificates.reload().unwrap();
    assert!(connected(&certificates, &client, "main.test").await.is_err());
}

/// A resumed handshake verifies nothing, and brings further tickets.
#[tokio::test]
async fn a_clients_certificate_is_worth_nothing_after_its_end_whatever_tickets_it_has() {
    let world = World::new();
    world.make("main", &["main.test"]);
    let mut config = world.config();
    config.client_ca = Some(world.path("ca.pem"));
    let certificates = Certificates::load(&config).unwrap();
    for version in [&TLS12, &TLS13] {
        world.make_with("app", &["app"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            // Whole seconds count: three at least, in which a busy machine gets to three handshakes.
            params.not_after = (SystemTime::now() + Duration::from_secs(4)).into();
        });
        let client = Arc::new(world.client(&[version], Some("app")));
        let mut kinds = Vec::new();
        let lasts = async {
            loop {
                let (client, server, fingerprint) = connected(&certificates, &client, "main.test").await.unwrap();
                kinds.push(client.get_ref().1.handshake_kind());
                let stream = ClientStream::Tls(Box::new(Secured {
                    stream: server,
                    fingerprint,
                }));
                if stream.shown().unwrap().certificate.is_none() {
                    return;
                }
            }
        };
        let ends = tokio::time::timeout(Duration::from_secs(20), lasts).await;
        assert!(ends.is_ok(), "{version:?}: it is shown for ever");
        assert_eq!(kinds.first(), Some(&Some(HandshakeKind::Full)));
        assert!(
            kinds.len() > 2 && kinds[1..].iter().all(|kind| *kind == Some(HandshakeKind::Resumed)),
            "{kinds:?}"
        );
    }
}

#[tokio::test]
async fn a_client_may_show_a_certificate_where_somebody_vouches_for_it() {
    let world = World::new();
    world.make("main", &["main.test"]);
    let app = world.make_with("app", &[], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let stranger = World::new();
    stranger.make("app", &[]);
    std::fs::copy(stranger.path("app.pem"), world.path("stranger.pem")).unwrap();
    std::fs::copy(stranger.path("app.key"), world.path("stranger.key")).unwrap();
    let mut config = world.config();
    let asks_nobody = Certificates::load(&config).unwrap();
    config.client_ca = Some(world.path("ca.pem"));
    let asks = Certificates::load(&config).unwrap();
    for (certificates, identity, seen) in [
        (&asks, Some("app"), Some(Some(&app))),
        (&asks, None, Some(None)),
        (&asks, Some("stranger"), None),
        (&asks_nobody, Some("app"), Some(None)),
    ] {
        let client = Arc::new(world.client(&[&TLS13], identity));
        let outcome = connected(certificates, &client, "main.test").await;
        let leaf = outcome.ok().map(|(_, server, _)| {
            let certificates = server.get_ref().1.peer_certificates();
            certificates.map(|chain| chain[0].clone().into_owned())
        });
        assert!(leaf.as_ref().map(Option::as_ref) == seen, "{identity:?}: {leaf:?}");
    }
}

#[test]
fn a_development_certificate_is_made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        source: Source::Development {
            dir: dir.path().to_owned(),
        },
        ..World::new().config()
    };
    Certificates::load(&config).unwrap();
    let first = std::fs::read(dir.path().join("cert.pem")).unwrap();
    Certificates::load(&config).unwrap();
    assert_eq!(std::fs::read(dir.path().join("cert.pem")).unwrap(), first);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.path().join("key.pem")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_first_end_of_each_files_certificates_is_told_by_the_setting_that_names_it() {
    let world = World::new();
    let ending = |year: i32| move |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(year, 1, 1);
    world.make_with("main", &["main.test"], ending(2040));
    world.make_with("later", &["later.test"], ending(2042));
    // A chain whose second certificate of three ends first.
    world.make_with("chain", &["chain.test"], ending(2044));
    world.make_with("above", &["above.test"], ending(2041));
    let pem = |name: &str| std::fs::read_to_string(world.path(&format!("{name}.pem"))).unwrap();
    std::fs::write(world.path("chain.pem"), pem("chain") + &pem("above") + &pem("later")).unwrap();
    world.make_with("clients", &["clients.test"], ending(2043));
    let config = Config {
        named: vec![world.named("later", &[]), world.named("chain", &[])],
        client_ca: Some(world.path("clients.pem")),
        ..world.config()
    };
    let certificates = Certificates::load(&config).unwrap();
    let first_of = |year: i64| {
        let leap_days = (year - 1969) / 4;
        ((year - 1970) * 365 + leap_days) * 86_400
    };
    let told = |expected: [i64; 4]| {
        let settings = [
            "gateway.tls.cert",
            "gateway.tls.certificates[0].cert",
            "gateway.tls.certificates[1].cert",
            "gateway.tls.client_ca",
        ];
        let expected: Ends = settings
            .map(Into::into)
            .into_iter()
            .zip(expected.map(first_of))
            .collect();
        assert_eq!(certificates.ends(), expected);
    };
    told([2040, 2042, 2041, 2043]);
    world.make_with("main", &["main.test"], ending(2050));
    told([2040, 2042, 2041, 2043]);
    certificates.reload().unwrap();
    told([2050, 2042, 2041, 2043]);
    assert_eq!(first_end(&world.path("chain.pem")).unwrap(), first_of(2041));
    assert!(first_end(&world.path("main.key")).is_err());
}

/// As `openssl x509 -req` makes it without extensions; good for a hundred years.
const VERSION_1: &str = include_str!("version1.pem");

#[test]
fn a_certificate_of_an_old_version_is_told_to_be_one_with_what_to_do() {
    let world = World::new();
    world.make("main", &["localhost"]);
    std::fs::write(world.path("main.pem"), VERSION_1).unwrap();
    let refused = Certificates::load(&world.config()).err().unwrap().to_string();
    for part in ["main.pem", "X.509 version 1", "version 3", "subjectAltName", "-extfile"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}
