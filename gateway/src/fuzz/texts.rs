//! The readers of statements, which parse no SQL and must not be led astray by it.

use std::borrow::Cow;

use crate::accounts::{Change, change, changes_accounts};
use crate::answer::settings::{Recognised, TEXT_BYTES_MAX, recognise, recognise_settings};
use crate::cancel::{Kill, Whom};
use crate::meter::Class;
use crate::session::previous::asks;
use crate::session::tracked::{read_pieces, read_text};
use crate::text::{Words, first_statement};

/// What the gateway takes upon itself to answer, for those who compare it with a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    /// An OK, and what it reports of the session's variables; `autocommit` as far as the text says it.
    Setting {
        /// Name and value, as in the OK.
        tracked: Vec<(&'static str, String)>,
        /// As the status flags say.
        autocommit: Option<bool>,
    },
    /// One row with a column for each variable, of these names.
    Variables(Vec<String>),
}

/// What a text is answered with where no database is needed for it, an answer for each of its statements; `several` may stand
/// in it.
pub fn recognised(text: &[u8], several: bool) -> Option<Vec<Answered>> {
    let setting = |setting| match setting {
        Recognised::Setting { effect, tracked } => Some(Answered::Setting {
            tracked,
            autocommit: effect.autocommit,
        }),
        Recognised::Tracker(_) => Some(Answered::Setting {
            tracked: Vec::new(),
            autocommit: None,
        }),
        Recognised::Variables(_) => None,
    };
    if let Some(settings) = recognise_settings(text, several) {
        return settings
            .into_iter()
            .map(|(_, recognised)| setting(recognised))
            .collect();
    }
    match recognise(text)? {
        Recognised::Variables(asked) => {
            let names = asked.iter().map(|asked| asked.expression.to_owned()).collect();
            Some(vec![Answered::Variables(names)])
        }
        _ => None,
    }
}

/// The text of the KILL that a text is, as a compute reads it.
pub fn killed(text: &[u8]) -> Option<String> {
    Kill::read(text, "me").map(|kill| kill.to_string())
}

/// Whether the accounts are looked at after it.
pub fn is_feared(text: &[u8]) -> bool {
    changes_accounts(text)
}

/// Every reader of texts on one text, and on others that a server would read the same.
pub fn texts(text: &[u8]) {
    let other_case = swapped_case(text);
    settings(text, &other_case);
    kills(text, &other_case);
    fears(text, &other_case);
    statements(text);
}

fn settings(text: &[u8], other_case: &[u8]) {
    for several in [false, true] {
        let read = recognise_settings(text, several);
        let statements = read.iter().flatten().map(|(statement, _)| *statement);
        assert!(
            statements.clone().all(|statement| recognise(statement).is_some()),
            "{text:?}"
        );
        assert!(several || statements.count() < 2, "{text:?}");
    }
    let Some(read) = recognise(text) else {
        return;
    };
    assert!(text.len() <= TEXT_BYTES_MAX && text.is_ascii(), "{text:?}");
    assert!(Kill::read(text, "me").is_none(), "two things at once: {text:?}");
    let spaced = [b" \t\n", text, b" ;\r\n"].concat();
    if spaced.len() <= TEXT_BYTES_MAX {
        assert_eq!(recognise(&spaced).as_ref(), Some(&read), "with spaces around it");
    }
    match (&read, recognise(other_case)) {
        (Recognised::Setting { .. } | Recognised::Tracker(_), other) => {
            assert_eq!(other.as_ref(), Some(&read), "in other case");
            assert!(!changes_accounts(text), "a setting that changes accounts");
        }
        (Recognised::Variables(asked), Some(Recognised::Variables(other))) => {
            let variables = |asked: &[_]| -> Vec<String> {
                let asked: &[crate::answer::settings::Asked<'_>] = asked;
                asked.iter().map(|asked| asked.variable.clone()).collect()
            };
            assert_eq!(variables(asked), variables(&other), "in other case");
        }
        (Recognised::Variables(_), other) => panic!("in other case it is {other:?}"),
    }
}

fn kills(text: &[u8], other_case: &[u8]) {
    let read = Kill::read(text, "me");
    let Some(kill) = &read else {
        return;
    };
    assert!(Kill::may_begin(text), "never looked at: {text:?}");
    // A backquote in a name is doubled for the server, and doubled quotes are not read here.
    if !matches!(&kill.whom, Whom::User(name) if name.contains('`')) {
        assert_eq!(Kill::read(kill.to_string().as_bytes(), "me").as_ref(), Some(kill));
    }
    if !matches!(kill.whom, Whom::User(_)) {
        assert_eq!(Kill::read(other_case, "me"), read, "in other case");
    }
    if let Some(commented) = commented(text) {
        assert_eq!(Kill::read(&commented, "me"), read, "with comments for its spaces");
    }
}

/// Whether a statement is feared does not hang on how it is written.
fn fears(text: &[u8], other_case: &[u8]) {
    let feared = change(text);
    assert_eq!(change(other_case), feared, "in other case");
    assert_eq!(read_text(other_case), read_text(text), "in other case");
    assert_eq!(read_pieces(other_case), read_pieces(text), "in other case");
    assert_eq!(asks(other_case), asks(text), "in other case");
    let spaced = [b"\t \n", text].concat();
    assert_eq!(change(&spaced), feared, "behind spaces");
    // A longer BEGIN may be a compound statement.
    let (read, spaced) = (read_text(text), read_text(&spaced));
    assert!(spaced.may_hide || !read.may_hide, "behind spaces");
    assert_eq!(spaced.sets_tracker, read.sets_tracker, "behind spaces");
    let commented = [b"/* it's; */", text].concat();
    assert_eq!(Class::of(&commented), Class::of(text), "behind a comment");
    assert!(read_text(&commented).may_hide, "behind a comment");
    assert!(
        feared == Change::Nothing || change(&commented) != Change::Nothing,
        "behind a comment"
    );
    let second = [b"DO 1;", text].concat();
    assert!(
        feared == Change::Nothing || change(&second) != Change::Nothing,
        "as the second"
    );
}

fn statements(text: &[u8]) {
    for escapes in [false, true] {
        let (first, rest) = first_statement(text, escapes);
        assert!(text.starts_with(first) && text.ends_with(rest));
        let between = &text[first.len()..text.len() - rest.len()];
        assert!(between == b";" || between.is_empty() && rest.is_empty());
    }
    let mut words = Words(text);
    let mut left = text.len();
    while let Some(word) = words.next() {
        assert!(!word.is_empty() && words.0.len() < left, "a word that is none");
        left = words.0.len();
    }
}

fn swapped_case(text: &[u8]) -> Vec<u8> {
    text.iter()
        .map(|byte| match byte {
            b'a'..=b'z' => byte.to_ascii_uppercase(),
            _ => byte.to_ascii_lowercase(),
        })
        .collect()
}

/// Comments where spaces were; None: spaces may stand where they mean themselves.
fn commented(text: &[u8]) -> Option<Vec<u8>> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b';' | b'_');
    if !text.iter().all(plain) {
        return None;
    }
    let pieces = text.iter().map(|byte| match byte {
        b' ' => Cow::Borrowed(&b"/*! */ /**/"[..]),
        byte => Cow::Owned(vec![*byte]),
    });
    Some(pieces.collect::<Vec<_>>().concat())
}
