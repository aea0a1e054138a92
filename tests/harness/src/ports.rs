//! Free loopback ports. A port is free at the moment it is given out; whoever uses it starts again with others when
//! somebody was quicker.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex};

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port of 127.0.0.1 that nobody listens on and that this process has not given out before.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(|broken| broken.into_inner());
    loop {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port of 127.0.0.1");
        let port = socket.local_addr().expect("the address of a bound socket").port();
        if given.insert(port) {
            return port;
        }
    }
}
