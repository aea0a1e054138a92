//! Whatever comes in on the port of gateways: a status, or the end of the connection; and gateways go on.

use bytes::BufMut;
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Guards against hanging.
const SOON: Duration = Duration::from_secs(20);

/// A frame of HTTP/2 that says to be so long.
fn frame_head(len: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let len = len.to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(payload.len() as u32, kind, flags, stream);
    frame.extend(payload);
    frame
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A call's head, each field as a literal.
fn call(method: &str) -> Vec<u8> {
    let token = format!("Bearer {TOKEN}");
    let path = format!("/selkie.control.v1.Gateways/{method}");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "control"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &token),
    ];
    let literal = |(name, value): (&str, &str)| {
        [
            &[0, name.len() as u8],
            name.as_bytes(),
            &[value.len() as u8],
            value.as_bytes(),
        ]
        .concat()
    };
    frame(HEADERS, END_HEADERS, 1, &fields.map(literal).concat())
}

async fn bystander(server: &Server) -> Watch {
    let mut watch = server.watch().await;
    let (version, _) = watch.snapshot().await;
    watch.acknowledge(version).await;
    watch
}

/// It hears of a change as before.
async fn is_undisturbed(server: &Server, watch: &mut Watch, name: &str) {
    let create = server.plane.create(name);
    let heard = async {
        let event = watch.next().await;
        watch.acknowledge(event.version).await;
        event.event.unwrap()
    };
    let (_, event) = tokio::join!(create, heard);
    assert!(matches!(event, Event::Project(project) if project.id == name));
}

#[tokio::test]
async fn what_is_no_grpc_ends_its_own_connection() {
    let server = Server::start().await;
    let mut watch = bystander(&server).await;
    let begun = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let noise: Vec<u8> = (0..20_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let with = |more: &[u8]| [&begun[..], more].concat();
    for (what, bytes) in [
        ("nothing", vec![]),
        ("HTTP/1", b"GET / HTTP/1.1\r\nHost: control\r\n\r\n".to_vec()),
        (
            "HTTP/1 that would be HTTP/2",
            b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n".to_vec(),
        ),
        (
            "TLS",
            [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 500]].concat(),
        ),
        ("noise", noise.clone()),
        ("half a preface", PREFACE[..11].to_vec()),
        ("noise for frames", with(&noise)),
        (
            "half a frame's head",
            with(&frame_head(100, HEADERS, END_HEADERS, 1)[..5]),
        ),
        ("half a frame", with(&call("Wake")[..40])),
        ("a frame of 16 MiB", with(&frame_head(0xff_ffff, DATA, 0, 1))),
        (
            "fields that are none",
            with(&frame(HEADERS, END_HEADERS, 1, &[0xff; 200])),
        ),
        ("data of no stream", with(&frame(DATA, 0, 7, &[0; 10]))),
        ("settings of another length", with(&frame(SETTINGS, 0, 0, &[1; 7]))),
        (
            "a call that is cut",
            with(&[&call("Wake")[..], &frame(DATA, 0, 1, &[0, 0, 0, 0, 9, 1, 2])].concat()),
        ),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let ends = async {
            // The other side may close before all is sent.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        timeout(SOON, ends)
            .await
            .unwrap_or_else(|_| panic!("{what}: the connection stays"));
    }
    is_undisturbed(&server, &mut watch, "other").await;
    drop(watch);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_or_too_little_is_closed() {
    let server = Server::start().await;
    for said in [&b""[..], &PREFACE[..23]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let began = tokio::time::Instant::now();
        let ended = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "it stays after {} bytes", said.len());
        let after = began.elapsed();
        let patience = prompt::PREFACE_PATIENCE;
        assert!(
            (patience - Duration::from_millis(50)..patience * 2).contains(&after),
            "{after:?}"
        );
    }
    server.end.cancel();
}

#[tokio::test]
async fn a_message_that_says_to_be_huge_is_refused_before_it_comes() {
    let server = Server::start().await;
    let mut watch = bystander(&server).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let huge = [&[0][..], &(1_u32 << 30).to_be_bytes(), &[0; 10]].concat();
    let sent = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &call("Wake"),
        &frame(DATA, 0, 1, &huge),
    ]
    .concat();
    stream.write_all(&sent).await.unwrap();
    // Nothing more is sent, and the sending side stays open: the answer comes all the same.
    let ended = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            stream.read_exact(&mut vec![0; len]).await.unwrap();
            if head[3] == HEADERS && head[4] & END_STREAM != 0 && head[8] == 1 {
                return;
            }
        }
    };
    timeout(SOON, ended).await.expect("an answer");
    is_undisturbed(&server, &mut watch, "other").await;
    drop((watch, stream));
    server.stop().await;
}

/// Bytes as they are.
#[derive(Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(Vec::new()))
    }
}

/// The status of a call with that message.
async fn status(server: &Server, token: &str, path: &'static str, message: Vec<u8>) -> Status {
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let mut grpc = Grpc::new(channel.connect().await.unwrap());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static(path);
    let answer = timeout(SOON, grpc.unary(with_token(message, token), path, Bytes)).await;
    answer.expect("an answer").map(|_| ()).expect_err("a refusal")
}

#[tokio::test]
async fn calls_that_cannot_be_are_refused_by_a_status_that_says_why() {
    const WAKE: &str = "/selkie.control.v1.Gateways/Wake";
    const USAGE: &str = "/selkie.control.v1.Gateways/ReportUsage";
    const WATCH: &str = "/selkie.control.v1.Gateways/Watch";
    let server = Server::start().await;
    let mut watch = bystander(&server).await;
    let name_of_other_bytes = vec![0x0a, 2, 0xff, 0xfe];
    for (token, path, message, code) in [
        (TOKEN, WAKE, vec![0xff; 100], Code::Internal),
        (TOKEN, WAKE, name_of_other_bytes, Code::Internal),
        // A project of 2 GiB, says its length.
        (TOKEN, WAKE, vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x07], Code::Internal),
        (TOKEN, WAKE, vec![], Code::NotFound),
        (TOKEN, WAKE, [&[0x0a, 7][..], b"../demo"].concat(), Code::NotFound),
        (TOKEN, USAGE, vec![0; MESSAGE_BYTES_MAX + 1], Code::OutOfRange),
        // A watch that begins with something else than a hello.
        (TOKEN, WATCH, vec![], Code::InvalidArgument),
        (
            TOKEN,
            "/selkie.control.v1.Gateways/Nothing",
            vec![],
            Code::Unimplemented,
        ),
        (TOKEN, "/selkie.control.v1.Nobody/Wake", vec![], Code::Unimplemented),
        ("wrong", WAKE, vec![0xff; 100], Code::Unauthenticated),
        ("wrong", USAGE, vec![0; MESSAGE_BYTES_MAX + 1], Code::Unauthenticated),
        ("", "/selkie.control.v1.Gateways/Nothing", vec![], Code::Unauthenticated),
    ] {
        let len = message.len();
        let status = status(&server, token, path, message).await;
        assert_eq!(status.code(), code, "{path} with {len} bytes: {status:?}");
        assert!(
            !status.message().is_empty() || code == Code::Unimplemented,
            "{path}: {status:?}"
        );
    }
    is_undisturbed(&server, &mut watch, "other").await;
    drop(watch);
    server.stop().await;
}

#[tokio::test]
async fn thousands_of_calls_of_a_stranger_are_refused_beside_gateways_that_are_served() {
    let server = Server::start().await;
    let mut watch = bystander(&server).await;
    let client = server.client().await;
    let strangers = (0..3_000).map(|_| {
        let mut client = client.clone();
        async move { client.wake(with_token(wake("demo"), "wrong")).await.unwrap_err().code() }
    });
    let (codes, ()) = tokio::join!(join_all(strangers), is_undisturbed(&server, &mut watch, "other"));
    assert!(codes.iter().all(|code| *code == Code::Unauthenticated));
    assert!(!server.plane.driver.log().iter().any(|what| what.starts_with("start")));
    drop((watch, client));
    server.stop().await;
}
