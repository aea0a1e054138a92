//! The server variables that a project may set: which there are, what values each takes, whether a running server takes
//! them. Pure: a value comes in as somebody wrote it and goes out as the server itself would report it, or is refused
//! with what is wrong. Control checks with this, the agent applies with this; whatever is not listed here is refused.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod modes;
mod refused;
mod table;
#[cfg(test)]
mod tests;

pub use table::ALL;

/// One server variable.
#[derive(Debug)]
pub struct Setting {
    /// As the server spells it.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// When a new value is in force.
    pub applies: Applies,
    /// What it does, in a line.
    pub what: &'static str,
}

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// ON or OFF.
    Switch,
    /// A whole number; sizes may be written with K, M or G. The server rounds what is no multiple, silently; here it is
    /// refused.
    Whole {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
        /// A multiple of it.
        multiple: u64,
    },
    /// Seconds with up to six decimals.
    Seconds {
        /// At most.
        max: u32,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `sql_mode`.
    Modes,
    /// A zone that the server knows, an offset, or SYSTEM.
    TimeZone,
    /// A character set of the server.
    CharacterSet,
    /// A collation of the server.
    Collation,
}

/// When a new value is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Applies {
    /// At once on a running compute, for the sessions that begin after it.
    Live,
    /// When the compute starts next.
    NextStart,
}

/// A value as a person or script writes it in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Value {
    /// `true`
    Switch(bool),
    /// `16777216`
    Whole(u64),
    /// `0.5`
    Decimal(f64),
    /// `"ANSI"`, `"16M"`, `"ON"`
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(true) => f.write_str("ON"),
            Self::Switch(false) => f.write_str("OFF"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Decimal(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What the installed server has, asked once when its template is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The value of every setting on a compute for which nothing is set.
    pub defaults: BTreeMap<String, String>,
    /// The named time zones.
    pub time_zones: Vec<String>,
    /// Character sets, each with its default collation.
    pub character_sets: BTreeMap<String, String>,
    /// Collations, each with its character set.
    pub collations: BTreeMap<String, String>,
}

/// Why a setting was refused; fit to be shown to who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The variable is not one that a project may set.
    #[error("setting `{name}`: {why}")]
    NotAllowed {
        /// As it was written.
        name: String,
        /// What stands against it.
        why: &'static str,
    },
    /// The variable does not take this value.
    #[error("setting `{name}` = {value:?}: {problem}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// As it was written.
        value: String,
        /// What is wrong.
        problem: String,
    },
}

/// Enough to recognise what was written.
const SHOWN_CHARS: usize = 80;

/// The setting of that name, in upper or lower case, with `-` or `_`.
pub fn find(name: &str) -> Result<&'static Setting, SettingError> {
    let spelled = name.to_ascii_lowercase().replace('-', "_");
    ALL.iter()
        .find(|setting| setting.name == spelled)
        .ok_or_else(|| SettingError::NotAllowed {
            name: name.chars().take(SHOWN_CHARS).collect(),
            why: refused::why(&spelled),
        })
}

impl Setting {
    /// The value as the server will report it.
    pub fn check(&self, value: &Value, offer: &Offer) -> Result<String, SettingError> {
        let text = value.to_string();
        let checked = match self.kind {
            Kind::Switch => switch(&text),
            Kind::Whole { min, max, multiple } => whole(&text, min, max, multiple),
            Kind::Seconds { max } => seconds(&text, max),
            Kind::Choice(words) => choice(&text, words),
            Kind::Modes => modes::canonical(&text),
            Kind::TimeZone => time_zone(&text, &offer.time_zones),
            Kind::CharacterSet => known(&text, offer.character_sets.keys(), "a character set of the server"),
            Kind::Collation => known(&text, offer.collations.keys(), "a collation of the server"),
        };
        checked.map_err(|problem| self.refuse(&text, problem))
    }

    fn refuse(&self, value: &str, problem: String) -> SettingError {
        SettingError::Invalid {
            name: self.name,
            value: value.chars().take(SHOWN_CHARS).collect(),
            problem,
        }
    }

    /// What it takes, for people.
    pub fn takes(&self) -> String {
        match self.kind {
            Kind::Switch => "ON or OFF".into(),
            Kind::Whole { min, max, multiple: 1 } => format!("{min} to {max}"),
            Kind::Whole { min, max, multiple } => format!("{min} to {max}, a multiple of {multiple}"),
            Kind::Seconds { max } => format!("0 to {max} seconds, up to six decimals"),
            Kind::Choice(words) => words.join(", "),
            Kind::Modes => format!("any of {}, separated by commas; or empty", modes::ALL.join(", ")),
            Kind::TimeZone => "SYSTEM, an offset from -12:59 to +13:00, or the name of a zone".into(),
            Kind::CharacterSet => "a character set of the server".into(),
            Kind::Collation => "a collation of the server that belongs to character_set_server".into(),
        }
    }

    /// Its name in an option file.
    pub fn option_name(&self) -> String {
        match self.name {
            "time_zone" => "default-time-zone".into(),
            "tx_isolation" => "transaction-isolation".into(),
            name => name.replace('_', "-"),
        }
    }

    /// The value in SQL. The server takes numbers only without quotes, and everything else only with them.
    pub fn literal(&self, value: &str) -> String {
        match self.kind {
            Kind::Whole { .. } | Kind::Seconds { .. } => value.to_owned(),
            _ => format!("'{}'", value.replace('\'', "''")),
        }
    }
}

/// What each alone cannot show: the collation must belong to the character set, or the server would not start.
pub fn check_together(settings: &BTreeMap<String, String>, offer: &Offer) -> Result<(), SettingError> {
    let Some(collation) = settings.get("collation_server") else {
        return Ok(());
    };
    let wanted = resolved("character_set_server", settings, offer).unwrap_or_default();
    match offer.collations.get(collation) {
        Some(belongs) if *belongs == wanted => Ok(()),
        Some(belongs) => Err(SettingError::Invalid {
            name: "collation_server",
            value: collation.clone(),
            problem: format!("belongs to {belongs}, and character_set_server is {wanted}; change both in one request"),
        }),
        // Checked alone already, by an older server.
        None => Ok(()),
    }
}

/// The value that a compute with these settings has: the set one, or the default.
pub fn resolved(name: &str, settings: &BTreeMap<String, String>, offer: &Offer) -> Option<String> {
    if let Some(set) = settings.get(name) {
        return Some(set.clone());
    }
    // A character set brings its own collation.
    if name == "collation_server"
        && let Some(character_set) = settings.get("character_set_server")
    {
        return offer.character_sets.get(character_set).cloned();
    }
    offer.defaults.get(name).cloned()
}

fn switch(text: &str) -> Result<String, String> {
    match text.to_ascii_uppercase().as_str() {
        "ON" | "1" | "TRUE" => Ok("ON".into()),
        "OFF" | "0" | "FALSE" => Ok("OFF".into()),
        _ => Err("must be ON or OFF".into()),
    }
}

fn whole(text: &str, min: u64, max: u64, multiple: u64) -> Result<String, String> {
    let text = text.trim();
    let (digits, factor) = match text.chars().last().map(|c| c.to_ascii_uppercase()) {
        Some('K') => (&text[..text.len() - 1], 1 << 10),
        Some('M') => (&text[..text.len() - 1], 1 << 20),
        Some('G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1_u64),
    };
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    let Some(number) = number.filter(|_| all_digits) else {
        return Err("must be a whole number; sizes may end in K, M or G".into());
    };
    if !(min..=max).contains(&number) {
        return Err(format!("must be from {min} to {max}"));
    }
    if !number.is_multiple_of(multiple) {
        return Err(format!("must be a multiple of {multiple}"));
    }
    Ok(number.to_string())
}

/// Six decimals, as the server reports them; no arithmetic, so that nothing is rounded.
fn seconds(text: &str, max: u32) -> Result<String, String> {
    let (before, after) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if before.is_empty() || !digits(before) || !digits(after) || after.len() > 6 {
        return Err("must be a number of seconds with at most six decimals".into());
    }
    let whole: u32 = before.parse().map_err(|_| format!("must be from 0 to {max}"))?;
    let beyond = whole == max && after.bytes().any(|byte| byte != b'0');
    if whole > max || beyond {
        return Err(format!("must be from 0 to {max}"));
    }
    Ok(format!("{whole}.{after:0<6}"))
}

fn choice(text: &str, words: &[&str]) -> Result<String, String> {
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    found
        .map(|word| (*word).to_owned())
        .ok_or_else(|| format!("must be one of {}", words.join(", ")))
}

fn known<'a>(text: &str, names: impl Iterator<Item = &'a String>, what: &str) -> Result<String, String> {
    let mut names = names;
    names
        .find(|name| name.eq_ignore_ascii_case(text))
        .cloned()
        .ok_or_else(|| format!("is not {what}"))
}

fn time_zone(text: &str, zones: &[String]) -> Result<String, String> {
    if text.eq_ignore_ascii_case("SYSTEM") {
        return Ok("SYSTEM".into());
    }
    if let Some(offset) = offset(text) {
        return offset;
    }
    // The server compares names without case and reports them as they stand in its tables.
    known(
        text,
        zones.iter(),
        "a time zone of the server, nor an offset such as +02:00",
    )
}

/// `None`: it does not look like one.
fn offset(text: &str) -> Option<Result<String, String>> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let parsed = rest.split_once(':').and_then(|(hours, minutes)| {
        let number = |part: &str| {
            part.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| part.parse::<i32>())
        };
        let hours = number(hours).filter(|_| (1..=2).contains(&hours.len()))?.ok()?;
        let minutes = number(minutes).filter(|_| minutes.len() == 2)?.ok()?;
        (minutes < 60).then_some(sign * (hours * 60 + minutes))
    });
    // The server's own limits.
    let within = parsed.filter(|minutes| (-(12 * 60 + 59)..=13 * 60).contains(minutes));
    Some(within.map_or_else(
        || Err("must be an offset from -12:59 to +13:00".into()),
        |minutes| {
            let sign = if minutes < 0 { '-' } else { '+' };
            Ok(format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60))
        },
    ))
}
