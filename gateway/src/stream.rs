//! The client's byte stream, plain or inside TLS, and whole packets on a stream during the connection phase.
//!
//! Waiting for bytes needs no buffer: [`ClientStream::poll_readable`] tells when reading is worth it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use mysql_wire::frame::{FRAME_PAYLOAD_MAX, FrameHeader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::tls::{Fingerprint, Shown};

/// A client's connection.
pub(crate) enum ClientStream {
    Plain(TcpStream),
    /// Boxed: 1.2 KiB of TLS state that plain clients do not pay for.
    Tls(Box<Secured>),
}

/// A connection inside TLS.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<TcpStream>,
    /// Of our certificate that the client was shown.
    pub(crate) fingerprint: Fingerprint,
}

/// A stream that can be waited for without a buffer in hand.
pub(crate) trait Readable: AsyncRead + AsyncWrite + Unpin {
    /// Ready when a read would find bytes or the end. Only to be waited for after a read that was `Pending`: bytes may be
    /// buffered above the socket (TLS).
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Bytes may be buffered above the socket, so that only a read tells.
    fn may_hold_bytes(&self) -> bool;

    /// The other side sends no more, whether what it has sent was read or not.
    fn is_closed_by_peer(&self) -> bool;
}

/// As the kernel has told the runtime: nothing is waited for.
fn is_read_closed(readiness: impl Future<Output = io::Result<Ready>>) -> bool {
    let seen = pin!(readiness).poll(&mut Context::from_waker(Waker::noop()));
    matches!(seen, Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

impl ClientStream {
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Of the server that the client asked TLS for (SNI).
    pub(crate) fn server_name(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.stream.get_ref().1.server_name(),
        }
    }

    /// Of our certificate that the client was shown.
    pub(crate) fn fingerprint(&self) -> Option<&Fingerprint> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(&tls.fingerprint),
        }
    }

    /// What TLS shows of the client.
    pub(crate) fn shown(&self) -> Option<Shown<'_>> {
        let Self::Tls(tls) = self else { return None };
        let (_, connection) = tls.stream.get_ref();
        let cipher = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        Some(Shown::now(connection.peer_certificates(), cipher))
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.stream.get_ref().0,
        }
    }
}

impl Readable for ClientStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_read_ready(cx)
    }

    fn may_hold_bytes(&self) -> bool {
        self.is_tls()
    }

    fn is_closed_by_peer(&self) -> bool {
        is_read_closed(self.tcp().ready(Interest::READABLE))
    }
}

impl Readable for UnixStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn may_hold_bytes(&self) -> bool {
        false
    }

    fn is_closed_by_peer(&self) -> bool {
        is_read_closed(self.ready(Interest::READABLE))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => match Pin::new(&mut tls.stream).poll_read(cx, buf) {
                // Many MySQL clients close without TLS close_notify; the packet layer tells whether anything was cut.
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                other => other,
            },
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}

/// One packet of the connection phase, which is never split over frames.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) sequence: u8,
    pub(crate) payload: Vec<u8>,
}

/// Why no packet was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The other side closed between packets.
    #[error("closed")]
    Closed,
    #[error("closed in the middle of a packet")]
    Truncated,
    #[error("a packet of {len} bytes where at most {max} are allowed")]
    TooLarge { len: usize, max: usize },
    #[error("there is no room for a packet of {len} bytes now")]
    NoRoom { len: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads exactly one packet and not a byte more, so that what follows (a ClientHello, a first command) stays in the
/// socket. Not cancel-safe.
pub(crate) async fn read_packet(
    stream: &mut (impl AsyncRead + Unpin),
    payload_max: usize,
) -> Result<Packet, ReadError> {
    let (packet, ()) = read_packet_where(stream, payload_max, |_| Some(())).await?;
    Ok(packet)
}

/// The same where there is room for it: what `room` answers for its length comes with it.
pub(crate) async fn read_packet_where<R>(
    stream: &mut (impl AsyncRead + Unpin),
    payload_max: usize,
    room: impl FnOnce(usize) -> Option<R>,
) -> Result<(Packet, R), ReadError> {
    let mut header = [0; 4];
    let mut have = 0;
    while have < header.len() {
        match stream.read(&mut header[have..]).await? {
            0 if have == 0 => return Err(ReadError::Closed),
            0 => return Err(ReadError::Truncated),
            n => have += n,
        }
    }
    let Some(FrameHeader { payload_len, sequence }) = FrameHeader::decode(&header) else {
        return Err(ReadError::Truncated);
    };
    if payload_len > payload_max || payload_len == FRAME_PAYLOAD_MAX {
        return Err(ReadError::TooLarge {
            len: payload_len,
            max: payload_max,
        });
    }
    let Some(room) = room(payload_len) else {
        return Err(ReadError::NoRoom { len: payload_len });
    };
    let mut payload = vec![0; payload_len];
    stream.read_exact(&mut payload).await.map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Truncated,
        _ => ReadError::Io(e),
    })?;
    Ok((Packet { sequence, payload }, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_one_packet_and_leaves_the_rest() {
        let mut bytes: &[u8] = b"\x02\x00\x00\x07hi\x01";
        let packet = read_packet(&mut bytes, 100).await.unwrap();
        assert_eq!((packet.sequence, packet.payload.as_slice()), (7, &b"hi"[..]));
        assert_eq!(bytes, b"\x01");
    }

    #[tokio::test]
    async fn tells_closed_from_cut_from_oversized() {
        assert!(matches!(read_packet(&mut &b""[..], 9).await, Err(ReadError::Closed)));
        assert!(matches!(
            read_packet(&mut &b"\x02\x00"[..], 9).await,
            Err(ReadError::Truncated)
        ));
        assert!(matches!(
            read_packet(&mut &b"\x02\x00\x00\x00h"[..], 9).await,
            Err(ReadError::Truncated)
        ));
        let error = read_packet(&mut &b"\x0a\x00\x00\x00"[..], 9).await;
        assert!(matches!(error, Err(ReadError::TooLarge { len: 10, max: 9 })));
    }
}
