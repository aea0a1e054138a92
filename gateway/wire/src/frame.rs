//! Frames: four bytes of header and at most 16 MiB - 1 of payload. A packet is one frame, or several of which all but the
//! last are full.

/// The most payload one frame carries; a frame of exactly this size is continued by another.
pub const FRAME_PAYLOAD_MAX: usize = 0xff_ffff;

/// A frame's first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes that follow the header, at most [`FRAME_PAYLOAD_MAX`].
    pub payload_len: usize,
    /// Counts the frames of one exchange, modulo 256.
    pub sequence: u8,
}

impl FrameHeader {
    /// None: fewer than four bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, sequence] = *bytes.first_chunk()?;
        let payload_len = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        Some(Self { payload_len, sequence })
    }

    /// The four bytes; a length above [`FRAME_PAYLOAD_MAX`] is cut to it.
    #[must_use]
    pub fn encode(self) -> [u8; 4] {
        let len = u32::try_from(self.payload_len.min(FRAME_PAYLOAD_MAX)).unwrap_or(0);
        let [a, b, c, _] = len.to_le_bytes();
        [a, b, c, self.sequence]
    }
}

/// Appends a packet, split into frames where it is long; a payload of exactly N full frames ends with an empty one.
pub fn write_packet(out: &mut Vec<u8>, sequence: &mut u8, payload: &[u8]) {
    let mut rest = payload;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(FRAME_PAYLOAD_MAX));
        out.extend_from_slice(
            &FrameHeader {
                payload_len: chunk.len(),
                sequence: *sequence,
            }
            .encode(),
        );
        out.extend_from_slice(chunk);
        *sequence = sequence.wrapping_add(1);
        if chunk.len() < FRAME_PAYLOAD_MAX {
            return;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip() {
        let header = FrameHeader {
            payload_len: 0x01_0203,
            sequence: 255,
        };
        assert_eq!(FrameHeader::decode(&header.encode()), Some(header));
        assert_eq!(FrameHeader::decode(&[1, 2, 3]), None);
    }

    #[test]
    fn a_packet_of_a_full_frame_ends_with_an_empty_one() {
        let mut out = Vec::new();
        let mut sequence = 254;
        write_packet(&mut out, &mut sequence, &vec![7; FRAME_PAYLOAD_MAX]);
        assert_eq!(sequence, 0);
        assert_eq!(out.len(), 4 + FRAME_PAYLOAD_MAX + 4);
        assert_eq!(out.last_chunk(), Some(&[0, 0, 0, 255]));
    }
}
