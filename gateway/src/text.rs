//! The words at the beginning of a statement, for those steps that must know what kind of statement it is. No SQL is
//! parsed: spaces and comments are stepped over, strings too, and what cannot be told is left to the caller to fear.

/// The words at the beginning of a statement, one after the other: over spaces and comments, and into comments that
/// MariaDB executes, whatever version they are for. Ends before anything that is no word.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a>(pub(crate) &'a [u8]);

impl<'a> Words<'a> {
    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        self.skip();
        let end = self
            .0
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
            .unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    pub(crate) fn next_is_one_of(&mut self, keywords: &[&[u8]]) -> bool {
        is_one_of(self.next(), keywords)
    }

    /// To the next word, or whatever stands there.
    pub(crate) fn skip(&mut self) {
        loop {
            self.0 = match self.0 {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, rest @ ..] => rest,
                [b'/', b'*', b'!', rest @ ..] | [b'/', b'*', b'M' | b'm', b'!', rest @ ..] => after_digits(rest),
                [b'/', b'*', rest @ ..] => after(rest, b"*/"),
                // The end of a comment that is executed.
                [b'*', b'/', rest @ ..] => rest,
                [b'#', rest @ ..] => after(rest, b"\n"),
                // Not only before a space: `--x` is no comment, and no statement begins with it.
                [b'-', b'-', rest @ ..] => after(rest, b"\n"),
                _ => return,
            }
        }
    }
}

/// Is the word anywhere in the text, whatever the case and whatever stands around it?
pub(crate) fn contains(text: &[u8], word: &[u8]) -> bool {
    let (Some(first), Some(last)) = (word.first(), text.len().checked_sub(word.len())) else {
        return word.is_empty();
    };
    let (lower, upper) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    // Where the first letter stands, in some case; the rest of the word fits behind each.
    let mut begins = memchr::memchr2_iter(lower, upper, &text[..=last]);
    begins.any(|at| text[at..at + word.len()].eq_ignore_ascii_case(word))
}

pub(crate) fn is_one_of(word: Option<&[u8]>, keywords: &[&[u8]]) -> bool {
    word.is_some_and(|word| keywords.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)))
}

/// What stands behind the version of a comment that is executed.
fn after_digits(text: &[u8]) -> &[u8] {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    &text[digits..]
}

/// What stands behind the first `end`; nothing where there is none.
fn after<'a>(text: &'a [u8], end: &[u8]) -> &'a [u8] {
    let at = text.windows(end.len()).position(|window| window == end);
    at.map_or(&[], |at| &text[at + end.len()..])
}

/// The first statement of a text, and what stands behind its semicolon. Semicolons in strings, quoted names and comments
/// end nothing; where backslashes escape, an escaped quote ends no string.
pub(crate) fn first_statement(text: &[u8], backslash_escapes: bool) -> (&[u8], &[u8]) {
    let mut rest = text;
    while let [first, more @ ..] = rest {
        rest = match (first, more) {
            (b';', _) => return (&text[..text.len() - rest.len()], more),
            (quote @ (b'\'' | b'"' | b'`'), _) => after_quoted(more, *quote, backslash_escapes && *quote != b'`'),
            (b'#', _) => after(more, b"\n"),
            (b'-', [b'-', b' ' | b'\t' | b'\n' | b'\r', ..]) => after(more, b"\n"),
            // Those that are executed hold statements: their end is stepped over like any other byte.
            (b'/', [b'*', b'!', ..] | [b'*', b'M' | b'm', b'!', ..]) => more,
            (b'/', [b'*', comment @ ..]) => after(comment, b"*/"),
            _ => more,
        };
    }
    (text, &[])
}

fn after_quoted(mut rest: &[u8], quote: u8, escapes: bool) -> &[u8] {
    loop {
        rest = match rest {
            [] => return rest,
            [b'\\', _, more @ ..] if escapes => more,
            // A doubled one stands for itself; the second begins another string, which comes to the same.
            [byte, more @ ..] if *byte == quote => return more,
            [_, more @ ..] => more,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_at_the_first_semicolon_that_means_it() {
        for (text, first, rest) in [
            ("SELECT 1", "SELECT 1", ""),
            ("SELECT 1;", "SELECT 1", ""),
            ("a; b", "a", " b"),
            ("';' ; b", "';' ", " b"),
            ("\"a;''\";b", "\"a;''\"", "b"),
            ("`;`;b", "`;`", "b"),
            ("'it''s;';b", "'it''s;'", "b"),
            (r"'\';';b", r"'\';'", "b"),
            (r"`\`;b", r"`\`", "b"),
            ("/* ; */ a;b", "/* ; */ a", "b"),
            ("/*! a; */ b", "/*! a", " */ b"),
            ("a -- ;\n;b", "a -- ;\n", "b"),
            ("a --;b", "a --", "b"),
            ("a # ;\n;b", "a # ;\n", "b"),
            ("'never ends;", "'never ends;", ""),
        ] {
            let (one, other) = first_statement(text.as_bytes(), true);
            assert_eq!((one, other), (first.as_bytes(), rest.as_bytes()), "{text}");
        }
        assert_eq!(first_statement(br"'\';b", false), (&br"'\'"[..], &b"b"[..]));
    }

    proptest::proptest! {
        #[test]
        fn a_word_is_found_wherever_it_stands(text in "[aAbBc]{0,12}", word in "[ab]{1,4}") {
            let stands = text.to_ascii_lowercase().contains(&word);
            proptest::prop_assert_eq!(contains(text.as_bytes(), word.as_bytes()), stands);
        }

        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>, escapes: bool) {
            let (first, rest) = first_statement(&text, escapes);
            proptest::prop_assert!(first.len() + rest.len() <= text.len());
            let mut words = Words(&text);
            while words.next().is_some() {}
        }
    }
}
