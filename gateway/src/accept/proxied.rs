//! Who a client is that comes through a proxy: reads the PROXY header, where the peer is one that must send it.
//!
//! In: an accepted connection. Out: the same, with the client's address instead of the proxy's, and not a byte read beyond
//! the header. From anybody else nothing is read: whoever could send a header from anywhere could be anyone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use control_api::networks::Networks;
use mysql_wire::proxy::{Progress, ProxyError, ProxyHeader, decode};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::Accepted;
use crate::error::{ClientFacing, ErrorKind, Told};

/// A proxy sends its header as the first thing it does. Three seconds outlive two lost segments, whose repetitions come
/// after one and three seconds.
const HEADER_TIME: Duration = Duration::from_secs(3);

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What says so, for whoever should not have been taken for a proxy.
    pub(crate) setting: &'static str,
    /// Where the proxies are.
    pub(crate) trusted: Networks,
}

/// Why a connection of a trusted proxy says nothing of its client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxiedError {
    /// A check whether the port is open.
    #[error("the proxy left without a header")]
    Left,
    #[error("it sent no whole PROXY header within 3 s")]
    Late { proxy: IpAddr, setting: &'static str },
    #[error("{error}")]
    Header {
        proxy: IpAddr,
        setting: &'static str,
        #[source]
        error: ProxyError,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ClientFacing for ProxiedError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Left | Self::Io(_) => ErrorKind::Client,
            Self::Late { .. } | Self::Header { .. } => ErrorKind::Malformed,
        }
    }

    fn told(&self) -> Option<Told> {
        match self {
            // ER_HOST_NOT_PRIVILEGED. Seen by whoever connects directly from where only proxies should.
            Self::Late { proxy, setting } | Self::Header { proxy, setting, .. } => Some(Told::new(
                1130,
                "HY000",
                format!("Host '{proxy}' is a trusted proxy of this gateway (gateway.{setting}), but {self}"),
            )),
            Self::Left | Self::Io(_) => None,
        }
    }
}

/// The client as it is known from here on.
pub(crate) async fn client_of(accepted: &mut Accepted, config: &Config) -> Result<(), ProxiedError> {
    let proxy = accepted.peer.ip();
    if !config.trusted.contains(proxy) {
        return Ok(());
    }
    let setting = config.setting;
    let reading = timeout(HEADER_TIME, header(accepted, proxy, setting));
    let header = reading.await.unwrap_or(Err(ProxiedError::Late { proxy, setting }))?;
    // Also where the header says that the connection is the proxy's own: it has come over a network.
    accepted.via_proxy = true;
    if let ProxyHeader::From(client) = header {
        accepted.peer = SocketAddr::new(client.ip().to_canonical(), client.port());
    }
    Ok(())
}

async fn header(accepted: &mut Accepted, proxy: IpAddr, setting: &'static str) -> Result<ProxyHeader, ProxiedError> {
    let mut bytes = Vec::new();
    loop {
        let more = match decode(&bytes) {
            Ok(Progress::Done(header)) => return Ok(header),
            Ok(Progress::More(more)) => more,
            Err(error) => return Err(ProxiedError::Header { proxy, setting, error }),
        };
        // At most as many as belong to the header; fewer, where fewer have come, and then it may be refused already.
        let read = (&mut accepted.stream).take(more as u64).read_buf(&mut bytes).await?;
        if read == 0 && bytes.is_empty() {
            return Err(ProxiedError::Left);
        }
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}
