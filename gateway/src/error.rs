//! What can go wrong, who is to blame, and what of it a client may see.
//!
//! Each step has its own error type. Those that a client is told of implement [`ClientFacing`]; what does not is never
//! shown. [`report`] is the one place that writes an ERR packet for an error.

use std::borrow::Cow;
use std::time::Duration;

use mysql_wire::err::{ErrPacket, err_frame};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::{accept, control, meter, tls};

/// Why the gateway could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The MySQL port or the HTTP port cannot be listened on.
    #[error(transparent)]
    Listen(#[from] accept::ListenError),
    /// Another service of the same process is to listen there.
    #[error("setting `gateway.{setting}`: {address} is {other}, too")]
    Clash {
        /// The setting that names the address.
        setting: &'static str,
        /// What of the other service does.
        other: &'static str,
        /// The address.
        address: std::net::SocketAddr,
    },
    /// No usable certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// Control cannot be talked to.
    #[error(transparent)]
    Control(#[from] control::ControlError),
    /// Usage cannot be kept.
    #[error(transparent)]
    Usage(#[from] meter::MeterError),
    /// A thread or a runtime could not be started.
    #[error("starting a data-plane thread: {0}")]
    Thread(std::io::Error),
    /// A data-plane thread ended by itself.
    #[error("data-plane thread {0} stopped unexpectedly")]
    ThreadStopped(usize),
}

/// Whose fault an error is; the label of the error metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ErrorKind {
    /// Bytes that are not the protocol.
    Malformed,
    /// The client went away or broke the order of things.
    Client,
    /// Something we do not speak.
    Incompatible,
    /// Not allowed in.
    Denied,
    /// A bound was reached.
    Limited,
    /// The compute failed or went away.
    Compute,
    /// No compute could be had.
    Wake,
    /// The gateway itself is going down or is broken.
    Ours,
}

impl ErrorKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Malformed,
        Self::Client,
        Self::Incompatible,
        Self::Denied,
        Self::Limited,
        Self::Compute,
        Self::Wake,
        Self::Ours,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Client => "client",
            Self::Incompatible => "incompatible",
            Self::Denied => "denied",
            Self::Limited => "limited",
            Self::Compute => "compute",
            Self::Wake => "wake",
            Self::Ours => "ours",
        }
    }
}

/// What a MySQL client sees of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) code: u16,
    pub(crate) sqlstate: Cow<'static, str>,
    pub(crate) message: String,
}

impl Told {
    pub(crate) fn new(code: u16, sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            sqlstate: Cow::Borrowed(sqlstate),
            message: message.into(),
        }
    }

    /// For a client that may be here no more. It has proven who it is, so it may know why.
    pub(crate) fn shut_out(ip: std::net::IpAddr) -> Self {
        Self::shutdown(format!(
            "Clients from '{ip}' may use this project no more: its allowed networks have changed"
        ))
    }

    /// For a session whose user was deleted, or made again since.
    pub(crate) fn user_gone() -> Self {
        Self::shutdown("The user was deleted")
    }

    /// ER_SERVER_SHUTDOWN: drivers take it as "this connection is over, open another".
    pub(crate) fn shutdown(message: impl Into<String>) -> Self {
        Self::new(1053, "08S01", message)
    }

    /// ER_HANDSHAKE_ERROR.
    pub(crate) fn bad_handshake() -> Self {
        Self::new(1043, "08S01", "Bad handshake")
    }

    /// ER_NET_PACKETS_OUT_OF_ORDER.
    pub(crate) fn out_of_order() -> Self {
        Self::new(1156, "08S01", "Got packets out of order")
    }

    /// What a compute said, passed on.
    pub(crate) fn relayed(err: &ErrPacket<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let sqlstate = err
            .sqlstate
            .map_or(Cow::Borrowed("HY000"), |sqlstate| Cow::Owned(text(&sqlstate)));
        Self {
            code: err.code,
            sqlstate,
            message: text(err.message),
        }
    }

    /// The whole ERR frame.
    pub(crate) fn frame(&self, sequence: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        err_frame(&mut out, sequence, self.code, &self.sqlstate, &self.message);
        out
    }
}

/// An error that may end in front of a client.
pub(crate) trait ClientFacing: std::fmt::Display {
    fn kind(&self) -> ErrorKind;
    /// None: nothing can be said (the client is gone, or a packet was cut in the middle).
    fn told(&self) -> Option<Told>;
}

/// Proof that a client was told of an error: an ERR packet is written once.
#[must_use]
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) kind: ErrorKind,
}

/// A few bytes, for which there is room in any socket but that of a client which reads nothing. One that reads again after two
/// lost segments, whose repetitions come after one and three seconds, is told.
pub(crate) const TELL_TIME: Duration = Duration::from_secs(5);

/// Tells the client. A client that is gone, or does not read, cannot be told, which is no second error.
pub(crate) async fn report(
    stream: &mut (impl AsyncWrite + Unpin),
    sequence: u8,
    error: &impl ClientFacing,
) -> Reported {
    if let Some(told) = error.told() {
        let frame = told.frame(sequence);
        let telling = async {
            stream.write_all(&frame).await?;
            stream.flush().await
        };
        let _ = timeout(TELL_TIME, telling).await;
    }
    Reported { kind: error.kind() }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::cancel::Killed;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_not_waited_for_for_ever() {
        let (mut stream, _client) = duplex(1);
        let told = timeout(2 * TELL_TIME, report(&mut stream, 1, &Killed)).await;
        assert_eq!(told.expect("it is waited for").kind, ErrorKind::Client);
    }
}
