//! What a gateway says at /metrics, and waiting for what it comes to say.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::World;

/// Only against hanging: reports come every two seconds.
const GUARD: Duration = Duration::from_secs(20);
const LOOKS_AGAIN: Duration = Duration::from_millis(5);

/// Looks until there is something to see.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = timeout(GUARD, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(LOOKS_AGAIN).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"))
}

pub async fn page(world: &World) -> String {
    let mut http = TcpStream::connect(world.http).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";
    http.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The one series, with its labels.
pub async fn value(world: &World, series: &str) -> f64 {
    let page = page(world).await;
    let mut values = page
        .lines()
        .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    let value = values.next().unwrap_or_else(|| panic!("no {series} in\n{page}"));
    assert_eq!(values.next(), None, "{series} is there twice");
    value
}
