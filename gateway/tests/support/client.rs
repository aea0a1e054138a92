//! A client by script: raw packets, any capabilities.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::err::ErrPacket;
use mysql_wire::frame::write_packet;
use mysql_wire::greeting::Greeting;
use mysql_wire::login::{ChangeUser, LoginPacket, encode_attributes};
use mysql_wire::ok::OkPacket;
use sha1::{Digest, Sha1};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::compute::read;

/// What every client of today has.
pub const BASE: Capabilities = Capabilities::PROTOCOL_41.union(Capabilities::SECURE_CONNECTION);

pub struct Client {
    pub stream: TcpStream,
    pub capabilities: Capabilities,
    pub greeting: Greeting,
}

pub fn native_answer(password: &[u8], nonce: &[u8; 20]) -> Vec<u8> {
    let stage1 = Sha1::digest(password);
    let stage2 = Sha1::digest(stage1);
    let mask = Sha1::new().chain_update(nonce).chain_update(stage2).finalize();
    stage1.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

impl Client {
    /// Connects and reads the greeting.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (_, greeting) = read(&mut stream).await.unwrap();
        Self {
            stream,
            capabilities: BASE,
            greeting: Greeting::decode(&greeting).unwrap(),
        }
    }

    /// Connects from an address of this machine: all of 127.0.0.0/8 is. The packet may be an ERR instead of the greeting.
    pub async fn reach(address: SocketAddr, from: [u8; 4]) -> Result<Self, String> {
        Self::reach_saying(address, from, b"").await
    }

    /// As [`Self::reach`], with bytes to send before anything is read.
    pub async fn reach_saying(address: SocketAddr, from: [u8; 4], first: &[u8]) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        let (_, first) = read(&mut stream).await.map_err(|e| e.to_string())?;
        let greeting = Greeting::decode(&first).map_err(|_| err(&first))?;
        Ok(Self {
            stream,
            capabilities: BASE,
            greeting,
        })
    }

    /// Logs in; the ERR's code and text where that fails.
    pub async fn log_in(
        address: SocketAddr,
        name: &str,
        password: &str,
        capabilities: Capabilities,
    ) -> Result<Self, String> {
        Self::log_in_from(address, [127, 0, 0, 1], name, password, capabilities).await
    }

    /// As [`Self::log_in`], from an address of this machine.
    pub async fn log_in_from(
        address: SocketAddr,
        from: [u8; 4],
        name: &str,
        password: &str,
        capabilities: Capabilities,
    ) -> Result<Self, String> {
        Self::reach(address, from)
            .await?
            .prove(name, password, capabilities)
            .await
    }

    /// Sends the login packet, with the answer to the greeting in it.
    pub async fn prove(self, name: &str, password: &str, capabilities: Capabilities) -> Result<Self, String> {
        self.prove_as(name, password, b"script", capabilities).await
    }

    /// The same as a program of that name.
    pub async fn prove_as(
        mut self,
        name: &str,
        password: &str,
        program: &[u8],
        capabilities: Capabilities,
    ) -> Result<Self, String> {
        let client = &mut self;
        client.capabilities = capabilities & client.greeting.capabilities;
        let answer = native_answer(password.as_bytes(), &client.greeting.nonce);
        let attributes = encode_attributes([(&b"program_name"[..], program)]);
        let login = LoginPacket {
            capabilities,
            max_packet_bytes: 1 << 24,
            collation: 45,
            user: name.as_bytes(),
            auth_response: &answer,
            database: capabilities.contains(Capabilities::CONNECT_WITH_DB).then_some(b"demo"),
            auth_plugin: Some(b"mysql_native_password"),
            raw_attributes: &attributes,
        };
        client.send(1, &login.encode()).await;
        let (_, reply) = client.read().await.map_err(|e| e.to_string())?;
        match reply.first() {
            Some(0) => Ok(self),
            _ => Err(err(&reply)),
        }
    }

    pub async fn send(&mut self, sequence: u8, payload: &[u8]) {
        let mut out = Vec::new();
        write_packet(&mut out, &mut { sequence }, payload);
        // A gateway that has closed is seen when reading.
        let _ = self.stream.write_all(&out).await;
    }

    pub async fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        read(&mut self.stream).await
    }

    pub async fn query(&mut self, text: &str) {
        self.send(0, &[&[3], text.as_bytes()].concat()).await;
    }

    /// Becomes somebody else; for clients with PLUGIN_AUTH.
    pub async fn change_user(&mut self, name: &str, password: &str) -> Result<(), String> {
        self.change_user_with(name, password, b"").await
    }

    /// The same with connection attributes.
    pub async fn change_user_with(&mut self, name: &str, password: &str, attributes: &[u8]) -> Result<(), String> {
        let change = ChangeUser {
            user: name.as_bytes(),
            auth_response: b"",
            database: None,
            collation: Some(45),
            auth_plugin: Some(b"mysql_native_password"),
            raw_attributes: attributes,
        };
        self.send(0, &change.encode(self.capabilities)).await;
        let (sequence, _switch) = self.read().await.map_err(|e| e.to_string())?;
        let answer = native_answer(password.as_bytes(), &self.greeting.nonce);
        self.send(sequence + 1, &answer).await;
        let (_, reply) = self.read().await.map_err(|e| e.to_string())?;
        if reply[0] == 0 { Ok(()) } else { Err(err(&reply)) }
    }

    /// Sends a statement that has one packet of answer.
    pub async fn ask(&mut self, text: &str) -> Result<(), String> {
        self.query(text).await;
        let (_, reply) = self.read().await.map_err(|e| e.to_string())?;
        match OkPacket::decode(&reply, self.capabilities) {
            Ok(_) => Ok(()),
            Err(_) => Err(err(&reply)),
        }
    }
}

/// `code sqlstate text` of an ERR packet.
pub fn err(payload: &[u8]) -> String {
    match ErrPacket::decode(payload, Capabilities::EMPTY) {
        Ok(err) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!(
                "{} {} {}",
                err.code,
                text(&err.sqlstate.unwrap_or(*b"-----")),
                text(err.message)
            )
        }
        Err(_) => format!("no ERR packet: {payload:02x?}"),
    }
}
