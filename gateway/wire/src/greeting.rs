//! The server's first packet: version, nonce, what it can do.

use crate::capabilities::Capabilities;
use crate::lenenc::{Malformed, Reader};
use crate::status::StatusFlags;

/// HandshakeV10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// As drivers see it, with MariaDB's `5.5.5-` in front where that is wanted.
    pub server_version: String,
    /// What `CONNECTION_ID()` is on that server.
    pub connection_id: u32,
    /// What answers are computed with.
    pub nonce: [u8; 20],
    /// MariaDB's extended flags are written and read only when CLIENT_MYSQL is clear.
    pub capabilities: Capabilities,
    /// The server's default collation, where its number fits a byte.
    pub collation: u8,
    /// Status flags.
    pub status: StatusFlags,
    /// The plugin that the nonce is for.
    pub auth_plugin: String,
}

const PROTOCOL_VERSION: u8 = 10;

impl Greeting {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![PROTOCOL_VERSION];
        out.extend_from_slice(self.server_version.as_bytes());
        out.push(0);
        out.extend_from_slice(&self.connection_id.to_le_bytes());
        let (first, second) = self.nonce.split_at(8);
        out.extend_from_slice(first);
        out.push(0);
        let [a, b, c, d] = self.capabilities.low().to_le_bytes();
        out.extend_from_slice(&[a, b, self.collation]);
        out.extend_from_slice(&self.status.0.to_le_bytes());
        out.extend_from_slice(&[c, d]);
        // Length of the nonce with its closing NUL.
        out.push(21);
        out.extend_from_slice(&[0; 6]);
        let extended = match self.capabilities.contains(Capabilities::CLIENT_MYSQL) {
            true => 0,
            false => self.capabilities.extended(),
        };
        out.extend_from_slice(&extended.to_le_bytes());
        out.extend_from_slice(second);
        out.push(0);
        out.extend_from_slice(self.auth_plugin.as_bytes());
        out.push(0);
        out
    }

    /// # Errors
    /// Cut short, another protocol version, or a server without 20-byte nonces.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != PROTOCOL_VERSION {
            return Err(Malformed);
        }
        let server_version = text(reader.nul_terminated()?);
        let connection_id = reader.u32()?;
        let first: [u8; 8] = reader.array()?;
        reader.u8()?;
        let low = reader.u16()?;
        let collation = reader.u8()?;
        let status = StatusFlags(reader.u16()?);
        let high = reader.u16()?;
        reader.u8()?;
        reader.bytes(6)?;
        let extended = reader.u32()?;
        let second: [u8; 12] = reader.array()?;
        let mut nonce = [0; 20];
        for (to, from) in nonce.iter_mut().zip(first.iter().chain(&second)) {
            *to = *from;
        }
        let capabilities = Capabilities::of(u32::from(low) | u32::from(high) << 16, extended);
        // The nonce's NUL, then the plugin, whose own NUL some servers leave out.
        let auth_plugin = match capabilities.contains(Capabilities::PLUGIN_AUTH) {
            true => {
                reader.u8()?;
                text(reader.nul_terminated().unwrap_or(reader.rest()))
            }
            false => String::new(),
        };
        Ok(Self {
            server_version,
            connection_id,
            nonce,
            capabilities,
            collation,
            status,
            auth_plugin,
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        Greeting {
            server_version: "5.5.5-10.11.19-MariaDB-0+deb12u1".into(),
            connection_id: 0x8000_0001,
            nonce: *b"abcdefghijklmnopqrst",
            capabilities: Capabilities(0x1d_81ff_f7fe),
            collation: 45,
            status: StatusFlags::AUTOCOMMIT,
            auth_plugin: "mysql_native_password".into(),
        }
    }

    #[test]
    fn round_trip_and_every_cut() {
        let bytes = greeting().encode();
        assert_eq!(Greeting::decode(&bytes), Ok(greeting()));
        for len in 0..bytes.len() - 23 {
            assert_eq!(Greeting::decode(&bytes[..len]), Err(Malformed), "cut at {len}");
        }
        for len in 0..bytes.len() {
            let _ = Greeting::decode(&bytes[..len]);
        }
    }

    #[test]
    fn extended_flags_count_only_when_client_mysql_is_clear() {
        let mysql = Greeting {
            capabilities: greeting().capabilities | Capabilities::CLIENT_MYSQL,
            ..greeting()
        };
        let decoded = Greeting::decode(&mysql.encode()).unwrap();
        assert!(!decoded.capabilities.contains(Capabilities::MARIADB_PROGRESS));
    }
}
