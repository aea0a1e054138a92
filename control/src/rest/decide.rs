//! Changes that follow from what was read: the thing is read, `If-Match` and whatever else is checked against it, the change
//! is decided, and made only where the thing is still as it was read. Otherwise all of it is done again: so two changes at
//! once never overwrite each other, and `If-Match` holds at the moment of the change.

use super::{Problem, Rest};

/// Others change the same thing now and then; so often in a row only somebody who does nothing else.
const TRIES: u32 = 5;

/// `decide` answers the change, and what is to be known of it when it is made. The change must fail with
/// [`crate::store::StoreError::Changed`] where the thing is not any more as it was read; it is finished even when the
/// client goes away.
pub(super) async fn decided<Read, Reading, Change, Known, Failure>(
    state: &Rest,
    read: impl Fn() -> Reading,
    decide: impl Fn(Read) -> Result<(Change, Known), Problem>,
) -> Result<Known, Problem>
where
    Reading: Future<Output = Result<Read, Problem>>,
    Change: Future<Output = Result<(), Failure>> + Send + 'static,
    Failure: Into<Problem> + Send + 'static,
{
    let mut tries = 1;
    loop {
        let (change, known) = decide(read().await?)?;
        match state.finish(change).await {
            Err(problem) if problem.is_changed_meanwhile() && tries < TRIES => tries += 1,
            result => return result.map(|()| known),
        }
    }
}
