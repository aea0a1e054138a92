//! The way into the server for clients, and how it is shut before a suspend. In: whether to shut it at any price. Out:
//! what still runs, or the promise that nothing does and nothing can begin. The server listens all the time; what is
//! taken away is the name of its socket, so that nobody can dial it and the agent can give it back in no time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::bounded;
use crate::error::Error;
use crate::observe::{self, Busy, Looking};
use crate::process;

/// Between looks at what still runs: small against the patience, and a look costs the server a fraction of it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A gateway that has let go has closed its connections; the server needs a moment to see that.
const LETTING_GO: Duration = Duration::from_millis(500);
/// A thread that executes an event is in no list for the first moment of its life.
const EVENT_BEGINS: Duration = Duration::from_millis(50);
/// For the greeting that shows that everybody who dialled before has been let in. Below the server's connect_timeout
/// (10 s), so that the look sees the connection it accounts for.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// The agent's own connection, and the one that asks for a greeting.
const OURS: u32 = 2;

/// See the head of this file.
pub(crate) struct Door {
    socket: PathBuf,
    shut: bool,
    /// The server's event scheduler was on before the door was shut.
    events_were_on: bool,
}

impl Door {
    /// Open, as a server that has just started has it.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            shut: false,
            events_were_on: false,
        }
    }

    /// Where the agent itself gets in.
    pub(crate) fn way_in(&self) -> PathBuf {
        if self.shut {
            away(&self.socket)
        } else {
            self.socket.clone()
        }
    }

    /// Shuts the door if nothing but the agent has to do with the server; otherwise it is as before, and the answer says
    /// why. From `None` on no connection can come, and no event begins.
    pub(crate) async fn shut_if_idle(&mut self, conn: &mut Conn) -> Result<Option<Busy>, Error> {
        let found = self.look_for_anything(conn).await;
        if !matches!(found, Ok(None)) {
            self.open(conn).await?;
        }
        found
    }

    async fn look_for_anything(&mut self, conn: &mut Conn) -> Result<Option<Busy>, Error> {
        self.shut(conn).await?;
        let Ok(Some(_last)) = timeout(GREETING_PATIENCE, last_in_line(&self.way_in())).await else {
            return Ok(Some(Busy::Login));
        };
        let began = Instant::now();
        loop {
            let found = observe::busy(conn, Looking::ForAnything, OURS).await?;
            match found {
                Some(_) if began.elapsed() < LETTING_GO => sleep(LOOK_EVERY).await,
                None if self.events_were_on && began.elapsed() < EVENT_BEGINS => sleep(LOOK_EVERY).await,
                Some(busy) => return observe::better_reason(conn, busy).await.map(Some),
                None => return Ok(None),
            }
        }
    }

    /// Shuts the door and waits until nothing runs, `patience` at most; what still did in the end.
    pub(crate) async fn shut_anyhow(&mut self, conn: &mut Conn, patience: Duration) -> Result<Option<Busy>, Error> {
        self.shut(conn).await?;
        let began = Instant::now();
        loop {
            let found = observe::busy(conn, Looking::ForRunning, OURS).await?;
            if found.is_none() || began.elapsed() >= patience {
                return Ok(found);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn shut(&mut self, conn: &mut Conn) -> Result<(), Error> {
        if !self.shut {
            let away = away(&self.socket);
            process::remove(&away)?;
            rename(&self.socket, &away)?;
            self.shut = true;
        }
        if events_are_on(conn).await? {
            self.events_were_on = true;
            conn.query_drop("SET GLOBAL event_scheduler = OFF").await?;
        }
        Ok(())
    }

    /// Lets clients in again; nothing happens where they can.
    pub(crate) async fn open(&mut self, conn: &mut Conn) -> Result<(), Error> {
        if self.shut {
            rename(&away(&self.socket), &self.socket)?;
            self.shut = false;
        }
        if self.events_were_on {
            conn.query_drop("SET GLOBAL event_scheduler = ON").await?;
            self.events_were_on = false;
        }
        Ok(())
    }
}

/// The other name that the socket has while the door is shut; not longer, because the length of such paths is limited.
fn away(socket: &Path) -> PathBuf {
    socket.with_extension("away")
}

/// Removes the socket under both of its names.
pub(crate) fn remove(socket: &Path) -> Result<(), Error> {
    process::remove(socket)?;
    process::remove(&away(socket))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(Error::system("cannot rename", from))
}

async fn events_are_on(conn: &mut Conn) -> Result<bool, Error> {
    let value: Option<String> = bounded::first(conn, "SELECT @@GLOBAL.event_scheduler").await?;
    Ok(value.as_deref() == Some("ON"))
}

/// A connection that was greeted: the server takes connections in the order in which they were dialled, so whoever dialled
/// before the door was shut has been taken, and is counted, too.
async fn last_in_line(socket: &Path) -> Option<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Ok(mut stream) => {
                stream.read_u8().await.ok()?;
                return Some(stream);
            }
            // Its queue is full.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => sleep(LOOK_EVERY).await,
            Err(_gone) => return None,
        }
    }
}
