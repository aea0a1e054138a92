//! The files of tests/vectors.

use mysql_wire::capabilities::Capabilities;
use mysql_wire::response::Expect;

/// A response of a real server.
pub(crate) struct Recording {
    pub(crate) capabilities: Capabilities,
    pub(crate) expect: Expect,
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn responses() -> Vec<Recording> {
    lines(include_str!("../vectors/responses.txt"))
        .map(|fields| {
            let [capabilities, shape, name, hex] = fields.try_into().expect("four fields");
            Recording {
                capabilities: Capabilities(u64::from_str_radix(capabilities, 16).unwrap()),
                expect: expect(shape),
                name,
                bytes: bytes(hex),
            }
        })
        .collect()
}

/// Name and payload.
pub(crate) fn logins() -> Vec<(&'static str, Vec<u8>)> {
    named(include_str!("../vectors/logins.txt"))
}

/// Name and payload.
pub(crate) fn greetings() -> Vec<(&'static str, Vec<u8>)> {
    named(include_str!("../vectors/greetings.txt"))
}

fn named(file: &'static str) -> Vec<(&'static str, Vec<u8>)> {
    lines(file)
        .map(|fields| {
            let [name, hex] = fields.try_into().expect("two fields");
            (name, bytes(hex))
        })
        .collect()
}

fn lines(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn expect(shape: &str) -> Expect {
    match shape {
        "results" => Expect::Results,
        "prepared" => Expect::Prepared,
        "rows" => Expect::Rows,
        "fields" => Expect::Fields,
        "one" => Expect::One,
        "text" => Expect::Text,
        other => panic!("no shape {other}"),
    }
}
