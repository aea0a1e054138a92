//! Whatever bytes come in at whatever phase: a clear error or a clean close, and no other client notices.

use harness::client::value;
use harness::raw::{FRAME_MAX, Kind, Login, caps, frames};
use harness::{Endpoint, Raw, Selkie};
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A login packet that is right for `raw`.
fn login_packet(raw: &Raw, endpoint: &Endpoint) -> Vec<u8> {
    let answer = harness::raw::native_answer(&endpoint.password, &raw.greeting.nonce);
    let mut packet = ((caps::USUAL | caps::CONNECT_WITH_DB | caps::CONNECT_ATTRS) as u32)
        .to_le_bytes()
        .to_vec();
    packet.extend((1u32 << 24).to_le_bytes());
    packet.push(45);
    packet.extend([0; 23]);
    packet.extend(endpoint.user.as_bytes());
    packet.extend([0, 20]);
    packet.extend(answer);
    packet.extend(endpoint.database.as_bytes());
    packet.extend(b"\0mysql_native_password\0\x0a\x04_pid\x041234");
    packet
}

/// Sends `bytes`, ends the sending side, and reads to the end: it must come, and soon.
async fn ends_after(endpoint: &Endpoint, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .expect("a connection");
    let mut seen = Vec::new();
    let act = async {
        // The other side may close before all is sent.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut seen).await;
    };
    harness::wait::guarded(format_args!("the end after {} bytes", bytes.len()), act).await;
    seen
}

/// Another client's work before and after, in one session: nothing may disturb it.
struct Bystander {
    conn: mysql_async::Conn,
    pid: u32,
}

impl Bystander {
    async fn new(selkie: &Selkie, endpoint: &Endpoint) -> Self {
        let mut conn = endpoint.connect().await;
        harness::client::run(&mut conn, "SET @mine = 'undisturbed'").await;
        Self {
            conn,
            pid: selkie.pid(),
        }
    }

    async fn is_undisturbed(&mut self, selkie: &Selkie) {
        assert_eq!(
            value(&mut self.conn, "SELECT @mine").await.as_deref(),
            Some("undisturbed")
        );
        assert_eq!(selkie.pid(), self.pid);
        let text = selkie.logs.text();
        assert!(!text.contains("panicked"), "something panicked:\n{text}");
        selkie.logs.check();
    }
}

#[tokio::test]
async fn other_protocols_on_the_mysql_port_are_answered_and_closed() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bad-protocol").await;
    let mut bystander = Bystander::new(selkie, &project.endpoint).await;
    let client_hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 500]].concat();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        &client_hello,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f", // PostgreSQL's SSLRequest
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n", // PROXY v2
        b"",
    ] {
        let seen = ends_after(&project.endpoint, bytes).await;
        assert_eq!(
            seen.get(4),
            Some(&10),
            "the greeting comes first: {}",
            seen.escape_ascii()
        );
    }
    bystander.is_undisturbed(selkie).await;
}

#[tokio::test]
async fn what_is_no_request_on_the_other_ports_is_refused_or_closed() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bad-http").await;
    let mut bystander = Bystander::new(selkie, &project.endpoint).await;
    let client_hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 500]].concat();
    let large = "x".repeat(1 << 20);
    let many: String = (0..20_000).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let posted = |head: &str, body: &[u8]| {
        let head = format!("POST /api/v1/projects HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let inputs = [
        b"".to_vec(),
        client_hello,
        frames(1, b"\x0d\xa6\x03\0\0\0\0\x01\x2d"),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nA".to_vec(),
        format!("GET /{large} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
        format!("GET /metrics HTTP/1.1\r\nHost: a\r\nx: {large}\r\n\r\n").into_bytes(),
        format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{many}\r\n").into_bytes(),
        b"GET /metrics HTTP/1.1\r\nHost : a\r\nx\r\n\r\n".to_vec(),
        posted("Content-Length: -1", b""),
        posted("Content-Length: 1\r\nContent-Length: 2", b"{}"),
        posted("Content-Length: 99999999999999999999", b"{}"),
        posted("Content-Length: 1073741824", b"{}"),
        posted("Transfer-Encoding: chunked", b"zz\r\n{}\r\n"),
        posted("Transfer-Encoding: chunked", b"ffffffffffffffff\r\n{}"),
    ];
    let control = selkie.api().replace("/api/v1", "");
    let (gateway, port) = (selkie.gateway_http(), selkie.control_port());
    let port_of = |base: &str| {
        base.rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port")
    };
    let before = harness::process::resident_bytes(selkie.pid());
    for port in [port_of(&control), port_of(&gateway), port] {
        let endpoint = Endpoint {
            port,
            ..project.endpoint.clone()
        };
        for bytes in &inputs {
            let seen = ends_after(&endpoint, bytes).await;
            // Or nothing at all, or frames of HTTP/2 that say goodbye.
            assert!(
                !seen.starts_with(b"HTTP/") || seen.starts_with(b"HTTP/1.1 4"),
                "port {port}, {}: {}",
                bytes[..bytes.len().min(60)].escape_ascii(),
                seen.escape_ascii()
            );
        }
    }
    let grown = harness::process::resident_bytes(selkie.pid()).saturating_sub(before);
    assert!(grown < 100 << 20, "grew by {} MiB", grown >> 20);
    for base in [control, gateway] {
        assert_eq!(harness::http::status(&format!("{base}/readyz")).await, Some(200));
    }
    bystander.is_undisturbed(selkie).await;
}

#[tokio::test]
async fn a_login_packet_cut_at_any_place_is_refused() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bad-login").await;
    let mut bystander = Bystander::new(selkie, &project.endpoint).await;
    let whole = login_packet(
        &Raw::connect(&project.endpoint.host, project.endpoint.port).await,
        &project.endpoint,
    );
    for length in 0..whole.len() {
        // As a whole packet of that length, and as a packet whose rest never comes.
        ends_after(&project.endpoint, &frames(1, &whole[..length])).await;
        ends_after(&project.endpoint, &frames(1, &whole)[..length]).await;
    }
    bystander.is_undisturbed(selkie).await;
}

#[tokio::test]
async fn odd_login_packets_get_an_error() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bad-packets").await;
    let mut bystander = Bystander::new(selkie, &project.endpoint).await;
    let endpoint = &project.endpoint;
    let mut random = rand::rngs::StdRng::seed_from_u64(0x005e_14e0);
    for round in 0..300 {
        let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
        let mut packet = login_packet(&raw, endpoint);
        match round % 3 {
            0 => {
                packet = vec![0; random.random_range(0..4000)];
                random.fill_bytes(&mut packet);
            }
            1 => {
                for _ in 0..random.random_range(1..5) {
                    let at = random.random_range(0..packet.len());
                    packet[at] = random.random();
                }
            }
            _ => packet.truncate(random.random_range(0..packet.len())),
        }
        raw.send(1, &packet).await;
        raw.write(&frames(3, b"whatever the server asks")).await.ok();
        // OK is possible too: some bytes do not matter. Then the garbage is a command, or out of order.
        raw.write(&frames(0, b"\x01")).await.ok();
        raw.ends().await;
    }
    for (seq, payload) in [
        (
            0,
            login_packet(&Raw::connect(&endpoint.host, endpoint.port).await, endpoint),
        ),
        (7, vec![1; 50]),
    ] {
        let mut raw = Raw::connect(&endpoint.host, endpoint.port).await;
        raw.send(seq, &payload).await;
        let left = raw.ends().await;
        assert!(
            left.last().is_some_and(|packet| packet.error().is_some()),
            "sequence id {seq}: {left:?}"
        );
    }
    bystander.is_undisturbed(selkie).await;
}

#[tokio::test]
async fn an_oversized_login_packet_is_not_read() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bad-size").await;
    let mut bystander = Bystander::new(selkie, &project.endpoint).await;
    let before = harness::process::resident_bytes(selkie.pid());
    for _ in 0..20 {
        ends_after(&project.endpoint, &frames(1, &vec![b'x'; FRAME_MAX])).await;
    }
    let grown = harness::process::resident_bytes(selkie.pid()).saturating_sub(before);
    assert!(grown < 100 << 20, "grew by {} MiB", grown >> 20);
    bystander.is_undisturbed(selkie).await;
}

#[tokio::test]
async fn garbage_after_a_request_for_tls_is_closed() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bad-tls").await;
    let mut bystander = Bystander::new(selkie, &project.endpoint).await;
    let mut head = ((caps::USUAL | caps::SSL) as u32).to_le_bytes().to_vec();
    head.extend([0, 0, 0, 1, 45]);
    head.extend([0; 23]);
    let request = frames(1, &head);
    let raw = Raw::connect(&project.endpoint.host, project.endpoint.port).await;
    // A login in clear text behind the request, in the same segment, must not be taken for one inside TLS.
    let injected = [&request[..], &frames(2, &login_packet(&raw, &project.endpoint))].concat();
    for bytes in [
        &injected[..],
        &[&request[..], b"GET / HTTP/1.1\r\n\r\n"].concat(),
        &request,
        &[&request[..], &request].concat(),
    ] {
        let seen = ends_after(&project.endpoint, bytes).await;
        let greeting = 4 + usize::from(seen[0]);
        assert!(
            !seen[greeting..].windows(7).any(|part| part == [0, 0, 0, 2, 0, 0, 0]),
            "logged in: {}",
            seen.escape_ascii()
        );
    }
    bystander.is_undisturbed(selkie).await;
}

#[tokio::test]
async fn bad_commands_get_an_error_and_the_session_goes_on_or_closes() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bad-commands").await;
    let mut bystander = Bystander::new(selkie, &project.endpoint).await;
    let endpoint = &project.endpoint;
    for asleep in [true, false] {
        if asleep {
            project.endpoint.connect().await;
        }
        for command in [0x20u8, 0x21, 0x50, 0x7f, 0xf9, 0xfb, 0xfe, 0xff] {
            let mut raw = Raw::login(endpoint).await;
            if !asleep {
                raw.query("SELECT 1").await.ok();
            }
            raw.command(command, b"some bytes").await;
            let answer = raw.response(Kind::Single).await;
            assert!(
                matches!(answer.error(), Some(1047 | 1105)),
                "command {command:#x}: {answer:?}"
            );
            raw.command(0x0e, b"").await;
            assert_eq!(
                raw.response(Kind::Single).await.packets[0].payload[0],
                0,
                "ping after {command:#x}"
            );
        }
    }
    // Short forms of commands with fixed fields, an empty packet, a wrong sequence id, an end in the middle.
    for payload in [
        &b""[..],
        b"\x17",
        b"\x17\x01\0",
        b"\x18\x01",
        b"\x19",
        b"\x1c\x01\0\0\0",
        b"\x1a",
        b"\x1b",
        b"\x11",
        b"\x11app",
        b"\xfa",
    ] {
        for seq in [0, 9] {
            let mut raw = Raw::login(endpoint).await;
            raw.write(&frames(seq, payload)).await.unwrap();
            raw.write(&frames(0, b"\x01")).await.ok();
            raw.ends().await;
        }
        let mut raw = Raw::login(endpoint).await;
        raw.write(&[30, 0, 0, 0]).await.unwrap();
        raw.write(payload).await.unwrap();
        drop(raw);
    }
    bystander.is_undisturbed(selkie).await;
}

#[tokio::test]
async fn random_commands_disturb_nobody() {
    let selkie = Selkie::shared().await;
    let project = selkie.project("bad-random").await;
    let mut bystander = Bystander::new(selkie, &project.endpoint).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(0xbad);
    for _ in 0..200 {
        let mut raw = Raw::login_with(&project.endpoint, Login::default()).await;
        let mut bytes = Vec::new();
        for _ in 0..random.random_range(1..6) {
            let mut payload = vec![0; random.random_range(1..300)];
            random.fill_bytes(&mut payload);
            // No replication command and no command that answers nothing by design and waits for more.
            payload[0] = [0x03, 0x16, 0x17, 0x1c, 0x04, 0x02, 0x18, 0x19, 0x1a, 0x1b, 0xfa][random.random_range(0..11)];
            bytes.extend(frames(0, &payload));
        }
        bytes.extend(frames(0, b"\x01"));
        raw.write(&bytes).await.ok();
        raw.ends().await;
    }
    bystander.is_undisturbed(selkie).await;
}

#[tokio::test]
async fn a_client_that_never_logs_in_is_dropped_in_time() {
    let selkie = Selkie::start_with("gateway.login_timeout = \"1s\"").await;
    let endpoint = selkie.demo();
    let mut silent = Raw::connect(&endpoint.host, endpoint.port).await;
    let left = silent.ends().await;
    assert!(left.len() <= 1, "at most an error: {left:?}");
    let mut slow = Raw::connect(&endpoint.host, endpoint.port).await;
    slow.write(&[100, 0, 0, 1, 5]).await.unwrap();
    slow.ends().await;
    endpoint.connect().await;
}
