use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A client and its server with the proxy between, which is told first.
async fn pair(tell: impl FnOnce(&Proxy)) -> (Proxy, TcpStream, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::before_port(server.local_addr().unwrap().port()).await;
    tell(&proxy);
    let client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    let (served, _) = server.accept().await.unwrap();
    (proxy, client, served)
}

fn ending(then: &'static [Then]) -> Trouble {
    Trouble {
        seed: 0,
        ends: then,
        until_max: 1 << 10,
        delay_max: Duration::from_millis(2),
    }
}

#[test]
fn a_seed_draws_the_same_again_and_another_draws_something_else() {
    let all = &[
        Then::End,
        Then::Reset,
        Then::HalfClose,
        Then::Silence,
        Then::StopReading,
    ];
    let draws = |seed| -> Vec<_> {
        let trouble = Trouble { seed, ..ending(all) };
        (0..50).map(|number| trouble.draw(number)).collect()
    };
    assert_eq!(draws(7), draws(7));
    assert_ne!(draws(7), draws(8));
    for then in all {
        let drawn = draws(7)
            .into_iter()
            .any(|(up, down)| [up, down].iter().any(|way| way.until.is_some() && way.then == *then));
        assert!(drawn, "{then:?} is never drawn");
    }
}

#[tokio::test]
async fn bytes_arrive_whole_in_order_and_up_to_the_end_whatever_the_pieces() {
    // No ends: every connection must carry all.
    for _ in 0..8 {
        let (_proxy, mut client, mut served) = pair(|proxy| proxy.foul(ending(&[]))).await;
        let sent: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut seen = Vec::new();
        served.read_to_end(&mut seen).await.unwrap();
        assert!(seen == sent, "{} bytes of {}", seen.len(), sent.len());
        served.write_all(b"answer").await.unwrap();
        drop(served);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer", "the other direction outlives the end of one");
    }
}

#[tokio::test]
async fn a_cut_resets_both_sides_and_new_connections_pass() {
    let (proxy, mut client, mut served) = pair(|_| ()).await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(served.read_u8().await.unwrap(), b'x');
    proxy.calm();
    for side in [&mut client, &mut served] {
        let ended = side.read_u8().await.unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_stranded_connection_passes_nothing_and_ends_for_nobody() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::before_port(server.local_addr().unwrap().port()).await;
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    let (mut served, _) = server.accept().await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(served.read_u8().await.unwrap(), b'x');
    proxy.strand();
    client.write_all(b"y").await.unwrap();
    // A new one passes, there and back: by then the old one would have passed, too.
    let mut fresh = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    let (mut fresh_served, _) = server.accept().await.unwrap();
    fresh.write_all(b"z").await.unwrap();
    assert_eq!(fresh_served.read_u8().await.unwrap(), b'z');
    drop(client);
    assert_eq!(
        served.try_read(&mut [0; 1]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
}
