//! The HTTP port. Whoever can reach it needs no key to hold a connection open, so connections are bounded, in number and in time.
//! How long a body may take is for those to say who read it.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use futures::{StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use control_api::incoming::patient;

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// For the head of a request, from the connection or the answer before it.
    head: Duration,
    /// From then on a connection takes no further request.
    reuse: Duration,
    /// After that, for the request that is under way.
    last: Duration,
    /// At once. The next one waits in the listener's queue.
    connections: usize,
}

const LIMITS: Limits = Limits {
    // As long as a client of a database has for its whole login. A scraper that comes more seldom connects anew.
    head: Duration::from_secs(10),
    // What a script does one after the other goes over one connection.
    reuse: Duration::from_secs(60),
    // Longer than the longest request, a wake that waits for its limit of ten minutes and a stop. Ends those who send a request
    // and do not read its answer.
    last: Duration::from_secs(15 * 60),
    // More than people, scripts and scrapers need, and far from a process's descriptors.
    connections: 512,
};

/// Serves until `end`; then the requests that are under way are answered. Dropped, it ends all connections.
pub(crate) async fn serve(listener: TcpListener, router: Router, end: CancellationToken) {
    serve_within(LIMITS, listener, router, end).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, router: Router, end: CancellationToken) {
    let mut connections = JoinSet::new();
    accept(limits, &listener, &mut connections, &router, &end).await;
    // Who comes now is refused and goes to another control plane; it would wait in vain here.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Until `end`.
async fn accept(
    limits: Limits,
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    router: &Router,
    end: &CancellationToken,
) {
    let accepts = stream::repeat(()).then(|()| poll_fn(|context| listener.poll_accept(context)));
    let mut arrivals = pin!(patient("clients of REST", accepts));
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            Some(_ended) = connections.join_next() => {}
            Some(Ok((stream, _))) = arrivals.next(), if connections.len() < limits.connections => {
                connections.spawn(connection(limits, stream, router.clone(), end.clone()));
            }
        }
    }
}

async fn connection(limits: Limits, stream: TcpStream, router: Router, end: CancellationToken) {
    // Answers are whole; without it the last packet of one may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let over = tokio::select! {
        served = served.as_mut() => Some(served),
        () = end.cancelled() => None,
        () = sleep(limits.reuse) => None,
    };
    let ended = match over {
        Some(served) => Ok(served),
        None => {
            served.as_mut().graceful_shutdown();
            timeout(limits.last, served).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        // The other side's doing.
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection was not served to its end"),
        Err(_elapsed) => tracing::debug!("an HTTP connection took too long"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Guards against hanging.
    const SOON: Duration = Duration::from_secs(20);
    const LONG: Duration = Duration::from_secs(3600);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const GET_ONCE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    struct Port {
        address: SocketAddr,
        end: CancellationToken,
        serving: JoinSet<()>,
    }

    impl Port {
        async fn of(limits: Limits) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, end) = (listener.local_addr().unwrap(), CancellationToken::new());
            let router = Router::new()
                .route("/large", get(async || "x".repeat(64 << 20)))
                .route(
                    "/slow",
                    get(async || {
                        sleep(Duration::from_millis(500)).await;
                        "slow"
                    }),
                )
                .route("/", get(async || "ok"));
            let mut serving = JoinSet::new();
            serving.spawn(serve_within(limits, listener, router, end.clone()));
            Self { address, end, serving }
        }

        async fn sent(&self, bytes: &[u8]) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream
        }
    }

    /// All that comes until the other side closes.
    async fn told(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        let read = timeout(SOON, stream.read_to_string(&mut answer)).await;
        read.expect("the connection ends").unwrap();
        answer
    }

    #[tokio::test]
    async fn who_sends_no_head_or_half_of_one_or_no_second_one_is_gone_after_its_time() {
        let head = Duration::from_millis(100);
        let port = Port::of(Limits { head, ..LIMITS }).await;
        for begins in [&b""[..], b"GET / HTT", b"GET / HTTP/1.1\r\nHost: x\r\nX: y"] {
            let said = told(&mut port.sent(begins).await).await;
            assert_eq!(said, "", "{}", String::from_utf8_lossy(begins));
        }
        let said = told(&mut port.sent(GET).await).await;
        assert!(said.ends_with("ok"), "{said}");
    }

    #[tokio::test]
    async fn who_does_not_read_its_answer_is_gone_after_its_time() {
        let (reuse, last) = (Duration::from_millis(100), Duration::from_millis(200));
        let mut port = Port::of(Limits { reuse, last, ..LIMITS }).await;
        let mut lazy = port.sent(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(
            timeout(SOON, lazy.read_u8()).await.unwrap().unwrap(),
            b'H',
            "it is served"
        );
        port.end.cancel();
        let ended = timeout(SOON, port.serving.join_next()).await;
        assert!(ended.is_ok(), "it keeps the port from ending");
    }

    #[tokio::test]
    async fn a_connection_that_was_used_for_long_ends_between_two_requests() {
        let reuse = Duration::from_millis(100);
        let port = Port::of(Limits {
            reuse,
            head: LONG,
            ..LIMITS
        })
        .await;
        let mut stream = port.sent(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            told(&mut stream).await.ends_with("slow"),
            "what was begun in time is answered"
        );
    }

    #[tokio::test]
    async fn nobody_is_let_in_while_the_last_are_answered() {
        let mut port = Port::of(LIMITS).await;
        let mut slow = port.sent(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        // Served after it: both are under way.
        assert!(told(&mut port.sent(GET_ONCE).await).await.ends_with("ok"));
        port.end.cancel();
        let refused = async {
            while TcpStream::connect(port.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = refused => {}
            _ = port.serving.join_next() => panic!("it ended before"),
        }
        assert!(told(&mut slow).await.ends_with("slow"));
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_keep_the_port_from_ending() {
        let mut port = Port::of(Limits { head: LONG, ..LIMITS }).await;
        let mut idle = port.sent(GET).await;
        assert_eq!(
            timeout(SOON, idle.read_u8()).await.unwrap().unwrap(),
            b'H',
            "it is served"
        );
        port.end.cancel();
        assert!(timeout(SOON, port.serving.join_next()).await.is_ok());
        assert!(told(&mut idle).await.ends_with("ok"), "and has its whole answer");
    }

    #[tokio::test]
    async fn one_more_than_may_be_at_once_is_served_when_another_goes() {
        let port = Port::of(Limits {
            connections: 3,
            ..LIMITS
        })
        .await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut stream = port.sent(GET).await;
            assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), b'H');
            held.push(stream);
        }
        let mut next = port.sent(GET_ONCE).await;
        let waits = timeout(Duration::from_millis(200), next.read_u8()).await;
        assert!(waits.is_err(), "{waits:?}");
        held.pop();
        assert!(told(&mut next).await.ends_with("ok"));
    }
}
