//! What the Rust programs share: what they are given, the lines they print, the values they check.

#![allow(clippy::print_stdout, reason = "the lines are the report")]

use std::fmt::Display;

use sha1::{Digest, Sha1};

/// What a program takes from its environment.
pub struct Given {
    /// The server's address.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The login name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The database.
    pub database: String,
    /// The login name to change to.
    pub other_user: String,
    /// Its password.
    pub other_password: String,
}

impl Given {
    /// Reads it.
    pub fn from_environment() -> Self {
        let given = |name: &str| std::env::var(name).unwrap_or_else(|why| panic!("{name}: {why}"));
        Self {
            host: given("HOST"),
            port: given("PORT").parse().expect("PORT"),
            user: given("USER"),
            password: given("PASSWORD"),
            database: given("DATABASE"),
            other_user: given("OTHER_USER"),
            other_password: given("OTHER_PASSWORD"),
        }
    }

    /// The part of the other login name that the server knows it by.
    pub fn other_bare_name(&self) -> &str {
        self.other_user.rsplit('.').next().unwrap_or_default()
    }
}

/// What a check ends in.
pub type Outcome = Result<(), String>;

/// Prints the lines and remembers whether one was bad.
#[derive(Debug, Default)]
pub struct Checks {
    failed: bool,
}

impl Checks {
    /// Prints the line of one check.
    pub fn line(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Ok(()) => println!("ok {name}"),
            Err(why) => {
                self.failed = true;
                println!("not ok {name}: {}", why.replace('\n', " "));
            }
        }
    }

    /// The exit code.
    pub fn code(&self) -> i32 {
        i32::from(self.failed)
    }
}

/// Says that the login is through and waits until the database was looked at.
pub fn wait_for_go() {
    println!("connected");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Fails unless both are equal.
pub fn equal<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(seen: T, expected: U) -> Outcome {
    if seen == expected {
        Ok(())
    } else {
        Err(format!("{seen:?} where {expected:?} was expected"))
    }
}

/// Any error as text.
pub fn text(why: impl Display) -> String {
    why.to_string()
}

/// 20 MB that no compression or repetition hides a gap in.
pub fn blob() -> Vec<u8> {
    (0..20 * 1024 * 1024 / 4u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// SHA1 as the server's function prints it.
pub fn sha1_hex(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A table of types and one row in it.
pub const TYPES: [&str; 2] = [
    "CREATE OR REPLACE TABLE types_rust (i INT, u BIGINT UNSIGNED, d DECIMAL(20,6), dt DATETIME(6), n INT, b BLOB,
     s VARCHAR(80) CHARACTER SET utf8mb4, bi BIT(10), f DOUBLE)",
    "INSERT INTO types_rust VALUES (-2147483648, 18446744073709551615, -12345678901234.567890,
     '2024-02-29 23:59:59.123456', NULL, x'00ff0a0d5c27', 'selkie \u{1f9ad}', b'1000000001', 0.1)",
];
