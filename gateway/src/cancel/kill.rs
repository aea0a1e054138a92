//! What a client asks for with KILL, read from its text. Pure.
//!
//! Whole texts of a fixed shape are read: `KILL [HARD|SOFT] [CONNECTION|QUERY] number`, the same with `USER name`, and `KILL
//! [HARD|SOFT] QUERY ID number`. Whatever else begins with KILL (an expression for the id, a second statement behind it) is
//! not read here, and goes to the compute like any other statement.

use std::fmt::{self, Display};

use crate::text::Words;

/// A KILL is shorter, the longest name of an account included.
pub(crate) const TEXT_BYTES_MAX: usize = 512;
/// Ids that the gateway gives out begin here; smaller ones are thread ids of computes.
pub(crate) const CONNECTION_IDS_BEGIN: u32 = 1 << 31;

/// A KILL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kill {
    /// HARD and SOFT, where one was said.
    pub(crate) force: Option<Force>,
    pub(crate) what: What,
    pub(crate) whom: Whom,
}

/// Whether a statement is ended where that leaves a table half changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Force {
    Hard,
    Soft,
}

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Connection,
    Query,
}

/// Whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    /// By an id of the gateway's.
    Session(u32),
    /// By an id of the compute's; or no id that anybody gives out.
    Thread(u64),
    /// By the compute's id of a statement.
    Statement(u64),
    User(String),
}

impl Kill {
    /// COM_PROCESS_KILL.
    pub(crate) fn connection(id: u32) -> Self {
        Self {
            force: None,
            what: What::Connection,
            whom: Whom::by_id(u64::from(id)),
        }
    }

    /// May the text be a KILL? A look at one byte; comments may stand before it.
    pub(crate) fn may_begin(text: &[u8]) -> bool {
        // As the server has it, a vertical tab is a space.
        let first = text.iter().find(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'));
        matches!(first, Some(b'K' | b'k' | b'/' | b'#' | b'-'))
    }

    /// None: no KILL, or one of another shape. `user` is who says it.
    pub(crate) fn read(text: &[u8], user: &str) -> Option<Self> {
        let mut words = Words(text);
        if !words.next_is_one_of(&[b"kill"]) || !is_regular(text) {
            return None;
        }
        let mut force = None;
        let mut what = None;
        loop {
            if let Some(id) = signed(&mut words) {
                return ends(words).then_some(Self {
                    force,
                    what: what.unwrap_or(What::Connection),
                    whom: Whom::Session(id),
                });
            }
            let word = words.next()?;
            let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
            let whom = match () {
                () if force.is_none() && what.is_none() && is(b"hard") => {
                    force = Some(Force::Hard);
                    continue;
                }
                () if force.is_none() && what.is_none() && is(b"soft") => {
                    force = Some(Force::Soft);
                    continue;
                }
                () if what.is_none() && is(b"connection") => {
                    what = Some(What::Connection);
                    continue;
                }
                () if what.is_none() && is(b"query") => {
                    what = Some(What::Query);
                    continue;
                }
                () if what == Some(What::Query) && is(b"id") => Whom::Statement(number(words.next()?)?),
                () if is(b"user") => Whom::User(name(&mut words, user)?),
                () => Whom::by_id(number(word)?),
            };
            return ends(words).then_some(Self {
                force,
                what: what.unwrap_or(What::Connection),
                whom,
            });
        }
    }

    /// No compute knows whom it means.
    pub(crate) fn is_for_gateway(&self) -> bool {
        matches!(self.whom, Whom::Session(_) | Whom::User(_))
    }

    /// The same for a thread of a compute's.
    pub(crate) fn of_thread(&self, thread_id: u32) -> Self {
        Self {
            whom: Whom::Thread(u64::from(thread_id)),
            ..self.clone()
        }
    }
}

impl Whom {
    fn by_id(id: u64) -> Self {
        match u32::try_from(id) {
            Ok(id) if id >= CONNECTION_IDS_BEGIN => Self::Session(id),
            _ => Self::Thread(id),
        }
    }
}

/// As a compute reads it.
impl Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KILL ")?;
        f.write_str(match self.force {
            None => "",
            Some(Force::Hard) => "HARD ",
            Some(Force::Soft) => "SOFT ",
        })?;
        f.write_str(match self.what {
            What::Connection => "CONNECTION ",
            What::Query => "QUERY ",
        })?;
        match &self.whom {
            Whom::Session(id) => write!(f, "{id}"),
            Whom::Thread(id) => write!(f, "{id}"),
            Whom::Statement(id) => write!(f, "ID {id}"),
            Whom::User(name) => write!(f, "USER `{}`", name.replace('`', "``")),
        }
    }
}

/// Whether the server, too, steps over what [`Words`] steps over, which takes anything that might be a comment for one.
fn is_regular(text: &[u8]) -> bool {
    // It ends a comment, to the server.
    if text.contains(&0) {
        return false;
    }
    let mut executes = false;
    let mut rest = text;
    while let [first, more @ ..] = rest {
        rest = match (first, more) {
            (quote @ (b'\'' | b'"' | b'`'), _) => match memchr::memchr(*quote, more) {
                Some(end) => &more[end + 1..],
                None => return false,
            },
            (b'/', [b'*', b'!', comment @ ..]) | (b'/', [b'*', b'M' | b'm', b'!', comment @ ..]) => {
                if executes || !is_executed(comment) {
                    return false;
                }
                executes = true;
                comment
            }
            (b'/', [b'*', comment @ ..]) => match memchr::memmem::find(comment, b"*/") {
                Some(end) => &comment[end + 2..],
                None => return false,
            },
            (b'*', [b'/', after @ ..]) if executes => {
                executes = false;
                after
            }
            (b'*', [b'/', ..]) => return false,
            // Part of a name, where that is one without quotes; [`Words`] ends before it.
            (b'$' | 0x80.., _) => return false,
            (b'#', _) => line_end(more),
            (b'-', [b'-']) => &[],
            (b'-', [b'-', space, ..]) if space.is_ascii_whitespace() || space.is_ascii_control() => line_end(more),
            (b'-', [b'-', ..]) => return false,
            _ => more,
        };
    }
    !executes
}

/// Of a comment's inside: MariaDB executes it, whichever version it is. It leaves out what is for MySQL 5.7 and later.
fn is_executed(comment: &[u8]) -> bool {
    let digits = comment.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let version = std::str::from_utf8(&comment[..digits]).unwrap_or_default();
    match digits {
        0 => true,
        // Of six digits, it is for a MariaDB: those before the oldest that is served here.
        5 | 6 => version
            .parse::<u32>()
            .is_ok_and(|version| version < 50_700 || (100_000..=101_100).contains(&version)),
        _ => false,
    }
}

fn line_end(text: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', text).map_or(&[], |at| &text[at..])
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// An id of the gateway's as a signed number of 32 bits: Connector/J writes those it was greeted with like that.
fn signed(words: &mut Words<'_>) -> Option<u32> {
    let digits = words.0.trim_ascii_start().strip_prefix(b"-")?;
    let mut after = Words(digits);
    let magnitude = number(
        after
            .next()
            .filter(|_| digits.first().is_some_and(u8::is_ascii_digit))?,
    )?;
    let id = i32::try_from(-i64::try_from(magnitude).ok()?)
        .ok()
        .filter(|id| *id < 0)?;
    *words = after;
    Some(id.cast_unsigned())
}

/// Nothing but a semicolon, spaces and comments.
fn ends(mut words: Words<'_>) -> bool {
    if words.next().is_some() {
        return false;
    }
    let mut rest = Words(words.0.strip_prefix(b";").unwrap_or(words.0));
    rest.next().is_none() && rest.0.is_empty()
}

/// A user's name, plain, quoted or CURRENT_USER. Every account that logs in here has host '%'.
fn name(words: &mut Words<'_>, own: &str) -> Option<String> {
    let name = part(words)?;
    let is_own = !name.quoted && name.text.eq_ignore_ascii_case(b"current_user");
    if is_own {
        words.0 = words.0.strip_prefix(b"()").unwrap_or(words.0);
        return Some(own.to_owned());
    }
    if let Some(host) = words.0.strip_prefix(b"@") {
        words.0 = host;
        // To the server nothing may stand in between.
        let stands_here = matches!(host.first(), Some(b'\'' | b'"' | b'`'));
        if !stands_here || part(words)?.text != b"%" {
            return None;
        }
    }
    // In backquotes the server takes no NUL.
    String::from_utf8(name.text.to_vec())
        .ok()
        .filter(|name| !name.contains('\0'))
}

struct Part<'a> {
    text: &'a [u8],
    quoted: bool,
}

fn part<'a>(words: &mut Words<'a>) -> Option<Part<'a>> {
    words.skip();
    let text = words.0;
    let quote = text.first().copied().filter(|byte| matches!(byte, b'\'' | b'"' | b'`'));
    let (part, rest) = match quote {
        Some(quote) => {
            let inside = &text[1..];
            let end = inside.iter().position(|byte| *byte == quote || *byte == b'\\')?;
            let rest = &inside[end + 1..];
            // A doubled or escaped quote: no name that anybody has who was made here.
            if inside[end] == b'\\' || rest.first() == Some(&quote) {
                return None;
            }
            (&inside[..end], rest)
        }
        None => {
            let in_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let end = text.iter().position(|byte| !in_a_name(byte)).unwrap_or(text.len());
            // A number is no name.
            text.split_at(if text.first().is_some_and(u8::is_ascii_digit) {
                0
            } else {
                end
            })
        }
    };
    words.0 = rest;
    (!part.is_empty()).then_some(Part {
        text: part,
        quoted: quote.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let kill = Kill::read(text.as_bytes(), "me")?;
        assert!(Kill::may_begin(text.as_bytes()), "{text}");
        Some(format!("{}{kill}", if kill.is_for_gateway() { "here: " } else { "" }))
    }

    #[test]
    fn every_form_of_kill_is_read() {
        for (text, meant) in [
            ("KILL 5", "KILL CONNECTION 5"),
            ("kill query 5;", "KILL QUERY 5"),
            (" KILL HARD 5 -- x", "KILL HARD CONNECTION 5"),
            ("KILL SOFT QUERY 5", "KILL SOFT QUERY 5"),
            ("/* driver */ KILL /**/ CONNECTION 5 ; ", "KILL CONNECTION 5"),
            ("KILL QUERY ID 77", "KILL QUERY ID 77"),
            ("KILL 2147483647", "KILL CONNECTION 2147483647"),
            ("KILL 2147483648", "here: KILL CONNECTION 2147483648"),
            ("KILL QUERY 4294967295", "here: KILL QUERY 4294967295"),
            ("KILL 4294967296", "KILL CONNECTION 4294967296"),
            ("KILL QUERY -1", "here: KILL QUERY 4294967295"),
            ("KILL -2147483648;", "here: KILL CONNECTION 2147483648"),
            ("KILL USER app", "here: KILL CONNECTION USER `app`"),
            ("KILL HARD QUERY USER 'a b'@'%'", "here: KILL HARD QUERY USER `a b`"),
            ("KILL USER/**/ /*! app */", "here: KILL CONNECTION USER `app`"),
            ("KILL USER `x`@`%`;", "here: KILL CONNECTION USER `x`"),
            ("KILL USER CURRENT_USER()", "here: KILL CONNECTION USER `me`"),
            ("KILL USER 'current_user'", "here: KILL CONNECTION USER `current_user`"),
        ] {
            assert_eq!(read(text).as_deref(), Some(meant), "{text}");
        }
    }

    #[test]
    fn what_has_another_shape_is_the_computes() {
        for text in [
            "SELECT 1",
            "KILL",
            "KILL QUERY",
            "KILL CONNECTION_ID()",
            "KILL 1 + 1",
            "KILL 1; KILL 2",
            "KILL QUERY CONNECTION 1",
            "KILL HARD SOFT 1",
            "KILL QUERY HARD 1",
            "KILL CONNECTION ID 1",
            "KILL -2147483649",
            "KILL -0",
            "KILL - 1",
            "KILL -1 + 1",
            "KILL 99999999999999999999999",
            "KILL USER app@localhost",
            "KILL USER 'it''s'",
            r"KILL USER 'a\'b'",
            "KILL USER",
            "KILL USER app nonsense",
        ] {
            assert_eq!(Kill::read(text.as_bytes(), "me"), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut text: Vec<u8>) {
            text.splice(..0, *b"KILL USER ");
            let _ = Kill::read(&text, "me");
            let _ = Kill::read(&text[..5], "me");
        }

        #[test]
        fn what_is_read_reads_the_same_once_written(id: u64, name in "[a-z_ ]{1,9}", query: bool) {
            let what = if query { What::Query } else { What::Connection };
            for whom in [Whom::by_id(id), Whom::User(name)] {
                let kill = Kill { force: None, what, whom };
                proptest::prop_assert_eq!(Kill::read(kill.to_string().as_bytes(), "me"), Some(kill));
            }
        }
    }
}
