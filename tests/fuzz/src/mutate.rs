//! Inputs made of others, the same ones for the same seed: for runs where nothing tells how far an input has got.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Longer inputs find nothing that shorter ones do not, and take longer.
const BYTES_MAX: usize = 4096;
/// Numbers that things go wrong at.
const BOUNDARIES: [u8; 12] = [0, 1, 2, 4, 0x16, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xfe, 0xff];
/// Words that texts are made of.
const WORDS: [&[u8]; 12] = [
    b"SET ", b"KILL ", b"/*! ", b"*/", b"-- ", b"'", b"@@", b";", b"demo", b"\0", b"=", b",",
];

/// An endless row of inputs.
#[derive(Debug)]
pub struct Mutator {
    random: StdRng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    /// Makes them of these.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        assert!(!corpus.is_empty(), "an input to begin with");
        Self {
            random: StdRng::seed_from_u64(seed),
            corpus,
        }
    }

    fn kept(&mut self) -> Vec<u8> {
        let at = self.random.random_range(0..self.corpus.len());
        self.corpus[at].clone()
    }

    /// The next one.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.kept();
        for _ in 0..self.random.random_range(1..8) {
            self.mutate(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let kind = self.random.random_range(0..7);
        let at = self.random.random_range(0..=input.len());
        let len = self.random.random_range(0..=(input.len() - at).min(32));
        match kind {
            0 => drop(input.drain(at..at + len)),
            1 => {
                let copied = input[at..at + len].to_vec();
                let to = self.random.random_range(0..=input.len());
                drop(input.splice(to..to, copied));
            }
            2 => {
                let other = self.kept();
                let from = self.random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            3 => {
                let word = WORDS[self.random.random_range(0..WORDS.len())];
                drop(input.splice(at..at, word.iter().copied()));
            }
            _ if at == input.len() => input.push(self.random.random()),
            4 => input[at] ^= 1 << self.random.random_range(0..8),
            5 => input[at] = BOUNDARIES[self.random.random_range(0..BOUNDARIES.len())],
            _ => input[at] = input[at].wrapping_add(self.random.random_range(0..9)).wrapping_sub(4),
        }
    }
}

/// An endless row of statements, made of the words of others.
#[derive(Debug)]
pub struct Words {
    random: StdRng,
    seeds: Vec<Vec<String>>,
}

/// What may stand between words.
const SPACES: [&str; 7] = [" ", " ", " ", "", "\t", "\n", "/**/"];

impl Words {
    /// Makes them of these.
    pub fn new(seed: u64, texts: &[&str]) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            seeds: texts.iter().map(|text| words(text)).collect(),
        }
    }

    fn seed(&mut self) -> Vec<String> {
        let at = self.random.random_range(0..self.seeds.len());
        self.seeds[at].clone()
    }

    /// The next one.
    pub fn text(&mut self) -> String {
        let mut words = self.seed();
        for _ in 0..self.random.random_range(1..3) {
            let other = self.seed();
            let word = other[self.random.random_range(0..other.len())].clone();
            let at = self.random.random_range(0..words.len());
            match self.random.random_range(0..6) {
                0 if words.len() > 1 => drop(words.remove(at)),
                1 => words.insert(at, word),
                2 => words.extend(other),
                3 => words[at] = words[at].to_ascii_lowercase(),
                _ => words[at] = word,
            }
        }
        let odd = self.random.random_range(0..4) == 0;
        let mut text = String::new();
        for word in &words {
            let space = if odd {
                self.random.random_range(0..SPACES.len())
            } else {
                0
            };
            text.push_str(SPACES[space]);
            text.push_str(word);
        }
        text.trim_start().to_owned()
    }
}

/// Names, numbers, what is in quotes or in comments, and each sign by itself.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '\'' | '`' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            _ if rest.starts_with("/*") && !rest.starts_with("/*!") && !rest.starts_with("/*M") => {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            }
            _ => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '.');
                rest.find(|c| !is_name(c)).unwrap_or(rest.len()).max(first.len_utf8())
            }
        };
        let (word, after) = rest.split_at(len);
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}
