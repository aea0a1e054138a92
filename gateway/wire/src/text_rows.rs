//! The answers to questions that the gateway itself asks: whole text result sets, read from bytes that a
//! [`crate::response::ResponseScanner`] has seen to the end.

use crate::capabilities::Capabilities;
use crate::column::ColumnDefinition;
use crate::frame::FrameHeader;
use crate::lenenc::{Malformed, Reader};
use crate::ok::OkPacket;
use crate::status::StatusFlags;

/// A row's values; None is NULL.
pub type Row<'a> = Vec<Option<&'a [u8]>>;

/// One result set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextRows<'a> {
    /// The collation number of each column, where definitions came.
    pub collations: Vec<u16>,
    /// Its rows.
    pub rows: Vec<Row<'a>>,
    /// Of the packet that ended it.
    pub status: StatusFlags,
}

/// Reads the result set that `bytes` begin with, and says what follows it. Packets of several frames are none of ours.
///
/// # Errors
/// Something else stands there: an OK, an ERR, a packet cut short.
pub fn read(mut bytes: &[u8], capabilities: Capabilities) -> Result<(TextRows<'_>, &[u8]), Malformed> {
    let deprecate_eof = capabilities.contains(Capabilities::DEPRECATE_EOF);
    let mut head = Reader::new(packet(&mut bytes)?);
    if matches!(head.rest().first(), None | Some(0 | 0xfb | 0xff)) {
        return Err(Malformed);
    }
    let columns = head.lenenc_int()?;
    let definitions = !capabilities.contains(Capabilities::MARIADB_CACHE_METADATA) || head.u8()? != 0;
    let mut collations = Vec::new();
    if definitions {
        for _ in 0..columns {
            collations.push(ColumnDefinition::decode(packet(&mut bytes)?, capabilities)?.charset);
        }
    }
    if !deprecate_eof {
        packet(&mut bytes)?;
    }
    let mut rows = Vec::new();
    loop {
        let payload = packet(&mut bytes)?;
        match payload.first() {
            Some(0xfe) if deprecate_eof || payload.len() < 9 => {
                let status = match deprecate_eof {
                    true => OkPacket::decode(payload, capabilities)?.status,
                    false => {
                        let mut eof = Reader::new(payload.get(3..).unwrap_or_default());
                        StatusFlags(eof.u16()?)
                    }
                };
                return Ok((
                    TextRows {
                        collations,
                        rows,
                        status,
                    },
                    bytes,
                ));
            }
            Some(0xff) => return Err(Malformed),
            _ => rows.push(row(payload, columns)?),
        }
    }
}

fn row(payload: &[u8], columns: u64) -> Result<Row<'_>, Malformed> {
    let mut reader = Reader::new(payload);
    (0..columns)
        .map(|_| match reader.rest().first() {
            Some(0xfb) => reader.u8().map(|_null| None),
            _ => reader.lenenc_bytes().map(Some),
        })
        .collect()
}

fn packet<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let header = FrameHeader::decode(bytes).ok_or(Malformed)?;
    let payload = bytes.get(4..4 + header.payload_len).ok_or(Malformed)?;
    *bytes = bytes.get(4 + header.payload_len..).unwrap_or_default();
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::text_result_set;
    use crate::ok::ok_frame;

    #[test]
    fn reads_what_was_written_one_after_the_other() {
        let rows = [
            vec![Some(&b"a"[..]), None],
            vec![Some(&b""[..]), Some(&[0xfe; 300][..])],
        ];
        let columns = [ColumnDefinition::default(), ColumnDefinition::default()];
        for capabilities in [
            Capabilities::PROTOCOL_41,
            Capabilities::PROTOCOL_41 | Capabilities::DEPRECATE_EOF,
            Capabilities::PROTOCOL_41 | Capabilities::DEPRECATE_EOF | Capabilities::MARIADB_CACHE_METADATA,
        ] {
            let mut bytes = Vec::new();
            text_result_set(&mut bytes, 1, &columns, &rows, capabilities, StatusFlags::AUTOCOMMIT);
            let one = bytes.len();
            text_result_set(&mut bytes, 1, &columns, &rows[..0], capabilities, StatusFlags::IN_TRANS);
            let (first, rest) = read(&bytes, capabilities).unwrap();
            assert_eq!(
                (first.rows.as_slice(), first.status),
                (&rows[..], StatusFlags::AUTOCOMMIT)
            );
            let (second, rest) = read(rest, capabilities).unwrap();
            assert_eq!(
                (second.rows.len(), second.status, rest.len()),
                (0, StatusFlags::IN_TRANS, 0)
            );
            for cut in 0..one {
                assert_eq!(read(&bytes[..cut], capabilities), Err(Malformed), "{cut}");
            }
        }
    }

    #[test]
    fn an_ok_is_no_result_set() {
        let mut bytes = Vec::new();
        ok_frame(&mut bytes, 1, StatusFlags::EMPTY, Capabilities::PROTOCOL_41);
        assert_eq!(read(&bytes, Capabilities::PROTOCOL_41), Err(Malformed));
        assert_eq!(read(&[], Capabilities::PROTOCOL_41), Err(Malformed));
    }
}
