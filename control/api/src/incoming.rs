//! Connections of a gRPC server: an accept that fails is not its end.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::Instant;

/// After an accept that failed for want of descriptors or memory: the next one would fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines in the log about that.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Connections, without the accepts that failed: tonic ends a server at one. `whose` stands in the log: "gateways".
pub fn patient<C>(
    whose: &'static str,
    connections: impl Stream<Item = io::Result<C>>,
) -> impl Stream<Item = io::Result<C>> {
    let complained: Arc<Mutex<Option<Instant>>> = Arc::default();
    connections.filter_map(move |connection| {
        let complained = Arc::clone(&complained);
        async move {
            let error = match connection {
                Ok(connection) => return Some(Ok(connection)),
                Err(error) => error,
            };
            {
                let mut complained = complained.lock().unwrap_or_else(PoisonError::into_inner);
                if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                    *complained = Some(Instant::now());
                    tracing::error!(%error, "{whose} that connect are not accepted; trying again");
                }
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_an_accept_that_failed_is_served() {
        let accepts = [
            Err(io::ErrorKind::Other.into()),
            Ok(1),
            Err(io::ErrorKind::Other.into()),
            Ok(2),
        ];
        let began = Instant::now();
        let served: Vec<_> = patient("tests", futures::stream::iter(accepts)).collect().await;
        assert_eq!(served.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(began.elapsed(), ACCEPT_PAUSE * 2, "it does not spin");
    }
}
