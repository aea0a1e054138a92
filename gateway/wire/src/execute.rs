//! What a gateway must know of COM_STMT_EXECUTE and COM_STMT_BULK_EXECUTE to send one on to another connection than the
//! statement was prepared on: where the statement's id stands, and where the types of its parameters.
//!
//! A client names the types with the first execution and leaves them out after that; a connection that has just prepared
//! the statement again does not know them (MariaDB answers 1210).

use crate::command::Command;

/// Where the statement's id stands in the payload of every COM_STMT_* command that has one.
pub const STATEMENT_ID: std::ops::Range<usize> = 1..5;

/// The id that stands for the statement prepared last on the connection.
pub const LAST_PREPARED: u32 = u32::MAX;

/// COM_STMT_BULK_EXECUTE: types follow.
const BULK_SEND_TYPES: u8 = 128;

/// Where the types of an execution stand, counted from the payload's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types {
    /// The byte that says whether types follow.
    flag: usize,
    /// What of it says so.
    bit: u8,
    /// Where they begin, or would.
    begin: usize,
    /// How many bytes they are.
    len: usize,
}

impl Types {
    /// For a statement with so many parameters. None: the command has no types.
    #[must_use]
    pub fn of(command: Command, parameters: u16) -> Option<Self> {
        let parameters = usize::from(parameters);
        if parameters == 0 {
            return None;
        }
        let (flag, bit, begin) = match command {
            // Command, id, cursor flags, iteration count, one bit a parameter that is NULL.
            Command::StmtExecute => {
                let flag = 1 + 4 + 1 + 4 + parameters.div_ceil(8);
                (flag, 1, flag + 1)
            }
            // Command, id, flags.
            Command::StmtBulkExecute => (5, BULK_SEND_TYPES, 7),
            _ => return None,
        };
        Some(Self {
            flag,
            bit,
            begin,
            len: 2 * parameters,
        })
    }

    /// So much of the payload must be seen.
    #[must_use]
    pub fn end(self) -> usize {
        self.begin + self.len
    }

    /// The types that the client sent. None: it left them out, or the payload ends before.
    #[must_use]
    pub fn sent(self, payload: &[u8]) -> Option<&[u8]> {
        let follows = payload.get(self.flag)? & self.bit != 0;
        payload.get(self.begin..self.end()).filter(|_| follows)
    }

    /// Where to put them where they were left out; sets the flag that says they are there. None: the payload is too short.
    pub fn announce(self, payload: &mut [u8]) -> Option<usize> {
        *payload.get_mut(self.flag)? |= self.bit;
        Some(self.begin).filter(|begin| *begin <= payload.len())
    }
}

/// The id in a command's payload.
#[must_use]
pub fn statement_id(payload: &[u8]) -> Option<u32> {
    let id = payload.get(STATEMENT_ID)?;
    id.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execute(parameters: usize, types: Option<&[u8]>, values: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x17, 7, 0, 0, 0, 0, 1, 0, 0, 0];
        packet.extend(vec![0; parameters.div_ceil(8)]);
        packet.push(u8::from(types.is_some()));
        packet.extend_from_slice(types.unwrap_or_default());
        packet.extend_from_slice(values);
        packet
    }

    #[test]
    fn types_put_in_give_the_packet_that_had_them() {
        for parameters in [1_u16, 8, 9, 300] {
            let types: Vec<u8> = (0..usize::from(parameters) * 2).map(|n| n as u8).collect();
            let whole = execute(parameters.into(), Some(&types), b"values");
            let layout = Types::of(Command::StmtExecute, parameters).unwrap();
            assert_eq!(layout.sent(&whole), Some(&types[..]));
            let mut short = execute(parameters.into(), None, b"values");
            assert_eq!(layout.sent(&short), None);
            let at = layout.announce(&mut short).unwrap();
            short.splice(at..at, types);
            assert_eq!(short, whole);
        }
    }

    #[test]
    fn bulk_types_stand_behind_the_flags() {
        let layout = Types::of(Command::StmtBulkExecute, 1).unwrap();
        let whole = [0xfa, 7, 0, 0, 0, 128, 0, 8, 0, 0, 1];
        assert_eq!(layout.sent(&whole), Some(&[8, 0][..]));
        let mut short = [0xfa, 7, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(layout.announce(&mut short), Some(7));
        assert_eq!(short[5], 128);
    }

    #[test]
    fn short_packets_have_nothing() {
        let layout = Types::of(Command::StmtExecute, 2).unwrap();
        for len in 0..10 {
            assert_eq!(layout.sent(&vec![0x17; len]), None);
        }
        assert_eq!(statement_id(&[0x17, 1, 2]), None);
        assert_eq!(statement_id(&[0x17, 1, 2, 0, 0]), Some(513));
        assert_eq!(Types::of(Command::StmtExecute, 0), None);
        assert_eq!(Types::of(Command::StmtFetch, 1), None);
    }
}
