//! Whole sessions: the gateway's own code from the first byte of a connection to the last, between two scripts.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::client::{Client, Disguise, Heard, STRANGERS, Seen};
use super::input::Input;
use super::world::{PROXY, World};
use super::{client, compute};
use crate::accept::Accepted;
use crate::connection;

/// By the standing clock. All that a script waits for is shorter: who takes longer hangs.
const HANGS: Duration = Duration::from_secs(4 * 3600);
/// Where clients come from: this machine, elsewhere, and through the trusted proxy.
const PEERS: [Ipv4Addr; 3] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(203, 0, 113, 7), PROXY];

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// A client that logs in and does as its script says: where it comes from, then the script. There is no compute. `dir` is for
/// the files of the gateway; the first call's counts.
pub fn logins(dir: &Path, input: &[u8]) {
    let mut input = Input(input);
    let peer = input.one_of(&PEERS);
    let run = run(dir, peer, None, input, None);
    assert!(
        run.seen.may_be_in() || run.asked == 0,
        "a login that failed has woken a project"
    );
}

/// A client and a compute, each with a script.
pub fn sessions(dir: &Path, input: &[u8]) {
    let mut input = Input(input);
    let (client, compute) = input.halves();
    let run = run(dir, PEERS[0], None, client, Some(compute));
    assert!(
        run.seen.may_be_in() || run.dialled == 0,
        "a login that failed has reached a compute"
    );
}

/// The same script without a password, under names that are known and names that are not: they hear the same.
pub fn strangers(dir: &Path, input: &[u8]) {
    let mut input = Input(input);
    let peer = input.one_of(&PEERS);
    let heard: Vec<Heard> = STRANGERS
        .iter()
        .map(|name| {
            let run = run(dir, peer, Some(name), Input(input.0), None);
            assert!(!run.seen.let_in && run.asked == 0, "let in as nobody");
            run.seen.heard
        })
        .collect();
    for (name, other) in STRANGERS.iter().zip(&heard) {
        assert_eq!(
            &heard[0],
            other,
            "{} hears something else",
            String::from_utf8_lossy(name)
        );
    }
}

struct Run {
    seen: Seen,
    /// Wakes.
    asked: usize,
    /// Connections to the compute.
    dialled: usize,
}

fn run(dir: &Path, peer: Ipv4Addr, disguise: Disguise, client: Input<'_>, compute: Option<Input<'_>>) -> Run {
    WORLD.with_borrow_mut(|world| {
        run_in(
            world.get_or_insert_with(|| World::new(dir)),
            peer,
            disguise,
            client,
            compute,
        )
    })
}

fn run_in(world: &mut World, peer: Ipv4Addr, disguise: Disguise, script: Input<'_>, compute: Option<Input<'_>>) -> Run {
    let socket = world.begin();
    let mut dialled = 0;
    let both = async {
        let (ours, theirs) = UnixStream::pair().expect("two ends of a socket");
        let accepted = Accepted::from_nowhere(as_tcp(ours), SocketAddr::from((peer, 4000)));
        let metrics = world.gateway.metrics.core(0);
        let served = connection::serve(Arc::clone(&world.gateway), metrics, accepted);
        let tls = Arc::clone(&world.tls);
        let client = client::Client::new(theirs, peer.is_loopback(), tls, &world.password, disguise);
        let ends = async { tokio::join!(served, Client::follow(client, script)).1 };
        let serves = async {
            match compute {
                Some(script) => compute::serve(&socket, script, &mut dialled).await,
                None => std::future::pending().await,
            }
        };
        let seen = tokio::select! {
            seen = timeout(HANGS, ends) => seen.expect("the session does not end"),
            () = serves => unreachable!("it serves for ever"),
        };
        // The clock moves on when nobody has anything to do: what the session has begun elsewhere counts for this run.
        sleep(Duration::from_millis(1)).await;
        seen
    };
    let seen = LocalSet::new().block_on(&world.runtime, both);
    // Where there was a compute there is its socket.
    let _ = std::fs::remove_file(&socket);
    Run {
        seen,
        asked: world.source.asked.load(Relaxed),
        dialled,
    }
}

/// The gateway's end: a stream of bytes like any other, but for its addresses, which were taken when it was accepted.
fn as_tcp(stream: UnixStream) -> TcpStream {
    let stream = stream.into_std().expect("a socket");
    let stream = std::net::TcpStream::from(std::os::fd::OwnedFd::from(stream));
    TcpStream::from_std(stream).expect("a socket")
}
