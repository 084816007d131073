//! Values of configuration keys and the ranges that they must lie in.

use std::fmt;
use std::time::Duration;

use aof2_core::config::RetentionRule;

use super::price::{self, Price};

/// What a key accepts. Bounds are inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// An integer number of bytes.
    Bytes {
        min: u64,
        max: u64,
    },
    /// A plain integer.
    Count {
        min: u64,
        max: u64,
    },
    /// A string such as `"30s"`, `"10m"`, `"250ms"`.
    Duration {
        min: Duration,
        max: Duration,
    },
    /// A string of one to so many bytes.
    Text {
        max_bytes: usize,
    },
    /// A UUID.
    Uuid,
    /// An absolute path.
    Path,
    /// `address:port`.
    Address,
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// Tables of their own, see `retention`.
    Rules,
    /// Likewise, see `price`.
    Prices,
}

impl Kind {
    /// `[[key]]`, as often as there are entries; no default, and no value in a variable of the environment.
    pub fn is_tables(&self) -> bool {
        matches!(self, Kind::Rules | Kind::Prices)
    }

    /// As the schema and messages call it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Bytes { .. } => "bytes",
            Kind::Count { .. } => "integer",
            Kind::Duration { .. } => "duration",
            Kind::Text { .. } => "string",
            Kind::Uuid => "uuid",
            Kind::Path => "path",
            Kind::Address => "address",
            Kind::OneOf(_) => "enum",
            Kind::Switch => "boolean",
            Kind::Rules | Kind::Prices => "tables",
        }
    }

    /// What to write, for a person who wrote another type.
    pub fn expectation(&self) -> String {
        match self {
            Kind::Bytes { .. } => "an integer number of bytes, such as 1048576".to_string(),
            Kind::Count { .. } => "an integer".to_string(),
            Kind::Duration { .. } => {
                "a duration string, such as \"30s\", \"10m\" or \"250ms\"".to_string()
            }
            Kind::Text { .. } => "a string".to_string(),
            Kind::Uuid => "a UUID as a string".to_string(),
            Kind::Path => "an absolute path as a string".to_string(),
            Kind::Address => "an \"address:port\" string".to_string(),
            Kind::OneOf(choices) => format!("one of {}", quoted(choices)),
            Kind::Switch => "true or false, without quotes".to_string(),
            Kind::Rules => "tables, each `[[retention]]`".to_string(),
            Kind::Prices => format!("tables, each `[[{}]]`", price::KEY),
        }
    }

    /// The allowed range in words.
    pub fn range(&self) -> String {
        match self {
            Kind::Bytes { min, max } => format!("{} to {}", format_bytes(*min), format_bytes(*max)),
            Kind::Count { min, max } => format!("{min} to {max}"),
            Kind::Duration { min, max } => {
                format!("{} to {}", format_duration(*min), format_duration(*max))
            }
            Kind::Text { max_bytes } => format!("1 to {max_bytes} bytes of text"),
            Kind::Uuid => "a UUID, such as 0192f0aa-0000-7000-8000-000000000001".to_string(),
            Kind::Path => "a path that begins with `/`".to_string(),
            Kind::Address => "a numeric address and a port".to_string(),
            Kind::OneOf(choices) => quoted(choices),
            Kind::Switch => "true or false".to_string(),
            Kind::Rules => "rules with `streams` and limits".to_string(),
            Kind::Prices => "prices with `class` and `per_gib_month`".to_string(),
        }
    }

    /// Whether a value of the right type lies in the range.
    pub fn admits(&self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Bytes { min, max } | Kind::Count { min, max }, Value::Integer(v)) => {
                min <= v && v <= max
            }
            (Kind::Duration { min, max }, Value::Duration(v)) => min <= v && v <= max,
            (Kind::Text { max_bytes }, Value::Text(v)) => !v.is_empty() && v.len() <= *max_bytes,
            (Kind::Uuid, Value::Text(v)) => uuid::Uuid::try_parse(v).is_ok(),
            (Kind::Path, Value::Text(v)) => v.starts_with('/'),
            (Kind::Address, Value::Text(v)) => v.parse::<std::net::SocketAddr>().is_ok(),
            (Kind::OneOf(choices), Value::Text(v)) => choices.contains(&v.as_str()),
            (Kind::Switch, Value::Switch(_))
            | (Kind::Rules, Value::Rules(_))
            | (Kind::Prices, Value::Prices(_)) => true,
            (
                Kind::Bytes { .. }
                | Kind::Count { .. }
                | Kind::Duration { .. }
                | Kind::Text { .. }
                | Kind::Uuid
                | Kind::Path
                | Kind::Address
                | Kind::OneOf(_)
                | Kind::Switch
                | Kind::Rules
                | Kind::Prices,
                Value::Integer(_)
                | Value::Duration(_)
                | Value::Text(_)
                | Value::Switch(_)
                | Value::Rules(_)
                | Value::Prices(_),
            ) => false,
        }
    }
}

fn quoted(choices: &[&str]) -> String {
    choices
        .iter()
        .map(|choice| format!("\"{choice}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Integer(u64),
    Duration(Duration),
    Text(String),
    Switch(bool),
    Rules(Vec<RetentionRule>),
    Prices(Vec<Price>),
}

impl Value {
    /// Keys and values of each table, as a file has them; `None` for what stands in one line.
    pub(super) fn tables(&self) -> Option<Vec<Vec<String>>> {
        match self {
            Value::Rules(rules) => Some(rules.iter().map(super::retention::pairs).collect()),
            Value::Prices(prices) => Some(prices.iter().map(price::pairs).collect()),
            Value::Integer(_) | Value::Duration(_) | Value::Text(_) | Value::Switch(_) => None,
        }
    }
}

/// As a person writes it, without TOML's quotes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(v) => write!(f, "{v}"),
            Value::Duration(v) => f.write_str(&format_duration(*v)),
            Value::Text(v) => f.write_str(v),
            Value::Switch(v) => write!(f, "{v}"),
            Value::Rules(_) | Value::Prices(_) => {
                let tables = self.tables().into_iter().flatten();
                let tables: Vec<String> = tables
                    .map(|pairs| format!("{{{}}}", pairs.join(", ")))
                    .collect();
                write!(f, "[{}]", tables.join(", "))
            }
        }
    }
}

/// Reads `"1h30m"`, `"30s"`, `"250ms"`: whole numbers with the units h, m, s, ms, each at most once, largest first.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut total_ms = 0_u64;
    let mut next_unit = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |at| digits + at);
        let unit = &rest[digits..unit_end];
        let found = UNITS[next_unit..]
            .iter()
            .position(|(name, _)| *name == unit)?
            + next_unit;
        total_ms = total_ms.checked_add(number.checked_mul(UNITS[found].1)?)?;
        next_unit = found + 1;
        rest = &rest[unit_end..];
    }
    Some(Duration::from_millis(total_ms))
}

/// The shortest form that [`parse_duration`] reads back.
pub fn format_duration(duration: Duration) -> String {
    let total_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let parts = [
        (total_ms / 3_600_000, "h"),
        (total_ms / 60_000 % 60, "m"),
        (total_ms / 1_000 % 60, "s"),
        (total_ms % 1_000, "ms"),
    ];
    let text: String = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_string()
    } else {
        text
    }
}

/// `1048576 (1 MiB)`; plain where no binary unit divides it.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in UNITS {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{bytes} ({} {unit})", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2m5s", 125_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(ms)),
                "{text}"
            );
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn durations_without_unit_or_out_of_order_are_refused() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "30s1m",
            "1s1s",
            "10 s",
            "5d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
