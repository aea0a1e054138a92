//! One end of a connection, read and written through a shared reference, ended in the way that is asked for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{Shutdown, shutdown, sockopt::set_socket_linger};
use tokio::net::{TcpStream, UnixStream};

use super::Address;

pub(super) enum Side {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Side {
    /// Pieces go out as they are written.
    pub(super) fn tcp(stream: TcpStream) -> Self {
        // One that was reset already shows it at the first read.
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }

    pub(super) async fn connect(to: &Address) -> io::Result<Self> {
        Ok(match to {
            Address::Port(port) => Self::tcp(TcpStream::connect(("127.0.0.1", *port)).await?),
            Address::Socket(path) => Self::unix(UnixStream::connect(path).await?),
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }

    /// 0 at the end.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => bytes = &bytes[written?..],
            }
        }
        Ok(())
    }

    /// The reader there sees the end; it may go on writing.
    pub(super) fn ends_writing(&self) {
        // One that is gone has seen its end.
        let _ = shutdown(self.fd(), Shutdown::Write);
    }

    /// When it is closed next, TCP says RST. A unix socket knows nothing of the kind: its reader sees the end.
    pub(super) fn resets(&self) {
        if matches!(self, Self::Tcp(_)) {
            let _ = set_socket_linger(self.fd(), Some(std::time::Duration::ZERO));
        }
    }
}
