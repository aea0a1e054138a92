//! What a client says of itself: SSLRequest, the login packet, COM_CHANGE_USER.
//!
//! Tolerant where real drivers are sloppy: attributes cut short are taken as far as they go, a database may be announced
//! and absent, the plugin's name may lack its NUL.

use crate::capabilities::Capabilities;
use crate::command::Command;
use crate::lenenc::{Malformed, Reader, put_bytes, put_int};

/// Why a login packet cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The client does not speak the protocol of MySQL 4.1.
    #[error("the client speaks the protocol of before MySQL 4.1")]
    BeforeProtocol41,
    /// Cut short.
    #[error("login packet cut short")]
    Malformed,
}

impl From<Malformed> for LoginError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The request to go on inside TLS: a login packet that ends before the user's name.
#[derive(Debug, Clone, Copy)]
pub struct SslRequest;

/// Flags, packet size, collation, filler and extended flags.
const FIXED_BYTES: usize = 32;

impl SslRequest {
    /// Is this payload one?
    #[must_use]
    pub fn is(payload: &[u8]) -> bool {
        let low = payload.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        payload.len() == FIXED_BYTES && low.is_some_and(|low| Capabilities::of(low, 0).contains(Capabilities::SSL))
    }
}

/// HandshakeResponse41.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginPacket<'a> {
    /// What the client wants to use; MariaDB's extended flags included.
    pub capabilities: Capabilities,
    /// The longest packet it takes.
    pub max_packet_bytes: u32,
    /// Its collation.
    pub collation: u8,
    /// As sent.
    pub user: &'a [u8],
    /// Answer to the greeting's nonce.
    pub auth_response: &'a [u8],
    /// Where CONNECT_WITH_DB is set.
    pub database: Option<&'a [u8]>,
    /// Where PLUGIN_AUTH is set.
    pub auth_plugin: Option<&'a [u8]>,
    /// Connection attributes as they stand, without the length in front.
    pub raw_attributes: &'a [u8],
}

impl std::fmt::Debug for LoginPacket<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginPacket")
            .field("capabilities", &self.capabilities)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl<'a> LoginPacket<'a> {
    /// # Errors
    /// An older protocol, or cut short before the answer's end.
    pub fn decode(payload: &'a [u8]) -> Result<Self, LoginError> {
        let mut reader = Reader::new(payload);
        let low_half = reader.u16()?;
        if u32::from(low_half) & Capabilities::PROTOCOL_41.low() == 0 {
            return Err(LoginError::BeforeProtocol41);
        }
        let low = u32::from(low_half) | u32::from(reader.u16()?) << 16;
        let max_packet_bytes = reader.u32()?;
        let collation = reader.u8()?;
        reader.bytes(19)?;
        let capabilities = Capabilities::of(low, reader.u32()?);
        let user = reader.nul_terminated()?;
        let auth_response = if capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
            reader.lenenc_bytes()?
        } else if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            let len = reader.u8()?;
            reader.bytes(len.into())?
        } else {
            reader.nul_terminated()?
        };
        let database = match capabilities.contains(Capabilities::CONNECT_WITH_DB) && !reader.is_empty() {
            true => Some(until_nul_or_end(&mut reader)),
            false => None,
        };
        let auth_plugin = match capabilities.contains(Capabilities::PLUGIN_AUTH) && !reader.is_empty() {
            true => Some(until_nul_or_end(&mut reader)),
            false => None,
        };
        let raw_attributes = attributes_block(capabilities, reader);
        Ok(Self {
            capabilities,
            max_packet_bytes,
            collation,
            user,
            auth_response,
            database,
            auth_plugin,
            raw_attributes,
        })
    }

    /// The payload. What the flags do not announce is not written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.raw_attributes.len());
        out.extend_from_slice(&self.capabilities.low().to_le_bytes());
        out.extend_from_slice(&self.max_packet_bytes.to_le_bytes());
        out.push(self.collation);
        out.extend_from_slice(&[0; 19]);
        out.extend_from_slice(&self.capabilities.extended().to_le_bytes());
        out.extend_from_slice(self.user);
        out.push(0);
        put_bytes(&mut out, self.auth_response);
        if self.capabilities.contains(Capabilities::CONNECT_WITH_DB) {
            out.extend_from_slice(self.database.unwrap_or_default());
            out.push(0);
        }
        if self.capabilities.contains(Capabilities::PLUGIN_AUTH) {
            out.extend_from_slice(self.auth_plugin.unwrap_or_default());
            out.push(0);
        }
        if self.capabilities.contains(Capabilities::CONNECT_ATTRS) {
            put_bytes(&mut out, self.raw_attributes);
        }
        out
    }

    /// Connection attributes, as far as they can be read.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        attributes(self.raw_attributes)
    }
}

/// COM_CHANGE_USER.
#[derive(Clone, PartialEq, Eq)]
pub struct ChangeUser<'a> {
    /// As sent.
    pub user: &'a [u8],
    /// Answer to a nonce; to which, differs between drivers.
    pub auth_response: &'a [u8],
    /// Empty: none.
    pub database: Option<&'a [u8]>,
    /// Two bytes here, one in the login packet.
    pub collation: Option<u16>,
    /// Where PLUGIN_AUTH is set.
    pub auth_plugin: Option<&'a [u8]>,
    /// As in the login packet.
    pub raw_attributes: &'a [u8],
}

impl<'a> ChangeUser<'a> {
    /// Takes the payload with its command byte.
    ///
    /// # Errors
    /// Another command, or cut short before the database's name.
    pub fn decode(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != Command::ChangeUser.code() {
            return Err(Malformed);
        }
        let user = reader.nul_terminated()?;
        let auth_response = match capabilities.contains(Capabilities::SECURE_CONNECTION) {
            true => {
                let len = reader.u8()?;
                reader.bytes(len.into())?
            }
            false => reader.nul_terminated()?,
        };
        let database = Some(until_nul_or_end(&mut reader)).filter(|name| !name.is_empty());
        let collation = reader.u16().ok();
        let auth_plugin = match capabilities.contains(Capabilities::PLUGIN_AUTH) && !reader.is_empty() {
            true => Some(until_nul_or_end(&mut reader)),
            false => None,
        };
        let raw_attributes = attributes_block(capabilities, reader);
        Ok(Self {
            user,
            auth_response,
            database,
            collation,
            auth_plugin,
            raw_attributes,
        })
    }

    /// The payload with its command byte; an answer of more than 255 bytes is cut.
    #[must_use]
    pub fn encode(&self, capabilities: Capabilities) -> Vec<u8> {
        let mut out = vec![Command::ChangeUser.code()];
        out.extend_from_slice(self.user);
        out.push(0);
        // The length is one byte; no plugin answers with more.
        let (answer, _) = self.auth_response.split_at(self.auth_response.len().min(255));
        out.push(u8::try_from(answer.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(answer);
        out.extend_from_slice(self.database.unwrap_or_default());
        out.push(0);
        out.extend_from_slice(&self.collation.unwrap_or_default().to_le_bytes());
        if capabilities.contains(Capabilities::PLUGIN_AUTH) {
            out.extend_from_slice(self.auth_plugin.unwrap_or_default());
            out.push(0);
        }
        if capabilities.contains(Capabilities::CONNECT_ATTRS) {
            put_bytes(&mut out, self.raw_attributes);
        }
        out
    }
}

fn until_nul_or_end<'a>(reader: &mut Reader<'a>) -> &'a [u8] {
    match reader.nul_terminated() {
        Ok(text) => text,
        Err(Malformed) => {
            let rest = reader.rest();
            *reader = Reader::new(&[]);
            rest
        }
    }
}

/// MySQL bug 79612: the length may promise more than there is; what is there counts.
fn attributes_block(capabilities: Capabilities, mut reader: Reader<'_>) -> &[u8] {
    if !capabilities.contains(Capabilities::CONNECT_ATTRS) {
        return &[];
    }
    let Ok(len) = reader.lenenc_int() else { return &[] };
    let rest = reader.rest();
    usize::try_from(len)
        .ok()
        .and_then(|len| rest.get(..len))
        .unwrap_or(rest)
}

/// Key and value of each connection attribute, up to the first that cannot be read.
pub fn attributes(raw: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut reader = Reader::new(raw);
    std::iter::from_fn(move || {
        let key = reader.lenenc_bytes().ok()?;
        Some((key, reader.lenenc_bytes().ok()?))
    })
}

/// A block of connection attributes.
#[must_use]
pub fn encode_attributes<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        put_int(&mut out, key.len() as u64);
        out.extend_from_slice(key);
        put_bytes(&mut out, value);
    }
    out
}
