//! `control.prices`: what a statement reckons by. Money is decimal and exact: prices are whole numbers of millionths,
//! amounts are rounded once, at the end of a line, half away from zero.

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{ConfigError, refuse};

/// Prices, unchecked. A price that is absent is not reckoned.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPrices {
    /// What stands beside amounts: three capital letters, as in `EUR`.
    pub currency: Option<String>,
    /// Digits after the point of an amount: 2, or what the currency has.
    pub decimals: Option<u32>,
    /// Of a CU for an hour, as in "0.16".
    #[serde(deserialize_with = "price_text")]
    pub cu_hour: Option<String>,
    /// Of a million statements.
    #[serde(deserialize_with = "price_text")]
    pub million_statements: Option<String>,
    /// Of a GiB sent to clients.
    #[serde(deserialize_with = "price_text")]
    pub gib_out: Option<String>,
}

/// Prices as texts. A number comes in as the shortest text that means it, which is what was written: prices have at most
/// 15 digits, and so many survive an IEEE double. (The environment makes numbers of whatever looks like one.)
fn price_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Text;
    impl de::Visitor<'_> for Text {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a price such as \"0.16\"")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
            Ok(Some(number.to_string()))
        }
    }
    deserializer.deserialize_any(Text)
}

/// Checked prices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prices {
    /// There is one where there is a price.
    pub(crate) currency: Option<String>,
    pub(crate) decimals: u32,
    pub(crate) cu_hour: Option<Price>,
    pub(crate) million_statements: Option<Price>,
    pub(crate) gib_out: Option<Price>,
}

/// Millionths of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Price(i64);

/// Digits after the point of a price.
const PRICE_DECIMALS: u32 = 6;
/// Digits before it: with those behind it 15, which every number keeps.
const WHOLE_DIGITS_MAX: usize = 9;
/// What most currencies have.
const DECIMALS: u32 = 2;

impl Prices {
    pub(super) fn check(raw: RawPrices) -> Result<Self, ConfigError> {
        let RawPrices {
            currency,
            decimals,
            cu_hour,
            million_statements,
            gib_out,
        } = raw;
        let decimals = decimals.unwrap_or(DECIMALS);
        if decimals > PRICE_DECIMALS {
            return Err(refuse("control.prices.decimals", decimals, "must be between 0 and 6"));
        }
        let prices = Self {
            currency: currency.map(label).transpose()?,
            decimals,
            cu_hour: price("control.prices.cu_hour", cu_hour)?,
            million_statements: price("control.prices.million_statements", million_statements)?,
            gib_out: price("control.prices.gib_out", gib_out)?,
        };
        let any = prices.cu_hour.or(prices.million_statements).or(prices.gib_out);
        if any.is_some() && prices.currency.is_none() {
            let problem = "is missing beside the prices; three capital letters, as in \"EUR\"";
            return Err(refuse("control.prices.currency", "", problem));
        }
        Ok(prices)
    }
}

fn label(text: String) -> Result<String, ConfigError> {
    let is_label = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    match is_label {
        true => Ok(text),
        false => Err(refuse(
            "control.prices.currency",
            text,
            "must be three capital letters, as in \"EUR\"",
        )),
    }
}

fn price(setting: &'static str, text: Option<String>) -> Result<Option<Price>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let problem = "must be a price such as \"0.16\": digits, at most nine before the point and six behind it";
    Price::parse(&text)
        .map(Some)
        .ok_or_else(|| refuse(setting, text, problem))
}

impl Price {
    fn parse(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, WHOLE_DIGITS_MAX) || !digits(part, PRICE_DECIMALS as usize) {
            return None;
        }
        format!("{whole}{part:0<6}").parse().ok().map(Self)
    }

    /// What `quantity / unit` cost, in the smallest unit of an amount with so many decimals.
    pub(crate) fn amount(self, quantity: i128, unit: i128, decimals: u32) -> i128 {
        let below = 10_i128.pow(PRICE_DECIMALS.saturating_sub(decimals));
        divided(quantity.saturating_mul(self.0.into()), unit.saturating_mul(below))
    }
}

impl std::fmt::Display for Price {
    /// As it was written: no zeros behind.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = decimal(self.0.into(), PRICE_DECIMALS);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Rounded half away from zero, as bills are.
pub(crate) fn divided(number: i128, by: i128) -> i128 {
    let half = by / 2;
    let rounded = if number < 0 { number - half } else { number + half };
    rounded / by
}

/// `number` with its point before the last `decimals` digits.
pub(crate) fn decimal(number: i128, decimals: u32) -> String {
    if decimals == 0 {
        return number.to_string();
    }
    let (sign, one) = (if number < 0 { "-" } else { "" }, 10_u128.pow(decimals));
    let (whole, part) = (number.unsigned_abs() / one, number.unsigned_abs() % one);
    format!("{sign}{whole}.{part:0width$}", width = decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<Prices, String> {
        let raw = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Prices::check(raw).map_err(|error| error.to_string())
    }

    #[test]
    fn prices_are_what_was_written_as_text_or_number() {
        let prices =
            check(r#"{"currency": "EUR", "cu_hour": "0.16", "million_statements": 0.2, "gib_out": 999999999.000001}"#)
                .unwrap();
        let shown = [prices.cu_hour, prices.million_statements, prices.gib_out].map(|price| price.unwrap().to_string());
        assert_eq!(shown, ["0.16", "0.2", "999999999.000001"]);
        assert_eq!(check("{}").unwrap().cu_hour, None);
        assert_eq!(
            check(r#"{"currency": "EUR", "cu_hour": 3}"#).unwrap().cu_hour,
            Some(Price(3_000_000))
        );
    }

    #[test]
    fn what_is_no_price_is_refused_by_name() {
        for (json, words) in [
            (r#"{"cu_hour": "0.16"}"#, "control.prices.currency"),
            (
                r#"{"currency": "euro", "cu_hour": "1"}"#,
                "control.prices.currency = \"euro\"",
            ),
            (
                r#"{"currency": "EUR", "cu_hour": "0,16"}"#,
                "control.prices.cu_hour = \"0,16\"",
            ),
            (r#"{"currency": "EUR", "gib_out": "-1"}"#, "control.prices.gib_out"),
            (r#"{"currency": "EUR", "gib_out": "0.0000001"}"#, "six behind it"),
            (r#"{"currency": "EUR", "gib_out": ""}"#, "control.prices.gib_out"),
            (r#"{"currency": "EUR", "gib_out": "1e3"}"#, "control.prices.gib_out"),
            (
                r#"{"currency": "EUR", "decimals": 7}"#,
                "control.prices.decimals = \"7\"",
            ),
            (r#"{"curency": "EUR"}"#, "curency"),
        ] {
            let refused = check(json).unwrap_err();
            assert!(refused.contains(words), "{json}: {refused}");
        }
    }

    #[test]
    fn amounts_are_exact_and_rounded_once_half_up() {
        let price = |text| Price::parse(text).unwrap();
        // 0.1 three times is 0.3 here.
        assert_eq!(price("0.1").amount(3, 1, 6), 300_000);
        assert_eq!(price("0.16").amount(1, 32, 2), 1, "0.005");
        assert_eq!(price("0.16").amount(1, 33, 2), 0, "0.00484...");
        assert_eq!(price("1").amount(5, 2, 0), 3);
        assert_eq!(
            price("999999999.999999").amount(i64::MAX.into(), 1, 2),
            922_337_203_685_476_658_362_796_314_522
        );
        assert_eq!(decimal(1_234_567, 2), "12345.67");
        assert_eq!(
            (decimal(5, 2), decimal(7, 0), decimal(-5, 2)),
            ("0.05".into(), "7".into(), "-0.05".into())
        );
    }
}
