//! What is known of a project's compute: of two things said of it, the one that counts.

use std::path::PathBuf;
use std::sync::Arc;

use control_api::control as proto;

use crate::route::running::Running;

/// Where a project's compute stands.
#[derive(Clone, Debug, Default)]
pub(crate) enum ComputeView {
    #[default]
    Suspended,
    Starting,
    Ready(Arc<Running>),
    Draining,
    /// The next wake tries again, and tells what keeps it from running.
    Failed,
    /// The project is gone.
    Removed,
}

/// What orders two things said of one project's compute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Fence {
    incarnation: u64,
    /// Grows when a drain is called off, after which the same incarnation is ready again.
    round: u32,
    /// How far along its life, so that a late "ready" does not undo a "draining" of the same incarnation.
    step: u8,
}

/// What was said last of a project's compute.
#[derive(Default)]
pub(super) struct Known {
    fence: Fence,
    view: ComputeView,
    /// The compute that is being drained.
    draining: Option<Arc<Running>>,
}

impl Known {
    pub(super) fn view(&self) -> ComputeView {
        self.view.clone()
    }

    /// The compute that sessions may be at, draining or not.
    pub(super) fn running(&self) -> Option<&Arc<Running>> {
        match &self.view {
            ComputeView::Ready(running) => Some(running),
            _ => self.draining.as_ref(),
        }
    }

    /// Takes over what is said, unless something newer is known. Returns a compute whose sessions have been asked to park.
    pub(super) fn apply(&mut self, said: &proto::Compute) -> Option<Arc<Running>> {
        let fence = Fence {
            incarnation: said.incarnation,
            round: said.round,
            step: step(said.state()),
        };
        let repeated = fence == self.fence && matches!(self.view, ComputeView::Ready(_));
        if fence < self.fence || repeated {
            return None;
        }
        self.replace(fence, view(said), said)
    }

    /// The project is gone.
    pub(super) fn remove(&mut self, reason: &str) {
        let said = proto::Compute {
            reason: reason.into(),
            ..Default::default()
        };
        self.replace(self.fence, ComputeView::Removed, &said);
    }

    /// Returns a compute whose sessions have been asked to park.
    fn replace(&mut self, fence: Fence, view: ComputeView, said: &proto::Compute) -> Option<Arc<Running>> {
        let running = match &self.view {
            ComputeView::Ready(running) => Some(Arc::clone(running)),
            _ => self.draining.take(),
        };
        (self.fence, self.view) = (fence, view);
        let running = running?;
        match &mut self.view {
            ComputeView::Draining => {
                running.drain(said);
                self.draining = Some(Arc::clone(&running));
                return Some(running);
            }
            // The drain was called off: sessions that stayed are where they were.
            ComputeView::Ready(again) if again.incarnation == running.incarnation => {
                running.stay();
                *again = running;
            }
            _ => running.closing().raise(&closing_reason(said)),
        }
        None
    }
}

fn step(state: proto::ComputeState) -> u8 {
    match state {
        proto::ComputeState::Unspecified => 0,
        proto::ComputeState::Starting => 1,
        proto::ComputeState::Ready => 2,
        proto::ComputeState::Draining => 3,
        proto::ComputeState::Suspended | proto::ComputeState::Failed => 4,
    }
}

fn view(said: &proto::Compute) -> ComputeView {
    match said.state() {
        proto::ComputeState::Ready => ComputeView::Ready(Arc::new(Running::new(
            said.incarnation,
            PathBuf::from(&said.socket_path),
            said.gateway_secret.clone(),
        ))),
        proto::ComputeState::Starting => ComputeView::Starting,
        proto::ComputeState::Draining => ComputeView::Draining,
        proto::ComputeState::Failed => ComputeView::Failed,
        proto::ComputeState::Suspended | proto::ComputeState::Unspecified => ComputeView::Suspended,
    }
}

fn closing_reason(said: &proto::Compute) -> String {
    if !said.reason.is_empty() {
        return said.reason.clone();
    }
    match said.state() {
        proto::ComputeState::Draining | proto::ComputeState::Suspended => "the compute is being suspended".into(),
        _ => "the compute stopped".into(),
    }
}
