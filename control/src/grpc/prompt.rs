//! A connection over which nothing comes is nobody's: HTTP/2 begins with 24 bytes of the client, and until they are there
//! nothing else would end it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;

/// The connection preface (RFC 9113, 3.4). With TLS the first bytes are those of its handshake, which has a limit of its own.
const PREFACE_BYTES: usize = 24;
/// A gateway sends it with its first packet; as long as a whole login of a client may take.
pub(super) const PREFACE_PATIENCE: Duration = Duration::from_secs(10);

/// A connection that fails to read when the preface takes too long.
pub(super) struct Prompt<C> {
    connection: C,
    /// Until the preface is there: how much of it is, and until when all must be.
    begins: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<C> Prompt<C> {
    pub(super) fn new(connection: C) -> Self {
        Self {
            connection,
            begins: Some((0, Box::pin(sleep(PREFACE_PATIENCE)))),
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Prompt<C> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(context, into);
        let Some((come, late)) = &mut self.begins else {
            return read;
        };
        if read.is_pending() {
            ready!(late.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *come += into.filled().len() - before;
        if *come >= PREFACE_BYTES {
            self.begins = None;
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Prompt<C> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

impl<C: Connected> Connected for Prompt<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.connect_info()
    }
}
