//! Who may be at the HTTP port at once, and for how long: whoever connects there and says nothing takes neither the file
//! descriptors that clients need, nor the port from those who ask whether the gateway is well.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Probes and a few who collect metrics; more wait to be accepted.
const VISITORS_MAX: usize = 256;
/// One question and its answer: a page of metrics takes milliseconds. Each has a connection of its own.
const VISIT_TIME: Duration = Duration::from_secs(10);
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The port.
pub(crate) struct Visitors {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Visitors {
    pub(crate) fn at(listener: TcpListener) -> Self {
        Self::with_places(listener, VISITORS_MAX)
    }

    fn with_places(listener: TcpListener, places: usize) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(places)),
        }
    }
}

impl Listener for Visitors {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        loop {
            // It is never closed.
            let place = Arc::clone(&self.places).acquire_owned().await;
            match (self.listener.accept().await, place) {
                (Ok((stream, from)), Ok(place)) => {
                    let visitor = Visitor {
                        stream,
                        over: Box::pin(sleep(VISIT_TIME)),
                        _place: place,
                    };
                    return (visitor, from);
                }
                _ => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection to it, which ends when its time is over.
pub(crate) struct Visitor {
    stream: TcpStream,
    over: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Visitor {
    /// Of what is waited for: not for longer than the visit may take.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match done {
            Poll::Pending if self.over.as_mut().poll(cx).is_ready() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            done => done,
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.in_time(cx, read)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.in_time(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::super::one_question_each;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_sent_away_and_makes_room_for_who_asks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = one_question_each(Router::new().route("/", get(|| async { "well" })));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(Visitors::with_places(listener, 2), router).await });
        let mut silent = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        silent[1].write_all(b"GET / HTT").await.unwrap();
        let all_are_answered = async {
            // More than there are places, one after the other: none of them keeps its connection.
            for _ in 0..4 {
                let mut asks = TcpStream::connect(address).await.unwrap();
                asks.write_all(b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n")
                    .await
                    .unwrap();
                let mut answer = String::new();
                asks.read_to_string(&mut answer).await.unwrap();
                assert!(
                    answer.starts_with("HTTP/1.1 200") && answer.ends_with("well"),
                    "{answer}"
                );
            }
        };
        timeout(3 * VISIT_TIME, all_are_answered)
            .await
            .expect("somebody waits for ever");
        for silent in &mut silent {
            let mut answer = Vec::new();
            let _ = silent.read_to_end(&mut answer).await;
            assert_eq!(answer, b"");
        }
    }
}
