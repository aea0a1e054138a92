//! Column definitions and text rows, as far as the gateway writes or reads them itself.

use crate::capabilities::Capabilities;
use crate::frame::write_packet;
use crate::lenenc::{Malformed, Reader, put_bytes, put_int};
use crate::ok::eof_frame;
use crate::status::StatusFlags;

/// A column definition of protocol 4.1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnDefinition {
    /// Database.
    pub schema: Vec<u8>,
    /// Table as the query names it.
    pub table: Vec<u8>,
    /// Table.
    pub org_table: Vec<u8>,
    /// Column as the query names it.
    pub name: Vec<u8>,
    /// Column.
    pub org_name: Vec<u8>,
    /// Collation number.
    pub charset: u16,
    /// Longest value, in bytes.
    pub column_length: u32,
    /// MYSQL_TYPE_*.
    pub column_type: u8,
    /// NOT_NULL and so on.
    pub flags: u16,
    /// Digits after the point.
    pub decimals: u8,
    /// MariaDB's extended type names as they stand; only with EXTENDED_METADATA.
    pub extended: Vec<u8>,
}

/// What follows the names is twelve bytes long.
const FIXED_BYTES: u64 = 12;

impl ColumnDefinition {
    /// The payload.
    #[must_use]
    pub fn encode(&self, capabilities: Capabilities) -> Vec<u8> {
        let mut out = Vec::new();
        for text in [
            &b"def"[..],
            &self.schema,
            &self.table,
            &self.org_table,
            &self.name,
            &self.org_name,
        ] {
            put_bytes(&mut out, text);
        }
        if capabilities.contains(Capabilities::MARIADB_EXTENDED_METADATA) {
            put_bytes(&mut out, &self.extended);
        }
        put_int(&mut out, FIXED_BYTES);
        out.extend_from_slice(&self.charset.to_le_bytes());
        out.extend_from_slice(&self.column_length.to_le_bytes());
        out.push(self.column_type);
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&[self.decimals, 0, 0]);
        out
    }

    /// # Errors
    /// Cut short.
    pub fn decode(payload: &[u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        reader.lenenc_bytes()?;
        let mut text = || reader.lenenc_bytes().map(<[u8]>::to_vec);
        let (schema, table, org_table, name, org_name) = (text()?, text()?, text()?, text()?, text()?);
        let extended = match capabilities.contains(Capabilities::MARIADB_EXTENDED_METADATA) {
            true => text()?,
            false => Vec::new(),
        };
        reader.lenenc_int()?;
        let charset = reader.u16()?;
        let column_length = reader.u32()?;
        let column_type = reader.u8()?;
        let flags = reader.u16()?;
        let decimals = reader.u8()?;
        Ok(Self {
            schema,
            table,
            org_table,
            name,
            org_name,
            charset,
            column_length,
            column_type,
            flags,
            decimals,
            extended,
        })
    }
}

/// The payload of a row in the text protocol; None is NULL.
#[must_use]
pub fn text_row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        match value {
            Some(value) => put_bytes(&mut out, value),
            None => out.push(0xfb),
        }
    }
    out
}

/// Appends a whole result set in the text protocol, as MariaDB frames it for these capabilities.
pub fn text_result_set(
    out: &mut Vec<u8>,
    mut sequence: u8,
    columns: &[ColumnDefinition],
    rows: &[Vec<Option<&[u8]>>],
    capabilities: Capabilities,
    status: StatusFlags,
) {
    let mut header = Vec::new();
    put_int(&mut header, columns.len() as u64);
    if capabilities.contains(Capabilities::MARIADB_CACHE_METADATA) {
        // Definitions follow.
        header.push(1);
    }
    write_packet(out, &mut sequence, &header);
    for column in columns {
        write_packet(out, &mut sequence, &column.encode(capabilities));
    }
    if !capabilities.contains(Capabilities::DEPRECATE_EOF) {
        eof_frame(out, sequence, 0, status, capabilities);
        sequence = sequence.wrapping_add(1);
    }
    for row in rows {
        write_packet(out, &mut sequence, &text_row(row));
    }
    eof_frame(out, sequence, 0, status, capabilities);
}
