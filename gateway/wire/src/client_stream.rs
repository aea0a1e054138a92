//! The direction client to compute: where each command begins and ends, in chunks cut anywhere.
//!
//! Looks at frame headers and at the first byte of a command, keeps nothing but counters, copies nothing.

use crate::frame::{FRAME_PAYLOAD_MAX, FrameHeader};

/// The first five bytes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandHead {
    /// The command's byte, whether it is one we know or not.
    pub code: u8,
    /// Payload of its first frame.
    pub frame_payload_len: usize,
}

/// What stands at the beginning of the bytes that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientScan {
    /// Too few bytes to tell; none were consumed.
    NeedMore,
    /// A command begins here. Nothing is consumed until [`ClientScanner::begin_command`] is called.
    Command(CommandHead),
    /// So many bytes belong to the command, or the file, under way.
    Body(usize),
    /// So many bytes end the command under way.
    CommandEnd(usize),
    /// So many bytes end the file under way.
    FileEnd(usize),
}

/// What no client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// A frame does not carry the number it should.
    #[error("frame number {found} where {expected} should be")]
    OutOfOrder {
        /// The number that should be there.
        expected: u8,
        /// The number that is.
        found: u8,
    },
    /// A file was asked for while a command is under way.
    #[error("a file was asked for in the middle of a command")]
    FileInCommand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between commands.
    Boundary,
    /// In a frame: bytes left of it with its header, and whether another follows.
    Frame { left: usize, more: bool, file: bool },
    /// Between two frames of one command or file; the number the next must carry, where it is known. `continues`: the
    /// frame before was full, so the next belongs to its packet even when it is empty.
    Between {
        sequence: Option<u8>,
        file: bool,
        continues: bool,
    },
}

/// Follows one client's bytes.
#[derive(Debug)]
pub struct ClientScanner {
    state: State,
    /// Number of the frame under way.
    sequence: u8,
    /// Head of the command that `scan` showed and `begin_command` will begin.
    shown: usize,
}

impl Default for ClientScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientScanner {
    /// Between commands.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Boundary,
            sequence: 0,
            shown: 0,
        }
    }

    /// No command and no file is under way.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.state == State::Boundary
    }

    /// The number that the compute's answer begins with: commands and files are counted on. To be asked when one has
    /// ended.
    #[must_use]
    pub fn answer_sequence(&self) -> u8 {
        self.sequence.wrapping_add(1)
    }

    /// Begins the command that [`ClientScanner::scan`] showed.
    pub fn begin_command(&mut self) {
        self.sequence = 0;
        self.state = frame(self.shown, false);
    }

    /// The compute asked for a file: the client's next frames are it, numbered on from the compute's request, up to an
    /// empty one.
    ///
    /// # Errors
    /// A command is under way.
    pub fn begin_file(&mut self) -> Result<(), ScanError> {
        match self.state {
            State::Boundary => {
                self.state = State::Between {
                    sequence: None,
                    file: true,
                    continues: false,
                };
                Ok(())
            }
            _ => Err(ScanError::FileInCommand),
        }
    }

    /// Looks at the bytes that were not consumed yet. The caller consumes as many as the answer says.
    ///
    /// # Errors
    /// A frame is out of order; the connection cannot go on.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<ClientScan, ScanError> {
        match self.state {
            State::Boundary => self.command_head(bytes),
            State::Between {
                sequence,
                file,
                continues,
            } => {
                let Some(header) = FrameHeader::decode(bytes) else {
                    return Ok(ClientScan::NeedMore);
                };
                in_order(sequence.unwrap_or(header.sequence), header.sequence)?;
                self.sequence = header.sequence;
                if file && !continues && header.payload_len == 0 {
                    self.state = State::Boundary;
                    return Ok(ClientScan::FileEnd(4));
                }
                self.state = frame(header.payload_len, file);
                Ok(self.body(bytes.len()))
            }
            State::Frame { .. } if bytes.is_empty() => Ok(ClientScan::NeedMore),
            State::Frame { .. } => Ok(self.body(bytes.len())),
        }
    }

    fn command_head(&mut self, bytes: &[u8]) -> Result<ClientScan, ScanError> {
        let Some(header) = FrameHeader::decode(bytes) else {
            return Ok(ClientScan::NeedMore);
        };
        in_order(0, header.sequence)?;
        self.shown = header.payload_len;
        // An empty packet is a command that nobody knows: MariaDB answers it as such.
        let code = match (header.payload_len, bytes.get(4)) {
            (0, _) => 0xff,
            (_, Some(code)) => *code,
            (_, None) => return Ok(ClientScan::NeedMore),
        };
        Ok(ClientScan::Command(CommandHead {
            code,
            frame_payload_len: header.payload_len,
        }))
    }

    fn body(&mut self, available: usize) -> ClientScan {
        let State::Frame { left, more, file } = self.state else {
            return ClientScan::NeedMore;
        };
        let n = left.min(available);
        if n < left {
            self.state = State::Frame {
                left: left - n,
                more,
                file,
            };
            return ClientScan::Body(n);
        }
        if more || file {
            self.state = State::Between {
                sequence: Some(self.sequence.wrapping_add(1)),
                file,
                continues: more,
            };
            return ClientScan::Body(n);
        }
        self.state = State::Boundary;
        ClientScan::CommandEnd(n)
    }
}

fn frame(payload_len: usize, file: bool) -> State {
    State::Frame {
        left: payload_len + 4,
        more: payload_len == FRAME_PAYLOAD_MAX,
        file,
    }
}

fn in_order(expected: u8, found: u8) -> Result<(), ScanError> {
    if expected == found {
        Ok(())
    } else {
        Err(ScanError::OutOfOrder { expected, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::write_packet;

    #[test]
    fn a_file_packet_of_a_full_frame_goes_on_in_an_empty_one() {
        let mut stream = Vec::new();
        let mut sequence = 2;
        write_packet(&mut stream, &mut sequence, &vec![b'x'; FRAME_PAYLOAD_MAX]);
        write_packet(&mut stream, &mut sequence, &[]);
        let mut scanner = ClientScanner::new();
        scanner.begin_file().unwrap();
        let mut at = 0;
        let end = loop {
            match scanner.scan(&stream[at..]).unwrap() {
                ClientScan::Body(n) => at += n,
                other => break other,
            }
        };
        assert_eq!((end, at), (ClientScan::FileEnd(4), stream.len() - 4));
        assert_eq!(scanner.answer_sequence(), sequence);
    }
}
