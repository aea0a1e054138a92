//! What may be a project's id: `[a-z][a-z0-9-]{2,39}`. It is the first part of login names, a label of server names, a directory
//! and a label of metrics.

/// The rule, for whoever wrote something else.
pub const RULE: &str = "must be 3 to 40 of a-z, 0-9 and -, and begin with a letter";

/// Can a project have this id?
pub fn fits(id: &str) -> bool {
    let bytes = id.as_bytes();
    let first_is_letter = bytes.first().is_some_and(u8::is_ascii_lowercase);
    let all_fit = bytes
        .iter()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    (3..=40).contains(&bytes.len()) && first_is_letter && all_fit
}
