//! Where a response ends, told a second time and independently of the gateway: reads every packet of it.

use std::io;

use super::{Packet, Raw, caps, frames};

const MORE_RESULTS: u16 = 1 << 3;
const CURSOR_EXISTS: u16 = 1 << 6;

/// What was sent, as far as it decides the form of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// COM_QUERY, COM_STMT_EXECUTE and the like: results until no more follow.
    Query,
    /// COM_STMT_PREPARE.
    Prepare,
    /// COM_STMT_FETCH: rows and a terminator.
    Fetch,
    /// COM_FIELD_LIST: definitions and a terminator.
    FieldList,
    /// One packet, whatever it is.
    Single,
}

/// All packets of one response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// In order, as sent.
    pub packets: Vec<Packet>,
}

impl Response {
    /// The code of the ERR packet that ends it, if one does.
    pub fn error(&self) -> Option<u16> {
        self.packets.last().and_then(Packet::error)
    }

    /// The text of the last packet, an ERR.
    pub fn error_text(&self) -> String {
        self.packets.last().map(Packet::error_text).unwrap_or_default()
    }

    /// Fails when it ends in an ERR packet.
    pub fn ok(self) -> Self {
        assert_eq!(self.error(), None, "{}", self.error_text());
        self
    }

    /// The first column of the first row of a text result.
    pub fn text(&self) -> String {
        let definitions_end = 1 + self.packets[0].payload[0] as usize;
        let skip = usize::from(is_short_eof(&self.packets[definitions_end]));
        let row = &self.packets[definitions_end + skip].payload;
        String::from_utf8_lossy(&row[1..1 + row[0] as usize]).into_owned()
    }
}

impl Raw {
    /// Reads a whole response. LOAD DATA LOCAL is refused with an empty file; see [`Raw::response_with`].
    pub async fn response(&mut self, kind: Kind) -> Response {
        self.response_with(kind, &[]).await
    }

    /// Reads a whole response and sends `file` (in frames as given, without the empty one at the end) whenever asked for.
    pub async fn response_with(&mut self, kind: Kind, file: &[&[u8]]) -> Response {
        let (response, broken) = self.try_response(kind, file).await;
        if let Some(why) = broken {
            panic!("a packet of the server: {why}, after {response:?}");
        }
        response
    }

    /// As [`Raw::response_with`]; where the connection breaks, what came before, and why.
    pub async fn try_response(&mut self, kind: Kind, file: &[&[u8]]) -> (Response, Option<io::Error>) {
        let mut response = Response::default();
        let read = self.read_response(kind, file, &mut response).await;
        (response, read.err())
    }

    async fn read_response(&mut self, kind: Kind, file: &[&[u8]], response: &mut Response) -> io::Result<()> {
        match kind {
            Kind::Query => while self.result(response, file).await? {},
            Kind::Prepare => self.prepared(response).await?,
            Kind::Fetch | Kind::FieldList => {
                self.until_end(response).await?;
            }
            Kind::Single => {
                self.next(response).await?;
            }
        }
        Ok(())
    }

    /// One result; whether more follow.
    async fn result(&mut self, response: &mut Response, file: &[&[u8]]) -> io::Result<bool> {
        loop {
            let packet = self.next(response).await?;
            match packet.payload.first() {
                Some(0x00) => return Ok(status_of_ok(&packet) & MORE_RESULTS != 0),
                Some(0xff) if packet.error() == Some(0xffff) => {}
                Some(0xff) => return Ok(false),
                Some(0xfb) => self.upload(packet.seq, file).await?,
                _ => return self.rows(response, &packet).await,
            }
        }
    }

    async fn rows(&mut self, response: &mut Response, head: &Packet) -> io::Result<bool> {
        let columns = lenenc(&head.payload);
        let definitions = self.caps & caps::CACHE_METADATA == 0 || head.payload.last() == Some(&1);
        if definitions {
            for _ in 0..columns {
                self.next(response).await?;
            }
        }
        if self.caps & caps::DEPRECATE_EOF == 0 {
            let eof = self.next(response).await?;
            if status_of_eof(&eof) & CURSOR_EXISTS != 0 {
                return Ok(false);
            }
        }
        let end = self.until_end(response).await?;
        Ok(end.is_some_and(|status| status & MORE_RESULTS != 0))
    }

    /// Reads up to EOF, its OK-shaped successor, or ERR; the status flags.
    async fn until_end(&mut self, response: &mut Response) -> io::Result<Option<u16>> {
        loop {
            let packet = self.next(response).await?;
            match packet.payload.first() {
                Some(0xfe) if self.caps & caps::DEPRECATE_EOF != 0 && packet.payload.len() < super::FRAME_MAX => {
                    return Ok(Some(status_of_ok(&packet)));
                }
                Some(0xfe) if packet.payload.len() < 9 => return Ok(Some(status_of_eof(&packet))),
                Some(0xff) if packet.error() != Some(0xffff) => return Ok(None),
                _ => {}
            }
        }
    }

    async fn prepared(&mut self, response: &mut Response) -> io::Result<()> {
        let head = self.next(response).await?;
        if head.payload.first() != Some(&0) {
            return Ok(());
        }
        let count = |at: usize| u16::from_le_bytes([head.payload[at], head.payload[at + 1]]);
        for definitions in [count(7), count(5)] {
            let eof = u16::from(definitions > 0 && self.caps & caps::DEPRECATE_EOF == 0);
            for _ in 0..definitions + eof {
                self.next(response).await?;
            }
        }
        Ok(())
    }

    async fn upload(&mut self, seq: u8, file: &[&[u8]]) -> io::Result<()> {
        let mut seq = seq;
        for part in file.iter().copied().chain([&[][..]]) {
            seq = seq.wrapping_add(1);
            self.write(&frames(seq, part)).await?;
        }
        Ok(())
    }

    async fn next(&mut self, response: &mut Response) -> io::Result<Packet> {
        let packet = self.try_packet().await?;
        response.packets.push(packet.clone());
        Ok(packet)
    }
}

fn is_short_eof(packet: &Packet) -> bool {
    packet.payload.first() == Some(&0xfe) && packet.payload.len() < 9
}

fn lenenc(bytes: &[u8]) -> u64 {
    match bytes {
        [0xfc, a, b, ..] => u64::from(u16::from_le_bytes([*a, *b])),
        [0xfd, a, b, c, ..] => u64::from(u32::from_le_bytes([*a, *b, *c, 0])),
        [small, ..] => u64::from(*small),
        [] => 0,
    }
}

fn lenenc_size(first: u8) -> usize {
    match first {
        0xfc => 3,
        0xfd => 4,
        0xfe => 9,
        _ => 1,
    }
}

fn status_of_ok(packet: &Packet) -> u16 {
    let bytes = &packet.payload[1..];
    let rows = lenenc_size(bytes[0]);
    let at = rows + lenenc_size(bytes[rows]);
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn status_of_eof(packet: &Packet) -> u16 {
    u16::from_le_bytes([packet.payload[3], packet.payload[4]])
}
