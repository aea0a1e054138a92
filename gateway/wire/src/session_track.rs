//! What an OK packet says of changed session state.

use crate::lenenc::{Malformed, Reader, put_bytes};

const SYSTEM_VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;
const STATE_CHANGE: u8 = 2;
const GTIDS: u8 = 3;
const TRANSACTION_CHARACTERISTICS: u8 = 4;
const TRANSACTION_STATE: u8 = 5;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A system variable has this value now.
    SystemVariable {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The current database.
    Schema(&'a [u8]),
    /// Something changed, or did not.
    StateChange(bool),
    /// MySQL's GTIDs.
    Gtids(&'a [u8]),
    /// Statements that make a transaction like the one under way.
    TransactionCharacteristics(&'a [u8]),
    /// Eight letters about the transaction.
    TransactionState(&'a [u8]),
    /// A kind without a name here.
    Unknown {
        /// Its number.
        kind: u8,
        /// Its content.
        raw: &'a [u8],
    },
}

impl Change<'_> {
    /// Appends it as an entry of its own, as MariaDB writes one.
    pub fn encode(&self, block: &mut Vec<u8>) {
        let mut entry = Vec::new();
        let kind = match self {
            Self::SystemVariable { name, value } => {
                put_bytes(&mut entry, name);
                put_bytes(&mut entry, value);
                SYSTEM_VARIABLES
            }
            Self::Schema(name) => {
                put_bytes(&mut entry, name);
                SCHEMA
            }
            Self::StateChange(changed) => {
                entry.push(if *changed { b'1' } else { b'0' });
                STATE_CHANGE
            }
            Self::Gtids(gtids) => {
                entry.push(0);
                put_bytes(&mut entry, gtids);
                GTIDS
            }
            Self::TransactionCharacteristics(text) => {
                put_bytes(&mut entry, text);
                TRANSACTION_CHARACTERISTICS
            }
            Self::TransactionState(letters) => {
                put_bytes(&mut entry, letters);
                TRANSACTION_STATE
            }
            Self::Unknown { kind, raw } => {
                entry.extend_from_slice(raw);
                *kind
            }
        };
        block.push(kind);
        put_bytes(block, &entry);
    }
}

/// The changes of one OK packet's block, in order; one entry may hold several variables. Ends after the first error.
pub fn changes(block: &[u8]) -> impl Iterator<Item = Result<Change<'_>, Malformed>> {
    let mut entries = Reader::new(block);
    let mut variables = Reader::new(&[]);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || (entries.is_empty() && variables.is_empty()) {
            return None;
        }
        let change = one(&mut entries, &mut variables).transpose()?;
        failed = change.is_err();
        Some(change)
    })
}

fn one<'a>(entries: &mut Reader<'a>, variables: &mut Reader<'a>) -> Result<Option<Change<'a>>, Malformed> {
    loop {
        if !variables.is_empty() {
            let name = variables.lenenc_bytes()?;
            return Ok(Some(Change::SystemVariable {
                name,
                value: variables.lenenc_bytes()?,
            }));
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let kind = entries.u8()?;
        let raw = entries.lenenc_bytes()?;
        let mut reader = Reader::new(raw);
        return Ok(Some(match kind {
            SYSTEM_VARIABLES => {
                *variables = reader;
                continue;
            }
            SCHEMA => Change::Schema(reader.lenenc_bytes()?),
            // MariaDB writes the digit, MySQL its length before it.
            STATE_CHANGE => Change::StateChange(matches!(raw, b"1" | b"\x011")),
            GTIDS => {
                reader.u8()?;
                Change::Gtids(reader.lenenc_bytes()?)
            }
            TRANSACTION_CHARACTERISTICS => Change::TransactionCharacteristics(reader.lenenc_bytes()?),
            TRANSACTION_STATE => Change::TransactionState(reader.lenenc_bytes()?),
            kind => Change::Unknown { kind, raw },
        }));
    }
}

/// A block that reports variables, an entry each, as MariaDB writes it.
#[must_use]
pub fn encode_system_variables<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in variables {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        Change::SystemVariable { name, value }.encode(&mut block);
    }
    block
}
