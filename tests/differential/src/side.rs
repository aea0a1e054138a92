//! One session on one side: sends an act, reads the response to its end, never panics where the server hangs up.

use std::collections::HashMap;
use std::time::Duration;

use harness::raw::{Kind, Login, Packet, answer_switch, caps, frames, native_answer};
use harness::{Endpoint, Raw};
use tokio::time::timeout;

use crate::compare::{USER_VARIABLES, variables_query, without_known_differences};
use crate::step::{Act, LAST_PREPARED, Opening, Slot, Value};

/// An id that no server has given out.
const UNKNOWN_ID: u32 = 0x00ff_fff0;

/// For one answer, a wake included; longer is a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the gateway refuses a question for the statement before that it cannot answer after a park.
const NOT_KEPT: (u16, &str) = (1105, "What the statement before left was not kept in this form");

/// A server that goes away says one of these.
const FAREWELLS: [u16; 2] = [1053, 1927];

/// The names that a case's texts leave open.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) home: String,
    pub(crate) other: String,
    pub(crate) lane: String,
}

impl Names {
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{h}", &self.home)
            .replace("{o}", &self.other)
            .replace("{w}", &self.lane)
    }
}

/// How an act ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// All packets of the response, ids of statements taken out.
    Answered(Vec<Packet>),
    /// The server said that the session ended or lost something, or just hung up.
    Ended(String),
    /// The gateway said that it cannot tell what is asked of the statement before.
    NotKept,
}

pub(crate) struct Side {
    raw: Raw,
    endpoint: Endpoint,
    names: Names,
    statements: HashMap<Slot, u32>,
}

impl Side {
    pub(crate) async fn open(endpoint: &Endpoint, opening: Opening, names: &Names) -> Self {
        let endpoint = endpoint.with_database(&names.home);
        let login = Login {
            caps: capabilities(opening),
            collation: opening.collation,
            ..Login::default()
        };
        Self {
            raw: Raw::login_with(&endpoint, login).await,
            endpoint,
            names: names.clone(),
            statements: HashMap::new(),
        }
    }

    /// The id in the server's greeting.
    pub(crate) fn thread_id(&self) -> u32 {
        self.raw.greeting.thread_id
    }

    pub(crate) fn caps(&self) -> u64 {
        self.raw.caps
    }

    pub(crate) async fn run(&mut self, act: &Act) -> Outcome {
        match timeout(PATIENCE, self.exchange(act)).await {
            Ok(outcome) => outcome,
            Err(_) => panic!("no answer within {PATIENCE:?} to {act:?} on {:?}", self.endpoint),
        }
    }

    async fn exchange(&mut self, act: &Act) -> Outcome {
        let command = self.command(act);
        // The reason why the server hung up may wait to be read, so a write that fails says nothing.
        let written = self.raw.write(&frames(0, &command)).await;
        match act {
            Act::LongData { .. } => return answered_or_ended(written),
            Act::CloseStatement { slot } => {
                self.statements.remove(slot);
                return answered_or_ended(written);
            }
            _ => {}
        }
        let (mut packets, broken) = match act {
            Act::ChangeUser { .. } => self.dialogue().await,
            _ => {
                let file = if let Act::Load { file, .. } = act {
                    file.as_bytes()
                } else {
                    b""
                };
                let parts: &[&[u8]] = if file.is_empty() { &[] } else { &[file] };
                let (response, broken) = self.raw.try_response(kind(act), parts).await;
                (response.packets, broken)
            }
        };
        let farewell = packets
            .last()
            .filter(|packet| packet.error().is_some_and(|code| FAREWELLS.contains(&code)));
        if farewell.is_some() || broken.is_some() {
            let said = farewell.map_or("not a word".to_owned(), Packet::error_text);
            let before = packets.len().saturating_sub(1);
            let why = broken.map(|why| format!(" ({why})")).unwrap_or_default();
            return Outcome::Ended(format!("{said}{why}, after {before} packets"));
        }
        let not_kept = |packet: &Packet| packet.error() == Some(NOT_KEPT.0) && packet.error_text().contains(NOT_KEPT.1);
        if packets.last().is_some_and(not_kept) {
            return Outcome::NotKept;
        }
        if let Act::Prepare { slot, .. } = act {
            self.take_id(*slot, &mut packets);
        }
        Outcome::Answered(without_known_differences(act, packets, self.raw.caps))
    }

    /// Closes, as a client does.
    pub(crate) async fn quit(mut self) {
        // It may be closed already.
        let _ = self.raw.write(&frames(0, &[0x01])).await;
    }

    fn command(&self, act: &Act) -> Vec<u8> {
        let with_id = |code: u8, slot: &Slot, rest: &[u8]| [&[code][..], &self.id(*slot).to_le_bytes(), rest].concat();
        let text = |code: u8, text: &str| [&[code], self.names.fill(text).as_bytes()].concat();
        match act {
            Act::Query(sql) | Act::Sabotage(sql) | Act::Load { sql, .. } => text(0x03, sql),
            Act::Large { asks, answers } => {
                let asked = "x".repeat(*asks as usize);
                text(0x03, &format!("SELECT LENGTH('{asked}'), REPEAT('y', {answers})"))
            }
            Act::Variables => text(0x03, &variables_query()),
            Act::UserVariables => text(0x03, USER_VARIABLES),
            Act::Prepare { sql, .. } => text(0x16, sql),
            Act::Execute {
                slot,
                types,
                cursor,
                values,
            } => with_id(0x17, slot, &execution(*types, *cursor, values)),
            Act::LongData { slot, parameter, data } => {
                with_id(0x18, slot, &[&parameter.to_le_bytes()[..], data.as_bytes()].concat())
            }
            Act::Fetch { slot, rows } => with_id(0x1c, slot, &rows.to_le_bytes()),
            Act::ResetStatement { slot } => with_id(0x1a, slot, &[]),
            Act::CloseStatement { slot } => with_id(0x19, slot, &[]),
            Act::InitDb(name) => text(0x02, name),
            Act::FieldList { table, pattern } => {
                [text(0x04, table), b"\0".to_vec(), pattern.as_bytes().to_vec()].concat()
            }
            Act::SetOption { multi_statements } => vec![0x1b, u8::from(!multi_statements), 0],
            Act::Ping => vec![0x0e],
            Act::ResetConnection => vec![0x1f],
            Act::ChangeUser { database } => self.change_user(&self.names.fill(database)),
            Act::Disturb(_) => unreachable!("a disturbance is no command"),
        }
    }

    fn change_user(&self, database: &str) -> Vec<u8> {
        let answer = native_answer(&self.endpoint.password, &self.raw.greeting.nonce);
        let mut packet = vec![0x11];
        packet.extend(self.endpoint.user.as_bytes());
        packet.extend([0, u8::try_from(answer.len()).expect("20 bytes")]);
        packet.extend(answer);
        packet.extend(database.as_bytes());
        packet.extend(b"\0\x2d\0mysql_native_password\0");
        packet
    }

    /// Follows the exchange of COM_CHANGE_USER; only its end is kept, as the nonces differ.
    async fn dialogue(&mut self) -> (Vec<Packet>, Option<std::io::Error>) {
        loop {
            let packet = match self.raw.try_packet().await {
                Ok(packet) => packet,
                Err(why) => return (Vec::new(), Some(why)),
            };
            match packet.payload.split_first() {
                Some((0xfe, request)) => {
                    let answer = answer_switch(request, &self.endpoint.password);
                    let _ = self.raw.write(&frames(packet.seq.wrapping_add(1), &answer)).await;
                }
                _ => return (vec![packet], None),
            }
        }
    }

    fn id(&self, slot: Slot) -> u32 {
        if slot == LAST_PREPARED {
            return u32::MAX;
        }
        self.statements.get(&slot).copied().unwrap_or(UNKNOWN_ID)
    }

    fn take_id(&mut self, slot: Slot, packets: &mut [Packet]) {
        let Some([0, a, b, c, d, ..]) = packets.first_mut().map(|packet| &mut packet.payload[..]) else {
            self.statements.remove(&slot);
            return;
        };
        self.statements.insert(slot, u32::from_le_bytes([*a, *b, *c, *d]));
        [*a, *b, *c, *d] = [0; 4];
    }
}

fn answered_or_ended(written: std::io::Result<()>) -> Outcome {
    match written {
        Ok(()) => Outcome::Answered(Vec::new()),
        Err(why) => Outcome::Ended(why.to_string()),
    }
}

fn capabilities(opening: Opening) -> u64 {
    let mut wanted = caps::USUAL & !caps::DEPRECATE_EOF;
    for (on, flag) in [
        (opening.session_track, caps::SESSION_TRACK),
        (opening.deprecate_eof, caps::DEPRECATE_EOF),
        (opening.found_rows, caps::FOUND_ROWS),
    ] {
        wanted |= if on { flag } else { 0 };
    }
    wanted
}

fn kind(act: &Act) -> Kind {
    match act {
        Act::Prepare { .. } => Kind::Prepare,
        Act::Fetch { .. } => Kind::Fetch,
        Act::FieldList { .. } => Kind::FieldList,
        Act::InitDb(_) | Act::SetOption { .. } | Act::Ping | Act::ResetConnection | Act::ResetStatement { .. } => {
            Kind::Single
        }
        _ => Kind::Query,
    }
}

/// COM_STMT_EXECUTE after the id: flags, the iteration count, and where there are parameters the bitmap of NULLs, types
/// and values.
fn execution(types: bool, cursor: bool, values: &[Value]) -> Vec<u8> {
    let mut packet = vec![u8::from(cursor), 1, 0, 0, 0];
    if values.is_empty() {
        return packet;
    }
    let mut nulls = vec![0u8; values.len().div_ceil(8)];
    for (place, _) in values.iter().enumerate().filter(|(_, value)| **value == Value::Null) {
        nulls[place / 8] |= 1 << (place % 8);
    }
    packet.extend(nulls);
    packet.push(u8::from(types));
    if types {
        packet.extend(values.iter().flat_map(Value::kind));
    }
    for value in values {
        value.write(&mut packet);
    }
    packet
}
