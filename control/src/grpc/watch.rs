//! One gateway's watch: hello, the snapshot, then changes, while acknowledgements come back on the same call. The gateway
//! reads as fast as it likes; whatever it lets pile up is bounded by its queue in `publish.rs`.

use std::{pin::Pin, sync::Arc, time::Duration};

use control_api::control::{
    self as proto, SnapshotEnd, WatchEvent, WatchRequest, watch_event::Event, watch_request::Message,
};
use futures::{Stream, StreamExt, stream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::{Status, Streaming};

use crate::{
    activity::Activity,
    publish::{Acknowledger, Publisher, Subscription},
};

/// From the call to its hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

pub(super) type Events = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

pub(super) async fn begin(
    publisher: &Arc<Publisher>,
    activity: &Arc<Activity>,
    mut requests: Streaming<WatchRequest>,
    tasks: &TaskTracker,
) -> Result<Events, Status> {
    let gateway = hello(&mut requests).await?;
    let mut subscription = publisher.subscribe();
    activity.watches(&gateway);
    tracing::info!(
        gateway,
        version = subscription.version,
        projects = subscription.snapshot.len(),
        "a gateway watches"
    );
    let end = CancellationToken::new();
    let acknowledging = acknowledge(requests, subscription.acknowledger(), gateway.clone());
    // A gateway that goes on sending after its events have ended would keep the call open.
    tasks.spawn(end.clone().run_until_cancelled_owned(acknowledging));
    let changes = subscription.changes.take().map(ReceiverStream::new);
    let changes = stream::iter(changes).flatten().map(|queued| Ok(queued.event));
    // Also the end of a queue that was dropped because the gateway fell behind: it comes back for a new snapshot.
    let last = stream::once(async { Err(Status::unavailable("begin anew with a snapshot")) });
    let guard = Guard {
        subscription,
        activity: activity.clone(),
        gateway,
        _end: end.drop_guard(),
    };
    Ok(Box::pin(guard.snapshot().chain(changes).chain(last).map(
        move |event| {
            // Moved in, so that the subscription ends with the stream.
            let _held = &guard;
            event
        },
    )))
}

async fn hello(requests: &mut Streaming<WatchRequest>) -> Result<String, Status> {
    let first = tokio::time::timeout(HELLO_PATIENCE, requests.message()).await;
    match first.map_err(|_| Status::deadline_exceeded("no hello came"))?? {
        Some(WatchRequest {
            message: Some(Message::Hello(hello)),
        }) => Ok(hello.gateway_id),
        _ => Err(Status::invalid_argument("a watch begins with a hello")),
    }
}

/// Ends with the call: a broken or finished request stream.
async fn acknowledge(mut requests: Streaming<WatchRequest>, acknowledger: Acknowledger, gateway: String) {
    while let Ok(Some(request)) = requests.message().await {
        match request.message {
            Some(Message::AckVersion(version)) => acknowledger.acknowledge(version),
            Some(Message::Drained(drained)) => {
                let proto::Drained { project, refused, .. } = &drained;
                tracing::debug!(gateway, project, refused, "a gateway answers a drain");
                acknowledger.drained(drained);
            }
            // Of a gateway of a later version.
            None => {}
            Some(Message::Hello(_)) => tracing::warn!(
                gateway,
                "a gateway sent something else than an answer to what it was told"
            ),
        }
    }
}

struct Guard {
    subscription: Subscription,
    activity: Arc<Activity>,
    gateway: String,
    _end: DropGuard,
}

impl Guard {
    /// Every project, made into a message only when the gateway takes it.
    fn snapshot(&self) -> impl Stream<Item = Result<WatchEvent, Status>> + Send + 'static {
        let version = self.subscription.version;
        let projects = self
            .subscription
            .snapshot
            .clone()
            .into_iter()
            .map(|project| Event::Project((*project).clone()));
        let events = projects.chain(std::iter::once(Event::SnapshotEnd(SnapshotEnd {})));
        stream::iter(events.map(move |event| {
            Ok(WatchEvent {
                version,
                event: Some(event),
            })
        }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.activity.left(&self.gateway);
        tracing::info!(gateway = self.gateway, "a gateway's watch has ended");
    }
}
