//! What stores count for the metrics, over the whole process: it comes to be in the middle of transactions, where nothing but
//! the transaction is at hand.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use control_api::rest::OperationKind;

use super::Fault;

static FAILED: [AtomicU64; OperationKind::ALL.len()] = [const { AtomicU64::new(0) }; OperationKind::ALL.len()];

/// What may be wrong when the database does not do what it is asked to: a fault of its own, or of the statement.
const KINDS: [(Option<Fault>, &str); 5] = [
    (Some(Fault::Away), "away"),
    (Some(Fault::Full), "full"),
    (Some(Fault::ReadOnly), "read_only"),
    (Some(Fault::Damaged), "damaged"),
    (None, "refused"),
];

static ERRORS: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

/// A call to the database failed; `None`: the statement itself is at fault. A name that is taken is no failure.
pub(super) fn failed(fault: Option<Fault>) {
    if let Some(at) = KINDS.iter().position(|(kind, _)| *kind == fault) {
        ERRORS[at].fetch_add(1, Relaxed);
    }
}

/// By kind, since the process began.
pub(crate) fn errors() -> impl Iterator<Item = (&'static str, u64)> {
    let counts = ERRORS.iter().map(|count| count.load(Relaxed));
    KINDS.into_iter().map(|(_, kind)| kind).zip(counts)
}

/// An operation of that kind ended with an error; also where the transaction is then rolled back, and made again.
pub(super) fn operation_failed(kind: OperationKind) {
    if let Some(at) = OperationKind::ALL.iter().position(|one| *one == kind) {
        FAILED[at].fetch_add(1, Relaxed);
    }
}

/// By kind, since the process began.
pub(crate) fn operations_failed() -> impl Iterator<Item = (&'static str, u64)> {
    let counts = FAILED.iter().map(|count| count.load(Relaxed));
    OperationKind::ALL.into_iter().map(OperationKind::as_str).zip(counts)
}
