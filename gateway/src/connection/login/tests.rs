//! Logins of clients whose address no test can connect from: real sockets over loopback, and an [`Accepted`] that says
//! that the client came from elsewhere.

use std::net::SocketAddr;
use std::path::Path;

use control_api::control as proto;
use mysql_wire::capabilities::Capabilities;
use mysql_wire::err::ErrPacket;
use mysql_wire::greeting::Greeting;
use mysql_wire::login::{LoginPacket, encode_attributes};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sha1::{Digest, Sha1};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::accept::turnstile::Turnstile;
use crate::accept::{Arrival, doors, listeners};
use crate::accounts::{AccountSource, Accounts};
use crate::activity::Clock;
use crate::auth::throttle::Throttle;
use crate::auth::{Decoy, native_response};
use crate::config::{RawConfig, RawListener, RawListenerTls};
use crate::drain::Drain;
use crate::handshake::write_packet;
use crate::metrics::{Metrics, Throttled};
use crate::route::Routes;
use crate::stream::read_packet;
use crate::wake::{Ask, AskError, ComputeSource, Wakes};

const ELSEWHERE: &str = "192.0.2.7:40000";

/// Control that nobody may ask: no login does.
struct Nobody;

#[async_trait::async_trait]
impl ComputeSource for Nobody {
    async fn wake(&self, _: Ask) -> Result<proto::WakeReply, AskError> {
        panic!("a login asked for a compute")
    }
}

#[async_trait::async_trait]
impl AccountSource for Nobody {
    async fn accounts_changed(&self, _: &str, _: u64) {
        panic!("a login asked for accounts")
    }
}

/// A gateway that knows a project `p` with a user `u`, whose password is `secret`.
fn gateway(dir: &Path, adjust: impl FnOnce(&mut RawConfig)) -> Gateway {
    let mut raw = RawConfig {
        listen: "127.0.0.1:0".into(),
        ..RawConfig::default()
    };
    adjust(&mut raw);
    let config = raw.check(dir).unwrap();
    let routes = Arc::new(Routes::default());
    routes.apply(&project("p"));
    let metrics = Metrics::new(1).unwrap();
    let turned_away = [Throttled::HalfOpen, Throttled::Address].map(|by| metrics.throttled(by));
    Gateway {
        turnstile: Turnstile::new(&config.turnstile, turned_away),
        throttle: Throttle::new(&config.throttle, metrics.throttled(Throttled::Password)),
        tls: Arc::new(crate::tls::Certificates::load(&config.tls).unwrap()),
        wakes: Wakes::new(
            config.wake.clone(),
            Arc::new(Nobody),
            Arc::clone(&routes),
            tokio::runtime::Handle::current(),
        ),
        routes,
        accounts: Accounts::new(Nobody),
        decoy: Decoy::random(),
        drain: Drain::default(),
        metrics,
        meter: Arc::new(crate::meter::Meter::open(&config.usage, 0).unwrap()),
        clock: Clock::start(),
        sessions: Arc::default(),
        seats: crate::accept::Seats::new(1, config.accept.max_clients),
        settings: arc_swap::ArcSwap::from_pointee(config),
    }
}

fn project(id: &str) -> proto::Project {
    proto::Project {
        id: id.into(),
        users: vec![proto::User {
            name: "u".into(),
            native_sha1: Sha1::digest(Sha1::digest(b"secret")).to_vec(),
            ..proto::User::default()
        }],
        ..proto::Project::default()
    }
}

fn bound_to(project: &str) -> RawListener {
    RawListener {
        listen: "127.0.0.1:0".into(),
        project: Some(project.into()),
        tls: RawListenerTls::default(),
        proxy_protocol: None,
    }
}

/// Two ends of a connection to this listener whose client has this address.
async fn connected(gateway: &Gateway, listener: usize, peer: Option<&str>, via_proxy: bool) -> (TcpStream, Accepted) {
    let bound = listeners(&gateway.config().accept, 1).unwrap();
    let mut door = doors(&gateway.seats, bound.by_thread).remove(0).open().unwrap();
    let client = TcpStream::connect(bound.addresses[listener]).await.unwrap();
    let Arrival::Client(mut accepted) = door.next().await.unwrap() else {
        panic!("no place")
    };
    if let Some(peer) = peer {
        accepted.peer = peer.parse::<SocketAddr>().unwrap();
    }
    accepted.via_proxy = via_proxy;
    (client, accepted)
}

/// Who a client says it is.
#[derive(Clone, Copy)]
struct Says {
    name: &'static str,
    plugin: &'static str,
    tls: bool,
    /// The server that TLS is asked for.
    server: &'static str,
    /// The project that the connection attribute names.
    attribute: &'static str,
}

const RIGHT: Says = Says {
    name: "p.u",
    plugin: "mysql_native_password",
    tls: false,
    server: "localhost",
    attribute: "",
};

/// The packet that answers the login packet: its sequence id and payload.
async fn first_answer(mut tcp: TcpStream, ca: &Path, says: Says) -> (u8, Vec<u8>) {
    let greeting = Greeting::decode(&read_packet(&mut tcp, 1024).await.unwrap().payload).unwrap();
    let mut capabilities = Capabilities::PROTOCOL_41
        .union(Capabilities::SECURE_CONNECTION)
        .union(Capabilities::PLUGIN_AUTH)
        .union(Capabilities::CONNECT_ATTRS);
    let mut sequence = 1;
    if says.tls {
        capabilities = capabilities.union(Capabilities::SSL);
    }
    let answer = native_response(b"secret", &greeting.nonce);
    let attributes = encode_attributes([(&b"selkie_project"[..], says.attribute.as_bytes())]);
    let login = LoginPacket {
        capabilities,
        max_packet_bytes: 1 << 24,
        collation: 45,
        user: says.name.as_bytes(),
        auth_response: &answer,
        database: None,
        auth_plugin: Some(says.plugin.as_bytes()),
        raw_attributes: &attributes,
    }
    .encode();
    if !says.tls {
        write_packet(&mut tcp, &mut sequence, &login).await.unwrap();
        let packet = read_packet(&mut tcp, 1024).await.unwrap();
        return (packet.sequence, packet.payload);
    }
    write_packet(&mut tcp, &mut sequence, &login[..32]).await.unwrap();
    let mut tls = connector(ca)
        .connect(ServerName::try_from(says.server).unwrap(), tcp)
        .await
        .unwrap();
    write_packet(&mut tls, &mut sequence, &login).await.unwrap();
    let packet = read_packet(&mut tls, 1024).await.unwrap();
    (packet.sequence, packet.payload)
}

fn connector(ca: &Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// What a client has to trust.
fn authority(gateway: &Gateway) -> std::path::PathBuf {
    match &gateway.config().tls.source {
        crate::tls::Source::Operator { cert, .. } => cert.clone(),
        crate::tls::Source::Development { .. } => gateway.config().ca_file().unwrap(),
    }
}

/// A certificate for these servers, signed by itself; the authority for those who trust it is the same file.
fn certificate(dir: &Path, servers: &[&str]) -> (std::path::PathBuf, std::path::PathBuf) {
    let servers: Vec<_> = servers.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(servers).unwrap();
    let (cert, key) = (dir.join("servers.pem"), dir.join("servers.key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

/// What a client from there is answered, and whether it was let in.
async fn log_in_from(gateway: &Gateway, peer: Option<&str>, via_proxy: bool, says: Says) -> (u8, Vec<u8>, bool) {
    log_in_at(gateway, 0, peer, via_proxy, says).await
}

/// The same, at one of its listeners.
async fn log_in_at(
    gateway: &Gateway,
    listener: usize,
    peer: Option<&str>,
    via_proxy: bool,
    says: Says,
) -> (u8, Vec<u8>, bool) {
    let ca = authority(gateway);
    let (client, accepted) = connected(gateway, listener, peer, via_proxy).await;
    let (served, (sequence, payload)) = tokio::join!(log_in(gateway, accepted, 7), first_answer(client, &ca, says));
    (sequence, payload, served.is_some())
}

#[tokio::test]
async fn a_client_from_elsewhere_without_tls_is_refused_before_any_exchange_whoever_it_says_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(dir.path(), |_| {});
    for name in ["p.u", "p.nobody", "nowhere.u", "u"] {
        // A client that names another plugin than the greeting's is asked to switch, where it is asked anything.
        for plugin in ["mysql_native_password", "caching_sha2_password", "client_ed25519"] {
            let says = Says { name, plugin, ..RIGHT };
            let (sequence, payload, served) = log_in_from(&gateway, Some(ELSEWHERE), false, says).await;
            let told = ErrPacket::decode(&payload, Capabilities::PROTOCOL_41).unwrap();
            let text = format!("Access denied for user '{name}'@'192.0.2.7' (using password: YES)");
            assert_eq!(
                (told.code, told.sqlstate, told.message, sequence, served),
                (1045, Some(*b"28000"), text.as_bytes(), 2, false),
                "{name} {plugin}"
            );
        }
    }
}

#[tokio::test]
async fn who_may_log_in_without_tls_is_decided_by_where_the_connection_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(dir.path(), |_| {});
    let inside = Says { tls: true, ..RIGHT };
    for (peer, via_proxy, says, let_in) in [
        (None, false, RIGHT, true),
        (None, true, RIGHT, false),
        (Some(ELSEWHERE), false, RIGHT, false),
        (Some(ELSEWHERE), false, inside, true),
        (None, true, inside, true),
    ] {
        let (_, payload, served) = log_in_from(&gateway, peer, via_proxy, says).await;
        let first = if let_in { 0 } else { 0xff };
        assert_eq!(
            (served, payload[0]),
            (let_in, first),
            "{peer:?} {via_proxy} {}",
            says.tls
        );
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_require_tls_lets_in_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(dir.path(), |raw| raw.tls.mode = "optional".into());
    let (_, payload, served) = log_in_from(&gateway, Some(ELSEWHERE), true, RIGHT).await;
    assert_eq!((served, payload[0]), (true, 0));
}

#[tokio::test]
async fn what_an_account_asks_for_besides_the_password_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(dir.path(), |_| {});
    let inside = Says { tls: true, ..RIGHT };
    let with = |adjust: &dyn Fn(&mut proto::User)| {
        let mut project = project("p");
        adjust(&mut project.users[0]);
        gateway.routes.apply(&project);
    };
    for (require, plain, in_tls) in [
        (proto::Require::None, 0, 0),
        (proto::Require::Ssl, 1045, 0),
        (proto::Require::Certificate, 1045, 1045),
    ] {
        with(&|user| user.require = require.into());
        for (says, expected) in [(RIGHT, plain), (inside, in_tls)] {
            let (_, payload, served) = log_in_from(&gateway, None, false, says).await;
            let code = ErrPacket::decode(&payload, Capabilities::PROTOCOL_41).map_or(0, |err| err.code);
            assert_eq!((code, served), (expected, expected == 0), "{require:?} {}", says.tls);
        }
    }
    with(&|user| user.locked = true);
    let (_, payload, served) = log_in_from(&gateway, None, false, RIGHT).await;
    let told = ErrPacket::decode(&payload, Capabilities::PROTOCOL_41).unwrap();
    assert_eq!((told.code, served), (4151, false));
}

/// A client that sends it all the same is asked for the hash, and what it sent is not looked at.
#[tokio::test]
async fn in_the_clear_no_password_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(dir.path(), |_| {});
    let says = Says {
        plugin: "mysql_clear_password",
        ..RIGHT
    };
    let (_, payload, _) = log_in_from(&gateway, None, false, says).await;
    assert!(payload.starts_with(b"\xfemysql_native_password\0"), "{payload:02x?}");
}

#[tokio::test]
async fn a_project_may_be_named_by_server_name_or_attribute() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path(), &["p.db.test", "no.db.test", "p.else.test", "localhost"]);
    let gateway = gateway(dir.path(), |raw| {
        raw.tls.cert = Some(cert);
        raw.tls.key = Some(key);
        raw.sni_domains = vec!["db.test".into()];
    });
    for (name, server, attribute, let_in) in [
        ("p.u", "localhost", "", true),
        ("u", "localhost", "", false),
        ("u", "p.db.test", "", true),
        ("p.u", "p.db.test", "", true),
        ("u", "p.else.test", "", false),
        ("p.u", "no.db.test", "", false),
        ("u", "localhost", "p", true),
        ("p.u", "localhost", "p", true),
        ("p.u", "localhost", "no", false),
        ("u", "p.db.test", "no", true),
    ] {
        let says = Says {
            name,
            server,
            attribute,
            tls: true,
            ..RIGHT
        };
        let (_, _, served) = log_in_from(&gateway, Some(ELSEWHERE), false, says).await;
        assert_eq!(served, let_in, "{name} at {server} with {attribute:?}");
    }
    // Other domains, as a reload brings them, hold for who comes next.
    let mut config = (*gateway.config()).clone();
    config.sni_domains = vec!["else.test".into()];
    gateway.settings.store(Arc::new(config));
    for (server, let_in) in [("p.db.test", false), ("p.else.test", true)] {
        let says = Says {
            name: "u",
            server,
            tls: true,
            ..RIGHT
        };
        let (_, _, served) = log_in_from(&gateway, Some(ELSEWHERE), false, says).await;
        assert_eq!(served, let_in, "at {server}");
    }
}

#[tokio::test]
async fn at_a_listener_of_one_project_nothing_that_a_client_says_names_another() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path(), &["p.db.test", "shop.db.test", "localhost"]);
    let gateway = gateway(dir.path(), |raw| {
        raw.tls.cert = Some(cert);
        raw.tls.key = Some(key);
        raw.sni_domains = vec!["db.test".into()];
        raw.listeners = vec![bound_to("shop")];
    });
    gateway.routes.apply(&project("shop"));
    let refusal = async |says: Says| {
        let (sequence, payload, served) = log_in_at(&gateway, 1, Some(ELSEWHERE), false, says).await;
        if served {
            return None;
        }
        let told = ErrPacket::decode(&payload, Capabilities::PROTOCOL_41).unwrap();
        let text = String::from_utf8_lossy(told.message).replace(&format!("'{}'", says.name), "'NAME'");
        Some((sequence, told.code, text))
    };
    let here = Says {
        name: "u",
        tls: true,
        ..RIGHT
    };
    for let_in in [
        here,
        Says { name: "shop.u", ..here },
        Says {
            server: "shop.db.test",
            ..here
        },
        Says {
            attribute: "shop",
            ..here
        },
    ] {
        assert_eq!(refusal(let_in).await, None, "{} at {}", let_in.name, let_in.server);
    }
    let unknown = refusal(Says { name: "nobody", ..here }).await;
    assert!(unknown.is_some());
    for strays in [
        Says { name: "p.u", ..here },
        Says {
            name: "nowhere.u",
            ..here
        },
        Says {
            server: "p.db.test",
            ..here
        },
        Says { attribute: "p", ..here },
        // It is the listener's own that the name says: what else names a project counts all the same.
        Says {
            name: "shop.u",
            attribute: "p",
            ..here
        },
        Says {
            server: "shop.db.test",
            attribute: "nowhere",
            ..here
        },
    ] {
        let refused = refusal(strays).await;
        assert_eq!(
            refused, unknown,
            "{} at {} with {:?}",
            strays.name, strays.server, strays.attribute
        );
    }
}

#[tokio::test]
async fn each_listener_says_for_itself_who_must_come_inside_tls() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(dir.path(), |raw| {
        let with = |mode: Option<&str>| RawListener {
            tls: RawListenerTls {
                mode: mode.map(str::to_owned),
            },
            ..bound_to("shop")
        };
        raw.listeners = vec![with(Some("optional")), with(Some("required")), with(None)];
    });
    gateway.routes.apply(&project("shop"));
    let says = Says { name: "u", ..RIGHT };
    for (listener, let_in) in [(1, true), (2, false), (3, false)] {
        let (_, _, served) = log_in_at(&gateway, listener, Some(ELSEWHERE), false, says).await;
        assert_eq!(served, let_in, "{listener}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compute_that_does_not_answer_is_not_waited_for_before_a_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(dir.path(), |_| {});
    let socket = dir.path().join("c");
    // It is there, and takes nobody up.
    let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
    gateway.routes.apply(&proto::Project {
        compute: Some(proto::Compute {
            state: proto::ComputeState::Ready.into(),
            incarnation: 1,
            socket_path: socket.display().to_string(),
            ..proto::Compute::default()
        }),
        ..project("p")
    });
    let identity = Identity {
        user: "u".into(),
        database: Some("nowhere".into()),
        collation: 45,
        attributes: Vec::new(),
        program_name: String::new(),
    };
    let session = Session::new(Capabilities::PROTOCOL_41, 1 << 24, identity);
    let project = gateway.routes.project("p").unwrap();
    let checked = timeout(2 * ASK_TIME, check_wishes(&project, &session)).await;
    let refused = checked.expect("it is waited for").unwrap_err();
    assert!(matches!(refused, AuthError::DatabaseDenied { .. }), "{refused}");
}
