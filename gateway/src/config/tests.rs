use super::*;

fn checked(raw: RawConfig) -> Result<Config, String> {
    raw.check(Path::new("/data")).map_err(|e| e.to_string())
}

#[test]
fn defaults_are_the_documented_ports() {
    let config = checked(RawConfig::default()).unwrap();
    let listen: Vec<_> = config
        .accept
        .listen
        .iter()
        .map(|listen| listen.address.to_string())
        .collect();
    assert_eq!(listen, ["127.0.0.1:3307"]);
    assert_eq!(config.http_listen.to_string(), "127.0.0.1:7400");
    assert_eq!(config.control.token_file, Path::new("/data/control/gateway.token"));
}

#[test]
fn a_bad_value_names_setting_and_value() {
    let raw = RawConfig {
        wake_timeout: "soon".into(),
        ..RawConfig::default()
    };
    let text = checked(raw).unwrap_err();
    assert!(
        text.starts_with("setting `gateway.wake_timeout`: \"soon\" is not a duration"),
        "{text}"
    );
    let raw = RawConfig {
        listen: "3307".into(),
        ..RawConfig::default()
    };
    assert!(checked(raw).unwrap_err().contains("gateway.listen"));
}

#[test]
fn an_sni_domain_with_a_wildcard_is_told_to_need_none() {
    let raw = RawConfig {
        sni_domains: vec!["db.example.org".into(), "*.example.org".into()],
        ..RawConfig::default()
    };
    let text = checked(raw).unwrap_err();
    assert!(
        text.starts_with("setting `gateway.sni_domains`: \"*.example.org\" needs no `*.`"),
        "{text}"
    );
}

#[test]
fn a_trusted_network_that_is_none_is_named() {
    let raw = RawConfig {
        proxy_protocol: RawProxyProtocol {
            trusted: vec!["10.0.0.0/8".into(), "10.1.0.1/16".into()],
        },
        ..RawConfig::default()
    };
    let text = checked(raw).unwrap_err();
    assert!(
        text.starts_with("setting `gateway.proxy_protocol.trusted`: ") && text.contains("write \"10.1.0.0/16\""),
        "{text}"
    );
}

#[test]
fn a_listener_has_what_the_gateway_has_but_for_what_it_says_itself() {
    let listener = |listen: &str| RawListener {
        listen: listen.into(),
        project: None,
        tls: RawListenerTls::default(),
        proxy_protocol: None,
    };
    let trusting = |network: &str| RawProxyProtocol {
        trusted: vec![network.into()],
    };
    let raw = |listeners| RawConfig {
        listeners,
        proxy_protocol: trusting("10.0.0.0/8"),
        ..RawConfig::default()
    };
    let own = RawListener {
        project: Some("shop".into()),
        tls: RawListenerTls {
            mode: Some("optional".into()),
        },
        proxy_protocol: Some(trusting("192.0.2.0/24")),
        ..listener("[::1]:3307")
    };
    let config = checked(raw(vec![listener("127.0.0.1:3308"), own.clone()])).unwrap();
    let seen: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| {
            let trusts = |ip: [u8; 4]| listener.proxied.trusted.contains(ip.into());
            let project = listener.project.as_deref();
            (
                project,
                listener.tls_mode,
                trusts([10, 0, 0, 1]),
                trusts([192, 0, 2, 1]),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (None, tls::Mode::Required, true, false),
            (None, tls::Mode::Required, true, false),
            (Some("shop"), tls::Mode::Optional, false, true),
        ]
    );
    let with = |adjust: fn(&mut RawListener)| {
        let mut wrong = own.clone();
        adjust(&mut wrong);
        checked(raw(vec![wrong])).unwrap_err()
    };
    for (told, expected) in [
        (
            with(|raw| raw.listen = "3308".into()),
            "`gateway.listeners.listen`: \"3308\"",
        ),
        (
            with(|raw| raw.listen = "127.0.0.1:3307".into()),
            "overlaps with gateway.listen 127.0.0.1:3307",
        ),
        (
            with(|raw| raw.listen = "0.0.0.0:3307".into()),
            "overlaps with gateway.listen",
        ),
        (
            with(|raw| raw.listen = "0.0.0.0:7400".into()),
            "overlaps with gateway.listeners.listen 0.0.0.0:7400",
        ),
        (
            with(|raw| raw.project = Some("Shop".into())),
            "`gateway.listeners.project`: \"Shop\" must be 3 to 40",
        ),
        (
            with(|raw| raw.tls.mode = Some("off".into())),
            "`gateway.listeners.tls.mode`: \"off\"",
        ),
        (
            with(|raw| {
                raw.proxy_protocol = Some(RawProxyProtocol {
                    trusted: vec!["x".into()],
                })
            }),
            "`gateway.listeners.proxy_protocol.trusted`",
        ),
    ] {
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn control_on_another_machine_needs_certificates() {
    let at = |address: &str, tls: RawControlTls| {
        let control = RawControl {
            address: address.into(),
            tls,
            ..RawControl::default()
        };
        checked(RawConfig {
            control,
            ..RawConfig::default()
        })
    };
    let all = || RawControlTls {
        ca: Some("ca".into()),
        cert: Some("c".into()),
        key: Some("k".into()),
    };
    for local in ["http://127.0.0.1:7301", "http://localhost:7301", "http://[::1]:7301"] {
        assert!(
            at(local, RawControlTls::default()).unwrap().control.tls.is_none(),
            "{local}"
        );
    }
    let told = at("http://control:7301", RawControlTls::default()).unwrap_err();
    assert!(told.contains("must be https://"), "{told}");
    assert!(at("https://control:7301", all()).unwrap().control.tls.is_some());
    let told = at("https://control:7301", RawControlTls { key: None, ..all() }).unwrap_err();
    assert!(told.contains("gateway.control.tls.key"), "{told}");
    assert!(at("http://127.0.0.1:7301", all()).is_err());
}

#[test]
fn certificate_and_key_come_together() {
    let tls = RawTls {
        cert: Some("a.pem".into()),
        ..RawTls::default()
    };
    assert!(
        checked(RawConfig {
            tls,
            ..RawConfig::default()
        })
        .unwrap_err()
        .contains("without its key")
    );
}

#[test]
fn tls_is_required_unless_said_otherwise() {
    let with = |mode: &str| {
        let tls = RawTls {
            mode: mode.into(),
            ..RawTls::default()
        };
        checked(RawConfig {
            tls,
            ..RawConfig::default()
        })
    };
    assert_eq!(checked(RawConfig::default()).unwrap().tls.mode, tls::Mode::Required);
    assert_eq!(with("optional").unwrap().tls.mode, tls::Mode::Optional);
    let text = with("require").unwrap_err();
    assert!(
        text.contains("gateway.tls.mode") && text.contains("\"require\""),
        "{text}"
    );
}
