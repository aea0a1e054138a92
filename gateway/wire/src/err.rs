//! ERR packets, and MariaDB's progress packets, which look like them.

use crate::capabilities::Capabilities;
use crate::frame::write_packet;
use crate::lenenc::{Malformed, Reader};

/// The code that marks a progress packet: no error.
pub const PROGRESS: u16 = 0xffff;

/// An ERR packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrPacket<'a> {
    /// MariaDB's error number.
    pub code: u16,
    /// None in the form used before the login packet.
    pub sqlstate: Option<[u8; 5]>,
    /// For people, in the session's character set.
    pub message: &'a [u8],
}

impl<'a> ErrPacket<'a> {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0xff];
        out.extend_from_slice(&self.code.to_le_bytes());
        if let Some(sqlstate) = &self.sqlstate {
            out.push(b'#');
            out.extend_from_slice(sqlstate);
        }
        out.extend_from_slice(self.message);
        out
    }

    /// Reads both forms; `_capabilities` are those of the connection, or none before the login.
    ///
    /// # Errors
    /// Another packet, a progress packet, or cut short.
    pub fn decode(payload: &'a [u8], _capabilities: Capabilities) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != 0xff {
            return Err(Malformed);
        }
        let code = reader.u16()?;
        if code == PROGRESS {
            return Err(Malformed);
        }
        let sqlstate = match reader.rest().first() {
            Some(b'#') => {
                reader.u8()?;
                Some(reader.array()?)
            }
            _ => None,
        };
        Ok(Self {
            code,
            sqlstate,
            message: reader.rest(),
        })
    }
}

/// Appends the frame of an ERR. A SQLSTATE that is not five bytes long is an error of the caller's and becomes HY000.
pub fn err_frame(out: &mut Vec<u8>, sequence: u8, code: u16, sqlstate: &str, message: &str) {
    let sqlstate = sqlstate.as_bytes().try_into().unwrap_or(*b"HY000");
    let err = ErrPacket {
        code,
        sqlstate: Some(sqlstate),
        message: message.as_bytes(),
    };
    write_packet(out, &mut { sequence }, &err.encode());
}
