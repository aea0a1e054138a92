//! The network between gateways and control planes: connections whose bytes come late, stand still for a while, or end at
//! any moment, in both directions at once as a broken TCP connection does. So a call is lost before or after it had its
//! effect, and whoever repeats it does so by itself.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control::sim::Control;
use hyper_util::rt::TokioIo;
use rand::random_range;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};

/// What is under way in one direction.
const IN_FLIGHT_BYTES: usize = 64 * 1024;

/// Control planes by number; `None`: it is down.
pub(crate) type Planes = Arc<Mutex<Vec<Option<Control>>>>;

/// A gateway's link to control.
#[derive(Clone)]
pub(crate) struct Link {
    planes: Planes,
    /// While true, nothing moves and nobody connects.
    pub(crate) stalled: watch::Sender<bool>,
    /// Fires when the connections that there are break.
    broken: Arc<Mutex<CancellationToken>>,
    pumps: TaskTracker,
}

impl Link {
    pub(crate) fn new(planes: Planes) -> Self {
        Self {
            planes,
            stalled: watch::Sender::new(false),
            broken: Arc::default(),
            pumps: TaskTracker::new(),
        }
    }

    pub(crate) fn breaks(&self) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *broken).cancel();
    }

    /// A channel that connects when it is used, and again after it broke.
    pub(crate) fn channel(&self, endpoint: Endpoint) -> Channel {
        let link = self.clone();
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_address| {
            let link = link.clone();
            let connect: Pin<Box<dyn Future<Output = io::Result<TokioIo<DuplexStream>>> + Send>> =
                Box::pin(async move { link.connect().await.map(TokioIo::new) });
            connect
        }))
    }

    async fn flows(&self) {
        // The sender lives as long as `self`.
        let _ = self.stalled.subscribe().wait_for(|stalled| !stalled).await;
    }

    async fn connect(&self) -> io::Result<DuplexStream> {
        sleep(Duration::from_millis(random_range(0..5))).await;
        self.flows().await;
        let (near, near_end) = duplex(IN_FLIGHT_BYTES);
        let (far_end, far) = duplex(IN_FLIGHT_BYTES);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let over = {
            let planes = self.planes.lock().unwrap_or_else(PoisonError::into_inner);
            let leader = planes.iter().flatten().find(|plane| plane.leads());
            leader.and_then(|leader| leader.accept(far)).ok_or_else(refused)?
        };
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let link = self.clone();
        self.pumps.spawn(async move {
            let (from_near, to_near) = split(near_end);
            let (from_far, to_far) = split(far_end);
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = broken.cancelled() => {}
                () = link.pump(from_near, to_far) => {}
                () = link.pump(from_far, to_near) => {}
            }
        });
        Ok(near)
    }

    /// Until an end closes.
    async fn pump(&self, mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
        let mut bytes = vec![0; 8 * 1024];
        while let Ok(n @ 1..) = from.read(&mut bytes).await {
            let late = random_range(0..50) == 0;
            sleep(Duration::from_millis(if late {
                random_range(0..300)
            } else {
                random_range(0..3)
            }))
            .await;
            self.flows().await;
            if to.write_all(&bytes[..n]).await.is_err() {
                return;
            }
        }
    }
}
