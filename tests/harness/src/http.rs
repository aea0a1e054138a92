//! A small HTTP/1.1 client: one request per connection, whole answers. Tests send odd requests too, so nothing here
//! corrects them.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::secrets;
use crate::wait::guarded;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// The body as JSON; `Null` where there is none.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("not JSON ({why}): {}", self.body))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Sends one request to `url` (`http://host:port/path`) with the bearer `key` and the JSON `body` where given.
pub async fn request(method: &str, url: &str, key: Option<&str>, body: Option<&Value>) -> Response {
    request_with(method, url, key, &[], body).await
}

/// The same with other headers.
pub async fn request_with(
    method: &str,
    url: &str,
    key: Option<&str>,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Response {
    let (address, path) = split(url);
    let what = format!("{method} {path}");
    if let Some(body) = body {
        secrets::of_json(&what, body);
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    let key = key
        .map(|key| format!("Authorization: Bearer {key}\r\n"))
        .unwrap_or_default();
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{key}{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = guarded(format_args!("{method} {url}"), exchange(address, head + &body)).await;
    let answer = parse(&answer.unwrap_or_else(|why| panic!("{method} {url}: {why}")));
    if let Ok(body) = serde_json::from_str(&answer.body) {
        secrets::of_json(&what, &body);
    }
    answer
}

/// The status of a GET of what may not be there, or be killed at any moment: `None` where nobody answers to the end.
pub async fn status(url: &str) -> Option<u16> {
    let (address, path) = split(url);
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = guarded(format_args!("GET {url}"), exchange(address, head)).await.ok()?;
    let is_whole = answer.windows(4).any(|end| end == b"\r\n\r\n");
    is_whole.then(|| parse(&answer).status)
}

/// Address and path.
fn split(url: &str) -> (&str, &str) {
    let rest = url
        .strip_prefix("http://")
        .unwrap_or_else(|| panic!("not an http URL: {url}"));
    match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    }
}

async fn exchange(address: &str, request: String) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Response {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("not an HTTP response: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    Response {
        status: status.unwrap_or_else(|| panic!("no status: {head}")),
        headers,
        body: if chunked { dechunk(body) } else { body.to_owned() },
    }
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}
