//! OK and EOF packets.

use crate::capabilities::Capabilities;
use crate::frame::write_packet;
use crate::lenenc::{Malformed, Reader, put_bytes, put_int};
use crate::status::StatusFlags;

/// An OK packet, also in the clothes of an EOF (header 0xFE) that ends a result set under DEPRECATE_EOF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OkPacket<'a> {
    /// Header 0xFE instead of 0x00.
    pub ends_rows: bool,
    /// Rows that changed (or were found, with FOUND_ROWS).
    pub affected_rows: u64,
    /// The AUTO_INCREMENT value made.
    pub last_insert_id: u64,
    /// Status flags.
    pub status: StatusFlags,
    /// How many warnings there are.
    pub warnings: u16,
    /// Text for people.
    pub info: &'a [u8],
    /// The block of session state changes; only where the status says there is one.
    pub session_track: Option<&'a [u8]>,
}

impl<'a> OkPacket<'a> {
    /// The payload for a client with these capabilities.
    #[must_use]
    pub fn encode(&self, capabilities: Capabilities) -> Vec<u8> {
        let mut out = vec![if self.ends_rows { 0xfe } else { 0x00 }];
        put_int(&mut out, self.affected_rows);
        put_int(&mut out, self.last_insert_id);
        out.extend_from_slice(&self.status.0.to_le_bytes());
        out.extend_from_slice(&self.warnings.to_le_bytes());
        // MariaDB writes a length before the text whether or not session tracking was agreed (MySQL's documents say
        // otherwise), and leaves out what is empty.
        match self
            .session_track
            .filter(|_| capabilities.contains(Capabilities::SESSION_TRACK))
        {
            Some(block) => {
                put_bytes(&mut out, self.info);
                put_bytes(&mut out, block);
            }
            None if self.info.is_empty() => {}
            None => put_bytes(&mut out, self.info),
        }
        out
    }

    /// # Errors
    /// Another packet, or cut short.
    pub fn decode(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let ends_rows = match reader.u8()? {
            0x00 => false,
            0xfe => true,
            _ => return Err(Malformed),
        };
        let affected_rows = reader.lenenc_int()?;
        let last_insert_id = reader.lenenc_int()?;
        let status = StatusFlags(reader.u16()?);
        let warnings = reader.u16()?;
        let info = if reader.is_empty() {
            &[][..]
        } else {
            reader.lenenc_bytes()?
        };
        let changed = capabilities.contains(Capabilities::SESSION_TRACK)
            && status.contains(StatusFlags::SESSION_STATE_CHANGED)
            && !reader.is_empty();
        let session_track = if changed { Some(reader.lenenc_bytes()?) } else { None };
        Ok(Self {
            ends_rows,
            affected_rows,
            last_insert_id,
            status,
            warnings,
            info,
            session_track,
        })
    }
}

/// Appends the frame of a plain OK.
pub fn ok_frame(out: &mut Vec<u8>, sequence: u8, status: StatusFlags, capabilities: Capabilities) {
    ok_frame_with(out, sequence, status, capabilities, &[]);
}

/// Appends the frame of an OK with this text.
pub fn ok_frame_with(out: &mut Vec<u8>, sequence: u8, status: StatusFlags, capabilities: Capabilities, info: &[u8]) {
    let ok = OkPacket {
        status,
        info,
        ..OkPacket::default()
    };
    write_packet(out, &mut { sequence }, &ok.encode(capabilities));
}

/// Appends the frame that ends definitions, rows or a COM_SET_OPTION: an EOF, or under DEPRECATE_EOF an OK with header
/// 0xFE.
pub fn eof_frame(out: &mut Vec<u8>, sequence: u8, warnings: u16, status: StatusFlags, capabilities: Capabilities) {
    let payload = match capabilities.contains(Capabilities::DEPRECATE_EOF) {
        true => OkPacket {
            ends_rows: true,
            status,
            warnings,
            ..OkPacket::default()
        }
        .encode(capabilities),
        false => {
            let ([a, b], [c, d]) = (warnings.to_le_bytes(), status.0.to_le_bytes());
            vec![0xfe, a, b, c, d]
        }
    };
    write_packet(out, &mut { sequence }, &payload);
}
