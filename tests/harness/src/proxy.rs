//! A proxy of the tests' own between any two services, over TCP or a unix socket, that does to connections what networks
//! and middle boxes do: delays, pieces of a byte, ends, resets, half-closed directions, silence.
//!
//! What a connection suffers is drawn from a seed and the connection's number, so a seed draws the same again; which
//! connection gets which number depends on the machine. What is drawn is printed. A [`Proxy`] begins in fair weather.

#![allow(clippy::print_stderr, reason = "a test that fails shows what was drawn")]

mod side;
mod way;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use side::Side;
pub use way::{Then, Trouble, Way};

/// The seed of a test: `SELKIE_SEED`, or else always the same, for runs that must not differ. Printed, to be played again.
pub fn seed(test: &str, usual: u64) -> u64 {
    let seed = std::env::var("SELKIE_SEED").ok();
    let seed = seed.map_or(usual, |seed| seed.parse().expect("SELKIE_SEED is a number"));
    eprintln!("{test}: SELKIE_SEED={seed}");
    seed
}

/// Where connections lead to, or come from.
#[derive(Debug, Clone)]
pub enum Address {
    /// A port of 127.0.0.1.
    Port(u16),
    /// A unix socket.
    Socket(PathBuf),
}

/// What becomes of connections now.
#[derive(Debug, Clone)]
enum Weather {
    Fair,
    /// Of new ones.
    Foul(Trouble),
    /// Of all: nothing passes, nothing ends.
    Hole,
}

#[derive(Debug, Clone)]
struct Sky {
    weather: Weather,
    /// Of connections with lower numbers nothing passes any more.
    stranded_below: u64,
    /// Connections with lower numbers are reset.
    cut_below: u64,
}

/// See the head of this file. Its connections are reset when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    sky: watch::Sender<Sky>,
    begun: Arc<AtomicU64>,
    _serving: JoinSet<()>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({}, {:?})", self.port, self.sky.borrow())
    }
}

enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    async fn next(&self) -> std::io::Result<Side> {
        Ok(match self {
            Self::Tcp(listener) => Side::tcp(listener.accept().await?.0),
            Self::Unix(listener) => Side::unix(listener.accept().await?.0),
        })
    }
}

impl Proxy {
    /// Before a port of 127.0.0.1.
    pub async fn before_port(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy");
        let own = listener.local_addr().expect("the address of a bound socket").port();
        Self::serve(own, Door::Tcp(listener), Address::Port(port))
    }

    /// In the place of a unix socket that somebody listens on: that goes on under another name, which is the answer's
    /// second part. [`restore`] puts it back.
    pub fn in_place_of(socket: &Path) -> (Self, PathBuf) {
        let away = socket.with_extension("behind");
        std::fs::rename(socket, &away).expect("a socket to be renamed");
        let listener = UnixListener::bind(socket).expect("a socket for the proxy");
        let proxy = Self::serve(0, Door::Unix(listener), Address::Socket(away.clone()));
        (proxy, away)
    }

    fn serve(port: u16, door: Door, to: Address) -> Self {
        let begun = Arc::new(AtomicU64::new(0));
        let (sky, under) = watch::channel(Sky {
            weather: Weather::Fair,
            stranded_below: 0,
            cut_below: 0,
        });
        let mut serving = JoinSet::new();
        let count = Arc::clone(&begun);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok(client) = door.next().await {
                let number = count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(carry(client, to.clone(), number, under.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            port,
            sky,
            begun,
            _serving: serving,
        }
    }

    /// How many connections there have been.
    pub fn connections(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// From now on each new connection suffers something.
    pub fn foul(&self, trouble: Trouble) {
        self.sky.send_modify(|sky| sky.weather = Weather::Foul(trouble));
    }

    /// Nothing passes and nothing ends, whichever connection; new ones are accepted.
    pub fn hole(&self) {
        self.sky.send_modify(|sky| sky.weather = Weather::Hole);
    }

    /// The connections that there are go silent for ever, as if the other machine were gone; new ones pass.
    pub fn strand(&self) {
        let begun = self.connections();
        self.sky.send_modify(|sky| {
            sky.weather = Weather::Fair;
            sky.stranded_below = begun;
        });
    }

    /// The connections that there are are reset.
    pub fn cut(&self) {
        let begun = self.connections();
        self.sky.send_modify(|sky| sky.cut_below = begun);
    }

    /// The connections that there are are reset, new ones pass.
    pub fn calm(&self) {
        self.sky.send_modify(|sky| sky.weather = Weather::Fair);
        self.cut();
    }
}

/// Puts a socket back that [`Proxy::in_place_of`] has renamed, where it is still there.
pub fn restore(socket: &Path, away: &Path) {
    if away.exists() {
        std::fs::rename(away, socket).expect("a socket to be renamed");
    }
}

/// One connection from its beginning to its end.
async fn carry(client: Side, to: Address, number: u64, mut under: watch::Receiver<Sky>) {
    let weather = under.borrow().weather.clone();
    let (up, down) = match weather {
        Weather::Fair | Weather::Hole => (Way::FREE, Way::FREE),
        Weather::Foul(trouble) => {
            let drawn = trouble.draw(number);
            eprintln!("proxy: connection {number}: {drawn:?}");
            drawn
        }
    };
    let is_cut = |sky: &Sky| sky.cut_below > number;
    let mut cut = under.clone();
    tokio::select! {
        biased;
        () = async {
            passes(&mut under, number).await;
            let server = match Side::connect(&to).await {
                Ok(server) => server,
                // As whoever dials the service itself would hear.
                Err(_) => return client.resets(),
            };
            let both = async {
                tokio::try_join!(
                    pass(&client, &server, up, number, under.clone()),
                    pass(&server, &client, down, number, under.clone())
                )
            };
            let ended = tokio::select! {
                ended = both => ended.map(drop),
                // The other side must hear of it, too.
                _ = cut_again(under.clone(), number) => Err(Then::Reset),
            };
            if ended == Err(Then::Reset) {
                client.resets();
                server.resets();
            }
        } => {}
        // Also when the proxy is dropped; after the above, which knows both sides.
        _ = cut.wait_for(is_cut) => client.resets(),
    }
}

async fn cut_again(mut under: watch::Receiver<Sky>, number: u64) {
    let _ = under.wait_for(|sky| sky.cut_below > number).await;
}

/// Waits until bytes of this connection may pass.
async fn passes(under: &mut watch::Receiver<Sky>, number: u64) {
    let may = |sky: &Sky| !matches!(sky.weather, Weather::Hole) && sky.stranded_below <= number;
    if under.wait_for(may).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One direction. `Ok`: it has ended, and the reader was told; `Err`: the connection is to end so.
async fn pass(from: &Side, to: &Side, way: Way, number: u64, mut under: watch::Receiver<Sky>) -> Result<(), Then> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = way.until.unwrap_or(u64::MAX);
    loop {
        if left == 0 {
            match way.then {
                Then::StopReading => return std::future::pending().await,
                Then::Silence => {
                    while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                    return std::future::pending().await;
                }
                Then::HalfClose => {
                    to.ends_writing();
                    return Ok(());
                }
                end => return Err(end),
            }
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = from.read(&mut buffer[..most]).await.map_err(|_| Then::Reset)?;
        passes(&mut under, number).await;
        if read == 0 {
            to.ends_writing();
            return Ok(());
        }
        left -= read as u64;
        tokio::time::sleep(way.delay).await;
        for piece in buffer[..read].chunks(way.piece) {
            to.write(piece).await.map_err(|_| Then::Reset)?;
        }
    }
}

#[cfg(test)]
mod tests;
