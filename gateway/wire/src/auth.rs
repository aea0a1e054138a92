//! Packets of the authentication exchange after the login packet.

use crate::lenenc::{Malformed, Reader};

/// The server asks for an answer by another plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthSwitch<'a> {
    /// Which.
    pub plugin: &'a [u8],
    /// What that plugin starts with: a nonce, mostly with a closing NUL.
    pub data: &'a [u8],
}

impl<'a> AuthSwitch<'a> {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&[0xfe], self.plugin, &[0], self.data].concat()
    }

    /// # Errors
    /// Another packet, or cut in the plugin's name.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != 0xfe {
            return Err(Malformed);
        }
        let plugin = reader.nul_terminated()?;
        Ok(Self {
            plugin,
            data: reader.rest(),
        })
    }
}

/// The server goes on with the plugin's own dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthMoreData<'a> {
    /// The plugin's business.
    pub data: &'a [u8],
}

impl<'a> AuthMoreData<'a> {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&[0x01], self.data].concat()
    }

    /// # Errors
    /// Another packet.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        match payload.split_first() {
            Some((0x01, data)) => Ok(Self { data }),
            _ => Err(Malformed),
        }
    }
}
