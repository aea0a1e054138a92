//! Listening for MySQL clients: on each address one SO_REUSEPORT listener per data-plane thread, socket options, the bound
//! on clients.
//!
//! The kernel spreads connections over the listeners by a hash, which leaves few long-lived clients lopsided; a thread
//! with more clients than another hands a new one over before a byte was exchanged.

pub(crate) mod proxied;
pub(crate) mod turnstile;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::Told;

/// Clients that completed the TCP handshake and wait to be accepted; Linux bounds it by `somaxconn` (4096).
const BACKLOG: i32 = 4096;
/// A client that vanished without a word is noticed after 60 + 4 x 15 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Clients handed over from other threads and not yet taken up.
const INBOX_MAX: usize = 1024;
/// A thread hands over when it has more clients than another by this many: one is noise.
const IMBALANCE: u32 = 1;

/// Between two lines in the log about accepts that fail; the metric counts each.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Settings of this step.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// In the order of the settings' listeners.
    pub(crate) listen: Vec<Listen>,
    /// On all of them together.
    pub(crate) max_clients: u32,
    /// Of these logged in to one project.
    pub(crate) max_clients_per_project: u32,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listen {
    /// What names it.
    pub(crate) setting: &'static str,
    pub(crate) address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has it.
    #[error(
        "setting `gateway.{setting}`: {address} is already in use by another process; stop it or choose another port"
    )]
    Taken {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses for another reason.
    #[error("setting `gateway.{setting}`: cannot listen on {address}: {source}")]
    Refused {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl ListenError {
    pub(crate) fn new(setting: &'static str, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { setting, address },
            _ => Self::Refused {
                setting,
                address,
                source,
            },
        }
    }
}

/// What was bound: where, and for each thread its sockets, one for each address.
pub(crate) struct Bound {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) by_thread: Vec<Vec<std::net::TcpListener>>,
}

/// Binds `threads` sockets to each configured address.
pub(crate) fn listeners(config: &Config, threads: usize) -> Result<Bound, ListenError> {
    let mut bound = Bound {
        addresses: Vec::new(),
        by_thread: (0..threads).map(|_| Vec::new()).collect(),
    };
    for listen in &config.listen {
        let (address, sockets) = sockets(listen, threads)?;
        bound.addresses.push(address);
        for (thread, socket) in bound.by_thread.iter_mut().zip(sockets) {
            thread.push(socket);
        }
    }
    Ok(bound)
}

/// Binds `count` sockets to one address; with port 0 all share the port that the first was given.
fn sockets(listen: &Listen, count: usize) -> Result<(SocketAddr, Vec<std::net::TcpListener>), ListenError> {
    let refused = |source| ListenError::new(listen.setting, listen.address, source);
    let address = probe(listen.address).map_err(refused)?;
    let listeners = (0..count).map(|_| {
        let socket = bind(address, true)?;
        socket.listen(BACKLOG)?;
        Ok(std::net::TcpListener::from(socket))
    });
    Ok((address, listeners.collect::<io::Result<_>>().map_err(refused)?))
}

/// Whether it is free; with port 0 one that is. With SO_REUSEPORT two processes of one user share a port silently; without it a
/// taken port is an error.
pub(crate) fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let bound = bind(address, false)?.local_addr()?;
    bound.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port whose last connections are still in TIME_WAIT is free.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A client that has connected; nothing was exchanged yet.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    /// Which of the settings' listeners it has come to.
    pub(crate) listener: usize,
    /// The client's address: the TCP peer's, or what a trusted proxy says.
    pub(crate) peer: SocketAddr,
    /// A PROXY header was read: whatever `peer` is, the client has come over a network.
    pub(crate) via_proxy: bool,
    pub(crate) place: Place,
}

#[cfg(feature = "fuzz")]
impl Accepted {
    /// A client that came through no door.
    pub(crate) fn from_nowhere(stream: TcpStream, peer: SocketAddr) -> Self {
        let seats = Arc::new(Seats {
            taken: Box::new([AtomicU32::new(0)]),
            max: AtomicU32::new(1),
        });
        Self {
            stream,
            listener: 0,
            peer,
            via_proxy: false,
            place: seats.take(0),
        }
    }
}

/// A client's place on a thread, given back when dropped.
pub(crate) struct Place {
    seats: Arc<Seats>,
    thread: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seats.taken[self.thread].fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many clients each thread has.
pub(crate) struct Seats {
    taken: Box<[AtomicU32]>,
    max: AtomicU32,
}

impl Seats {
    pub(crate) fn new(threads: usize, max_clients: u32) -> Arc<Self> {
        Arc::new(Self {
            taken: (0..threads).map(|_| AtomicU32::new(0)).collect(),
            max: AtomicU32::new(max_clients),
        })
    }

    /// Another bound for clients that come from now on; nobody who sits is sent away.
    pub(crate) fn set_max(&self, max_clients: u32) {
        self.max.store(max_clients, Ordering::Relaxed);
    }

    /// How many there may be.
    pub(crate) fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    fn are_taken(&self) -> bool {
        self.total() >= self.max()
    }

    fn total(&self) -> u32 {
        self.taken.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// Where a client that arrived at `thread` should sit.
    fn choose(&self, thread: usize) -> usize {
        let mine = self.taken[thread].load(Ordering::Relaxed);
        let emptiest = (0..self.taken.len()).min_by_key(|&other| self.taken[other].load(Ordering::Relaxed));
        match emptiest {
            Some(other) if self.taken[other].load(Ordering::Relaxed) + IMBALANCE < mine + 1 => other,
            _ => thread,
        }
    }

    fn take(self: &Arc<Self>, thread: usize) -> Place {
        self.taken[thread].fetch_add(1, Ordering::Relaxed);
        Place {
            seats: Arc::clone(self),
            thread,
        }
    }
}

/// A client on its way to another thread.
struct HandedOver {
    stream: std::net::TcpStream,
    listener: usize,
    peer: SocketAddr,
    place: Place,
}

/// One thread's door: its listeners and the clients that other threads hand over.
pub(crate) struct Door {
    thread: usize,
    listeners: Vec<TcpListener>,
    /// Which of them is asked first: none of them can keep the others from being heard.
    first: usize,
    inbox: mpsc::Receiver<HandedOver>,
    others: Vec<mpsc::Sender<HandedOver>>,
    seats: Arc<Seats>,
}

/// What a door needs to be opened on its thread's runtime.
pub(crate) struct ClosedDoor {
    thread: usize,
    listeners: Vec<std::net::TcpListener>,
    inbox: mpsc::Receiver<HandedOver>,
    others: Vec<mpsc::Sender<HandedOver>>,
    seats: Arc<Seats>,
}

/// One door per thread, connected to each other.
pub(crate) fn doors(seats: &Arc<Seats>, by_thread: Vec<Vec<std::net::TcpListener>>) -> Vec<ClosedDoor> {
    let (others, inboxes): (Vec<_>, Vec<_>) = by_thread.iter().map(|_| mpsc::channel(INBOX_MAX)).unzip();
    let doors = by_thread.into_iter().zip(inboxes).enumerate();
    doors
        .map(|(thread, (listeners, inbox))| ClosedDoor {
            thread,
            listeners,
            inbox,
            others: others.clone(),
            seats: Arc::clone(seats),
        })
        .collect()
}

impl ClosedDoor {
    /// Must be called on the runtime that will accept.
    pub(crate) fn open(self) -> io::Result<Door> {
        let Self {
            thread,
            listeners,
            inbox,
            others,
            seats,
        } = self;
        let listeners = listeners.into_iter().map(TcpListener::from_std);
        Ok(Door {
            thread,
            listeners: listeners.collect::<io::Result<_>>()?,
            first: 0,
            inbox,
            others,
            seats,
        })
    }
}

/// What came through the door.
pub(crate) enum Arrival {
    Client(Accepted),
    /// All places are taken: the client is to be told and closed.
    Full(TcpStream),
}

/// Keeps a thread that is out of descriptors from filling the log.
#[derive(Default)]
pub(crate) struct Complaints(Option<Instant>);

impl Complaints {
    /// Whether the log has not heard of it for long enough.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

impl Door {
    /// The next client for this thread. An error is one of accepting: a client whose own connection is no good is dropped.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<Arrival> {
        loop {
            tokio::select! {
                Some(HandedOver { stream, listener, peer, place }) = self.inbox.recv() => {
                    let Ok(stream) = TcpStream::from_std(stream) else { continue };
                    return Ok(Arrival::Client(Accepted { stream, listener, peer, via_proxy: false, place }));
                }
                (listener, accepted) = poll_fn(|cx| accept_any(&self.listeners, self.first, cx)) => {
                    self.first = (listener + 1) % self.listeners.len();
                    let (stream, peer) = accepted?;
                    // On an IPv6 listener, too, clients of IPv4 are known by their IPv4 addresses.
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    if self.seats.are_taken() {
                        return Ok(Arrival::Full(stream));
                    }
                    if configure(&stream).is_err() {
                        continue;
                    }
                    let thread = self.seats.choose(self.thread);
                    let place = self.seats.take(thread);
                    if thread == self.thread {
                        return Ok(Arrival::Client(Accepted { stream, listener, peer, via_proxy: false, place }));
                    }
                    // A full inbox or a thread that is gone: the client is dropped, and sees a closed connection.
                    if let Ok(stream) = stream.into_std() {
                        let _ = self.others[thread].try_send(HandedOver { stream, listener, peer, place });
                    }
                }
            }
        }
    }
}

/// A client of any of these listeners, and of which; `first` is asked first.
fn accept_any(
    listeners: &[TcpListener],
    first: usize,
    cx: &mut Context<'_>,
) -> Poll<(usize, io::Result<(TcpStream, SocketAddr)>)> {
    let order = (0..listeners.len()).map(|n| (first + n) % listeners.len());
    for listener in order {
        if let Poll::Ready(accepted) = listeners[listener].poll_accept(cx) {
            return Poll::Ready((listener, accepted));
        }
    }
    Poll::Pending
}

/// An ERR instead of the greeting, as MariaDB does, for a client that nothing else will be done for. It fits any socket's
/// buffer, so nobody waits; tokio's own `try_write` refuses for a socket whose readiness it has not heard of yet.
pub(crate) fn tell_at_the_door(stream: &TcpStream, told: &Told) {
    // A client that is gone need not be told.
    let _ = SockRef::from(stream).send(&told.frame(0));
}

fn configure(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Config {
        on(&["127.0.0.1:0"])
    }

    fn on(addresses: &[&str]) -> Config {
        let listen = addresses.iter().map(|address| Listen {
            setting: "listen",
            address: address.parse().unwrap(),
        });
        Config {
            listen: listen.collect(),
            max_clients: 3,
            max_clients_per_project: 3,
        }
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_the_setting() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = on(&[&taken.local_addr().unwrap().to_string()]);
        let error = listeners(&config, 1).err().unwrap().to_string();
        assert!(
            error.contains("gateway.listen") && error.contains("already in use"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn of_accepts_that_fail_the_log_hears_once_a_minute() {
        let mut complaints = Complaints::default();
        let mut said = 0;
        for _ in 0..1200 {
            said += u32::from(complaints.is_due());
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(said, 2);
    }

    #[tokio::test]
    async fn a_client_that_vanished_is_noticed_in_the_time_that_is_documented() {
        let config = loopback();
        let Bound { addresses, by_thread } = listeners(&config, 1).unwrap();
        let seats = Seats::new(1, config.max_clients);
        let mut door = doors(&seats, by_thread).remove(0).open().unwrap();
        let _client = std::net::TcpStream::connect(addresses[0]).unwrap();
        let Arrival::Client(accepted) = door.next().await.unwrap() else {
            panic!("full")
        };
        let socket = SockRef::from(&accepted.stream);
        assert!(socket.keepalive().unwrap());
        let probes = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert_eq!(socket.tcp_keepalive_time().unwrap() + probes, Duration::from_secs(120));
    }

    #[tokio::test]
    async fn a_client_is_known_by_its_listener_whichever_thread_it_is_given_to() {
        let config = on(&["127.0.0.1:0", "127.0.0.2:0"]);
        let Bound {
            addresses,
            mut by_thread,
        } = listeners(&config, 1).unwrap();
        by_thread.extend(listeners(&loopback(), 1).unwrap().by_thread);
        let seats = Seats::new(2, config.max_clients);
        let mut doors = doors(&seats, by_thread).into_iter();
        let mut first = doors.next().unwrap().open().unwrap();
        let mut second = doors.next().unwrap().open().unwrap();
        let (mut clients, mut seated) = (Vec::new(), Vec::new());
        // The second of them is handed over.
        for listener in [0, 1] {
            clients.push(std::net::TcpStream::connect(addresses[listener]).unwrap());
            let (thread, arrival) = tokio::select! {
                arrival = first.next() => (0, arrival),
                arrival = second.next() => (1, arrival),
            };
            let Arrival::Client(accepted) = arrival.unwrap() else {
                panic!("full")
            };
            assert_eq!((thread, accepted.listener), (listener, listener));
            seated.push(accepted);
        }
    }

    #[tokio::test]
    async fn a_listener_that_everybody_comes_to_keeps_no_other_from_being_heard() {
        let config = Config {
            max_clients: 100,
            max_clients_per_project: 100,
            ..on(&["127.0.0.1:0", "127.0.0.2:0"])
        };
        let Bound { addresses, by_thread } = listeners(&config, 1).unwrap();
        let mut door = doors(&Seats::new(1, config.max_clients), by_thread)
            .remove(0)
            .open()
            .unwrap();
        let waiting: Vec<_> = [0, 0, 0, 0, 0, 0, 1]
            .map(|listener| std::net::TcpStream::connect(addresses[listener]).unwrap())
            .into();
        let mut came = Vec::new();
        for _ in &waiting {
            let Arrival::Client(accepted) = door.next().await.unwrap() else {
                panic!("full")
            };
            came.push(accepted.listener);
        }
        // The runtime hears of both at its first look.
        assert!(came[..3].contains(&1), "{came:?}");
    }

    #[tokio::test]
    async fn a_lopsided_thread_hands_over_and_the_bound_holds() {
        let config = loopback();
        let Bound { addresses, by_thread } = listeners(&config, 1).unwrap();
        let address = addresses[0];
        // The second thread listens elsewhere, so that every client arrives at the first.
        let elsewhere = listeners(&config, 1).unwrap().by_thread;
        let seats = Seats::new(2, config.max_clients);
        let mut doors = doors(&seats, by_thread.into_iter().chain(elsewhere).collect()).into_iter();
        let mut first = doors.next().unwrap().open().unwrap();
        let mut second = doors.next().unwrap().open().unwrap();
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(std::net::TcpStream::connect(address).unwrap());
        }
        let seated = async {
            let mut by_thread = [0, 0];
            let mut places = Vec::new();
            while places.len() < 3 {
                let (thread, arrival) = tokio::select! {
                    arrival = first.next() => (0, arrival),
                    arrival = second.next() => (1, arrival),
                };
                let Arrival::Client(accepted) = arrival.unwrap() else {
                    panic!("full too early")
                };
                by_thread[thread] += 1;
                places.push(accepted.place);
            }
            (by_thread, places)
        };
        let (by_thread, places) = seated.await;
        assert!(by_thread[1] >= 1, "{by_thread:?}");
        kept.push(std::net::TcpStream::connect(address).unwrap());
        assert!(matches!(first.next().await.unwrap(), Arrival::Full(_)));
        seats.set_max(4);
        kept.push(std::net::TcpStream::connect(address).unwrap());
        // The emptier thread is given it.
        let fourth = tokio::select! {
            arrival = first.next() => arrival,
            arrival = second.next() => arrival,
        };
        let Arrival::Client(fourth) = fourth.unwrap() else {
            panic!("still full")
        };
        drop(fourth);
        seats.set_max(3);
        drop(places);
        kept.push(std::net::TcpStream::connect(address).unwrap());
        assert!(matches!(first.next().await.unwrap(), Arrival::Client(_)));
    }
}
