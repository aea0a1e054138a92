//! The PROXY protocol, versions 1 and 2: what a proxy in front says of the client, before the client's own bytes.
//!
//! In: the bytes so far. Out: how many more belong to the header for certain, or the header. A reader that asks after each
//! piece reads not a byte beyond it, which is why this is no library that parses what a buffer happens to hold; what is
//! behind the header is the client's, and may be for TLS. By the specification of HAProxy:
//! <https://github.com/haproxy/haproxy/blob/v3.0.0/doc/proxy-protocol.txt>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Begins a header of version 1.
const WORD: &[u8; 6] = b"PROXY ";
/// The shortest header, `PROXY UNKNOWN\r\n`, is longer than what tells the versions apart.
const FIRST_BYTES: usize = SIGNATURE.len();
/// The longest line of version 1, by the specification, less the NUL that C puts behind it.
const LINE_BYTES_MAX: usize = 107;
/// What comes before the length in version 2, and the length.
const FIXED_BYTES: usize = 16;
/// Addresses take at most 216 bytes; what follows them (TLVs: names of up to 255 bytes, a certificate's subject, an id of up
/// to 128) does not count here, and proxies keep all of it below the 536 bytes that fit the smallest TCP segment.
const REST_BYTES_MAX: usize = 1024;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The client's address, as the proxy saw it.
    From(SocketAddr),
    /// The connection is the proxy's own (a health check), or it does not know the client: the peer's address stands.
    Peer,
}

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// At least so many bytes more belong to it.
    More(usize),
    /// It is whole.
    Done(ProxyHeader),
}

/// These bytes are no header that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The first bytes are of no version.
    #[error("it does not begin as a PROXY header does")]
    NoHeader,
    /// Longer than any that a proxy sends.
    #[error("its PROXY header is too long")]
    TooLong,
    /// A version, command or family that there is not, or that is not of a TCP connection.
    #[error("its PROXY header is of an unknown or unsuitable kind")]
    Kind,
    /// An address or a port that is none, or one missing.
    #[error("its PROXY header has no usable address")]
    Address,
}

/// Looks at the first bytes of a connection. What follows the header is not looked at.
///
/// # Errors
/// No header, or one that cannot be used.
pub fn decode(bytes: &[u8]) -> Result<Progress, ProxyError> {
    if let Some(rest) = bytes.strip_prefix(SIGNATURE) {
        return version_2(rest);
    }
    if bytes.starts_with(WORD) && bytes.len() >= FIRST_BYTES {
        return version_1(bytes);
    }
    if bytes.len() < FIRST_BYTES && (SIGNATURE.starts_with(bytes) || begins_alike(bytes, WORD)) {
        return Ok(Progress::More(FIRST_BYTES - bytes.len()));
    }
    Err(ProxyError::NoHeader)
}

/// As far as both go.
fn begins_alike(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(one, other)| one == other)
}

fn version_1(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let line = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        let more = if line.last() == Some(&b'\r') { 1 } else { 2 };
        return match line.len() + more {
            ..=LINE_BYTES_MAX => Ok(Progress::More(more)),
            _ => Err(ProxyError::TooLong),
        };
    };
    let line = line.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.ok_or(ProxyError::Kind)?.split(' ').skip(1);
    let is_v4 = match words.next() {
        Some("UNKNOWN") => return Ok(Progress::Done(ProxyHeader::Peer)),
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(ProxyError::Kind),
    };
    let address = |text: Option<&str>| -> Option<IpAddr> {
        let text = text?;
        match is_v4 {
            true => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            false => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    };
    let (from, to) = (address(words.next()), address(words.next()));
    let (from_port, to_port) = (port(words.next()), port(words.next()));
    match (from, to, from_port, to_port, words.next()) {
        (Some(from), Some(_), Some(port), Some(_), None) => {
            Ok(Progress::Done(ProxyHeader::From(SocketAddr::new(from, port))))
        }
        _ => Err(ProxyError::Address),
    }
}

/// Digits without a sign and without zeros in front.
fn port(text: Option<&str>) -> Option<u16> {
    let text = text?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// `rest`: what follows the signature.
fn version_2(rest: &[u8]) -> Result<Progress, ProxyError> {
    let Some(([version_command, family, high, low], rest)) = rest.split_first_chunk() else {
        return Ok(Progress::More(FIXED_BYTES - FIRST_BYTES - rest.len()));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Kind),
    };
    if length > REST_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(rest) = rest.get(..length) else {
        return Ok(Progress::More(length - rest.len()));
    };
    if is_local {
        return Ok(Progress::Done(ProxyHeader::Peer));
    }
    let from = match family {
        // No family, or a unix socket at the proxy: there is no address to take over.
        0x00 | 0x31 => return Ok(Progress::Done(ProxyHeader::Peer)),
        0x11 => rest
            .first_chunk::<12>()
            .map(|[a, b, c, d, _, _, _, _, high, low, _, _]| {
                let port = u16::from_be_bytes([*high, *low]);
                SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), port)
            }),
        0x21 => rest.first_chunk::<36>().and_then(|addresses| {
            let (from, ports) = (addresses.first_chunk::<16>()?, addresses.last_chunk::<4>()?);
            let [high, low, _, _] = *ports;
            Some(SocketAddr::new(
                Ipv6Addr::from(*from).into(),
                u16::from_be_bytes([high, low]),
            ))
        }),
        _ => return Err(ProxyError::Kind),
    };
    let from = from.ok_or(ProxyError::Address)?;
    Ok(Progress::Done(ProxyHeader::From(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn v4(tlvs: &[u8]) -> Vec<u8> {
        let addresses = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 0x0c, 0xeb];
        v2(0x21, 0x11, &[&addresses[..], tlvs].concat())
    }

    fn v6() -> Vec<u8> {
        let (from, to): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "::1".parse().unwrap());
        let rest = [&from.octets()[..], &to.octets(), &[0xdc, 0x04, 0x0c, 0xeb]].concat();
        v2(0x21, 0x21, &rest)
    }

    fn from(text: &str) -> ProxyHeader {
        ProxyHeader::From(text.parse().unwrap())
    }

    /// Headers, and what they say.
    fn good() -> Vec<(Vec<u8>, ProxyHeader)> {
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        vec![
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 3307\r\n".into(),
                from("192.0.2.1:56324"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 56324 3307\r\n".into(),
                from("[2001:db8::1]:56324"),
            ),
            (longest.into(), from("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
            (b"PROXY UNKNOWN\r\n".into(), ProxyHeader::Peer),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".into(), ProxyHeader::Peer),
            (v4(&[]), from("192.0.2.1:56324")),
            // A unique id, an authority, a no-op; a TLV that is cut does not matter either.
            (
                v4(b"\x05\x00\x02id\x02\x00\x04name\x04\x00\x00\xff\xff"),
                from("192.0.2.1:56324"),
            ),
            (v4(&[0; REST_BYTES_MAX - 12]), from("192.0.2.1:56324")),
            (v6(), from("[2001:db8::1]:56324")),
            (v2(0x20, 0x00, &[]), ProxyHeader::Peer),
            (v2(0x20, 0x11, &[1; 12]), ProxyHeader::Peer),
            (v2(0x21, 0x00, b"whatever"), ProxyHeader::Peer),
            (v2(0x21, 0x31, &[0; 216]), ProxyHeader::Peer),
        ]
    }

    #[test]
    fn headers_of_both_versions_say_where_the_client_is() {
        for (bytes, says) in good() {
            assert_eq!(decode(&bytes), Ok(Progress::Done(says)), "{}", bytes.escape_ascii());
            let followed = [&bytes[..], b"\x01\x00\x00\x01"].concat();
            assert_eq!(decode(&followed), Ok(Progress::Done(says)), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn cut_at_every_length_it_asks_for_no_byte_beyond_its_end() {
        for (bytes, _) in good() {
            for len in 0..bytes.len() {
                match decode(&bytes[..len]) {
                    Ok(Progress::More(more)) => {
                        assert!(
                            (1..=bytes.len() - len).contains(&more),
                            "{len} of {}",
                            bytes.escape_ascii()
                        );
                    }
                    other => panic!("{len} of {}: {other:?}", bytes.escape_ascii()),
                }
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_by_its_first_bytes() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PROXX",
            b"\r\n\r\nX",
            b"proxy TCP4",
        ] {
            assert_eq!(decode(bytes), Err(ProxyError::NoHeader), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn headers_that_cannot_be_used_say_why() {
        let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat();
        for (bytes, why) in [
            (endless, ProxyError::TooLong),
            (v2(0x21, 0x11, &[0; REST_BYTES_MAX + 1]), ProxyError::TooLong),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 3307\n".into(), ProxyError::Kind),
            (b"PROXY UDP4 192.0.2.1 10.0.0.1 56324 3307\r\n".into(), ProxyError::Kind),
            (
                b"PROXY TCP4 \xff.0.2.1 10.0.0.1 56324 3307\r\n".into(),
                ProxyError::Kind,
            ),
            (v2(0x11, 0x11, &[0; 12]), ProxyError::Kind),
            (v2(0x22, 0x11, &[0; 12]), ProxyError::Kind),
            // UDP, and a family that there is not.
            (v2(0x21, 0x12, &[0; 12]), ProxyError::Kind),
            (v2(0x21, 0x41, &[0; 12]), ProxyError::Kind),
            (v2(0x21, 0x11, &[0; 11]), ProxyError::Address),
            (v2(0x21, 0x21, &[0; 35]), ProxyError::Address),
        ] {
            assert_eq!(decode(&bytes), Err(why), "{}", bytes.escape_ascii());
        }
        for words in [
            "TCP4 192.0.2.1 10.0.0.1 56324",
            "TCP4 192.0.2.1 10.0.0.1 56324 3307 1",
            "TCP4 192.0.2.1  10.0.0.1 56324 3307",
            "TCP4 192.0.2.256 10.0.0.1 56324 3307",
            "TCP4 192.0.02.1 10.0.0.1 56324 3307",
            "TCP4 ::1 ::1 56324 3307",
            "TCP6 192.0.2.1 10.0.0.1 56324 3307",
            "TCP4 192.0.2.1 10.0.0.1 65536 3307",
            "TCP4 192.0.2.1 10.0.0.1 +1 3307",
            "TCP4 192.0.2.1 10.0.0.1 01 3307",
            "TCP4 192.0.2.1 10.0.0.1  3307",
        ] {
            let line = format!("PROXY {words}\r\n");
            assert_eq!(decode(line.as_bytes()), Err(ProxyError::Address), "{words}");
        }
    }
}
