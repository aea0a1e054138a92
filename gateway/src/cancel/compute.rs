//! What ends a statement at a compute: a KILL there, over a connection of its own.
//!
//! In: a thread of the compute's that the caller holds until this is done, so that its id is nobody else's meanwhile. Whose
//! thread it is logs in once more, by the gateway's secret: everybody may kill the own threads, and nobody needs more rights.

use std::time::Duration;

use mysql_wire::capabilities::Capabilities;
use tokio::time::{Instant, sleep, timeout_at};

use super::kill::Kill;
use super::{NO_SUCH_THREAD, PATIENCE};
use crate::compute::{self, DialError};
use crate::route::Running;
use crate::session::{Identity, Session};

/// Between tries to get a connection, where no session that leaves tells of its place.
const PAUSE: Duration = Duration::from_millis(100);
/// utf8mb4_general_ci: the names in a KILL are the user's own.
const COLLATION: u8 = 45;

/// Ends a thread of the compute's, or what it is at: whom `kill` names.
///
/// # Errors
/// No connection to be had in time, or the compute's refusal. That it has ended by itself is none.
pub(crate) async fn end_thread(running: &Running, user: &str, kill: &Kill) -> Result<(), DialError> {
    match at_compute(running, user, &kill.to_string()).await {
        Err(DialError::Refused(told)) if told.code == NO_SUCH_THREAD => Ok(()),
        ended => ended,
    }
}

/// Has a compute do one statement for a user, where it runs. Cancel-safe: a KILL that was sent is done.
pub(super) async fn at_compute(running: &Running, user: &str, statement: &str) -> Result<(), DialError> {
    let identity = Identity {
        user: user.to_owned(),
        database: None,
        collation: COLLATION,
        attributes: Vec::new(),
        program_name: String::new(),
    };
    let session = Session::new(Capabilities::PROTOCOL_41, 0, identity);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let done = async {
            let mut connection = compute::connect(running, &session).await?;
            connection.execute(statement).await?;
            connection.quit();
            Ok(())
        };
        let no_place = match timeout_at(deadline, done).await {
            Ok(Err(error @ DialError::NoPlace(_))) => error,
            Ok(done) => return done,
            Err(_elapsed) => return Err(DialError::Unreachable(std::io::ErrorKind::TimedOut.into())),
        };
        if Instant::now() + PAUSE >= deadline {
            return Err(no_place);
        }
        running.want_place();
        tokio::select! {
            () = running.place_freed() => {}
            () = sleep(PAUSE) => {}
        }
    }
}
